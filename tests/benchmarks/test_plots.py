"""What a plot's title claims, its run must show: a run that broke the limit is drawn without the claim.

The pictures themselves are for the eye; that the same JSON gives the same bytes is in `test_commands`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.harness import Report, Run

plots = pytest.importorskip("benchmarks.plots", reason="needs matplotlib")

LIMIT = ("requests", 2, 1.0)
KEPT_US = [0, 0, 1_010_000, 1_010_000, 2_020_000]
BROKEN_US = [0, 0, 990_000, 1_010_000, 2_020_000]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No figure outlives its test."""
    yield
    plots.plt.close("all")


def report(at_us: list[int], disturbed: str = "") -> Report:
    """The report of one run, in which a limit of 2 requests per second was to be kept."""
    steps_us = [after - before for before, after in pairwise([0, *at_us])]
    worst = max(sum(start <= at < start + 1_000_000 for at in at_us) for start in at_us) / 2
    measured: dict[str, Any] = {"steps_us": steps_us, "tokens": [], "spent": 0.99, "refused": {}}
    measured["worst"] = {"2 requests per 1 s": worst}
    run = Run("a: 2 per 1 s", 1, {"limits": [LIMIT]}, measured, 0.0, disturbed)
    return Report("throughput_under_limits", "", "", {}, {}, {}, 1, [run], [])


def said(figure: Any) -> str:
    """Every text in a figure."""
    titles = [axes.get_title(side) for axes in figure.axes for side in ("left", "right")]
    return " | ".join([figure.get_suptitle(), *(text.get_text() for text in figure.texts), *titles])


@pytest.mark.parametrize(
    ("plot", "claim"), [("windows", "Never over the limit"), ("arrivals", "none sooner")], ids=["windows", "arrivals"]
)
def test_no_plot_claims_what_its_run_does_not_show(plot: str, claim: str) -> None:
    """Three requests within a second, where two are allowed, take the claim away."""
    draw = getattr(plots, plot)
    assert claim in said(draw(report(KEPT_US)))
    assert claim not in said(draw(report(BROKEN_US)))


def test_a_row_says_how_full_its_fullest_window_was() -> None:
    """And that its run was disturbed, if no other was left to draw."""
    assert "99.0 % of the limit spent, fullest window 100.0 %" in said(plots.windows(report(KEPT_US)))
    assert "fullest window 150.0 % (disturbed)" in said(plots.windows(report(BROKEN_US, "the simulator was late")))
    assert "the machine was busy" in said(plots.arrivals(report(KEPT_US, "the simulator was late")))


def test_the_part_over_the_limit_is_within_the_picture() -> None:
    """However far over."""
    (axes,) = plots.windows(report(list(range(0, 9_000, 1_000)))).axes
    assert axes.get_ylim()[1] > 450
