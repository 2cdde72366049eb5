"""Does a lane that is told of no limits find them, keep to them, and notice when they change?

A simulated provider hides its limits, halves them in the seventh window and doubles them in the fourteenth. The engine
learns them, with limit headers or from refusals alone; beside it plain retry with exponential backoff, against the same
provider. The workload: 400 requests (20,000 tokens) in a sliding window of 2 s, answers after 50 ms in the median, at
most 24 calls in flight for either client, and always calls that wait, so what is not spent is lost.

Only the provider's log judges. Spent is what was accepted in the whole windows of a regime from its third on (windows
2 to 6, 9 to 13 and 16 to 19, counted from the first request and from 0), over that many limits. Allowed are refusals of
one call in a hundred, and of as many as were in flight at the instant of each change, as the client counted them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import trio

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_least, at_most, figure
from engine import Call, Engine, iModel, open_engine
from engine.simulator import (
    Arrival,
    LimitChange,
    LognormalLatency,
    ProviderLimit,
    SimulatedProvider,
    SimulatorConfig,
    simulated_provider,
)
from engine.transports.pool import PooledTransport

CHANGES = ((7, 0.5), (14, 1.0))
"""From this window on, this many times the limit."""

SETTLING = 2
"""Windows of each regime that are not judged."""

BACKLOG = 200
BIG_SHARE, BIGGER = 0.05, 10
SMALL_PROMPT, SMALL_CAP = 62, 28
SAMPLE_S = 0.005
FIRST_BACKOFF, MOST_BACKOFF = 0.5 / 60, 8.0 / 60
"""What OpenAI's SDK waits, as shares of a minute: here of the window."""

LIMITED = {"a": ("requests",), "b": ("total_tokens",), "c": ("requests", "total_tokens")}


def cases(options: Settings, number: int) -> list[Case]:
    """Each kind of limit with and without headers, for the engine and for plain retry."""
    letters = [letter for letter in options["cases"].lower() if letter.isalpha()]
    if not letters or set(letters) - LIMITED.keys():
        raise ValueError(f"--cases {options['cases']!r}: the cases are a b c")
    found = []
    for letter in letters:
        what = " and ".join(LIMITED[letter]).replace("total_", "")
        for headers in (True, False):
            shown = f"{what}, {'headers' if headers else 'refusals alone'}"
            settings = {**options, "limited": LIMITED[letter], "headers": headers, "seed": number}
            found.append(Case(f"{letter}: {shown}", {**settings, "client": "engine"}))
            found.append(Case(f"{letter}: {shown}, plain retry", {**settings, "client": "plain"}))
    return found


def _limits(settings: Settings) -> list[tuple[Any, int]]:
    sizes = {"requests": settings["requests"], "total_tokens": settings["tokens"]}
    return [(dimension, sizes[dimension]) for dimension in settings["limited"]]


def _provider(settings: Settings) -> SimulatorConfig:
    window_s = settings["window"]
    return SimulatorConfig(
        seed=settings["seed"],
        limits=tuple(ProviderLimit(name, limit, window_s, settings["kind"]) for name, limit in _limits(settings)),
        limit_changes=tuple(LimitChange(at * window_s, factor) for at, factor in CHANGES),
        limit_headers=settings["headers"],
        latency=LognormalLatency(settings["latency"], 0.3),
        count_input="engine.estimate:estimate_chat",
    )


def _requests(settings: Settings) -> Iterator[dict[str, Any]]:
    """Arguments of calls without end: where tokens are limited, one in twenty is ten times larger."""
    draw = random.Random(settings["seed"])
    while True:
        factor = 1.0
        if "total_tokens" in settings["limited"]:
            factor = BIGGER if draw.random() < BIG_SHARE else draw.uniform(0.5, 1.5)
        prompt = "".ljust(round(SMALL_PROMPT * factor), "x")
        yield {"messages": [{"role": "user", "content": prompt}], "max_tokens": round(SMALL_CAP * factor)}


# --- the two clients --------------------------------------------------------------------------------------------------


class _InFlight:
    """How many calls are in flight, sampled for as long as the run takes, by the clock that the provider's log has."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int]] = []

    async def watch(self, count: Any) -> None:
        while True:
            self.samples.append((time.monotonic(), count()))
            await trio.sleep(SAMPLE_S)

    def at(self, instant_s: float) -> int:
        """How many were in flight at an instant, as the last sample before it says."""
        return next((count for at_s, count in reversed(self.samples) if at_s <= instant_s), 0)


async def _by_engine(engine: Engine, provider: SimulatedProvider, settings: Settings, in_flight: _InFlight) -> int:
    """Make calls until the time is over; how many did not complete."""
    model = iModel(
        provider="simulated",
        model="simulated-1",
        base_url=provider.base_url,
        limits="learn",
        interval=settings["window"],
        concurrency_limit=settings["in_flight"],
    )
    requests = _requests(settings)
    over_s = trio.current_time() + (settings["windows"] + 0.25) * settings["window"]
    failed = 0

    def pending() -> Iterator[Call]:
        while trio.current_time() < over_s:
            yield model.create_api_calling(**next(requests))

    def count() -> int:
        return sum(lane.in_flight for lane in engine.statistics().scheduler.schedule.lanes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_flight.watch, count)
        async with engine.map(pending(), buffer=BACKLOG) as done:
            async for call in done:
                failed += call.status != "completed"
        nursery.cancel_scope.cancel()
    return failed


async def _by_plain_retry(provider: SimulatedProvider, settings: Settings, in_flight: _InFlight) -> int:
    """The same by tasks that each repeat a request until it is answered, after the wait they are told or a backoff."""
    requests = _requests(settings)
    window_s = settings["window"]
    flying = 0
    draw = random.Random(settings["seed"])

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal flying
        for arguments in requests:
            backoff_s = FIRST_BACKOFF * window_s
            while True:
                flying += 1
                answer = await client.post("/chat/completions", json={"model": "simulated-1", **arguments})
                flying -= 1
                if answer.status_code == 200:
                    break
                told_ms = answer.headers.get("retry-after-ms")
                await trio.sleep(float(told_ms) / 1e3 if told_ms else draw.uniform(0.5, 1.0) * backoff_s)
                backoff_s = min(2 * backoff_s, MOST_BACKOFF * window_s)

    async with httpx.AsyncClient(transport=PooledTransport(), base_url=provider.base_url, timeout=60) as client:
        with trio.move_on_after((settings["windows"] + 0.25) * window_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_flight.watch, lambda: flying)
                for _ in range(settings["in_flight"]):
                    nursery.start_soon(work, client)
    return 0


# --- the judge --------------------------------------------------------------------------------------------------------


def judge(log: list[Arrival], settings: Settings, in_flight: _InFlight) -> Measured:
    """What was spent of each regime from its third window on, and the refusals beside what is allowed of them."""
    window_s, windows = settings["window"], settings["windows"]
    start_us = log[0].at_us if log else 0
    timed = [((arrival.at_us - start_us) / 1e6 / window_s, arrival) for arrival in log]
    timed = [(at, arrival) for at, arrival in timed if at < windows]
    bounds = [0, *(at for at, _ in CHANGES), windows]
    factors = [1.0, *(factor for _, factor in CHANGES)]
    spent = []
    for factor, start, stop in zip(factors, bounds, bounds[1:], strict=False):
        first = start + SETTLING
        if stop > first:
            within = [arrival for at, arrival in timed if first <= at < stop and arrival.accepted]
            spent.append(
                max(
                    sum(arrival.charged(dimension) for arrival in within) / (limit * factor * (stop - first))
                    for dimension, limit in _limits(settings)
                )
            )
    refused = [at for at, arrival in timed if not arrival.accepted]
    in_flight_at_changes = sum(in_flight.at(start_us / 1e6 + at * window_s) for at, _ in CHANGES)
    return {
        "spent": spent,
        "calls": len(timed) - len(refused),
        "refused": len(refused),
        "in_flight_at_changes": in_flight_at_changes,
        "excess": len(refused) / max(1.0, 0.01 * (len(timed) - len(refused)) + in_flight_at_changes),
        "refused_by_window": [sum(number <= at < number + 1 for at in refused) for number in range(int(windows))],
    }


async def _measure(settings: Settings) -> Measured:
    in_flight = _InFlight()
    async with simulated_provider(_provider(settings)) as provider:
        if settings["client"] == "engine":
            async with open_engine() as engine:
                failed = await _by_engine(engine, provider, settings, in_flight)
        else:
            failed = await _by_plain_retry(provider, settings, in_flight)
        log = await provider.log()
    return {"failed": failed, **judge(log, settings, in_flight)}


def measure(settings: Settings) -> Measured:
    """One run of twenty windows."""
    return trio.run(_measure, settings)


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """The least spent of a regime, and the refusals; goals for the engine alone."""
    drawn = []
    for case, rounds in measured.items():
        ours = "plain" not in case
        names = ("as it began", "halved", "doubled")
        for number, name in enumerate(names[: min(len(one["spent"]) for one in rounds)]):
            values = [one["spent"][number] for one in rounds]
            drawn.append(figure(case, f"spent, {name}", values, goal=at_least(0.9) if ours else None, worst=ours))
        drawn += [
            figure(case, "429s", [one["refused"] for one in rounds]),
            figure(case, "429s / calls", [one["refused"] / max(1, one["calls"]) for one in rounds]),
            figure(case, "429s / allowed", [one["excess"] for one in rounds], goal=at_most(1) if ours else None,
                   worst=ours),
            figure(case, "calls that failed", [one["failed"] for one in rounds], goal=at_most(0) if ours else None,
                   worst=ours),
        ]  # fmt: skip
    return drawn


BENCHMARK = Benchmark(
    name="learn",
    question="Does a lane that is told of no limits find them, keep to them, and notice when they change?",
    rounds=1,
    options=(
        Option("cases", "abc", "what is limited: a requests, b tokens, c both"),
        Option("requests", 400, "requests in a window", int),
        Option("tokens", 20_000, "total tokens in a window", int),
        Option("window", 2.0, "seconds of a window", float),
        Option("windows", 20, "windows of a run", int),
        Option("kind", "sliding_window", "how limits are enforced: sliding_window, fixed_window, token_bucket"),
        Option("in-flight", 24, "calls in flight at most, of either client", int),
        Option("latency", 0.05, "seconds within which half of the answers come", float),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
