"""Reply slots: where the one terminal value of a call is put, and found, whichever comes first.

A slot is a channel for one item. It holds the item even if it comes before anybody waits, wakes everybody who does, and
may be read again later. `ReplySlots` is the address book by which the scheduler and the hook bus reach the slot of a
call; a slot leaves it when its item is put.
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
    """One call's slot. `progress` is set while the call is under way; `mail` is put once, at its end."""

    __slots__ = ("__weakref__", "_on_end", "_woken", "mail", "progress")

    def __init__(self) -> None:
        self.progress = Progress.PENDING
        self.mail: Mail | None = None
        self._woken: trio.Event | None = None
        self._on_end: Callable[[ReplySlot], None] | None = None

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
        if self.mail is not None:
            await trio.lowlevel.checkpoint()
        while self.mail is None:
            await self.wait_moved()
        return self.mail

    def call_at_end(self, on_end: Callable[[ReplySlot], None] | None) -> None:
        """Have `on_end` called once, synchronously, when the value is put; at once if it has been. None: nobody."""
        if self.mail is not None and on_end is not None:
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
        assert self.mail is None, "a call ends once"
        self.mail = mail
        self.progress = Progress.ENDED
        self.wake()
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self)


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
        if slot is not None and slot.mail is None:
            slot.put(mail)

    def forget(self, call_id: int) -> None:
        """Whoever waited does not any more."""
        self._slots.pop(call_id, None)

    @property
    def waiters(self) -> int:
        """How many tasks wait for any of them."""
        return sum(slot.waiters for slot in self._slots.values())
