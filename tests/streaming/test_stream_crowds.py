"""A thousand streams of a simulated provider that fails in every way it knows, read by all kinds of readers.

Real sockets in virtual time: an interval or a bound is as long as it says and takes no time.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import trio
from scripted_server import open_sockets
from stream_bodies import ASK, KEY, at_rest
from stream_server import HTTPS, Http
from trio.testing import MockClock

from engine import Call, Engine, PenstockError, iModel, open_engine
from engine.config import EngineConfig, EngineSection
from engine.simulator import ConstantLatency, FaultRates, Simulator, SimulatorConfig, StreamShape, serve

STREAMS = 1000
STRIKING = (
    *("rate_limited", "server_error", "reset_before", "reset_after", "truncated", "malformed_json", "html"),
    *("null_usage", "wrong_types", "stream_cut", "stream_reset", "stream_error", "stream_stall", "stream_keep_alive"),
    *("stream_garbage", "stream_comments", "stream_split", "stream_crlf", "stream_no_done"),
)
FAULTS = FaultRates(**dict.fromkeys(STRIKING, 0.04), retry_after_s=0.1, stall_s=60.0)
SHAPE = StreamShape(deltas=6, interval=ConstantLatency(0.05), first=ConstantLatency(0.1))
ENDED = ("completed", "failed", "cancelled")


class Crowd:
    """What became of each stream."""

    def __init__(self, model: iModel, seed: int) -> None:
        self.calls: list[Call] = []
        self.ends: Counter[str] = Counter()
        self._model = model
        self._random = random.Random(seed)

    async def reads(self, number: int) -> None:
        """Read one stream, to its end or not, and compare what was read with what its call says."""
        kind = self._random.choice(["whole"] * 6 + ["slow", "leaves", "cancelled", "raises"])
        options = {"on_unknown": self._random.choice(["fail", "retry"]), "priority": number % 3}
        stream = self._model.stream(**ASK, **options)
        said, error = [], None
        with trio.CancelScope() as scope:
            try:
                async with stream:
                    async for chunk in stream:
                        if chunk.type == "text":
                            said.append(str(chunk))
                        if kind == "slow":
                            await trio.sleep(0.5)
                        elif kind != "whole" and self._random.random() < 0.3:
                            if kind == "leaves":
                                break
                            if kind == "raises":
                                raise KeyError("mine")  # noqa: TRY301  # it is to leave the block
                            scope.cancel()
            except KeyError:
                pass
            except PenstockError as failure:
                error = failure
        call = stream.call
        if scope.cancelled_caught and call.mail is None:
            await call.wait()
        self.calls.append(call)
        assert call.status in ENDED
        assert error is None or error is call.error
        text = "".join(said)
        if kind in ("whole", "slow"):
            self.ends[type(call.error).__name__] += 1
            assert (call.text or "") == text
            assert (call.status == "completed") == (error is None)
        elif call.text is not None:
            assert call.text.startswith(text)


async def run_crowd(engine: Engine, simulator: Simulator, seed: int) -> Crowd:
    model = iModel(
        "openai", simulator.base_url, api_key=KEY, model="m", concurrency_limit=100, idle_s=5, first_byte_s=5
    )
    crowd = Crowd(model, seed)
    async with trio.open_nursery() as nursery:
        for number in range(STREAMS):
            nursery.start_soon(crowd.reads, number)
    await engine.wait_quiet()
    return crowd


@pytest.mark.parametrize("http", HTTPS)
async def test_a_crowd_of_streams_with_every_fault_ends_each_once(http: Http, autojump_clock: MockClock) -> None:
    before = open_sockets()
    seed = random.getrandbits(30)
    config = SimulatorConfig(seed=seed, stream=SHAPE, faults=FAULTS, latency=ConstantLatency(0.05))
    async with trio.open_nursery() as nursery:
        simulator: Any = await nursery.start(lambda task_status: serve(config, task_status=task_status))
        async with open_engine(EngineConfig(engine=EngineSection(http=http))) as engine:
            crowd = await run_crowd(engine, simulator, seed)
            at_rest(engine)
        at_rest(engine)
        with trio.fail_after(100):
            while simulator.statistics().connections:  # noqa: ASYNC110  # a number in the server
                await trio.sleep(0.01)
        totals = simulator.statistics()
        assert (totals.in_flight, totals.streams.open) == (0, 0)
        nursery.cancel_scope.cancel()
    schedule = engine.statistics().scheduler.schedule
    assert schedule.submitted == sum(schedule.ended.values()) == STREAMS == len(crowd.calls), seed
    assert sum(call.attempts for call in crowd.calls) >= totals.streams.begun
    last = {str(call.id): call.attempts for call in crowd.calls}
    again = [end for end in simulator.ends() if end.attempt < last[end.call] and end.events]
    assert not again, "tried again after something was handed over"
    # The readers met all kinds of ends.
    assert crowd.ends["NoneType"] > 200, seed
    assert crowd.ends["Truncated"] > 20, seed
    assert crowd.ends["OutcomeUnknown"] > 20, seed
    assert crowd.ends["ProviderUnavailable"] > 3, seed
    assert open_sockets() == before
