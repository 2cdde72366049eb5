"""What does an event of a stream cost, do streams keep up, and what does one hold while nothing comes?

A server in its own process streams the same events to everybody, on an absolute schedule (see `streams_server`).
Against it, each in a fresh process of its own, run the engine, read by ``async for`` over `iModel.stream`, and beside
it aiohttp, which reads the same lines and decodes the same JSON. A client's streams are all read side by side, and its
processor time over all of them is divided by their events: making the calls and ending them is in it. Ratios are of two
cases of one round.

The ideal of the wall's time is what the server's schedule takes: the first event of a stream comes with the head of its
answer, so that it is one interval less than there are writes. How late the server itself was stands beside it; a run
in which one of its events in a hundred was late by more than half an interval does not count: what comes late comes
together, and is cheaper.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import NamedTuple

import trio

from benchmarks.harness import (
    Benchmark,
    Case,
    Figure,
    Goal,
    Measured,
    Option,
    Settings,
    at_least,
    at_most,
    figure,
)
from benchmarks.served import may_open, server
from benchmarks.streams_clients import AIOHTTP, AIOHTTP_JSON, BARE, ENGINE, READERS, TRANSPORT, provider, run
from benchmarks.units import pair_s
from benchmarks.wire_clients import missing

PAIRS = 5_000
SPARE_FILES = 200
_TOLD = ("streams", "events", "interval", "burst", "size", "gather", "idle")
IDLE_S = 1.0
"""How long idle streams stay so: time enough to read the first event of each of them."""

Side = tuple[str, str]
"""A client, and a situation: ``cold`` (connections are to be opened), ``warm`` (they are open), ``bursts`` (the same,
many events at once), ``idle`` (one event came, then nothing)."""


class Question(NamedTuple):
    """A figure with a goal: of what, beside what, and what else runs with it."""

    of: Side
    against: Side | None
    goal: Goal
    beside: tuple[Side, ...]


QUESTIONS = {
    "a": Question((ENGINE, "cold"), None, at_most(1.05), ((AIOHTTP, "cold"),)),
    "b": Question(
        (ENGINE, "warm"),
        (AIOHTTP, "warm"),
        at_most(1.1),
        ((AIOHTTP_JSON, "warm"), (TRANSPORT, "warm"), (BARE, "warm")),
    ),
    "c": Question((ENGINE, "bursts"), (ENGINE, "warm"), at_most(0.35), ((AIOHTTP, "bursts"),)),
    "d": Question((ENGINE, "idle"), None, at_most(30 * 1024), ((AIOHTTP, "idle"),)),
}


def cases(options: Settings, number: int) -> list[Case]:
    """What the questions asked for need, each once, both sides of a ratio next to each other."""
    letters = [letter for letter in options["cases"].replace(",", "").lower() if not letter.isspace()]
    unknown = set(letters) - set(QUESTIONS)
    if unknown or not letters:
        raise ValueError(f"--cases {options['cases']!r}: the cases are {' '.join(QUESTIONS)}")
    for name in ("streams", "events", "burst", "idle", "size"):
        if options[name] < 1:
            raise ValueError(f"--{name} must be at least 1")
    asked = [QUESTIONS[letter] for letter in letters]
    wanted = dict.fromkeys(side for one in asked for side in (one.of, one.against) if side is not None)
    wanted |= dict.fromkeys(side for one in asked for side in one.beside)
    return [_case(*side, options, number) for side in wanted]


def _case(client: str, situation: str, options: Settings, number: int) -> Case:
    streams, events, interval_s = options["streams"], options["events"], options["interval"]
    burst = min(options["burst"], events) if situation == "bursts" else 1
    name = f"{client}: {streams:,} of {events:,}, {burst} every {burst * interval_s * 1e3:g} ms"
    if situation == "idle":
        streams, events = options["idle"], 1
        name = f"{client}: {streams:,} idle"
    if situation == "cold":
        name += ", cold"
    if options["gc"]:
        name += f", gc {options['gc']:,}"
    settings = {"client": client, "situation": situation, "streams": streams, "events": events, "burst": burst}
    settings |= {"round": number, "interval": interval_s, "size": options["size"], "gc": options["gc"]}
    settings |= {
        "gather": streams if situation in ("warm", "bursts") else 0,
        "idle": IDLE_S if situation == "idle" else 0,
    }
    return Case(name, settings)


# --- one case ---


def measure(settings: Settings) -> Measured:
    """The wall's seconds and their ideal, processor seconds for each event, memory, what the server counted."""
    client, streams, events = settings["client"], settings["streams"], settings["events"]
    side = {"client": client, "situation": settings["situation"], "round": settings["round"]}
    peer = missing(AIOHTTP) if client in (AIOHTTP, AIOHTTP_JSON) else None
    if peer is not None:
        return {**side, "missing": peer}
    may_open(streams + SPARE_FILES)
    before_s = trio.run(pair_s, PAIRS)
    if settings["gc"]:
        gc.collect()
        gc.freeze()
        gc.set_threshold(settings["gc"], 50, 1_000)
    with server("benchmarks.streams_server", settings, _TOLD) as (port, _, counted):
        took = run(settings, provider(port))
    if client in READERS and took.characters != streams * events * settings["size"]:
        raise RuntimeError(f"{client} read {took.characters} characters, not those of {streams * events} events")
    after_s = trio.run(pair_s, PAIRS)
    late_s = counted["late_s"]["99 of 100"]
    disturbed = f"the server was late by {late_s * 1e3:.1f} ms" if late_s > settings["interval"] / 2 else ""
    return {
        **side,
        "pair_s": (before_s + after_s) / 2,
        "event_s": took.used_s / (streams * events),
        "system_s": took.system_s / (streams * events),
        "wall_s": took.wall_s,
        "ideal_s": ideal_s(settings),
        "bytes_per_stream": took.grown_bytes / streams,
        "server": counted,
        "disturbed": disturbed,
    }


def ideal_s(settings: Settings) -> float:
    """What the schedule of one stream takes, from its first write to its last."""
    if settings["idle"]:
        return float(settings["idle"])
    writes = -(-settings["events"] // settings["burst"])
    return float((writes - 1) * settings["burst"] * settings["interval"])


# --- the figures ---


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """What was asked for and has a goal, then what each case cost."""
    by_side: dict[Side, tuple[str, list[Measured]]] = {
        (rounds[0]["client"], rounds[0]["situation"]): (case, rounds) for case, rounds in measured.items()
    }
    drawn = []
    for one in QUESTIONS.values():
        if one.of in by_side:
            drawn += _answered(one, by_side)
    for case, rounds in measured.items():
        drawn += _cost(case, rounds)
    return drawn


def _answered(one: Question, by_side: Mapping[Side, tuple[str, list[Measured]]]) -> list[Figure]:
    case, rounds = by_side[one.of]
    if one.against is None:
        return [_memory(case, rounds, one.goal) if one.of[1] == "idle" else _wall(case, rounds, one.goal)]
    other, others = by_side.get(one.against, ("", []))
    if not others or any("missing" in each for each in others):
        return []
    against = other if one.against[0] == one.of[0] else one.against[0]
    # A round in which either side was disturbed to the last has no ratio: what is left is paired by its number.
    theirs = {each["round"]: each["event_s"] for each in others}
    ratios = [each["event_s"] / theirs[each["round"]] for each in rounds if each["round"] in theirs]
    compared = figure(case, f"rounds compared with {against}", [len(ratios)], goal=at_least(1))
    if not ratios:
        return [compared]
    ratio = figure(case, f"processor time / {against}", ratios, goal=one.goal)
    return [ratio] if len(ratios) == len(rounds) == len(others) else [ratio, compared]


def _wall(case: str, rounds: list[Measured], goal: Goal | None = None) -> Figure:
    return figure(case, "wall / ideal", [one["wall_s"] / one["ideal_s"] for one in rounds], goal=goal)


def _memory(case: str, rounds: list[Measured], goal: Goal | None = None) -> Figure:
    return figure(case, "memory per stream", [one["bytes_per_stream"] for one in rounds], unit="bytes", goal=goal)


def _cost(case: str, rounds: list[Measured]) -> list[Figure]:
    """What one side's events cost, in microseconds and in the pairs timed beside them, and how late the server was."""
    absent = [one["missing"] for one in rounds if "missing" in one]
    if absent:
        return [figure(case, f"streams read ({absent[0]} is not installed: pip install 'penstock[bench]')", [0])]
    engine, situation = rounds[0]["client"] == ENGINE, rounds[0]["situation"]
    if situation == "idle":  # the engine's stands above, with its goal
        return [] if engine else [_memory(case, rounds)]
    drawn = [] if engine and situation == "cold" else [_wall(case, rounds)]
    return [
        *drawn,
        figure(case, "an event", [one["event_s"] * 1e6 for one in rounds], unit="us"),
        figure(case, "of it in the system", [one["system_s"] * 1e6 for one in rounds], unit="us"),
        figure(case, "an event", [one["event_s"] / one["pair_s"] for one in rounds], unit="pairs"),
        figure(case, "the server late, 99 of 100", [_late_ms(one, "99 of 100") for one in rounds], unit="ms"),
        figure(case, "the server late, longest", [_late_ms(one, "longest") for one in rounds], unit="ms"),
    ]


def _late_ms(one: Measured, which: str) -> float:
    return float(one["server"]["late_s"][which] * 1e3)


BENCHMARK = Benchmark(
    name="streams",
    question="What does an event of a stream cost, do streams keep up, and what does one hold while nothing comes?",
    rounds=5,
    options=(
        Option("cases", "abcd", "a: wall, b: processor time beside aiohttp, c: bursts, d: memory of idle streams"),
        Option("streams", 200, "streams side by side", int),
        Option("events", 200, "events of each stream", int),
        Option("interval", 0.01, "seconds from one event to the next", float),
        Option("burst", 50, "c: events in one write, which then comes so many times as late", int),
        Option("idle", 1_000, "d: idle streams, each of which needs an open file in each of two processes", int),
        Option("size", 4, "characters of text in an event", int),
        Option("gc", 0, "collect garbage after so many allocations, freezing what is there; 0: as Python does", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
    note="garbage is collected as Python does, but where a case's name says gc N: after N allocations, what was there "
    "before being frozen",
)
