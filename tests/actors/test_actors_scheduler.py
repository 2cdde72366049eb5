"""The scheduler actor: awake at exactly the right instants, never ahead of its mail, and every call ends.

The endpoint's and the engine's side are played by hand; the clock is virtual, so lateness must be zero.
"""

from __future__ import annotations

import pytest
import trio
from scheduler_bench import Office, open_office
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import messages as ms
from actors.clock import now_us
from actors.limits import Quota


async def test_calls_are_granted_at_exactly_the_instants_their_quota_allows(autojump_clock: MockClock) -> None:
    """Two in any second: a pair as soon as the pair before, stamped when it was sent, has left the window."""
    granted: list[tuple[int, int]] = []
    async with open_office(Quota("requests", 2, 1.0, guard_s=0.000007)) as office:

        async def provider() -> None:
            """Each call leaves 0.3 s after its grant, and its answer is there at once."""
            while True:
                mail = await office.endpoint.receive()
                assert mail is not None
                message = ms.decode_for_endpoint.decode(mail[0])
                if isinstance(message, ms.Grant):
                    granted.append((message.call_id, message.granted_us))
                    nursery.start_soon(exchange, message)

        async def exchange(grant: ms.Grant) -> None:
            await trio.sleep(0.3)
            office.answer(grant.call_id, grant.attempt)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider)
            office.ready(10)
            for call_id in range(6):
                office.submit(call_id)
            slot = office.watch("quiet")
            await slot.wait_ended()
            nursery.cancel_scope.cancel()
        # Virtual time counts in floats: 0.3 s after an instant may be a microsecond less when read.
        period = 1_300_007
        expected = [(0, 0), (1, 0), (2, period), (3, period), (4, 2 * period), (5, 2 * period)]
        assert [call_id for call_id, _ in granted] == [call_id for call_id, _ in expected]
        assert all(abs(at - due) <= 4 for (_, at), (_, due) in zip(granted, expected, strict=True))
        statistics = office.actor.statistics()
        assert statistics.lateness_max_us == 0
        assert statistics.wakeups == 2, "one for each new pair, and no polling between"


async def test_a_sleeping_scheduler_does_nothing_until_its_instant(autojump_clock: MockClock) -> None:
    async with open_office(Quota("requests", 1, 3600.0, guard_s=0)) as office:
        office.ready(2)
        office.submit(1)
        await wait_all_tasks_blocked()
        office.answer(1)
        office.submit(2)
        await wait_all_tasks_blocked()
        delivered = office.actor.statistics().mailbox.delivered
        office.grants()
        await trio.sleep(3599.9)
        assert (office.grants(), office.actor.statistics().wakeups) == ([], 0)
        await trio.sleep(0.2)
        (grant,) = office.grants()
        assert (grant.call_id, grant.granted_us) == (2, 3_600_000_000)
        assert office.actor.statistics().wakeups == 1
        assert office.actor.statistics().lateness_max_us == 0
        assert office.actor.statistics().mailbox.delivered == delivered


async def test_a_deadline_ends_a_waiting_call_at_its_very_instant(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        await trio.sleep(0.123456)
        office.submit(1, deadline_s=7.654321)
        due_us = now_us() + 7_654_321
        await office.callers[1].wait_ended()
        ended = office.ended(1)
        assert ended is not None
        assert (ended.status, ended.ended_us) == ("failed", due_us)
        assert ended.fault is not None
        assert ended.fault.kind == "DeadlineExceeded"
        assert office.actor.statistics().lateness_max_us == 0
        assert (office.places.taken, office.all_places.taken) == (0, 0)


async def test_lateness_is_measured_when_the_loop_is_held_up(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.submit(1, deadline_s=1)
        await wait_all_tasks_blocked()
        autojump_clock.jump(1.5)
        await office.callers[1].wait_ended()
        statistics = office.actor.statistics()
        assert statistics.lateness_max_us == 500_000
        assert statistics.lateness_mean_us == 500_000


# --- the order of mail ---


async def test_a_call_is_cancelled_although_it_still_lies_behind_its_cancellation(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.ready()
        office.submit(1)
        office.submit(2)
        office.submit(3)
        office.post(ms.Cancel(2))
        office.post(ms.Cancel(3))
        await wait_all_tasks_blocked()
        assert office.statuses() == ["", "cancelled", "cancelled"]
        assert [grant.call_id for grant in office.grants()] == [1]
        assert office.places.taken == 0


@pytest.mark.parametrize(
    ("queue", "statuses"), [("finish", ["", ""]), ("discard", ["aborted"] * 2), ("stop", ["aborted"] * 2)]
)
async def test_a_drain_is_about_every_call_written_before_it(
    queue: str, statuses: list[str], autojump_clock: MockClock
) -> None:
    """Control mail passes calls, but a drain must neither refuse nor miss a call that was accepted before it."""
    async with open_office() as office:
        office.submit(1)
        office.submit(2)
        office.post(ms.Drain(queue))
        office.submit(3)
        await wait_all_tasks_blocked()
        assert office.statuses()[:2] == statuses
        ended = office.ended(3)
        # The third may have been taken in with the others: it was there when the drain was read.
        assert ended is None or ended.status in ("skipped", "aborted")
        office.submit(4)
        await wait_all_tasks_blocked()
        assert office.statuses()[3] == "skipped"
        refusal = office.ended(4)
        assert refusal is not None
        assert refusal.fault is not None
        assert refusal.fault.kind == "ShuttingDown"


async def test_a_watch_is_answered_only_when_all_mail_before_it_is_handled(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        for until, watch_id in (("quiet", -1), ("none_waiting", -2)):
            office.watch(until, watch_id)
        first = office.slots.get(-1), office.slots.get(-2)
        office.submit(1)
        await wait_all_tasks_blocked()
        assert [slot is not None and slot.mail is None for slot in first] == [True, True], "a call was on its way"
        office.ready()
        await wait_all_tasks_blocked()
        assert [slot is not None and slot.mail is None for slot in first] == [True, False], "it is granted"
        office.answer(1)
        await wait_all_tasks_blocked()
        assert office.slots.get(-1) is None
        assert len(office.slots) == 0


async def test_an_acknowledged_call_wakes_its_submitter_once_it_is_queued(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.submit(1, deadline_s=5, acknowledge=True)
        with trio.fail_after(1):
            await office.callers[1].wait_moved()
        assert office.callers[1].mail is None
        assert trio.current_time() == 0


async def test_a_flood_of_mail_leaves_other_tasks_their_turns(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        for call_id in range(5000):
            office.submit(call_id)
        seen: list[int] = []
        while office.actor.statistics().schedule.submitted < 5000:
            await trio.lowlevel.checkpoint()
            seen.append(office.actor.statistics().schedule.submitted)
        assert len(set(seen)) >= 5000 // 512


async def test_control_mail_does_not_wait_behind_a_flood_of_calls(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.ready()
        office.submit(0)
        await wait_all_tasks_blocked()
        for call_id in range(1, 3000):
            office.submit(call_id)
        office.answer(0)
        while office.ended(0) is None:
            await trio.lowlevel.checkpoint()
        assert office.actor.statistics().schedule.submitted < 1000


# --- the end ---


async def leave_calls_in_every_state(office: Office) -> None:
    """1 queued, 2 backing off, 3 granted, 4 sent."""
    office.ready(3)
    for call_id in (2, 3, 4):
        office.submit(call_id)
    await wait_all_tasks_blocked()
    office.post(ms.Sent(4, 1, now_us()))
    office.post(ms.Sent(2, 1, now_us()))
    office.actor.mailbox.post(
        ms.encode(ms.Outcome(2, 1, 1, False, now_us(), "retry", "kept", jitter=(1 << 32) - 1)),
        ms.encode(ms.Reply(status=500, fault=ms.Fault("ProviderUnavailable", "try again", status=500))),
    )
    office.submit(1)
    await wait_all_tasks_blocked()
    schedule = office.actor.statistics().schedule
    assert (schedule.queued, schedule.backing_off, schedule.granted, schedule.sent) == (1, 1, 1, 1)


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_a_scheduler_that_ends_ends_every_call(how: str, autojump_clock: MockClock) -> None:
    """What waits ends at once; what is in flight ends as the endpoint's late reports say."""
    office = Office()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.actor.run)
        await leave_calls_in_every_state(office)
        office.submit(5)
        if how == "stopped":
            office.post(ms.Stop())
        else:
            nursery.cancel_scope.cancel()
    assert {call_id: office.ended(call_id) and office.ended(call_id).status for call_id in office.callers} == {
        1: "aborted",
        2: "failed",
        3: None,
        4: None,
        5: "aborted",
    }
    given_up = office.ended(2)
    assert given_up is not None
    assert given_up.gave_up == "shutdown"
    office.submit(6)
    assert office.ended(6) is not None, "a call that comes when the scheduler has gone is refused at once"
    office.unsent(3)
    office.answer(4, verdict="unknown")
    assert office.statuses() == ["failed", "aborted", "failed", "aborted", "aborted", "skipped"]
    statistics = office.actor.statistics()
    schedule = statistics.schedule
    assert (schedule.queued, schedule.backing_off, schedule.granted, schedule.sent) == (0, 0, 0, 0)
    assert schedule.reservations_made == schedule.reservations_settled + schedule.reservations_given_back == 3
    assert (office.places.taken, office.all_places.taken, len(office.slots)) == (0, 0, 0)
    assert statistics.mailbox.closed


async def test_a_watch_is_answered_when_the_scheduler_ends_or_has_ended(autojump_clock: MockClock) -> None:
    office = Office()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.actor.run)
        await leave_calls_in_every_state(office)
        before = office.watch("quiet", -1)
        await wait_all_tasks_blocked()
        assert before.mail is None
        office.post(ms.Stop())
    after = office.watch("quiet", -2)
    assert before.mail is not None
    assert after.mail is not None


async def test_a_bug_in_the_schedule_ends_the_actor_with_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office()

    def bug(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(office.actor._schedule, "outcome", bug)

    async def run() -> None:
        with pytest.raises(ZeroDivisionError):
            await office.actor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        office.ready()
        office.submit(3)
        await wait_all_tasks_blocked()
        office.answer(3)
    assert office.actor.failed
    assert office.actor.statistics().mailbox.closed
    office.answer(3)
    office.post(ms.Ready(1))
    assert office.ended(3) is None, "a schedule with a bug in it decides nothing more"


async def test_events_are_written_only_while_somebody_observes(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.ready()
        office.submit(1)
        await wait_all_tasks_blocked()
        assert office.hook_bus.receive_nowait() is None
        office.post(ms.Observe(listening=True))
        office.answer(1)
        await wait_all_tasks_blocked()
        events = []
        while (mail := office.hook_bus.receive_nowait()) is not None:
            event = ms.decode_for_hook_bus.decode(mail[0])
            assert isinstance(event, ms.HookEvent)
            events.append((event.name, event.call_id, event.attempt, event.detail))
        assert events == [("sent", 1, 1, ""), ("ended", 1, 1, "completed")]


async def test_a_call_with_handlers_goes_to_the_hook_bus_and_not_to_its_caller(autojump_clock: MockClock) -> None:
    async with open_office() as office:
        office.ready()
        office.submit(1, handled=True)
        await wait_all_tasks_blocked()
        office.answer(1)
        await wait_all_tasks_blocked()
        assert office.ended(1) is None
        mail = office.hook_bus.receive_nowait()
        assert mail is not None
        message = ms.decode_for_hook_bus.decode(mail[0])
        assert isinstance(message, ms.HookCall)
        assert ms.decode_ended.decode(message.ended).status == "completed"
        assert ms.decode_reply.decode(mail[1]).status == 200
