"""Streams of Inferneo's answers: one chunk of the document's for each event of the server's, from a stream of ours.

The engine's stream tells what every event means; here each event is handed on once, whole, as the document has it.
Leaving a stream, or dropping it, ends the call and its connection, which is how the server learns to stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from engine.call import Call
from engine.clients.inferneo.errors import error_from, failure_of, translated
from engine.errors import EngineNotRunning, PenstockError
from engine.providers.wire import StreamChunk, mapping
from engine.runtime import Engine
from engine.streaming import ReplyStream

C = TypeVar("C")
_NO_EVENT = object()


class ChunkStream(Generic[C]):
    """An answer as it comes: ``async for chunk in stream``, best in an ``async with``, which ends it when it is left.

    Raises, from the iteration, after the chunks that had come:
      InferneoAPIError: the server refused. InferneoTimeoutError: it was silent for longer than `timeout`.
      InferneoError: no connection, or the stream ended without saying that it is over.
    """

    def __init__(self, call: Call, engine_of: Callable[[], Engine], make: Callable[[object], C]) -> None:
        self.call = call
        self._engine_of = engine_of
        self._make = make
        self._stream: ReplyStream | None = None
        self._ready: deque[C] = deque()
        self._later: list[C] = []
        self._last: object = _NO_EVENT
        self._finish: object = _NO_EVENT

    async def begin(self) -> Self:
        """Have the call queued, once.

        Raises:
          EngineNotRunning: no engine is open here. InferneoError: it cannot be queued.
        """
        if self._stream is None:
            with translated():
                stream = self._engine_of().stream(self.call)
                await stream
            self._stream = stream
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> C:
        while not self._ready:
            chunk = await self._next()
            if chunk is None:
                self._ready.extend(self._later)
                self._later.clear()
                if self._ready:
                    break
                raise StopAsyncIteration
            self._take(chunk)
        return self._ready.popleft()

    async def _next(self) -> StreamChunk | None:
        await self.begin()
        assert self._stream is not None
        try:
            return await anext(self._stream, None)
        except EngineNotRunning:
            raise
        except PenstockError as error:
            raise ((failure_of(self.call) if self.call.over else None) or error_from(error)) from error

    def _take(self, chunk: StreamChunk) -> None:
        """Hand on the event of a chunk, unless another chunk of the same event was there before.

        The last event of a choice comes to us with the end of the stream; what was told after it has to wait for it.
        """
        event = chunk.metadata.get("event", _NO_EVENT)
        if event is _NO_EVENT or event is self._last or chunk.is_error:
            return
        self._last = event
        choices = mapping(event).get("choices")
        if chunk.type == "result":
            if event != self._finish:
                self._ready.append(self._make(event))
            self._ready.extend(self._later)
            self._later.clear()
        elif not isinstance(choices, list):
            return  # somebody's heartbeat
        elif choices:
            if mapping(choices[0]).get("finish_reason"):
                self._finish = event
            self._ready.append(self._make(event))
        else:
            self._later.append(self._make(event))

    async def aclose(self) -> None:
        """End it: the call is cancelled and its connection closed. Idempotent."""
        if self._stream is not None:
            await self._stream.aclose()
        self._ready.clear()

    async def __aenter__(self) -> Self:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<ChunkStream of {self.call!r}>"
