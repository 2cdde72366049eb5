"""What does the engine add to a call, in processor time?

The same exchange of one call for one answer is done twice: by tasks that call a scripted transport directly, and by
`engine.map` over the same transport. The answer costs one checkpoint and is always the same, so the difference is the
engine: making the call, its body, the queue, the grant, the worker, the outcome, reading it. It is given in pairs of
channel operations (see `units`), timed before and after. Short stretches of unit, direct and engine alternate within a
process, so that a machine whose speed changes under us changes all three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import truediv
from statistics import median

import trio

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import IdleAttempt, ScriptedConnection, ScriptedTransport, chat_answer, pair_s, timed
from engine import Call, Engine, Quota, iModel, open_engine

IN_FLIGHT = {64: 8.0, 1000: 10.0}
WARM_UP, PAIRS = 2_000, 5_000


def cases(options: Settings, number: int) -> list[Case]:
    """64 and 1,000 calls in flight, or as many as asked for."""
    widths = [options["in_flight"]] if options["in_flight"] else list(IN_FLIGHT)
    shared = {name: options[name] for name in ("calls", "size", "reply", "limited", "repeats")}
    return [Case(f"{width} in flight", {"in_flight": width, **shared}) for width in widths]


async def _direct(in_flight: int, calls: int, reply_bytes: int) -> None:
    """The calls without an engine: each task takes the next one until none is left."""
    connection, attempt, numbers = ScriptedConnection(chat_answer(reply_bytes)), IdleAttempt(), iter(range(calls))

    async def work() -> None:
        for _ in numbers:
            await connection.exchange(None, attempt)  # type: ignore[arg-type]  # a scripted connection never looks

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(work)


async def through(engine: Engine, model: iModel, in_flight: int, size: int, calls: int) -> None:
    """The same calls through the engine, as a user makes and reads them."""
    text = "x" * size

    def pending() -> Iterator[Call]:
        for _ in range(calls):
            yield model.create_api_calling(messages=[{"role": "user", "content": text}], max_tokens=64)

    completed = 0
    # What the iterable makes beyond what is in flight waits for a turn, so that there is always a next call.
    async with engine.map(pending(), buffer=2 * in_flight) as done:
        async for call in done:
            completed += call.status == "completed"
    if completed != calls:
        raise AssertionError(f"{calls - completed} of {calls} calls did not complete")


async def _measure(settings: Settings) -> Measured:
    calls, in_flight = settings["calls"], settings["in_flight"]
    quotas = (Quota("requests", 10**9), Quota("total_tokens", 10**12)) if settings["limited"] else ()
    measured: dict[str, list[float]] = {"pair_s": [], "direct_s": [], "engine_s": []}
    async with open_engine(transport=lambda account, on_usage: ScriptedTransport(settings["reply"])) as engine:
        model = iModel(model="openai/scripted", api_key="none", max_connections=in_flight, quotas=quotas)
        size = settings["size"]
        await through(engine, model, in_flight, size, min(calls, WARM_UP))
        before_s = await pair_s(PAIRS)
        for _ in range(settings["repeats"]):
            direct_s = await timed(lambda: _direct(in_flight, calls, settings["reply"]))
            engine_s = await timed(lambda: through(engine, model, in_flight, size, calls))
            measured["direct_s"].append(direct_s / calls)
            measured["engine_s"].append(engine_s / calls)
            after_s = await pair_s(PAIRS)
            measured["pair_s"].append((before_s + after_s) / 2)
            before_s = after_s
    return dict(measured)


def measure(settings: Settings) -> Measured:
    """Processor seconds: one pair, one call directly, one call through the engine, once for each repetition."""
    return trio.run(_measure, settings)


def _added(measured: Measured) -> list[float]:
    columns = zip(measured["engine_s"], measured["direct_s"], measured["pair_s"], strict=True)
    return [(engine - direct) / pair for engine, direct, pair in columns]


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """What the engine adds, and what the two sides of the difference are, in pairs."""
    drawn = []
    for case, rounds in measured.items():
        bound = IN_FLIGHT.get(int(case.split()[0]))
        added = [median(_added(one)) for one in rounds]
        goal = at_most(bound) if bound is not None else None
        drawn.append(figure(case, "added by the engine", added, unit="pairs", goal=goal))
        for name in ("engine", "direct"):
            cost = [median(map(truediv, one[f"{name}_s"], one["pair_s"])) for one in rounds]
            drawn.append(figure(case, f"{name}, in all", cost, unit="pairs"))
        drawn.append(figure(case, "one pair", [median(one["pair_s"]) * 1e6 for one in rounds], unit="us"))
    return drawn


BENCHMARK = Benchmark(
    name="engine_overhead",
    question="What does the engine add to a call, in processor time?",
    rounds=5,
    options=(
        Option("calls", 2_500, "calls in each repetition", int),
        Option("in-flight", None, "calls in flight, in place of 64 and 1,000", int),
        Option("size", 300, "bytes of the prompt", int),
        Option("reply", 600, "bytes of the answer", int),
        Option("limited", 0, "1: under limits on requests and tokens that never hold it back", int),
        Option("repeats", 20, "repetitions within each process", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
