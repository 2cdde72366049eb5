"""One run of an agent, put together from its chunks: what it said, the tools it used, what it cost, how it ended.

Also how each chunk looks to whoever reads a stream. Messages that a retry discards are forgotten, but for tools that
have answered: those were really used. Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.agents import chunks as ch
from engine.providers.wire import StreamChunk


def read_chunk(data: bytes) -> ch.Chunk | None:
    """A chunk from its JSON; None if it is none."""
    try:
        return ch.decode_chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Use:
    """A use of a tool: whether its result came, and whether a retry has discarded its message."""

    __slots__ = ("answered", "chunk", "discarded")

    def __init__(self, chunk: ch.ToolUse) -> None:
        self.chunk = chunk
        self.answered = False
        self.discarded = False


class RunRecord:
    """What is known of a run by now."""

    def __init__(self) -> None:
        self._session: ch.Session | None = None
        self._texts: dict[str, list[str]] = {}
        self._thoughts: dict[str, list[str]] = {}
        self._uses: list[_Use] = []
        self._results: list[ch.ToolResult] = []
        self._used: ch.Spent | None = None
        self._terminal: ch.Result | ch.Error | None = None

    def take(self, chunk: ch.Chunk) -> None:
        """The next chunk of the run."""
        match chunk:
            case ch.Session():
                self._session = chunk
            case ch.Text():
                self._add(self._texts, chunk)
            case ch.Thinking():
                self._add(self._thoughts, chunk)
            case ch.ToolUse():
                self._uses.append(_Use(chunk))
            case ch.ToolResult():
                self._answer(chunk)
            case ch.Retry():
                self._discard(chunk.discards)
            case ch.Used():
                self._used = chunk.usage
            case ch.Result() | ch.Error():
                self._terminal = chunk

    @staticmethod
    def _add(pieces: dict[str, list[str]], chunk: ch.Text | ch.Thinking) -> None:
        if chunk.delta:
            pieces.setdefault(chunk.message_id, []).append(chunk.text)
        else:
            pieces[chunk.message_id] = [chunk.text]

    def _discard(self, messages: tuple[str, ...]) -> None:
        for message in messages:
            self._texts.pop(message, None)
            self._thoughts.pop(message, None)
        for use in self._uses:
            use.discarded = use.discarded or use.chunk.message_id in messages

    def _answer(self, result: ch.ToolResult) -> None:
        self._results.append(result)
        for use in reversed(self._uses):  # an identifier may come again: it is the latest use that waits
            if use.chunk.tool_id == result.tool_id and not use.answered:
                use.answered = True
                return

    def answer(self) -> dict[str, object]:
        """The run as a dict that JSON can hold.

        ``session_id``, ``model``, ``result`` (the last message), ``messages`` (all of them, in their order),
        ``thinking``, ``tool_uses`` (``id name input``), ``tool_results`` (``tool_use_id content is_error``), ``usage``,
        ``total_cost_usd``, ``stop_reason``, ``num_turns``, ``structured_output``, ``is_error`` and ``error``
        (``category message status``). What is not known is None.
        """
        session, end = self._session, self._terminal
        messages = [text for pieces in self._texts.values() if (text := "".join(pieces))]
        result = end.text if isinstance(end, ch.Result) and end.text else (messages[-1] if messages else None)
        ended = end.session_id if end is not None else ""
        spent = end.usage if end is not None and end.usage is not None else self._used
        failure = end if isinstance(end, ch.Error) else None
        return {
            "session_id": ended or (session.session_id if session is not None else "") or None,
            "model": session.model or None if session is not None else None,
            "result": result,
            "messages": messages,
            "thinking": "".join("".join(pieces) for pieces in self._thoughts.values()) or None,
            "tool_uses": [_use(use.chunk) for use in self._uses if use.answered or not use.discarded],
            "tool_results": [_result(one) for one in self._results],
            "usage": msgspec.to_builtins(spent) if spent is not None else None,
            "total_cost_usd": spent.cost_usd if spent is not None else None,
            "stop_reason": end.stop_reason or None if isinstance(end, ch.Result) else None,
            "num_turns": end.turns if isinstance(end, ch.Result) else None,
            "structured_output": end.structured if isinstance(end, ch.Result) else None,
            "is_error": failure is not None,
            "error": _failure(failure) if failure is not None else None,
        }


def _use(chunk: ch.ToolUse) -> dict[str, object]:
    return {"id": chunk.tool_id, "name": chunk.name, "input": chunk.tool_input}


def _result(chunk: ch.ToolResult) -> dict[str, object]:
    return {"tool_use_id": chunk.tool_id, "content": chunk.output, "is_error": chunk.is_error}


def _failure(error: ch.Error) -> dict[str, object]:
    return {"category": error.category, "message": error.message, "status": error.status or None}


def as_stream_chunk(chunk: ch.Chunk) -> StreamChunk:
    """A chunk as whoever reads the stream sees it.

    Its metadata hold its ``kind``, its own fields, and the program's own event under ``"event"`` where there is one.
    """
    fields: dict[str, Any] = msgspec.to_builtins(chunk)
    event = fields.pop("raw", None)
    metadata = fields if event is None else {**fields, "event": event}
    match chunk:
        case ch.Text():
            return StreamChunk("text", chunk.text, chunk.delta, metadata)
        case ch.Thinking():
            return StreamChunk("thinking", chunk.text, chunk.delta, metadata)
        case ch.ToolUse():
            name, given = chunk.name, chunk.tool_input
            return StreamChunk("tool_use", None, False, metadata, name, chunk.tool_id, given)
        case ch.ToolResult():
            failed = chunk.is_error
            return StreamChunk(
                "tool_result", None, False, metadata, tool_id=chunk.tool_id, tool_output=chunk.output, is_error=failed
            )
        case ch.Result():
            return StreamChunk("result", chunk.text, False, {**metadata, "finish_reason": chunk.stop_reason or None})
        case ch.Error():
            return StreamChunk("error", chunk.message, False, metadata, is_error=True)
        case ch.Notice():
            return StreamChunk("system", chunk.text, False, metadata)
        case _:
            return StreamChunk("system", None, False, metadata)
