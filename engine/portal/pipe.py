"""A pipe: an async iterator of the portal's loop, read from another thread, many items for one wake-up.

A task in the loop reads ahead, `ahead` items at most, and then waits until the reader has taken half of them; so a slow
reader still slows the source. The reader takes what lies there without asking the loop, and waits only when nothing
does. Rules: one side appends and the other takes, never both; each side says that it waits before it looks again, so
that no wake-up is lost. The pipe knows nobody who holds it: a dropped reader is noticed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

import trio

from actors.limits import is_count
from engine.call import Call
from engine.errors import InvalidCall, PenstockError, ShuttingDown, UsageError
from engine.opening import make_current
from engine.portal.loop import PortalLoop, context_here

T = TypeVar("T")

AHEAD = 64
"""Items read before anybody asks for them."""

TURN = 32
"""Items after which the loop's other tasks get a turn, should the source give them none."""


class Pipe(Generic[T]):
    """Between the task that reads `open`'s iterator in the loop and the one reader elsewhere."""

    def __init__(self, open_source: Callable[[], Awaitable[AsyncIterator[T]]], *, ahead: int = AHEAD) -> None:
        self.context = context_here()
        self.items: deque[T] = deque()
        self.opened = False
        self.over = False
        self.error: BaseException | None = None
        self._open = open_source
        self._ahead = ahead
        self._wakes: deque[Callable[[], None]] = deque()
        self._parked = False
        self._loop: PortalLoop | None = None
        self.given_up = False
        # Of the loop's own thread:
        self._scope: trio.CancelScope | None = None
        self._room = trio.Event()

    # --- the reader's side ---

    def take(self) -> T:
        """The next item that lies there; `IndexError` if none does."""
        item = self.items.popleft()
        if self._parked and len(self.items) * 2 <= self._ahead:
            self._go_on()
        return item

    def wants(self, wake: Callable[[], None], *, opening: bool = False) -> bool:
        """Have `wake` called once there is news, from the loop's thread; False if there is some now.

        `opening`: that the source is open is news, too. One that was not needed may still be called.
        """
        self._wakes.append(wake)
        if self.items or self.over or (opening and self.opened):
            with contextlib.suppress(ValueError):
                self._wakes.remove(wake)
            return False
        if self._parked:
            self._go_on()
        return True

    def _go_on(self) -> None:
        self._parked = False
        if self._loop is not None:
            self._loop.post_quietly(self._unpark)  # what has come can be read though the loop is gone

    @property
    def at_end(self) -> bool:
        """Whether everything was read. Asked in this order: what comes last comes before it is over."""
        return self.over and not self.items

    # --- the loop's side ---

    def begin(self, loop: PortalLoop) -> None:
        """Start the task that reads the source."""
        self._loop = loop
        if self.given_up:
            self._end()
            return
        loop.works[self] = None
        self.context.run(make_current, loop.engine)
        loop.spawn(self.context, self._run)

    def give_up(self) -> None:
        """Stop reading, close the source, and be over when that is done."""
        self.given_up = True
        if self._loop is None:
            self._end()
        elif self._scope is not None:
            self._scope.cancel()

    def refuse(self, error: BaseException) -> None:
        """Be over, with this error."""
        if not self.over:
            self.error = error
            self._end()

    async def _run(self) -> None:
        source: Any = None
        finished = False
        try:
            with trio.CancelScope() as self._scope:
                if self.given_up:
                    self._scope.cancel()
                source = await self._open()
                self.opened = True
                self._wake()
                await self._read(source)
                finished = True
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001  # raised where the items are read
            self.error = error
        finally:
            if self.error is None and not self.given_up and not finished:
                self.error = ShuttingDown("the portal was closed while this was being read")
            await self._close(source)

    async def _read(self, source: AsyncIterator[T]) -> None:
        count = 0
        while True:
            while len(self.items) >= self._ahead and not self._wakes:
                await self._wait_room()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            self.items.append(item)
            self._wake()
            count += 1
            if count % TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _close(self, source: Any) -> None:
        try:
            if hasattr(source, "aclose"):
                await source.aclose()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001  # raised where the items are read, if nothing was before
            self.error = self.error or error
        finally:
            self._end()

    async def _wait_room(self) -> None:
        self._room = trio.Event()
        self._parked = True
        if len(self.items) < self._ahead or self._wakes:
            self._parked = False
            return
        await self._room.wait()

    def _unpark(self) -> None:
        self._room.set()

    def _end(self) -> None:
        self.over = True
        if self._loop is not None:
            self._loop.works.pop(self, None)
        self._wake()

    def _wake(self) -> None:
        while self._wakes:
            try:
                wake = self._wakes.popleft()
            except IndexError:  # the reader took it back
                return
            wake()


class Feed:
    """The calls of a `map`, put in by its reader, pulled by the engine."""

    def __init__(self, loop: PortalLoop) -> None:
        self._loop = loop
        self._line: deque[Call] = deque()
        self._ended = False
        self._parked = False
        self._news = trio.Event()

    def put(self, call: Call) -> None:
        """From the reader's thread: one more."""
        self._line.append(call)
        self._go_on()

    def end(self) -> None:
        """From the reader's thread: there are no more."""
        self._ended = True
        self._go_on()

    def _go_on(self) -> None:
        if self._parked:
            self._parked = False
            self._loop.post_quietly(self._unpark)  # what has come can be read though the loop is gone

    def _unpark(self) -> None:
        self._news.set()

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Call:
        while True:
            ended = self._ended
            if self._line:
                return self._line.popleft()
            if ended:
                raise StopAsyncIteration
            self._news = trio.Event()
            self._parked = True
            if self._line or self._ended:
                self._parked = False
                continue
            await self._news.wait()

    def rest(self) -> Call | None:
        """One that the engine did not pull, since it takes no more."""
        return self._line.popleft() if self._line else None


class Mapper:
    """The reader's side of a `map`: how many calls are out, what was pulled of the source, and how it ended."""

    def __init__(self, loop: PortalLoop, *, ordered: bool, buffer: int) -> None:
        if not is_count(buffer):
            raise UsageError(f"buffer must be a whole number of at least 1, not {buffer!r}")
        self._buffer = buffer
        self._out = 0
        self._feed = Feed(loop)
        self.exhausted = False
        self.failure: BaseException | None = None
        feed = self._feed

        async def open_source() -> AsyncIterator[Call]:
            return loop.engine.map(feed, ordered=ordered, buffer=buffer)

        self.pipe: Pipe[Call] = Pipe(open_source, ahead=buffer)

    @property
    def room(self) -> bool:
        """Whether one more call is to be pulled."""
        return not self.exhausted and self._out < self._buffer and not self.pipe.over

    def pull(self, calls: Iterator[Call]) -> None:
        """Take one more call of a plain source, if there is room."""
        if self.room:
            try:
                self.put(next(calls))
            except StopIteration:
                self.end()
            except Exception as error:  # noqa: BLE001  # raised once what was pulled has come out
                self.end(error)

    def finish(self) -> None:
        """All that was pulled has come out: raise what the source raised, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def put(self, call: object) -> None:
        """One more call. Raises nothing: what is wrong ends the pulling."""
        if not isinstance(call, Call):
            self.end(InvalidCall(f"map takes calls made by create_api_calling, not {type(call).__name__}"))
        else:
            self._out += 1
            self._put(lambda: self._feed.put(call))

    def end(self, failure: BaseException | None = None) -> None:
        """The source has ended, or failed: that is raised after the calls already pulled have come out."""
        self.exhausted = True
        self.failure = self.failure or failure
        self._put(self._feed.end)

    def _put(self, put: Callable[[], None]) -> None:
        with contextlib.suppress(PenstockError):  # the portal is closed, which the pipe says as well
            put()

    def rest(self) -> Call | None:
        """Once the pipe is at its end: a call that was pulled and that the engine took no more, as skipped."""
        call = self._feed.rest() if not self.pipe.given_up else None
        if call is not None:
            if not call.over:
                call.skip(ShuttingDown("the engine takes no more calls; nothing was sent", call=call))
            if isinstance(self.pipe.error, ShuttingDown):  # which is on the call instead
                self.pipe.error = None
        return call

    def taken(self) -> None:
        """A call was read."""
        self._out -= 1
