"""One run at a time for each session, in the order in which they came."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from engine.transports.sessions import Sessions


async def test_runs_of_one_session_take_turns_and_others_do_not_wait() -> None:
    sessions = Sessions()
    told: list[str] = []
    over = trio.Event()

    async def go(name: str, session: str | None) -> None:
        async with sessions.turn(session):
            told.append(f"{name} begins")
            if name == "first":
                await over.wait()
            await trio.lowlevel.checkpoint()
            told.append(f"{name} ends")

    async with trio.open_nursery() as nursery:
        for name, session in (("first", "s"), ("second", "s"), ("third", "s"), ("other", "t"), ("new", None)):
            nursery.start_soon(go, name, session)
            await trio.testing.wait_all_tasks_blocked()
        assert told == ["first begins", "other begins", "other ends", "new begins", "new ends"]
        over.set()
    assert told[5:] == ["first ends", "second begins", "second ends", "third begins", "third ends"]
    assert len(sessions) == 0


async def test_a_new_session_is_taken_as_soon_as_it_is_known() -> None:
    """By whoever begins it; somebody else who is at it already keeps it."""
    sessions = Sessions()
    began: list[bool] = []

    async def resume() -> None:
        async with sessions.turn("new"):
            began.append(True)

    async with trio.open_nursery() as nursery, sessions.turn(None) as turn:
        turn.claim("")
        turn.claim("new")
        turn.claim("new")
        async with sessions.turn("old") as other:
            other.claim("new")
            turn.claim("old")
        nursery.start_soon(resume)
        await trio.testing.wait_all_tasks_blocked()
        assert (began, len(sessions)) == ([], 1)
    assert began == [True]
    assert len(sessions) == 0


@pytest.mark.parametrize("taken", [True, False], ids=["while it waits", "before it waits"])
async def test_a_turn_that_is_cancelled_leaves_nothing(taken: bool) -> None:
    sessions = Sessions()
    async with sessions.turn("s" if taken else None):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with sessions.turn("s"):
                raise AssertionError
        assert scope.cancelled_caught
        assert len(sessions) == taken
    assert len(sessions) == 0
