"""What do handlers add to a call, in processor time?

The same calls are made with two async handlers, one before each call and one after it, and with none, by `engine.map`
over a scripted transport. Neither handler does anything, so the difference is what it costs to run them: messages to
the hook bus and back, a task's turn with the submitter's context and a deadline for each. It is given in pairs of
channel operations (see `units`). Stretches with and without alternate within a process. That nothing of this is run
where no handler is registered is counted, not timed, by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import truediv
from statistics import median
from typing import Any

import trio

from benchmarks.engine_overhead import through
from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import ScriptedTransport, pair_s, timed
from engine import Call, HookEventTypes, iModel, open_engine

GOAL = 8.0
WARM_UP, PAIRS, SIZE = 2_000, 5_000, 300


def cases(options: Settings, number: int) -> list[Case]:
    """64 and 1,000 calls in flight, or as many as asked for."""
    widths = [options["in_flight"]] if options["in_flight"] else [64, 1000]
    shared = {name: options[name] for name in ("calls", "repeats")}
    return [Case(f"{width} in flight", {"in_flight": width, **shared}) for width in widths]


async def _nothing(event: Call, **kw: Any) -> None:
    """A handler that costs what any handler does."""


async def _measure(settings: Settings) -> Measured:
    calls, in_flight = settings["calls"], settings["in_flight"]
    measured: dict[str, list[float]] = {"pair_s": [], "plain_s": [], "handled_s": []}
    handlers = {HookEventTypes.PreInvocation: _nothing, HookEventTypes.PostInvocation: _nothing}
    async with open_engine(transport=lambda account, on_usage: ScriptedTransport(600)) as engine:
        plain, handled = (
            iModel(model="openai/scripted", api_key="none", max_connections=in_flight, hook_registry=hooks)
            for hooks in (None, handlers)
        )
        for model in (plain, handled):
            await through(engine, model, in_flight, SIZE, min(calls, WARM_UP))
        before_s = await pair_s(PAIRS)
        for _ in range(settings["repeats"]):
            plain_s = await timed(lambda: through(engine, plain, in_flight, SIZE, calls))
            handled_s = await timed(lambda: through(engine, handled, in_flight, SIZE, calls))
            measured["plain_s"].append(plain_s / calls)
            measured["handled_s"].append(handled_s / calls)
            after_s = await pair_s(PAIRS)
            measured["pair_s"].append((before_s + after_s) / 2)
            before_s = after_s
    return dict(measured)


def measure(settings: Settings) -> Measured:
    """Processor seconds: one pair, one call without handlers, one call with two, once for each repetition."""
    return trio.run(_measure, settings)


def _added(measured: Measured) -> list[float]:
    columns = zip(measured["handled_s"], measured["plain_s"], measured["pair_s"], strict=True)
    return [(handled - plain) / pair for handled, plain, pair in columns]


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """What two handlers add, and what a call costs with and without, in pairs."""
    drawn = []
    for case, rounds in measured.items():
        added = [median(_added(one)) for one in rounds]
        drawn.append(figure(case, "added by two async handlers", added, unit="pairs", goal=at_most(GOAL)))
        for name in ("plain", "handled"):
            cost = [median(map(truediv, one[f"{name}_s"], one["pair_s"])) for one in rounds]
            drawn.append(figure(case, f"{name}, in all", cost, unit="pairs"))
        drawn.append(figure(case, "one pair", [median(one["pair_s"]) * 1e6 for one in rounds], unit="us"))
    return drawn


BENCHMARK = Benchmark(
    name="hooks",
    question="What do handlers add to a call, in processor time?",
    rounds=5,
    options=(
        Option("calls", 2_000, "calls in each repetition", int),
        Option("in-flight", None, "calls in flight, in place of 64 and 1,000", int),
        Option("repeats", 15, "repetitions within each process", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
