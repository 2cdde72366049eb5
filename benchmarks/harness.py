"""How a benchmark is run: cases in fresh processes, rounds in alternating order, medians, everything kept.

A benchmark is a question, its options, the cases they lead to, what one case measures, and the figures drawn from what
was measured. `run` starts a new Python for every case of every round (`python -m benchmarks.child`), hands it the
case's settings as JSON and reads its measurements as JSON. A measurement that says it was ``disturbed`` is kept, marked
and repeated, a few times at most.

This file measures nothing itself and imports nothing of the engine.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TextIO

import msgspec

ROOT = Path(__file__).parents[1]
TRIES = 4
CHILD_WITHIN_S = 900

Settings = dict[str, Any]
Measured = dict[str, Any]


class Option(NamedTuple):
    """An option of a benchmark's own: ``--name``. The default's type is the option's; a tuple is a list of words."""

    name: str
    default: int | float | str | tuple[str, ...] | None
    help: str
    kind: type = str


class Case(NamedTuple):
    """One thing that is measured, and what its process is told."""

    name: str
    settings: Settings


class Goal(NamedTuple):
    """What a figure is to be: ``at_most`` or ``at_least`` the bound."""

    relation: str
    bound: float

    def met(self, value: float) -> bool:
        """Whether the value reaches it."""
        return value <= self.bound if self.relation == "at_most" else value >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.relation == 'at_most' else '>='} {self.bound:g}"


def at_most(bound: float) -> Goal:
    """A goal reached from above."""
    return Goal("at_most", bound)


def at_least(bound: float) -> Goal:
    """A goal reached from below."""
    return Goal("at_least", bound)


class Figure(msgspec.Struct, frozen=True):
    """One number of a report: over the rounds' values, their median, or with `worst` the one furthest from the goal."""

    case: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    goal: str = ""
    met: bool | None = None


def figure(
    case: str, name: str, values: Sequence[float], *, unit: str = "", goal: Goal | None = None, worst: bool = False
) -> Figure:
    """A figure of the rounds' values, and whether it reaches its goal."""
    value = median(values)
    if worst and goal is not None:
        value = max(values) if goal.relation == "at_most" else min(values)
    return Figure(
        case=case,
        name=name,
        unit=unit,
        value=value,
        low=min(values),
        high=max(values),
        goal=str(goal) if goal is not None else "",
        met=goal.met(value) if goal is not None else None,
    )


class Run(msgspec.Struct, frozen=True):
    """One case in one round. `disturbed` says why it does not count; `load` is the machine's load average before it."""

    case: str
    round: int
    settings: Settings
    measured: Measured
    load: float
    disturbed: str = ""


class Report(msgspec.Struct, frozen=True):
    """Everything about one benchmark's run; what the JSON holds and the plots are made of."""

    benchmark: str
    question: str
    taken: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    options: Settings
    rounds: int
    runs: list[Run]
    figures: list[Figure]
    note: str = ""

    def measured(self, case: str) -> list[Measured]:
        """What the counted runs of a case measured, by round; a case that was always disturbed counts as it is."""
        mine = [run for run in self.runs if run.case == case]
        return [run.measured for run in mine if not run.disturbed] or [run.measured for run in mine]


class Benchmark(NamedTuple):
    """One question. `measure` runs in the case's own process; `figures` is given each case's measurements by name.
    `note` stands above the figures: what tuning they use, for instance."""

    name: str
    question: str
    rounds: int
    options: tuple[Option, ...]
    cases: Callable[[Settings, int], list[Case]]
    measure: Callable[[Settings], Measured]
    figures: Callable[[Mapping[str, list[Measured]]], list[Figure]]
    note: str = ""


class ChildFailed(Exception):
    """A case's process ended without a measurement."""


def run(benchmark: Benchmark, options: Settings, rounds: int, progress: TextIO) -> Report:
    """Run every case in every round, and report.

    Raises:
      ChildFailed: a case's process failed; what it wrote to stderr is in the message.
    """
    taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runs: list[Run] = []
    names: list[str] = []
    for number in range(1, rounds + 1):
        cases = benchmark.cases(options, number)
        names = [case.name for case in cases]
        for case in cases if number % 2 else reversed(cases):
            runs += _undisturbed(benchmark.name, case, number, progress)
    draft = Report(
        benchmark=benchmark.name,
        question=benchmark.question,
        taken=taken,
        versions=_versions(),
        machine=_machine(),
        options=options,
        rounds=rounds,
        runs=runs,
        figures=[],
        note=benchmark.note,
    )
    return msgspec.structs.replace(draft, figures=benchmark.figures({name: draft.measured(name) for name in names}))


def _undisturbed(name: str, case: Case, number: int, progress: TextIO) -> list[Run]:
    """One case of one round, again while it was disturbed, a few times at most."""
    runs: list[Run] = []
    for tried in range(1, TRIES + 1):
        load = os.getloadavg()[0]
        print(f"{name}: round {number}, {case.name}{', again' if tried > 1 else ''}", file=progress, flush=True)
        measured = _in_a_child(name, case.settings)
        disturbed = measured.pop("disturbed", "")
        runs.append(Run(case.name, number, case.settings, measured, round(load, 2), disturbed))
        if not disturbed:
            break
        print(f"{name}: disturbed: {disturbed}", file=progress, flush=True)
    return runs


def _in_a_child(name: str, settings: Settings) -> Measured:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", name],
        input=json.dumps(settings).encode(),
        capture_output=True,
        cwd=ROOT,
        env=environment,
        timeout=CHILD_WITHIN_S,
        check=False,
    )
    if child.returncode:
        raise ChildFailed(f"{name} failed with {settings}:\n{child.stderr.decode(errors='replace')}")
    measured: Measured = json.loads(child.stdout)
    return measured


def _versions() -> dict[str, str]:
    packages = ("penstock", "trio", "msgspec", "httpx", "httptools", "h11", "structlog", "aiohttp")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _machine() -> dict[str, str | int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cores": cores, "processor": _processor(), "system": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(report: Report) -> str:
    """The figures as text, one a line."""
    rows = [("case", "figure", "median", "of the rounds", "goal", "")]
    for one in report.figures:
        spread = f"{_short(one.low)} to {_short(one.high)}" if one.low != one.high else "the same in all"
        met = {None: "", True: "reached", False: "MISSED"}[one.met]
        rows.append((one.case, one.name, f"{_short(one.value)} {one.unit}".strip(), spread, one.goal, met))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [report.note] if report.note else []
    return "\n".join([report.benchmark, report.question, _rounds(report), *notes, "", *lines])


def _rounds(report: Report) -> str:
    """How many rounds there were, and what disturbed them."""
    marked = sum(bool(run.disturbed) for run in report.runs)
    counted = len({(run.case, run.round) for run in report.runs if not run.disturbed})
    never = len({(run.case, run.round) for run in report.runs}) - counted
    text = f"rounds: {report.rounds}; runs disturbed, and repeated: {marked}"
    return f"{text}; STILL DISTURBED after {TRIES} tries, and so not exact: {never}" if never else text


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def save(reports: Sequence[Report]) -> bytes:
    """The reports as JSON."""
    return msgspec.json.encode({"reports": reports})


class _File(msgspec.Struct):
    reports: list[Report]


def load(data: bytes) -> list[Report]:
    """Read what `save` wrote. Raises `msgspec.DecodeError` for anything else."""
    return msgspec.json.decode(data, type=_File).reports
