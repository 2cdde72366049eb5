"""Shared by the tests of search and scraping: writing a call, having an answer read, and answers that are damaged.

The bodies are in `fixtures/`: shapes from the providers' documentation and SDKs (2026-11-20).
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from chat_answers import NOW_S, fixture
from hypothesis import strategies as st

from engine.errors import InvalidCall
from engine.providers.search import SearchFormat
from engine.providers.view import Found, View
from engine.providers.wire import Reading, WireFormat

CONTAINERS = (dict, list)


def body_of(wire: WireFormat, **arguments: object) -> Any:
    """The body these arguments are sent as; they cost one request and nothing else, and are not changed."""
    before = copy.deepcopy(arguments)
    encoded = wire.encode(arguments)
    assert arguments == before
    assert (encoded.input_tokens, encoded.output_cap, encoded.streaming) == (0, 0, False)
    return json.loads(encoded.body)


def problem_of(wire: WireFormat, arguments: dict[str, Any]) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        wire.encode(arguments)
    assert caught.value.message.startswith(caught.value.argument + ": ")
    assert caught.value.message.endswith("Nothing was sent.")
    assert len(caught.value.message) < 700
    return caught.value


def recorded(name: str, *left_out: str) -> dict[str, Any]:
    """What the vendor's own client sent, without the fields it adds of itself."""
    body: dict[str, Any] = json.loads(fixture(name))["body"]
    return {field: value for field, value in body.items() if field not in left_out}


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def snake_case(value: Any) -> Any:
    """The same arguments in Python's spelling, nested ones too."""
    if isinstance(value, dict):
        return {snake(name): snake_case(item) for name, item in value.items()}
    return [snake_case(item) for item in value] if isinstance(value, list) else value


def read(wire: SearchFormat, body: bytes | object, status: int = 200, **headers: str) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.read(status, headers, raw, now_s=NOW_S)


def view(wire: SearchFormat, name: str) -> View:
    """The view of a recorded answer, which is done and costs what was reserved for it."""
    reading = read(wire, fixture(name))
    assert (reading.fault, reading.usage) == (None, None)
    assert (reading.advice.verdict, reading.advice.charge) == ("done", "kept")
    return wire.view(wire.decode(fixture(name)))


# --- damaged answers --------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@st.composite
def damaged(draw: st.DrawFn, *names: str) -> Any:
    """A recorded answer of which a few places hold something else."""
    body = json.loads(fixture(draw(st.sampled_from(names))))
    for _ in range(draw(st.integers(1, 3))):
        place = body
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], CONTAINERS) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(ANYTHING)
            break
    return body


def check_reading(wire: SearchFormat, body: bytes, status: int) -> None:
    """Whatever came is read, and an answer that is one is done and has a view of plain values."""
    reading = wire.read(status, {}, body, now_s=NOW_S)
    assert (reading.fault is None) == (reading.advice.verdict == "done")
    if reading.fault is None:
        check_view(wire, wire.decode(body))


def check_view(wire: SearchFormat, response: object) -> None:
    seen = wire.view(response)
    assert all(isinstance(found, Found) and isinstance(found.url, str) for found in seen.results)
    words = [seen.text, seen.provider_id]
    for found in seen.results:
        words += [found.title, found.text, found.published, found.error]
        assert found.score is None or abs(found.score) < float("inf")
    assert all(word is None or (isinstance(word, str) and word) for word in words)
