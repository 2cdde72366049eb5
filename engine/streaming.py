"""Streams a caller reads: of calls that end one after the other (`map`), and of one call's answer as it comes.

A `CallStream` is an object with a source behind it; the source is what an engine keeps, so that a dropped stream is
noticed. `ReplyStream` is that of one call: its worker puts events into a buffer, and here they become chunks. Nothing
is sent before the stream is first waited for.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections import deque
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

import msgspec
import trio

from actors.slots import Progress, ReplySlot, StreamBuffer
from engine.agents.format import AgentFormat
from engine.call import Call
from engine.errors import InvalidCall
from engine.providers.wire import StreamAssembler, StreamChunk, StreamFormat, mapping
from engine.sse import Event

T = TypeVar("T", covariant=True)

TURN = 32
"""Items read before the other tasks get a turn: one for each would cost as much as the item itself."""

ProcessChunk: TypeAlias = Callable[[StreamChunk], Any]
"""Sees every chunk of a stream before its reader, and may return another in its place, or an awaitable of one."""

OnChunk: TypeAlias = ProcessChunk | None
"""Such a function, or none."""

_decode_events: msgspec.msgpack.Decoder[list[Event]] = msgspec.msgpack.Decoder(list[Event])


class StreamSource(Protocol[T]):
    """Where the items of a `CallStream` come from."""

    async def take(self) -> T | None:
        """The next item, None after the last. Raises what ended the source, once its items are out."""

    async def end(self) -> None:
        """Stop, cancel what is under way, and return when nothing of it is left."""

    def abandon(self) -> None:
        """The stream was dropped: stop and cancel. Called from anywhere, also from another thread."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to stop."""


class CallStream(Generic[T]):
    """Items as they come: ``async for`` over it, best inside ``async with``, which ends it when the block is left.

    Iterating it to the end ends it, too. One that is dropped before is ended by its finaliser with a `ResourceWarning`.
    ``await`` on it returns the stream itself. It holds no nursery and no cancel scope.
    """

    def __init__(self, source: StreamSource[T]) -> None:
        self._source = source

    def __aiter__(self: S) -> S:
        return self

    async def __anext__(self) -> T:
        item = await self._source.take()
        if item is None:
            raise StopAsyncIteration
        return item

    def __await__(self: S) -> Generator[Any, Any, S]:
        yield from ()
        return self

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream: nothing more is pulled, what is under way is cancelled. Idempotent."""
        await self._source.end()

    def __del__(self) -> None:
        if not self._source.over:
            self._source.abandon()
            text = f"{self!r} was dropped before its end; use it in an async with"
            warnings.warn(text, ResourceWarning, stacklevel=2)


S = TypeVar("S", bound=CallStream[Any])


class ReplyStream(CallStream[StreamChunk]):
    """The answer to one call, as it comes: chunks by ``async for``. Made by `iModel.stream` and `Engine.stream`.

    The call is queued when the stream is first waited for: by ``await``, ``async with`` or ``async for``. A reader who
    is slow slows the provider down; one who leaves, or is cancelled, ends the call, its connection and its cost there.
    Silence counts while the engine reads, which it does until a reader has left 128 KB unread.

    Raises, from whichever comes first of the three:
      What `Engine.submit` raises.
    And from the iteration, after the chunks that had come:
      PenstockError: why the call did not complete. `Truncated`: the stream ended without saying that it is over. The
        part received is ``stream.call.text``.
    """

    _source: ReplySource

    @property
    def call(self) -> Call:
        """The call. Once the stream is at its end it has ended, with the whole text, the tool calls and the usage."""
        return self._source.call

    def __await__(self) -> Generator[Any, Any, ReplyStream]:
        yield from self._source.begin().__await__()
        return self

    async def __aenter__(self) -> ReplyStream:
        await self._source.begin()
        return self

    def __repr__(self) -> str:
        return f"<ReplyStream of {self.call!r}>"


class Streamer(Protocol):
    """What a source needs of the engine."""

    async def submit_stream(self, call: Call, buffer: StreamBuffer) -> None:
        """Queue a call whose events go into this buffer until it has ended."""

    def forget_stream(self, call: Call) -> None:
        """It has ended."""

    def run_soon(self, source: ReplySource) -> None:
        """Stop a source, from whichever thread."""


class ReplySource:
    """One call's events, made into chunks as they are read."""

    def __init__(self, engine: Streamer, call: Call, process: ProcessChunk | None) -> None:
        self.call = call
        self._engine = engine
        self._process = process
        self._buffer = StreamBuffer()
        self._chunks: deque[StreamChunk] = deque()
        self._streamed = False
        self._told = False
        self._begun = False
        self._beginning = False
        self._stopped = False
        self._taken = 0

    @functools.cached_property
    def _assembler(self) -> StreamAssembler:
        """Made when something has come: a handler may have made it another provider's call."""
        return cast(StreamFormat, self.call.owner.format).assembler()

    @property
    def over(self) -> bool:
        return self._stopped or not self._begun or self.call.over

    async def begin(self) -> None:
        """Queue the call, once. A checkpoint."""
        if self._begun or self._stopped:
            await trio.lowlevel.checkpoint()
            return
        check_streaming(self.call)  # again: it may have been submitted meanwhile, or be read by another stream
        self._begun = self._beginning = True
        try:
            await self._engine.submit_stream(self.call, self._buffer)
        except BaseException:
            self._begun = False
            raise
        finally:
            self._beginning = False
        self.call.call_at_end(self._ended)

    def _ended(self, slot: ReplySlot) -> None:
        self._engine.forget_stream(self.call)
        self._buffer.wake()
        if self._stopped:
            self._keep_what_was_read()

    def _keep_what_was_read(self) -> None:
        """Of a call that was given up, the part that its reader has seen; else the reply holds more than that."""
        if self._streamed and not self.call.reply.streamed:
            self.call.put_together(self._assembler.response())

    async def take(self) -> StreamChunk | None:
        self._taken += 1
        try:
            if self._taken % TURN == 0:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            if self._begun:
                self.stop()
            raise
        if self._beginning or self._buffer.awaited:
            raise InvalidCall("another task is reading this stream; one alone can", call_id=self.call.id)
        if not self._begun and not self._stopped:
            await self.begin()
        try:
            while not self._chunks:
                if self._stopped:
                    return None
                if not self._look():
                    if self.call.over:
                        self._conclude()
                        return None
                    await self._buffer.wait_news()
            chunk = self._chunks.popleft()
            return chunk if self._process is None else await _processed(self._process, chunk)
        except BaseException:
            self.stop()
            raise

    def _look(self) -> bool:
        """Make chunks of what has come; whether anything had."""
        pieces = self._buffer.take()
        for piece in pieces:
            for event in _decode_events.decode(piece):
                self._chunks.extend(self._assembler.feed(event))
        self._streamed = self._streamed or bool(pieces)
        if not pieces and self.call.over:
            self._chunks.extend(self._last_words())
            return bool(self._chunks)
        return bool(pieces)

    def _last_words(self) -> list[StreamChunk]:
        """The chunks that are left once the call has ended and all that came was read; none when asked again."""
        if self._streamed:
            return self._assembler.end()
        if self._told:
            return []
        self._told = True
        wire, reply = self.call.owner.format, self.call.reply
        if reply.streamed and isinstance(wire, AgentFormat):
            return wire.chunks_of(reply.body)  # of a run that might have been tried again, but was not
        return chunks_of(self.call) if self.call.status == "completed" else []

    def _conclude(self) -> None:
        """The call has ended and all that came of it was read. Raises why it did not complete."""
        if self._streamed:
            self.call.put_together(self._assembler.response())
        self._stopped = True
        self.call.raise_for_status()

    async def end(self) -> None:
        self.stop()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._begun:
            await self.call.wait_ended()
            self._keep_what_was_read()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def abandon(self) -> None:
        self._engine.run_soon(self)

    def stop(self) -> None:
        """Give the call up, and let go of what was not read."""
        self._stopped = True
        self._chunks.clear()
        if self._begun:
            self.call.cancel()
        self._buffer.close()


def watched(watch: ProcessChunk | None, process: ProcessChunk | None) -> ProcessChunk | None:
    """What shows every chunk to `watch` first, and then to `process`."""
    if watch is None:
        return process

    async def both(chunk: StreamChunk) -> StreamChunk | None:
        await _processed(watch, chunk)
        return await _processed(process, chunk) if process is not None else None

    return both


async def _processed(process: ProcessChunk, chunk: StreamChunk) -> StreamChunk:
    replaced = process(chunk)
    if inspect.isawaitable(replaced):
        replaced = await replaced
    return chunk if replaced is None else cast(StreamChunk, replaced)


def check_streaming(call: object) -> None:
    """Raise `InvalidCall` for what cannot be streamed."""
    if not isinstance(call, Call):
        raise InvalidCall(f"the engine takes calls made by create_api_calling, not {type(call).__name__}")
    if call.ended is not None and call.status != "cancelled":
        raise InvalidCall(f"call {call.id} has ended already ({call.status}); make another", call_id=call.id)
    if call.progress is Progress.IN_LINE:
        raise InvalidCall(f"call {call.id} is being submitted already", call_id=call.id)
    if not call.request.streaming:  # raises for a call that was submitted or cannot be written
        raise InvalidCall(f"call {call.id} was made without stream=True; make it with that, or use invoke")


def chunks_of(call: Call) -> list[StreamChunk]:
    """The chunks of a completed call that was answered in one piece although a stream was asked for."""
    view, event = call.view, {"event": call.response}
    chunks = [StreamChunk("thinking", view.reasoning, metadata=event)] if view.reasoning else []
    chunks += [StreamChunk("text", view.text, metadata=event)] if view.text else []
    chunks += [
        StreamChunk("tool_use", metadata=event, tool_name=tool.name, tool_id=tool.id, tool_input=tool.arguments)
        for tool in view.tool_calls
    ]
    end = {**event, "finish_reason": view.finish_reason, "usage": mapping(call.response).get("usage")}
    return [*chunks, StreamChunk("result", metadata=end)]
