"""What a program has started and left behind, found in /proc and killed.

Agents start their tools in sessions of their own, where no signal to a process group reaches them. They are known by a
marker that every program of a run has in its environment, by the session of the run's first process, and by their
parents: whoever has emptied the environment of a child is found for as long as its parent lives, so one looks before
anybody is sent a signal. Who has emptied its environment and left the session, and whose parent had ended before one
looked, is not found: nothing leads to it.

A look is over when no number was given to a new process since: who forks and ends all the time is pursued by its
numbers. Where there is no /proc (macOS, BSD) nothing is found, and at most the process group is ended, as
`engine.transports.child` says. Everything here is synchronous, for a worker thread. Knows no agent and no transport.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

VARIABLE = "PENSTOCK_RUN"
"""The environment variable with the marker. An agent that runs an agent hands its own markers on, joined by colons."""

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What keeps this process from looking, and says nothing of what there is."""

_PARENT, _SESSION, _FLAGS, _STARTED, _ENV_START, _ENV_END = 1, 3, 6, 19, 47, 48
_GONE = ("Z", "X")
_HAS_NONE = 0x0020_0000 | 0x4  # a thread of the kernel's, or one that is at its end
_PURSUITS = 2_000
_MOST_NEW = 10_000
_LOOKS_UNTOLD = 3
_IN_EXECVE = 40
_MOMENT_S = 0.000_25


class Seen(NamedTuple):
    """One process: `started` in clock ticks since boot, which tells it from a later one of the same number.

    `has_environment`: its environment is not empty, also where it reads as empty: in the middle of execve.
    """

    pid: int
    state: str
    parent: int
    session: int
    started: int
    has_environment: bool = False

    @property
    def is_alive(self) -> bool:
        return self.state not in _GONE


class Family:
    """The processes that descend from `leader`, the first of a session of its own, or have `marker` in their
    environment.

    Made right after the leader was started. What was once seen of the family stays known, whatever becomes of its
    parents. This process is never a part of it. `quiet_looks` is how many times in a row nothing must be found.

    Raises:
      OSError: this process has no room to look (`SHORTAGES`). So do `look` and `kill`, which may be called again.
    """

    def __init__(self, leader: int, marker: str) -> None:
        self._leader = _seen(leader)
        self._marker = marker.encode()
        self._known: dict[int, int] = {}
        self._is_sure = False
        is_told = self._leader is not None and 0 <= _newest() - leader < _MOST_NEW
        self.quiet_looks = 1 if is_told else _LOOKS_UNTOLD

    def look(self) -> list[Seen]:
        """Those that there are now, the leader apart; also what has ended and is ours to be reaped."""
        return self._round(lambda seen: None)

    def kill(self) -> int:
        """End those that there are now, each as soon as it is seen. How many there were: with none, nothing of the
        family is left."""
        met: set[int] = set()

        def end(seen: Seen) -> None:
            if seen.pid in met:
                return
            met.add(seen.pid)
            if seen.is_alive:
                _kill(seen)
            else:  # where orphans are ours: as the first process of a container
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(seen.pid, os.WNOHANG)

        for seen in self._round(end):
            if seen.is_alive or seen.parent == os.getpid():
                end(seen)
        return len(met) + (not self._is_sure)

    def _round(self, meet: Callable[[Seen], None]) -> list[Seen]:
        """Look through all of them, the newest first; who is known by himself is met at once, before he can move on."""
        leader = self._leader
        self._is_sure = True
        if leader is None:
            return []
        now: dict[int, Seen] = {}
        members: set[int] = set()
        newest, numbers = _newest(), _numbers()
        for _ in range(_PURSUITS):
            for number in numbers:
                self._look_at(number, now, members, meet)
            before, newest = newest, _newest()
            if newest == before:
                break
            numbers = range(newest, before, -1) if 0 < newest - before < _MOST_NEW else _numbers()
        else:
            self._is_sure = False
        _add_descendants(now, members)
        members.discard(leader.pid)
        self._known = {pid: now[pid].started for pid in members}
        return [now[pid] for pid in members]

    def _look_at(self, number: int, now: dict[int, Seen], members: set[int], meet: Callable[[Seen], None]) -> None:
        leader = self._leader
        seen = _seen(number)
        if leader is None or seen is None or seen.started < leader.started or _is_ours(number):
            return
        now[number] = seen
        if self._is_member(seen):
            members.add(number)
            if number != leader.pid and (seen.is_alive or seen.parent == os.getpid()):
                meet(seen)

    def _is_member(self, seen: Seen) -> bool:
        leader = self._leader
        if leader is None:
            return False
        if seen.pid == leader.pid:
            return seen.started == leader.started
        if self._known.get(seen.pid) == seen.started or seen.session == leader.pid:
            return True
        for _ in range(_IN_EXECVE):
            environment = _read(f"/proc/{seen.pid}/environ")
            if environment is None:  # it has ended, or is another user's
                return False
            if environment:
                return self._marker in environment
            again = _seen(seen.pid)
            if again is None or again.started != seen.started or not again.has_environment:
                return False
            time.sleep(_MOMENT_S)
        self._is_sure = False  # it is looked at again
        return False


def is_supported() -> bool:
    """Whether this system tells of its processes."""
    return os.path.exists("/proc/self/stat")


def _add_descendants(now: dict[int, Seen], members: set[int]) -> None:
    growing = True
    while growing:
        found = {pid for pid, seen in now.items() if seen.parent in members and pid not in members}
        members |= found
        growing = bool(found)


def _numbers() -> Iterable[int]:
    return sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)


def _newest() -> int:
    """The number that was given last to a process or a thread; 0 where that is not told."""
    found = (_read("/proc/loadavg") or b"").split()
    return int(found[-1]) if found else 0


def _is_ours(number: int) -> bool:
    """Whether this process has it, or one of its threads."""
    return number == os.getpid() or os.path.exists(f"/proc/self/task/{number}")


def _seen(pid: int) -> Seen | None:
    # The name stands in parentheses, and may hold anything itself.
    fields = (_read(f"/proc/{pid}/stat") or b"").rpartition(b")")[2].split()
    if not fields:
        return None
    start, end = (int(value) for value in fields[_ENV_START : _ENV_END + 1])  # both 0 in the middle of execve
    has_environment = not int(fields[_FLAGS]) & _HAS_NONE and (start < end or not end)
    state, parent, session, started = fields[0].decode(), *(int(fields[at]) for at in (_PARENT, _SESSION, _STARTED))
    return Seen(pid, state, parent, session, started, has_environment)


def _read(path: str) -> bytes | None:
    """What stands there; None if it has gone or is another user's.

    Raises:
      OSError: there is no room for a descriptor, one of `SHORTAGES`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            parts = []
            while part := file.read(64 * 1024):
                parts.append(part)
            return b"".join(parts)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        return None


def _kill(seen: Seen) -> None:
    now = _seen(seen.pid)
    if now is not None and now.started == seen.started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(seen.pid, signal.SIGKILL)
