"""A bug in a transport ends its endpoint actor; every call the actor held is answered once, with the truth.

The bug is put into each place a transport is called from, while other calls are in every stage. The clock is virtual.
"""

from __future__ import annotations

import pytest
import trio
from endpoint_bench import NUMBER, Bench, on_bench
from steered_transport import DONE, SteeredConnection, SteeredTransport
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import messages as ms
from actors.messages import APICalling
from actors.transport import Answer, Attempt

BUGGY = 99


class Bug(Exception):
    """A mistake in a transport."""


async def by_number(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
    """Calls 1.. stay before their first byte, 10.. while writing, 20.. while waiting for the answer; 99 has the bug."""
    call_id = calling.call_id
    if call_id == BUGGY:
        await trio.sleep(1)
        raise Bug
    if call_id >= 10:
        attempt.begin()
    if call_id >= 20:
        attempt.sent()
    await trio.sleep_forever()
    return DONE


async def test_a_bug_in_an_exchange_ends_the_actor_and_answers_every_grant_once(autojump_clock: MockClock) -> None:
    crashes: list[Exception] = []
    transport = SteeredTransport(by_number)
    async with on_bench(transport, crashes=crashes) as bench:
        await bench.ready(8)
        for call_id in (BUGGY, 1, 10, 20):
            bench.give(call_id)
        await trio.sleep(0.5)
        await bench.told()
        await trio.sleep(1)
        reports = await bench.told()
        assert len(crashes) == 1
        assert bench.actor.stopped
        assert bench.answers() == {BUGGY: 1, 1: 1, 10: 1, 20: 1}
        assert reports.count(ms.Lost(NUMBER)) == 4, "every idle worker is reported lost"
        assert transport.open == 0
        unsent = {report.call_id: report.ready for report in reports if isinstance(report, ms.Unsent)}
        assert unsent == {BUGGY: False, 1: False}
        for call_id in (10, 20):
            fault = bench.replies[call_id].fault
            assert fault is not None
            assert (fault.kind, fault.detail) == ("OutcomeUnknown", "crashed")
        assert bench.places() == 0, "as many are gone as the scheduler counts"


async def test_a_bug_after_the_request_has_left_is_an_unknown_outcome_for_its_own_call_too(
    autojump_clock: MockClock,
) -> None:
    async def buggy(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.lowlevel.checkpoint()
        raise Bug

    crashes: list[Exception] = []
    async with on_bench(SteeredTransport(buggy), crashes=crashes) as bench:
        await bench.ready(1)
        bench.give(1)
        sent, outcome = await bench.told()
        assert isinstance(sent, ms.Sent)
        assert isinstance(outcome, ms.Outcome)
        assert (outcome.verdict, outcome.charge, outcome.ready) == ("unknown", "kept", False)
        fault = bench.replies[1].fault
        assert fault is not None
        assert fault.detail == "crashed"
        assert len(crashes) == 1


@pytest.mark.parametrize("place", ["connect", "aclose", "usable"])
async def test_a_bug_elsewhere_in_the_transport_answers_every_grant_once(place: str, autojump_clock: MockClock) -> None:
    async def connect() -> None:
        await trio.lowlevel.checkpoint()
        if armed:
            raise Bug

    armed: list[bool] = []
    crashes: list[Exception] = []
    transport = SteeredTransport(by_number, on_connect=connect)
    async with on_bench(transport, crashes=crashes) as bench:
        await bench.ready(4)
        for call_id in (1, 20):
            bench.give(call_id)
        await bench.told()
        plant(place, bench, armed)
        granted = {1: 1, 20: 1}
        if place == "usable":
            bench.give(2)  # which nobody who writes mail may notice
            granted[2] = 1
        await wait_all_tasks_blocked()
        await trio.sleep(61)
        await bench.told()
        assert len(crashes) == 1, "a bug ends the actor, and nobody else"
        assert bench.answers() == granted
        fault = bench.replies[20].fault
        assert fault is not None
        assert (fault.kind, fault.detail) == ("OutcomeUnknown", "crashed")
        assert bench.places() == 0, "nothing is ready in the scheduler's books"


def plant(place: str, bench: Bench, armed: list[bool]) -> None:
    """Put the bug there, and have the actor meet it."""

    def usable() -> bool:
        raise Bug

    async def aclose() -> None:
        raise Bug

    if place == "connect":
        armed.append(True)
        bench.want(5)
    elif place == "usable":
        for connection in bench.transport.connections:
            connection.usable = usable
    else:
        idle = [connection for connection in bench.transport.connections if not connection.calls]
        idle[0].aclose = aclose
        bench.want(0, queued=False)


async def test_grants_that_come_while_the_actor_is_going_down_are_answered_by_it_or_its_successor(
    autojump_clock: MockClock,
) -> None:
    """A grant may come at any step of the fall: handed to a worker who never looks at it, or left in the mailbox."""
    for steps in range(12):
        crashes: list[Exception] = []
        transport = SteeredTransport(by_number)
        async with on_bench(transport, crashes=crashes) as bench:
            await bench.ready(3)
            bench.give(BUGGY)
            await wait_all_tasks_blocked()
            autojump_clock.jump(1)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            bench.give(1)
            bench.give(2)
            await wait_all_tasks_blocked()
            assert len(crashes) == 1
            bench.read()
            heir = Bench(transport, mailbox=bench.actor.mailbox)
            heir.scheduler, heir.actor._scheduler = bench.scheduler, bench.scheduler
            heir.log, heir.granted = bench.log, bench.granted
            async with trio.open_nursery() as nursery:
                nursery.start_soon(heir.actor.run)
                await heir.told()
                nursery.cancel_scope.cancel()
            assert heir.answers() == {BUGGY: 1, 1: 1, 2: 1}, f"a grant {steps} steps into the fall"
            assert heir.places() == 0
