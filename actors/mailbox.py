"""Mailboxes: how one actor is told something, and the places that bound how much can wait to be told.

Rules: an item is a piece of mail, a pair of encoded messages (see `messages`). Control mail never waits, is never
refused and is read before submitted calls; submitted calls are bounded by the lane's places, which submitters take
before they write. A mailbox that closes rejects what it holds and what still comes: nobody waits for an answer from a
box that nobody empties.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import msgspec
import trio

from actors.clock import trio_deadline
from actors.errors import ShuttingDown
from actors.messages import Mail


class MailboxStatistics(msgspec.Struct, frozen=True):
    """What lies in a mailbox now, and what has passed through it."""

    control: int
    submitted: int
    delivered: int
    rejected: int
    closed: bool


class Mailbox:
    """The one way to reach an actor. Any task of the loop may write; only the actor reads.

    `reject` is called, synchronously, with every piece of mail that will never be read. `express`, if set, is offered
    control mail with something behind it before it is put in, and says whether it took it: so a grant reaches a resting
    worker without waking the actor.
    """

    def __init__(self, name: str, reject: Callable[[Mail], None]) -> None:
        self.name = name
        self.express: Callable[[Mail], bool] | None = None
        self._reject = reject
        self._post, self._control = trio.open_memory_channel[Mail](math.inf)
        self._submit, self._submitted = trio.open_memory_channel[Mail](math.inf)
        self._control_held = 0
        self._submitted_held = 0
        self._delivered = 0
        self._rejected = 0
        self._parked = False
        self._closed = False

    def post(self, head: bytes, rest: bytes = b"") -> None:
        """Write control mail."""
        if self._closed:
            self._turn_away((head, rest))
            return
        if rest and self.express is not None and self.express((head, rest)):
            self._delivered += 1
            return
        self._parked = False
        self._control_held += 1
        self._post.send_nowait((head, rest))

    def submit(self, head: bytes) -> None:
        """Write a submitted call, whose place the writer has taken."""
        if self._closed:
            self._turn_away((head, b""))
        elif self._parked:
            # The reader waits at the control channel, and both channels are empty: the order is the same.
            self.post(head)
        else:
            self._submitted_held += 1
            self._submit.send_nowait((head, b""))

    async def receive(self, until_us: int | None = None) -> Mail | None:
        """The next piece of mail, or None at `until_us`. A checkpoint only if it has to wait."""
        mail = self.receive_nowait()
        if mail is not None:
            return mail
        self._parked = True
        try:
            if until_us is None:
                mail = await self._control.receive()
            else:
                with trio.CancelScope(deadline=trio_deadline(until_us)):
                    mail = await self._control.receive()
        finally:
            self._parked = False
        if mail is not None:
            self._control_held -= 1
            self._delivered += 1
        return mail

    def receive_nowait(self) -> Mail | None:
        """The next piece of mail that is here already: control before submitted calls."""
        if self._control_held:
            self._control_held -= 1
            self._delivered += 1
            return self._control.receive_nowait()
        return self.receive_submitted_nowait()

    def receive_submitted_nowait(self) -> Mail | None:
        """The next submitted call that is here already, whatever control mail waits."""
        if not self._submitted_held:
            return None
        self._submitted_held -= 1
        self._delivered += 1
        return self._submitted.receive_nowait()

    def close(self) -> None:
        """Take no more mail, and reject what is inside. Idempotent."""
        if self._closed:
            return
        while (mail := self.receive_nowait()) is not None:
            self._delivered -= 1
            self._turn_away(mail)
        self._closed = True
        self.express = None
        for channel in (self._post, self._control, self._submit, self._submitted):
            channel.close()

    def statistics(self) -> MailboxStatistics:
        """A frozen copy of the counts."""
        return MailboxStatistics(
            self._control_held, self._submitted_held, self._delivered, self._rejected, self._closed
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._control_held} control, {self._submitted_held} submitted"
        return f"<Mailbox {self.name}: {state}>"

    def _turn_away(self, mail: Mail) -> None:
        self._rejected += 1
        self._reject(mail)


class _Waiter:
    """Somebody in line for a place; `served` once it is his."""

    __slots__ = ("called", "served")

    def __init__(self) -> None:
        self.called = trio.Event()
        self.served = False


class Places:
    """The places of one queue: taken by whoever submits, at once or in the order of asking; freed by the scheduler."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.taken = 0
        self._line: deque[_Waiter] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many submitters wait for a place."""
        return len(self._line)

    def take_nowait(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self.taken >= self.capacity or self._line or self._closed:
            return False
        self.taken += 1
        return True

    async def take(self) -> None:
        """Take a place, waiting in line for it. A checkpoint; being cancelled leaves the line and takes no place.

        Raises:
          ShuttingDown: the queue was closed before there was a place.
        """
        waiter = _Waiter()
        if self.take_nowait():
            waiter.served = True
            waiter.called.set()
        elif not self._closed:
            self._line.append(waiter)
        else:
            waiter.called.set()
        try:
            await waiter.called.wait()
        except BaseException:
            if waiter.served:
                self.free()
            elif waiter in self._line:
                self._line.remove(waiter)
            raise
        if not waiter.served:
            raise ShuttingDown("the engine takes no more calls; nothing was sent", lane=self.name)

    def free(self) -> None:
        """A call has left the queue: whoever is next in line has its place."""
        self.taken -= 1
        while self.taken < self.capacity and self._line:
            waiter = self._line.popleft()
            self.taken += 1
            waiter.served = True
            waiter.called.set()

    def exceed(self) -> None:
        """A call has come back: it needs no place, but new ones wait until the queue is below its capacity again."""
        self.taken += 1

    def close(self) -> None:
        """No place will be free again: whoever waits is told."""
        self._closed = True
        while self._line:
            self._line.popleft().called.set()
