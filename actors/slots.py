"""Reply slots, where the one terminal value of a call is put, and stream buffers, through which its events go before.

A slot is a channel for one item. It holds the item even if it comes before anybody waits, wakes everybody who does, and
may be read again later. `ReplySlots` is the address book by which the scheduler and the hook bus reach the slot of a
call; a slot leaves it when its item is put. A stream buffer is a channel from a worker to the one who reads a stream:
what comes faster than it is read lies there together, and once that is enough the worker waits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

import trio

from actors.messages import Mail


class Progress(enum.IntEnum):
    """How far a call has come, as far as its slot has been told."""

    PENDING = 0
    IN_LINE = 1
    SUBMITTED = 2
    QUEUED = 3
    GRANTED = 4
    SENT = 5
    ENDED = 6


class ReplySlot:
    """One call's slot. `progress` is set while the call is under way; `mail` is put once, at its end.

    Mail can be shown before it is put: then it can be looked at, and changed, while those who wait wait on.
    """

    __slots__ = ("__weakref__", "_on_end", "_woken", "mail", "progress")

    def __init__(self) -> None:
        self.progress = Progress.PENDING
        self.mail: Mail | None = None
        self._woken: trio.Event | None = None
        self._on_end: Callable[[ReplySlot], None] | None = None

    @property
    def over(self) -> bool:
        """Whether the terminal value was put."""
        return self.progress is Progress.ENDED

    @property
    def waiters(self) -> int:
        """How many tasks wait for this slot."""
        return self._woken.statistics().tasks_waiting if self._woken is not None else 0

    async def wait_moved(self) -> None:
        """Wait until the slot is told anything. A checkpoint; cancellation ends only this wait."""
        if self._woken is None:
            self._woken = trio.Event()
        await self._woken.wait()

    async def wait_ended(self) -> Mail:
        """Wait for the terminal value. A checkpoint; cancellation ends only this wait, never the call."""
        if self.over:
            await trio.lowlevel.checkpoint()
        while not self.over:
            await self.wait_moved()
        assert self.mail is not None, "it is put with its mail"
        return self.mail

    def call_at_end(self, on_end: Callable[[ReplySlot], None] | None) -> None:
        """Have `on_end` called once, synchronously, when the value is put; at once if it has been. None: nobody."""
        if self.over and on_end is not None:
            on_end(self)
        else:
            self._on_end = on_end

    def wake(self) -> None:
        """Wake whoever waits for the slot to move."""
        if self._woken is not None:
            woken, self._woken = self._woken, None
            woken.set()

    def put(self, mail: Mail) -> None:
        """Put the terminal value. A second one is a bug of the caller's."""
        assert not self.over, "a call ends once"
        self.mail = mail
        self.progress = Progress.ENDED
        self.wake()
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self)


STREAM_BYTES = 128 * 1024
"""How much of a stream may lie unread before the worker stops reading its socket."""


class StreamBuffer:
    """Between the worker that serves one call's stream and the task that reads it.

    `put` and `take` never wait. `taken_over` says that something was put, so that the attempt cannot be made again.
    """

    __slots__ = ("_asleep", "_bytes", "_closed", "_pieces", "_reader", "_room", "taken_over")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._closed = False
        # There is one reader, and he is woken for nearly every event: a parking lot for him costs a tenth of it.
        self._reader: trio.lowlevel.Task | None = None
        self._asleep = False
        self._room = trio.lowlevel.ParkingLot()
        self.taken_over = False

    @property
    def full(self) -> bool:
        """Whether the worker is to wait before it reads on."""
        return self._bytes >= STREAM_BYTES

    def put(self, piece: bytes) -> None:
        """Put what has come; one piece may always go over the bound."""
        self.taken_over = True
        if self._closed:
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self.wake()

    async def wait_room(self) -> None:
        """Wait until there is room. A checkpoint only if there is none."""
        while self.full:
            await self._room.park()

    def take(self) -> list[bytes]:
        """All that has come since the last time."""
        pieces, self._pieces, self._bytes = self._pieces, [], 0
        if self._room:
            self._room.unpark_all()
        return pieces

    @property
    def awaited(self) -> bool:
        """Whether a reader waits for news, or was woken and has not had his turn."""
        return self._reader is not None

    async def wait_news(self) -> None:
        """Wait until something is put, or `wake` is called. A checkpoint; only for one reader."""
        self._reader = trio.lowlevel.current_task()
        self._asleep = True
        try:
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        finally:
            self._reader = None

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._asleep = False
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Have the reader look again."""
        if self._asleep and self._reader is not None:
            self._asleep = False
            trio.lowlevel.reschedule(self._reader)

    def close(self) -> None:
        """Nobody reads any more: what is here and what still comes is dropped. A worker that waits for room waits on,
        for the end of its attempt: it is not to read a stream that nobody wants."""
        self._closed = True
        self._pieces = []
        self.wake()


class ReplySlots:
    """The slots of all calls that have not ended."""

    def __init__(self) -> None:
        self._slots: dict[int, ReplySlot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._slots))

    def add(self, call_id: int, slot: ReplySlot) -> None:
        """From now on mail for `call_id` goes to `slot`."""
        slot.progress = Progress.SUBMITTED
        self._slots[call_id] = slot

    def get(self, call_id: int) -> ReplySlot | None:
        """The slot of a call that has not ended."""
        return self._slots.get(call_id)

    def advance(self, call_id: int, progress: Progress) -> None:
        """Tell a call's slot how far it has come; nobody may be left to tell."""
        slot = self._slots.get(call_id)
        if slot is not None:
            slot.progress = progress

    def deliver(self, call_id: int, mail: Mail) -> None:
        """Put a call's terminal value into its slot and forget the slot."""
        slot = self._slots.pop(call_id, None)
        if slot is not None and not slot.over:
            slot.put(mail)

    def forget(self, call_id: int) -> None:
        """Whoever waited does not any more."""
        self._slots.pop(call_id, None)

    @property
    def waiters(self) -> int:
        """How many tasks wait for any of them."""
        return sum(slot.waiters for slot in self._slots.values())
