"""`open_engine`: what it takes, which engine is the open one, and every way of leaving it.

Leaving by cancellation at every checkpoint and crashes of actors are the business of `tests/faults`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import CallCancelled, Engine, EngineNotRunning, OutcomeUnknown, ShuttingDown, UsageError, open_engine
from engine.opening import current_engine, is_engine_open
from engine.testing import ScriptedProvider, assert_quiet, chat_reply, fault


@in_virtual_time
async def test_the_open_engine_is_found_inside_and_not_outside() -> None:
    assert not is_engine_open()
    async with open_engine() as engine:
        assert is_engine_open()
        assert current_engine() is engine
        assert isinstance(engine, Engine)
        async with open_engine() as inner:
            assert current_engine() is inner
        assert current_engine() is engine
    assert not is_engine_open()
    with pytest.raises(EngineNotRunning):
        current_engine()


@in_virtual_time
async def test_leaving_normally_finishes_what_was_accepted() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        model = a_model(limit_requests=1, interval=10)
        calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(4)]
    assert [call.status for call in calls] == ["completed"] * 4


@in_virtual_time
async def test_leaving_normally_drops_what_hangs_after_the_deadline() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES, timeout_s=1000))
        at = trio.current_time()
    assert 30 <= trio.current_time() - at <= 30.001
    assert isinstance(call.error, OutcomeUnknown)


class Unusual(BaseException):
    """Not even an `Exception`."""


@pytest.mark.parametrize(
    "mine",
    [ValueError("mine"), Unusual(), KeyboardInterrupt(), SystemExit(3), ExceptionGroup("mine", [ValueError()])],
    ids=lambda error: type(error).__name__,
)
@in_virtual_time
async def test_leaving_by_an_exception_stops_at_once_and_raises_that_very_one(mine: BaseException) -> None:
    mine.__cause__ = cause = KeyError("why")
    provider = ScriptedProvider(fault("stall"))
    with pytest.raises(type(mine)) as caught:  # noqa: PT012  # what counts is how the whole block is left
        async with virtual_engine(provider) as engine:
            model = a_model(concurrency_limit=1)
            calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(3)]
            await trio.sleep(1)
            at = trio.current_time()
            raise mine
    assert caught.value is mine
    assert caught.value.__cause__ is cause
    assert trio.current_time() == at
    assert [call.status for call in calls] == ["failed", "aborted", "aborted"]
    assert isinstance(calls[0].error, OutcomeUnknown)
    assert isinstance(calls[1].error, ShuttingDown)


@in_virtual_time
async def test_leaving_by_cancellation_stops_at_once() -> None:
    provider = ScriptedProvider(fault("stall"))
    with trio.move_on_after(5) as scope:
        async with virtual_engine(provider) as engine:
            submitted = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
            invoked = a_model().create_api_calling(messages=MESSAGES)
            await engine.invoke(invoked)
    assert scope.cancelled_caught
    assert trio.current_time() == 5
    assert isinstance(submitted.error, OutcomeUnknown)
    # The same cancellation stops its worker and its caller; whichever is told first decides.
    assert isinstance(invoked.error, CallCancelled | OutcomeUnknown)


@in_virtual_time
async def test_a_return_out_of_the_block_drains_too() -> None:
    async def body() -> object:
        async with virtual_engine(ScriptedProvider()) as engine:
            return await engine.submit(a_model().create_api_calling(messages=MESSAGES))

    assert (await body()).status == "completed"  # type: ignore[attr-defined]  # it is a call


@in_virtual_time
async def test_an_exception_of_a_call_leaves_alone_and_ungrouped() -> None:
    with pytest.raises(UsageError) as caught:
        async with virtual_engine(ScriptedProvider()):
            await a_model().invoke(messages=[])
    assert type(caught.value).__name__ == "InvalidCall"


@in_virtual_time
async def test_a_closed_engine_refuses_and_answers_questions() -> None:
    async with open_engine(transport=ScriptedProvider()) as engine:
        await a_model().invoke(messages=MESSAGES)
        assert repr(engine) == "<Engine open: 0 live calls>"
    call = a_model(engine=engine).create_api_calling(messages=MESSAGES)
    for send in (engine.submit, engine.invoke):
        with pytest.raises(ShuttingDown):
            await send(call)
    assert_quiet(engine)
    assert engine.statistics().scheduler.schedule.ended["completed"] == 1
    assert repr(engine) == "<Engine closed: 0 live calls>"
    with trio.fail_after(10):
        await engine.wait_quiet()
        await engine.drain()


@in_virtual_time
async def test_two_engines_side_by_side_know_nothing_of_each_other() -> None:
    providers = ScriptedProvider(), ScriptedProvider()
    async with virtual_engine(providers[0]) as one, virtual_engine(providers[1]) as other:
        model = a_model(limit_requests=1)
        for engine in (one, other):
            await engine.invoke(model.create_api_calling(messages=MESSAGES))
    assert [len(provider.requests) for provider in providers] == [1, 1]
    assert providers[1].requests[0].at_s < 3


@pytest.mark.parametrize("argument", ["journal", "hooks"])
async def test_what_comes_later_is_refused(argument: str) -> None:
    with pytest.raises(UsageError, match=argument):
        async with open_engine(**{argument: "something"}):  # type: ignore[arg-type]  # that is what is tested
            pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[engine]\nmax_queue = 3", "max_queued"),
        ("[lanes.a]\nqueue_capacity = 0", "lanes.a"),
        ("not toml at all", "TOML"),
    ],
)
async def test_a_wrong_configuration_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        async with open_engine(str(path)):
            pass
    assert "penstock.toml" in str(caught.value)


@pytest.mark.parametrize("config", [5, b"\xff", {"engine": {}}, "no/such/file.toml"])
async def test_a_configuration_that_is_none_is_refused(config: object) -> None:
    with pytest.raises(UsageError):
        async with open_engine(config):  # type: ignore[arg-type]  # that is what is tested
            pass
