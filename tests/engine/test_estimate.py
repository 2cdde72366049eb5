"""The estimate counts everything that is sent, cheaply, and the guess of an output is the percentile it claims.

The rules are checked against the same rules written with exact fractions and with a sorted list of all that was seen.
"""

from __future__ import annotations

import copy
import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.estimate import (
    FIRST_OUTPUT,
    PER_MEDIUM,
    PER_MESSAGE,
    WINDOW,
    OutputGuess,
    estimate_chat,
    estimate_content,
    estimate_json,
    estimate_text,
    output_of,
)


@given(st.text(st.characters()))
def test_a_text_counts_by_the_measured_rule(text: str) -> None:
    further = len(text.encode("utf-8", "surrogatepass")) - len(text)
    assert estimate_text(text) == math.ceil(len(text) / Fraction(36, 10) + Fraction(28, 100) * further)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, 0),
        ("", 0),
        ("x" * 36, 10),
        ([], 0),
        ([{"type": "text", "text": "x" * 36}, "x" * 36], 20),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}], PER_MEDIUM),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 90_000}}, {"type": "file"}], 2 * PER_MEDIUM),
        ([{"type": "new"}], 5),
        ([object(), 3, None], 1 + 2),
        (object(), 0),
    ],
)
def test_content_as_text_parts_or_nothing(content: object, expected: int) -> None:
    assert estimate_content(content) == expected


def raw(arguments: dict[str, object]) -> int:
    """The estimate without its margin, where that can be said exactly."""
    return estimate_chat(arguments) * 10 // 11


def test_every_part_of_a_call_is_counted_with_a_margin_of_a_tenth() -> None:
    message = {"role": "user", "content": "x" * 360}
    assert estimate_chat({"messages": [message] * 10}) == (100 + PER_MESSAGE) * 11
    one = {"messages": [{"role": "user", "content": "x" * 345}]}
    assert raw(one) == 96 + PER_MESSAGE
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert raw({**one, "tools": tools}) == 100 + estimate_json(tools) > 100
    assert estimate_json(tools) == math.ceil(len(json.dumps(tools, separators=(",", ":"))) / 3)
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"arguments": "{}" * 99}}]}
    assert raw({"messages": [called]}) == PER_MESSAGE + estimate_json(called["tool_calls"])
    assert raw({"messages": [{"role": "tool", "content": "x" * 36, "tool_call_id": "x" * 36}]}) == PER_MESSAGE + 20


def test_what_the_model_does_not_read_is_not_counted() -> None:
    bare = {"messages": [{"role": "user", "content": "hi"}]}
    more = {"model": "m" * 999, "metadata": {"a": "b" * 999}, "logit_bias": {str(n): 1 for n in range(99)}, "stop": []}
    assert estimate_chat({**bare, **more, "temperature": 0.5}) == estimate_chat(bare)


@pytest.mark.parametrize("messages", [None, "text", [], [None], [3, "x"], [{"role": "user", "content": object()}]])
def test_nonsense_is_estimated_too_and_left_to_the_wire_format(messages: object) -> None:
    assert 0 <= estimate_chat({"messages": messages}) <= 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, None),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 50, "n": 3}, 150),
        ({"max_completion_tokens": 50, "max_tokens": 50}, 50),
        ({"max_tokens": True}, None),
        ({"max_tokens": "9"}, None),
        ({"max_tokens": 7, "n": True}, 7),
        ({"n": 4}, None),
    ],
)
def test_the_cap_on_the_output_over_all_choices(arguments: dict[str, Any], expected: int | None) -> None:
    assert output_of(arguments) == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.text(), "content": st.none() | st.text() | st.lists(st.dictionaries(st.text(), st.text()))}
        ),
        max_size=5,
    )
)
def test_an_estimate_changes_nothing_and_grows_with_the_call(messages: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(messages)
    first = estimate_chat({"messages": messages})
    assert messages == before
    assert estimate_chat({"messages": [*messages, {"role": "user", "content": "x"}]}) > first


# --- the learned output -------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 100_000), max_size=3 * WINDOW)
    | st.lists(st.integers(0, 20), min_size=WINDOW, max_size=2 * WINDOW)
)
def test_the_guess_is_the_exact_percentile_of_the_last_observations(outputs: list[int]) -> None:
    guess = OutputGuess()
    for output in outputs:
        guess.observe(output)
    recent = sorted(outputs[-WINDOW:])
    if len(recent) < 10:
        assert guess.guess() == max([FIRST_OUTPUT, *recent])
    else:
        at_most = [value for value in recent if sum(other <= value for other in recent) * 10 >= len(recent) * 9]
        assert guess.guess() == max(min(at_most), 1)


def test_the_first_guess_is_512_and_a_long_answer_raises_it_at_once() -> None:
    guess = OutputGuess()
    assert guess.guess() == 512
    guess.observe(10)
    assert guess.guess() == 512
    guess.observe(2_000)
    assert guess.guess() == 2_000


def test_short_answers_are_learned_after_ten_of_them_and_forgotten_after_a_window() -> None:
    guess = OutputGuess()
    for _ in range(10):
        guess.observe(20)
    assert guess.guess() == 20
    for _ in range(WINDOW):
        guess.observe(900)
    assert guess.guess() == 900
    assert repr(guess) == f"OutputGuess(guess=900, seen={WINDOW})"


def test_several_choices_are_learned_and_guessed_one_by_one() -> None:
    guess = OutputGuess()
    for _ in range(20):
        guess.observe(301, choices=3)
    assert guess.guess() == 101
    assert guess.guess(choices=2) == 202


def test_a_negative_count_and_a_zero_choice_teach_nothing_wrong() -> None:
    guess = OutputGuess()
    for _ in range(20):
        guess.observe(-5)
    assert guess.guess() == 512
    for _ in range(20):
        guess.observe(0, choices=0)
    assert guess.guess(choices=0) == 1
