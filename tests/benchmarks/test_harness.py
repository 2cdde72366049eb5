"""The harness: rounds in alternating order, disturbed runs repeated, medians and goals, JSON there and back."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from benchmarks import harness
from benchmarks.harness import Benchmark, Case, Figure, Measured, Settings, at_least, at_most, figure


def benchmark() -> Benchmark:
    """Two cases that measure nothing."""

    def cases(options: Settings, number: int) -> list[Case]:
        return [Case("one", {"number": number}), Case("two", {"number": number})]

    def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
        return [figure(case, "value", [one["value"] for one in rounds]) for case, rounds in measured.items()]

    return Benchmark("made_up", "Is it?", 3, (), cases, lambda settings: {}, figures)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Measured]:
    """What the cases' processes will answer, in order; the last one again and again."""
    coming: list[Measured] = []

    def in_a_child(name: str, settings: Settings) -> Measured:
        return dict(coming.pop(0) if len(coming) > 1 else coming[0])

    monkeypatch.setattr(harness, "_in_a_child", in_a_child)
    return coming


def test_every_other_round_runs_backwards(answers: list[Measured]) -> None:
    """So that what drifts with time is not taken for a difference between cases."""
    answers.append({"value": 1})
    report = harness.run(benchmark(), {}, 3, io.StringIO())
    assert [run.case for run in report.runs] == ["one", "two", "two", "one", "one", "two"]


def test_disturbed_run_is_kept_marked_and_repeated(answers: list[Measured]) -> None:
    """What was disturbed is in the report and not in the figures."""
    answers.extend([{"value": 99, "disturbed": "a busy machine"}, {"value": 1}, {"value": 2}])
    report = harness.run(benchmark(), {}, 1, io.StringIO())
    assert [(run.case, run.disturbed) for run in report.runs] == [("one", "a busy machine"), ("one", ""), ("two", "")]
    assert [one.value for one in report.figures] == [1, 2]
    assert "repeated: 1" in harness.table(report)
    assert "STILL" not in harness.table(report)


def test_note_stands_above_the_figures_and_in_the_json(answers: list[Measured]) -> None:
    """So that nobody reads a figure without the tuning it was made with."""
    answers.append({"value": 5})
    report = harness.run(benchmark()._replace(note="nothing is tuned"), {}, 1, io.StringIO())
    head, _, rows = harness.table(report).partition("\n\n")
    assert head.endswith("\nnothing is tuned")
    assert rows.startswith("case")
    assert harness.load(harness.save([report]))[0].note == "nothing is tuned"


def test_always_disturbed_is_tried_a_few_times_and_said(answers: list[Measured]) -> None:
    """A machine that never rests gives a figure that says what it is worth."""
    answers.append({"value": 5, "disturbed": "a busy machine"})
    report = harness.run(benchmark(), {}, 1, io.StringIO())
    assert len(report.runs) == 2 * harness.TRIES
    assert "STILL DISTURBED" in harness.table(report)


def test_median_spread_and_goal() -> None:
    """A figure is the median, unless the furthest from the goal is what counts."""
    usual = figure("case", "cost", [3, 1, 8], goal=at_most(3))
    assert (usual.value, usual.low, usual.high, usual.met) == (3, 1, 8, True)
    assert figure("case", "refused", [0, 0, 1], goal=at_most(0), worst=True).met is False
    assert figure("case", "share", [1, 1, 0.5], goal=at_least(1), worst=True).value == 0.5
    assert figure("case", "free", [2]).met is None


def test_json_there_and_back(answers: list[Measured]) -> None:
    """A report is read as it was written, every raw number in it."""
    answers.append({"value": 1, "raw": [1.5, 2.25]})
    report = harness.run(benchmark(), {"calls": 3}, 2, io.StringIO())
    assert harness.load(harness.save([report])) == [report]
    assert report.machine["cores"]
    assert {"python", "trio", "penstock"} <= report.versions.keys()
    assert report.measured("one") == [{"value": 1, "raw": [1.5, 2.25]}] * 2
