"""What all formats say, whatever shape they say it in: the words, the reasoning, the calls of functions, the spoils.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.simulator.chunks import Wording
from engine.simulator.events import SPLIT_TEXT
from engine.simulator.reply import encode


def names(text: str) -> frozenset[str]:
    """A set of names as it reads best."""
    return frozenset(text.split())


class Call(NamedTuple):
    """One call of a function: its arguments as an object, and as the JSON text that stands for it, in fragments."""

    identity: str
    name: str
    arguments: dict[str, Any]
    fragments: list[str]

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return "".join(self.fragments)


def pieces(said: Wording, count: int) -> list[str]:
    """`count` words, each but the first with the blank before it."""
    many = len(said.pieces)
    words = [said.pieces[(said.start + place) % many].decode() for place in range(count)]
    return [words[0].lstrip(), *words[1:]] if words else []


def text_pieces(said: Wording) -> list[str]:
    """The text, in pieces."""
    return list(said.spoken) if said.spoken else pieces(said, said.length)


def reasoning_pieces(said: Wording) -> list[str]:
    """The reasoning before the text, in pieces; empty without any."""
    return pieces(said, said.shape.reasoning)


def reasoning_tokens(said: Wording) -> int:
    """How many of the output tokens are reasoning: one a piece, as far as they go."""
    return min(said.shape.reasoning, said.done.cost.output_tokens)


def calls(said: Wording) -> list[Call]:
    """The calls in place of the text: those that the request's directives want, or else of the function that its tools
    have called; empty without tools.

    A stream whose deltas are to be split has room for that within the arguments.
    """
    asked = said.asked
    if asked is not None and asked.directed is not None:
        wanted = enumerate(asked.directed.calls)
        return [Call(f"{said.done.identity}_{n}", call.name, call.arguments, call.fragments) for n, call in wanted]
    if asked is None or not asked.tool:
        return []
    count = max(2, said.length) if said.fault == "stream_split" else max(1, said.length)
    words = pieces(said, count)
    fragments = ['{"text":"' + words[0], *words[1:]]
    fragments[-1] += '"}'
    arguments = {"text": "".join(words)}
    return [
        Call(f"{said.done.identity}_{number}", asked.tool, arguments, fragments)
        for number in range(said.shape.tool_calls)
    ]


def with_split(said: Wording, parts: list[str], place: int) -> str:
    """The text of pieces, with what is added before a place if the stream is to be split."""
    added = SPLIT_TEXT if said.fault == "stream_split" else ""
    return "".join(parts[:place]) + added + "".join(parts[place:])


def stringified(value: Any) -> Any:
    """The same with every number as a string."""
    if isinstance(value, Mapping):
        return {name: stringified(item) for name, item in value.items()}
    if isinstance(value, list):
        return [stringified(item) for item in value]
    return value if isinstance(value, bool) or not isinstance(value, (int, float)) else str(value)


def spoiled(said: Wording, value: Any) -> Any:
    """What an answer or an event becomes under the fault ``wrong_types``."""
    return stringified(value) if said.fault == "wrong_types" else value


def body(said: Wording, value: Any) -> bytes:
    """The bytes of an answer in one piece."""
    return encode(spoiled(said, value))


def usage(said: Wording, value: dict[str, object]) -> dict[str, object] | None:
    """A usage, unless the fault ``null_usage`` takes it away."""
    return None if said.fault == "null_usage" else value
