"""`penstock demo`: calls through a simulated provider at its limit, with faults, and what the provider saw of it.

The provider runs in a process of its own and is the judge: what is printed about the limit comes from its log, not from
the engine. Results go to a file, the summary to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import trio

from engine import Call, Engine, Quota, iModel, open_engine
from engine.cli.demo_display import Progress, line, panel
from engine.cli.display import progress_console, show
from engine.cli.options import Count, CountOrZero, Seconds
from engine.cli.signals import until_signalled
from engine.errors import InternalError, UsageError
from engine.simulator import (
    FaultRates,
    LognormalLatency,
    LoopLateness,
    ProviderLimit,
    SimulatedProvider,
    SimulatorConfig,
    simulated_provider,
    spent_share,
    tally,
    worst_window,
)

OUTPUT_CAP = 64
ASK_EVERY_S = 0.5


class Settings(NamedTuple):
    """What was asked for."""

    calls: int
    limit: int
    period_s: float
    seed: int
    faults: bool
    output: Path

    def provider(self) -> SimulatorConfig:
        """The provider that enforces the limit: half of its answers take less than 0.3 s."""
        return SimulatorConfig(
            seed=self.seed,
            limits=(ProviderLimit("requests", self.limit, self.period_s, "sliding_window"),),
            latency=LognormalLatency(0.3, 0.5),
            faults=FaultRates(server_error=0.01, reset_after=0.01) if self.faults else FaultRates(),
            output="drawn",
            # As long as the engine's own guard: later than that, the log could show a window that never was.
            lateness_guard_s=min(0.050, self.period_s / 100),
        )


class Verdict(NamedTuple):
    """What became of a run. `spent`, `worst` (the fullest window) and `refused` are what the provider's log says."""

    calls: int
    completed: int
    retries: int
    time_s: float
    spent: float
    worst: int
    refused: int
    loop: LoopLateness
    errors: Counter[str]

    @property
    def exit_code(self) -> int:
        """0 if every call completed, else 1."""
        return 0 if self.completed == self.calls else 1


async def demo(
    *,
    calls: Count = 600,
    limit: Count = 100,
    per: Seconds = 1.0,
    seed: CountOrZero = 1,
    output: Path = Path("penstock-demo.jsonl"),
    faults: bool = True,
) -> int:
    """Run calls through a simulated provider at its limit, with faults injected, and show what was spent.

    Args:
      calls: How many calls to make.
      limit: How many requests the provider accepts in any --per seconds.
      per: The length of the limit's window, in seconds.
      seed: What latencies and faults are drawn from; the same seed has the same faults.
      output: The file for the results, a line of JSON per call; overwritten.
      faults: Inject faults: 1 % of the requests are answered 500, and of 1 % the answer is dropped.
    """
    settings = Settings(calls, limit, per, seed, faults, output)
    return await until_signalled(lambda: _demo(settings))


async def _demo(settings: Settings) -> int:
    verdict = await _run(settings)
    if verdict.loop.late:
        print(f"the machine was busy: {_lateness(verdict.loop)}; running once more", file=sys.stderr)
        verdict = await _run(settings)
    print(summary(settings, verdict))
    return verdict.exit_code


async def _run(settings: Settings) -> Verdict:
    """One run, from the provider's start to its end."""
    try:
        file = settings.output.open("wb")
    except OSError as error:
        raise UsageError(
            f"--output {settings.output}: cannot be written: {error.strerror}. Nothing was sent."
        ) from error
    with file:
        async with simulated_provider(settings.provider()) as provider, open_engine() as engine:
            run = _Run(settings, provider, engine, file)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run.watch_refusals)
                nursery.start_soon(run.show)
                await run.calls()
                nursery.cancel_scope.cancel()
            return await run.verdict()


class _Run:
    """The calls of one run, and what is counted as they come out."""

    def __init__(self, settings: Settings, provider: SimulatedProvider, engine: Engine, file: BinaryIO) -> None:
        self._settings = settings
        self._provider = provider
        self._engine = engine
        self._file = file
        self._model = iModel(
            provider="simulated",
            model="simulated-1",
            base_url=provider.base_url,
            quotas=[Quota("requests", settings.limit, settings.period_s)],
        )
        self._statuses: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._retries = 0
        self._refused = 0
        self._input_tokens = 0
        self._output_tokens = 0
        self._started_s = self._ended_s = trio.current_time()

    async def calls(self) -> None:
        """Make all calls and write each as it comes out."""
        async with self._engine.map(self._pending()) as done:
            async for call in done:
                self._count(call)
                self._file.write(msgspec.json.encode(_row(call)) + b"\n")
        self._ended_s = trio.current_time()

    def _pending(self) -> Iterator[Call]:
        for index in range(1, self._settings.calls + 1):
            yield self._model.create_api_calling(
                messages=[{"role": "user", "content": f"Tell me something about the number {index}."}],
                max_tokens=OUTPUT_CAP,
                metadata={"index": index},
                on_unknown="retry",
            )

    def _count(self, call: Call) -> None:
        self._statuses[call.status] += 1
        self._retries += max(call.attempts - 1, 0)
        if call.error is not None:
            self._errors[call.error.message] += 1
        if call.usage is not None:
            self._input_tokens += call.usage.input_tokens or 0
            self._output_tokens += call.usage.output_tokens or 0

    def progress(self) -> Progress:
        """How far the run is."""
        schedule = self._engine.statistics().scheduler.schedule
        quotas = [quota for lane in schedule.lanes for quota in lane.quotas]
        done = self._statuses.total()
        return Progress(
            calls=self._settings.calls,
            done=done,
            failed=done - self._statuses["completed"],
            in_flight=schedule.granted + schedule.sent,
            queued=schedule.queued,
            backing_off=schedule.backing_off,
            spent=sum(quota.occupied for quota in quotas),
            limit=self._settings.limit,
            period_s=self._settings.period_s,
            refusals=self._refused,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
        )

    async def show(self) -> None:
        """Show how far the run is, until cancelled."""
        await show(progress_console(), panel=lambda: panel(self.progress()), line=lambda: line(self.progress()))

    async def watch_refusals(self) -> None:
        """Keep asking the provider how many requests it has refused."""
        # A provider that is gone shows in the calls themselves, and in the end by having no log.
        with suppress(OSError, trio.BrokenResourceError):
            while True:
                self._refused = sum((await self._provider.statistics()).refused.values())
                await trio.sleep(ASK_EVERY_S)

    async def verdict(self) -> Verdict:
        """What the provider's log says of the run. Raises `InternalError` if its process is gone."""
        settings = self._settings
        try:
            log = await self._provider.log()
            loop = (await self._provider.statistics()).loop
        except (OSError, trio.BrokenResourceError) as error:
            raise InternalError("the simulated provider's process has ended, and its log with it; run again") from error
        period_us = round(settings.period_s * 1_000_000)
        return Verdict(
            calls=settings.calls,
            completed=self._statuses["completed"],
            retries=self._retries,
            time_s=self._ended_s - self._started_s,
            spent=spent_share(log, settings.limit, period_us),
            worst=worst_window(log, period_us).amount,
            refused=sum(tally(log).refused.values()),
            loop=loop,
            errors=self._errors,
        )


def _row(call: Call) -> dict[str, object]:
    return {
        "id": call.id,
        "index": call.metadata["index"],
        "status": call.status,
        "attempts": call.attempts,
        "text": call.text,
        "usage": call.usage,
        "error": None if call.error is None else call.error.message,
    }


def summary(settings: Settings, verdict: Verdict) -> str:
    """What the demo prints at its end."""
    per = f"{settings.period_s:g} s"
    lines = [
        f"calls completed   {verdict.completed} of {verdict.calls}",
        f"limit spent       {verdict.spent:.1%} of {settings.limit} requests per {per}",
        f"refused           {verdict.refused} by the provider",
        f"worst window      {verdict.worst} requests in {per}, as the provider saw it; the limit is {settings.limit}",
        f"retries           {verdict.retries}",
        f"time              {verdict.time_s:.1f} s",
        f"results           {settings.output}",
    ]
    lines += [f"failed            {count}: {error}" for error, count in verdict.errors.most_common(3)]
    if verdict.loop.late:
        lines.append(f"note              the machine was busy in both runs: {_lateness(verdict.loop)}")
    return "\n".join(lines)


def _lateness(loop: LoopLateness) -> str:
    late_ms, guard_ms = round(loop.max_late_us / 1e3, 1), loop.guard_us / 1e3
    return (
        f"the provider was up to {late_ms:g} ms behind its clock where {guard_ms:g} ms are allowed for, so what its "
        "log says of the limit is not exact"
    )
