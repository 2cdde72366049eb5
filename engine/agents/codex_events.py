"""What ``codex exec --json`` writes, read as chunks: one JSON object a line, whole messages, whole tools.

Three things are not what they seem. The usage at the end of a turn is that of the whole session so far. An ``error`` of
its own is a warning, or tells of another attempt: a turn has failed when ``turn.failed`` says so. And a refused
request may be told without its status, as the provider's bare answer.

Pure: no trio, no I/O. Events: codex-rs/exec/src/exec_events.rs, and recorded runs of 0.169.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from engine.agents.agent import LONGEST_MESSAGE, EventParser, category_in, field, status_in, text_at
from engine.agents.chunks import (
    Category,
    Chunk,
    Error,
    Notice,
    Raw,
    Result,
    Retry,
    Session,
    Spent,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from engine.errors import one_line
from engine.providers.wire import count, decode_json, mapping, text_or_none

_RECONNECTING = re.compile(r"Reconnecting\.\.\.(?: (?P<attempt>\d{1,9})/\d+)?\s*(?P<reason>.*)", re.DOTALL)
_NOISE = re.compile(r"\s*(WARNING:|Reading .*stdin)")
_COMPLAINT = re.compile(r"error\b", re.IGNORECASE)

# Its own words, where those of every program do not do.
_WORDS: tuple[tuple[str, Category], ...] = (
    ("missing environment variable", "auth"),
    ("quota exceeded", "quota"),
    ("usage limit", "quota"),
    ("to use codex with your chatgpt plan", "quota"),
    ("context window", "rejected"),
    ("connection failed", "network"),
    ("stream disconnected before completion", "cut"),
    ("error while reading the server response", "cut"),
    ("at capacity", "server"),
)
_BUSY_SESSION = "already has an active writer"
_NO_SESSION = ("thread/resume failed", "no rollout found")


class _Tool(NamedTuple):
    """Which fields of an item are what its tool is given, and which are its answer."""

    given: tuple[str, ...]
    answer: tuple[str, ...]


_TOOLS = {
    "command_execution": _Tool(("command",), ("aggregated_output",)),
    "file_change": _Tool(("changes",), ("status",)),
    "mcp_tool_call": _Tool(("arguments",), ("error", "result")),
    "web_search": _Tool(("query", "action"), ("status",)),
    "todo_list": _Tool(("items",), ("items",)),
    "collab_tool_call": _Tool(("prompt", "receiver_thread_ids"), ("agents_states",)),
}


class CodexParser(EventParser):
    """Reads the events of one run. `before` is what its session had cost, None if nobody knows; `structured`, whether
    the answer was to be JSON."""

    def __init__(self, before: Spent | None, *, structured: bool = False) -> None:
        super().__init__()
        self._before = before
        self._structured = structured
        self._answer = ""
        self._items = 0
        self._turn = False
        self._trouble = ""
        self._held: Notice | None = None
        self._used: set[str] = set()
        self._answered: set[str] = set()

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        """The chunks of one event; `Raw` for one that has no meaning here, or not the shape that it should."""
        before, self._held = self._held, None
        chunks = self._read(event)
        if before is None or (self.failure is not None and self.failure.message == _brief(before.text)):
            return chunks
        return [before, *chunks]

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        """As for every program; what it complained of last is told, unless that is what the run failed of."""
        before, self._held = self._held, None
        chunks = super().end(exit_code, stderr_tail, trouble)
        last = chunks[-1] if chunks else None
        if before is None or (isinstance(last, Error) and last.message == _brief(before.text)):
            return chunks
        return [before, *chunks]

    def _read(self, event: Mapping[str, Any]) -> list[Chunk]:
        match event.get("type"):
            case "thread.started" if text_at(event, "thread_id"):
                self.session_id = text_at(event, "thread_id")
                return [Session(session_id=self.session_id, raw=event)]
            case "turn.started":
                self._turn = True
            case "turn.completed":
                return self._completed(event)
            case "turn.failed":
                message = text_at(event, "error", "message") or self._trouble or "the turn failed"
                self.failure = _failure(message, event)
                self.done = True
                return []
            case "error" if text_at(event, "message"):
                return self._error(text_at(event, "message"), event)
            case "item.started" | "item.updated" | "item.completed" as kind:
                return self._item(kind, event)
        return [Raw(raw=event)]

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        """What it failed of that has not said so as an event: it refused to start, or was interrupted."""
        lines = [line for line in stderr_tail.splitlines() if line.strip() and not _NOISE.match(line)]
        said = next((line for line in lines if _COMPLAINT.match(line)), lines[-1] if lines else "")
        if _BUSY_SESSION in said:
            return Error(category="session_busy", message=_brief(said))
        if any(words in said for words in _NO_SESSION):
            return Error(category="session_not_found", message=_brief(said))
        if exit_code and exit_code > 0 and self._trouble:
            return _failure(self._trouble, None)
        if exit_code and exit_code > 0 and self._turn and not said:
            # So it ends after SIGINT: no event, no word.
            return Error(category="interrupted", message="it was stopped before its turn was over")
        return super().judge(exit_code, said)

    def _completed(self, event: Mapping[str, Any]) -> list[Chunk]:
        total = _spent(event.get("usage"))
        told: list[Chunk] = []
        structured = None
        if self._structured:
            try:
                structured = decode_json(self._answer.encode("utf-8", "replace"))
            except msgspec.DecodeError:
                told.append(Notice(text="its answer is not JSON, although a schema was asked for"))
        self.success = Result(
            text=self._answer,
            stop_reason="completed",
            usage=_difference(total, self._before),
            total=total,
            structured=structured,
            raw=event,
        )
        self.done = True
        return told

    def _error(self, message: str, event: Mapping[str, Any]) -> list[Chunk]:
        again = _RECONNECTING.match(message)
        if again is None:
            self._trouble = message
            self._held = Notice(text=message, raw=event)  # a turn that fails of it says so next
            return []
        attempt = int(again["attempt"]) if again["attempt"] else None
        return [Retry(attempt=attempt, reason=_brief(again["reason"].strip("() ")), raw=event)]

    def _item(self, kind: str, event: Mapping[str, Any]) -> list[Chunk]:
        item = mapping(event.get("item"))
        sort = text_at(item, "type")
        if sort in _TOOLS:
            return self._tool(kind, sort, item, event)
        said = text_or_none(item.get("message" if sort == "error" else "text"))
        if kind != "item.completed" or said is None:
            return [Raw(raw=event)]
        match sort:
            case "agent_message":
                self._answer = said
                return [Text(text=said, message_id=self._name(item), delta=False, raw=event)]
            case "reasoning":
                return [Thinking(text=said, message_id=self._name(item), delta=False, raw=event)]
            case "error":
                return [Notice(text=said, raw=event)]
        return [Raw(raw=event)]

    def _name(self, item: Mapping[str, Any]) -> str:
        self._items += 1
        return text_at(item, "id") or f"unnamed_{self._items}"

    def _tool(self, kind: str, sort: str, item: Mapping[str, Any], event: Mapping[str, Any]) -> list[Chunk]:
        tool = _TOOLS[sort]
        over = kind == "item.completed"
        name = text_at(item, "id")
        if not name or (over and name in self._answered):
            return [Raw(raw=event)]
        told: list[Chunk] = []
        if name not in self._used and (over or sort != "web_search" or text_at(item, "query")):
            self._used.add(name)
            given = {field_name: item[field_name] for field_name in tool.given if item.get(field_name) is not None}
            used = mapping(item.get("arguments")) if sort == "mcp_tool_call" else given
            told.append(ToolUse(tool_id=name, name=_tool_name(sort, item), tool_input=used, raw=event))
        if over:
            self._answered.add(name)
            output = next((item[answer] for answer in tool.answer if item.get(answer) is not None), None)
            told.append(ToolResult(tool_id=name, output=output, is_error=_is_error(item), raw=event))
        return told or [Raw(raw={**event, "item": {key: item[key] for key in item if key != "aggregated_output"}})]


def _tool_name(sort: str, item: Mapping[str, Any]) -> str:
    """The tool of an item: of another server's, and of one for further agents, the name by which the model calls it."""
    if sort == "mcp_tool_call":
        return f"mcp__{text_at(item, 'server')}__{text_at(item, 'tool')}"
    return text_at(item, "tool") if sort == "collab_tool_call" and text_at(item, "tool") else sort


def _is_error(item: Mapping[str, Any]) -> bool:
    code = item.get("exit_code")
    failed = isinstance(code, int) and not isinstance(code, bool) and code != 0
    return failed or item.get("status") in ("failed", "declined") or item.get("error") is not None


def _failure(message: str, event: Mapping[str, Any] | None) -> Error:
    """What a turn failed of, by the text that is all that is said of it."""
    status = status_in(message)
    if message.lstrip().startswith("{"):
        refused = _refusal(message)
        if refused:  # the body of a refused request, which it shows in place of a message for a 400 alone
            message, status = refused, status or 400
    lowered = message.lower()
    category = next((category for words, category in _WORDS if words in lowered), None)
    if status == 429 or (status and category not in ("quota", "rejected")):
        category = category_in(message, status)  # what follows upon a 429 are the provider's words
    return Error(
        category=category or category_in(message),
        message=_brief(message),
        status=status,
        raw=event,
    )


def _brief(message: str) -> str:
    return one_line(message, LONGEST_MESSAGE)


def _refusal(message: str) -> str:
    """What the body of a refusal says, empty if it is none."""
    try:
        body = mapping(decode_json(message.encode("utf-8", "replace")))
    except msgspec.DecodeError:
        return ""
    return text_at(body, "error", "message") or text_at(body, "detail") or text_at(body, "error")


def _spent(usage: object) -> Spent | None:
    """What a session has cost, in the terms of every program; None if nothing of it can be read."""
    if not isinstance(usage, Mapping):
        return None
    spent = Spent(
        input_tokens=count(field(usage, "input_tokens")),
        output_tokens=count(field(usage, "output_tokens")),
        cached_tokens=count(field(usage, "cached_input_tokens")),
        reasoning_tokens=count(field(usage, "reasoning_output_tokens")),
    )
    return None if spent == Spent() else spent


_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


def _difference(total: Spent | None, before: Spent | None) -> Spent | None:
    """What a run has cost, of two totals; None where one is not known, or where there is not more than before: where
    a provider states no usage the program adds nothing, and no turn costs nothing."""
    if total is None or before is None:
        return None
    found: dict[str, int | None] = {}
    for name in _COUNTS:
        now, then = getattr(total, name), getattr(before, name)
        found[name] = None if now is None or then is None else now - then
    if any(value is not None and value < 0 for value in found.values()) or not any(found.values()):
        return None
    return Spent(**found)
