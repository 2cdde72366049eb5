"""What the events of Claude Code mean: a run's chunks, and what it came to.

Text comes twice, in fragments and whole; it is told once, from the fragments where there were any. A stream that
breaks off is `abandoned` by the program from one block on, and asked for again in one of several ways: its text is
void, and what stood before that block is told again. A provider's error comes as a message of the model
``<synthetic>``. Subagents' events carry a `parent_tool_use_id` and are no part of the text. A result counts what its
own turns cost, subagents and interrupted streams included, under `model_usage_since_last_result`.

Pure: no trio, no I/O. Events: recorded with 2.1.329 (2026-11-20 and 2026-11-27). What a result means is in
`engine.agents.claude_result`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from engine.agents.agent import EventParser, field, joined_texts, milliseconds, text_at
from engine.agents.chunks import (
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
from engine.agents.claude_result import (
    failure_of,
    judged,
    messages_usage,
    provider_error,
    result_of,
    spent_of,
    total_of,
)
from engine.errors import one_line
from engine.providers.wire import count, mapping, text_or_none

_LONGEST_NOTICE = 2_000
_SILENT = frozenset((
    "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop", "text_delta",
    "thinking_delta", "signature_delta", "input_json_delta", "citations_delta",
))  # fmt: skip
"""Parts of a stream that say nothing by themselves, or what comes elsewhere."""

_Words: TypeAlias = type[Text | Thinking]


class _Message:
    """A message that is being streamed: what came of it, block by block."""

    def __init__(self, api_id: str, name: str) -> None:
        self.api_id = api_id
        self.name = name
        self.blocks: dict[tuple[int, _Words], list[str]] = {}


class ClaudeEvents(EventParser):
    """Reads the events of one run.

    `resumed`: the session is an older one, so that its total cost is not that of this run. `structured`: the answer
    was asked for by a schema.
    """

    def __init__(self, *, resumed: bool = False, structured: bool = False) -> None:
        super().__init__()
        self._resumed = resumed
        self._structured = structured
        self._message: _Message | None = None
        self._void: list[str] = []
        self._kept: list[Chunk] = []
        self._names: dict[str, str] = {}
        self._used: set[str] = set()
        self._fragments: set[tuple[str, _Words]] = set()
        self._begun: set[tuple[str, _Words]] = set()
        self._streamed: set[str] = set()
        self._tools: set[str] = set()
        self._denied: set[str] = set()
        self._open: Mapping[str, object] | None = None
        self._so_far: Spent | None = None
        self._uncounted = False
        self._spent: Spent | None = None
        self._turns = 0

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        """The chunks of one event; a subagent's is `Raw`."""
        kind = text_at(event, "type")
        if event.get("parent_tool_use_id"):
            return [Raw(raw=event)]
        if kind == "result":
            return self._result(event)
        self.session_id = text_at(event, "session_id") or self.session_id
        if kind == "stream_event":
            return self._stream(event, mapping(event.get("event")))
        if kind == "assistant":
            return self._assistant(event, mapping(event.get("message")))
        if kind == "user":
            return self._user(event)
        if kind == "system":
            return self._system(event)
        if kind == "rate_limit_event":
            status = text_at(event, "rate_limit_info", "status")
            return [] if status == "allowed" else [_notice(f"rate limit: {status or 'unknown'}", event)]
        return [Raw(raw=event)]

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        """As for every program. A run that ended without a result has cost what its finished messages said, as long as
        none was being told when it ended: what that one cost nobody knows."""
        chunks = super().end(exit_code, stderr_tail, trouble)
        last = chunks[-1] if chunks else None
        known = self._open is None and not self._uncounted
        if isinstance(last, Error) and last.usage is None and known and self._so_far is not None:
            chunks[-1] = msgspec.structs.replace(last, usage=self._so_far)
        return chunks

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        return judged(exit_code, stderr_tail) or super().judge(exit_code, stderr_tail)

    # --- streams ------------------------------------------------------------------------------------------------------

    def _stream(self, event: Mapping[str, Any], part: Mapping[str, Any]) -> list[Chunk]:
        kind = text_at(part, "type")
        if kind == "message_start":
            self.done = False
            chunks = self._again()
            self._begin(text_at(part, "message", "id"))
            self._open = mapping(field(part, "message", "usage"))
            return chunks
        if kind in ("content_block_start", "content_block_delta"):
            return self._fragment(event, part, mapping(part.get("content_block") or part.get("delta")))
        if kind == "message_delta" and self._open is not None:
            ended = {name: value for name, value in mapping(part.get("usage")).items() if value is not None}
            return self._counted({**self._open, **ended})
        if kind == "message_stop":
            self._abandon(mapping(event.get("abandoned_blocks")))
        return [] if kind in _SILENT else [Raw(raw=event)]

    def _begin(self, api_id: str) -> _Message:
        self._message = _Message(api_id, self._name(api_id))
        self._streamed.add(self._message.name)
        return self._message

    def _name(self, api_id: str) -> str:
        """What a message is called: as its provider calls it, unless that is nothing, or a message that is void."""
        if api_id not in self._names:
            name = api_id if api_id and api_id not in self._used else self._new_name(api_id or "message")
            self._used.add(name)
            if not api_id:
                return name
            self._names[api_id] = name
        return self._names[api_id]

    def _new_name(self, like: str) -> str:
        return f"{like}-{len(self._used) + 1}"

    def _fragment(self, event: Mapping[str, Any], part: Mapping[str, Any], inner: Mapping[str, object]) -> list[Chunk]:
        """What a block begins with, or goes on with."""
        text, thought = text_or_none(inner.get("text")), text_or_none(inner.get("thinking"))
        said = text or thought
        if said is None:
            known = text_at(part, "type") in _SILENT or text_or_none(inner.get("type")) in _SILENT
            return [] if known else [Raw(raw=event)]
        kind: _Words = Text if text else Thinking
        message = self._message or self._begin(text_at(event, "api_message_id"))
        message.blocks.setdefault((count(part.get("index")) or 0, kind), []).append(said)
        self._fragments.add((message.name, kind))
        return [kind(text=said, message_id=message.name)]

    def _abandon(self, abandoned: Mapping[str, object]) -> None:
        """The message ends. If it broke off, what is void of it waits for what comes instead."""
        message, self._message = self._message, None
        if message is None or not abandoned:
            return
        self._uncounted = self._uncounted or self._open is not None
        self._open = None
        first_void = count(abandoned.get("from_block_index")) or 0
        if not any(index >= first_void for index, _ in message.blocks):
            return
        self._void.append(message.name)
        self._names.pop(message.api_id, None)
        kept = [(kind, "".join(pieces)) for (index, kind), pieces in message.blocks.items() if index < first_void]
        if not kept:
            return
        name = self._new_name(message.name)
        self._used.add(name)
        for kind, text in kept:
            later = any(type(chunk) is kind for chunk in self._kept)
            self._kept.append(kind(text=text, message_id=name, delta=later))

    def _again(self, attempt: Retry | None = None) -> list[Chunk]:
        """Something new comes: in place of what is void, if there is such."""
        void, kept = tuple(self._void), self._kept
        if not void:
            return [] if attempt is None else [attempt]
        self._void, self._kept = [], []
        told = attempt or Retry(reason="the stream broke off")
        return [msgspec.structs.replace(told, discards=void), *kept]

    # --- messages -----------------------------------------------------------------------------------------------------

    def _assistant(self, event: Mapping[str, Any], message: Mapping[str, object]) -> list[Chunk]:
        if message.get("model") == "<synthetic>" or event.get("is_api_error_message") is True:
            return self._synthetic(event, message)
        self.done = False
        chunks = self._again()
        api_id = text_or_none(message.get("id")) or ""
        name = self._message.name if self._message is not None and not api_id else self._name(api_id)
        for block in _blocks(message.get("content")):
            chunks += self._block(event, block, name)
        if name not in self._streamed and message.get("stop_reason"):
            chunks += self._counted(mapping(message.get("usage")))
        return chunks

    def _block(self, event: Mapping[str, Any], block: Mapping[str, object], name: str) -> list[Chunk]:
        kind = text_or_none(block.get("type")) or ""
        if kind in ("text", "thinking"):
            of: _Words = Text if kind == "text" else Thinking
            text = text_or_none(block.get(kind))
            if text is None or (name, of) in self._fragments:
                return []
            later = (name, of) in self._begun
            self._begun.add((name, of))
            return [of(text=text, message_id=name, delta=later)]
        tool_id = text_or_none(block.get("id")) or ""
        if kind in ("tool_use", "server_tool_use"):
            if tool_id in self._tools:
                return []
            self._tools.add(tool_id)
            tool = text_or_none(block.get("name")) or ""
            return [
                ToolUse(tool_id=tool_id, name=tool, tool_input=block.get("input"), message_id=name, raw=_rest(event))
            ]
        if kind.endswith("_tool_result"):
            return [_tool_result(block, event)]
        return [] if kind == "redacted_thinking" else [Raw(raw=event)]

    def _synthetic(self, event: Mapping[str, Any], message: Mapping[str, object]) -> list[Chunk]:
        """What the program says in the model's place: mostly that its provider answered with an error."""
        said = "\n".join(text for block in _blocks(message.get("content")) if (text := text_or_none(block.get("text"))))
        if event.get("is_api_error_message") is True:
            self.failure = provider_error(event, said)
        return [_notice(said, event)] if said else []

    def _user(self, event: Mapping[str, Any]) -> list[Chunk]:
        """The results of tools; what else comes in the user's name the program wrote to itself."""
        blocks = _blocks(field(event, "message", "content"))
        results = [_tool_result(block, event) for block in blocks if block.get("type") == "tool_result"]
        return [*results] if results else [Raw(raw=event)]

    def _system(self, event: Mapping[str, Any]) -> list[Chunk]:
        kind = text_at(event, "subtype")
        if kind == "init":
            self.done = False
            model, cwd = text_at(event, "model"), text_at(event, "cwd")
            return [Session(session_id=self.session_id, model=model, cwd=cwd, raw=event)]
        if kind == "api_retry":
            reason = text_at(event, "error")
            status = count(event.get("error_status"))
            reason = " ".join(word for word in (str(status or ""), reason) if word)
            delay_s = milliseconds(event.get("retry_delay_ms"))
            return self._again(Retry(attempt=count(event.get("attempt")), reason=reason, delay_s=delay_s, raw=event))
        if kind == "permission_denied":
            self._denied.add(text_at(event, "tool_use_id"))
            return [_denial(event, event)]
        if kind == "compact_boundary":
            return [_notice("the conversation was made shorter", event)]
        if kind == "status":
            status_text = text_at(event, "status")
            return [] if status_text in ("", "requesting") else [_notice(status_text, event)]
        return [] if kind == "thinking_tokens" else [Raw(raw=event)]

    # --- costs and results --------------------------------------------------------------------------------------------

    def _counted(self, usage: Mapping[str, object]) -> list[Chunk]:
        """A message is finished, and has cost this."""
        self._open = None
        spent = messages_usage(usage)
        if spent is None:
            return []
        self._so_far = sum_of(self._so_far, spent)
        return [Used(usage=self._so_far)]

    def _result(self, event: Mapping[str, Any]) -> list[Chunk]:
        self.done = True
        chunks: list[Chunk] = []
        denials = event.get("permission_denials")
        for denial in denials if isinstance(denials, list) else ():
            if (tool_id := text_at(mapping(denial), "tool_use_id")) not in self._denied:
                self._denied.add(tool_id)
                chunks.append(_denial(mapping(denial), None))
        spent = spent_of(event, resumed=self._resumed)
        self._spent = sum_of(self._spent, spent) if spent is not None else self._spent
        self._turns += count(event.get("num_turns")) or 0
        total = total_of(event)
        # What a provider did not count, the program counts as zero.
        counted = self._spent if self._spent is not None and self._spent.input_tokens else None
        failure = failure_of(event, self.failure)
        if failure is not None:
            self.success = None
            self.failure = msgspec.structs.replace(failure, usage=counted, total=total)
            return chunks
        chunks += self._again()
        found: Result = result_of(event)
        if self._structured and found.structured is None:
            chunks.append(_notice("it has given no answer by the schema that was asked for", None))
        self.failure = None
        self.success = msgspec.structs.replace(found, usage=counted, total=total, turns=self._turns)
        return chunks


# --- reading ----------------------------------------------------------------------------------------------------------


def _blocks(content: object) -> list[Mapping[str, object]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _rest(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event without its message, which is told in other words."""
    return {name: value for name, value in event.items() if name != "message"}


def _tool_result(block: Mapping[str, object], event: Mapping[str, Any]) -> ToolResult:
    output = joined_texts(block.get("content"))
    tool_id = text_or_none(block.get("tool_use_id")) or ""
    return ToolResult(tool_id=tool_id, output=output, is_error=block.get("is_error") is True, raw=_rest(event))


def _notice(text: str, event: Mapping[str, Any] | None) -> Notice:
    return Notice(text=one_line(text, _LONGEST_NOTICE), raw=_rest(event) if event is not None else None)


def _denial(found: Mapping[str, Any], event: Mapping[str, Any] | None) -> Notice:
    tool = text_at(found, "tool_name") or "a tool"
    why = text_at(found, "decision_reason") or text_at(found, "decision_reason_type")
    return _notice(f"it was not permitted to use {tool}" + (f" ({why})" if why else ""), event)
