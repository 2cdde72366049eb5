"""Whose turn it is in a lane: flows with their weights, and priorities that age, through the whole engine.

How exactly turns are taken is the schedule's business and tested there; here, that what a user writes in the
configuration, on a model or on a call decides the order in which requests leave. In virtual time.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import Engine, UsageError, iModel
from engine.config import EngineConfig, LaneSection, parse_config
from engine.testing import ScriptedProvider


async def submit_all(engine: Engine, model: iModel, flow: str, count: int) -> None:
    """So many calls of one flow, each of which says in its request which flow it is of."""
    for _ in range(count):
        await engine.submit(model.create_api_calling(messages=[{"role": "user", "content": flow}], flow=flow))


def told(provider: ScriptedProvider) -> list[str]:
    """What each request said, in the order they left."""
    return [request.body["messages"][0]["content"] for request in provider.requests]


IN_TOML = """
[lanes.shared]
ageing_s = {ageing_s}
[lanes.shared.weights]
"tenant-a" = 3
[[lanes.shared.quotas]]
dimension = "requests"
limit = {limit}
period_s = 10
"""


@pytest.mark.parametrize("configured", [True, False], ids=["in the configuration", "by the model"])
@in_virtual_time
async def test_flows_that_wait_share_the_limit_by_their_weights(configured: bool) -> None:
    """Three to one while both wait, whoever came first; when one has no more, the other has it all."""
    provider = ScriptedProvider()
    text = IN_TOML.format(ageing_s=60, limit=8) if configured else ""
    own: dict[str, object] = {} if configured else {"limit_requests": 8, "interval": 10, "weights": {"tenant-a": 3}}
    async with virtual_engine(provider, parse_config(text, "test.toml")) as engine:
        model = a_model(lane="shared", **own)
        await submit_all(engine, model, "before", 8)
        await engine.wait_quiet()
        await submit_all(engine, model, "tenant-b", 24)
        await submit_all(engine, model, "tenant-a", 24)
        await engine.wait_quiet()
    order = told(provider)
    windows = [Counter(order[start : start + 8]) for start in range(0, len(order), 8)]
    both = {"tenant-a": 6, "tenant-b": 2}
    assert windows == [{"before": 8}, *[both] * 4, {"tenant-b": 8}, {"tenant-b": 8}]


@pytest.mark.parametrize(("ageing_s", "order"), [(25, ["high", "low"]), (15, ["low", "high"])])
@pytest.mark.parametrize("configured", [True, False], ids=["in the configuration", "by the model"])
@in_virtual_time
async def test_priority_goes_first_until_the_others_have_waited(
    configured: bool, ageing_s: float, order: list[str]
) -> None:
    """The low one stands a step behind, and was submitted 20 s before the high one: what a step is worth decides."""
    provider = ScriptedProvider()
    text = IN_TOML.format(ageing_s=ageing_s, limit=1) if configured else ""
    own: dict[str, object] = {} if configured else {"limit_requests": 1, "interval": 10, "ageing_s": ageing_s}
    async with virtual_engine(provider, parse_config(text, "test.toml")) as engine:
        model = a_model(lane="shared", **own)

        async def submit(content: str, priority: int) -> None:
            messages = [{"role": "user", "content": content}]
            await engine.submit(model.create_api_calling(messages=messages, priority=priority))

        for _ in range(3):
            await submit("before", -1_000)
        await submit("low", 1)
        await trio.sleep(20.5)
        assert told(provider) == ["before"] * 3
        await submit("high", 0)
        await engine.wait_quiet()
    assert told(provider)[3:] == order


@in_virtual_time
async def test_the_same_weights_in_any_order_are_the_same_lane() -> None:
    """Others are refused, with both of them in the message; a model that says none joins."""
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        numbers = {"lane": "shared", "ageing_s": 30}
        await a_model(weights={"a": 3, "b": 2}, **numbers).invoke(messages=MESSAGES)
        await a_model(weights={"b": 2, "a": 3}, **numbers).invoke(messages=MESSAGES)
        await a_model(lane="shared").invoke(messages=MESSAGES)
        with pytest.raises(UsageError, match=r"weights: \{'a': 3, 'b': 2\} there, \{'a': 3\} here"):
            await a_model(weights={"a": 3}, **numbers).invoke(messages=MESSAGES)
        with pytest.raises(UsageError, match=r"ageing_s: 30.0 there, 31.0 here"):
            await a_model(lane="shared", ageing_s=31).invoke(messages=MESSAGES)
    assert len(provider.requests) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"weights": {}},
        {"ageing_s": 60},
        {"queue_capacity": 10_000},
        {"quotas": []},
        {"weights": {}, "ageing_s": 60.0, "queue_capacity": 10_000},
    ],
)
@pytest.mark.parametrize("configured", [False, True])
@in_virtual_time
async def test_who_says_what_holds_anyway_says_nothing_else(configured: bool, other: dict[str, object]) -> None:
    """In a lane of a configuration as in one that another model opened; and what does not hold there is refused."""
    config = EngineConfig(lanes={"shared": LaneSection()}) if configured else EngineConfig()
    async with virtual_engine(ScriptedProvider(), config):
        await a_model(lane="shared").invoke(messages=MESSAGES)
        assert (await a_model(lane="shared", **other).invoke(messages=MESSAGES)).status == "completed"
        with pytest.raises(UsageError, match=r"ageing_s: 60.0 there, 61.0 here"):
            await a_model(lane="shared", ageing_s=61).invoke(messages=MESSAGES)
        with pytest.raises(UsageError, match=r"weights: not set there, \{'a': 2\} here"):
            await a_model(lane="shared", weights={"a": 2}).invoke(messages=MESSAGES)
