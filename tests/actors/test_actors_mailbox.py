"""Mailboxes: two bands, control first, nothing lost, nothing read twice, nobody left waiting at a closed box.

The bands and their order are compared with a naive model by Hypothesis; what waits is run in virtual time.
"""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.clock import now_us
from actors.mailbox import Mailbox


def unread(mail: tuple[bytes, bytes]) -> None:
    raise AssertionError(f"{mail} was turned away")


def box() -> Mailbox:
    return Mailbox("box", unread)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


@given(st.lists(st.sampled_from(["post", "submit", "read", "read submitted"]), max_size=40))
def test_control_is_read_first_and_each_band_in_the_order_of_writing(steps: list[str]) -> None:
    mailbox = box()
    control: list[bytes] = []
    submitted: list[bytes] = []
    read = 0
    for place, step in enumerate(steps):
        head = number(place)
        if step == "post":
            mailbox.post(head)
            control.append(head)
        elif step == "submit":
            mailbox.submit(head)
            submitted.append(head)
        else:
            bands = [submitted] if step == "read submitted" else [control, submitted]
            band = next((band for band in bands if band), None)
            expected = None if band is None else (band.pop(0), b"")
            read += expected is not None
            got = mailbox.receive_nowait() if step == "read" else mailbox.receive_submitted_nowait()
            assert got == expected
        statistics = mailbox.statistics()
        assert (statistics.control, statistics.submitted, statistics.delivered) == (len(control), len(submitted), read)


def test_what_travels_behind_a_head_comes_out_with_it() -> None:
    mailbox = box()
    behind = b"x" * 1000
    mailbox.post(b"head", behind)
    mail = mailbox.receive_nowait()
    assert mail == (b"head", behind)
    assert mail is not None
    assert mail[1] is behind, "the rest is handed on, not copied"


@pytest.mark.parametrize("write", ["post", "submit"])
async def test_a_waiting_reader_gets_what_is_written(write: str, autojump_clock: MockClock) -> None:
    mailbox = box()
    got: list[object] = []

    async def read() -> None:
        got.append(await mailbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        getattr(mailbox, write)(b"head")
    assert got == [(b"head", b"")]
    assert mailbox.statistics().delivered == 1
    assert mailbox.receive_nowait() is None


async def test_submitting_to_a_waiting_reader_keeps_the_order_of_the_bands(autojump_clock: MockClock) -> None:
    """The first call wakes the reader; of what follows, control still comes first, then the calls in order."""
    mailbox = box()
    got: list[bytes] = []

    async def read() -> None:
        while len(got) < 5:
            mail = await mailbox.receive()
            assert mail is not None
            got.append(mail[0])

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        mailbox.submit(b"call 1")
        mailbox.submit(b"call 2")
        mailbox.post(b"control 1")
        mailbox.submit(b"call 3")
        mailbox.post(b"control 2")
    assert got == [b"call 1", b"control 1", b"control 2", b"call 2", b"call 3"]


async def test_a_call_submitted_to_a_waiting_reader_is_not_passed_by_later_calls(autojump_clock: MockClock) -> None:
    """A reader that was told to wait, and gave up waiting, finds calls in their order afterwards."""
    mailbox = box()
    assert await mailbox.receive(now_us() + 1000) is None
    mailbox.submit(b"call 1")
    assert mailbox.statistics().submitted == 1, "nobody waits: it lies in the band of calls"
    mailbox.post(b"control")
    assert [await mailbox.receive(), await mailbox.receive()] == [(b"control", b""), (b"call 1", b"")]


@given(
    start_us=st.integers(min_value=0, max_value=10**13),
    wait_us=st.integers(min_value=-1_000_000, max_value=10**9),
)
def test_a_wait_without_mail_ends_at_exactly_the_instant_asked_for(start_us: int, wait_us: int) -> None:
    async def main() -> tuple[object, int, int]:
        before = now_us()
        mail = await box().receive(before + wait_us)
        return mail, before, now_us()

    clock = MockClock(autojump_threshold=0)
    clock.jump(start_us / 1e6)
    mail, before, after = trio.run(main, clock=clock)
    assert mail is None
    assert after == before + max(0, wait_us)


async def test_mail_that_is_there_is_read_although_the_instant_has_passed(autojump_clock: MockClock) -> None:
    mailbox = box()
    mailbox.submit(b"call")
    assert await mailbox.receive(now_us() - 1) == (b"call", b"")


def test_mail_that_comes_at_the_last_instant_is_read_or_stays() -> None:
    """Whichever comes first, the writer or the end of the wait, the mail is read once and by somebody."""

    async def main() -> None:
        mailbox = box()
        got: list[object] = []

        async def write() -> None:
            await trio.sleep(1)
            mailbox.post(b"late")

        async def read() -> None:
            got.append(await mailbox.receive(1_000_000))

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 60
            nursery.start_soon(write)
            nursery.start_soon(read)
        rest = mailbox.receive_nowait()
        assert [mail for mail in [*got, rest] if mail is not None] == [(b"late", b"")]
        assert mailbox.statistics().delivered == 1
        assert mailbox.statistics().control == 0

    for _ in range(20):  # trio shuffles the tasks of one instant
        trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("write", ["post", "submit"])
async def test_cancelling_a_reader_loses_no_mail(write: str, cancel_first: bool, autojump_clock: MockClock) -> None:
    mailbox = box()
    got: list[object] = []
    scope = trio.CancelScope()

    async def read() -> None:
        with scope:
            got.append(await mailbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        if cancel_first:
            scope.cancel()
            getattr(mailbox, write)(b"head")
        else:
            getattr(mailbox, write)(b"head")
            scope.cancel()
    rest = mailbox.receive_nowait()
    assert [mail for mail in [*got, rest] if mail is not None] == [(b"head", b"")]
    assert mailbox.receive_nowait() is None


def test_closing_rejects_what_is_inside_and_what_comes_later() -> None:
    rejected: list[tuple[bytes, bytes]] = []
    mailbox = Mailbox("box", rejected.append)
    mailbox.submit(b"call")
    mailbox.post(b"control", b"rest")
    mailbox.close()
    assert rejected == [(b"control", b"rest"), (b"call", b"")]
    mailbox.post(b"later", b"rest")
    mailbox.submit(b"later call")
    assert rejected[2:] == [(b"later", b"rest"), (b"later call", b"")]
    statistics = mailbox.statistics()
    assert (statistics.control, statistics.submitted, statistics.delivered, statistics.rejected) == (0, 0, 0, 4)
    assert statistics.closed
    mailbox.close()
    assert len(rejected) == 4, "closing twice rejects nothing twice"


def test_what_a_rejection_writes_into_the_closing_box_is_rejected_too() -> None:
    rejected: list[bytes] = []

    def reject(mail: tuple[bytes, bytes]) -> None:
        rejected.append(mail[0])
        if mail[0] == b"first":
            mailbox.post(b"second")

    mailbox = Mailbox("box", reject)
    mailbox.post(b"first")
    mailbox.close()
    assert rejected == [b"first", b"second"]


def test_the_repr_tells_what_lies_in_the_box() -> None:
    mailbox = Mailbox("box", lambda mail: None)
    mailbox.post(b"a")
    mailbox.post(b"b")
    mailbox.submit(b"c")
    assert repr(mailbox) == "<Mailbox box: 2 control, 1 submitted>"
    mailbox.close()
    assert repr(mailbox) == "<Mailbox box: closed>"
