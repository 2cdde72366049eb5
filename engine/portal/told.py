"""Handlers of an agent's run, called where its answer is read: in the reader's thread, or his asyncio task.

The run is `engine.agent_runs`' own, made in the portal's loop. Handlers go there as `Noted`: what one is told is put,
as `News`, in the line of the stream that is being read, before the chunk that says it, and told on the other side when
the reader comes to it. A handler that is called anywhere else is called as it is. Nothing here waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

import msgspec

from engine.agent_runs import note_failure
from engine.agents.format import HANDLERS
from engine.call import Call
from engine.providers.wire import StreamChunk
from engine.streaming import ReplyStream


class News(msgspec.Struct, frozen=True):
    """What a handler is to be told."""

    handler: Callable[[Any], Any]
    value: Any

    def tell(self) -> Any:
        """Call the handler; what it returns is to be awaited, if it can be."""
        return self.handler(self.value)

    def failed(self, call: Call, error: Exception) -> None:
        """The handler has raised this, or taken too long: say so, and go on, unless its model says otherwise.

        Raises:
          HandlerFailed: a handler that fails fails the run.
        """
        note_failure(call, self.handler, error, exit_hook=call.owner.exit_hook)


Piece: TypeAlias = StreamChunk | News
"""What comes through the pipe of a stream."""

_line: ContextVar[deque[Piece] | None] = ContextVar("penstock_portal_news", default=None)


class Noted:
    """A handler, as the loop calls it."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self._handler = handler

    def __call__(self, value: Any) -> Any:
        line = _line.get()
        if line is None:
            return self._handler(value)
        line.append(News(self._handler, value))
        return None


def noted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a run or a model, with `Noted` for its handlers, by their names or in a dict of them."""
    return {name: _noted(name, value) for name, value in arguments.items()}


def _noted(name: str, value: Any) -> Any:
    if name.endswith("handlers") and isinstance(value, Mapping):
        return noted(value)
    return Noted(value) if name in HANDLERS and callable(value) else value


class Narrated:
    """A stream of the loop with the news of its chunks among them. Made in the task that reads it."""

    def __init__(self, stream: ReplyStream) -> None:
        self._stream = stream
        self._pieces: deque[Piece] = deque()
        _line.set(self._pieces)

    def __aiter__(self) -> Narrated:
        return self

    async def __anext__(self) -> Piece:
        if not self._pieces:
            chunk = await anext(self._stream)
            self._pieces.append(chunk)
        return self._pieces.popleft()

    async def aclose(self) -> None:
        """End the stream, and wait until nothing of its call is left."""
        await self._stream.aclose()
