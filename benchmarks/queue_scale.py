"""What does a waiting call cost, and does it cost more among a hundred thousand?

Three cases. *waiting*: calls are made, then submitted to an endpoint whose connections never open; memory is what the
process grew by, call objects, bodies, messages, records and all, divided by their number. *served*: calls are
submitted, wait until all are queued, then connections open and all are granted and answered by a scripted transport;
once with few calls, again and again, and once with many. Processor time is given in pairs (see `units`).
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from actors.slots import Progress
from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import ScriptedTransport, pair_s, processor_s, resident_bytes
from engine import Call, iModel, open_engine

CONNECTIONS = 64


def cases(options: Settings, number: int) -> list[Case]:
    """Many calls waiting, few served, many served."""
    few, many, size = options["few"], options["calls"], options["size"]
    return [
        Case("waiting", {"calls": many, "size": size}),
        Case("few served", {"calls": few, "batches": max(1, min(many, 50_000) // few), "size": size}),
        Case("many served", {"calls": many, "batches": 1, "size": size}),
    ]


def _model(calls: int) -> iModel:
    return iModel(model="openai/scripted", api_key="none", queue_capacity=calls, max_connections=CONNECTIONS)


def _call(model: iModel, size_bytes: int) -> Call:
    # The rest of the body (names, model, role) is some 90 bytes.
    text = "x" * max(1, size_bytes - 90)
    return model.create_api_calling(messages=[{"role": "user", "content": text}], max_tokens=64)


async def _queued(last: Call) -> None:
    """Wait until the scheduler has taken in this call, and so all before it."""
    while last.progress < Progress.QUEUED:
        await trio.lowlevel.checkpoint()


async def _waiting(settings: Settings) -> Measured:
    calls = settings["calls"]
    pair = await pair_s()
    async with open_engine(transport=lambda account, on_usage: ScriptedTransport(600, trio.Event())) as engine:
        model = _model(calls + 1)
        await _queued(await engine.submit(_call(model, settings["size"])))  # opens the lane and the endpoint
        before = resident_bytes()
        started_s = processor_s()
        made = [_call(model, settings["size"]) for _ in range(calls)]
        made_s = processor_s()
        for call in made:
            await engine.submit(call)
        await _queued(made[-1])
        queued_s = processor_s()
        grown = resident_bytes() - before
        await engine.drain(queue="discard")
    return {
        "pair_s": pair,
        "create_s": (made_s - started_s) / calls,
        "enqueue_s": (queued_s - made_s) / calls,
        "bytes_per_call": grown / calls,
    }


async def _batch(calls: int, size_bytes: int) -> tuple[float, float]:
    """Submit calls, then have them all granted and answered: the processor time of either, in seconds."""
    gate = trio.Event()
    async with open_engine(transport=lambda account, on_usage: ScriptedTransport(600, gate)) as engine:
        model = _model(calls)
        made = [_call(model, size_bytes) for _ in range(calls)]
        started_s = processor_s()
        for call in made:
            await engine.submit(call)
        await _queued(made[-1])
        queued_s = processor_s()
        gate.set()
        await engine.wait_quiet()
        done_s = processor_s()
    if any(call.status != "completed" for call in made):
        raise AssertionError("not every call completed")
    return queued_s - started_s, done_s - queued_s


async def _served(settings: Settings) -> Measured:
    calls, batches = settings["calls"], settings["batches"]
    await _batch(min(calls, 1_000), settings["size"])
    pair = await pair_s()
    submit_s = grant_s = 0.0
    for _ in range(batches):
        submitted_s, granted_s = await _batch(calls, settings["size"])
        submit_s += submitted_s
        grant_s += granted_s
    return {"pair_s": pair, "submit_s": submit_s / calls / batches, "grant_s": grant_s / calls / batches}


def measure(settings: Settings) -> Measured:
    """Processor seconds and bytes for each call; see the file's beginning."""
    return trio.run(_served if "batches" in settings else _waiting, settings)


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """Memory and processor time of a waiting call, and the growth from few to many."""
    waiting, few, many = measured["waiting"], measured["few served"], measured["many served"]
    drawn = [
        figure("waiting", "memory per queued call", [one["bytes_per_call"] for one in waiting], unit="bytes",
               goal=at_most(1024)),
        figure("waiting", "submit a call", [one["enqueue_s"] / one["pair_s"] for one in waiting], unit="pairs",
               goal=at_most(3)),
        figure("waiting", "create a call", [one["create_s"] / one["pair_s"] for one in waiting], unit="pairs"),
    ]  # fmt: skip
    for case, rounds in (("few served", few), ("many served", many)):
        for step in ("submit", "grant"):
            name = "submit" if step == "submit" else "grant and answer"
            drawn.append(figure(case, name, [one[f"{step}_s"] / one["pair_s"] for one in rounds], unit="pairs"))
    growth = [_cost(a) / _cost(b) for a, b in zip(many, few, strict=True)]
    drawn.append(figure("many served", "submit and grant, against few", growth, unit="times", goal=at_most(1.5)))
    return drawn


def _cost(one: Measured) -> float:
    cost: float = (one["submit_s"] + one["grant_s"]) / one["pair_s"]
    return cost


BENCHMARK = Benchmark(
    name="queue_scale",
    question="What does a waiting call cost, and does it cost more among a hundred thousand?",
    rounds=3,
    options=(
        Option("calls", 100_000, "how many calls wait", int),
        Option("few", 1_000, "how many are few", int),
        Option("size", 300, "bytes of each call's body", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
