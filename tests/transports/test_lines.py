"""A line of a program's output: what is taken out of it before anybody reads it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.transports.lines import MOST_PARTS, Hidden, event_of, notice_of

KEY = 'Kq7/no"shape+of=a\\key-é𝄞-0123'
OTHER = "Kq7/no"

FORMS = {
    "plain": KEY,
    "in JSON": json.dumps(KEY)[1:-1],
    "in JSON as UTF-8": json.dumps(KEY, ensure_ascii=False)[1:-1],
    "with its slash escaped": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "in numbers": "".join(f"\\u{ord(char):04X}" for char in "Kq7/no") + json.dumps(KEY)[1:-1][6:],
    "as HTML-safe JSON": json.dumps(KEY)[1:-1].replace("+", "\\u002B").replace("=", "\\u003d"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_is_taken_out_in_whatever_form(form: str) -> None:
    """Of JSON only what is in a text: it is JSON as before."""
    line = Hidden([KEY]).out_of(f"a {form} b".encode())
    assert line == b"a [key removed] b"


def test_of_two_keys_the_longer_goes_first() -> None:
    hidden = Hidden(["short", OTHER + "12", OTHER + "12345"])
    assert hidden.out_of(f"{OTHER}12345 {OTHER}12 short".encode()) == b"[key removed] [key removed] short"
    assert Hidden([]).out_of(b"\\u0041") == b"\\u0041"
    assert Hidden([]).out_of_text("as it is") == "as it is"


def test_a_key_over_two_lines_of_text() -> None:
    key = "Kq7noshapeofakey0123"
    text = f"{key[:5]}\r\n{key[5:9]}\n{key[9:]} and {key}\nmore"
    assert Hidden([key]).out_of_text(text) == "[key removed] and [key removed]\nmore"


def test_what_has_too_many_parts_is_left_out_and_the_rest_stands() -> None:
    """However deep it is, within reason."""
    many: list[Any] = [{}] * (MOST_PARTS + 1)
    event = {"type": "x", "inner": {"usage": {"n": 1}, "many": many, "text": "t"}, "last": [1, 2]}
    left: Any = event_of(msgspec.json.encode(event))
    said = left["inner"].pop("many")
    assert "left out" in said
    assert left == {"type": "x", "inner": {"usage": {"n": 1}, "text": "t"}, "last": [1, 2]}
    assert "left out" in str(event_of(msgspec.json.encode(many)))
    deep = b'{"a":' * 50 + b"1" + b"}" * 50
    assert event_of(deep) == json.loads(deep)


def test_too_many_parts_of_what_is_no_json() -> None:
    with pytest.raises(msgspec.DecodeError):
        event_of(b'{"a": ' + b"{" * (MOST_PARTS + 1))
    with pytest.raises(msgspec.DecodeError):
        event_of(b"no JSON")


def test_brackets_in_a_text_are_no_parts() -> None:
    text = "[{" * MOST_PARTS
    assert event_of(json.dumps({"type": "result", "result": text}).encode()) == {"type": "result", "result": text}


def test_what_is_nested_beyond_reading_is_no_json() -> None:
    depth = MOST_PARTS + 1
    with pytest.raises(msgspec.DecodeError):
        event_of(b'{"a":' * depth + b"1" + b"}" * depth)


def test_a_notice_is_one_line_of_bounded_length() -> None:
    assert notice_of(b"a\tb\xff") == "a b\ufffd"
    assert len(notice_of(b"x" * 10_000)) == 500
