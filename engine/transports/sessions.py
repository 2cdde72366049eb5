"""One run at a time for each session: two that go on with the same one at once would each spoil what the other keeps.

A run that resumes a session waits for its turn; one that begins a new session has it as soon as its name is known.
Whatever account or engine of this trio run asks, its program's sessions are the same; what another process is at is
not known.

Knows no process and no agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

_of_programs: trio.lowlevel.RunVar[dict[str, Sessions]] = trio.lowlevel.RunVar("penstock_sessions")


def sessions_of(program: str) -> Sessions:
    """The sessions of one program in this trio run."""
    try:
        known = _of_programs.get()
    except LookupError:
        known = {}
        _of_programs.set(known)
    return known.setdefault(program, Sessions())


class Sessions:
    """Who is at which session. What nobody is at takes no room."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @contextlib.asynccontextmanager
    async def turn(self, resumed: str | None) -> AsyncIterator[Turn]:
        """A run's turn at the session that it goes on with, if it does with one, until the block is left.

        Waits for those that came before, in their order. Cancellation passes through, and nothing is kept.
        """
        turn = Turn(self)
        try:
            if resumed:
                await turn.wait_for(resumed)
            yield turn
        finally:
            turn.end()

    def __len__(self) -> int:
        return len(self._locks)

    def lock_of(self, name: str) -> trio.Lock:
        """The lock of a session."""
        return self._locks.setdefault(name, trio.Lock())

    def drop(self, name: str) -> None:
        """A session's lock may have no holder any more."""
        if name in self._locks and not self._locks[name].locked():
            del self._locks[name]


class Turn:
    """The sessions that one run is at. Made by `Sessions.turn`; of one task."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held: dict[str, trio.Lock] = {}

    async def wait_for(self, name: str) -> None:
        """Have this session, once nobody else is at it."""
        lock = self._sessions.lock_of(name)
        try:
            await lock.acquire()
            self._held[name] = lock
        finally:
            self._sessions.drop(name)

    def claim(self, name: str) -> None:
        """Have the session that the run turns out to be at. If another run is at it, too, it is too late to wait."""
        if name and name not in self._held:
            lock = self._sessions.lock_of(name)
            if not lock.locked():
                lock.acquire_nowait()
                self._held[name] = lock

    def end(self) -> None:
        """Let the next ones have theirs."""
        for name, lock in self._held.items():
            lock.release()
            self._sessions.drop(name)
        self._held.clear()
