"""The engine for programs of asyncio: `AsyncioEngine` and `AsyncioModel`.

Everything is awaited in asyncio and done in the portal's loop; asyncio's own loop never waits for that thread. A task
that is cancelled has what it waits for cancelled, waits until that is gone, and ends as cancelled. An engine may be
used from several asyncio loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, cast

from engine.call import Call
from engine.portal.aio_iterators import AsyncioIterator, AsyncioMap, AsyncioStream, started
from engine.portal.asked import PortalModel, call_of, is_agent, stream_call_of
from engine.portal.loop import PortalLoop
from engine.portal.pipe import AHEAD, Pipe
from engine.portal.told import noted
from engine.portal.waiting import Errand, Invocation, Request, wait_asyncio
from engine.runtime import EngineStatistics
from engine.streaming import OnChunk

T = TypeVar("T")
P = ParamSpec("P")
Self = TypeVar("Self", bound="AsyncioModel")


class AsyncioEngine:
    """An open engine for asyncio. Made by ``async with open_portal() as engine``.

    A call that it returns is an ordinary `Call`: look at it wherever you like, but wait for it and cancel it by `wait`
    and `cancel` of the engine.

    Cancelling a task in a method cancels what it waits for, and the task ends when that has.

    Raises, each method:
      EngineNotRunning: the portal is closed. UsageError: this is a forked child of its process.
      And what the same method of `Engine` raises.
    """

    def __init__(self, loop: PortalLoop) -> None:
        self.loop = loop

    # --- calls ---

    async def invoke(self, call: Any, **kwargs: Any) -> Call:
        """Send a call and wait until it has ended. `call` is a `Call`, or a model and the arguments of one."""
        if is_agent(call):
            model: AsyncioModel = AsyncioModel.of(call, self)
            return await model.invoke(**kwargs)
        return await self._ask(Invocation(call_of(call, kwargs)))

    async def submit(self, call: Any, **kwargs: Any) -> Call:
        """Queue a call, waiting for a place, and return it; it goes on by itself."""
        call = call_of(call, kwargs)
        return await self.call(lambda: self.loop.engine.submit(call))

    async def submit_nowait(self, call: Any, **kwargs: Any) -> Call:
        """Queue a call if its lane has a place for it now, else raise `Overloaded`."""
        call = call_of(call, kwargs)
        return await self._ask(Request(lambda: self.loop.engine.submit_nowait(call)))

    def stream(self, call: Any, *, process: OnChunk = None, watch: OnChunk = None, **kwargs: Any) -> AsyncioStream:
        """The answer to a call, made with ``stream=True`` or of a model's arguments, as it comes.

        `process` sees every chunk where it is read, and may return another; `watch` before that, in the engine's loop.
        """
        if is_agent(call):
            model: AsyncioModel = AsyncioModel.of(call, self)
            return model.stream(**kwargs)
        return AsyncioStream(self.loop, *stream_call_of(call, kwargs, process), watch)

    def map(
        self, calls: Iterable[Call] | AsyncIterable[Call], *, ordered: bool = False, buffer: int = 1000
    ) -> AsyncioMap:
        """Send many calls and read them as they end, or in their own order: `Engine.map`, for asyncio.

        `calls` is pulled in asyncio, a plain iterable while the results are read, an async one by a task; never more
        than `buffer` calls ahead of the results.
        """
        return AsyncioMap(self.loop, calls, ordered=ordered, buffer=buffer)

    async def wait(self, call: Call) -> Call:
        """Wait until a call has ended, and return it. Cancellation ends only this wait."""
        return await self.call(lambda: call.wait())

    def cancel(self, call: Call) -> None:
        """Give a call up, wherever it is. Does not wait: `wait` does."""
        self.loop.post(call.cancel)

    def model(self, *args: Any, **kwargs: Any) -> AsyncioModel:
        """A model whose calls run in this engine; the arguments are those of `iModel`."""
        model: AsyncioModel = AsyncioModel(*args, engine=self, **kwargs)
        return model

    # --- the whole ---

    async def drain(self, *, queue: Literal["finish", "discard"] = "finish", deadline_s: float | None = None) -> None:
        """Take no more calls and wait until none is live."""
        await self.call(lambda: self.loop.engine.drain(queue=queue, deadline_s=deadline_s))

    async def wait_quiet(self) -> None:
        """Wait until no call is queued, backing off or in flight."""
        await self.call(lambda: self.loop.engine.wait_quiet())

    async def statistics(self) -> EngineStatistics:
        """A frozen copy of everything that is counted, now."""
        return await self._ask(Request(lambda: self.loop.engine.statistics()))

    # --- anything else ---

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run any async function in the portal's loop, with the engine open, and return or raise what it does."""
        return await self._ask(Errand[T](lambda: function(*args, **kwargs)))

    def iterate(self, items: AsyncIterable[T], *, ahead: int = AHEAD) -> AsyncioIterator[T]:
        """Any async iterable, iterated in the portal's loop and read `ahead` items ahead, for asyncio."""

        async def open_source() -> AsyncIterator[T]:
            return aiter(items)

        return AsyncioIterator(self.loop, Pipe(open_source, ahead=ahead))

    async def _ask(self, request: Request[T]) -> T:
        if not self.loop.running:
            await started(self.loop)
        return await wait_asyncio(self.loop, request)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'open' if self.loop.running else 'closed'}>"


class AsyncioModel(PortalModel[AsyncioEngine]):
    """`iModel` for programs of asyncio: ``await AsyncioModel(model="openai/gpt-4o-mini").invoke(...)``.

    Raises what `iModel` raises, and `UsageError` for an `engine` of another kind.
    """

    _engines = AsyncioEngine

    async def invoke(self, api_call: Call | None = None, **kwargs: Any) -> Call:
        """Send a call and wait until it has ended; see `iModel.invoke`. Cancellation cancels the call."""
        return await super().invoke(api_call, **kwargs)

    async def _invoke(self, api_call: Call | None, kwargs: dict[str, Any]) -> Call:
        return await super()._invoke(api_call, noted(kwargs))

    def stream(self, api_call: Call | None = None, **kwargs: Any) -> AsyncioStream:  # type: ignore[override]  # asyncio's
        """The answer as it comes: ``async for chunk in model.stream(...)``; see `iModel.stream`."""
        return cast(AsyncioStream, super().stream(api_call, **noted(kwargs)))

    async def __aenter__(self: Self) -> Self:
        await started(self.engine.loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Be done with the model. Connections belong to the engine, so nothing has to be given back here."""
        await asyncio.sleep(0)
