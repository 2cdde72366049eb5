"""Streams of Inferneo's answers: one chunk of the document's for each event of the server's, from a stream of ours.

The engine's stream tells every event at its place (`engine.clients.inferneo.events`); here each is handed on once,
whole, as the document has it: one that has no choice, as a usage has none, with an empty one, so that
``chunk.choices[0]`` is always there. What is no chunk of an answer, like a heartbeat, is passed over.
Leaving a stream, or dropping it, ends the call and its connection, which is how the server learns to stop.
"""

from __future__ import annotations

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
        self._last: object = None

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
        while (chunk := await self._next()) is not None:
            event = chunk.metadata.get("event")
            if event is self._last or chunk.is_error or not isinstance(mapping(event).get("choices"), list):
                continue  # told already by another chunk of the same event; no chunk of an answer
            self._last = event
            return self._make(event)
        raise StopAsyncIteration

    async def _next(self) -> StreamChunk | None:
        await self.begin()
        assert self._stream is not None
        try:
            return await anext(self._stream, None)
        except EngineNotRunning:
            raise
        except PenstockError as error:
            raise ((failure_of(self.call) if self.call.over else None) or error_from(error)) from error

    async def aclose(self) -> None:
        """End it: the call is cancelled and its connection closed. Idempotent."""
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<ChunkStream of {self.call!r}>"
