"""What does a call cost that comes from asyncio, or from threads, beside one made in the engine's own loop?

One engine on a portal's thread over a scripted transport, as in `engine_overhead`. The same calls are made and awaited
in its own loop (native), by tasks of asyncio, and by threads, each in short stretches that take turns; what is more
than native is what the way in and out adds. The unit is anyio's own, in the same process: an empty ``portal.call`` from
one thread, on a portal beside. Processor time of the whole process, so both threads and the switching count.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from statistics import median

import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import ScriptedTransport, processor_s
from engine import Call, iModel
from engine.opening import current_engine
from engine.portal import AsyncioEngine, BlockingEngine, open_portal

__all__ = ["BENCHMARK"]

BOUND = 1.5
CASES = {"asyncio": ("asyncio", 1), "asyncio, 64 tasks": ("asyncio", 64), "one thread": ("threads", 1)}
CASES |= {"8 threads": ("threads", 8)}
WARM_UP = 200


def cases(options: Settings, number: int) -> list[Case]:
    """Asyncio and threads, one at a time and many."""
    shared = {name: options[name] for name in ("calls", "repeats", "reply")}
    return [Case(name, {"way": way, "width": width, **shared}) for name, (way, width) in CASES.items()]


def _pending(model: iModel) -> Call:
    return model.create_api_calling(messages=[{"role": "user", "content": "x" * 300}], max_tokens=64)


def _check(call: Call) -> None:
    if call.status != "completed":
        raise AssertionError(f"{call!r} did not complete")


async def _native(model: iModel, width: int, calls: int) -> None:
    """The calls in the engine's own loop."""
    numbers, engine = iter(range(calls)), current_engine()

    async def work() -> None:
        for _ in numbers:
            _check(await engine.invoke(_pending(model)))

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(work)


async def _asyncio(engine: AsyncioEngine, model: iModel, width: int, calls: int) -> None:
    numbers = iter(range(calls))

    async def work() -> None:
        for _ in numbers:
            _check(await engine.invoke(_pending(model)))

    await asyncio.gather(*(work() for _ in range(width)))


def _in_threads(width: int, calls: int, once: Callable[[], None]) -> None:
    """`once` so many times, by so many threads, each for its share."""
    failed: list[BaseException] = []

    def work(share: int) -> None:
        try:
            for _ in range(share):
                once()
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that measures
            failed.append(error)

    shares = [calls // width + (number < calls % width) for number in range(width)]
    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


async def _nothing() -> None:
    """What an empty call calls."""


async def _futures(portal: BlockingPortal, width: int, calls: int) -> None:
    """The usual way from asyncio, around nothing."""
    numbers = iter(range(calls))

    async def work() -> None:
        for _ in numbers:
            await asyncio.wrap_future(portal.start_task_soon(_nothing))

    await asyncio.gather(*(work() for _ in range(width)))


def _stretches(settings: Settings, engine: BlockingEngine, loop: asyncio.Runner) -> dict[str, Callable[[int], None]]:
    """What is timed, by name; each for so many calls."""
    width, model = settings["width"], iModel(model="openai/scripted", api_key="none", max_connections=64)
    asyncio_engine = AsyncioEngine(engine.loop)
    anyio_portal = settings["portal"]

    def native(calls: int) -> None:
        engine.call(_native, model, width, calls)

    def portal(calls: int) -> None:
        if settings["way"] == "asyncio":
            loop.run(_asyncio(asyncio_engine, model, width, calls))
        else:
            _in_threads(width, calls, lambda: _check(engine.invoke(_pending(model))))

    def empty(calls: int) -> None:
        _in_threads(1, calls, lambda: anyio_portal.call(_nothing))

    def beside(calls: int) -> None:
        if settings["way"] == "asyncio":
            loop.run(_futures(anyio_portal, width, calls))
        else:
            _in_threads(width, calls, lambda: anyio_portal.call(_nothing))

    return {"native": native, "portal": portal, "empty": empty, "beside": beside}


def measure(settings: Settings) -> Measured:
    """Processor seconds of one call, each way, once for each repetition."""
    measured: dict[str, list[float]] = {}
    calls = settings["calls"]
    with (
        start_blocking_portal("trio") as anyio_portal,
        open_portal(transport=lambda account, on_usage: ScriptedTransport(settings["reply"])) as engine,
        asyncio.Runner() as loop,
    ):
        stretches = _stretches({**settings, "portal": anyio_portal}, engine, loop)
        for stretch in stretches.values():
            stretch(min(calls, WARM_UP))
        for _ in range(settings["repeats"]):
            for name, stretch in stretches.items():
                started_s = processor_s()
                stretch(calls)
                measured.setdefault(f"{name}_s", []).append((processor_s() - started_s) / calls)
    return dict(measured)


def _rounds(rounds: list[Measured]) -> Iterator[dict[str, float]]:
    for one in rounds:
        found = {name.removesuffix("_s"): median(values) for name, values in one.items()}
        yield {**found, "added": found["portal"] - found["native"]}


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """What the portal adds, over an empty call of anyio's portal, and what it is made of."""
    drawn = []
    for case, rounds in measured.items():
        found = list(_rounds(rounds))
        over = [one["added"] / one["empty"] for one in found]
        drawn.append(figure(case, "added / an empty portal.call", over, goal=at_most(BOUND)))
        wrapped = "wrap_future of an empty start_task_soon" if case.startswith("asyncio") else "portal.call, as many"
        names = {"native": "native", "portal": "through the portal", "added": "added", "empty": "an empty portal.call"}
        for name, shown in {**names, "beside": f"beside: {wrapped}"}.items():
            drawn.append(figure(case, shown, [one[name] * 1e6 for one in found], unit="us"))
    return drawn


BENCHMARK = Benchmark(
    name="portal",
    question="What does a call from asyncio or from threads cost beside one made in the engine's own loop?",
    rounds=5,
    options=(
        Option("calls", 500, "calls in each stretch", int),
        Option("repeats", 12, "stretches of each kind within a process", int),
        Option("reply", 600, "bytes of the answer", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
)
