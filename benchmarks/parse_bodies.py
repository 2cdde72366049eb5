"""What `parse` reads: for each endpoint a reply and a stream, small as in the fixtures of the tests, and long.

A long reply is the fixture with more text in it, or more entries, or more numbers. A long stream is the fixture's, its
first event with a text repeated, each time with another text. The same bytes go to both readers, and where their texts
stand is known, so that it can be checked that both found them.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

from benchmarks.harness import ROOT

FIXTURES = ROOT / "tests" / "providers" / "fixtures"
ENTRIES = 5
WORD = "lorem ipsum dolor sit amet, "
NUMBERS = 1_024

Path: TypeAlias = tuple[str | int | EllipsisType, ...]
"""The way to a value: fields and positions; ``...`` is each entry of a list."""

_CHAT: Path = ("choices", 0, "message", "content")
_CHAT_DELTA: Path = ("choices", 0, "delta", "content")
_VECTOR: Path = ("data", 0, "embedding")


class Row(NamedTuple):
    """An endpoint of the catalogue and the SDK it is read beside. `reply` and `stream` are the fixtures.

    `text` says where the text of a reply stands, `sdk_text` where the SDK's own object has it, if not there. `delta`
    is the same for an event; `so_far` is where an event repeats all the text up to it.
    """

    provider: str
    endpoint: str
    sdk: str
    reply: str
    text: Path = _CHAT
    sdk_text: Path = ()
    stream: str = ""
    delta: Path = _CHAT_DELTA
    so_far: Path = ()

    @property
    def name(self) -> str:
        """What the row is called in the figures."""
        kind = ", base64" if "base64" in self.reply else ""
        return f"{self.provider} {self.endpoint}{kind} / {self.sdk}"


# fmt: off
ROWS = (
    Row("openai", "chat", "openai", "openai_chat/response.json", stream="openai_chat/stream.sse"),
    Row("openai", "response", "openai", "openai_responses/response.json", ("output", -1, "content", 0, "text"),
        stream="openai_responses/stream.sse", delta=("delta",)),
    Row("openai", "embed", "openai", "openai_embed/response.json", _VECTOR),
    Row("openai", "embed", "openai", "openai_embed/response_base64.json", _VECTOR),
    Row("anthropic", "chat", "anthropic", "anthropic_messages/response.json", ("content", 0, "text"),
        stream="anthropic_messages/stream.sse", delta=("delta", "text")),
    Row("gemini", "chat", "openai", "gemini_chat/response.json", stream="gemini_chat/stream.sse"),
    Row("ollama", "chat", "openai", "ollama_compat/response.json"),
    Row("ollama", "native", "ollama", "ollama_native/response.json", ("message", "content"),
        stream="ollama_native/stream.ndjson", delta=("message", "content")),
    Row("groq", "chat", "groq", "groq_chat/response.json", stream="groq_chat/stream.sse"),
    Row("deepseek", "chat", "openai", "deepseek_chat/response.json", stream="deepseek_chat/stream.sse"),
    Row("perplexity", "chat", "perplexityai", "perplexity_chat/response.json", stream="perplexity_chat/stream.sse",
        so_far=_CHAT),
    Row("openrouter", "chat", "openrouter", "openrouter_chat/response.json", stream="openrouter_chat/stream.sse"),
    Row("nvidia_nim", "chat", "openai", "nvidia_nim_chat/response.json"),
    Row("nvidia_nim", "embed", "openai", "nvidia_nim_embed/response.json", _VECTOR),
    Row("exa", "search", "exa-py", "exa_search/response.json", ("results", ..., "text")),
    Row("tavily", "search", "tavily-python", "tavily_search/response.json", ("results", ..., "content")),
    Row("tavily", "extract", "tavily-python", "tavily_extract/response.json", ("results", ..., "raw_content")),
    Row("firecrawl", "scrape", "firecrawl-py", "firecrawl_scrape/response.json", ("data", "markdown"),
        sdk_text=("markdown",)),
    Row("firecrawl", "map", "firecrawl-py", "firecrawl_map/response.json", ("links", ..., "description")),
    Row("inferneo", "chat", "openai", "inferneo_chat/response.json", stream="inferneo_chat/stream.sse"),
)
# fmt: on
"""Who has no SDK of his own for this format is read beside openai's, which his documentation names."""


def found_at(found: Any, path: Path) -> Iterator[Any]:
    """The values at a place in decoded JSON or in an SDK's object; none where there is no such place."""
    for at, step in enumerate(path):
        if step is ...:
            for entry in found or ():
                yield from found_at(entry, path[at + 1 :])
            return
        if isinstance(step, int):
            found = found[step] if found else None
        else:
            found = found.get(step) if isinstance(found, dict) else getattr(found, str(step), None)
    if found is not None:
        yield found


def text_at(found: Any, path: Path) -> Any:
    """The texts at a place as one, or the vector that stands there."""
    values = list(found_at(found, path))
    return values[0] if values and not isinstance(values[0], str) else "".join(values)


def _set(body: Any, path: Path, value: Any) -> None:
    *way, last = path
    for step in way:
        body = body[step]
    body[last] = value


def _written(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def text_of(size_bytes: int) -> str:
    """A text of this size."""
    return (WORD * (size_bytes // len(WORD) + 1))[:size_bytes]


def small_reply(row: Row) -> bytes:
    """The fixture, without white space."""
    return _written(json.loads((FIXTURES / row.reply).read_bytes()))


def large_reply(row: Row, size_bytes: int) -> bytes:
    """The fixture with so many bytes of text, in some entries where there are entries; a vector, with 1,024 numbers."""
    body = json.loads((FIXTURES / row.reply).read_bytes())
    if row.text == _VECTOR:
        numbers = [round((number * 37 % 1000 - 500) / 7919, 8) for number in range(NUMBERS)]
        packed = base64.b64encode(struct.pack(f"<{NUMBERS}f", *numbers)).decode()
        _set(body, row.text, packed if "base64" in row.reply else numbers)
    elif ... in row.text:
        at = row.text.index(...)
        (entries,) = found_at(body, row.text[:at])
        entries[:] = [{**entries[0], row.text[at + 1]: text_of(size_bytes // ENTRIES)} for _ in range(ENTRIES)]
    else:
        _set(body, row.text, text_of(size_bytes))
    return _written(body)


class Streamed(NamedTuple):
    """A stream: an event in each piece, how many there are with the terminator, and the text that they hold."""

    pieces: list[bytes]
    events: int
    text: str


def long_stream(row: Row, deltas: int) -> Streamed:
    """The fixture's stream, its first event with a text being there so many times."""
    recorded = (FIXTURES / row.stream).read_bytes()
    is_lines = row.stream.endswith("ndjson")
    end = b"\n" if is_lines else b"\r\n\r\n" if b"\r\n" in recorded else b"\n\n"
    pieces: list[bytes] = []
    text, events, is_long = "", 0, False
    for block in recorded.split(end):
        head, data = _event_in(block, is_line=is_lines)
        event = json.loads(data) if data[:1] == b"{" else None
        events += bool(data)
        found = "".join(found_at(event, row.delta))
        if not found or is_long:
            text += found
            pieces += [block + end] if block else []
            continue
        is_long = True
        events += deltas - 1
        for number in range(deltas):
            word = f"word{number} "
            text += word
            _set(event, row.delta, word)
            if row.so_far:
                _set(event, row.so_far, text)
            pieces.append(head + _written(event) + end)
    return Streamed(pieces, events, text)


def _event_in(block: bytes, *, is_line: bool) -> tuple[bytes, bytes]:
    """What stands before an event's data, and the data; no data in a comment."""
    if is_line:
        return b"", block
    before, mark, data = block.partition(b"data: ")
    return before + mark, data
