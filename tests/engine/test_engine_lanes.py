"""Lanes: whose limits a call obeys, that limits hold in every window, and that settlement gives back what was not used.

The windows are counted at the transport, at the instant the last byte of a request has left, as a provider would. In
virtual time, and once over real sockets against the simulated provider, which keeps its own log.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import Call, Quota, UsageError, gather, iModel, open_engine
from engine.config import parse_config
from engine.simulator import (
    ConstantLatency,
    ProviderLimit,
    SimulatorConfig,
    simulated_provider,
    tally,
    worst_window,
)
from engine.testing import Says, ScriptedProvider, chat_reply, error_reply


async def invoke_all(model: iModel, count: int, **arguments: object) -> list[Call]:
    """So many calls at once, to their ends."""
    return await gather(*(model.invoke(messages=MESSAGES, **arguments) for _ in range(count)))


# --- the limits hold, and are used ---


@in_virtual_time
async def test_a_limit_is_spent_in_full_and_never_exceeded() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=0.7))
    async with virtual_engine(provider):
        calls = await invoke_all(a_model(limit_requests=5, interval=10), 23)
        assert {call.status for call in calls} == {"completed"}
    assert provider.fullest(10) == 5
    assert provider.times == [1] * 5 + [11.05] * 5 + [21.1] * 5 + [31.15] * 5 + [41.2] * 3


@pytest.mark.parametrize(
    ("arguments", "period_s"),
    [({}, 60), ({"capacity_refresh_time": 30}, 30), ({"capacity_refresh_time": 30, "interval": 2}, 2)],
)
@in_virtual_time
async def test_interval_is_the_window_and_defaults_to_the_refresh_time(
    arguments: dict[str, float], period_s: float
) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        await invoke_all(a_model(limit_requests=2, **arguments), 3)
    assert provider.times[2] - provider.times[0] == pytest.approx(period_s + min(0.05, period_s / 100), abs=1e-3)


@in_virtual_time
async def test_slow_senders_are_counted_when_they_have_sent() -> None:
    """Requests that take up to 4 s to leave: the window is as the provider sees it."""
    provider = ScriptedProvider(lambda request: chat_reply(write_s=(request.call_id * 7 % 5) * 0.9))
    async with virtual_engine(provider):
        calls = await invoke_all(a_model(limit_requests=5, interval=10), 40)
        assert {call.status for call in calls} == {"completed"}
    assert len(provider.requests) == 40
    assert provider.fullest(10) <= 5


@in_virtual_time
async def test_calls_wait_and_complete_however_long_it_takes() -> None:
    async with virtual_engine(ScriptedProvider()):
        calls = await invoke_all(a_model(limit_requests=1, interval=3600), 20)
        assert {call.status for call in calls} == {"completed"}
        assert trio.current_time() > 19 * 3600


@in_virtual_time
async def test_concurrency_limit_is_the_number_in_flight() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=5))
    async with virtual_engine(provider):
        await invoke_all(a_model(concurrency_limit=3), 10)
    assert provider.most_in_flight == 3


@in_virtual_time
async def test_max_connections_is_the_number_in_flight_without_a_concurrency_limit() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=5))
    async with virtual_engine(provider):
        await invoke_all(a_model(max_connections=4), 10)
    assert provider.most_in_flight == provider.opened == 4


@in_virtual_time
async def test_every_connection_that_could_be_used_is_opened() -> None:
    """Only 64 are opened at a time; when those are there, the others follow."""
    provider = ScriptedProvider(chat_reply(delay_s=100), connect_s=0.2)
    async with virtual_engine(provider) as engine:
        model = a_model(concurrency_limit=200)
        for _ in range(500):
            engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(10)
        assert provider.in_flight == 200
        await engine.drain(queue="discard", deadline_s=0)


@in_virtual_time
async def test_further_quotas_and_a_burst() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(limit_requests=100, quotas=[Quota("requests", 10, 10.0, burst=3, guard_s=0)])
        await invoke_all(model, 6)
    assert provider.times == [1, 1, 1, 2, 3, 4]


@in_virtual_time
async def test_pace_spreads_the_starts() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        await invoke_all(a_model(quotas=[Quota("requests", 5, 10.0, pace=True, guard_s=0)]), 4)
    assert provider.times == [1, 3, 5, 7]


@in_virtual_time
async def test_all_limits_of_a_lane_hold_at_once() -> None:
    provider = ScriptedProvider(chat_reply(input_tokens=20, output_tokens=80))
    async with virtual_engine(provider):
        model = a_model(limit_requests=4, limit_tokens=200, interval=10)
        await invoke_all(model, 8, max_tokens=80)
    assert provider.fullest(10) == 2


# --- settlement ---


@pytest.mark.parametrize(
    ("said", "third_goes_at"),
    [
        (chat_reply(input_tokens=10, output_tokens=5), 1.1),
        (chat_reply(input_tokens=None), 61.05),
        (error_reply(400), 1.1),
    ],
    ids=["what was not used comes back", "without usage nothing does", "a refusal costs only the request"],
)
@in_virtual_time
async def test_what_comes_back_at_the_end_of_a_call(said: Says, third_goes_at: float) -> None:
    provider = ScriptedProvider(said)
    async with virtual_engine(provider):
        await invoke_all(a_model(limit_tokens=1000), 3, max_tokens=400)
    assert provider.times == [1, 1, third_goes_at]


@in_virtual_time
async def test_a_quota_that_settles_as_reserved_gives_nothing_back() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(quotas=[Quota("total_tokens", 1000, settle="reserved")])
        await invoke_all(model, 3, max_tokens=400)
    assert provider.times == [1, 1, 61.05]


@in_virtual_time
async def test_more_than_was_reserved_is_a_debt_that_delays_the_next() -> None:
    provider = ScriptedProvider(chat_reply(input_tokens=10, output_tokens=1500, delay_s=2))
    async with virtual_engine(provider) as engine:
        model = a_model(limit_tokens=1000)
        await model.invoke(messages=MESSAGES, max_tokens=10)
        quota = engine.statistics().scheduler.schedule.lanes[0].quotas[0]
        assert (quota.occupied, quota.debt) == (1510, 510)
        await model.invoke(messages=MESSAGES, max_tokens=10)
    assert provider.times == [1, 63.05]  # the debt was made at 3, when the usage was known


@in_virtual_time
async def test_the_output_of_a_call_without_a_cap_is_learned() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(input_tokens=9, output_tokens=7, delay_s=1))) as engine:
        model = a_model(quotas=[Quota("output_tokens", 100_000, period_s=1800)])

        async def reserved() -> int:
            before = engine.statistics().scheduler.schedule.lanes
            used = before[0].quotas[0].occupied if before else 0
            call = await engine.submit(model.create_api_calling(messages=MESSAGES))
            await trio.sleep(0.5)
            now = engine.statistics().scheduler.schedule.lanes[0].quotas[0].occupied
            await call.wait()
            return now - used

        assert await reserved() == 512
        for _ in range(20):
            await model.invoke(messages=MESSAGES)
        assert await reserved() == 7


@in_virtual_time
async def test_what_is_learned_of_one_model_says_nothing_of_another() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(input_tokens=9, output_tokens=7))) as engine:
        for _ in range(20):
            await a_model("short").invoke(messages=MESSAGES)
        other = a_model("long", quotas=[Quota("output_tokens", 100_000)], lane="other")
        await engine.submit(other.create_api_calling(messages=MESSAGES))
        await trio.sleep(0.05)
        lanes = {lane.name: lane for lane in engine.statistics().scheduler.schedule.lanes}
        assert lanes["other"].quotas[0].occupied == 512
        await engine.wait_quiet()


# --- whose lane ---


@in_virtual_time
async def test_each_model_has_a_lane_of_its_own() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        models = [a_model(limit_requests=1) for _ in range(3)]
        await gather(*(model.invoke(messages=MESSAGES) for model in models))
        assert provider.times == [1, 1, 1]
        assert len({lane.name for lane in engine.statistics().scheduler.schedule.lanes}) == 3


@in_virtual_time
async def test_models_that_name_one_lane_share_its_limits() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        models = [a_model(name, limit_requests=2, interval=10, lane="shared") for name in ("a", "b", "c")]
        await gather(*(model.invoke(messages=MESSAGES) for model in models))
        assert [lane.name for lane in engine.statistics().scheduler.schedule.lanes] == ["shared"]
    assert provider.times == [1, 1, 11.05]


@in_virtual_time
async def test_a_model_joins_a_lane_by_its_name_alone() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        first = a_model(limit_requests=1, interval=10, lane="shared")
        await first.invoke(messages=MESSAGES)
        await a_model(lane="shared").invoke(messages=MESSAGES)
    assert provider.times == [1, 11.05]


@pytest.mark.parametrize(
    "other",
    [
        {"limit_requests": 6},
        {"limit_requests": 5, "interval": 30},
        {"limit_requests": 5, "limit_tokens": 100},
        {"limit_tokens": 5},
        {"limit_requests": 5, "queue_capacity": 7},
        {"limit_requests": 5, "concurrency_limit": 7},
        {"limit_requests": 5, "weights": {"a": 2}},
        {"limit_requests": 5, "ageing_s": 30},
    ],
)
@in_virtual_time
async def test_different_numbers_for_one_lane_are_refused(other: dict[str, int]) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        first = a_model(limit_requests=5, lane="shared")
        await first.invoke(messages=MESSAGES)
        second = a_model(lane="shared", **other)
        call = second.create_api_calling(messages=MESSAGES)
        for send in (engine.submit, engine.invoke):
            with pytest.raises(UsageError, match="'shared'") as caught:
                await send(call)
            assert caught.value.lane == "shared"
        assert (await first.invoke(messages=MESSAGES)).status == "completed"
    assert len(provider.requests) == 2


CONFIG = """
[engine]
max_queued = 50

[lanes.fast]
queue_capacity = 3
concurrency_limit = 2
[[lanes.fast.quotas]]
dimension = "requests"
limit = 2
period_s = 10

[lanes.slow]

[[quotas]]
name = "account"
lanes = ["fast", "slow"]
dimension = "requests"
limit = 3
period_s = 60
"""


@in_virtual_time
async def test_the_lanes_of_a_configuration_and_a_quota_over_several() -> None:
    provider = ScriptedProvider()
    config = parse_config(CONFIG, "test.toml")
    async with virtual_engine(provider, config) as engine:
        fast, slow = a_model("fast", lane="fast"), a_model("slow", lane="slow")
        for model in (fast, fast, fast, slow, slow):
            await engine.submit(model.create_api_calling(messages=MESSAGES))
        await engine.wait_quiet()
        with pytest.raises(UsageError, match="'fast'"):
            await a_model(lane="fast", limit_requests=9).invoke(messages=MESSAGES)
        lanes = {lane.name: lane for lane in engine.statistics().scheduler.schedule.lanes}
        assert [quota.name for quota in lanes["fast"].quotas] == ["requests", "account"]
        assert [quota.name for quota in lanes["slow"].quotas] == ["account"]
    assert provider.fullest(60) == 3
    fast_ones = [request.at_s for request in provider.requests if request.body["model"] == "fast"]
    assert sum(at < fast_ones[0] + 10 for at in fast_ones) == 2


async def test_a_configuration_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG)
    async with open_engine(path, transport=ScriptedProvider()) as engine:
        model = a_model(lane="fast", queue_capacity=3, concurrency_limit=2)
        assert (await model.invoke(messages=MESSAGES)).status == "completed"
        assert engine.statistics().scheduler.schedule.lanes[0].quotas[0].limit == 2


@in_virtual_time
async def test_a_model_must_agree_with_the_configuration() -> None:
    async with virtual_engine(ScriptedProvider(), parse_config(CONFIG, "test.toml")):
        others = ({"weights": {"a": 2}}, {"ageing_s": 61})
        for wrong in ({"queue_capacity": 4}, {"concurrency_limit": 3}, {"limit_tokens": 5}, *others):
            with pytest.raises(UsageError, match=next(iter(wrong)) if "limit_tokens" not in wrong else "quotas"):
                await a_model(lane="fast", **wrong).invoke(messages=MESSAGES)


@in_virtual_time
async def test_models_of_one_account_share_its_connections() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        for name in ("a", "b", "c"):
            await a_model(name).invoke(messages=MESSAGES)
        assert (len(provider.accounts), provider.opened) == (1, 1)
        await a_model(api_key="sk-another-0123456789").invoke(messages=MESSAGES)
        await a_model(base_url="http://10.0.0.1/v1").invoke(messages=MESSAGES)
        await a_model(provider="groq").invoke(messages=MESSAGES)
        assert len(provider.accounts) == len(engine.statistics().endpoints) == 4


@in_virtual_time
async def test_a_transport_that_cannot_be_made_is_an_error_each_time() -> None:
    """And costs nothing: not a place, not a number that later calls would be sent to."""
    broken = True
    provider = ScriptedProvider()

    def make(account: object, on_usage: object) -> object:
        if broken:
            raise UsageError("no such transport")
        return provider(account, on_usage)  # type: ignore[arg-type]  # passed through

    async with open_engine(transport=make) as engine:  # type: ignore[arg-type]  # as above
        model = a_model()
        for _ in range(2):
            with pytest.raises(UsageError, match="no such transport"):
                await model.invoke(messages=MESSAGES)
        assert engine.statistics().live["places_taken"] == 0
        broken = False
        assert (await model.invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_no_limits_at_all() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        await invoke_all(a_model(), 60)
    assert set(provider.times) == {1}


# --- as a real provider sees it ---


async def test_limits_hold_over_real_sockets_as_the_provider_counts() -> None:
    limit = ProviderLimit("requests", 40, 0.2)
    config = SimulatorConfig(key=KEY, limits=(limit,), latency=ConstantLatency(0.01))
    async with simulated_provider(config) as provider, open_engine() as engine:
        ours = Quota("requests", 40, 0.25)  # longer than the provider's window: other processes may hold the loop up
        model = a_model("simulated-1", provider="mine", base_url=provider.base_url, quotas=[ours])
        async with engine.map(model.create_api_calling(messages=MESSAGES) for _ in range(120)) as stream:
            calls = [call async for call in stream]
        assert {call.status for call in calls} == {"completed"}
        assert all(call.usage is not None and call.text for call in calls)
        arrivals = await provider.log()
    assert tally(arrivals).accepted == len(arrivals) == 120
    assert worst_window(arrivals, limit.period_us).amount <= 40
