"""What an endpoint actor asks of the outside: a way to open connections, and to exchange one call for one answer.

Rules for a transport: whatever a provider or the network does is an `Answer`, never an exception; the instant the
request has left is reported as it happens; a connection serves one call at a time. `engine.transports` holds the real
ones.

Knows no provider and no HTTP: a call is a body and a path, an answer is bytes with a verdict.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from actors.messages import APICalling, Charge, Observed, Refused, Reply, Verdict


class Answer(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ended, as the transport saw it.

    `input_tokens` and `output_tokens` count only with `charge="usage"`. `keep`: the connection can serve another call.
    `barrier`, `hint_us`, `exempt`, `refused` and those of polls are those of `actors.messages.Outcome`. `observed`
    is what its head says of the provider's limits, unless the attempt was told of that already.
    """

    verdict: Verdict
    charge: Charge
    reply: Reply
    keep: bool
    input_tokens: int = 0
    output_tokens: int = 0
    barrier: bool = False
    hint_us: int | None = None
    exempt: bool = False
    refused: Refused = ""
    observed: tuple[Observed, ...] = ()
    poll_lane: int = 0
    poll_wait_us: int = 0
    poll: bytes = b""


class Attempt(Protocol):
    """The worker's ear, given to a connection for one exchange: `begin` and `sent` are called once, in this order, then
    `observed`, `heard` and `hand_over` as the answer comes."""

    def begin(self) -> None:
        """Called right before the first byte is written: from here on bytes may have left.

        Raises:
          TooLate: the grant has expired. Write nothing, let the exception through; the connection stays good.
        """

    def sent(self) -> None:
        """Called when the last byte of the request has been handed to the kernel: this instant is the call's stamp."""

    def observed(self, observed: tuple[Observed, ...]) -> None:
        """Called when the head of a stream says how its provider's limits stand: its end may be far."""

    def heard(self) -> None:
        """Called when a part of the answer has come: bytes, or of a stream events. Bounds the silence between them."""

    async def hand_over(self, piece: bytes) -> None:
        """Called with encoded events of a stream for whoever reads it. Waits while he has enough to read; a checkpoint
        only then. Nothing is tried again once something was handed over to a reader."""


class Connection(Protocol):
    """An open connection to a provider: one place in flight, used by one call at a time."""

    def usable(self) -> bool:
        """Whether the other side still holds the connection open, looked at without waiting, right before use."""

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Send one call and read its whole answer. Whatever the provider or the network does is an `Answer`.

        A connection that breaks before a byte of the request was taken raises `ConnectFailed` (nothing was sent, even
        if `begin` was called); after that the answer's verdict is ``unknown``. Cancellation: passes through; the caller
        closes the connection.
        """

    async def aclose(self) -> None:
        """Close without ceremony and without waiting for the other side; safe to call twice and when cancelled."""


class Transport(Protocol):
    """What an endpoint actor needs to know of the outside: how to open a connection there.

    One that can know what is wrong with a call before it is queued has a ``check(body)`` that raises it; one that runs
    programs says as `children` how many run.
    """

    async def connect(self) -> Connection:
        """Open one connection, TLS included.

        Raises:
          ConnectFailed: it could not be opened, and why; nothing was sent.
        """


class TooLate(Exception):  # a signal between an attempt and its worker, never seen by a caller
    """The grant's time to begin has passed before a byte was written."""
