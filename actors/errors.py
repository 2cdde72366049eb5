"""What can go wrong in the kernel, as exceptions a caller meets.

The tree answers two questions at once: whose fault was it, and was anything spent? `NotAdmitted` means nothing was
ever sent; `UsageError` is the caller's mistake and never worth another attempt; `TransportError` says whether bytes
may have left. "Not now" is a value, never an exception, so none of these means "wait".

Pure: no trio, no I/O. `engine.errors` adds what only providers, keys and configuration can cause.
"""

from __future__ import annotations


class PenstockError(Exception):
    """Base of every error this project raises or puts on a call.

    `call_id`, `lane` and `endpoint` say which call it was, where known; all three stand in the repr, the message does
    not repeat them. `gave_up` is empty, or names what ended an attempted call before it could be tried again:
    ``"deadline"``, ``"budget"``, ``"attempts"``, ``"hint"`` (the provider asked for too long a wait) or ``"shutdown"``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        call_id: int | None = None,
        lane: str | None = None,
        endpoint: str | None = None,
        gave_up: str = "",
    ) -> None:
        super().__init__(message)
        self.call_id = call_id
        self.lane = lane
        self.endpoint = endpoint
        self.gave_up = gave_up

    @property
    def message(self) -> str:
        """The sentence alone, without the identifiers."""
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        parts = [repr(self.message)]
        for name in ("call_id", "lane", "endpoint", "gave_up"):
            value = getattr(self, name)
            if value:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


class UsageError(PenstockError):
    """The caller's mistake. Nothing was sent, and the same call would fail again."""


class CapacityExceeded(UsageError):
    """One call costs more than a limit admits in a whole period, so no amount of waiting helps.

    `requested` and `capacity` are in the unit of `dimension` (requests, or tokens as the quota counts them).
    """

    def __init__(
        self, message: str = "", *, dimension: str = "", requested: int = 0, capacity: int = 0, **where: object
    ) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.dimension = dimension
        self.requested = requested
        self.capacity = capacity


class NotAdmitted(PenstockError):
    """The call was never sent and nothing was spent. `call` is the call itself, ready to be submitted elsewhere."""

    def __init__(self, message: str = "", *, call: object = None, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.call = call


class Overloaded(NotAdmitted):
    """The lane's queue is full. `submit` waits for a place; `submit_nowait` raises this."""


class DeadlineExceeded(NotAdmitted):
    """The call's deadline cannot be met, or passed while the call was still waiting for its turn."""


class ShuttingDown(NotAdmitted):
    """The engine takes no more calls, or stopped before this one was sent."""


class TransportError(PenstockError):
    """The network, or a program on the way, failed."""


class ConnectFailed(TransportError):
    """No connection could be made. Nothing was sent and nothing was spent."""


class OutcomeUnknown(TransportError):
    """The request left, wholly or in part, and no complete answer came back: it may have been billed.

    `reason` is one word: ``"timeout"``, ``"closed"``, ``"cancelled"``, ``"shutdown"``, ``"crashed"``.
    """

    def __init__(self, message: str = "", *, reason: str = "", **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.reason = reason


class CallCancelled(PenstockError):
    """What a call's `error` holds when its status is ``cancelled``. `sent` says whether any byte had left."""

    def __init__(self, message: str = "", *, sent: bool = False, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]  # the keywords of the base, passed through
        self.sent = sent


class InternalError(PenstockError):
    """A bug in this project, not in the caller's code and not at the provider. Please report it."""
