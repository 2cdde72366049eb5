"""What a model asks the platform, each as one async function: run, submit, poll, the log of a fine-tuning, deletion.

They know a model by its data alone, so that one in trio and one in synchronous code share them. A run is one call of
the engine: its limits, its retries, its deadline over request and polls. What the service does comes back as a
response; what the caller did wrong is raised, and so is cancellation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from engine.call import Call
from engine.clients.aixplain.asset import ModelData
from engine.clients.aixplain.parameters import FinetuneStatus, finetune_status_of
from engine.clients.aixplain.response import ModelResponse, accepted, failed, of_call, of_poll, timed_out
from engine.clients.aixplain.streamer import ModelResponseStreamer
from engine.errors import DeadlineExceeded, InvalidCall, OutcomeUnknown, ProviderError, one_line
from engine.log import log
from engine.providers.aixplain_answers import state_of
from engine.providers.wire import mapping

_LEAST_S = 0.001
_YEAR_S = 366 * 86_400


async def run(
    model: ModelData, body: Mapping[str, Any], *, name: str, timeout_s: float | None, wait_time: float
) -> ModelResponse:
    """Run a model and wait for its answer: one deadline, `timeout_s` seconds from now, over it and its polls."""
    begun = model._access.now()
    poll_s = max(_number("wait_time", wait_time), _LEAST_S)
    call = model._access.run_call(
        model.id, body, metadata={"name": name}, deadline_s=_deadline(timeout_s), poll_s=poll_s
    )
    _note("run", name, call)
    response = await _asked(model, call)
    if response is None:
        return timed_out(url=dict(call.reply.headers).get("location"))
    address = _elsewhere(call)
    if address and model._access.poll_call(address) is not None:
        # The answer will be at the other one of the two configured origins, which the engine does not poll by itself.
        left = None if timeout_s is None else max(timeout_s - (model._access.now() - begun), _LEAST_S)
        return await sync_poll(model, address, name=name, wait_time=wait_time, timeout_s=left)
    return response


def stream(model: ModelData, body: Mapping[str, Any], *, name: str) -> ModelResponseStreamer:
    """A run whose answer comes in pieces. Sent when it is first read."""
    call = model._access.run_call(model.id, body, streaming=True, metadata={"name": name})
    _note("run", name, call)
    way = model._access
    return ModelResponseStreamer(way.engine.stream(call, process=way.runs.streaming_process_func))


async def submit(model: ModelData, body: Mapping[str, Any], *, name: str) -> ModelResponse:
    """Begin a run, and return where to poll it; its answer, where the service has it at once."""
    call = model._access.submit_call(model.id, body, metadata={"name": name})
    _note("submit", name, call)
    response = await _asked(model, call)
    if response is None:
        return timed_out()
    told = mapping(call.response)
    return accepted(told) if call.error is None and state_of(told)[0] == "later" else response


async def poll(model: ModelData, url: str, *, name: str) -> ModelResponse:
    """Ask once how a run stands."""
    call = model._access.poll_call(_text("poll_url", url), metadata={"name": name})
    if call is None:
        return _foreign(url)
    _note("poll", name, call)
    return await _asked(model, call, of=of_poll) or timed_out()


async def sync_poll(
    model: ModelData, url: str, *, name: str, wait_time: float, timeout_s: float | None
) -> ModelResponse:
    """Ask until the run is over, for `timeout_s` seconds at most: one call of the engine's, which polls by itself."""
    call = model._access.poll_call(
        _text("poll_url", url),
        waits=True,
        metadata={"name": name},
        deadline_s=_deadline(timeout_s),
        poll_s=max(_number("wait_time", wait_time), _LEAST_S),
    )
    if call is None:
        return _foreign(url)
    _note("poll", name, call)
    return await _asked(model, call) or timed_out(url=url)


async def finetune_status(model: ModelData, after_epoch: float | None) -> FinetuneStatus:
    """How the fine-tuning of a model stands."""
    model._access.check_key()
    path = f"/sdk/finetune/{quote(model.id, safe='')}/ml-logs"
    call = await model._access.engine.invoke(model._access.record_call("GET", path, auth="x-api-key"))
    return finetune_status_of(mapping(call.raise_for_status().response), after_epoch)


async def delete(model: ModelData) -> None:
    """Delete a model from the platform."""
    model._access.check_key()
    path = f"/sdk/models/{quote(model.id, safe='')}"
    call = await model._access.engine.invoke(model._access.record_call("DELETE", path, auth="token"))
    status = call.reply.status
    if not 200 <= status <= 299:  # an answer without a body is one here
        text = "Model Deletion Error: Make sure the model exists and you are the owner."
        raise ProviderError(f"{text} Details: {call.error}", status=status or None) from call.error


async def _asked(model: ModelData, call: Call, of: Any = of_call) -> ModelResponse | None:
    """What came of a call; None where its time was up."""
    try:
        await model._access.engine.invoke(call)
    except DeadlineExceeded:
        return None
    error = call.error
    if isinstance(error, OutcomeUnknown) and (error.gave_up == "deadline" or error.reason == "timeout"):
        return None
    response: ModelResponse = of(call)
    return response


def _foreign(url: str) -> ModelResponse:
    text = (
        "the address to poll is of another origin than MODELS_RUN_URL and BACKEND_URL, and no key is sent there. "
        "Nothing was sent."
    )
    return failed(text, completed=False, url=url)


def _elsewhere(call: Call) -> str:
    """Where the answer will be, if that is another origin than the run's."""
    error = call.error
    untrusted = isinstance(error, ProviderError) and error.code == "untrusted_poll_address"
    return state_of(mapping(call.response))[1] if untrusted else ""


def _note(what: str, name: str, call: Call) -> None:
    log.debug(f"aixplain {what}", name=name, call=call.id)


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else max(_number("timeout", timeout_s), _LEAST_S)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _YEAR_S:
        shown = one_line(ascii(value), 40)
        raise InvalidCall(f"{name} must be seconds, a year at most, not {shown}; nothing was sent", argument=name)
    return float(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidCall(f"{name} must be the address that a run gave, not {value!a:.40}", argument=name)
    return value
