"""How an answer of the portal's loop is waited for: by a thread that blocks, and by a task of an asyncio loop.

A request is answered once, in the loop's thread. Whoever waits and is interrupted (Ctrl-C, a cancelled task) has the
request given up, and goes on only when it has come to its end, so that nothing of it is left behind; a second Ctrl-C
goes at once. What is ready for one asyncio loop at the same time is handed to it together: a wake-up is what costs.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Generic, TypeVar, cast

import trio

from actors.slots import Progress
from engine.call import Call
from engine.errors import PenstockError, ShuttingDown, UsageError
from engine.opening import current_engine, make_current
from engine.portal.loop import PortalLoop, context_here

T = TypeVar("T")


# --- what is asked ---


class Request(Generic[T]):
    """Run a function in the loop's thread, synchronously, and answer with what it returns or raises."""

    __slots__ = ("_args", "_function", "_loop", "answered", "context", "error", "value", "wake")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.context: Context = context_here()
        self.answered = False
        self.value: T | None = None
        self.error: BaseException | None = None
        self.wake: Callable[[], None] = _nobody
        self._function = function
        self._args = args
        self._loop: PortalLoop | None = None

    def begin(self, loop: PortalLoop) -> None:
        """Run it."""
        if self.answered:
            return
        self._loop = loop
        try:
            value = self.context.run(self._function, *self._args)
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.refuse(error)
        else:
            self.answer(value)

    def give_up(self) -> None:
        """Nothing to stop: it runs at once or not at all."""
        if self._loop is None:
            self.refuse(_given_up())

    def answer(self, value: T) -> None:
        """Answer, once."""
        if not self.answered:
            self.value = value
            self._end()

    def refuse(self, error: BaseException) -> None:
        """Answer with an error, once."""
        if not self.answered:
            self.error = error
            self._end()

    def _end(self) -> None:
        self.answered = True
        if self._loop is not None:
            self._loop.works.pop(self, None)
        self.wake()

    def result(self) -> T:
        """What it was answered with, returned or raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # else the error holds this frame, which holds the error
        return cast(T, self.value)


class Errand(Request[T]):
    """Run an async function as a task in the loop, with its engine open, and answer with what it returns or raises."""

    __slots__ = ("_scope",)

    def begin(self, loop: PortalLoop) -> None:
        """Start the task."""
        if self.answered:
            return
        self._loop = loop
        self._scope = trio.CancelScope()
        loop.works[self] = None
        self.context.run(make_current, loop.engine)
        loop.spawn(self.context, self._run)

    def give_up(self) -> None:
        """Cancel the task; the answer comes when it is over."""
        if self._loop is None:
            self.refuse(_given_up())
        else:
            self._scope.cancel()

    async def _run(self) -> None:
        try:
            with self._scope:
                self.answer(await self._function(*self._args))
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.refuse(error)
        finally:
            self._leave()

    def _leave(self) -> None:
        """The task is over, and may have been cancelled."""
        self.refuse(_given_up() if self._scope.cancel_called else ShuttingDown(_CLOSED))


class Invocation(Errand[Call]):
    """Invoke a call. One without handlers and deadline that finds a place in the queue needs no task to wait for it."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        super().__init__(_invoke, call)
        self._call = call

    def begin(self, loop: PortalLoop) -> None:
        """Queue the call."""
        call = self._call
        plain = call.options.deadline_s is None and loop.hooks.empty and call.owner.hook_registry.empty
        if not plain or self.answered:
            super().begin(loop)
            return
        self._loop = loop
        try:
            accepted = self.context.run(loop.engine.accept, call)
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.refuse(error)
            return
        if accepted:
            loop.works[self] = None
            call.call_at_end(self._ended)
        else:
            super().begin(loop)

    def give_up(self) -> None:
        """Cancel the call; the answer comes when it has ended."""
        if hasattr(self, "_scope") or self._loop is None:
            super().give_up()
        else:
            self._call.cancel()

    def _leave(self) -> None:
        call = self._call
        if call.progress is Progress.PENDING or call.over:
            super()._leave()
        elif not self.answered:  # it was cancelled, and is to be gone before whoever gave it up goes on
            call.call_at_end(self._ended)

    def _ended(self, _: object) -> None:
        self.answer(self._call)


async def _invoke(call: Call) -> Call:
    return await current_engine().invoke(call)


def _nobody() -> None:
    """Nobody waits."""


def _given_up() -> ShuttingDown:
    return ShuttingDown("it was given up by who had asked for it")


_CLOSED = "the portal was closed, and what ran in it was cancelled"


# --- a thread that blocks ---


def wait_blocking(loop: PortalLoop, request: Request[T]) -> T:
    """Have a request done, and block until it is answered. Returns or raises the answer.

    Ctrl-C gives the request up and is raised once it has ended; a second one is raised at once.

    Raises:
      UsageError: this is the loop's own thread, or a fork's. EngineNotRunning: the portal is not open.
    """
    check_outside(loop)
    done = threading.Lock()
    done.acquire()
    request.wake = done.release
    try:
        loop.begin(request)
        done.acquire()
    except PenstockError:  # it was not begun
        raise
    except BaseException:
        loop.post_quietly(request.give_up)
        while not request.answered and not done.acquire(timeout=0.1):
            pass  # it was answered, and the lock taken, as the signal came
        raise
    return request.result()


def check_outside(loop: PortalLoop) -> None:
    """Raise `UsageError` where waiting for the loop would be waiting for oneself."""
    if loop.inside:
        raise UsageError(
            "this runs in the portal's own loop, which would wait for itself: use the engine there as everywhere in "
            "trio, `await model.invoke(...)` of a plain iModel"
        )


# --- a task of asyncio ---


class _Outbox:
    """What an asyncio loop is to be told: functions to run in it, put in from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._line: deque[Callable[[], None]] = deque()
        self._awake = False

    def put(self, function: Callable[[], None]) -> None:
        self._line.append(function)
        if not self._awake:
            self._awake = True
            try:
                self.loop.call_soon_threadsafe(self._take_all)
            except RuntimeError:  # it was closed, and nobody in it waits any more
                self._line.clear()

    def _take_all(self) -> None:
        self._awake = False
        line = self._line
        while line:
            line.popleft()()


_here = threading.local()


def _outbox() -> _Outbox:
    loop = asyncio.get_running_loop()
    box: _Outbox | None = getattr(_here, "outbox", None)
    if box is None or box.loop is not loop:
        box = _here.outbox = _Outbox(loop)
    return box


class Bell:
    """Rung from any thread, heard by the one task of asyncio that waits for it."""

    __slots__ = ("_box", "_future", "_rung")

    def __init__(self) -> None:
        self._box = _outbox()
        self._rung = False
        self._future = self._box.loop.create_future()

    def ring(self) -> None:
        """Wake who waits, now or later."""
        self._box.put(self._heard)

    def _heard(self) -> None:
        self._rung = True
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Wait for it. Cancellation ends only this wait."""
        await self._future

    async def insist(self) -> bool:
        """Wait for it, whoever cancels this task meanwhile; whether somebody did, which the caller is to raise."""
        cancelled = False
        while not self._rung:
            self._future = self._box.loop.create_future()
            try:
                await self._future
            except asyncio.CancelledError:
                cancelled = True
        return cancelled


async def wait_asyncio(loop: PortalLoop, request: Request[T]) -> T:
    """Have a request done, and wait until it is answered. Returns or raises the answer.

    Cancellation gives the request up, and is raised once it has ended.

    Raises:
      UsageError: this is a fork. EngineNotRunning: the portal is not open.
    """
    bell = Bell()
    request.wake = bell.ring
    loop.begin(request)
    try:
        await bell.wait()
    except asyncio.CancelledError:
        loop.post_quietly(request.give_up)
        await bell.insist()
        raise
    except BaseException:  # its loop is being closed: nothing can be waited for there
        loop.post_quietly(request.give_up)
        raise
    return request.result()
