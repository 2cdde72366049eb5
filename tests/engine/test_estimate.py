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
from hypothesis import example, given
from hypothesis import strategies as st

from engine.estimate import (
    FIRST_OUTPUT,
    PER_LOW_IMAGE,
    PER_MEDIUM,
    PER_MESSAGE,
    PER_TOOL,
    WINDOW,
    Calibration,
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
        ([{"type": "image_url", "image_url": {"url": "https://x.example", "detail": "low"}}], PER_LOW_IMAGE),
        ([{"type": "image_url", "image_url": {"url": "data:,", "detail": "high"}}], PER_MEDIUM),
        ([{"type": "input_image", "image_url": "data:image/png;base64," + "A" * 9_000, "detail": "low"}], 85),
        ([{"type": "input_file", "file_data": "data:application/pdf;base64," + "A" * 9_000}], PER_MEDIUM),
        ([{"image_url": {"url": "data:image/png;base64," + "A" * 9_000}}], PER_MEDIUM),
        ([{"type": "tool_result", "content": [{"type": "image", "source": {"data": "A" * 9_000}}]}], PER_MEDIUM),
        ([{"type": "tool_result", "content": "x" * 36}], 10),
        ([{"type": []}], 4),
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
    assert raw({**one, "tools": tools}) == 100 + PER_TOOL + estimate_json(tools)
    assert raw({**one, "functions": tools * 3}) == 100 + 3 * PER_TOOL + estimate_json(tools * 3)
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    assert raw({**one, "response_format": schema}) == 100 + estimate_json(schema) > 100
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


# --- the learned input --------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.fractions(Fraction(3, 10), 3), st.integers(10, 200))
@example(11, Fraction(25, 11), 10)  # 11 * (25 / 11) is above 25
def test_a_constant_factor_is_foretold_exactly(estimated: int, factor: Fraction, calls: int) -> None:
    calibration = Calibration()
    counted = max(1, round(estimated * factor))
    for _ in range(calls):
        calibration.observe(estimated, counted)
    expected = min(max(Fraction(counted, estimated), Fraction(3, 10)), Fraction(3)) * estimated
    assert calibration.calibrated(estimated) == math.ceil(expected)


def test_nothing_is_taken_off_before_ten_calls_and_the_largest_ratio_counts_at_once() -> None:
    calibration = Calibration()
    assert calibration.calibrated(100) == 100
    for _ in range(9):
        calibration.observe(100, 50)
    assert calibration.calibrated(100) == 100
    calibration.observe(100, 50)
    assert calibration.calibrated(100) == 50
    risen = Calibration()
    for counted in (180, 120):
        risen.observe(100, counted)
    assert risen.calibrated(100) == 180


def test_the_mean_and_its_deviation_are_those_of_the_rule() -> None:
    ratios = [Fraction(80 + 7 * position % 41, 100) for position in range(60)]
    calibration = Calibration()
    mean = deviation = Fraction(0)
    for position, ratio in enumerate(ratios, 1):
        calibration.observe(100, int(100 * ratio))
        weight = Fraction(1, position) if position < 10 else Fraction(1, 10)
        off = ratio - mean
        mean += weight * off
        deviation += weight * (abs(off) - deviation) if position > 1 else 0
    assert calibration.ratio == pytest.approx(float(mean + 2 * deviation))


def test_few_of_many_unlike_calls_are_underestimated() -> None:
    calibration = Calibration()
    under = 0
    for position in range(1_000):
        counted = 60 + position * 7919 % 41
        under += calibration.calibrated(100) < counted
        calibration.observe(100, counted)
    assert under <= 50


def test_a_change_of_tenfold_is_forgotten_and_stays_within_its_bounds() -> None:
    calibration = Calibration()
    for estimated, counted, ratio in ((100, 10_000, 3), (100, 1, 0.3), (100, 100, 1)):
        for _ in range(150):
            calibration.observe(estimated, counted)
            assert 0.3 <= calibration.ratio <= 3
        assert calibration.ratio == pytest.approx(ratio, rel=0.01)
    assert repr(calibration) == f"Calibration(ratio={calibration.ratio:.3f}, seen=450)"


@pytest.mark.parametrize(("estimated", "counted"), [(0, 5), (5, 0), (-1, 5), (5, -5)])
def test_what_was_not_counted_teaches_nothing(estimated: int, counted: int) -> None:
    calibration = Calibration()
    for _ in range(20):
        calibration.observe(estimated, counted)
    assert calibration.calibrated(100) == 100


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
