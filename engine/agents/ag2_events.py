"""What a chat of AG2 says of itself, in chunks: one reader for its network (1.2 and later), one for the classic one.

Events are plain dicts here, made in `engine.transports.ag2_network` and `engine.transports.ag2_classic`. Those of the
network name their ``agent`` and their ``type``; those of the classic library have ``type`` and ``content``, as it has
them itself. Everything an agent says carries its name: in the message's identifier, and as ``{"agent": name}`` in
`raw`. What a message's fragments have told already, the whole message does not tell again.

Pure: no trio, no I/O, no AG2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.agents.agent import LONGEST_MESSAGE, EventParser, category_in, field, text_at
from engine.agents.chunks import Chunk, Error, Raw, Result, Spent, Text, Thinking, ToolResult, ToolUse, Used, sum_of
from engine.errors import one_line
from engine.providers.wire import count, decode_json, mapping

_VIOLATED = "expectation_violated"
_NEVER_CONNECTED = ("ConnectError", "ConnectTimeout")


class _Calls:
    """The calls of tools under names that are unique: some servers count them anew in each of their responses."""

    def __init__(self) -> None:
        self._heard = Counter[tuple[str, str, str]]()
        self._answered = Counter[tuple[str, str]]()
        self._names: dict[tuple[str, str], list[str]] = {}
        self._taken: set[str] = set()

    def called(self, agent: str, call_id: str, source: str = "") -> str | None:
        """The name of a call; None if another source has told of it already. Each source tells of each call once."""
        self._heard[source, agent, call_id] += 1
        names = self._names.setdefault((agent, call_id), [])
        if self._heard[source, agent, call_id] <= len(names):
            return None
        name, number = call_id, len(names)
        while name in self._taken:
            number += 1
            name = f"{agent or 'call'}-{call_id}-{number}"
        self._taken.add(name)
        names.append(name)
        return name

    def answered(self, agent: str, call_id: str) -> str:
        """The name of the call that this is the next answer to."""
        names = self._names.get((agent, call_id), [])
        number = self._answered[agent, call_id]
        self._answered[agent, call_id] += 1
        return names[min(number, len(names) - 1)] if names else call_id


class ChatParser(EventParser):
    """What both readers have in common: messages of several speakers, and the bill of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""
        self._turns = 0
        self._messages = 0
        self._open: dict[str, str] = {}
        self._told: set[str] = set()
        self._calls = _Calls()
        self._spent: Spent | None = None

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        """The same as for every run; what the chat had used by then is part of whatever came of it."""
        if trouble is not None and trouble.usage is None:
            trouble = msgspec.structs.replace(trouble, usage=self._spent)
        return super().end(exit_code, stderr_tail, trouble)

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        """A chat that has not said that it is over."""
        message = "the chat ended without saying what came of it"
        return Error(category="protocol", message=message, usage=self._spent)

    def _message(self, agent: str) -> str:
        """The identifier of the message that this agent is at."""
        if agent not in self._open:
            self._messages += 1
            self._open[agent] = f"{agent}-{self._messages}"
        return self._open[agent]

    def _fragment(self, agent: str, text: str) -> list[Chunk]:
        if not text:
            return []
        message_id = self._message(agent)
        self._told.add(message_id)
        return [Text(text=text, message_id=message_id, raw={"agent": agent})]

    def _whole(self, agent: str, text: str) -> list[Chunk]:
        """The whole message, for whoever has not had it in fragments."""
        message_id = self._message(agent)
        if not text or message_id in self._told:
            return []
        self._told.add(message_id)
        return [Text(text=text, message_id=message_id, delta=False, raw={"agent": agent})]

    def _tool_use(self, agent: str, call: Mapping[str, Any], tool_id: str) -> ToolUse:
        arguments = call.get("arguments")
        try:
            given = decode_json(arguments.encode()) if isinstance(arguments, str) and arguments else arguments
        except (msgspec.DecodeError, UnicodeEncodeError):
            given = arguments
        message_id = self._open.get(agent, "")
        name, raw = text_at(call, "name"), {"agent": agent}
        return ToolUse(tool_id=tool_id, name=name, tool_input=given, message_id=message_id, raw=raw)

    def _over(self, reason: str) -> list[Chunk]:
        self.success = Result(text=self._said, stop_reason=reason, usage=self._spent, turns=self._turns)
        self.done = True
        return []

    def _failed(self, agent: str, error: object) -> list[Chunk]:
        self.failure = msgspec.structs.replace(_failure(error, agent), usage=self._spent)
        self.done = True
        return []


class NetworkParser(ChatParser):
    """Reads the events of a channel of AG2's network, and of the agents in it."""

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        agent, content = text_at(event, "agent"), text_at(event, "content")
        match event.get("type"):
            case "ModelMessageChunk":
                return self._fragment(agent, content)
            case "ModelReasoning":
                return self._thought(agent, content)
            case "ModelMessage":
                return self._whole(agent, content)
            case "ModelResponse":
                return self._response(agent, event)
            case "ToolCallEvent":
                return self._call(agent, event, "event")
            case "ToolResultEvent" | "ToolErrorEvent" | "ToolNotFoundEvent" as kind:
                output, is_error = event.get("output"), kind != "ToolResultEvent"
                raw = {"agent": agent, "name": event.get("name")}
                tool_id = self._calls.answered(agent, text_at(event, "parent_id"))
                return [ToolResult(tool_id=tool_id, output=output, is_error=is_error, raw=raw)]
            case "UsageEvent":
                return self._usage(event)
            case "packet":
                self._turns += 1
                self._said = content or self._said
                return []
            case "turn_failed":
                return self._failed(agent, event.get("error"))
            case "closed":
                return self._closed(text_at(event, "reason"))
        return [Raw(raw=dict(event))]

    def _thought(self, agent: str, text: str) -> list[Chunk]:
        return [Thinking(text=text, message_id=self._message(agent), raw={"agent": agent})] if text else []

    def _response(self, agent: str, event: Mapping[str, Any]) -> list[Chunk]:
        chunks = self._whole(agent, text_at(event, "content"))
        calls = event.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            chunks += self._call(agent, mapping(call), "response")
        self._open.pop(agent, None)
        return chunks

    def _call(self, agent: str, call: Mapping[str, Any], source: str) -> list[Chunk]:
        """A call, which its response and an event of its own both tell of."""
        tool_id = self._calls.called(agent, text_at(call, "id"), source)
        return [] if tool_id is None else [self._tool_use(agent, call, tool_id)]

    def _usage(self, event: Mapping[str, Any]) -> list[Chunk]:
        found = _spent(
            field(event, "usage", "prompt_tokens"),
            field(event, "usage", "completion_tokens"),
            cached=field(event, "usage", "cache_read_input_tokens"),
            thought=field(event, "usage", "thinking_tokens"),
        )
        if found is None:
            return []
        self._spent = sum_of(self._spent, found)
        return [Used(usage=self._spent, raw=dict(event))]

    def _closed(self, reason: str) -> list[Chunk]:
        if not (reason.startswith(_VIOLATED) or reason == "expired"):
            return self._over(reason)
        self.failure = Error(category="limit", message=f"AG2 closed the chat: {reason}", usage=self._spent)
        self.done = True
        return []


class ClassicParser(ChatParser):
    """Reads the events of a group chat of the classic library. `agents` are the names of those who take part."""

    def __init__(self, agents: Iterable[str]) -> None:
        super().__init__()
        self._agents = frozenset(agents)
        self._speaker = ""
        self._broken: set[str] = set()

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        content = mapping(event.get("content"))
        sender = text_at(content, "sender")
        match event.get("type"):
            case "group_chat_run_chat":
                self._speaker = text_at(content, "speaker")
                self._open.pop(self._speaker, None)
            case "stream" if self._speaker:
                return self._fragment(self._speaker, text_at(content, "content"))
            case "text" if sender in self._agents:
                return self._text(sender, text_at(content, "content"))
            case "tool_call" if sender in self._agents:
                return self._tool_calls(sender, content)
            case "executed_function":
                if content.get("is_exec_success") is False:
                    self._broken.add(text_at(content, "call_id"))
            case "tool_response":
                return self._tool_results(content)
            case "usage":
                return self._usage(content)
            case "error":
                return self._failed(self._speaker, content.get("error"))
            case "termination":
                return self._over(_reason(text_at(content, "termination_reason")))
            case "run_completion":
                return self._over(self.success.stop_reason if self.success is not None else "completed")
        return [Raw(raw=dict(event))]

    def _text(self, agent: str, text: str) -> list[Chunk]:
        chunks = self._whole(agent, text)
        self._open.pop(agent, None)
        self._turns += 1
        self._said = text or self._said
        return chunks

    def _tool_calls(self, agent: str, content: Mapping[str, Any]) -> list[Chunk]:
        calls = content.get("tool_calls")
        chunks = self._whole(agent, text_at(content, "content"))
        for call in calls if isinstance(calls, list) else ():
            tool_id = self._calls.called("", text_at(mapping(call), "id"))
            if tool_id is not None:
                chunks.append(self._tool_use(agent, mapping(field(mapping(call), "function")), tool_id))
        self._open.pop(agent, None)
        return chunks

    def _tool_results(self, content: Mapping[str, Any]) -> list[Chunk]:
        answers = content.get("tool_responses")
        chunks: list[Chunk] = []
        for answer in answers if isinstance(answers, list) else ():
            call_id = text_at(mapping(answer), "tool_call_id")
            output, is_error = mapping(answer).get("content"), call_id in self._broken
            self._broken.discard(call_id)
            tool_id = self._calls.answered("", call_id)
            chunks.append(ToolResult(tool_id=tool_id, output=output, is_error=is_error))
        return chunks

    def _usage(self, content: Mapping[str, Any]) -> list[Chunk]:
        found = _spent(content.get("prompt_tokens"), content.get("completion_tokens"))
        if found is None:
            return []
        self._spent = found
        if self.success is not None:
            self.success = msgspec.structs.replace(self.success, usage=found)
        if self.failure is not None:
            self.failure = msgspec.structs.replace(self.failure, usage=found)
        return [Used(usage=found, raw=dict(content))]


def _failure(error: object, agent: str = "") -> Error:
    """What went wrong in a chat, from ``{"type", "message", "status", "cause"}`` or a text."""
    found = mapping(error)
    kind = text_at(found, "type")
    said = error if isinstance(error, str) else text_at(found, "message")
    status = count(found.get("status")) or 0
    text = ": ".join(part for part in (agent, kind, said) if part)
    # Its client has the same words for a connection that was never made and for one that broke.
    category = "network" if text_at(found, "cause") in _NEVER_CONNECTED else category_in(text, status)
    return Error(category=category, message=one_line(text, LONGEST_MESSAGE), status=status)


def _reason(text: str) -> str:
    return "max_turns" if text.startswith("Maximum rounds") else text


def _spent(given: object, made: object, cached: object = None, thought: object = None) -> Spent | None:
    input_tokens, output_tokens = count(given), count(made)
    if input_tokens is None and output_tokens is None:
        return None
    return Spent(input_tokens, output_tokens, count(cached), count(thought))
