"""`PortalLoop`: one thread, one trio loop with one open engine in it, and the way in for every other thread.

Requests go through one line. Whoever puts the first one in wakes the loop, which takes all there are at once: a wake-up
is what costs, and many requests share one. No task is made for what needs none. Rules: whatever was asked is answered,
also when the engine fails or is closed; a request comes in with the context variables of whoever made it; a forked
child is told that the loop stayed with its parent. Nothing here knows how an answer is waited for: see `waiting`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, Protocol

import trio

from engine.config import EngineConfig
from engine.errors import EngineNotRunning, PenstockError, ShuttingDown, UsageError
from engine.hooks import HookRegistry, registry_of
from engine.opening import open_engine
from engine.runtime import Engine
from engine.usual_transports import TransportFactory

EXIT_S = 2.0
"""How long the exit of the interpreter waits for a portal that nobody closed: its calls are dropped by then."""

_loops: weakref.WeakSet[PortalLoop] = weakref.WeakSet()


class Work(Protocol):
    """What the loop's thread is asked to do. `begin` and `give_up` run there, and raise nothing."""

    context: Context

    def begin(self, loop: PortalLoop) -> None:
        """Start. Whoever waits is answered some time, or at once."""

    def give_up(self) -> None:
        """Whoever waits does not want it any more, and waits for its end alone."""

    def refuse(self, error: BaseException) -> None:
        """Answer with this error: it cannot be done, or what did it is gone. No effect if it is answered."""


class PortalLoop:
    """The thread and its loop. Every method may be called from every thread, unless it says otherwise."""

    def __init__(
        self,
        config: str | os.PathLike[str] | EngineConfig | None = None,
        *,
        hooks: HookRegistry | Mapping[Any, Any] | None = None,
        transport: TransportFactory | None = None,
    ) -> None:
        self.hooks = registry_of(hooks)
        self._config = config
        self._transport = transport
        self._line: deque[Callable[[], None]] = deque()
        self._awake = False
        self._started = threading.Lock()
        self._main: Future[None] | None = None
        self._thread = 0
        self._refusal: PenstockError | None = EngineNotRunning(
            "the portal is not open: use it in a block, `with open_portal() as engine:`, or `async with` in asyncio"
        )
        # Of the loop's own thread:
        self.works: dict[Work, None] = {}
        """What is under way, in the order in which it began."""
        self._engine: Engine | None = None
        self._tasks: trio.Nursery | None = None
        self._stopping = trio.Event()
        self._at_once = False

    # --- from other threads ---

    @property
    def running(self) -> bool:
        """Whether requests are taken."""
        return self._refusal is None

    @property
    def inside(self) -> bool:
        """Whether this is the loop's own thread, which must not wait for itself."""
        return threading.get_ident() == self._thread

    def start(self) -> None:
        """Start the thread and open the engine in it, once; a second call waits for the first. Blocks.

        Raises:
          UsageError: the configuration is wrong, or the portal was closed already.
        """
        with self._started:
            if self._main is not None:
                self._check()
                return
            begun: Future[None] = Future()
            self._main = Future()
            # A daemon, and no generator around it: neither can keep the interpreter from its exit.
            thread = threading.Thread(
                target=self._thread_main, args=(begun, self._main), name="penstock-portal", daemon=True
            )
            _loops.add(self)
            thread.start()
            begun.result()

    def _thread_main(self, begun: Future[None], main: Future[None]) -> None:
        try:
            trio.run(self._run, begun)
        except BaseException as error:  # noqa: BLE001  # raised where the portal is opened or left
            _loops.discard(self)
            if begun.done():
                main.set_exception(error)
            else:
                main.set_result(None)
                begun.set_exception(error)
        else:
            _loops.discard(self)
            main.set_result(None)

    def stop(self, *, at_once: bool = False) -> None:
        """Close the engine and end the thread. Blocks until it has; no effect if it has. Idempotent.

        What was accepted runs to its end, or, `at_once`, is dropped. Then whatever still runs in the loop is cancelled.

        Raises:
          InternalError: the engine itself has failed.
        """
        main = self._main
        if main is None or self._refusal is _FORKED:
            return
        if self.inside:
            raise UsageError("a portal cannot be closed from its own loop; return, and leave its block")
        with contextlib.suppress(PenstockError):
            self.post(lambda: self._stop(at_once))
        try:
            main.result()
        except BaseException:
            self.hurry()
            raise

    def wait_over(self, timeout_s: float) -> None:
        """Wait until the engine is closed, so long at most. Raises nothing."""
        if self._main is not None:
            with contextlib.suppress(Exception):
                self._main.exception(max(0.0, timeout_s))

    def hurry(self) -> None:
        """Have whoever stops it, now or later, drop what is under way. Does not wait."""
        self.post_quietly(lambda: self._stop(True))

    def post(self, work: Callable[[], None]) -> None:
        """Have something done soon in the loop's own thread, in the order in which it was posted. Never waits.

        Raises:
          EngineNotRunning: the portal is not open, or closed.
          UsageError: this is a fork of the process whose loop it is.
        """
        if self._refusal is not None:
            self._check()
        self._line.append(work)
        if not self._awake:
            self._awake = True
            try:
                self._token.run_sync_soon(self._take_all)
            except KeyboardInterrupt:
                self._awake = False  # whoever comes next wakes it
                raise
            except trio.RunFinishedError:
                self._take_all()  # another thread's may lie behind it; whatever it is finds the loop at its end
                raise _closed() from None

    def post_quietly(self, work: Callable[[], None]) -> None:
        """`post` for finalisers, and for whoever gives up: no loop, nothing to do."""
        with contextlib.suppress(PenstockError):
            self.post(work)

    def begin(self, work: Work) -> None:
        """Have a piece of work begun. Raises what `post` raises."""
        self.post(lambda: self._begin(work))

    def _check(self) -> None:
        refusal = self._refusal
        if refusal is not None:
            raise type(refusal)(str(refusal))

    def fork(self) -> None:
        """This is the child of a fork: the loop's thread is not in it."""
        self._refusal = _FORKED
        self._started = threading.Lock()

    # --- in the loop's own thread ---

    @property
    def engine(self) -> Engine:
        """The open engine."""
        assert self._engine is not None, "asked by work that was begun, so after the engine was opened"
        return self._engine

    def spawn(self, context: Context, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run an async function as a task of its own, in this context."""
        assert self._tasks is not None, "asked by work that was begun, so after the nursery was opened"
        context.run(self._tasks.start_soon, function, *args)

    def _take_all(self) -> None:
        # In this order: what is put in after the line was emptied finds the loop asleep, and wakes it.
        self._awake = False
        line = self._line
        while line:
            line.popleft()()

    def _begin(self, work: Work) -> None:
        if self._tasks is None:
            work.refuse(_closed())
            return
        work.begin(self)

    def _stop(self, at_once: bool) -> None:
        if at_once and self._stopping.is_set() and self._engine is not None and self._tasks is not None:
            self._tasks.start_soon(_drop_all, self._engine)
        self._at_once = self._at_once or at_once
        self._stopping.set()

    async def _run(self, begun: Future[None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with (
                open_engine(self._config, hooks=self.hooks, transport=self._transport) as engine,
                trio.open_nursery() as tasks,
            ):
                self._engine, self._tasks = engine, tasks
                self._thread = threading.get_ident()
                self._refusal = None
                begun.set_result(None)
                await self._stopping.wait()
                if self._at_once:
                    await _drop_all(engine)
                else:
                    await engine.drain()
                tasks.cancel_scope.cancel()
        finally:
            self._refusal = _closed()
            self._tasks = None
            error = self._engine.failure if self._engine is not None else None
            for work in list(self.works):
                work.refuse(error or _gone())
            self._take_all()


async def _drop_all(engine: Engine) -> None:
    await engine.drain(queue="discard", deadline_s=0)


def _closed() -> EngineNotRunning:
    return EngineNotRunning("the portal is closed; open another. Nothing was sent")


def _gone() -> ShuttingDown:
    return ShuttingDown("the portal was closed, and what ran in it was cancelled")


_FORKED = UsageError(
    "this process was forked from the one whose portal this is, and its thread stayed there; nothing was sent. Open a "
    "portal in the child (`with open_portal() as engine:`), or start processes by spawn instead of fork"
)


def context_here() -> Context:
    """The context variables of whoever asks, for what is done for him."""
    return copy_context()


# --- the one that everybody shares ---

_lock = threading.Lock()
_default: PortalLoop | None = None


def default_loop() -> PortalLoop:
    """The process-wide loop, made when first asked for; `start` starts it. It ends with the interpreter."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = PortalLoop()
    return _default


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for loop in list(_loops):
        loop.fork()


def _at_exit() -> None:
    """Drop what is under way, so that its connections are closed; wait a little, never for ever. The threads themselves
    are daemons."""
    until_s = time.monotonic() + EXIT_S
    loops = [loop for loop in list(_loops) if loop.running]
    for loop in loops:
        loop.hurry()
    for loop in loops:
        loop.wait_over(until_s - time.monotonic())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
