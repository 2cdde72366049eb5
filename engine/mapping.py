"""`Engine.map`: many calls in, the same calls out as they end, never more than a buffer of them in between.

A puller task in the engine's nursery takes calls from the caller's iterable and submits them; the stream the caller
holds reads what has ended. The two share only this state, never the stream itself, so that a dropped stream is noticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Protocol, cast

import trio

from actors.slots import ReplySlot
from engine.call import Call
from engine.errors import InvalidCall, NotAdmitted, ShuttingDown, UsageError
from engine.streaming import TURN


class Submitter(Protocol):
    """What a mapping needs of the engine."""

    def accept(self, call: Call) -> bool:
        """Queue a call if there is a place for it now."""

    async def submit(self, call: Call) -> Call:
        """Queue a call, waiting for a place."""

    def run_soon(self, mapping: Mapping) -> None:
        """Stop a mapping, from whichever thread."""


class Mapping:
    """One `map`: calls pulled, under way, ended and not yet read. `buffer` bounds all three together."""

    def __init__(
        self, engine: Submitter, calls: Iterable[Call] | AsyncIterable[Call], *, ordered: bool, buffer: int
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._ordered = ordered
        self._buffer = buffer
        self._line: deque[Call] = deque()
        self._held: dict[Call, None] = {}
        self._pulled = 0
        self._read = 0
        self._pulling = True
        self._stopped = False
        self._halted = False
        self._failure: Exception | None = None
        self._scope = trio.CancelScope()
        self._room = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()

    # --- the puller's side ---

    async def pull(self) -> None:
        """Pull and submit until the iterable ends, the engine takes no more, or the stream is ended."""
        try:
            with self._scope:
                if isinstance(self._calls, AsyncIterable):
                    await self._pull_async(aiter(self._calls))
                else:
                    for call in self._calls:
                        if not await self._send(call):
                            break
        except Exception as error:  # noqa: BLE001  # the caller's own iterable failed: raised where the stream is read
            self._failure = error
        finally:
            self._pulling = False
            self._news.unpark_all()

    async def _pull_async(self, calls: AsyncIterator[Call]) -> None:
        try:
            async for call in calls:
                if not await self._send(call):
                    break
        finally:
            if isinstance(calls, AsyncGenerator):  # else the garbage collector has to
                await calls.aclose()

    async def _send(self, call: Call) -> bool:
        """Submit one call; what keeps it from being queued comes out with it. Whether to pull on, once there is
        room."""
        if self._stopped:  # before the puller had its turn, and the source may give it none to notice
            return False
        if not _is_call(call):
            raise InvalidCall(f"map takes calls made by create_api_calling, not {type(call).__name__}")
        if call in self._held or (call.progress and not call.over):
            raise InvalidCall(f"call {call.id} is under way already; map wants each call once", call_id=call.id)
        self._held[call] = None
        if self._ordered:
            self._line.append(call)
        taken = True
        try:
            if not self._engine.accept(call):
                await self._engine.submit(call)
        except (UsageError, NotAdmitted) as error:
            if not call.progress:
                call.skip(error)
            taken = not isinstance(error, ShuttingDown)
        except BaseException:
            if self._halted and not self._stopped:  # it was pulled, so it comes out
                if not call.progress:
                    call.skip(ShuttingDown("the engine takes no more calls; nothing was sent", call=call))
                call.call_at_end(self._ended)
            else:
                del self._held[call]
                if self._ordered:
                    self._line.pop()
                call.cancel()
            raise
        call.call_at_end(self._ended)
        self._pulled += 1
        if self._pulled % TURN == 0:
            await trio.lowlevel.checkpoint()
        while taken and len(self._held) >= self._buffer:
            await self._room.park()
        return taken

    def _ended(self, slot: ReplySlot) -> None:
        if not self._ordered:
            self._line.append(cast(Call, slot))
        if self._news:
            self._news.unpark_all()

    # --- the reader's side ---

    async def take(self) -> Call | None:
        """The next call that has ended; None after the last. Raises what the caller's iterable raised, at its end."""
        self._read += 1
        if self._read % TURN == 0:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not self._stopped:
            if self._line and self._line[0].over:
                call = self._line.popleft()
                del self._held[call]
                if self._room:
                    self._room.unpark_all()
                return call
            if not self._pulling and not self._held:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return None
            await self._news.park()
        return None

    async def end(self) -> None:
        """Stop pulling, cancel what is under way, and wait until all of it has ended. A checkpoint."""
        self.stop()
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._pulling:
            await self._news.park()
        for call in list(self._held):
            await call.wait_ended()
        self._held.clear()
        self._line.clear()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def abandon(self) -> None:
        """The stream was dropped, by whichever thread: have it stopped by the engine's own."""
        self._engine.run_soon(self)

    def halt(self) -> None:
        """Stop pulling; what was pulled goes on and can still be read."""
        self._halted = True
        self._scope.cancel()

    def stop(self) -> None:
        """Stop pulling and cancel what is under way; whoever reads is let go."""
        self._stopped = True
        self._scope.cancel()
        for call in self._held:
            call.cancel()
        self._news.unpark_all()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to stop: it was stopped, or all is pulled and all that was pulled has ended."""
        return self._stopped or (not self._pulling and all(call.over for call in self._held))


def _is_call(call: object) -> bool:
    """Asked apart from the annotation, which a caller's iterable need not keep."""
    return isinstance(call, Call)
