"""What a program has started and left behind, found in /proc and killed.

Agents start their tools in sessions of their own, where no signal to a process group reaches them. They are known by a
marker that every program of a run has in its environment, by the session of the run's first process, and by their
parents: whoever has emptied the environment of a child is found for as long as its parent lives, so one looks before
anybody is sent a signal. Who has emptied its environment and left the session, and whose parent had ended before one
looked, is not found: nothing leads to it.

Where there is no /proc (macOS, BSD) nothing is found, and at most the process group is ended, as
`engine.transports.child` says. Everything here is synchronous, for a worker thread. Knows no agent and no transport.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple

VARIABLE = "PENSTOCK_RUN"
"""The environment variable with the marker. An agent that runs an agent hands its own markers on, joined by colons."""

_PARENT, _SESSION, _STARTED = 1, 3, 19
_GONE = ("Z", "X")


class Seen(NamedTuple):
    """One process: `started` in clock ticks since boot, which tells it from a later one of the same number."""

    pid: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def is_alive(self) -> bool:
        return self.state not in _GONE


class Family:
    """The processes that descend from `leader`, the first of a session of its own, or have `marker` in their
    environment.

    Made right after the leader was started. What was once seen of the family stays known, whatever becomes of its
    parents. This process is never a part of it.
    """

    def __init__(self, leader: int, marker: str) -> None:
        self._leader = _seen(leader)
        self._marker = marker.encode()
        self._known: dict[int, int] = {}

    def look(self) -> list[Seen]:
        """Those that there are now, the leader apart; also what has ended and is ours to be reaped."""
        if self._leader is None:
            return []
        now = {seen.pid: seen for seen in _all() if seen.started >= self._leader.started}
        now.pop(os.getpid(), None)
        members = {pid for pid, seen in now.items() if self._is_member(seen)}
        growing = True
        while growing:
            found = {pid for pid, seen in now.items() if seen.parent in members and pid not in members}
            members |= found
            growing = bool(found)
        members.discard(self._leader.pid)
        self._known = {pid: now[pid].started for pid in members}
        return [now[pid] for pid in members]

    def kill(self) -> int:
        """End those that there are now, at once. How many there were: with none, nothing of the family is left."""
        count = 0
        for seen in self.look():
            if seen.is_alive:
                count += 1
                _kill(seen)
            elif seen.parent == os.getpid():  # where orphans are ours: as the first process of a container
                count += 1
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(seen.pid, os.WNOHANG)
        return count

    def _is_member(self, seen: Seen) -> bool:
        leader = self._leader
        if leader is None:
            return False
        if seen.pid == leader.pid:
            return seen.started == leader.started
        if self._known.get(seen.pid) == seen.started or seen.session == leader.pid:
            return True
        try:
            with open(f"/proc/{seen.pid}/environ", "rb") as file:
                return self._marker in file.read()
        except OSError:  # it has ended, or is another user's
            return False


def is_supported() -> bool:
    """Whether this system tells of its processes."""
    return os.path.exists("/proc/self/stat")


def _all() -> list[Seen]:
    return [seen for name in os.listdir("/proc") if name.isdecimal() and (seen := _seen(int(name))) is not None]


def _seen(pid: int) -> Seen | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name stands in parentheses, and may hold anything itself.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Seen(pid, fields[0].decode(), int(fields[_PARENT]), int(fields[_SESSION]), int(fields[_STARTED]))


def _kill(seen: Seen) -> None:
    now = _seen(seen.pid)
    if now is not None and now.started == seen.started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(seen.pid, signal.SIGKILL)
