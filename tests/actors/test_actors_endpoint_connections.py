"""An endpoint actor's connections: opened ahead of need and few at a time, kept while they are used, closed when idle.

The mail to the actor is written by hand, its reports are read by hand, the clock is virtual.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from endpoint_bench import NUMBER, kinds, on_bench
from steered_transport import SteeredTransport, answer_after
from trio.testing import MockClock

from actors import messages as ms
from actors.endpoint import CONNECTING_AT_ONCE, IDLE_US
from actors.errors import ConnectFailed


async def slowly() -> None:
    await trio.sleep(1)


async def test_a_starting_actor_says_that_it_is_there(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(), max_connections=7) as bench:
        assert bench.log == [ms.OpenEndpoint(NUMBER, "provider", 7)]
        assert bench.transport.connects == 0, "nothing is opened before it is wanted"


async def test_connections_are_opened_ahead_of_need_and_reported_ready(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport()) as bench:
        bench.want(3)
        assert kinds(await bench.told()) == ["Ready"] * 3
        statistics = bench.actor.statistics()
        assert (statistics.idle, statistics.busy, statistics.connecting, statistics.opened) == (3, 0, 0, 3)


async def test_at_most_64_connections_are_being_opened_at_once(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(on_connect=slowly)) as bench:
        bench.want(200)
        await bench.told()
        for opened, connecting in ((0, 64), (64, 64), (128, 64), (192, 8), (200, 0)):
            statistics = bench.actor.statistics()
            assert (statistics.opened, statistics.connecting) == (opened, connecting)
            await trio.sleep(1)
            await bench.told()
        assert bench.transport.most_connecting == CONNECTING_AT_ONCE
        assert trio.current_time() == 5


@pytest.mark.parametrize(
    ("wants", "most", "opened"),
    [([5, 5, 5], 1000, 5), ([5, 9, 2], 1000, 9), ([500], 3, 3), ([0], 1000, 0), ([4, 0, 4], 1000, 4)],
)
async def test_there_are_never_more_than_wanted(
    wants: list[int], most: int, opened: int, autojump_clock: MockClock
) -> None:
    transport = SteeredTransport(on_connect=slowly)
    async with on_bench(transport, max_connections=most) as bench:
        for connections in wants:
            bench.want(connections)
            await bench.told()
        await trio.sleep(10)
        assert transport.connects == opened


async def test_busy_connections_count_as_there(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(answer_after(5))) as bench:
        await bench.ready(2)
        bench.give(1)
        bench.give(2)
        await bench.told()
        bench.want(3)
        assert kinds(await bench.told()) == ["Ready"]
        assert (bench.actor.statistics().idle, bench.actor.statistics().busy) == (1, 2)


async def test_the_connection_used_last_is_used_next(autojump_clock: MockClock) -> None:
    transport = SteeredTransport(answer_after(1))
    async with on_bench(transport) as bench:
        await bench.ready(3)
        bench.give(1)
        bench.give(2)
        await trio.sleep(2)
        for call_id in (3, 4, 5):
            bench.give(call_id)
            await trio.sleep(2)
        used = sorted(connection.calls for connection in transport.connections)
        assert used[0] == []
        assert {3, 4, 5} <= set(used[1]) or {3, 4, 5} <= set(used[2]), "one connection served all that came singly"


async def test_an_idle_connection_is_closed_after_exactly_60_seconds(autojump_clock: MockClock) -> None:
    assert IDLE_US == 60_000_000
    transport = SteeredTransport()
    async with on_bench(transport) as bench:
        await bench.ready(1, replace=False)
        await trio.sleep(59.999)
        assert (await bench.told(), transport.open) == ([], 1)
        await trio.sleep(0.002)
        assert (await bench.told(), transport.open) == ([ms.Lost(NUMBER)], 0)


async def test_each_connection_is_idle_since_its_own_last_use(autojump_clock: MockClock) -> None:
    transport = SteeredTransport(answer_after(1))
    async with on_bench(transport) as bench:
        await bench.ready(3)
        await trio.sleep(20)
        bench.give(1)
        await trio.sleep(19)
        bench.want(0, queued=False)
        lost: list[float] = []
        while trio.current_time() < 100:
            lost.extend([trio.current_time()] * kinds(await bench.told()).count("Lost"))
            await trio.sleep(0.25)
        assert lost == [60.25, 60.25, 81.25], "two idle since 0, one since 21 s, seen within a quarter of a second"
        assert transport.open == 0


async def test_a_connection_in_use_is_not_closed_for_idleness(autojump_clock: MockClock) -> None:
    transport = SteeredTransport(answer_after(300))
    async with on_bench(transport) as bench:
        await bench.ready(1)
        await trio.sleep(30)
        bench.give(1)
        await trio.sleep(200)
        assert transport.open == 1
        await trio.sleep(159)
        assert transport.open == 1, "299 s in use and 59 s idle"
        bench.want(0, queued=False)
        await trio.sleep(2)
        assert transport.open == 0


# --- connections that cannot be made ---


class Unreachable:
    """A `connect` that fails `failures` times, noting when."""

    def __init__(self, failures: int = 1 << 30) -> None:
        self.failures = failures
        self.tried: list[float] = []

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        self.tried.append(round(trio.current_time(), 3))
        if len(self.tried) <= self.failures:
            raise ConnectFailed("no route to provider. Nothing was sent.")


async def test_a_failed_connection_is_reported_with_its_reason(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(on_connect=Unreachable(1))) as bench:
        bench.want(1, queued=False)
        (report,) = await bench.told()
        assert isinstance(report, ms.ConnectAttemptFailed)
        assert (report.endpoint, report.fault.kind) == (NUMBER, "ConnectFailed")
        assert "no route to provider" in report.fault.message
        assert bench.actor.statistics().connect_failures == 1


async def test_reconnecting_backs_off_while_nobody_waits(autojump_clock: MockClock) -> None:
    unreachable = Unreachable()
    async with on_bench(SteeredTransport(on_connect=unreachable)) as bench:
        bench.want(1, queued=False)
        await trio.sleep(45)
        waits = [round(later - earlier, 3) for earlier, later in pairwise(unreachable.tried)]
        assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


async def test_after_a_success_the_backoff_starts_anew(autojump_clock: MockClock) -> None:
    unreachable = Unreachable(5)
    transport = SteeredTransport(on_connect=unreachable)
    async with on_bench(transport) as bench:
        bench.want(1, queued=False)
        await trio.sleep(20)
        assert transport.open == 1
        unreachable.failures = 1 << 30
        unreachable.tried.clear()
        bench.want(2, queued=False)
        await trio.sleep(0.35)
        assert [round(at - 20, 3) for at in unreachable.tried] == [0, 0.1, 0.3]


async def test_a_call_that_waits_is_worth_an_attempt_at_once(autojump_clock: MockClock) -> None:
    unreachable = Unreachable()
    async with on_bench(SteeredTransport(on_connect=unreachable)) as bench:
        bench.want(1, queued=False)
        await trio.sleep(30)
        tried = len(unreachable.tried)
        unreachable.failures = 0
        bench.want(1, queued=True)
        assert kinds(await bench.told())[-1] == "Ready"
        assert len(unreachable.tried) == tried + 1
        assert trio.current_time() == 30


async def test_a_connect_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(on_connect=trio.sleep_forever)) as bench:
        bench.want(1, queued=False)
        await trio.sleep(9.9)
        assert await bench.told() == []
        await trio.sleep(0.2)
        (report,) = await bench.told()
        assert isinstance(report, ms.ConnectAttemptFailed)
        assert report.fault.kind == "ConnectFailed"
        assert bench.actor.statistics().connecting in (0, 1)


# --- connections that do not last ---


async def test_a_stale_connection_is_passed_over_at_the_grant(autojump_clock: MockClock) -> None:
    transport = SteeredTransport()
    async with on_bench(transport) as bench:
        await bench.ready(2, replace=False)
        bench.give(1)
        await bench.told()
        last_used = next(connection for connection in transport.connections if connection.calls)
        other = next(connection for connection in transport.connections if not connection.calls)
        last_used.standing = False
        bench.give(2)
        reports = await bench.told()
        assert kinds(reports) == ["Lost", "Sent", "Outcome"]
        assert (last_used.closed, other.calls) == (True, [2])
        assert bench.places() == bench.actor.statistics().idle == 1


async def test_a_grant_that_finds_no_good_connection_is_handed_back_and_the_count_of_places_stays_right(
    autojump_clock: MockClock,
) -> None:
    transport = SteeredTransport()
    async with on_bench(transport) as bench:
        await bench.ready(2, replace=False)
        for call_id in (1, 2):
            bench.give(call_id)
        await bench.told()
        for connection in transport.connections:
            connection.standing = False
        bench.give(3)
        reports = await bench.told()
        assert sorted(kinds(reports)) == ["Lost", "Lost", "Unsent"]
        unsent = next(report for report in reports if isinstance(report, ms.Unsent))
        assert (unsent.call_id, unsent.ready) == (3, True)
        assert (bench.places(), transport.open) == (0, 0)


async def test_a_connection_that_is_closed_before_its_first_call_is_a_failed_attempt(
    autojump_clock: MockClock,
) -> None:
    """Else a provider that accepts and hangs up would be tried again and again for nothing, with nobody told."""
    transport = SteeredTransport()
    async with on_bench(transport) as bench:
        await bench.ready(1, replace=False)
        transport.connections[0].standing = False
        bench.give(1)
        reports = await bench.told()
        assert "Lost" in kinds(reports)
        assert bench.answers() == {1: 1}
        faults = [reply.fault for reply in bench.replies.values()]
        faults += [report.fault for report in reports if isinstance(report, ms.ConnectAttemptFailed)]
        assert [fault.kind for fault in faults if fault is not None] == ["ConnectFailed"]
        assert bench.places() == 0


async def test_what_is_idle_is_closed_on_request_and_not_opened_again_unasked(autojump_clock: MockClock) -> None:
    transport = SteeredTransport(answer_after(5))
    async with on_bench(transport) as bench:
        await bench.ready(3)
        bench.give(1)
        await bench.told()
        bench.actor.mailbox.post(ms.encode(ms.CloseIdle()))
        assert kinds(await bench.told()) == ["Lost", "Lost", "OpenEndpoint"]
        assert transport.open == 1, "the one in use stays"
        await trio.sleep(10)
        assert transport.open == 1, "and nothing is opened until it is wanted"
        bench.want(2)
        await bench.told()
        assert transport.open == 2
