"""`NetworkRequestEvent`: what became of one request, as lionfuncs tells it. A view of a call, computed when looked at.

No task belongs to an event. Its call notes when it moves (`NotedCall`); statuses, times and log lines are made of that.
A key is on no event: headers are kept with theirs masked, and what a provider said was cleaned before it came here.

Must not import the executor or the model.
"""

from __future__ import annotations

import enum
import re
import traceback
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.clock import now_us
from actors.slots import Progress
from engine.call import Call, CallOptions, CallOwner
from engine.call_options import NO_OPTIONS
from engine.clients.lionfuncs.coroutines import Work
from engine.errors import InvalidCall, OutcomeUnknown, PenstockError, ShuttingDown
from engine.providers.wire import Encoded
from engine.secret import masked


class RequestStatus(enum.StrEnum):
    """Where a request is, or how it ended."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    CALLING = "CALLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


_OVER = frozenset((RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED))
_LIVE = {
    Progress.PENDING: RequestStatus.PENDING,
    Progress.IN_LINE: RequestStatus.PENDING,
    Progress.SUBMITTED: RequestStatus.QUEUED,
    Progress.QUEUED: RequestStatus.QUEUED,
    Progress.GRANTED: RequestStatus.PROCESSING,
    Progress.SENT: RequestStatus.CALLING,
}


def status_of(call: Call) -> RequestStatus:
    """The status of a call. What the executor's end took away is cancelled, whatever the engine calls it."""
    ended = call.ended
    if ended is None:
        return _LIVE[call.progress]
    if ended.status == "completed":
        return RequestStatus.COMPLETED
    if ended.status == "cancelled" or _is_shutdown(call.error):
        return RequestStatus.CANCELLED
    return RequestStatus.FAILED


def _is_shutdown(error: PenstockError | None) -> bool:
    if isinstance(error, OutcomeUnknown) and error.reason == "shutdown":
        return True
    return isinstance(error, ShuttingDown) or (error is not None and error.gave_up == "shutdown")


class NotedCall(Call):
    """A call that notes when it comes to another status: `notes`, with the instants of trio's clock in microseconds.

    `work` is the coroutine that it runs, if it runs one. `on_sent` is called each time that it has left.
    """

    __slots__ = ("_progress", "notes", "on_sent", "tokens", "work")

    def __init__(
        self,
        owner: CallOwner,
        model: str,
        request: Encoded | InvalidCall,
        options: CallOptions = NO_OPTIONS,
        work: Work | None = None,
    ) -> None:
        self.notes: list[tuple[int, Progress]] = []
        self.work = work
        self.on_sent: Callable[[NotedCall], None] | None = None
        self.tokens = request.input_tokens if isinstance(request, Encoded) else 0
        super().__init__(owner, model, request, options)

    @property
    def progress(self) -> Progress:
        """How far it has come; see `ReplySlot`."""
        return self._progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._progress = progress
        if progress is Progress.SENT and self.on_sent is not None:
            self.on_sent(self)
        if not self.notes or _LIVE.get(self.notes[-1][1]) is not _LIVE.get(progress):
            self.notes.append((now_us(), progress))


_NAMES_A_KEY = re.compile(r"auth|key|secret|credential|cookie|passw|token", re.IGNORECASE)
_SCHEMES = ("bearer", "basic", "token")


def shown_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Headers as an event shows them: of what may be a key only the scheme, as in ``Bearer ***``."""
    shown = {}
    for name, value in headers.items():
        scheme, space, _ = str(value).partition(" ")
        hidden = f"{scheme} ***" if space and scheme.lower() in _SCHEMES else "***"
        shown[str(name)] = hidden if _NAMES_A_KEY.search(str(name)) else masked(str(value))
    return shown


class NetworkRequestEvent:
    """One request: what was asked, where it is, and what came of it. Looking at it never waits; `wait` does.

    `request_id` is a UUID; `endpoint_url`, `method`, `payload` and `headers` are what is sent, but for the keys in the
    headers, which are masked; `metadata` holds the `model_name` and is the caller's besides. Times are in UTC and
    naive, as lionfuncs has them, and in order: `created_at`, then `queued_at`, `processing_started_at` (it was let go)
    and `call_started_at` (the request has left), each when that was so first, and `completed_at`, however it ended;
    None before.

    `headers` are given as they may be shown. An event that is dropped does not cancel its request.
    """

    __slots__ = (
        "_call",
        "_said",
        "created_at",
        "endpoint_url",
        "headers",
        "metadata",
        "method",
        "num_api_tokens_needed",
        "payload",
        "request_id",
    )

    def __init__(
        self,
        call: NotedCall,
        *,
        endpoint_url: str | None,
        method: str | None,
        headers: Mapping[str, str],
        payload: Any,
        num_api_tokens_needed: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._call = call
        self._said: list[tuple[int, str]] = []
        self.request_id = str(uuid.uuid4())
        self.created_at = datetime.now(UTC).replace(tzinfo=None)
        self.endpoint_url = endpoint_url
        self.method = method
        self.headers = dict(headers)
        self.payload = payload
        self.num_api_tokens_needed = num_api_tokens_needed
        self.metadata = dict(metadata or {})

    # --- where it is ---

    @property
    def call(self) -> Call:
        """The engine's own call: attempts, timings, and the error as an exception."""
        return self._call

    @property
    def status(self) -> RequestStatus:
        """Where the request is. QUEUED again while it waits to be tried again."""
        return status_of(self._call)

    @property
    def over(self) -> bool:
        """Whether it is COMPLETED, FAILED or CANCELLED."""
        return self.status in _OVER

    async def wait(self) -> NetworkRequestEvent:
        """Wait until the request is over, and return the event. Nothing is raised for how it ended.

        A checkpoint. Cancellation ends only this wait, never the request.
        """
        await self._call.wait()
        return self

    def cancel(self) -> None:
        """Give the request up, wherever it is: it ends as CANCELLED. No effect on one that is over."""
        self._call.cancel()

    # --- when it was where ---

    def _at(self, at_us: int) -> datetime:
        """An instant of trio's clock by the calendar of this event, which no change of the machine's time disturbs."""
        return self.created_at + timedelta(microseconds=max(0, at_us - self._call.notes[0][0]))

    def _first(self, *reached: Progress) -> datetime | None:
        at_us = next((at_us for at_us, progress in self._call.notes if progress in reached), None)
        return None if at_us is None else self._at(at_us)

    @property
    def queued_at(self) -> datetime | None:
        """When it came into the executor's queue."""
        return self._first(Progress.SUBMITTED, Progress.QUEUED)

    @property
    def processing_started_at(self) -> datetime | None:
        """When it was first let go: its limits had room for it, and there was a place in flight."""
        return self._first(Progress.GRANTED)

    @property
    def call_started_at(self) -> datetime | None:
        """When the request had first left."""
        return self._first(Progress.SENT)

    @property
    def completed_at(self) -> datetime | None:
        """When it was over, however it ended."""
        return self._first(Progress.ENDED)

    @property
    def updated_at(self) -> datetime:
        """When anything last happened to it."""
        return self._at(max([self._call.notes[-1][0], *(at_us for at_us, _ in self._said)]))

    @property
    def logs(self) -> list[str]:
        """What happened to it, a line each: ``<time> - <what>``. A list of its own, made anew."""
        lines = [*self._said]
        before, since_us = RequestStatus.PENDING, 0
        for at_us, progress in self._call.notes:
            status = _LIVE.get(progress) or self.status
            if status is not before:
                lines.append((at_us, f"Status changed from {before} to {status}"))
            if status is RequestStatus.PROCESSING and at_us > since_us:
                waited = f"Waited {(at_us - since_us) / 1e6:.2f}s in the executor's queue"
                tokens = self.num_api_tokens_needed
                lines.append((at_us, f"{waited} ({tokens} API tokens)." if tokens else f"{waited}."))
            before, since_us = status, at_us
        if self._call.over:
            lines.append((self._call.notes[-1][0], self._last_line()))
        lines.sort(key=lambda line: line[0])
        return [f"{self._at(at_us).isoformat()} - {what}" for at_us, what in lines]

    def _last_line(self) -> str:
        if self.status is RequestStatus.COMPLETED:
            return f"Call completed with status code: {self.response_status_code}"
        return f"Call failed: {self.error_type} - {self.error_message}"

    def add_log(self, message: str) -> None:
        """Add a line of your own to `logs`, with the present time."""
        self._said.append((now_us(), str(message)))

    # --- what came of it ---

    @property
    def response_status_code(self) -> int | None:
        """The HTTP status of the last answer, None while there is none."""
        work = self._call.work
        return work.status if work is not None else self._call.reply.status or None

    @property
    def response_headers(self) -> dict[str, Any] | None:
        """The headers of the last answer, their names in lower case; cookies are left out."""
        work = self._call.work
        if work is not None:
            return work.headers
        return dict(self._call.reply.headers) if self.response_status_code is not None else None

    @property
    def response_body(self) -> Any:
        """The answer's JSON as Python objects, that of an error too; a body that is no JSON as text; else None."""
        if self._call.work is not None:
            return self._call.work.body
        body = self._call.reply.body
        if self._call.response is not None or not len(body):
            return self._call.response
        text = bytes(body).decode("utf-8", "replace")
        return None if text.strip() == "null" else text

    @property
    def error_type(self) -> str | None:
        """The name of the error's class: one of `engine.errors`, or of what a coroutine raised. None without one."""
        raised = self._raised
        return type(raised).__name__ if raised is not None else None

    @property
    def error_message(self) -> str | None:
        """The error as a sentence. None without one."""
        raised = self._raised
        if raised is None or isinstance(raised, PenstockError):
            return raised.message if raised is not None else None
        try:
            return masked(str(raised))
        except Exception as error:  # noqa: BLE001  # the user's own exception, and his own __str__
            return f"{type(raised).__name__}, whose text cannot be had ({type(error).__name__})"

    @property
    def error_details(self) -> str | None:
        """The error with all that is known of it; the traceback of what a coroutine raised. None without one."""
        raised = self._raised
        if raised is None or isinstance(raised, PenstockError):
            return repr(raised) if raised is not None else None
        return masked("".join(traceback.format_exception(raised)))

    @property
    def _raised(self) -> BaseException | None:
        error, work = self._call.error, self._call.work
        return work.error if error is not None and work is not None and work.error is not None else error

    def __repr__(self) -> str:
        where = f"{self.method or ''} {self.endpoint_url or ''}".strip()
        return f"<NetworkRequestEvent {self.request_id} {self.status} {where}>"
