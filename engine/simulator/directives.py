"""What a prompt itself tells the simulator to answer: lines such as ``simulate: call NAME {...}`` in its last message.

An agent that is given a tool call for every request would go on for ever, and a test of one wants a call of its own
choosing. So a line of the last message of the user may ask for it, and it is made once: while no result of a tool
follows. Whatever the format, a request is told here as `Turn`s (`turns_of` does so for messages and items as OpenAI and
Anthropic have them), and what is wanted comes back as `Directed`. Requests without the mark cost one search for it.

Pure: no trio, no I/O. It must not know what an answer looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from engine.simulator.failure import Failure, invalid

MOST_SAID: Final = 16_777_216
"""The longest text, in characters, that a directive may ask for."""

_MARK: Final = b"simulate:"
_LINE: Final = re.compile(r"^[ \t]*simulate: (call|say|repeat) (.+?)[ \t\r]*$", re.MULTILINE)
_WORD: Final = re.compile(r"\s*\S+|\s+")
_FRAGMENT: Final = 16


class Turn(NamedTuple):
    """One message or item of a request, whatever its format: of the user, of the model, or the result of a tool. Only a
    user's has a `text` that matters."""

    kind: Literal["user", "model", "result"]
    text: str = ""


class WantedCall(NamedTuple):
    """One call that is to be made, of a tool that the request has."""

    name: str
    arguments: dict[str, Any]

    @property
    def fragments(self) -> list[str]:
        """The arguments as JSON text, in pieces."""
        text = msgspec.json.encode(self.arguments).decode()
        return [text[start : start + _FRAGMENT] for start in range(0, len(text), _FRAGMENT)]


class Directed(NamedTuple):
    """What a request with directives is answered: these `calls` and no others, or, if there are none, the text `said`,
    and where that is empty, the words it would have had."""

    calls: tuple[WantedCall, ...] = ()
    said: str = ""


def directed(
    body: bytes | bytearray, turns: Callable[[], Iterable[Turn]], tools: Callable[[], Collection[str]]
) -> Directed | Failure | None:
    """What a request's directives want, or None if it holds none; a failure if one cannot be understood.

    `turns` tells the request's messages in their order, `tools` the names of its tools; both are asked only if `body`,
    the request as it came, holds the mark. Messages of the user that follow each other count as one. Directives of
    earlier ones are spent: they only keep the calls away that a request with tools gets of itself.
    """
    if _MARK not in body:
        return None
    earlier: list[str] = []
    newest: list[str] = []
    answered, before = False, ""
    for turn in turns():
        if turn.kind == "user":
            if before != "user":
                earlier += newest
                newest, answered = [], False
            newest.append(turn.text)
        elif turn.kind == "result":
            answered = True
        before = turn.kind
    found = list(_LINE.findall("\n".join(newest)))
    if not found:
        return Directed() if any(_LINE.search(text) for text in earlier) else None
    return _wanted(found, () if answered else tools())


def _wanted(found: list[tuple[str, str]], tools: Collection[str]) -> Directed | Failure:
    calls: list[WantedCall] = []
    said = ""
    for what, rest in found:
        if what == "say":
            said = rest
        elif what == "repeat":
            count, _, text = rest.partition(" ")
            if not count.isdecimal() or not text or int(count) * len(text) > MOST_SAID:
                form = f"'simulate: repeat COUNT TEXT', of at most {MOST_SAID} characters in all"
                return invalid(f"The directive 'simulate: repeat {rest[:80]}' is not understood; write {form}.")
            said = text * int(count)
        else:
            name, arguments = _call(rest)
            if arguments is None:
                form = "'simulate: call NAME {...}', with a JSON object on the same line"
                return invalid(f"The directive 'simulate: call {rest[:80]}' is not understood; write {form}.")
            if name in tools:
                calls.append(WantedCall(name, arguments))
    return Directed(tuple(calls), said)


def _call(text: str) -> tuple[str, dict[str, Any] | None]:
    name, *rest = text.split(maxsplit=1)
    if not rest:
        return name, {}
    try:
        return name, msgspec.json.decode(rest[0], type=dict[str, Any])
    except msgspec.DecodeError:
        return name, None


def cut_text(text: str, pieces: int) -> list[str]:
    """A text in so many pieces, all but the last alike in length; 0: a word each, with the blanks before it."""
    if not pieces:
        return _WORD.findall(text)
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)]


def turns_of(items: Iterable[object]) -> Iterator[Turn]:
    """The turns in a list of messages, as OpenAI's chat and Anthropic have them, or of items, as OpenAI's Responses."""
    for item in items:
        if not isinstance(item, Mapping):
            continue
        role, kind, content = item.get("role"), item.get("type"), item.get("content")
        parts = content if isinstance(content, list) else [content]
        if role in ("tool", "function") or (isinstance(kind, str) and kind.endswith("_output")):
            yield Turn("result")
        elif role == "user":
            if any(isinstance(part, Mapping) and part.get("type") == "tool_result" for part in parts):
                yield Turn("result")
                continue
            texts = (part.get("text") if isinstance(part, Mapping) else part for part in parts)
            yield Turn("user", "\n".join(text for text in texts if isinstance(text, str)))
        elif role not in ("system", "developer"):
            yield Turn("model")


def tools_of(tools: object) -> frozenset[str]:
    """The names in a list of tools, with the envelope that OpenAI's chat has or without."""
    named: set[str] = set()
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, Mapping):
            function = tool.get("function", tool)
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(name, str):
                named.add(name)
    return frozenset(named)
