"""`gather`: results in order, the first exception as it was, several as a group, and cancellation.

Over a provider in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
import trio.testing
from mapped_calls import later_is_quicker, say
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    gather,
)
from engine.testing import ScriptedProvider, fault


@in_virtual_time
async def test_gather_returns_results_in_order() -> None:
    async with virtual_engine(ScriptedProvider(later_is_quicker)):
        model = a_model()
        calls = await gather(*(model.invoke(say(model, word)) for word in range(5)))
        assert [call.text for call in calls] == list("01234")
        assert await gather() == []


@in_virtual_time
async def test_gather_takes_any_awaitable() -> None:
    class Plain:
        def __await__(self) -> Iterator[object]:
            yield from trio.sleep(3).__await__()  # noqa: ASYNC105  # it is, by hand
            return 7

    async with virtual_engine(ScriptedProvider()) as engine:
        at = trio.current_time()
        stream = engine.map([])
        assert await gather(Plain(), Plain(), stream) == [7, 7, stream]  # type: ignore[arg-type]  # as the name says
        assert trio.current_time() - at == 3


@in_virtual_time
async def test_gathers_first_exception_cancels_the_others_and_is_raised_as_it_was() -> None:
    cause, ended = KeyError("why"), []
    mine = ValueError("mine")

    async def fails() -> None:
        await trio.sleep(1)
        raise mine from cause

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    with pytest.raises(ValueError, match="mine") as caught:
        await gather(waits(), fails(), waits())
    assert caught.value is mine
    assert caught.value.__cause__ is cause
    assert ended == [1, 1]


@in_virtual_time
async def test_gather_raises_several_exceptions_as_a_group() -> None:
    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        await gather(fails(KeyError()), fails(ValueError()))
    assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}


@in_virtual_time
async def test_cancelling_gather_cancels_its_calls() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        model = a_model()
        with trio.move_on_after(5) as scope:
            await gather(*(model.invoke(messages=MESSAGES) for _ in range(3)))
        assert scope.cancelled_caught
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 3


@in_virtual_time
async def test_a_single_exception_of_gather_is_not_grouped_and_keeps_its_identity() -> None:
    mine = KeyError("mine")

    async def fails() -> None:
        raise mine

    async def waits() -> None:
        await trio.sleep_forever()

    with pytest.raises(KeyError) as caught:
        await gather(waits(), gather(fails(), waits()))
    assert caught.value is mine
