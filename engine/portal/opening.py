"""`open_portal`: an engine on a thread of its own, for a block of synchronous code or of asyncio; and the shared one.

Leaving the block normally drains; leaving it by an exception, or cancelled, drops what is under way. In asyncio the
thread is started and ended by another, so that asyncio's loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from engine.config import EngineConfig
from engine.errors import InternalError, UsageError
from engine.hooks import HookRegistry
from engine.portal.aio import AsyncioEngine
from engine.portal.aio_iterators import AsyncioIterator
from engine.portal.blocking import BlockingEngine
from engine.portal.blocking_iterators import BlockingIterator
from engine.portal.loop import PortalLoop, default_loop
from engine.portal.pipe import AHEAD
from engine.usual_transports import TransportFactory

T = TypeVar("T")
P = ParamSpec("P")


class Portal:
    """A thread with an open engine, and two ways to use it: ``with`` gives a `BlockingEngine`, ``async with`` an
    `AsyncioEngine`. Made by `open_portal` and `default_portal`."""

    def __init__(self, loop: PortalLoop) -> None:
        self._loop = loop
        self._entered = False
        self.blocking = BlockingEngine(loop)
        """The engine for threads."""
        self.asyncio = AsyncioEngine(loop)
        """The engine for asyncio; both may be used at the same time."""

    def __enter__(self) -> BlockingEngine:
        self._enter()
        self._loop.start()
        return self.blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop(error is not None)

    async def __aenter__(self) -> AsyncioEngine:
        self._enter()
        starting = _in_thread(self._loop.start)
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _insist(starting)
            await _insist(_in_thread(self._stop, True))
            raise
        return self.asyncio

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stopping = _in_thread(self._stop, error is not None)
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            self._loop.hurry()
            await _insist(stopping)
            raise

    def _stop(self, at_once: bool) -> None:
        try:
            self._loop.stop(at_once=at_once)
        except InternalError:
            if not at_once:  # else the block's own exception is the one to leave it
                raise

    def _enter(self) -> None:
        if self._entered:
            raise UsageError("a portal is opened once, by one block; call open_portal again for another")
        self._entered = True

    # --- for what stands on it ---

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`BlockingEngine.call`: run any async function in the portal's loop, with the engine open. Blocks."""
        return self.blocking.call(function, *args, **kwargs)

    async def acall(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`AsyncioEngine.call`: the same, awaited in asyncio."""
        return await self.asyncio.call(function, *args, **kwargs)

    def iterate(self, items: AsyncIterable[T], *, ahead: int = AHEAD) -> BlockingIterator[T]:
        """`BlockingEngine.iterate`: an async iterable of the portal's loop as a plain iterator."""
        return self.blocking.iterate(items, ahead=ahead)

    def aiterate(self, items: AsyncIterable[T], *, ahead: int = AHEAD) -> AsyncioIterator[T]:
        """`AsyncioEngine.iterate`: the same for asyncio."""
        return self.asyncio.iterate(items, ahead=ahead)

    def __repr__(self) -> str:
        return f"<Portal {'open' if self._loop.running else 'closed'}>"


def _in_thread(function: Callable[..., None], *args: Any) -> asyncio.Future[None]:
    """Run a function in a thread of its own: asyncio's may all be taken, by those who wait for the very engine."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="penstock portal door", daemon=True).start()
    return asyncio.wrap_future(done)


async def _insist(work: asyncio.Future[None]) -> None:
    """Wait for the end of some work, whoever cancels this task meanwhile. Raises nothing."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()  # so that nobody is told that it was never looked at


def open_portal(
    config: str | os.PathLike[str] | EngineConfig | None = None,
    *,
    hooks: HookRegistry | Mapping[Any, Any] | None = None,
    transport: TransportFactory | None = None,
) -> Portal:
    """Open an engine on a thread of its own, for a block.

        with open_portal() as engine:  # a BlockingEngine, for synchronous code in any number of threads
            call = engine.invoke(model, messages=[...])

        async with open_portal() as engine:  # an AsyncioEngine
            call = await engine.invoke(model, messages=[...])

    The arguments are those of `open_engine`. Leaving the block normally drains: what was accepted runs to its end.
    Leaving it by an exception or by cancellation drops what is under way.

    Raises, when the block is entered:
      UsageError: the configuration is wrong.
    And when it is left:
      InternalError: the engine itself failed.
    """
    return Portal(PortalLoop(config, hooks=hooks, transport=transport))


def default_portal() -> Portal:
    """The process-wide portal that models without an ``engine=`` use: started by its first call, ended with the
    interpreter. It is not for a block: `call`, `acall`, `blocking` and `asyncio` are at hand."""
    portal = Portal(default_loop())
    portal._entered = True
    return portal
