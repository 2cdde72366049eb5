"""`ModelResponse`, and what becomes one: a call that has ended, the body of a run, of a poll.

What a service does is never raised: it is a response with the status FAILED, the sentence of aiXplain's SDK for it, and
beside that what the SDK loses: the HTTP status and the wait that was wished for. What the caller himself did wrong is
raised, as everywhere here.

Nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.call import Call
from engine.clients.aixplain.enums import ResponseStatus
from engine.errors import DeadlineExceeded, MalformedReply, NotAdmitted, PenstockError, ProviderError, UsageError
from engine.providers.aixplain_answers import FAILED, problem_in, sentence_of, state_of, text_of, word_of
from engine.providers.wire import mapping

TIMED_OUT = "No response from the service."

_ALIASES = {"usedCredits": "used_credits", "runTime": "run_time"}
_FIELDS = frozenset({
    "status", "data", "details", "completed", "error_message", "used_credits", "run_time", "usage", "url",
    "error_code", "asset", "status_code", "retry_after_s",
})  # fmt: skip


class ModelResponse:
    """What came of a run: by attribute, by ``response["data"]``, by `get`, and ``"data" in response``.

    `status` is a `ResponseStatus`; `completed` says that nothing more will come; `details` is a dict, or a list of
    choices; `used_credits` are credits, `run_time` seconds. `url` is where a run in progress is polled.
    `status_code` is the HTTP status of a refusal, `retry_after_s` the wait it asked for, in seconds. Whatever else the
    service said is in `additional_fields`, and found by ``[...]`` too.
    """

    def __init__(
        self,
        /,
        status: ResponseStatus,
        data: Any = "",
        details: Any = None,
        completed: bool = False,
        error_message: str = "",
        used_credits: float = 0.0,
        run_time: float = 0.0,
        usage: dict[str, Any] | None = None,
        url: str | None = None,
        error_code: Any = None,
        asset: dict[str, Any] | None = None,
        *,
        status_code: int | None = None,
        retry_after_s: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.status = status
        self.data = data
        self.details = {} if details is None else details
        self.completed = completed
        self.error_message = error_message or problem_in(kwargs)
        self.used_credits = used_credits
        self.run_time = run_time
        self.usage = usage
        self.url = url
        self.error_code = error_code
        self.asset = asset
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.additional_fields: dict[str, Any] = kwargs

    def __getitem__(self, key: str) -> Any:
        key = _ALIASES.get(key, key)
        if key in _FIELDS or key == "additional_fields":
            return getattr(self, key)
        if key in self.additional_fields:
            return self.additional_fields[key]
        raise KeyError(f"Key '{key}' not found in ModelResponse.")

    def __setitem__(self, key: str, value: Any) -> None:
        key = _ALIASES.get(key, key)
        if key in _FIELDS:
            setattr(self, key, value)
        elif key in self.additional_fields:
            self.additional_fields[key] = value
        else:
            raise KeyError(f"Key '{key}' not found in ModelResponse.")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of that name, or `default`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key, _NOTHING) is not _NOTHING

    def to_dict(self) -> dict[str, Any]:
        """All of it as one dict; `status_code` and `retry_after_s` where there are any."""
        told = {name: getattr(self, name) for name in _ORDER}
        told |= {name: getattr(self, name) for name in _OURS if getattr(self, name) is not None}
        return {**told, **self.additional_fields}

    def __repr__(self) -> str:
        quoted = ("data", "error_message", "url", "error_code")
        fields = [
            f"{name}='{value}'" if name in quoted else f"{name}={value}"
            for name in (*_ORDER, *_OURS)
            if (value := getattr(self, name))
        ]
        fields += [f"{name}={value!r}" for name, value in self.additional_fields.items()]
        return f"ModelResponse({', '.join(fields)})"


_NOTHING = object()
_ORDER = (
    "status", "data", "details", "completed", "error_message", "used_credits", "run_time", "usage", "asset", "url",
    "error_code",
)  # fmt: skip
_OURS = ("status_code", "retry_after_s")


def failed(message: str, *, completed: bool = True, **fields: Any) -> ModelResponse:
    """A response that says what went wrong."""
    return ModelResponse(ResponseStatus.FAILED, completed=completed, error_message=message, **fields)


def timed_out(**fields: Any) -> ModelResponse:
    """The response of a run whose time is up."""
    return failed(TIMED_OUT, completed=False, **fields)


def of_body(body: Mapping[str, Any], *, polled: bool = True, **over: Any) -> ModelResponse:
    """The response that a body tells, with `over` in place of what it says. `polled`: it is not that of a promise."""
    state, address = state_of(body, polled=polled)
    said = {_ALIASES.get(name, name): value for name, value in body.items()}
    extra = {name: value for name, value in said.items() if name not in _FIELDS}
    status = {"done": ResponseStatus.SUCCESS, "later": ResponseStatus.IN_PROGRESS}.get(state, ResponseStatus.FAILED)
    given: dict[str, Any] = {
        "status": status,
        "data": body.get("data", "") if "choices" not in body else text_of(body.get("data")) or "",
        "completed": status is not ResponseStatus.IN_PROGRESS,
        "error_message": problem_in(body),
        "url": address or None,
        **{name: said[name] for name in ("details", "usage", "asset", "url", "error_code") if said.get(name)},
        **{name: _number(said.get(name)) for name in ("used_credits", "run_time")},
    }
    if given["data"] is None:
        given["data"] = ""
    if status is ResponseStatus.FAILED and not given["error_message"]:
        word = word_of(body.get("status"))
        given["error_message"] = FAILED if word in ("", "FAILED", "IN_PROGRESS") else f"{FAILED} Details: status {word}"
    return ModelResponse(**{**given, **over}, **{name: value for name, value in extra.items() if name not in over})


def accepted(body: Mapping[str, Any]) -> ModelResponse:
    """The response of a run that goes on at the service: where to poll it, and no data yet."""
    return of_body({**body, "completed": False}, polled=False, data="", completed=False, error_message="")


def of_call(call: Call) -> ModelResponse:
    """What came of a run, now that its call has ended.

    Raises:
      UsageError, NotAdmitted: it was not sent, for what its caller did, or a handler of his.
    """
    error = call.error
    body = mapping(call.response)
    if error is None:
        said: dict[str, Any] = {"data": call.view.text or ""} if "choices" in body else {}
        return of_body(body, **said)
    told = facts_of(error)
    if isinstance(error, ProviderError) and (error.status or 0) >= 300:
        return failed(error.message, error_code=body.get("error_code"), **told)
    if isinstance(error, DeadlineExceeded) or error.gave_up == "deadline":
        return timed_out(**told)
    if isinstance(error, UsageError | NotAdmitted):
        raise error
    if body and state_of(body)[0] == "failed" and isinstance(error, ProviderError):
        return of_body(body, status=ResponseStatus.FAILED, completed=True)
    if isinstance(error, MalformedReply) and error.message.startswith(FAILED):
        return failed(error.message, **told)
    return failed(f"{FAILED} Details: {error.message}", **told)


def facts_of(error: PenstockError) -> dict[str, Any]:
    """What an error says beside its sentence, if it is a provider's."""
    status = getattr(error, "status", None)
    return {
        "status_code": status if status and status >= 300 else None,
        "retry_after_s": getattr(error, "retry_after_s", None),
    }


def of_poll(call: Call) -> ModelResponse:
    """What one poll says: as `of_call`, but that a body has to say whether it is ``completed``.

    A poll that fails says why, and does not say that the run is over.
    """
    body = mapping(call.response)
    if call.error is None and isinstance(body.get("completed"), bool):
        over = {} if body["completed"] else _in_progress(body)
        return of_body(body, **over)
    if call.error is None:
        return failed(f"{FAILED} Details: the poll's answer does not say whether the run is completed", completed=False)
    response = of_call(call)
    response.completed = False
    if response.status_code is not None:
        response.error_message = sentence_of(response.status_code, call.response, call.reply.body)
    return response


def _in_progress(body: Mapping[str, Any]) -> dict[str, Any]:
    known = word_of(body.get("status"))
    status = ResponseStatus(known) if known in ResponseStatus.__members__ else ResponseStatus.IN_PROGRESS
    return {"status": status, "completed": False, "error_message": "", "url": None}


def _number(value: Any) -> float:
    """A number as it is; some models write theirs as texts, or as ``NaN``."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0
