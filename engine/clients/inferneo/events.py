"""Inferneo's two formats for readers of streams who want every event of the server's, whole and at its place.

Beside the texts and tool calls of the first choice, a stream of ours tells events that hold none of these late, or at
its end. Here each event is told when it comes, by a chunk of its own if nothing else tells it. What is sent, what an
answer means and what a stream makes up are the provider's own.

Pure: no trio, no httpx, no I/O. Never raises, whatever a server sends.
"""

from __future__ import annotations

from engine.providers.completions import CompletionAssembler, Completions
from engine.providers.openai_chat import OpenAIChat
from engine.providers.openai_chunks import ChatAssembler
from engine.providers.wire import RawEvent, StreamChunk
from engine.sse import Event


class _EachEvent(ChatAssembler):
    """Every event but the terminator has a chunk with that event in its metadata, in the order of the events; those
    that have several chunks have one `metadata` for all. The ``result`` holds no event: it was told before."""

    __slots__ = ()

    def feed(self, event: Event) -> list[StreamChunk]:
        was_done = self._done
        chunks = super().feed(event)
        if chunks or was_done or self._done:
            return chunks
        return [StreamChunk("system", metadata=RawEvent(event))]

    def _result(self, event: Event) -> StreamChunk:
        metadata = super()._result(event).metadata
        return StreamChunk("result", metadata={name: metadata[name] for name in ("finish_reason", "usage")})


class _EachCompletionEvent(_EachEvent, CompletionAssembler):
    __slots__ = ()


class ChatEvents(OpenAIChat):
    """Chat completions, event by event."""

    __slots__ = ()

    def assembler(self) -> ChatAssembler:
        """What makes one stream's chunks and its answer."""
        return _EachEvent()


class CompletionEvents(Completions):
    """Text completions, event by event."""

    __slots__ = ()

    def assembler(self) -> CompletionAssembler:
        """What makes one stream's chunks and its answer."""
        return _EachCompletionEvent()
