"""A bridge from trio to asyncio: a coroutine function is run in a worker thread, and what it says is read here.

`run_in_thread` starts the thread with an event loop of its own and hands each item that comes out of it to a function
of the caller's. What was sent and not yet taken is bounded in bytes: a run that is ahead of its reader waits. Nothing
of the thread outlasts the call, except code that will not end: that is abandoned after a grace, and the log says so.

Knows no provider and no call: coroutines, items and their sizes only.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

import trio

from engine.log import log

Item = TypeVar("Item")
Value = TypeVar("Value")

BUDGET_BYTES = 1024 * 1024
AGAIN_S = 0.5
"""How long a cancelled run has to clean up before it is cancelled once more."""

GRACE_S = 5.0


class CannotStart(Exception):  # a signal to the caller's own code
    """The operating system gives no further thread. Nothing of the run was begun."""


class CancelledByItself(Exception):  # a signal to the caller's own code
    """The run ended by a cancellation that did not come from here."""


class Stopped(Exception):  # a signal inside the thread, never seen by a caller
    """Nobody reads any longer: raised where the run still wants to say something."""


class Outlet(Generic[Item]):
    """Where a run in a thread puts what it has to say, in order. Made by `run_in_thread`."""

    def __init__(self, deliver: Callable[[Item, int], None], budget_bytes: int) -> None:
        self._deliver = deliver
        self._budget_bytes = budget_bytes
        self._changed = threading.Condition()
        self._waiting_bytes = 0
        self._stopped = False
        self._turn = asyncio.Lock()
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def put(self, item: Item, size: int) -> None:
        """Say `item`, which counts as `size` bytes. For coroutines of the run; waits until there is room.

        Raises:
          Stopped: nobody reads any longer.
        """
        async with self._turn:  # who waits must not be overtaken by who comes after
            while (waiter := self._claim_or_wait(item, size)) is not None:
                await waiter

    def say(self, item: Item, size: int) -> None:
        """The same for code that is no coroutine, in whatever thread: blocks that thread until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            self._claim(item, size)

    def release(self, size: int) -> None:
        """An item of this size was taken. Called by the reader."""
        with self._changed:
            self._waiting_bytes -= size
            self._wake()

    def stop(self) -> None:
        """Nothing more is wanted: whoever waits, or says more, gets `Stopped`. Called by the reader."""
        with self._changed:
            self._stopped = True
            self._wake()

    def _claim_or_wait(self, item: Item, size: int) -> asyncio.Future[None] | None:
        with self._changed:
            if self._has_room(size):
                self._claim(item, size)
                return None
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            return waiter

    def _has_room(self, size: int) -> bool:
        return self._stopped or not self._waiting_bytes or self._waiting_bytes + size <= self._budget_bytes

    def _claim(self, item: Item, size: int) -> None:
        if self._stopped:
            raise Stopped
        self._waiting_bytes += size
        self._deliver(item, size)

    def _wake(self) -> None:
        self._changed.notify_all()
        while self._waiters:
            waiter = self._waiters.popleft()
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.get_loop().call_soon_threadsafe(_fulfil, waiter)


def _fulfil(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def run_in_thread(
    main: Callable[[Outlet[Item]], Coroutine[Any, Any, Value]],
    take: Callable[[Item], Awaitable[None]],
    *,
    name: str,
    started: Callable[[], object] = lambda: None,
    budget_bytes: int = BUDGET_BYTES,
    grace_s: float = GRACE_S,
) -> Value:
    """Run `main(outlet)` under asyncio in a thread of its own, await `take(item)` for all it says, return its value.

    `name` is the thread's, for the log and for whoever looks at threads. `started` is called once it runs. `main` runs
    in a copy of this context. Items that wait to be taken hold `budget_bytes` at most, or one that alone is larger.

    Raises: `CannotStart`; what `main` raised, once all that it had said is taken; what `take` raised. A run that was
    cancelled by itself raises `CancelledByItself`.

    Cancellation, and an exception of `take`: the task of `main` is cancelled and waited for, with all its loop leaves
    behind, for `grace_s` seconds at most. Code that blocks, or that swallows every cancellation, is then left alone in
    its daemon thread, with a warning in the log; it can say nothing any more.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    run = _Run(main, name, budget_bytes)
    run.start()
    started()
    try:
        async for item, size in run.items:
            await take(item)
            run.outlet.release(size)
    except BaseException:
        with trio.CancelScope(shield=True):
            await run.stop(grace_s)
        raise
    run.join()
    return run.value()


class _Run(Generic[Item, Value]):
    """One thread, its loop and what came of it."""

    def __init__(self, main: Callable[[Outlet[Item]], Coroutine[Any, Any, Value]], name: str, budget: int) -> None:
        self._main = main
        self._token = trio.lowlevel.current_trio_token()
        self._send, self.items = trio.open_memory_channel[tuple[Item, int]](math.inf)  # bounded by the outlet
        self.outlet: Outlet[Item] = Outlet(self._deliver, budget)
        self._ended = trio.Event()
        self._guard = threading.Lock()
        self._cancelling = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._value: Value | None = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            self._send.close()
            self.items.close()
            raise CannotStart(str(error)) from None

    async def stop(self, grace_s: float) -> None:
        """Cancel it, and wait until its thread has ended, or for this long."""
        self.outlet.stop()
        with trio.move_on_after(grace_s):
            while not self._ended.is_set():
                self._cancel()  # again and again: libraries swallow one cancellation or another
                with trio.move_on_after(AGAIN_S):
                    await self._ended.wait()
        if self._ended.is_set():
            self.join()
        else:
            log.warning("a thread does not end and is abandoned", thread=self._thread.name, waited_s=grace_s)
            self._send.close()
            self.items.close()

    def _cancel(self) -> None:
        with self._guard:
            self._cancelling = True
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: it is at its end
                    self._loop.call_soon_threadsafe(self._task.cancel)

    def join(self) -> None:
        """Wait for the thread's very last instructions: it has said that it is at its end."""
        self._thread.join()
        self.items.close()

    def value(self) -> Value:
        if isinstance(self._error, asyncio.CancelledError):
            raise CancelledByItself(f"the run in {self._thread.name} was cancelled by something of its own")
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no cycle through its traceback
        return cast("Value", self._value)

    # --- in the thread ---

    def _work(self) -> None:
        try:
            self._value = asyncio.run(self._under_asyncio())
        except BaseException as error:  # noqa: BLE001  # all of it is carried over to the other thread
            self._error = error
        finally:
            self._in_trio(self._end)

    async def _under_asyncio(self) -> Value:
        with self._guard:
            if self._cancelling:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await self._main(self.outlet)

    def _deliver(self, item: Item, size: int) -> None:
        self._in_trio(self._arrived, item, size)

    def _in_trio(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # an abandoned thread may outlast trio
            self._token.run_sync_soon(function, *arguments)

    # --- in trio, called for the thread ---

    def _arrived(self, item: Item, size: int) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # nobody reads any longer
            self._send.send_nowait((item, size))

    def _end(self) -> None:
        self._ended.set()
        self._send.close()
