"""Async iterators of asyncio over what comes in the portal's loop: of anything, of one call's answer, of many calls.

Whoever reads waits in asyncio. A reader that is cancelled while it waits ends what it reads, and waits until that is
gone. An iterator belongs to the asyncio loop in which it is first read.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar

from engine import agent_runs
from engine.call import Call
from engine.errors import InvalidCall
from engine.portal.asked import reading_of
from engine.portal.loop import PortalLoop
from engine.portal.pipe import Mapper, Pipe
from engine.portal.told import News, Piece
from engine.portal.waiting import Bell
from engine.providers.wire import StreamChunk
from engine.streaming import OnChunk

T = TypeVar("T")
Self = TypeVar("Self", bound="AsyncioIterator[Any]")


async def started(loop: PortalLoop) -> None:
    """Have the shared loop started by its first user; the others find it running."""
    if not loop.running:
        await asyncio.to_thread(loop.start)


class AsyncioIterator(Generic[T]):
    """Items of an async iterator in the portal's loop, for asyncio: ``async for``, best inside ``async with``.

    Read to its end it is closed; dropped before, it is closed by its finaliser, with a `ResourceWarning`. ``await`` on
    it opens it and returns it. Cancelling its reader closes it. One task may read it.
    """

    _begun: bool = False

    def __init__(self, loop: PortalLoop, pipe: Pipe[T]) -> None:
        self._loop = loop
        self._pipe = pipe
        self._reading = False

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._reading:
            raise InvalidCall("another task is reading this; one alone can")
        self._reading = True
        try:
            return await self._next()
        finally:
            self._reading = False

    async def _next(self) -> T:
        pipe = self._pipe
        while True:
            try:
                return pipe.take()
            except IndexError:
                if pipe.at_end:
                    return self._at_end()
            await self._wait()

    def _at_end(self) -> T:
        self._finish()
        raise StopAsyncIteration

    def _finish(self) -> None:
        """Raise what ended the source, once."""
        error, self._pipe.error = self._pipe.error, None
        if error is not None:
            raise error

    async def _begin(self) -> None:
        if not self._begun:
            await started(self._loop)
            self._loop.begin(self._pipe)
            self._begun = True

    async def _wait(self, *, opening: bool = False) -> None:
        """Wait until there is news."""
        await self._begin()
        bell = Bell()
        if not self._pipe.wants(bell.ring, opening=opening):
            return
        try:
            await bell.wait()
        except asyncio.CancelledError:
            await self._end()
            raise
        except BaseException:  # its loop is being closed: nothing can be waited for there
            self._loop.post_quietly(self._pipe.give_up)
            raise

    async def _open(self: Self) -> Self:
        while not (self._pipe.opened or self._pipe.over):
            await self._wait(opening=True)
        if self._pipe.over and not self._pipe.opened:
            self._finish()
        return self

    def __await__(self: Self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    async def __aenter__(self: Self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it: the source is closed, what is under way for it is cancelled and gone. Idempotent."""
        await self._end()

    async def _end(self) -> None:
        pipe, begun = self._pipe, self._begun
        self._begun = True
        if not begun:
            pipe.give_up()
        elif not pipe.over:
            self._loop.post_quietly(pipe.give_up)
            cancelled = False
            while self._loop.running and not pipe.over:
                pipe.items.clear()
                bell = Bell()
                if pipe.wants(bell.ring):
                    cancelled = await bell.insist() or cancelled
            if cancelled:
                raise asyncio.CancelledError
        pipe.items.clear()
        pipe.error = None

    def __del__(self) -> None:
        if self._begun and not self._pipe.over and self._loop.running:
            self._loop.post_quietly(self._pipe.give_up)
            text = f"{self!r} was dropped before its end; use it in an async with"
            warnings.warn(text, ResourceWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'over' if self._pipe.at_end else 'open'}>"


class AsyncioStream(AsyncioIterator[StreamChunk]):
    """The answer to one call as it comes, as `engine.ReplyStream`: the call is queued when it is first waited for.

    `process` sees every chunk, in asyncio; what it returns, or awaits to, takes the chunk's place, unless it is None.
    So are an agent's handlers called, chunk by chunk.
    """

    def __init__(self, loop: PortalLoop, call: Call, process: OnChunk = None, watch: OnChunk = None) -> None:
        super().__init__(loop, reading_of(loop, call, watch))  # type: ignore[arg-type]  # the news stay in it
        self._call = call
        self._process = process

    @property
    def call(self) -> Call:
        """The call; once the stream is at its end it has ended, with the whole text and the usage."""
        return self._call

    async def _next(self) -> StreamChunk:
        piece: Piece = await super()._next()
        try:
            while isinstance(piece, News):
                await self._tell(piece)
                piece = await super()._next()
            replaced = await self._awaited(self._process(piece)) if self._process is not None else None
        except BaseException:
            await self._end()
            raise
        return piece if replaced is None else replaced

    async def _tell(self, news: News) -> None:
        try:
            async with asyncio.timeout(agent_runs.HANDLER_S):
                await self._awaited(news.tell())
        except Exception as error:  # noqa: BLE001  # the run is not lost to it
            news.failed(self._call, error)

    async def _awaited(self, value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value


class AsyncioMap(AsyncioIterator[Call]):
    """Calls as they end. What it takes them from is pulled in asyncio: an async one by a task of its own."""

    def __init__(
        self, loop: PortalLoop, calls: Iterable[Call] | AsyncIterable[Call], *, ordered: bool, buffer: int
    ) -> None:
        self._mapper = Mapper(loop, ordered=ordered, buffer=buffer)
        self._calls = aiter(calls) if isinstance(calls, AsyncIterable) else iter(calls)
        self._puller: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        super().__init__(loop, self._mapper.pipe)

    async def _begin(self) -> None:
        begun = self._begun
        await super()._begin()
        if not begun and isinstance(self._calls, AsyncIterator):
            self._puller = asyncio.create_task(_pull(self._calls, self._mapper, self._room))

    async def _next(self) -> Call:
        mapper = self._mapper
        await self._begin()
        if not isinstance(self._calls, AsyncIterator):
            mapper.pull(self._calls)
            while mapper.room and not mapper.pipe.items:
                mapper.pull(self._calls)
        call = await super()._next()
        mapper.taken()
        self._room.set()
        return call

    def _at_end(self) -> Call:
        call = self._mapper.rest()
        return call if call is not None else super()._at_end()

    def _finish(self) -> None:
        if self._puller is not None:
            self._puller.cancel()
        super()._finish()
        self._mapper.finish()

    async def _end(self) -> None:
        if self._puller is not None:
            self._puller.cancel()
        await super()._end()
        if self._puller is not None:
            await asyncio.wait([self._puller])

    def __del__(self) -> None:
        puller = getattr(self, "_puller", None)
        if puller is not None and not puller.done() and not puller.get_loop().is_closed():
            puller.get_loop().call_soon_threadsafe(puller.cancel)
        super().__del__()


async def _pull(calls: AsyncIterator[Call], mapper: Mapper, room: asyncio.Event) -> None:
    """Pull from an async source while there is room. It holds the mapper, never the map, which may be dropped."""
    failure: Exception | None = None
    try:
        async for call in calls:
            mapper.put(call)
            while not mapper.room and not mapper.exhausted:
                room.clear()
                await room.wait()
            if mapper.exhausted:
                break
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        failure = RuntimeError("the source of the map waited for something that was cancelled")
        failure.__cause__ = error
    except Exception as error:  # noqa: BLE001  # raised once what was pulled has come out
        failure = error
    finally:
        mapper.end(failure)
        if isinstance(calls, AsyncGenerator):
            await calls.aclose()
