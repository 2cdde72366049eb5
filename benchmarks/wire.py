"""What does a call cost on the wire, beside others?

A server in its own process gives every request the same answer (see `wire_server`). Against it, each in a fresh process
of its own, run: the transport as workers use it, a connection each; the whole engine through `map`; httpx over the same
wire; and as peers aiohttp, and httpx over its own, a client for each worker. So many workers each send one call after
the other, and the client process's time is read whenever so many calls have ended, connections being open by then.
Figures are ratios of two cases of one round. aiohttp and httpx hand over bytes; the transport has read the usage in
them by then, and the engine has also written the request. A peer that is not installed is said to be missing.

Where the wall's time counts, it is divided by the ideal: what the replies alone take, as many at once as there are
connections. How garbage is collected is set here, for a whole process, and stands in the case's name.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

import trio

from benchmarks.harness import Benchmark, Case, Figure, Goal, Measured, Option, Settings, at_most, figure
from benchmarks.served import may_open, server
from benchmarks.units import pair_s
from benchmarks.wire_clients import AIOHTTP, BARE, ENGINE, HTTPX, MOUNTED, TRANSPORT, Calls, missing, provider, run

PAIRS = 5_000
SPARE_FILES = 200
_TOLD = ("reply", "low", "high", "seed", "spin", "gather")

Side = tuple[str, str]
"""A client, and a situation: ``now`` (replies at once), ``late`` and ``wide`` (after a while); ``cold`` (each call
takes long, connections are to be opened); ``warm`` (they are open, and there are twice as many calls); ``tuned`` (the
same, garbage being collected more rarely)."""

TIMED = ("cold", "warm", "tuned")
"""The situations of which the wall's time counts."""

WARM = ("warm", "tuned")
TWICE, TUNED_GC = 2, 100_000


class Comparison(NamedTuple):
    """One ratio of processor time; of a situation in `TIMED`, of the wall's time to the ideal."""

    what: Side
    against: Side
    bound: float


COMPARISONS = {
    "a": Comparison((TRANSPORT, "now"), (AIOHTTP, "now"), 0.45),
    "b": Comparison((TRANSPORT, "late"), (AIOHTTP, "late"), 0.6),
    "c": Comparison((MOUNTED, "now"), (HTTPX, "now"), 0.5),
    "d": Comparison((ENGINE, "now"), (AIOHTTP, "now"), 0.9),
    "e": Comparison((ENGINE, "wide"), (ENGINE, "now"), 3.0),
    "f": Comparison((ENGINE, "cold"), (AIOHTTP, "cold"), 1.4),
    "g": Comparison((ENGINE, "tuned"), (ENGINE, "warm"), 1.8),
}
BESIDE: dict[str, Side] = {"a": (BARE, "now"), "g": (AIOHTTP, "warm")}
"""What else runs with a comparison."""

MEMORY = at_most(25 * 1024)


def cases(options: Settings, number: int) -> list[Case]:
    """What the comparisons asked for need, each once, both sides of a ratio next to each other."""
    letters = [letter for letter in options["cases"].replace(",", "").lower() if not letter.isspace()]
    unknown = set(letters) - set(COMPARISONS)
    if unknown or not letters:
        raise ValueError(f"--cases {options['cases']!r}: the cases are {' '.join(COMPARISONS)}")
    wanted = dict.fromkeys(side for letter in letters for side in COMPARISONS[letter][:2])
    wanted |= {BESIDE[letter]: None for letter in letters if letter in BESIDE}
    return [_case(*side, options, number) for side in wanted]


def _case(client: str, situation: str, options: Settings, number: int) -> Case:
    most, late, hold = options["most"], (options["latency"] / 2, options["latency"] * 1.5), (options["hold"],) * 2
    after = f" of {late[0] * 1e3:g}-{late[1] * 1e3:g} ms"
    # Where replies come at once there are never thousands in flight, however many connections there are.
    width, (low_s, high_s), suffix = {
        "now": (options["in_flight"], (0.0, 0.0), ""),
        "late": (options["many"], late, after),
        "wide": (most, late, after),
        "cold": (most, hold, f" of {hold[0]:g} s, cold"),
        "warm": (options["crowd"], hold, f" of {hold[0]:g} s, warm"),
        "tuned": (options["crowd"], hold, f" of {hold[0]:g} s, warm"),
    }[situation]
    settings = {"client": client, "situation": situation, "in_flight": width, "low": low_s, "high": high_s}
    settings |= {name: options[name] for name in ("calls", "size", "reply", "stretches", "gc", "spin")}
    settings |= {"gather": 0, "then": 0}
    if situation in TIMED:
        # A server that never sleeps takes three times as long to accept them, and this is the wall's time.
        settings |= {"stretches": 0, "spin": 0}
    if situation in WARM:
        tuned = options["gc"] or TUNED_GC
        settings |= {"gather": width, "then": TWICE * width, "gc": tuned if situation == "tuned" else 0}
    if settings["gc"]:
        suffix += f", gc {settings['gc']:,}"
    return Case(f"{client}: {width:,}{suffix}", {**settings, "seed": number})


# --- one case ---


def measure(settings: Settings) -> Measured:
    """Processor seconds for each call in each stretch, the wall's seconds and its ideal, memory, the server's count."""
    side = {name: settings[name] for name in ("client", "situation", "in_flight")}
    peer = missing(settings["client"])
    if peer is not None:
        return {**side, "missing": peer}
    may_open(settings["in_flight"] + SPARE_FILES)
    before_s = trio.run(pair_s, PAIRS)
    calls = Calls(settings)
    if settings["gc"]:
        gc.collect()
        gc.freeze()
        gc.set_threshold(settings["gc"], 50, 1_000)
    with server("benchmarks.wire_server", settings, _TOLD) as (port, told, counted):
        took = run(settings, provider(port, told, settings["size"]), calls)
    after_s = trio.run(pair_s, PAIRS)
    call_s, system_s = calls.each_s()
    warm = settings["situation"] in WARM
    return {
        **side,
        "pair_s": (before_s + after_s) / 2,
        "call_s": call_s,
        "system_s": system_s,
        "wall_s": took.rest_s if warm else took.opened_s,
        "ideal_s": (TWICE if warm else 1) * settings["high"],
        "bytes_per_call": took.grown_bytes / settings["in_flight"],
        "server": counted,
    }


# --- the figures ---


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """The comparisons that were asked for, then what each of their sides cost."""
    by_side: dict[Side, tuple[str, list[Measured]]] = {
        (rounds[0]["client"], rounds[0]["situation"]): (case, rounds) for case, rounds in measured.items()
    }
    drawn = []
    for one in COMPARISONS.values():
        if one.what in by_side and one.against in by_side:
            drawn += _compared(one, *by_side[one.what], *by_side[one.against])
    for case, rounds in measured.items():
        drawn += _cost(case, rounds)
    return drawn


def _compared(one: Comparison, case: str, rounds: list[Measured], other: str, others: list[Measured]) -> list[Figure]:
    goal = at_most(one.bound)
    if one.what[1] in TIMED:
        drawn = [figure(case, "wall / ideal", _ideally(rounds), goal=goal)]
        return drawn + _memory(case, rounds, MEMORY) if one.what[1] in WARM else drawn
    if any("missing" in a for a in (*rounds, *others)):
        return []
    ratios = [median(a["call_s"]) / median(b["call_s"]) for a, b in zip(rounds, others, strict=True)]
    against = other if one.what[1] != one.against[1] else one.against[0]
    return [figure(case, f"processor time / {against}", ratios, goal=goal)]


def _ideally(rounds: list[Measured]) -> list[float]:
    return [one["wall_s"] / one["ideal_s"] for one in rounds]


def _memory(case: str, rounds: list[Measured], goal: Goal | None = None) -> list[Figure]:
    grown = [one["bytes_per_call"] for one in rounds]
    return [figure(case, "memory per call in flight", grown, unit="bytes", goal=goal)]


def _cost(case: str, rounds: list[Measured]) -> list[Figure]:
    """What one side's calls cost, in microseconds and in the pairs timed beside them."""
    missing = [one["missing"] for one in rounds if "missing" in one]
    if missing:
        return [figure(case, f"calls made ({missing[0]} is not installed: pip install 'penstock[bench]')", [0])]
    drawn = []
    situation = rounds[0]["situation"]
    if situation in TIMED:
        drawn.append(figure(case, "wall", [one["wall_s"] for one in rounds], unit="s"))
    if situation == "warm":  # the tuned ones stand above, with their goals
        drawn += [figure(case, "wall / ideal", _ideally(rounds)), *_memory(case, rounds)]
    if situation == "cold":
        return drawn
    return [
        *drawn,
        figure(case, "a call", [median(one["call_s"]) * 1e6 for one in rounds], unit="us"),
        figure(case, "of it in the system", [median(one["system_s"]) * 1e6 for one in rounds], unit="us"),
        figure(case, "a call", [median(one["call_s"]) / one["pair_s"] for one in rounds], unit="pairs"),
    ]


BENCHMARK = Benchmark(
    name="wire",
    question="What does a call cost on the wire, beside others?",
    rounds=5,
    options=(
        Option(
            "cases", "abcdefg", "a: transport, b: late replies, c: httpx, d: engine, e: with many, f: cold, g: warm"
        ),
        Option("calls", 4_000, "calls in each stretch; at least two for each in flight", int),
        Option("stretches", 5, "stretches in each process", int),
        Option("in-flight", 64, "calls in flight where replies come at once", int),
        Option("many", 1_000, "calls in flight in b", int),
        Option("latency", 0.5, "b, e: replies come after half of this to one and a half of it, in seconds", float),
        Option("most", 2_000, "calls in flight in e and f", int),
        Option("crowd", 10_000, "calls in flight in g, which needs as many open files in each of two processes", int),
        Option("hold", 1.0, "f, g: seconds each call takes", float),
        Option("size", 300, "bytes of the prompt", int),
        Option("reply", 600, "bytes of the answer", int),
        Option("spin", 1, "a to e; 1: the server never sleeps, so that no call pays for waking it", int),
        Option(
            "gc",
            0,
            "collect garbage after so many allocations, freezing what is there; 0: as Python does. "
            f"g is run both ways, the tuned one with {TUNED_GC:,} unless this says another number",
            int,
        ),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
    note="garbage is collected as Python does, but where a case's name says gc N: after N allocations, what was there "
    "before being frozen",
)
