"""What does a call cost on the wire, beside others?

A server in its own process gives every request the same answer (see `wire_server`). Against it, each in a fresh process
of its own, run: the transport as workers use it, a connection each; the whole engine through `map`; httpx over the same
wire; and as peers aiohttp, and httpx over its own, a client for each worker. So many workers each send one call after
the other, and the client process's time is read whenever so many calls have ended, connections being open by then.
Figures are ratios of two cases of one round. aiohttp and httpx hand over bytes; the transport has read the usage in
them by then, and the engine has also written the request. A peer that is not installed is said to be missing.
"""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from statistics import median
from typing import NamedTuple

import trio

from benchmarks.harness import ROOT, Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import pair_s
from benchmarks.wire_clients import AIOHTTP, BARE, ENGINE, HTTPX, MOUNTED, TRANSPORT, Calls, missing, provider, run

PAIRS = 5_000
SPARE_FILES = 200

Side = tuple[str, str]
"""A client, and a situation: ``now`` (replies at once), ``late`` and ``wide`` (after a while), ``cold``."""


class Comparison(NamedTuple):
    """One ratio of processor time; of a ``cold`` situation, of the wall's time to the ideal."""

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
}


def cases(options: Settings, number: int) -> list[Case]:
    """What the comparisons asked for need, each once, both sides of a ratio next to each other."""
    letters = [letter for letter in options["cases"].replace(",", "").lower() if not letter.isspace()]
    unknown = set(letters) - set(COMPARISONS)
    if unknown or not letters:
        raise ValueError(f"--cases {options['cases']!r}: the cases are {' '.join(COMPARISONS)}")
    wanted = dict.fromkeys(side for letter in letters for side in COMPARISONS[letter][:2])
    if "a" in letters:
        wanted[BARE, "now"] = None
    return [_case(*side, options, number) for side in wanted]


def _case(client: str, situation: str, options: Settings, number: int) -> Case:
    width = options[{"now": "in_flight", "late": "many"}.get(situation, "most")]
    late = options["latency"] / 2, options["latency"] * 1.5
    # Where replies come at once there are never thousands in flight, however many connections there are.
    delays = {"now": (0.0, 0.0), "late": late, "wide": late, "cold": (options["hold"], options["hold"])}
    low_s, high_s = delays[situation]
    shared = {name: options[name] for name in ("calls", "size", "reply", "stretches", "gc", "spin")}
    if situation == "cold":
        # A server that never sleeps takes three times as long to accept them, and this is the wall's time.
        shared |= {"stretches": 0, "spin": 0}
    settings = {"client": client, "situation": situation, "in_flight": width, "low": low_s, "high": high_s, **shared}
    after = f" of {low_s * 1e3:g}-{high_s * 1e3:g} ms"
    suffix = {"now": "", "late": after, "wide": after, "cold": f" of {high_s:g} s, cold"}[situation]
    return Case(f"{client}: {width:,}{suffix}", {**settings, "seed": number})


# --- one case ---


def measure(settings: Settings) -> Measured:
    """Processor seconds for each call in each stretch, seconds until every worker had an answer, the server's count."""
    side = {name: settings[name] for name in ("client", "situation", "in_flight", "high")}
    peer = missing(settings["client"])
    if peer is not None:
        return {**side, "missing": peer}
    _may_open(settings["in_flight"] + SPARE_FILES)
    before_s = trio.run(pair_s, PAIRS)
    calls = Calls(settings)
    if settings["gc"]:
        gc.collect()
        gc.freeze()
        gc.set_threshold(settings["gc"], 50, 1_000)
    with _server(settings) as (port, counted):
        opened_s = run(settings, provider(port, settings["size"]), calls)
    after_s = trio.run(pair_s, PAIRS)
    call_s, system_s = calls.each_s()
    return {
        **side,
        "pair_s": (before_s + after_s) / 2,
        "call_s": call_s,
        "system_s": system_s,
        "opened_s": opened_s,
        "server": counted,
    }


def _may_open(files: int) -> None:
    """Let this process, and those it starts, hold so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise SystemExit(f"{files} open files are needed and the system allows {hard}: see ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


@contextlib.contextmanager
def _server(settings: Settings) -> Iterator[tuple[int, Measured]]:
    """The server's port, and what it counted once the block has ended."""
    told = json.dumps({name: settings[name] for name in ("reply", "low", "high", "seed", "spin")})
    command = [sys.executable, "-m", "benchmarks.wire_server", told]
    counted: Measured = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), counted
        rest, _ = process.communicate(timeout=60)  # ends its standard input
        counted.update(json.loads(rest))


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
    if one.what[1] == "cold":
        ideal = [a["opened_s"] / a["high"] for a in rounds]
        return [figure(case, "wall / ideal", ideal, goal=goal)]
    if any("missing" in a for a in (*rounds, *others)):
        return []
    ratios = [median(a["call_s"]) / median(b["call_s"]) for a, b in zip(rounds, others, strict=True)]
    against = other if one.what[1] != one.against[1] else one.against[0]
    return [figure(case, f"processor time / {against}", ratios, goal=goal)]


def _cost(case: str, rounds: list[Measured]) -> list[Figure]:
    """What one side's calls cost, in microseconds and in the pairs timed beside them."""
    missing = [one["missing"] for one in rounds if "missing" in one]
    if missing:
        return [figure(case, f"calls made ({missing[0]} is not installed: pip install 'penstock[bench]')", [0])]
    if rounds[0]["situation"] == "cold":
        return [figure(case, "wall", [one["opened_s"] for one in rounds], unit="s")]
    return [
        figure(case, "a call", [median(one["call_s"]) * 1e6 for one in rounds], unit="us"),
        figure(case, "of it in the system", [median(one["system_s"]) * 1e6 for one in rounds], unit="us"),
        figure(case, "a call", [median(one["call_s"]) / one["pair_s"] for one in rounds], unit="pairs"),
    ]


BENCHMARK = Benchmark(
    name="wire",
    question="What does a call cost on the wire, beside others?",
    rounds=5,
    options=(
        Option("cases", "abcdef", "a: transport, b: with late replies, c: httpx, d: engine, e: with many, f: cold"),
        Option("calls", 4_000, "calls in each stretch; at least two for each in flight", int),
        Option("stretches", 5, "stretches in each process", int),
        Option("in-flight", 64, "calls in flight where replies come at once", int),
        Option("many", 1_000, "calls in flight in b", int),
        Option("latency", 0.5, "b, e: replies come after half of this to one and a half of it, in seconds", float),
        Option("most", 2_000, "calls in flight in e and f", int),
        Option("hold", 1.0, "f: seconds each call takes", float),
        Option("size", 300, "bytes of the prompt", int),
        Option("reply", 600, "bytes of the answer", int),
        Option("spin", 1, "a to e; 1: the server never sleeps, so that no call pays for waking it", int),
        Option("gc", 0, "collect garbage after so many allocations, freezing what is there; 0: as Python does", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
