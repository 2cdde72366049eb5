"""`limits="learn"` and limit headers, end to end: a model, an engine, and a provider on loopback that enforces limits.

What is asserted is what a user could see: the statistics of his lane, and that his calls completed.
"""

from __future__ import annotations

import pytest
import trio

from actors.limits import QuotaStatistics
from engine import Engine, UsageError, iModel, open_engine
from engine.config import parse_config
from engine.simulator import ProviderLimit, SimulatorConfig, simulated_provider

MESSAGES = [{"role": "user", "content": "Hello"}]


def quotas(engine: Engine) -> tuple[QuotaStatistics, ...]:
    return engine.statistics().scheduler.schedule.lanes[0].quotas


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_told_by_headers_is_learned_from_one_call(stream: bool) -> None:
    limits = (ProviderLimit("requests", 500, 60.0), ProviderLimit("total_tokens", 9_000, 60.0))
    async with simulated_provider(SimulatorConfig(limits=limits)) as provider, open_engine() as engine:
        model = iModel(provider="own", model="m", base_url=provider.base_url, limits="learn")
        assert (await model.invoke(messages=MESSAGES, max_tokens=5, stream=stream)).status == "completed"
        assert [(quota.limit, quota.learned) for quota in quotas(engine)] == [(500, True), (9_000, True)]


async def test_a_stated_limit_is_lowered_by_headers_and_no_call_is_refused() -> None:
    """The user says 500, the provider 20: once one call is answered, 20 are sent and the others wait."""
    config = SimulatorConfig(limits=(ProviderLimit("requests", 20, 60.0),))
    async with simulated_provider(config) as provider, open_engine() as engine:
        model = iModel(provider="own", model="m", base_url=provider.base_url, limit_requests=500)
        await model.invoke(messages=MESSAGES)
        calls = [model.create_api_calling(messages=MESSAGES) for _ in range(30)]
        for call in calls:
            await engine.submit(call)
        with trio.fail_after(10):
            for call in calls[:19]:
                await call.wait()
        seen = await provider.statistics()
        assert (seen.accepted, seen.refused) == (20, {})
        assert (quotas(engine)[0].limit, quotas(engine)[0].learned) == (20, False)
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("stream", [False, True])
async def test_inferneos_documented_headers_are_learned_from_one_call(stream: bool) -> None:
    """They name no dimension and reset at an instant. The server itself sends none: there is more to find out."""
    config = SimulatorConfig(limits=(ProviderLimit("requests", 60, 60.0),))
    found: dict[str, int] = {}
    for address in ("inferneo_documented", "inferneo"):
        async with simulated_provider(config) as provider, open_engine() as engine:
            model = iModel(provider="inferneo", model="m", base_url=provider.address(address), limits="learn")
            assert (await model.invoke(messages=MESSAGES, max_tokens=5, stream=stream)).status == "completed"
            found[address] = quotas(engine)[0].limit
    assert found["inferneo_documented"] == 60
    assert found["inferneo"] < 20


async def test_inferneos_documented_headers_hold_a_stated_limit_down() -> None:
    """The user says 500, the headers 20: none of thirty calls is refused."""
    config = SimulatorConfig(limits=(ProviderLimit("requests", 20, 60.0),))
    async with simulated_provider(config) as provider, open_engine() as engine:
        address = provider.address("inferneo_documented")
        model = iModel(provider="inferneo", endpoint="completions", model="m", base_url=address, limit_requests=500)
        await model.invoke(prompt="Hello")
        calls = [model.create_api_calling(prompt="Hello") for _ in range(30)]
        for call in calls:
            await engine.submit(call)
        with trio.fail_after(10):
            for call in calls[:19]:
                await call.wait()
        seen = await provider.statistics()
        assert (seen.accepted, seen.refused) == (20, {})
        assert (quotas(engine)[0].limit, quotas(engine)[0].learned) == (20, False)
        for call in calls:
            call.cancel()


async def test_refusals_alone_teach_and_lose_no_call() -> None:
    """Twelve of the first sixteen are refused; in the windows that follow all complete."""
    config = SimulatorConfig(limits=(ProviderLimit("requests", 4, 0.2),), limit_headers=False)
    async with simulated_provider(config) as provider, open_engine() as engine:
        model = iModel(provider="own", model="m", base_url=provider.base_url, limits="learn", interval=0.2)
        calls = [model.create_api_calling(messages=MESSAGES) for _ in range(24)]
        for call in calls:
            await engine.submit(call)
        with trio.fail_after(30):
            await engine.wait_quiet()
        assert {call.status for call in calls} == {"completed"}
        assert quotas(engine)[0].limit < 16


def test_anything_but_learn_is_refused() -> None:
    with pytest.raises(UsageError, match='limits is "learn"'):
        iModel(model="openai/m", limits="guess")  # type: ignore[arg-type]  # that is the point


def test_a_lane_of_the_configuration_can_learn() -> None:
    config = parse_config('[lanes.a]\nlimits = "learn"\ninterval_s = 1\n', "penstock.toml")
    assert (config.lanes["a"].limits, config.lanes["a"].interval_s) == ("learn", 1.0)
    with pytest.raises(UsageError, match="limits"):
        parse_config('[lanes.a]\nlimits = "guess"\n', "penstock.toml")
