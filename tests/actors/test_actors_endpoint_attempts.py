"""One attempt at an endpoint: sent and answered, given up before or after its first byte, and what is reported of it.

Every granted call is answered exactly once, with the truth about whether a byte had left. The clock is virtual.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from endpoint_bench import JITTER, NUMBER, Bench, kinds, on_bench
from steered_transport import DONE, SteeredConnection, SteeredTransport
from trio.testing import MockClock

from actors import messages as ms
from actors.errors import ConnectFailed
from actors.messages import APICalling, Reply
from actors.transport import Answer, Attempt, TooLate


async def stages(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
    """One second in each stage: before the first byte, writing, waiting for the answer."""
    await trio.sleep(1)
    attempt.begin()
    await trio.sleep(1)
    attempt.sent()
    await trio.sleep(1)
    return DONE


async def test_an_exchange_is_reported_sent_when_it_is_and_ended_when_it_has(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(stages)) as bench:
        await bench.ready(1)
        bench.give(1, attempt=2)
        await trio.sleep(1.5)
        assert await bench.told() == []
        await trio.sleep(1)
        assert await bench.told() == [ms.Sent(1, 2, 2_000_000)]
        await trio.sleep(1)
        (outcome,) = await bench.told()
        assert outcome == ms.Outcome(
            call_id=1,
            attempt=2,
            endpoint=NUMBER,
            ready=True,
            at_us=3_000_000,
            verdict="done",
            charge="usage",
        )
        assert bytes(bench.replies[1].body) == b'{"answer": 1}'
        assert bench.actor.statistics().served == 1


async def test_what_an_answer_says_is_passed_on(autojump_clock: MockClock) -> None:
    answer = Answer(
        "retry",
        "requests_kept",
        Reply(status=429, fault=ms.Fault("RateLimited", "slow down", status=429)),
        keep=False,
        input_tokens=3,
        output_tokens=4,
        barrier=True,
        hint_us=5_000_000,
        exempt=True,
    )

    async def refuse(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.lowlevel.checkpoint()
        return answer

    transport = SteeredTransport(refuse)
    async with on_bench(transport) as bench:
        await bench.ready(1, replace=False)
        bench.give(1)
        _, outcome = await bench.told()
        assert isinstance(outcome, ms.Outcome)
        assert (outcome.verdict, outcome.charge, outcome.input_tokens, outcome.output_tokens) == (
            "retry",
            "requests_kept",
            3,
            4,
        )
        assert (outcome.barrier, outcome.hint_us, outcome.exempt, outcome.jitter) == (True, 5_000_000, True, JITTER)
        assert not outcome.ready
        assert bench.replies[1] == answer.reply
        assert transport.open == 0, "a connection that is not to be kept is closed"


async def test_a_new_connection_replaces_one_that_was_used_up(autojump_clock: MockClock) -> None:
    async def once(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.lowlevel.checkpoint()
        return Answer("done", "kept", Reply(status=200), keep=False)

    async with on_bench(SteeredTransport(once)) as bench:
        await bench.ready(1)
        bench.give(1)
        assert kinds(await bench.told()) == ["Sent", "Outcome", "Ready"]


@pytest.mark.parametrize(
    ("ends", "reason"), [(TooLate(), "late"), (ConnectFailed("gone"), "closed"), (None, "shutdown")]
)
async def test_a_report_says_what_ended_an_attempt_even_if_it_had_begun(
    autojump_clock: MockClock, ends: Exception | None, reason: str
) -> None:
    """No transport should end one so after it has begun; if one does, nobody is told of a shutdown that was none."""

    async def begin_and_end(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.lowlevel.checkpoint()
        if ends is not None:
            raise ends
        await trio.sleep_forever()
        raise AssertionError

    async with on_bench(SteeredTransport(begin_and_end)) as bench:
        await bench.ready(1, replace=False)
        bench.give(1)
        await bench.told()
        bench.stop()
        await bench.told()
    fault = bench.replies[1].fault
    assert fault is not None
    assert (fault.kind, fault.detail, fault.sent) == ("OutcomeUnknown", reason, True)


async def test_a_connection_that_took_nothing_costs_nothing_though_it_had_begun(autojump_clock: MockClock) -> None:
    async def begin_and_break(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        raise ConnectFailed("it broke. Nothing was sent.")

    async with on_bench(SteeredTransport(begin_and_break)) as bench:
        await bench.ready(1, replace=False)
        bench.give(1)
        assert ms.Unsent(1, 1, NUMBER, ready=False) in await bench.told()


async def test_a_grant_whose_time_to_begin_has_passed_is_handed_back_with_its_connection(
    autojump_clock: MockClock,
) -> None:
    async def dawdle(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        await trio.sleep(6)
        attempt.begin()
        raise AssertionError("a byte would be written too late")

    transport = SteeredTransport(dawdle)
    async with on_bench(transport) as bench:
        await bench.ready(1)
        bench.give(1)
        await trio.sleep(7)
        assert await bench.told() == [ms.Unsent(1, 1, NUMBER, ready=True)]
        assert (bench.actor.statistics().idle, transport.open) == (1, 1)


@pytest.mark.parametrize(("wait_s", "begins"), [(5.0, True), (5.000001, False)])
async def test_the_last_microsecond_to_begin_is_that_of_the_grant(
    wait_s: float, begins: bool, autojump_clock: MockClock
) -> None:
    async def wait(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        await trio.sleep(wait_s + 2e-7)
        attempt.begin()
        attempt.sent()
        return DONE

    async with on_bench(SteeredTransport(wait)) as bench:
        await bench.ready(1)
        bench.give(1)
        await trio.sleep(6)
        assert kinds(await bench.told()) == (["Sent", "Outcome"] if begins else ["Unsent"])


async def test_a_used_connection_found_broken_before_the_first_byte_hands_its_call_back_and_is_closed(
    autojump_clock: MockClock,
) -> None:
    async def once(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        await trio.lowlevel.checkpoint()
        if len(connection.calls) > 1:
            raise ConnectFailed("closed. Nothing was sent.")
        attempt.begin()
        attempt.sent()
        return DONE

    transport = SteeredTransport(once)
    async with on_bench(transport) as bench:
        await bench.ready(2, replace=False)
        bench.give(1)
        await bench.told()
        bench.give(2)
        assert await bench.told() == [ms.Unsent(2, 1, NUMBER, ready=False)]
        assert (bench.actor.statistics().idle, transport.open, bench.places()) == (1, 1, 1)


# --- given up ---


Give = Callable[[Bench], Awaitable[None]]


async def by_timeout(bench: Bench) -> None:
    """The attempt's own time ends."""


async def by_caller(bench: Bench) -> None:
    bench.drop(1, "cancelled")


async def by_engine(bench: Bench) -> None:
    bench.drop(1, "shutdown")


async def by_stop(bench: Bench) -> None:
    bench.stop()


# (seconds from the grant, by whom): the kind of report, its verdict, its charge, the fault's kind and detail.
GIVEN_UP = [
    (0.5, by_timeout, "Outcome", "retry", "nothing", "ConnectFailed", ""),
    (1.5, by_timeout, "Outcome", "unknown", "kept", "OutcomeUnknown", "timeout"),
    (2.5, by_timeout, "Outcome", "unknown", "kept", "OutcomeUnknown", "timeout"),
    (0.5, by_caller, "Unsent", "", "", "", ""),
    (1.5, by_caller, "Outcome", "cancelled", "kept", "OutcomeUnknown", "cancelled"),
    (2.5, by_caller, "Outcome", "cancelled", "kept", "OutcomeUnknown", "cancelled"),
    (0.5, by_engine, "Unsent", "", "", "", ""),
    (1.5, by_engine, "Outcome", "unknown", "kept", "OutcomeUnknown", "shutdown"),
    (2.5, by_engine, "Outcome", "unknown", "kept", "OutcomeUnknown", "shutdown"),
    (0.5, by_stop, "Unsent", "", "", "", ""),
    (1.5, by_stop, "Outcome", "unknown", "kept", "OutcomeUnknown", "shutdown"),
    (2.5, by_stop, "Outcome", "unknown", "kept", "OutcomeUnknown", "shutdown"),
]


@pytest.mark.parametrize(("at_s", "give_up", "kind", "verdict", "charge", "fault", "detail"), GIVEN_UP)
async def test_an_attempt_that_is_given_up_is_reported_with_what_is_known(
    at_s: float,
    give_up: Give,
    kind: str,
    verdict: str,
    charge: str,
    fault: str,
    detail: str,
    autojump_clock: MockClock,
) -> None:
    transport = SteeredTransport(stages)
    async with on_bench(transport) as bench:
        await bench.ready(1, replace=False)
        bench.give(1, stop_s=at_s if give_up is by_timeout else 600)
        await trio.sleep(at_s)
        await give_up(bench)
        await trio.sleep(5)
        (report,) = [one for one in await bench.told() if not isinstance(one, ms.Sent)]
        assert type(report).__name__ == kind
        if isinstance(report, ms.Outcome):
            assert (report.verdict, report.charge, report.at_us) == (verdict, charge, int(at_s * 1e6))
            assert (report.ready, report.wrote) == (False, charge == "kept")
            told = bench.replies[1].fault
            assert told is not None
            assert (told.kind, told.detail, told.sent) == (fault, detail, charge == "kept")
        assert (bench.answers(), transport.open, bench.actor.statistics().busy) == ({1: 1}, 0, 0)


async def test_a_call_dropped_at_the_instant_of_its_grant_is_answered_and_a_connection_not_used_stays_good(
    autojump_clock: MockClock,
) -> None:
    """The worker may look at the grant before the actor reads the drop, or after: trio shuffles the two."""
    unused = 0
    transport = SteeredTransport(stages)
    async with on_bench(transport) as bench:
        for call_id in range(64):
            await bench.ready(1)
            looked = len(transport.callings)
            bench.give(call_id)
            bench.drop(call_id)
            (report,) = [one for one in await bench.told() if not isinstance(one, ms.Ready)]
            begun = len(transport.callings) > looked
            assert report == ms.Unsent(call_id, 1, NUMBER, ready=not begun)
            assert bench.places() == bench.actor.statistics().idle == transport.open
            unused += not begun
    assert unused, "not once did the drop come first"


async def test_dropping_a_call_that_is_not_here_does_nothing(autojump_clock: MockClock) -> None:
    async with on_bench(SteeredTransport(stages)) as bench:
        await bench.ready(1)
        bench.give(1)
        bench.drop(2)
        await trio.sleep(4)
        bench.drop(1)
        assert kinds(await bench.told()) == ["Sent", "Outcome"]
        assert bench.answers() == {1: 1}


async def test_an_answer_that_is_there_when_the_call_is_dropped_counts(autojump_clock: MockClock) -> None:
    answered = trio.Event()

    async def answer(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await answered.wait()
        return DONE

    async with on_bench(SteeredTransport(answer)) as bench:
        await bench.ready(1)
        bench.give(1)
        await bench.told()
        answered.set()
        bench.drop(1)
        (outcome,) = await bench.told()
        assert isinstance(outcome, ms.Outcome)
        assert outcome.verdict in ("done", "cancelled")
        assert outcome.ready is (outcome.verdict == "done")
        assert bench.answers() == {1: 1}


async def test_stop_ends_the_actor_and_answers_everything(autojump_clock: MockClock) -> None:
    transport = SteeredTransport(stages)
    async with on_bench(transport) as bench:
        await bench.ready(3)
        bench.give(1)
        await trio.sleep(1.5)
        bench.give(2)
        await bench.told()
        bench.stop()
        reports = await bench.told()
        assert sorted(kinds(reports)) == ["Lost", "Outcome", "Unsent"]
        assert (bench.actor.stopped, transport.open, bench.places()) == (True, 0, 0)


def test_mail_nobody_will_read_hands_its_grant_back() -> None:
    async def main() -> None:
        bench = Bench(SteeredTransport())
        bench.give(1)
        bench.want(3)
        bench.drop(1)
        bench.actor.mailbox.close()
        bench.give(2)
        assert bench.read() == [ms.Unsent(1, 1, NUMBER, ready=True), ms.Unsent(2, 1, NUMBER, ready=True)]

    trio.run(main)
