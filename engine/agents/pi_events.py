"""What Pi's events mean: the lines of ``pi --mode json``, as chunks.

What rules the reading: Pi ends with exit code 0 whatever came of the run, so only its last message tells; it tells the
same thing up to five times (updates, message, turn, run), so all but one telling is left out; and it asks its provider
again by itself, after which the message that failed comes again from its beginning.

Pure: no trio, no I/O. As seen of 0.73.1 and 0.87.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.agents.agent import (
    LONGEST_MESSAGE,
    EventParser,
    amount,
    category_in,
    field,
    joined_texts,
    milliseconds,
    status_in,
    text_at,
)
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
    Used,
    sum_of,
)
from engine.errors import one_line
from engine.providers.wire import count, mapping

_FAILED = ("error", "aborted")

# Ends that Pi gives itself on SIGHUP and SIGTERM.
_STOPPED = (129, 143)

# A connection that broke in the middle of an answer, in the words of node's fetch and of Pi itself.
_BROKEN = re.compile(
    r"\bterminated\b|other side closed|reset before headers|ended without|ended before|premature|hang up"
)

_STDERR: tuple[tuple[str, Category, str], ...] = (
    ("No session found matching", "session_not_found", ""),
    (
        "Session found in different project",
        "session_not_found",
        "pass that directory as cwd, or fork=True to go on with a copy",
    ),
    ("Stored session working directory does not exist", "session_not_found", ""),
    ("No API key", "auth", ""),
    ("No models available", "auth", ""),
)

_REPEATS = frozenset((
    "start", "text_start", "text_end", "thinking_start", "thinking_end", "toolcall_start", "toolcall_delta",
    "toolcall_end", "done", "error",
))  # fmt: skip
"""Updates of a message that say nothing that a fragment, the message's end or the tool's start does not say."""


class PiParser(EventParser):
    """Reads one run. `ephemeral`: its session is not kept, so it has no name to resume it by."""

    def __init__(self, *, ephemeral: bool = False) -> None:
        super().__init__()
        self._ephemeral = ephemeral
        self._cwd = ""
        self._model = ""
        self._messages = 0
        self._told: set[type[Chunk]] = set()  # what came of the message that is being said, in fragments
        self._answer: Result | None = None
        self._turns = 0
        self._spent: Spent | None = None

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        """The chunks of one event."""
        match text_at(event, "type"):
            case "session":
                return self._opened(event)
            case "message_start":
                return self._begun(event)
            case "message_update":
                return self._updated(event)
            case "message_end":
                return self._said(event)
            case "tool_execution_start":
                return [self._tool_used(event)]
            case "tool_execution_end":
                return [_tool_result(event)]
            case "agent_start":
                self.success, self.done = None, False
            case "agent_end":
                self._run_ended(event)
            case "agent_settled":
                self.done = True
            case "auto_retry_start":
                reason = one_line(text_at(event, "errorMessage"), LONGEST_MESSAGE)
                return [self._again(event, reason, milliseconds(event.get("delayMs")))]
            case "auto_retry_end":
                self._retries_ended(event)
            case "compaction_start" | "compaction_end" as kind:
                return self._compacted(event, kind == "compaction_end")
            case "turn_start" | "turn_end" | "tool_execution_update":
                pass  # told otherwise, or, of a tool that runs, the whole of what it has written so far
            case _:
                return [Raw(raw=event)]
        return []

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        """As `EventParser.end`; an error says what the messages before it have cost."""
        chunks = super().end(exit_code, stderr_tail, trouble)
        if chunks and isinstance(chunks[-1], Error) and chunks[-1].usage is None:
            chunks[-1] = msgspec.structs.replace(chunks[-1], usage=self._spent)
        return chunks

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        """What Pi failed of without an event: it was stopped, or refused the run on its standard error."""
        if exit_code in _STOPPED:
            return Error(category="interrupted", message=f"it was ended by signal {exit_code - 128}")
        for line in stderr_tail.splitlines():
            for words, category, hint in _STDERR:
                if words in line:
                    said = one_line(line, LONGEST_MESSAGE)
                    return Error(category=category, message=f"{said}: {hint}" if hint else said)
        return super().judge(exit_code, stderr_tail)

    # --- messages -----------------------------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return f"message-{self._messages}"

    def _opened(self, event: Mapping[str, Any]) -> list[Chunk]:
        found = text_at(event, "id")
        if not found:
            return [Raw(raw=event)]
        self.session_id = "" if self._ephemeral else found
        self._cwd = text_at(event, "cwd")
        return [Session(session_id=self.session_id, cwd=self._cwd, raw=event)]

    def _begun(self, event: Mapping[str, Any]) -> list[Chunk]:
        if text_at(event, "message", "role") != "assistant":
            return []
        self._messages += 1
        self._told = set()
        self.failure, self.done = None, False
        model = text_at(event, "message", "model")
        if not model or model == self._model:
            return []
        self._model = model
        return [Session(session_id=self.session_id, model=model, cwd=self._cwd)]

    def _updated(self, event: Mapping[str, Any]) -> list[Chunk]:
        update = mapping(event.get("assistantMessageEvent"))
        kind, delta = text_at(update, "type"), text_at(update, "delta")
        if kind in _REPEATS or (kind in ("text_delta", "thinking_delta") and not delta):
            return []
        # Up to 0.73 each update holds the whole message so far, twice.
        brief = {name: value for name, value in event.items() if name != "message"}
        brief["assistantMessageEvent"] = {name: value for name, value in update.items() if name != "partial"}
        if kind == "text_delta":
            self._told.add(Text)
            return [Text(text=delta, message_id=self._id, raw=brief)]
        if kind == "thinking_delta":
            self._told.add(Thinking)
            return [Thinking(text=delta, message_id=self._id, raw=brief)]
        return [Raw(raw=brief)]

    def _said(self, event: Mapping[str, Any]) -> list[Chunk]:
        message = mapping(event.get("message"))
        if message.get("role") != "assistant":
            return []
        chunks: list[Chunk] = []
        stop = text_at(message, "stopReason")
        text = _joined(message, "text")
        used = _stated(mapping(message.get("usage")))
        if stop in _FAILED:
            self.failure = _failure(text_at(message, "errorMessage") or f"the answer ended with {stop}", stop)
        elif not message.get("content") and used is None:
            # So does 0.73 take a stream that has nothing in it, or a page of HTML.
            self.failure = Error(category="cut", message="the provider's answer had nothing in it, and no usage")
        else:
            self.failure = None
            self._turns += 1
            self._answer = Result(text=text, stop_reason=stop)
            chunks += self._whole(message, text)
        if used is not None:
            self._spent = sum_of(self._spent, used)
            chunks.append(Used(usage=self._spent))
        return chunks

    def _whole(self, message: Mapping[str, Any], text: str) -> list[Chunk]:
        """What a message says that did not come in fragments."""
        chunks: list[Chunk] = []
        thought = _joined(message, "thinking")
        if thought and Thinking not in self._told:
            chunks.append(Thinking(text=thought, message_id=self._id, delta=False))
        if text and Text not in self._told:
            chunks.append(Text(text=text, message_id=self._id, delta=False))
        return chunks

    def _tool_used(self, event: Mapping[str, Any]) -> Chunk:
        tool_id, name = text_at(event, "toolCallId"), text_at(event, "toolName")
        if not (tool_id or name):
            return Raw(raw=event)
        return ToolUse(tool_id=tool_id, name=name, tool_input=event.get("args"), message_id=self._id, raw=event)

    # --- the run ------------------------------------------------------------------------------------------------------

    def _run_ended(self, event: Mapping[str, Any]) -> None:
        if self.failure is None and self._answer is not None and event.get("willRetry") is not True:
            self.success = msgspec.structs.replace(self._answer, usage=self._spent, turns=self._turns)
            self.done = "willRetry" not in event  # who says this says `agent_settled`, too

    def _again(self, event: Mapping[str, Any], reason: str, delay_s: float | None) -> Retry:
        discards = (self._id,) if self._told else ()
        self.success, self.done, self._told = None, False, set()
        return Retry(attempt=count(event.get("attempt")), reason=reason, delay_s=delay_s, discards=discards, raw=event)

    def _retries_ended(self, event: Mapping[str, Any]) -> None:
        final = text_at(event, "finalError")
        if event.get("success") is False and final and self.failure is None:
            self.failure = _failure(final)

    def _compacted(self, event: Mapping[str, Any], is_over: bool) -> list[Chunk]:
        reason = one_line(text_at(event, "reason") or "no reason said", LONGEST_MESSAGE)
        if not is_over:
            self.done = False
            return [Notice(text=f"the session is being compacted ({reason})", raw=event)]
        problem = one_line(text_at(event, "errorMessage"), LONGEST_MESSAGE)
        if problem:
            return [Notice(text=f"the session was not compacted ({reason}): {problem}", raw=event)]
        # The result holds a summary of all that was said.
        brief = {name: value for name, value in event.items() if name != "result"}
        if event.get("willRetry") is True:
            return [self._again(brief, f"the session was compacted ({reason})", None)]
        self.done = self.success is not None
        return [Notice(text=f"the session was compacted ({reason})", raw=brief)]


# --- parts of events --------------------------------------------------------------------------------------------------


def _joined(message: Mapping[str, Any], kind: str) -> str:
    """The texts of a message's blocks of this kind, as their fragments join."""
    content = message.get("content")
    blocks = [mapping(block) for block in content] if isinstance(content, list) else []
    return "".join(text_at(block, kind) for block in blocks if block.get("type") == kind)


def _failure(said: str, stop: str = "error") -> Error:
    status = status_in(said)
    category: Category = "interrupted" if stop == "aborted" else category_in(said, status)
    if category == "failed" and _BROKEN.search(said.lower()):
        category = "cut"
    if category == "failed" and "server had an error" in said:  # OpenAI's words in a stream, where no status is
        category = "server"
    return Error(category=category, message=one_line(said, LONGEST_MESSAGE), status=status)


def _tool_result(event: Mapping[str, Any]) -> Chunk:
    tool_id = text_at(event, "toolCallId")
    if not tool_id:
        return Raw(raw=event)
    content = field(event, "result", "content")
    output = joined_texts(content) if isinstance(content, list) else event.get("result")
    return ToolResult(tool_id=tool_id, output=output, is_error=event.get("isError") is True, raw=event)


def _stated(usage: Mapping[str, object]) -> Spent | None:
    """What a message has cost. Zeros all over are what Pi writes where its provider said nothing: None."""
    given, made = count(usage.get("input")), count(usage.get("output"))
    read, written = count(usage.get("cacheRead")) or 0, count(usage.get("cacheWrite")) or 0
    cost = amount(mapping(usage.get("cost")).get("total")) or None  # zero: of a model of which Pi knows no prices
    if not (given or made or read or written):
        return None
    return Spent((given or 0) + read + written, made or 0, read, count(usage.get("reasoning")), cost)
