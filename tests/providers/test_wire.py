"""The lenient reading that all wire formats share: what servers really send, and what must not be believed.

Whatever can be made sense of comes out as plain objects that can be written again; all else is one kind of error.
"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.providers.wire import count, decode_json, mapping, text_or_none

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_what_is_json_is_read_as_it_is(value: object) -> None:
    body = json.dumps(value).encode()
    assert decode_json(body) == value
    assert decode_json(memoryview(body)) == value
    assert decode_json(b"\xef\xbb\xbf" + body) == value


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'\n\n  {"a": 1}\n', {"a": 1}),
        (b'{"a": "\\ud83d"}', {"a": "�"}),
        (b'{"a": "\\ud83d\\ude00\\ud83d"}', {"a": "😀�"}),
        (b'{"\\udc00": ["\\\\ud83d"]}', {"�": ["\\ud83d"]}),
        (b'{"a": "\xff"}', {"a": "�"}),
        (b'{"a": Infinity}', {"a": float("inf")}),
    ],
)
def test_what_only_looks_like_json_is_read_too(body: bytes, expected: object) -> None:
    found = decode_json(body)
    assert found == expected
    assert msgspec.json.encode(found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>",
        b"{",
        b"[" * 100_000,
        b"\xef\xbb\xbf" + b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\x00",
        b"{'a': 1}",
    ],
)
def test_what_is_not_json_is_one_kind_of_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(body)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ud8-19.eNI ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        found = decode_json(body)
    except msgspec.DecodeError:
        return
    msgspec.json.encode(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("3.0", 3),
        (0, 0),
        (True, None),
        (False, None),
        (None, None),
        (-1, None),
        (3.5, None),
        ("x", None),
        ("", None),
        ("nan", None),
        ("1e999", None),
        (float("inf"), None),
        (10**13, None),
        ([3], None),
        ({}, None),
        ("9" * 5000, None),
    ],
)
def test_a_count_from_whatever_was_written(value: object, expected: int | None) -> None:
    found = count(value)
    assert found == expected
    assert type(found) is type(expected)


def test_reading_on_through_what_is_not_there() -> None:
    assert mapping(mapping(None).get("a")).get("b") is None
    assert mapping({"a": 1}) == {"a": 1}
    assert mapping([1]) == {}
    assert (text_or_none("a"), text_or_none(""), text_or_none(3)) == ("a", None, None)
