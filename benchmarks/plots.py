"""The plots in `docs/`, made from the JSON of runs and from nothing else: the same JSON gives the same bytes.

One message each, said in its title. Colours and texts are of a middle tone on a transparent ground, so that they can be
read on a light page and on a dark one.

The only file here that needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt  # the backend is chosen first
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.harness import Measured, Report, Run

INK, FAINT = "#6e7781", "#8b949e"
BLUE, ORANGE = "#3b82d6", "#d9742b"
WIDTH, HEAD, FOOT = 8.6, 0.82, 0.58
"""Inches: of a figure, of the texts above its axes, of the labels below them."""
COLUMNS = 500
SHADE = 0.22
SECONDS = "seconds since the first request arrived"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "penstock",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(reports: Iterable[Report], into: Path) -> list[Path]:
    """Draw what the reports allow, each plot into a file of its own; later reports of a benchmark count."""
    latest = {report.benchmark: report for report in reports}
    wanted: list[tuple[str, str, Callable[[Report], Figure | None]]] = [
        ("arrivals", "throughput_under_limits", arrivals),
        ("windows", "throughput_under_limits", windows),
        ("cpu_per_call", "engine_overhead", cpu_per_call),
    ]
    drawn = []
    into.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, benchmark, plot in wanted:
            figure = plot(latest[benchmark]) if benchmark in latest else None
            if figure is not None:
                path = into / f"{name}.svg"
                # No date and no version of the drawing program: what is in the file comes from the JSON.
                figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": "benchmarks plot"})
                plt.close(figure)
                drawn.append(path)
    return drawn


def _frame(figure: Figure, message: str, about: str, *, left: float, gap: float = 0.2, head: float = HEAD) -> None:
    """Set the texts above the axes, and the margins, which are given in shares of the width and of a row's height."""
    height = figure.get_figheight()
    figure.suptitle(message, x=0.02, y=1 - 0.09 / height, ha="left", va="top", fontsize=14, fontweight="bold")
    figure.text(0.02, 1 - 0.42 / height, about, ha="left", va="top", fontsize=10.5)
    figure.subplots_adjust(left=left, right=0.985, top=1 - head / height, bottom=FOOT / height, hspace=gap)


def _exact(run: Run) -> str:
    return "; the machine was busy, and the instants are not exact" if run.disturbed else ""


def _spent(run: Run) -> str:
    return f"{100 * run.measured['spent']:.1f} % of the limit spent"


def _seconds(axes: Axes, end_s: float) -> None:
    """Ticks at whole seconds, unless there would be too few of them."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 5, 10], integer=end_s >= 3))


def _typical(report: Report, case: str) -> Run:
    """The run of a case whose spent share is nearest to the median: neither the best nor the worst is shown."""
    mine = [run for run in report.runs if run.case == case]
    runs = [run for run in mine if not run.disturbed] or mine
    middle = median(run.measured["spent"] for run in runs)
    return min(runs, key=lambda run: (abs(run.measured["spent"] - middle), run.round))


def _runs(report: Report, *wanted: str) -> list[Run]:
    """A typical run of each of these cases, or of whatever cases there are."""
    names = list(dict.fromkeys(run.case for run in report.runs))
    chosen = [name for start in wanted for name in names if name.startswith(start)] or names[: len(wanted)]
    return [_typical(report, name) for name in chosen]


def _thinned(seconds: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """The points that can be seen: of those that fall into one column the first, the lowest, the highest, the last."""
    column_s = (seconds[-1] - seconds[0]) / COLUMNS or 1.0
    columns: dict[int, list[int]] = {}
    for index, at_s in enumerate(seconds):
        columns.setdefault(int((at_s - seconds[0]) / column_s), []).append(index)
    kept: set[int] = set()
    for inside in columns.values():
        kept |= {inside[0], inside[-1], min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)}
    chosen = sorted(kept)
    return [seconds[index] for index in chosen], [values[index] for index in chosen]


def arrivals(report: Report) -> Figure | None:
    """Cumulative arrivals as the provider saw them, below the staircase of what its limit allows."""
    for run in _runs(report, "a:"):
        dimension, limit, period_s = run.settings["limits"][0]
        if dimension != "requests":
            continue
        at_s = [at_us / 1e6 for at_us in accumulate(run.measured["steps_us"])]
        figure, axes = plt.subplots(figsize=(WIDTH, 4.6))
        end_s = at_s[-1] * 1.04
        edges = [step * period_s for step in range(int(end_s / period_s) + 2)]
        allowed = [limit * (step + 1) for step in range(len(edges))]
        top = allowed[-1] * 1.02
        axes.fill_between(edges, allowed, top, step="post", color=ORANGE, alpha=SHADE, linewidth=0)
        axes.plot(edges, allowed, drawstyle="steps-post", color=ORANGE, linewidth=1.4)
        seen = _thinned(at_s, [float(number) for number in range(1, len(at_s) + 1)])
        axes.plot(*seen, drawstyle="steps-post", color=BLUE, linewidth=2.2)
        axes.set(xlim=(-0.01 * end_s, end_s), ylim=(0, top), xlabel=SECONDS, ylabel="requests that have arrived")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        _seconds(axes, end_s)
        axes.text(0.28, 0.74, "over the limit", transform=axes.transAxes, color=ORANGE, fontsize=13, ha="center")
        axes.text(0.63, 0.28, "what the provider\nsaw arrive", transform=axes.transAxes, color=BLUE, fontsize=13)
        measured = run.measured
        about = (
            f"{len(at_s):,} calls, {limit:,} requests allowed in any {period_s:g} s: {_spent(run)}, "
            f"{sum(measured['refused'].values())} refused{_exact(run)}"
        )
        kept = max(measured["worst"].values()) <= 1
        message = "Each request arrives hardly later than the limit allows" + (", and none sooner" if kept else "")
        _frame(figure, message, about, left=0.095)
        return figure
    return None


def _held(run: Run, limit: tuple[str, int, float]) -> tuple[list[float], list[float]]:
    """(seconds, per cent of the limit in the window that ends then), at every arrival and every expiry."""
    dimension, most, period_s = limit
    measured = run.measured
    amounts = measured["tokens"] if dimension != "requests" else [1] * len(measured["steps_us"])
    at_us = list(accumulate(measured["steps_us"]))
    changes = [(at, amount) for at, amount in zip(at_us, amounts, strict=True)]
    # At one instant what expires goes first: the window is half open.
    changes += [(at + round(period_s * 1e6), -amount) for at, amount in zip(at_us, amounts, strict=True)]
    changes.sort()
    seconds, share, held = [0.0], [0.0], 0
    for at, amount in changes:
        if at > at_us[-1]:
            break
        held += amount
        seconds.append(at / 1e6)
        share.append(100 * held / most)
    return seconds, share


def windows(report: Report) -> Figure | None:
    """The amount in the trailing window over time, as a share of the limit, a row for each of three cases."""
    runs = _runs(report, "a:", "b:", "d:")
    if not runs:
        return None
    head, row, gap = HEAD + 0.34, 1.05, 0.74
    height = head + FOOT + row * (len(runs) + gap * (len(runs) - 1))
    figure, rows = plt.subplots(len(runs), 1, figsize=(WIDTH, height), squeeze=False)
    fullest = [_window_row(axes, run) for axes, run in zip(rows[:, 0], runs, strict=True)]
    first = rows[0, 0]
    over = first.get_yaxis_transform()  # the width as a share, the height as the axis counts
    first.text(0.5, 111, "over the limit", transform=over, color=ORANGE, ha="center", va="center")
    rows[-1, 0].set_xlabel(SECONDS)
    about = "What the provider had accepted in the period before each moment. The dips are the guard and the way there."
    kept = "Never over the limit, and seldom far below it"
    message = kept if max(fullest) <= 100 else "How much of the limit is taken at each moment"
    _frame(figure, message, about, left=0.085, gap=gap, head=head)
    return figure


def _window_row(axes: Axes, run: Run) -> float:
    """Draw one row; the fullest window, in per cent of the limit."""
    dimension, most, period_s = run.settings["limits"][-1]
    held = _held(run, (dimension, most, period_s))
    seconds, share = _thinned(*held)
    fullest, top = max(held[1]), max(122.0, 1.1 * max(share))
    axes.axhspan(100, top, color=ORANGE, alpha=SHADE, linewidth=0)
    axes.axhline(100, color=ORANGE, linewidth=1.6, zorder=3)
    axes.fill_between(seconds, share, step="post", color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(seconds, share, drawstyle="steps-post", color=BLUE, linewidth=1.3, solid_joinstyle="miter")
    axes.set(xlim=(0, seconds[-1]), ylim=(0, top), yticks=(0, 50, 100), yticklabels=("0", "50", "100 %"))
    _seconds(axes, seconds[-1])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    what = {"total_tokens": "tokens, in and out,"}.get(dimension, dimension.replace("_", " "))
    limit = f"{most:,} {what} in any {period_s:g} s"
    axes.set_title(limit, loc="left", fontsize=11, fontweight="bold", color=INK, pad=6)
    busy = " (disturbed)" if run.disturbed else ""
    axes.set_title(f"{_spent(run)}, fullest window {fullest:.1f} %{busy}", loc="right", fontsize=10.5, color=INK, pad=6)
    return fullest


def cpu_per_call(report: Report) -> Figure | None:
    """Processor time of a call, in channel hops: the scripted transport alone, and what the engine adds."""
    cases = list(dict.fromkeys(run.case for run in report.runs))
    figure, axes = plt.subplots(figsize=(WIDTH, HEAD + FOOT + 0.62 * len(cases)))
    widest = 0.0
    for place, case in enumerate(reversed(cases)):
        rounds = report.measured(case)
        direct, added = median(_in_pairs(rounds, "direct_s")), median(_added(rounds))
        engine = _in_pairs(rounds, "engine_s")
        axes.barh(place, direct, color=FAINT, height=0.52)
        axes.barh(place, added, left=direct, color=BLUE, height=0.52)
        axes.plot([min(engine), max(engine)], [place, place], color=ORANGE, linewidth=3, solid_capstyle="butt")
        inside = f"the engine: {added:.1f}"
        axes.text(direct + added / 2, place, inside, va="center", ha="center", color="white", fontweight="bold")
        end = max(*engine, direct + added)
        said = f"  {direct:.1f} without it, {direct + added:.1f} with it"
        axes.text(end, place, said, va="center", color=INK, fontsize=10)
        widest = max(widest, end)
    axes.set(xlim=(0, widest * 1.42), ylim=(-0.5, len(cases) - 0.5))
    axes.set_xlabel("processor time of a call, in channel hops (orange: from the lowest to the highest round)")
    axes.set_yticks(range(len(cases)), list(reversed(cases)))
    axes.tick_params(axis="y", length=0)
    pair_us = median(pair * 1e6 for case in cases for one in report.measured(case) for pair in one["pair_s"])
    about = f"a hop: one send and one receive on a trio memory channel, {pair_us:.1f} µs of processor time here"
    adds = [median(_added(report.measured(case))) for case in cases]
    _frame(figure, f"The engine adds {_span(adds)} channel hops to a call", about, left=0.155)
    return figure


def _in_pairs(rounds: list[Measured], name: str) -> list[float]:
    return [median(map(truediv, one[name], one["pair_s"])) for one in rounds]


def _added(rounds: list[Measured]) -> list[float]:
    return [median(_each_added(one)) for one in rounds]


def _each_added(one: Measured) -> list[float]:
    columns = zip(one["engine_s"], one["direct_s"], one["pair_s"], strict=True)
    return [(engine - direct) / pair for engine, direct, pair in columns]


def _span(values: list[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"
