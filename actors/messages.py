"""The messages actors exchange: one frozen struct a kind, MessagePack on every channel.

A piece of **mail** is a pair ``(head, rest)``: one message of the closed union below, and a second one, encoded, that
travels along unread (a granted call behind its `Grant`, a reply behind its `Outcome`), or ``b""``. So the actors on the
way decode a small head and hand on the same bytes, whether the payload holds 300 bytes or a megabyte.

Routing fields stand first, the payload last, in a ``bin`` field that decodes to a view. Times are integer
microseconds of the engine's clock, `_us` in the name. Identifiers are integers: the engine keeps their names.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from actors.specs import Dimension as Dimension
from actors.specs import Observed as Observed
from actors.specs import QuotaSpec as QuotaSpec

Mail: TypeAlias = tuple[bytes, bytes]
EMPTY = memoryview(b"")

Charge: TypeAlias = Literal["usage", "kept", "requests_kept", "nothing"]
"""What an attempt cost: what `input_tokens` and `output_tokens` say; all that was reserved; the request but no tokens;
nothing at all."""

Verdict: TypeAlias = Literal["done", "later", "failed", "retry", "unknown", "cancelled"]
"""How an attempt ended. ``later``: the provider took the call and has no answer yet, and is to be asked again.
``retry``: it refused the call and may accept it later. ``unknown``: bytes left and no complete answer came back, so
only the caller's `on_unknown` may allow another attempt."""

Status: TypeAlias = Literal["completed", "failed", "cancelled", "skipped", "aborted"]  # how a call ends

GaveUp: TypeAlias = Literal["", "deadline", "budget", "attempts", "hint", "shutdown"]

Refused: TypeAlias = Literal["", "requests", "tokens"]  # of what there were too many, as far as a provider says


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message of the union. `gc=False`: a message holds no containers that could form a cycle."""


class APICalling(_Message, frozen=True, tag="call"):
    """A call on its way to be sent. Encoded once, by whoever submits it, and forwarded as it is.

    `input_tokens` and `output_tokens` are the estimate to reserve; `output_is_guess` says that the caller set no cap
    on the output, so that a limit smaller than the guess shrinks the guess instead of refusing the call.
    `deadline_us` bounds the whole call (0: none), `timeout_us` each attempt from its grant, `first_byte_us` the wait
    for the answer to begin and `idle_us` every silence within it (0: no bound of their own). `model` and `format` name
    what the body asks for and the wire format that wrote it; `streaming` says that it asks for a stream, `choices` for
    how many answers. `raw_input_tokens` is the estimate of the input before it was calibrated: what the usage teaches
    is learned against that, because the calibration has moved on by then. `path` takes the place of the one in the
    endpoint's address, or follows it, if it begins with no slash. `poll_lane` (0: none) is where polls wait for their
    turn, should the provider answer later; the next one would be `poll_wait_us` after such an answer.
    """

    call_id: int
    lane: int
    endpoint: int
    submitted_us: int
    deadline_us: int = 0
    timeout_us: int = 600_000_000
    input_tokens: int = 0
    output_tokens: int = 0
    output_is_guess: bool = False
    retry_unknown: bool = False
    acknowledge: bool = False
    handled: bool = False
    priority: int = 0
    flow: str = ""
    max_attempts: int = 4
    model: str = ""
    format: str = ""
    traceparent: str = ""
    metadata: bytes = b""
    streaming: bool = False
    first_byte_us: int = 0
    idle_us: int = 0
    raw_input_tokens: int = 0
    choices: int = 1
    method: str = "POST"
    path: str = ""
    poll_lane: int = 0
    poll_wait_us: int = 0
    body: memoryview = EMPTY


class CallRoute(_Message, frozen=True, tag="call"):
    """The part of `APICalling` that decides where and when it goes; decoding it never looks at the payload."""

    call_id: int
    lane: int
    endpoint: int
    submitted_us: int
    deadline_us: int
    timeout_us: int
    input_tokens: int
    output_tokens: int
    output_is_guess: bool
    retry_unknown: bool
    acknowledge: bool
    handled: bool
    priority: int
    flow: str
    max_attempts: int = 4


class Fault(_Message, frozen=True, tag="fault"):
    """An error as a value. `kind` is the name of its class in `engine.errors`; `detail` is that class's own word
    (`OutcomeUnknown.reason`, `CapacityExceeded.dimension`)."""

    kind: str
    message: str
    detail: str = ""
    status: int = 0
    code: str = ""
    request_id: str = ""
    retry_after_us: int | None = None
    requested: int = 0
    capacity: int = 0
    sent: bool = False


class Reply(_Message, frozen=True, tag="reply"):
    """What came back for one attempt, as the caller will read it: the provider's own bytes, and the error if any.

    `headers` are the few worth keeping (request identifiers, limits), lower case, never a key. `streamed`: the body is
    a stream of events, as far as it came, and the first of them came at `first_us`.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    fault: Fault | None = None
    streamed: bool = False
    first_us: int = -1
    body: memoryview = EMPTY


# --- what the scheduler is told ---


class OpenLane(msgspec.Struct, frozen=True, array_like=True, tag="open_lane"):
    """A lane to be opened; `concurrency_limit` 0 means none of its own, a flow without a weight has the weight 1."""

    lane: int
    name: str
    quotas: tuple[QuotaSpec, ...] = ()
    concurrency_limit: int = 0
    ageing_us: int = 60_000_000
    weights: tuple[tuple[str, int], ...] = ()


class OpenEndpoint(_Message, frozen=True, tag="open_endpoint"):
    """An endpoint actor that now exists and can be told what is wanted of it."""

    endpoint: int
    name: str
    max_connections: int


class Ready(_Message, frozen=True, tag="ready"):
    """A worker's connection is open: one more call could be sent."""

    endpoint: int


class Lost(_Message, frozen=True, tag="lost"):
    """A worker that was ready no longer is."""

    endpoint: int


class ConnectAttemptFailed(_Message, frozen=True, tag="connect_failed"):
    """A connection could not be made. `jitter` is a random fraction of 2**32, for the backoff of the call it costs."""

    endpoint: int
    fault: Fault
    jitter: int = 0


class Down(_Message, frozen=True, tag="down"):
    """The endpoint's actor failed too often and is not started again."""

    endpoint: int
    fault: Fault


class Unsent(_Message, frozen=True, tag="unsent"):
    """A grant was not used and no byte was written. `ready`: the worker it took is ready again."""

    call_id: int
    attempt: int
    endpoint: int
    ready: bool


class Sent(_Message, frozen=True, tag="sent"):
    """The last byte of the request was handed to the kernel at `sent_us`, by the worker's clock."""

    call_id: int
    attempt: int
    sent_us: int


class Outcome(_Message, frozen=True, tag="outcome"):
    """How an attempt ended. Behind it travels the encoded `Reply`.

    `barrier`: the provider said "too many", of what says `refused`; `hint_us` is its wish for a wait, from `at_us`, or
    None. `exempt`: another attempt does not draw on the retry budget. With ``later``, `poll` is the `APICalling` to
    send next, encoded, in the lane `poll_lane`, after about `poll_wait_us` (0: at once), or the hint if that is longer.
    """

    call_id: int
    attempt: int
    endpoint: int
    ready: bool
    at_us: int
    verdict: Verdict
    charge: Charge
    input_tokens: int = 0
    output_tokens: int = 0
    barrier: bool = False
    hint_us: int | None = None
    exempt: bool = False
    wrote: bool = True
    jitter: int = 0
    refused: Refused = ""
    poll_lane: int = 0
    poll_wait_us: int = 0
    poll: bytes = b""


class Cancel(_Message, frozen=True, tag="cancel"):
    """The caller no longer wants the call, wherever it is."""

    call_id: int


class LimitObserved(_Message, frozen=True, tag="limit_observed"):
    """The head of an attempt's answer has come, and says how its provider's limits stand."""

    call_id: int
    attempt: int
    observed: tuple[Observed, ...]


class Drain(_Message, frozen=True, tag="drain"):
    """Take no more calls. ``finish`` runs what is queued to its end, ``discard`` ends it, ``stop`` also drops what
    is in flight."""

    queue: Literal["finish", "discard", "stop"]


# --- what endpoints and their workers are told ---


class Wanted(_Message, frozen=True, tag="wanted"):
    """How many connections the scheduler could use now, those in use included. `queued`: any call waits for one."""

    connections: int
    queued: bool


class Grant(_Message, frozen=True, tag="grant"):
    """Leave to send, given at `granted_us`. Behind it travels the encoded `APICalling`, as it was submitted.

    A worker that has written no byte by `not_after_us` must not begin. `stop_us` ends the attempt, by its timeout or
    the call's deadline, whichever comes first.
    """

    call_id: int
    attempt: int
    granted_us: int
    not_after_us: int
    stop_us: int


class Drop(_Message, frozen=True, tag="drop"):
    """Give the attempt up: close its connection and report."""

    call_id: int
    reason: Literal["cancelled", "shutdown"]


class CloseIdle(_Message, frozen=True, tag="close_idle"):
    """Close the connections that no call is using."""


class Observe(_Message, frozen=True, tag="observe"):
    """Whether anybody observes: only then are `HookEvent`s written."""

    listening: bool


class Watch(_Message, frozen=True, tag="watch"):
    """Answer in the reply slot `call_id` as soon as no call waits for its turn, or none is live at all."""

    call_id: int
    until: Literal["none_waiting", "quiet"]


class Stop(_Message, frozen=True, tag="stop"):
    """End the actor; there is nothing more for it to do."""


# --- what a caller's reply slot is given ---


class Ended(_Message, frozen=True, tag="ended"):
    """The one terminal value of a call. Behind it travels the `Reply` of its last attempt, if it had one.

    `fault` is set where the schedule ended the call; where the last attempt did, the fault is in the `Reply`.
    `granted_us` and `sent_us` are -1 if it never was.
    """

    call_id: int
    status: Status
    attempts: int
    submitted_us: int
    granted_us: int
    sent_us: int
    ended_us: int
    gave_up: GaveUp = ""
    fault: Fault | None = None


# --- the hook bus ---


class HookCall(_Message, frozen=True, tag="hook_call"):
    """Run a call's handlers: those before it, or, if it has `ended` (encoded; the `Reply` behind), those after it.
    What comes of them goes to the slot `key`, and a `Cancel` of that number ends them."""

    call_id: int
    key: int
    ended: bytes = b""


class HookAnswer(_Message, frozen=True, tag="hook_answer"):
    """What came of the handlers before a call: it may go, or it has `ended` (encoded; the `Reply` behind)."""

    call_id: int
    ended: bytes = b""


EventName: TypeAlias = Literal[
    "handling", "queued", "granted", "sent", "unsent", "retrying", "later", "ended", "barrier"
]


class HookEvent(_Message, frozen=True, tag="hook_event"):
    """Something happened in a call's life. `detail` is a status, a fault's kind, which handlers run, or empty."""

    name: EventName
    at_us: int
    call_id: int
    lane: int
    endpoint: int
    attempt: int
    detail: str = ""


_OfWorkers: TypeAlias = Ready | Lost | ConnectAttemptFailed | Down | Unsent | Sent | LimitObserved | Outcome
_Control: TypeAlias = OpenLane | OpenEndpoint | _OfWorkers | Cancel | Drain | Observe | Watch | Stop
ToScheduler: TypeAlias = CallRoute | _Control
ToEndpoint: TypeAlias = Wanted | Grant | Drop | CloseIdle | Stop
ToHookBus: TypeAlias = HookCall | HookEvent | Cancel | Drain | Stop
Message: TypeAlias = APICalling | Fault | Reply | Ended | HookAnswer | _Control | ToEndpoint | ToHookBus
"""The closed union: everything that ever crosses a channel is the encoding of one of these."""

encode = msgspec.msgpack.Encoder().encode


def encode_to_keep(message: Message) -> bytes:
    """Encode a message that will be held for long, without the spare room `encode` leaves behind its bytes."""
    return b"".join((encode(message), b""))  # a join of one would hand back the same object


decode: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
decode_for_scheduler: msgspec.msgpack.Decoder[ToScheduler] = msgspec.msgpack.Decoder(ToScheduler)
decode_for_endpoint: msgspec.msgpack.Decoder[ToEndpoint] = msgspec.msgpack.Decoder(ToEndpoint)
decode_for_hook_bus: msgspec.msgpack.Decoder[ToHookBus] = msgspec.msgpack.Decoder(ToHookBus)
decode_calling: msgspec.msgpack.Decoder[APICalling] = msgspec.msgpack.Decoder(APICalling)
decode_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
decode_grant: msgspec.msgpack.Decoder[Grant] = msgspec.msgpack.Decoder(Grant)
decode_hook_answer: msgspec.msgpack.Decoder[HookAnswer | Ended] = msgspec.msgpack.Decoder(HookAnswer | Ended)
decode_ended: msgspec.msgpack.Decoder[Ended] = msgspec.msgpack.Decoder(Ended)
