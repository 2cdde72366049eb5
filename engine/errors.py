"""Everything that can go wrong, as exceptions a caller meets: the kernel's and those only an engine can cause.

The kernel's classes are re-exported here, so this is the one module to import errors from. Here are added what is
wrong with a call before it is queued, what a provider answered, and how a command-line agent ended. An error crosses
the channels between actors as a `Fault`; `fault_of` and `error_of` translate, both ways, for every class.

Pure: no trio, no I/O. Messages name what is wrong, whose fault it is and what to do; none holds a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from actors.errors import (
    CallCancelled,
    CapacityExceeded,
    ConnectFailed,
    DeadlineExceeded,
    InternalError,
    NotAdmitted,
    OutcomeUnknown,
    Overloaded,
    PenstockError,
    ShuttingDown,
    TransportError,
    UsageError,
)
from actors.messages import Fault

__all__ = [
    "AgentError",
    "AgentNotInstalled",
    "CallCancelled",
    "CapacityExceeded",
    "ConnectFailed",
    "DeadlineExceeded",
    "EngineNotRunning",
    "HandlerFailed",
    "InternalError",
    "InvalidCall",
    "MalformedReply",
    "MissingKey",
    "NotAdmitted",
    "OutcomeUnknown",
    "Overloaded",
    "PenstockError",
    "ProviderError",
    "ProviderUnavailable",
    "QuotaExhausted",
    "RateLimited",
    "Rejected",
    "ShuttingDown",
    "TransportError",
    "Truncated",
    "UnknownEndpoint",
    "UsageError",
    "Vetoed",
    "error_of",
    "fault_of",
    "one_line",
]


class InvalidCall(UsageError):
    """The call's arguments cannot be sent. Nothing was sent. `argument` names the one at fault, if it is one."""

    def __init__(self, message: str = "", *, argument: str = "", **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.argument = argument


class UnknownEndpoint(UsageError):
    """No such provider or endpoint, or its address cannot be used. Nothing was sent."""


class MissingKey(UsageError):
    """The provider wants a key and none usable was found. Nothing was sent.

    `variables` are the environment variables looked at, in order.
    """

    def __init__(self, message: str = "", *, variables: tuple[str, ...] = (), **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.variables = variables


class AgentNotInstalled(UsageError):
    """The command line of an agent was not found, or cannot be run. Nothing was started. The message says how to
    install it."""


class EngineNotRunning(UsageError, RuntimeError):
    """There is no open engine to run the call in. Nothing was sent. Open one: ``async with open_engine():``."""


class HandlerFailed(UsageError):
    """A hook handler of yours failed, and its exit policy lets the call fail with it. ``__cause__`` is what it raised.

    The call itself had ended before: its answer is still on it, and was paid for.
    """


class Vetoed(NotAdmitted):
    """A hook handler refused the call before it was queued. Nothing was sent and nothing was spent."""


class ProviderError(PenstockError):
    """The provider answered, and the answer is an error.

    `status` is the HTTP status, `code` the provider's own word for it, `request_id` what its support will ask for, and
    `retry_after_s` the wait it wished for, in seconds. Each is None where the provider did not say.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        **where: object,
    ) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return _with_fields(super().__repr__(), self, ("status", "code", "request_id", "retry_after_s"))


class RateLimited(ProviderError):
    """Refused for now: too many requests or too much text a minute, or too many at once. Waiting helps."""


class QuotaExhausted(ProviderError):
    """Refused because credit or a long-running quota is used up. Waiting minutes does not help; billing may."""


class Rejected(ProviderError):
    """Refused for what the request is (or whose it is): the same request would be refused again."""


class ProviderUnavailable(ProviderError):
    """The provider failed or is overloaded. The request is not at fault; it may have been billed."""


class MalformedReply(ProviderError):
    """The provider said it succeeded, but what came back cannot be read. It may be billed; the bytes are kept."""


class Truncated(ProviderError):
    """A streamed answer ended before its end. What came is kept; it was probably billed."""


class AgentError(PenstockError):
    """A command-line agent failed. `exit_code` is its own (None: it never ran), `stderr_tail` its last words."""

    def __init__(
        self, message: str = "", *, exit_code: int | None = None, stderr_tail: str = "", **where: object
    ) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail

    def __repr__(self) -> str:
        return _with_fields(super().__repr__(), self, ("exit_code", "stderr_tail"))


def _with_fields(shown: str, error: PenstockError, names: tuple[str, ...]) -> str:
    """A repr with those of the error's own fields that are set."""
    fields = [f"{name}={getattr(error, name)!r}" for name in names if getattr(error, name) not in (None, "")]
    return f"{shown[:-1]}{''.join(', ' + field for field in fields)})"


CUT = "…"
"""Stands where a text was cut short."""

_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]+")
# What keys look like where a provider or a proxy quotes them back: after an authorization scheme, or by their prefix.
KEY_SHAPED = re.compile(
    r"(?i:(?<=bearer )|(?<=basic ))(?:(?=\S*\d)\S{8,}|\S{20,})"
    r"|\b(?:sk|pk|gsk|nvapi|pplx|tvly|fc|xai|hf|rk)[-_](?=[\w.*-]*[\d*])[\w.*-]{8,}|\bAIza[\w*-]{20,}"
)


def one_line(text: str, limit: int) -> str:
    """`text` fit to stand in a message: one line, at most `limit` characters, encodable, no terminal escapes.

    What looks like a key is masked: some providers and proxies quote the request they refuse, its headers included.
    """
    line = _CONTROL.sub(" ", text[: 4 * limit]).strip().encode("utf-8", "replace").decode()
    line = KEY_SHAPED.sub("***", line)
    return line if len(line) <= limit else line[: limit - 1] + CUT


# Further fields of a class: out of an error into a fault's, and back into the keywords of its constructor.
_OWN: dict[type[PenstockError], tuple[Callable[..., dict[str, object]], Callable[[Fault], dict[str, object]]]] = {
    InvalidCall: (lambda e: {"detail": e.argument}, lambda f: {"argument": f.detail}),
    MissingKey: (
        lambda e: {"detail": " ".join(e.variables)},
        lambda f: {"variables": tuple(f.detail.split())},
    ),
    CapacityExceeded: (
        lambda e: {"detail": e.dimension, "requested": e.requested, "capacity": e.capacity},
        lambda f: {"dimension": f.detail, "requested": f.requested, "capacity": f.capacity},
    ),
    OutcomeUnknown: (lambda e: {"detail": e.reason}, lambda f: {"reason": f.detail}),
    CallCancelled: (lambda e: {"sent": e.sent}, lambda f: {"sent": f.sent}),
    ProviderError: (
        lambda e: {
            "status": e.status or 0,
            "code": e.code or "",
            "request_id": e.request_id or "",
            "retry_after_us": None if e.retry_after_s is None else math.ceil(round(e.retry_after_s * 1e6, 3)),
        },
        lambda f: {
            "status": f.status or None,
            "code": f.code or None,
            "request_id": f.request_id or None,
            "retry_after_s": None if f.retry_after_us is None else f.retry_after_us / 1_000_000,
        },
    ),
    # An exit code of 0 is a value, so its absence needs a mark of its own.
    AgentError: (
        lambda e: {"detail": e.stderr_tail, "code": "" if e.exit_code is None else str(e.exit_code)},
        lambda f: {"stderr_tail": f.detail, "exit_code": int(f.code) if f.code.lstrip("-").isdecimal() else None},
    ),
}

_CLASSES: dict[str, type[PenstockError]] = {
    kind.__name__: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, PenstockError)
}


def fault_of(error: BaseException) -> Fault:
    """The error as a value that can cross a channel. Never raises.

    A subclass of somebody else's travels as the nearest class of this module. An exception that is none of ours is an
    `InternalError` that names its type and where it was raised; its text is left out, because libraries quote headers.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, PenstockError):
        return Fault(kind="InternalError", message=f"{_where_raised(error)}: a bug in penstock, please report it")
    kind = next(base for base in type(error).__mro__ if _CLASSES.get(base.__name__) is base)
    fields: dict[str, object] = {}
    for base in kind.__mro__:
        if base in _OWN:
            fields = _OWN[base][0](error)
            break
    return Fault(kind=kind.__name__, message=error.message, **fields)  # type: ignore[arg-type]  # by the table above


def error_of(
    fault: Fault,
    *,
    call_id: int | None = None,
    lane: str | None = None,
    endpoint: str | None = None,
    gave_up: str = "",
    call: object = None,
) -> PenstockError:
    """The exception a fault stands for, with the identifiers of its call. Never raises.

    `call` is what a `NotAdmitted` carries. An unknown kind (a fault written by a newer version) is an `InternalError`
    with the fault's own message.
    """
    kind = _CLASSES.get(fault.kind, InternalError)
    fields: dict[str, object] = {}
    for base in kind.__mro__:
        if base in _OWN:
            fields = _OWN[base][1](fault)
            break
    if issubclass(kind, NotAdmitted):
        fields["call"] = call
    return kind(
        fault.message,
        call_id=call_id,
        lane=lane,
        endpoint=endpoint,
        gave_up=gave_up,
        **fields,
    )


def _where_raised(error: BaseException) -> str:
    """``KeyError in _settle (line 120)``: enough to find a bug, nothing of what was being handled."""
    name = type(error).__name__
    trace = error.__traceback__
    if trace is None:
        return name
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{name} in {trace.tb_frame.f_code.co_name} (line {trace.tb_lineno})"
