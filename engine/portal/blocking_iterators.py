"""Plain iterators over what comes in the portal's loop: of anything, of one call's answer, of many calls.

Whoever reads blocks his own thread alone. Ctrl-C while he waits ends what he reads, waits until that is gone, and is
raised. Nothing here runs in the loop's thread.
"""

from __future__ import annotations

import inspect
import math
import threading
import warnings
from collections.abc import AsyncIterable, Awaitable, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar

import trio

from engine import agent_runs
from engine.call import Call
from engine.errors import UsageError
from engine.portal.asked import reading_of
from engine.portal.loop import PortalLoop
from engine.portal.pipe import Mapper, Pipe
from engine.portal.told import News, Piece
from engine.portal.waiting import Errand, check_outside, wait_blocking
from engine.providers.wire import StreamChunk
from engine.streaming import OnChunk

T = TypeVar("T")
Self = TypeVar("Self", bound="BlockingIterator[Any]")


class BlockingIterator(Generic[T]):
    """Items of an async iterator in the portal's loop, as a plain iterator; best in a ``with``, which closes it.

    Read to its end it is closed; dropped before, it is closed by its finaliser, with a `ResourceWarning`. Several
    threads may read it, each gets items of its own.
    """

    _begun: bool = False
    _interrupted: bool = False

    def __init__(self, loop: PortalLoop, pipe: Pipe[T]) -> None:
        self._loop = loop
        self._pipe = pipe
        self._reading = threading.Lock()

    def __iter__(self: Self) -> Self:
        return self

    def __next__(self) -> T:
        with self._reading:
            return self._next()

    def _next(self) -> T:
        pipe = self._pipe
        while True:
            try:
                return pipe.take()
            except IndexError:
                if pipe.at_end:
                    return self._at_end()
            self._wait()

    def _at_end(self) -> T:
        self._finish()
        raise StopIteration

    def _finish(self) -> None:
        """Raise what ended the source, once."""
        error, self._pipe.error = self._pipe.error, None
        if error is not None:
            raise error

    def _begin(self) -> None:
        check_outside(self._loop)
        if not self._begun:
            if not self._loop.running:
                self._loop.start()
            self._loop.begin(self._pipe)
            self._begun = True

    def _wait(self, *, opening: bool = False) -> None:
        """Block until there is news."""
        self._begin()
        news = threading.Lock()
        news.acquire()
        try:
            if self._pipe.wants(news.release, opening=opening):
                news.acquire()
        except BaseException:  # Ctrl-C ends it, as it does every call
            self.close()
            raise

    def __enter__(self: Self) -> Self:
        with self._reading:
            while not (self._pipe.opened or self._pipe.over):
                self._wait(opening=True)
            if self._pipe.over and not self._pipe.opened:
                self._finish()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it: the source is closed, what is under way for it is cancelled and gone. Idempotent.

        Ctrl-C meanwhile is raised at once; then nothing waits for that end any more.
        """
        pipe, begun = self._pipe, self._begun
        if begun and not pipe.over:
            check_outside(self._loop)
        self._begun = True
        if not begun:
            pipe.give_up()
        elif not pipe.over:
            self._loop.post_quietly(pipe.give_up)
            try:
                self._wait_over()
            except BaseException:
                self._interrupted = True
                raise
        pipe.items.clear()
        pipe.error = None

    def _wait_over(self) -> None:
        pipe = self._pipe
        while self._loop.running and not pipe.over and not self._interrupted:
            pipe.items.clear()
            news = threading.Lock()
            news.acquire()
            if pipe.wants(news.release):
                news.acquire()

    def __del__(self) -> None:
        if self._begun and not (self._pipe.over or self._interrupted) and self._loop.running:
            self._loop.post_quietly(self._pipe.give_up)
            warnings.warn(f"{self!r} was dropped before its end; use it in a with", ResourceWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'over' if self._pipe.at_end else 'open'}>"


class BlockingStream(BlockingIterator[StreamChunk]):
    """The answer to one call as it comes, as `engine.ReplyStream`. The call is queued when it is first read or entered.

    `process` sees every chunk, in the reader's own thread; what it returns takes the chunk's place, unless it is None.
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

    def _next(self) -> StreamChunk:
        piece: Piece = super()._next()
        try:
            while isinstance(piece, News):
                self._tell(piece)
                piece = super()._next()
            replaced = self._awaited(self._process(piece)) if self._process is not None else None
        except BaseException:
            self.close()
            raise
        return piece if replaced is None else replaced

    def _tell(self, news: News) -> None:
        try:
            self._awaited(news.tell(), agent_runs.HANDLER_S)
        except Exception as error:  # noqa: BLE001  # the run is not lost to it
            news.failed(self._call, error)

    def _awaited(self, value: Any, within_s: float = math.inf) -> Any:
        return wait_blocking(self._loop, Errand(_awaited, value, within_s)) if inspect.isawaitable(value) else value


async def _awaited(awaitable: Awaitable[T], within_s: float) -> T:
    with trio.fail_after(within_s):
        return await awaitable


class BlockingMap(BlockingIterator[Call]):
    """Calls as they end. What it takes them from is pulled in the reader's thread, when it reads."""

    def __init__(self, loop: PortalLoop, calls: Iterable[Call], *, ordered: bool, buffer: int) -> None:
        if isinstance(calls, AsyncIterable):
            raise UsageError("map takes a plain iterable of calls here; an async one belongs to an AsyncioEngine")
        self._mapper = Mapper(loop, ordered=ordered, buffer=buffer)
        self._calls = iter(calls)
        super().__init__(loop, self._mapper.pipe)

    def _next(self) -> Call:
        mapper = self._mapper
        self._begin()
        mapper.pull(self._calls)
        while mapper.room and not mapper.pipe.items:
            mapper.pull(self._calls)
        call = super()._next()
        mapper.taken()
        return call

    def _at_end(self) -> Call:
        call = self._mapper.rest()
        return call if call is not None else super()._at_end()

    def _finish(self) -> None:
        super()._finish()
        self._mapper.finish()
