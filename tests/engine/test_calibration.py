"""What is reserved for a call follows what its provider was seen to count, and a user's own counter stands for ours.

The provider here counts each input as twice our estimate, or as the test says; in virtual time, with the engine's own
reading of its answers.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import Call, CapacityExceeded, Engine, InvalidCall, UsageError, gather, iModel
from engine.simulator import ProviderLimit
from engine.testing import ProviderReply, Request, ScriptedProvider, chat_reply

LIMIT = 5_000
PERIOD_S = 10
LONG = [{"role": "user", "content": "to be, or not to be " * 10}]


def counting(factor: float, output_tokens: int = 20, delay_s: float = 0.1) -> Any:
    """A script that counts an input as so many times our estimate."""

    def says(request: Request) -> ProviderReply:
        estimate = request.account.spec.format.encode(request.body).input_tokens
        return chat_reply(input_tokens=round(factor * estimate), output_tokens=output_tokens, delay_s=delay_s)

    return says


async def invoke_all(model: iModel, count: int, **arguments: Any) -> list[Call]:
    return await gather(*(model.invoke(**{"messages": LONG, **arguments}) for _ in range(count)))


def occupied(engine: Engine, model: iModel) -> int:
    """What stands in the one quota of a model's lane: what was used, and what is reserved."""
    (lane,) = (lane for lane in engine.statistics().scheduler.schedule.lanes if lane.name == model.lane_name)
    return lane.quotas[0].occupied


async def reserved_for(engine: Engine, model: iModel, **arguments: Any) -> int:
    """What is reserved for a call while it is under way, in a lane that nothing was sent through for a while."""
    await trio.sleep(100)
    call = model.create_api_calling(**{"messages": LONG, **arguments})
    await engine.submit(call)
    await trio.sleep(0.05)
    assert call.status == "calling"
    reserved = occupied(engine, model)
    await call.wait()
    return reserved


@in_virtual_time
async def test_after_some_calls_what_is_reserved_is_what_is_used() -> None:
    async with virtual_engine(ScriptedProvider(counting(2))) as engine:
        model = a_model(limit_tokens=10**6)
        plain = model.create_api_calling(messages=LONG).request.input_tokens
        assert await reserved_for(engine, model, max_tokens=20) == plain + 20
        await invoke_all(model, 12, max_tokens=20)
        for messages in (LONG, MESSAGES):
            plain = model.create_api_calling(messages=messages).request.input_tokens
            assert await reserved_for(engine, model, messages=messages, max_tokens=20) == 2 * plain + 20


@in_virtual_time
async def test_a_provider_that_counts_twice_is_given_its_whole_limit_and_never_more() -> None:
    limit = ProviderLimit("total_tokens", LIMIT, PERIOD_S)
    provider = ScriptedProvider(counting(2), limits=[limit])
    async with virtual_engine(provider):
        model = a_model(limit_tokens=LIMIT, interval=PERIOD_S)
        await invoke_all(model, 10, max_tokens=20)
        await trio.sleep(2 * PERIOD_S)
        begin = trio.current_time()
        calls = await invoke_all(model, 600, max_tokens=20)
        windows = (trio.current_time() - begin) // PERIOD_S
    used = sum(call.usage.total_tokens or 0 for call in calls if call.usage)
    assert provider.refused == 0
    assert windows >= 15
    # The last window is only begun: what is spent fills those before it.
    assert used / ((windows + 1) * LIMIT) > 0.95


@in_virtual_time
async def test_each_model_is_calibrated_for_itself() -> None:
    async with virtual_engine(ScriptedProvider(counting(2))) as engine:
        await invoke_all(a_model(limit_tokens=10**6, lane="one"), 12)
        other = a_model("gpt-4o-mini", lane="one")
        plain = other.create_api_calling(messages=LONG).request.input_tokens
        assert await reserved_for(engine, other, max_tokens=20) == plain + 20


@in_virtual_time
async def test_a_call_that_waited_for_a_place_is_reserved_by_what_was_learned_meanwhile() -> None:
    provider = ScriptedProvider(counting(2, delay_s=5))
    async with virtual_engine(provider) as engine, trio.open_nursery() as nursery:
        model = a_model(limit_tokens=10**6, queue_capacity=1, concurrency_limit=1)
        for _ in range(2):  # one is under way, one takes the only place
            await engine.submit(model.create_api_calling(messages=LONG, max_tokens=20))
            await trio.sleep(0.1)
        late = model.create_api_calling(messages=LONG, max_tokens=20)
        plain = late.request.input_tokens
        nursery.start_soon(engine.submit, late)
        await trio.sleep(12)  # the two before it are answered
        assert late.status == "calling"
        assert occupied(engine, model) == 3 * (2 * plain + 20)


@in_virtual_time
async def test_a_call_too_large_by_its_calibration_alone_takes_the_whole_limit_and_is_sent() -> None:
    async with virtual_engine(ScriptedProvider(counting(3))) as engine:
        small = a_model(limit_tokens=10**6, lane="wide")
        await invoke_all(small, 12, max_tokens=20)
        plain = small.create_api_calling(messages=LONG).request.input_tokens
        tight = a_model(limit_tokens=2 * plain + 20)
        calls = await invoke_all(tight, 2, max_tokens=20)
        assert [call.status for call in calls] == ["completed"] * 2
        assert abs(calls[0].ended.ended_us - calls[1].ended.ended_us) >= 60_000_000  # type: ignore[union-attr]  # ended
        with pytest.raises(CapacityExceeded):
            await engine.submit(a_model(limit_tokens=plain + 19).create_api_calling(messages=LONG, max_tokens=20))


@in_virtual_time
async def test_a_call_too_large_only_by_our_rule_is_sent_once_its_model_is_known_to_count_less() -> None:
    async with virtual_engine(ScriptedProvider(counting(0.5))) as engine:
        model = a_model(limit_tokens=10**6, lane="wide")
        plain = model.create_api_calling(messages=LONG).request.input_tokens
        tight = a_model(limit_tokens=plain)
        with pytest.raises(CapacityExceeded):
            await engine.submit(tight.create_api_calling(messages=LONG, max_tokens=20))
        await invoke_all(model, 12, max_tokens=20)
        assert (await tight.invoke(messages=LONG, max_tokens=20)).status == "completed"


@in_virtual_time
async def test_the_guess_of_the_output_is_for_each_choice() -> None:
    async with virtual_engine(ScriptedProvider(counting(1, output_tokens=300))) as engine:
        model = a_model(limit_tokens=10**6)
        plain = model.create_api_calling(messages=LONG).request.input_tokens
        assert await reserved_for(engine, model, n=3) == plain + 3 * 512
        await invoke_all(model, 12, n=3)
        assert await reserved_for(engine, model) == plain + 100
        assert await reserved_for(engine, model, n=2) == plain + 200


# --- a user's own counter ---


def test_a_counter_of_the_users_own_counts_the_texts() -> None:
    model = a_model(count_tokens=lambda text: len(text.split()))
    call = model.create_api_calling(messages=[{"role": "user", "content": "one two three"}])
    assert call.request.input_tokens == 8  # 3 words and 4 for the message, with the margin of a tenth


def raises(text: str) -> int:
    raise KeyError("no vocabulary")


@pytest.mark.parametrize(
    ("counter", "says"),
    [
        (lambda text: -1, "returned -1"),
        (lambda text: 1.5, "returned 1.5"),
        (lambda text: True, "returned True"),
        (lambda text: None, "returned None"),
        (lambda text: "x" * 999, "returned 'xxx"),
        (raises, "raised KeyError: 'no vocabulary'"),
    ],
)
@in_virtual_time
async def test_a_counter_that_does_not_count_is_named_and_nothing_is_sent(counter: Any, says: str) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        with pytest.raises(InvalidCall) as caught:
            await a_model(count_tokens=counter).invoke(messages=MESSAGES)
    assert caught.value.argument == "count_tokens"
    assert says in caught.value.message
    assert caught.value.message.endswith("Nothing was sent.")
    assert len(caught.value.message) < 500
    assert provider.requests == []


def test_a_counter_must_be_a_function() -> None:
    with pytest.raises(UsageError, match="count_tokens is a function, not int"):
        a_model(count_tokens=3)
