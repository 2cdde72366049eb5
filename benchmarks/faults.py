"""When providers refuse, fail and cut connections: does every call end once, and is no attempt wasted or hidden?

Calls go to the simulated provider, which answers 429, answers 500 and resets connections by chance. It counts what it
did; the engine counts what it tried. Every fault leads to exactly one more attempt, unless the call gives up, so
attempts = calls + faults - calls that gave up, and nothing may be off by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import trio

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_least, at_most, figure
from engine import Call, iModel, open_engine
from engine.simulator import FaultRates, LognormalLatency, SimulatorConfig, simulated_provider


def cases(options: Settings, number: int) -> list[Case]:
    """One case; each round draws other faults."""
    return [Case("faults", {**options, "seed": number})]


def _provider(settings: Settings) -> SimulatorConfig:
    return SimulatorConfig(
        seed=settings["seed"],
        latency=LognormalLatency(settings["latency"], 0.5),
        faults=FaultRates(
            rate_limited=settings["refused"],
            server_error=settings["failed"],
            reset_before=settings["reset"],
            retry_after_s=0.0,
        ),
    )


async def _measure(settings: Settings) -> Measured:
    ended: Counter[int] = Counter()
    statuses: Counter[str] = Counter()
    gave_up: Counter[str] = Counter()
    attempts = 0
    async with simulated_provider(_provider(settings)) as provider, open_engine() as engine:
        model = iModel(
            provider="simulated",
            model="simulated-1",
            base_url=provider.base_url,
            concurrency_limit=settings["in_flight"],
        )

        def pending() -> Iterator[Call]:
            for number in range(settings["calls"]):
                yield model.create_api_calling(
                    messages=[{"role": "user", "content": f"Question {number}"}], max_tokens=16, on_unknown="retry"
                )

        started_s = trio.current_time()
        async with engine.map(pending()) as done:
            async for call in done:
                ended[call.id] += 1
                statuses[call.status] += 1
                attempts += call.attempts
                if call.error is not None:
                    gave_up[call.error.gave_up or "not retried"] += 1
        time_s = trio.current_time() - started_s
        schedule = engine.statistics().scheduler.schedule
        seen = await provider.statistics()
    return {
        "calls_ended": len(ended),
        "ended_more_than_once": sum(times > 1 for times in ended.values()),
        "statuses": dict(statuses),
        "gave_up": dict(gave_up),
        "attempts": attempts,
        "late_messages": schedule.late_messages,
        "arrivals": seen.arrivals,
        "faults": dict(seen.faults),
        "refused": dict(seen.refused),
        "time_s": time_s,
    }


def measure(settings: Settings) -> Measured:
    """What the engine tried, what became of the calls, and what the provider counted."""
    return {"calls": settings["calls"], **trio.run(_measure, settings)}


def _unexplained(one: Measured, counted: str) -> int:
    """By how many attempts the books are off."""
    expected: int = one["calls"] + sum(one["faults"].values()) - sum(one["gave_up"].values())
    return abs(int(one[counted]) - expected)


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """Calls that ended once, attempts that the faults do not explain, calls that gave up."""
    drawn = []
    for case, rounds in measured.items():
        once = [(one["calls_ended"] - one["ended_more_than_once"]) / one["calls"] for one in rounds]
        drawn += [
            figure(case, "calls that ended, once", once, unit="of all", goal=at_least(1), worst=True),
            figure(case, "attempts unexplained (engine)", [_unexplained(one, "attempts") for one in rounds],
                   goal=at_most(0), worst=True),
            figure(case, "attempts unexplained (provider)", [_unexplained(one, "arrivals") for one in rounds],
                   goal=at_most(0), worst=True),
            figure(case, "faults injected", [sum(one["faults"].values()) for one in rounds]),
            figure(case, "calls that gave up", [sum(one["gave_up"].values()) for one in rounds]),
        ]  # fmt: skip
    return drawn


BENCHMARK = Benchmark(
    name="faults",
    question="When providers refuse, fail and cut connections: does every call end once, and is no attempt wasted?",
    rounds=3,
    options=(
        Option("calls", 1_000, "how many calls", int),
        Option("in-flight", 64, "calls in flight", int),
        Option("refused", 0.05, "share of requests answered 429, with Retry-After: 0", float),
        Option("failed", 0.05, "share answered 500", float),
        Option("reset", 0.01, "share whose connection is reset before the answer", float),
        Option("latency", 0.05, "seconds within which half of the answers come", float),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
