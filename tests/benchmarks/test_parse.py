"""`parse`: the bodies that are read, what of them ours finds, and the figures; no SDK is needed for these.

That a row is read by its SDK as well is seen in `test_commands`, where the SDK is installed.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import parse
from benchmarks.parse_bodies import ROWS, Row, found_at, large_reply, long_stream, small_reply, text_at
from engine.providers.catalogue import PROVIDERS
from engine.providers.lookup import find

STREAMED = [row for row in ROWS if row.stream]


def named(rows: list[Row]) -> Any:
    """These rows as parameters."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def test_every_provider_of_the_catalogue_has_a_row() -> None:
    """But for aiXplain: its SDK reads an answer only in one piece with the request for it."""
    assert {row.provider for row in ROWS} == {provider.name for provider in PROVIDERS} - {"aixplain"}


@named(list(ROWS))
def test_a_long_reply_is_read_as_an_answer_and_is_long(row: Row) -> None:
    wire = find(row.provider, row.endpoint, compatible=False)[1].format
    small, large = small_reply(row), large_reply(row, 2_000)
    assert len(large) > max(len(small), 2_000)
    for body in (small, large):
        view = parse._read_reply(wire, body)
        assert view.text or view.results or view.embeddings


@named(STREAMED)
def test_a_long_stream_is_read_to_its_end_event_by_event(row: Row) -> None:
    wire = find(row.provider, row.endpoint, compatible=False)[1].format
    streamed = long_stream(row, 20)
    text = parse._read_stream(wire, row.stream.endswith("ndjson"), streamed.pieces)  # type: ignore[arg-type]  # it streams
    assert text == streamed.text
    assert "word0 word1 " in text
    assert "word18 word19 " in text
    assert 20 < streamed.events <= len(streamed.pieces)


def test_values_are_found_in_mappings_objects_and_every_entry_of_lists() -> None:
    class Entry:
        text = "b"

    assert text_at({"results": [{"text": "a"}, Entry(), {"text": None}]}, ("results", ..., "text")) == "ab"
    assert list(found_at({"choices": []}, ("choices", 0, "delta"))) == []


def read(ours_us: float, sdk_us: float) -> dict[str, Any]:
    """What was measured of one kind of reading: the second turn was the better one of both."""
    return {"ours_s": [ours_us / 5e5, ours_us / 1e6], "sdk_s": [sdk_us / 5e5, sdk_us / 1e6]}


def test_best_turns_make_the_ratio_and_the_worst_row_is_named() -> None:
    rounds = {
        "a / x": [{"small": read(5, 100), "large": read(9, 100), "event": read(1, 100)}],
        "b / y": [{"small": read(5, 100), "large": read(30, 100)}],
        "c / z": [{"missing": "z"}],
    }
    first, *others = parse.figures(rounds)
    assert (first.case, first.name, first.met) == ("worst: b / y", "a long reply, ours / SDK", False)
    assert first.value == pytest.approx(0.3)
    ratios = {(one.case, one.name): one.met for one in others if one.goal}
    assert len(ratios) == 5
    assert ratios["a / x", "an event, ours / SDK"] is True
    assert [one.name for one in others if one.case == "c / z"] == [
        "read (z is not installed: pip install 'penstock[test-sdks]')"
    ]


def test_without_any_sdk_there_is_no_ratio() -> None:
    assert [one.goal for one in parse.figures({"c / z": [{"missing": "z"}]})] == [""]


def test_rows_that_are_not_there_are_misuse() -> None:
    with pytest.raises(ValueError, match="no row has 'nobody' in its name"):
        parse.cases({"rows": "nobody", "size": 1, "deltas": 1, "reads": 1, "turns": 1}, 1)
