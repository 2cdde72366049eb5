"""The time of attempts, watched over for all workers of an endpoint at once: each is stopped at its own instant.

What a stopped attempt is reported as stands with the tests of attempts. The clock is virtual.
"""

from __future__ import annotations

import math

import pytest
import trio
from endpoint_bench import NUMBER, Bench, on_bench
from steered_transport import DONE, SteeredConnection, SteeredTransport
from trio.testing import MockClock

from actors import messages as ms
from actors.messages import APICalling
from actors.transport import Answer, Attempt
from actors.worker import Timeouts, Worker

FOR_EVER = 100


async def by_number(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
    """Calls from 100 on are never answered, the others after a second."""
    attempt.begin()
    attempt.sent()
    await trio.sleep(math.inf if calling.call_id >= FOR_EVER else 1)
    return DONE


def over(bench: Bench) -> dict[int, float]:
    """When each call whose outcome is unknown was stopped, in seconds."""
    return {
        message.call_id: message.at_us / 1e6
        for message in bench.log
        if isinstance(message, ms.Outcome) and message.verdict == "unknown"
    }


async def test_each_attempt_is_stopped_at_its_own_instant_whatever_the_order_they_began_in(
    autojump_clock: MockClock,
) -> None:
    async with on_bench(SteeredTransport(by_number)) as bench:
        await bench.ready(5)
        for call_id, stop_s in ((100, 30.0), (101, 10.0), (102, 20.0), (103, 10.0)):
            bench.give(call_id, stop_s=stop_s)
        await bench.told()
        await trio.sleep(5)
        bench.give(104, stop_s=2.0)
        await trio.sleep(100)
        await bench.told()
        assert over(bench) == {101: 10.0, 103: 10.0, 102: 20.0, 100: 30.0, 104: 7.0}


async def test_an_attempt_that_ended_in_time_leaves_nothing_behind_that_stops_another(
    autojump_clock: MockClock,
) -> None:
    async with on_bench(SteeredTransport(by_number)) as bench:
        await bench.ready(1, replace=False)
        bench.give(1, stop_s=5.0)
        await trio.sleep(4.5)
        bench.give(1, attempt=2, stop_s=5.0)
        await trio.sleep(4)
        bench.give(100, stop_s=60.0)
        await trio.sleep(100)
        outcomes = [message for message in await bench.told() if isinstance(message, ms.Outcome)]
        assert [(outcome.call_id, outcome.attempt, outcome.verdict) for outcome in outcomes] == [
            (1, 1, "done"),
            (1, 2, "done"),
            (100, 1, "unknown"),
        ]
        assert over(bench) == {100: 68.5}


async def test_a_worker_that_was_stopped_before_it_looked_is_stopped_again_in_time(autojump_clock: MockClock) -> None:
    """Its connection is kept, and what stopped it must stop nothing else. Trio shuffles who looks first."""
    async with on_bench(SteeredTransport(by_number)) as bench:
        kept = 0
        for call_id in range(FOR_EVER, FOR_EVER + 64, 2):
            await bench.ready(1)
            bench.give(call_id)
            bench.drop(call_id)
            kept += ms.Unsent(call_id, 1, NUMBER, ready=True) in await bench.told()
            began_s = trio.current_time()
            bench.give(call_id + 1, stop_s=7.0)
            await trio.sleep(6.9)
            assert bench.actor.statistics().busy == 1
            await trio.sleep(0.2)
            await bench.told()
            assert over(bench)[call_id + 1] == pytest.approx(began_s + 7, abs=1e-5)
        assert kept, "not once did the drop come first"


async def test_an_attempt_looked_at_after_its_time_is_over_whoever_notices_first(mock_clock: MockClock) -> None:
    """The loop was held up; trio shuffles whether the worker or the watch runs first."""
    async with on_bench(SteeredTransport(by_number)) as bench:
        for call_id in range(32):
            await bench.ready(1)
            bench.give(call_id, stop_s=2.0)
            mock_clock.jump(3)
            (report,) = [message for message in await bench.told() if not isinstance(message, ms.Ready)]
            assert isinstance(report, ms.Outcome)
            assert (report.verdict, report.wrote, report.ready, report.charge) == ("retry", False, False, "nothing")


async def test_the_first_reason_to_stop_stands() -> None:
    worker = Worker(SteeredConnection(SteeredTransport(by_number), 1))
    worker.stop("cancelled")
    worker.stop("timeout")
    assert worker.stopped == "cancelled"


async def test_what_is_watched_over_is_bounded_by_what_is_busy(autojump_clock: MockClock) -> None:
    """Ten thousand attempts that ended in time, beside one that does not: few instants are held, its own among them."""
    worker = Worker(SteeredConnection(SteeredTransport(by_number), 1))
    busy = {1: worker}
    timeouts = Timeouts(busy)
    stuck = ms.Grant(1, 1, 0, 0, 5_000_000)
    worker.give(stuck, (b"", b""))
    timeouts.watch(worker, stuck)
    quick = Worker(SteeredConnection(SteeredTransport(by_number), 2))
    for call_id in range(2, 10_002):
        timeouts.watch(quick, ms.Grant(call_id, 1, 0, 0, 600_000_000 - call_id))
        assert len(timeouts) < 2_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timeouts.run)
        await trio.sleep(4.9)
        assert not worker.stopped
        await trio.sleep(0.2)
        assert worker.stopped == "timeout"
        nursery.cancel_scope.cancel()
