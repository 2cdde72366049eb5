"""How much of a limit is really spent, and is it ever exceeded?

The engine is given limits and more calls than they admit at once; the simulated provider, in its own process, enforces
the very same limits and keeps the log that judges. *Spent* is the span of the fastest lawful schedule for the same
costs over the span of the requests as they arrived (see `lawful`): 1.0 means that nothing faster is lawful. A run in
which the simulator's own loop was late is marked and repeated, because then its instants are not exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import trio

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_least, at_most, figure
from benchmarks.lawful import least_fluid_us, least_requests_us, least_windows_us
from benchmarks.units import processor_s
from engine import Call, Engine, Quota, iModel, open_engine
from engine.simulator import (
    Arrival,
    LognormalLatency,
    ProviderLimit,
    SimulatedProvider,
    SimulatorConfig,
    simulated_provider,
    tally,
    worst_window,
)

Limit = tuple[str, int, float]
"""(dimension, limit, period in seconds), as JSON carries it."""

BIGGER = 40
BIG_SHARE = 0.05
SMALL_PROMPT, SMALL_CAP = 62, 28
GOALS = {"a": 0.98, "b": 0.98, "c": 0.98, "d": 0.94}

NAMED: dict[str, tuple[str, Settings]] = {
    "a": ("a: 100 per 1 s", {"calls": 1_200, "limits": [("requests", 100, 1.0)]}),
    "b": ("b: 600 per 10 s", {"calls": 1_300, "limits": [("requests", 600, 10.0)]}),
    "c": ("c: both", {"calls": 1_300, "limits": [("requests", 100, 1.0), ("requests", 600, 10.0)]}),
    "d": (
        "d: mixed tokens",
        {"calls": 900, "limits": [("requests", 200, 2.0), ("total_tokens", 12_000, 2.0)], "mixed": True},
    ),
    "e": ("e: 600 per 60 s", {"calls": 1_300, "limits": [("requests", 600, 60.0)]}),
    "f": ("f: a, token bucket", {"calls": 1_200, "limits": [("requests", 100, 1.0)], "kind": "token_bucket"}),
    "g": ("f: a, fixed window", {"calls": 1_200, "limits": [("requests", 100, 1.0)], "kind": "fixed_window"}),
}


def cases(options: Settings, number: int) -> list[Case]:
    """The named cases that were asked for; or, with limits of one's own, that one. Each round draws other latencies."""
    shared = {"latency": options["latency"], "sigma": options["sigma"], "size": options["size"], "seed": number}
    own: list[Limit] = []
    if options["limit"]:
        own.append(("requests", options["limit"], options["per"]))
    if options["tokens"]:
        own.append(("total_tokens", options["tokens"], options["per"]))
    if own:
        shared |= {"mixed": bool(options["tokens"]), "kind": options["kind"]}
        return [Case("own", {"calls": options["calls"] or 1_000, "limits": own, **shared})]
    chosen = [NAMED[letter] for letter in _letters(options["cases"])]
    calls = {"calls": options["calls"]} if options["calls"] else {}
    return [Case(name, {**shared, **settings, **calls}) for name, settings in chosen]


def _letters(given: str) -> list[str]:
    letters = [letter for letter in given.replace(",", "").lower() if not letter.isspace()]
    unknown = sorted(set(letters) - set("abcdef"))
    if unknown or not letters:
        raise ValueError(f"--cases {given!r}: the cases are a b c d e f")
    return [one for letter in letters for one in (("f", "g") if letter == "f" else (letter,))]


def _provider(settings: Settings) -> SimulatorConfig:
    kind = settings.get("kind", "sliding_window")
    limits = tuple(ProviderLimit(name, limit, period_s, kind) for name, limit, period_s in settings["limits"])
    return SimulatorConfig(
        seed=settings["seed"],
        limits=limits,
        latency=LognormalLatency(settings["latency"], settings["sigma"]),
        # Both sides count alike, so that what is measured is the scheduling and not an estimate.
        count_input="engine.estimate:estimate_chat",
        # As long as the engine's own guard: later than that, the log could show a window that never was.
        lateness_guard_s=min(0.050, min(limit.period_s for limit in limits) / 100),
    )


def _prompts(settings: Settings) -> Iterator[tuple[str, int]]:
    """(prompt, cap of the output) of every call: all alike, or one in twenty some forty times larger, at random."""
    calls = settings["calls"]
    if not settings.get("mixed"):
        for number in range(calls):
            yield f"{number:>6} ".ljust(settings["size"], "x"), 16
        return
    draw = random.Random(settings["seed"])
    big = set(draw.sample(range(calls), round(calls * BIG_SHARE)))
    for number in range(calls):
        factor = BIGGER if number in big else draw.uniform(0.5, 1.5)
        yield f"{number:>6} ".ljust(round(SMALL_PROMPT * factor), "x"), round(SMALL_CAP * factor)


async def _spend(engine: Engine, provider: SimulatedProvider, settings: Settings) -> Measured:
    """Make all calls; how they ended, and what they cost this process."""
    quotas = [Quota(name, limit, period_s) for name, limit, period_s in settings["limits"]]
    model = iModel(provider="simulated", model="simulated-1", base_url=provider.base_url, quotas=quotas)

    def pending() -> Iterator[Call]:
        for prompt, cap in _prompts(settings):
            yield model.create_api_calling(messages=[{"role": "user", "content": prompt}], max_tokens=cap)

    completed = attempts = 0
    started_s, started_processor_s = trio.current_time(), processor_s()
    async with engine.map(pending(), buffer=settings["calls"]) as done:
        async for call in done:
            completed += call.status == "completed"
            attempts += call.attempts
    return {
        "completed": completed,
        "attempts": attempts,
        "time_s": trio.current_time() - started_s,
        "client_processor_s": (processor_s() - started_processor_s) / settings["calls"],
        "client_late_max_us": engine.statistics().scheduler.lateness_max_us,
    }


def judge(log: list[Arrival], limits: list[Limit]) -> Measured:
    """What the provider's log says: spans, refusals, the fullest windows. Arrivals are kept as steps, to be short."""
    accepted = [arrival for arrival in log if arrival.accepted]
    at_us = [arrival.at_us for arrival in accepted]
    span_us = at_us[-1] - at_us[0] if at_us else 0
    fluid_us = windows_us = 0.0
    worst = {}
    for name, limit, period_s in limits:
        dimension: Any = name
        period_us = round(period_s * 1e6)
        total = sum(arrival.charged(dimension) for arrival in accepted)
        if name == "requests":
            least_us = float(least_requests_us(at_us, limit, period_us))
        else:
            least_us = least_fluid_us(total, limit, period_us)
        fluid_us = max(fluid_us, least_us)
        windows_us = max(windows_us, least_windows_us(total, limit, period_us))
        worst[f"{limit} {name} per {period_s:g} s"] = worst_window(log, period_us, dimension).amount / limit
    steps = [later - earlier for earlier, later in zip(at_us[:1] + at_us, at_us, strict=False)]
    only_requests = all(name == "requests" for name, _, _ in limits)
    return {
        "accepted": len(accepted),
        "refused": tally(log).refused,
        "span_us": span_us,
        "least_us": fluid_us,
        "least_in_windows_us": windows_us,
        "spent": fluid_us / span_us if span_us else 1.0,
        "spent_of_windows": windows_us / span_us if span_us else 1.0,
        "worst": worst,
        "steps_us": steps,
        "tokens": [] if only_requests else [arrival.charged("total_tokens") for arrival in accepted],
    }


async def _measure(settings: Settings) -> Measured:
    async with simulated_provider(_provider(settings)) as provider, open_engine() as engine:
        spent = await _spend(engine, provider, settings)
        log = await provider.log()
        loop = (await provider.statistics()).loop
    disturbed = f"the simulator's loop was {loop.max_late_us / 1e3:.0f} ms late" if loop.late else ""
    return {
        "calls": settings["calls"],
        **spent,
        **judge(log, settings["limits"]),
        "simulator_late_max_us": loop.max_late_us,
        "disturbed": disturbed,
    }


def measure(settings: Settings) -> Measured:
    """One run of all the calls, judged by the provider's log."""
    return trio.run(_measure, settings)


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """Spent, refusals, the worst window, what completed, for every case."""
    drawn = []
    for case, rounds in measured.items():
        bound = GOALS.get(case.partition(":")[0])
        goal = at_least(bound) if bound is not None else None
        drawn.append(figure(case, "spent", [one["spent"] for one in rounds], goal=goal))
        drawn.append(figure(case, "spent, of whole windows", [one["spent_of_windows"] for one in rounds]))
        drawn += [
            figure(case, "refusals", [sum(one["refused"].values()) for one in rounds], goal=at_most(0), worst=True),
            figure(case, "worst window / limit", [max(one["worst"].values()) for one in rounds], goal=at_most(1),
                   worst=True),
            figure(case, "completed", [one["completed"] / one["calls"] for one in rounds], unit="of all",
                   goal=at_least(1), worst=True),
        ]  # fmt: skip
    return drawn


BENCHMARK = Benchmark(
    name="throughput_under_limits",
    question="How much of a limit is really spent, and is it ever exceeded?",
    rounds=3,
    options=(
        Option("cases", "abcdf", "which of the cases a to f; e, a limit per 60 s, takes two minutes a round"),
        Option("calls", None, "how many calls, in place of each case's own number", int),
        Option("limit", None, "a limit of your own: so many requests --per so many seconds", int),
        Option("tokens", None, "a limit of your own: so many total tokens --per so many seconds", int),
        Option("per", 1.0, "the period of your own limits, in seconds", float),
        Option("kind", "sliding_window", "how your own is enforced: sliding_window, fixed_window, token_bucket"),
        Option("latency", 0.3, "seconds within which half of the answers come", float),
        Option("sigma", 0.5, "spread of the latency: the standard deviation of its logarithm", float),
        Option("size", 100, "bytes of each prompt", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
