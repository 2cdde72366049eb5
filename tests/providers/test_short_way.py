"""Ordinary answers are read the short way, and it finds what reading them in full finds, for every format.

Each recorded answer is tried as it is and with each of its fields missing, null or odd, and with an error put in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.providers.json_format import JsonFormat
from engine.providers.lookup import find

FIXTURES = Path(__file__).parent / "fixtures"
NOW_S = 1_795_000_000.0
ANSWERS = {
    "openai_chat/response": ("openai", "chat"),
    "gemini_chat/response": ("gemini", "chat"),
    "groq_chat/response": ("groq", "chat"),
    "openai_responses/response": ("openai", "response"),
    "openai_embed/response": ("openai", "embed"),
    "anthropic_messages/response": ("anthropic", "chat"),
    "ollama_native/response": ("ollama", "native"),
    "exa_search/response": ("exa", "search"),
    "tavily_search/response": ("tavily", "search"),
    "tavily_extract/response": ("tavily", "extract"),
    "firecrawl_scrape/response": ("firecrawl", "scrape"),
    "firecrawl_map/response": ("firecrawl", "map"),
}
ODD: tuple[Any, ...] = (None, False, True, 0, -1, 3.0, "3", 10**13, "", "error", [], {}, [{}], {"message": "no"})


def _format(name: str) -> JsonFormat:
    wire = find(*ANSWERS[name], compatible=False)[1].format
    assert isinstance(wire, JsonFormat)
    return wire


def _varied(answer: dict[str, Any], within: tuple[str, ...] = ()) -> Iterator[bytes]:
    """The answer with each of its fields, and those of its usage, missing or odd."""
    held = answer
    for name in within:
        held = held[name]
    for field in [*held, "error"]:
        had, before = field in held, held.get(field)
        for odd in (*ODD, {"error": "no"}):
            held[field] = odd
            yield json.dumps(answer).encode()
        held.pop(field)
        yield json.dumps(answer).encode()
        if had:
            held[field] = before
    if not within and isinstance(answer.get("usage"), dict):
        yield from _varied(answer, ("usage",))


@pytest.mark.parametrize("name", ANSWERS)
def test_it_is_taken_by_every_recorded_answer(name: str) -> None:
    assert _format(name).plain_usage((FIXTURES / f"{name}.json").read_bytes()) is not None


@pytest.mark.parametrize("name", ANSWERS)
def test_it_finds_what_reading_in_full_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = _format(name)
    recorded = (FIXTURES / f"{name}.json").read_bytes()
    bodies = [recorded, recorded[:-9], b"", b"[]", *_varied(json.loads(recorded))]
    short = [wire.read(200, {}, body, now_s=NOW_S) for body in bodies]
    monkeypatch.setattr(type(wire), "plain_usage", lambda self, body: None)
    for body, reading in zip(bodies, short, strict=True):
        assert wire.read(200, {}, body, now_s=NOW_S) == reading, body
