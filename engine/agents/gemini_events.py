"""What the events of Gemini CLI mean, and its exit codes where it said nothing.

Its deltas have no message they belong to: the parser counts messages, and a tool's result ends one. Its failures are
told by a last event, whose text may hold Google's error document; some are told as a success after a warning, and some
on standard error alone. Measured with 0.61.0.

Pure: no trio, no I/O. It must not know how the program was started.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from engine.agents.agent import LONGEST_MESSAGE, EventParser, category_in, status_in, text_at
from engine.agents.chunks import (
    Category,
    Chunk,
    Error,
    Notice,
    Raw,
    Result,
    Session,
    Spent,
    Text,
    ToolResult,
    ToolUse,
)
from engine.errors import one_line
from engine.providers.wire import count, mapping

_STATUSES: Final = (400, 401, 403, 404, 408, 429, 500, 502, 503, 504)
_STATUS_OF: Final = {status & 255: status for status in _STATUSES}
"""The provider's status by the exit code: the program hands it on, and a process keeps the low byte of it."""

_EXITS: Final[Mapping[int, tuple[Category, str]]] = {
    41: ("auth", "it has no key and no login that it can use"),
    42: ("rejected", "it refused what it was given"),
    44: ("failed", "its sandbox failed"),
    52: ("failed", "its settings are wrong"),
    53: ("limit", "the limit of turns was reached"),
    54: ("failed", "a tool failed beyond repair"),
    55: ("rejected", "it does not trust the working directory"),
    130: ("interrupted", "it was cancelled"),
}
_NAMES: Final[Mapping[str, Category]] = {
    "FatalAuthenticationError": "auth",
    "FatalTurnLimitedError": "limit",
    "FatalCancellationError": "interrupted",
}
_NO_SESSION: Final = ("error resuming session", "invalid session identifier", "no previous sessions found")
_NOISE: Final = re.compile(
    r"\s+at |Warning: |\[STARTUP\]|Ripgrep is not available|YOLO mode is enabled|Loaded cached credentials|\(node:"
)
_WORDS: Final[tuple[tuple[Category, tuple[str, ...]], ...]] = (
    ("auth", ("api key not valid", "api_key_invalid", "api key expired")),
    ("cut", ("[api error: terminated]", "without a finish reason", "incomplete json segment")),
    ("server", ("empty response with no text", "in json at position")),
)
"""What it says where no status does, or that of a wrong request, and what that is: a wrong key, a stream that was cut
off, an answer that is none."""
_USED_UP: Final = ("daily quota", "credit")


class GeminiParser(EventParser):
    """Reads the events of one run of Gemini CLI in the directory `cwd`."""

    def __init__(self, cwd: str = "") -> None:
        super().__init__()
        self._cwd = cwd
        self._message = 0
        self._is_new = True
        self._said: list[str] = []
        self._trouble: tuple[Category, str] | None = None

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        kind = event.get("type")
        if kind == "init" and text_at(event, "session_id"):
            self.session_id = text_at(event, "session_id")
            return [Session(session_id=self.session_id, model=text_at(event, "model"), cwd=self._cwd, raw=event)]
        if kind == "message" and event.get("role") == "assistant" and isinstance(event.get("content"), str):
            return [self._text(event["content"], event)]
        if kind == "tool_use":
            return [self._use(event)]
        if kind == "tool_result":
            self._begin_message()
            return [_result_of_tool(event)]
        if kind == "error":
            return [self._warned(event)]
        if kind == "result":
            self._finish(event)
            return []
        return [Raw(raw=event)]

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        told = self.failure
        status = _STATUS_OF.get(exit_code or 0, 0)
        if told is not None and not told.status and status and told.category not in ("limit", "interrupted"):
            category = _category(told.message, status)
            self.failure = msgspec.structs.replace(told, category=category, status=status)
        return super().end(exit_code, stderr_tail, trouble)

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        said = _said_in(stderr_tail)
        lost = [line for line in stderr_tail.splitlines() if any(words in line.lower() for words in _NO_SESSION)]
        if lost:
            return Error(category="session_not_found", message=one_line(lost[0], LONGEST_MESSAGE))
        status = _STATUS_OF.get(exit_code or 0, 0)
        if status:
            return Error(category=_category(stderr_tail, status), message=said or f"status {status}", status=status)
        if exit_code is not None and exit_code in _EXITS:
            category, meaning = _EXITS[exit_code]
            return Error(
                category=category, message=one_line(f"{meaning}: {said}" if said else meaning, LONGEST_MESSAGE)
            )
        return super().judge(exit_code, said)

    def _text(self, text: str, event: Mapping[str, Any]) -> Text:
        self._said.append(text)
        self._is_new = False
        return Text(text=text, message_id=self._name(), delta=event.get("delta") is True, raw=event)

    def _name(self) -> str:
        return f"message-{self._message}"

    def _use(self, event: Mapping[str, Any]) -> ToolUse:
        self._is_new = False
        return ToolUse(
            tool_id=text_at(event, "tool_id"),
            name=text_at(event, "tool_name"),
            tool_input=event.get("parameters"),
            message_id=self._name(),
            raw=event,
        )

    def _begin_message(self) -> None:
        """A tool has answered: what comes next is of a further message, if there was anything of this one."""
        if not self._is_new:
            self._message += 1
            self._said = []
            self._is_new = True

    def _warned(self, event: Mapping[str, Any]) -> Notice:
        """A warning or an error. What it says of the end of the run stands over a success that follows."""
        text = one_line(text_at(event, "message"), LONGEST_MESSAGE)
        if event.get("severity") == "error" or text.startswith("Loop detected"):
            limit = "turns" in text.lower()
            self._trouble = ("limit" if limit else _category(text, 0), text)
        return Notice(text=text, raw=event)

    def _finish(self, event: Mapping[str, Any]) -> None:
        self.done = True
        usage = _spent(mapping(event.get("stats")))
        if event.get("status") == "success" and self._trouble is None:
            self.success = Result(text="".join(self._said), stop_reason="success", usage=usage, raw=event)
            return
        told = one_line(text_at(event, "error", "message"), LONGEST_MESSAGE)
        category, message = self._trouble or ("failed", "it failed without a word")
        status = 0
        if told:
            status, message = status_in(told), told
            category = _NAMES.get(text_at(event, "error", "type")) or _category(told, status)
        self.failure = Error(category=category, message=message, status=status, usage=usage, raw=event)


def _result_of_tool(event: Mapping[str, Any]) -> ToolResult:
    failed = event.get("status") == "error"
    output = event.get("output")
    if failed and not output:
        output = text_at(event, "error", "message")
    return ToolResult(tool_id=text_at(event, "tool_id"), output=output, is_error=failed, raw=event)


def _count(value: object) -> int | None:
    """A count; but a text is what its sums become where a provider counts in texts: digits one behind the other."""
    return None if isinstance(value, str) else count(value)


def _spent(stats: Mapping[str, Any]) -> Spent | None:
    """What a run has cost. The program's output lacks the thoughts, which are billed as output: they are what is left
    of the total. It counts nothing where the provider said nothing, as when a stream was cut off: then nobody knows."""
    given, made, total = (_count(stats.get(name)) for name in ("input_tokens", "output_tokens", "total_tokens"))
    if not given and not made:
        return None
    thoughts = max(0, total - (given or 0) - (made or 0)) if total is not None else 0
    return Spent(given, None if made is None else made + thoughts, _count(stats.get("cached")), thoughts)


def _category(text: str, status: int) -> Category:
    """What a failure is. Google's refusals for a limit speak of billing, too, and a wrong key is a 400 there."""
    lowered = text.lower()
    if status == 429:
        return "quota" if any(word in lowered for word in _USED_UP) else "rate_limit"
    for category, words in _WORDS if status in (0, 400) else ():
        if any(word in lowered for word in words):
            return category
    return category_in(text, status)


def _said_in(stderr_tail: str) -> str:
    """What standard error says of the failure: its first line with an error, else its first that is no mere noise."""
    lines = [line for line in stderr_tail.splitlines() if line.strip() and not _NOISE.match(line)]
    errors = [line for line in lines if "error" in line.lower()]
    return one_line((errors or lines or [""])[0], LONGEST_MESSAGE)
