"""One program, from its start until nothing of it is left: its three pipes, its exit, and the way it is stopped.

Its output is read as it comes, up to a bound, however slowly it is taken: a program of Node's that ends does not wait
for a full pipe, and loses what does not fit into it. Of its errors the end is kept. On Linux its number stays taken
after its exit until all that it started has been ended, so that no signal can reach another process; where there is no
pidfd its exit sets the number free, and its group is not ended after that. `stop` is called however a run ends, and
cannot be cancelled.

Knows no agent, no lines and no chunks.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar, cast

import trio

from engine.log import log
from engine.transports.sweep import SHORTAGES, VARIABLE, Family
from engine.transports.threads import in_thread

T = TypeVar("T")

READ_BYTES = 64 * 1024
TAIL_BYTES = 64 * 1024
PIPE_BYTES = 1024 * 1024
"""The most a pipe may hold, as an unprivileged process may set it."""

_LONGEST_LINE_CUT = 1_000
_ROUNDS = 200
_LOOKS = 40
_AGAIN_S = 0.025


class Child:
    """A program that runs. Made by `start`; must be stopped.

    `exit_code` is there after `stop`: negative for a signal, None if it cannot be ended. `was_stopped`: it did not exit
    by itself. `silent`: nothing came within the time for its first line.
    """

    GRACE_S: ClassVar[float] = 5.0
    """How long it may take to exit, after its last word and again after the signal to stop."""
    ORPHANS_S: ClassVar[float] = 2.0
    """How long output is waited for after its exit: a process that it has left behind may hold the pipe open."""
    LAST_BYTES: ClassVar[int] = 8 * 1024 * 1024
    """The most that is read of what it says after its last word, however fast it says it."""

    def __init__(self, process: trio.Process, family: Family, pidfd: int | None, stop_signal: str) -> None:
        self.pid = process.pid
        self.exit_code: int | None = None
        self.was_stopped = False
        self.silent = False
        self._process = process
        self._stop_signal = signal.Signals[f"SIG{stop_signal}"]
        self._family = family
        self._pidfd = pidfd
        self._exit = trio.Event()
        self._stdin, self._stdout, self._stderr = (
            cast(trio.lowlevel.FdStream, pipe) for pipe in (process.stdin, process.stdout, process.stderr)
        )
        self._ahead: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._news, self._room = trio.Event(), trio.Event()
        self._tail = bytearray()
        self._is_cut = False
        self._left_s = math.inf
        self._left_bytes: float = math.inf
        self._is_ending = False
        self._waiting = trio.CancelScope()

    @classmethod
    async def start(
        cls, arguments: Sequence[str], *, env: Mapping[str, str], cwd: str, stop_signal: str, first_within_s: float
    ) -> Child:
        """Start a program in a session of its own, with this environment and the marker, and nothing else.

        `first_within_s` is how long its first line may take. Cancellation leaves nothing behind.

        Raises:
          OSError: it could not be started; or there is no room for what it takes to end it, and it was ended at once.
        """
        token = secrets.token_hex(16)
        marker = f"{env[VARIABLE]}:{token}" if VARIABLE in env else token
        try:
            process = await trio.lowlevel.open_process(
                list(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**env, VARIABLE: marker},
                cwd=cwd or None,
                start_new_session=True,
            )
        except RuntimeError as error:  # it starts programs in a thread, and there is none to spare
            raise OSError(errno.EAGAIN, "no thread can be started") from error
        try:
            child = cls(process, Family(process.pid, token), _pidfd(process.pid), stop_signal)
        except OSError:
            with trio.CancelScope(shield=True):
                await _undo(process)
            raise
        _widen(child._stdout)
        child._left_s = first_within_s
        return child

    # --- while it runs ---

    async def write(self, prompt: bytes, written: Callable[[], None]) -> None:
        """Write all of its input and close it; then call `written`. That it does not read it is its own affair."""
        with contextlib.suppress(trio.BrokenResourceError):
            await self._stdin.send_all(prompt)
        self._stdin.close()
        written()

    async def read(self) -> bytes:
        """Some of its output; empty at the end, or when what it may take is used up. Only beside `listen`.

        Only the time that is spent waiting here counts, so that a slow reader loses nothing.
        """
        if self._left_bytes <= 0:
            return b""
        began = trio.current_time()
        if self._ahead:
            await trio.lowlevel.checkpoint()
        else:
            self._news = trio.Event()
            with trio.CancelScope(deadline=began + self._left_s) as self._waiting:
                await self._news.wait()
            self._left_s -= trio.current_time() - began
            # What came in the very moment in which the time was up came in time.
            self.silent = self._waiting.cancelled_caught and not self._is_ending and not self._ahead
        data = self._ahead.popleft() if self._ahead else b""
        self._ahead_bytes -= len(data)
        self._left_bytes -= len(data)
        self._room.set()
        return data

    async def listen(self, most_bytes: int) -> None:
        """Take its output as it comes, to its end, for `read`; not more than about so much that nobody has read."""
        while True:
            data = bytes(await self._stdout.receive_some(READ_BYTES))
            self._ahead.append(data)
            self._ahead_bytes += len(data)
            self._news.set()
            if not data:
                return
            while self._ahead_bytes >= most_bytes:
                self._room = trio.Event()
                await self._room.wait()

    def spoke(self) -> None:
        """Its first line has come: from here on only others bound how long it may be silent."""
        if not self._is_ending:
            self._left_s = math.inf

    def expect_end(self, within_s: float, within_bytes: float | None = None) -> None:
        """There is not to come more than this. Who takes no pause is bounded by the bytes, who does by the seconds."""
        self._is_ending = True
        self._left_s = min(self._left_s, within_s)
        self._left_bytes = min(self._left_bytes, self.LAST_BYTES if within_bytes is None else within_bytes)
        self._waiting.deadline = min(self._waiting.deadline, trio.current_time() + self._left_s)

    def expect_more(self) -> None:
        """It goes on after all, unless it has exited: what it was given to come to its end is void."""
        if not self._exit.is_set():
            self._is_ending = False
            self._left_s = math.inf
            self._left_bytes = math.inf

    async def watch(self) -> None:
        """Until its exit; then what it has written is read to its end, and no more than that."""
        await self._notice_exit()
        self.expect_end(self.ORPHANS_S, PIPE_BYTES + self._ahead_bytes)

    async def grace(self) -> None:
        """Until it has exited by itself, but not for long: what it had to say it has said. Only beside `watch`."""
        with trio.move_on_after(max(0, min(self._left_s, self.GRACE_S))):
            await self._exit.wait()

    async def drain_errors(self) -> None:
        """Read what it writes to its standard error, and keep the end of it."""
        while data := await self._stderr.receive_some(READ_BYTES):
            self._tail += data
            if len(self._tail) > 2 * TAIL_BYTES:
                del self._tail[:-TAIL_BYTES]
                self._is_cut = True

    def stderr_tail(self) -> str:
        """The end of what it wrote to its standard error, at most 64 KiB, from the beginning of a line."""
        tail = bytes(self._tail[-TAIL_BYTES:])
        if self._is_cut or len(self._tail) > TAIL_BYTES:
            head, _, rest = tail.partition(b"\n")
            tail = rest or head[_LONGEST_LINE_CUT:]  # half a key is none that could be recognised
        return tail.decode("utf-8", "replace")

    async def look_around(self) -> None:
        """Take note of what it has started, for as long as that can be told from its parents.

        Where this process has no room to look, it is tried again for a second; then the log says so.
        """
        for _ in range(_LOOKS):
            with contextlib.suppress(OSError):
                await in_thread(self._family.look)
                return
            await trio.sleep(_AGAIN_S)
        log.warning("what a program has started could not be looked for: no file descriptors are left", pid=self.pid)

    # --- its end ---

    async def stop(self) -> None:
        """End it and all that it started, reap it and close its pipes. Once; shielded from cancellation.

        Takes no time if it has exited and left nothing, up to `GRACE_S` if it takes no notice, and a little more for
        what it has left, or where there are no file descriptors left to look for it. What it still writes is read, so
        that it can exit, and its output thrown away.
        """
        with trio.CancelScope(shield=True):
            try:
                self._stdin.close()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._throw_away)
                    nursery.start_soon(self.drain_errors)
                    nursery.start_soon(self._notice_exit)
                    await self._end()
                    nursery.cancel_scope.cancel()
            finally:
                # First the pipes: to look for what is left takes a descriptor.
                self._stdout.close()
                self._stderr.close()
                await self._sweep()
                await self._reap()

    async def _notice_exit(self) -> None:
        if not self._exit.is_set():
            if self._pidfd is None:
                await self._process.wait()
            else:  # it is not reaped yet
                await trio.lowlevel.wait_readable(self._pidfd)
            self._exit.set()

    async def _end(self) -> None:
        await self.look_around()
        if not self._exit.is_set():
            self.was_stopped = True
            self._signal(self._stop_signal)
            with trio.move_on_after(self.GRACE_S):
                await self._exit.wait()
        if not self._exit.is_set():
            await self.look_around()
            self._signal(signal.SIGKILL)
        if self._pidfd is not None or not self._exit.is_set():  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with trio.move_on_after(self.GRACE_S):
            await self._exit.wait()

    async def _sweep(self) -> None:
        quiet = 0
        for _ in range(_ROUNDS):
            with contextlib.suppress(OSError):
                quiet = 0 if await in_thread(self._family.kill) else quiet + 1
                if quiet >= self._family.quiet_looks:
                    break
            await trio.sleep(0.01)
        else:
            log.warning("a program left processes that cannot be ended, or be looked for", pid=self.pid)

    async def _reap(self) -> None:
        if not self._exit.is_set():  # something went wrong before
            self._signal(signal.SIGKILL)
            with trio.move_on_after(self.GRACE_S):
                await self._notice_exit()
        if self._exit.is_set():
            self.exit_code = await self._process.wait()
        else:
            log.warning("a program cannot be ended", pid=self.pid)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is None:
            self._process.send_signal(number)
        else:  # not through the process object, which would reap it and set its number free
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    async def _throw_away(self) -> None:
        while await self._stdout.receive_some(READ_BYTES):
            pass

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"


def _widen(pipe: trio.lowlevel.FdStream) -> None:
    """Let a pipe hold as much as it may: what a program wrote last is then in it when the program is gone."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # the user's pipes hold too much already
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _pidfd(pid: int) -> int | None:
    """What tells of a process's exit without reaping it; None where there is no such thing.

    Raises:
      OSError: there is no room for it.
    """
    if sys.platform == "linux":
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
    return None


async def _undo(process: trio.Process) -> None:
    """End a program that has only just been started, and all of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            await pipe.aclose()
    await process.wait()
