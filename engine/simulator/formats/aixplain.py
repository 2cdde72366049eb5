"""aiXplain's runs: the manners of ``/api/v1/execute/{model}`` and ``/api/v2/execute/{model}``.

The model stands in the path, and how it behaves in its identifier (`aixplain_ids`). At v2 an answer comes at once, as a
stream where ``options.stream`` asks for one, or is promised at an address to be polled (`aixplain_desks`); at v1 it is
promised always, but for a model with the word ``now``. A promise calls itself ``completed``, as the real one does. The
key is ``x-api-key``; errors are a text in ``error``. Shapes from the SDK 0.2.48, run against a recording server, as of
2026-11-27. Its 429 is known by its status alone: the ``Retry-After`` here is ours.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from engine.simulator.chat import MAX_OUTPUT, ChatRequest, StreamRequest, count_of, read_object
from engine.simulator.chunks import Wording
from engine.simulator.events import Events
from engine.simulator.failure import Failure
from engine.simulator.formats.aixplain_ids import Behaviour, behaviour_of
from engine.simulator.formats.aixplain_stream import stream_of
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment, header, retry_after
from engine.simulator.formats.words import body, stringified
from engine.simulator.limits import Cost
from engine.simulator.reply import Headers, encode, usage_of

BASE: Final = "/aixplain"
CREDITS_PER_TOKEN: Final = 1e-6
ODD_STATUS: Final = "ON_HOLD"
"""A status that nobody knows."""


def bearer(headers: HeadersSeen) -> bytes:
    """The key of ``x-api-key``, as a bearer key."""
    key = header(headers, b"x-api-key")
    return b"Bearer " + key if key else b""


class Job(NamedTuple):
    """An answer that was promised. All that it will be is in its name, so nobody has to remember it."""

    model: str
    identity: str
    cost: Cost

    @property
    def name(self) -> str:
        """What its address ends with, before it is quoted."""
        return f"{self.identity}.{self.cost.input_tokens}.{self.cost.output_tokens}.{self.model}"


def job_named(name: str) -> Job | None:
    """The job of a name; None if there is no such job."""
    identity, _, rest = name.partition(".")
    counted, _, rest = rest.partition(".")
    used, _, model = rest.partition(".")
    if not (counted.isdecimal() and used.isdecimal() and model and len(identity) == 16):
        return None
    try:
        int(identity, 16)
    except ValueError:
        return None
    return Job(model, identity, Cost(int(counted), int(used)))


def last_answer(job: Job, text: str, said: Behaviour, *, polled: bool) -> dict[str, Any] | list[str]:
    """What a run comes to, told at once or to who polls for it."""
    if said.end == "list":
        return [text]
    if said.end in ("fail", "coded"):
        failed = {"error_message": "The model has failed. (simulated)", "requestId": job.identity}
        coded = {"error_code": "simulated_failure"} if said.end == "coded" else {}
        return {"status": "FAILED", "completed": True, "data": "", **failed, **coded}
    if said.end == "supplier":
        odd: dict[str, Any] = {"completed": True, "supplierError": "quota", "requestId": job.identity}
        return odd if polled else {"status": "FAILED", **odd}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer: dict[str, Any] = {
        "status": "SUCCESS",
        "completed": True,
        "data": text,
        "details": [choice] if said.llm else {"output": text},
        "usedCredits": round((job.cost.input_tokens + job.cost.output_tokens) * CREDITS_PER_TOKEN, 9),
        "runTime": 0.9,
        "usage": _usage(job.cost, said),
        "asset": {"assetId": job.model, "id": job.model},
        "sessionId": job.identity,
    }
    if said.end == "no-completed":
        del answer["completed"]
    if said.end == "odd-status":
        answer["status"] = ODD_STATUS
    return answer | ({"supplierError": "quota"} if said.end == "warn" else {})


def _usage(cost: Cost, said: Behaviour) -> object:
    """A usage, in one of the forms in which models tell it."""
    usage = usage_of(cost)
    if said.usage == "none":
        return None
    if said.usage == "nan":
        return dict.fromkeys(usage, "NaN")
    return stringified(usage) if said.usage == "text" else usage


class AixplainRun(Manner):
    """``/api/v1/execute/{model}`` and ``/api/v2/execute/{model}``: `version` 1 and 2; bound to a `model`."""

    def __init__(self, version: int, model: str = "", host: str = "") -> None:
        self._version = version
        self._model = model
        self._host = host
        self._said = behaviour_of(model)

    def at(self, name: str, headers: HeadersSeen) -> Self:
        return type(self)(self._version, name, header(headers, b"host").decode("latin-1"))

    def credential(self, headers: HeadersSeen) -> bytes:
        return bearer(headers)

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        status, said = self._said.status, self._said
        if status:
            wait_us = 1_000_000 if status == 429 else None
            return Failure("invalid", status, f"The model answers {status}. (simulated)", wait_us=wait_us)
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        cap = count_of(arguments, "max_tokens", MAX_OUTPUT)
        if isinstance(cap, Failure):
            return cap
        options = arguments.get("options")
        streamed = isinstance(options, dict) and options.get("stream") is True and self._version == 2
        wanted = StreamRequest(usage=said.usage != "none") if streamed and said.stream != "json" else None
        fault = said.fault if wanted is not None or not said.fault.startswith("stream_") else ""
        counted = {**arguments, "messages": list(_messages(arguments))}
        return ChatRequest(counted, self._model, 1, cap, wanted, fault=fault)

    def whole(self, said: Wording) -> bytes:
        job = Job(self._model, said.done.identity, said.done.cost)
        if not self._promises:
            answer = last_answer(job, said.done.text, self._said, polled=False)
            if said.fault == "null_usage" and isinstance(answer, dict):
                answer["usage"] = None
            return body(said, answer)
        promise = {"requestId": job.identity, "status": "IN_PROGRESS", "data": self._address(job), "completed": True}
        if self._said.start in ("no-data", "no-status"):
            del promise["data" if self._said.start == "no-data" else "status"]
        return body(said, promise)

    def success(self, said: Wording) -> int:
        return 201 if self._promises else 200

    def events(self, said: Wording) -> Events:
        return stream_of(said, self._said)

    def error(self, failure: Failure, now: Moment) -> object:
        return {"error": failure.message}

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return retry_after(failure)

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        job = Job(self._model, said.done.identity, said.done.cost)
        return encode(last_answer(job, "", Behaviour(end="fail"), polled=False))

    @property
    def _promises(self) -> bool:
        said = self._said
        return not said.now and (self._version == 1 or said.polls is not None or bool(said.start))

    def _address(self, job: Job) -> str:
        """Where to poll. A foreign address is the same machine by another name, so that the log shows who came."""
        host = self._host
        if self._said.start == "foreign-poll":
            name, colon, port = host.partition(":")
            host = ("127.0.0.1" if name == "localhost" else "localhost") + colon + port
        return f"http://{host}{BASE}/api/v1/data/{quote(job.name, safe='')}"


def _messages(arguments: Mapping[str, object]) -> Iterator[object]:
    """All that a request says, as messages to be counted."""
    for name in ("data", "text", "context", "prompt", "history"):
        value = arguments.get(name)
        if isinstance(value, list):
            yield from (item if isinstance(item, dict) else {"content": str(item)} for item in value)
        elif value is not None:
            yield {"content": value if isinstance(value, str) else encode(value).decode()}
