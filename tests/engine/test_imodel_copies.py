"""A model's copies, its identity and metadata, and what the seed's hook options come to.

Over a provider in virtual time.
"""

from __future__ import annotations

import uuid
import warnings
from typing import Any

import pytest
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import HookEventTypes, HookOptions, HookRegistry, InvalidCall, Quota, UsageError, iModel
from engine.config import EngineConfig, LaneSection
from engine.testing import ScriptedProvider

# --- what it is ---


def test_id_and_time_are_new_or_given() -> None:
    one, two = iModel(model="m"), iModel(model="m")
    assert one.id != two.id
    assert str(uuid.UUID(one.id)) == one.id
    given = uuid.uuid4()
    again = iModel(model="m", id=given, created_at=5)
    assert (again.id, again.created_at) == (str(given), 5.0)
    assert iModel(model="m", id="mine").id == "mine"


def test_metadata_is_its_own_and_holds_the_session() -> None:
    given = {"session_id": "S1", "served": "m-2"}
    model = iModel(model="m", provider_metadata=given)
    given["session_id"] = "S2"
    assert model.provider_metadata == {"session_id": "S1", "served": "m-2"}
    assert model.provider_session_id == "S1"
    assert iModel(model="m").provider_metadata == {}
    assert iModel(model="m").provider_session_id is None
    assert iModel(model="m", provider_metadata={"session_id": 5}).provider_session_id is None


def test_a_service_is_no_program() -> None:
    assert not iModel(model="m").is_cli
    assert iModel(model="m").request_options is not None
    assert iModel(model="m").endpoint.spec.endpoint == "chat"


# --- copies ---


@in_virtual_time
async def test_a_copy_has_a_lane_of_its_own_with_the_same_limits() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(limit_requests=1, interval=10, temperature=0.5)
        other = model.copy()
        assert other.id != model.id
        for one in (model, other, model, other):
            await one.invoke(messages=MESSAGES)
    assert provider.times == [1, 1.1, 11.05, 11.15]
    assert all(request.body["temperature"] == 0.5 for request in provider.requests)


@in_virtual_time
@pytest.mark.parametrize("named", [{}, {"lane": "account"}])
async def test_a_copy_shares_the_lane_if_asked(named: dict[str, str]) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(limit_requests=1, interval=10, **named)
        for one in (model, model.copy(share_limits=True).copy(share_limits=True)):
            await one.invoke(messages=MESSAGES)
        apart = model.copy(share_limits=True).copy()
        assert apart.lane_name == f"imodel-{apart.id}"
        await apart.invoke(messages=MESSAGES)
    assert provider.times == [1, 11.05, 11.15]


def test_a_copy_says_all_that_was_said_of_a_named_lane() -> None:
    said: dict[str, Any] = {
        "quotas": [Quota("output_tokens", 5)],
        "queue_capacity": 7,
        "concurrency_limit": 3,
        "weights": {"a": 2},
        "ageing_s": 5,
    }
    there = iModel(model="m", **said)
    lane = iModel(model="m", lane="account", **said).copy().lane
    assert [getattr(lane, name) for name in lane.__struct_fields__ if name != "name"] == [
        getattr(there.lane, name) for name in there.lane.__struct_fields__ if name != "name"
    ]
    assert iModel(model="m", lane="account", limits="learn").copy().lane.learn_s == 60


def test_a_copy_is_never_without_limits_by_accident() -> None:
    model = iModel(model="m", lane="account", concurrency_limit=5)
    with pytest.raises(UsageError, match="share_limits=True"):
        model.copy()
    assert model.copy(share_limits=True).lane == model.lane


@in_virtual_time
async def test_copies_of_a_configured_lane_share_it() -> None:
    provider = ScriptedProvider()
    config = EngineConfig(lanes={"account": LaneSection(quotas=(Quota("requests", 1, 10),))})
    async with virtual_engine(provider, config):
        model = a_model(lane="account")
        for one in (model, model.copy(share_limits=True)):
            await one.invoke(messages=MESSAGES)
    assert provider.times == [1, 11.05]


def test_a_copy_continues_the_session_only_if_asked() -> None:
    model = iModel(model="m", provider_metadata={"session_id": "S1", "served": "m-2"})
    assert model.copy().provider_metadata == {"served": "m-2"}
    other = model.copy(share_session=True)
    assert other.provider_session_id == "S1"
    other.provider_metadata["session_id"] = "S2"
    assert model.provider_session_id == "S1"


def test_a_copy_has_the_same_hooks_and_functions() -> None:
    hooks = HookRegistry()
    model = iModel(model="m", hook_registry=hooks, exit_hook=True, streaming_process_func=str)
    other = model.copy()
    assert other.hook_registry is hooks
    assert (other.exit_hook, other.streaming_process_func) == (True, str)
    assert repr(other) == repr(model)


@in_virtual_time
async def test_a_copy_of_a_model_in_use_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.opening as opening_module
    from engine import EngineNotRunning, open_engine

    virtual = ScriptedProvider()
    monkeypatch.setattr(opening_module, "open_engine", lambda: open_engine(transport=virtual))
    async with a_model() as model:
        other = model.copy()
        async with other:
            assert other.engine is model.engine
        assert (await other.invoke(messages=MESSAGES)).status == "completed"
    with pytest.raises(EngineNotRunning):
        await other.invoke(messages=MESSAGES)
    async with other:
        assert (await other.invoke(messages=MESSAGES)).status == "completed"


def test_a_short_window_is_warned_about_once_for_a_model_and_its_copies() -> None:
    with pytest.warns(UserWarning, match="window") as caught:
        model = iModel(model="m", limit_requests=5, interval=0.5)
    assert [(warning.filename, len(caught)) for warning in caught] == [(__file__, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.copy()
        iModel.from_dict(model.to_dict())


# --- the seed's hook options ---


def test_the_seeds_names_become_hook_options() -> None:
    model = iModel(model="m", api_key="k", post_invoke_event_exit_hook=True)
    call = model.create_api_calling(
        messages=MESSAGES,
        create_event_hook_timeout=1.5,
        create_event_exit_hook=True,
        pre_invoke_event_hook_params={"who": "me"},
        post_invoke_event_hook_timeout=3,
        post_invoke_event_hook_params=None,
    )
    assert call.options.hook_options == {
        HookEventTypes.PreEventCreate: HookOptions(exit=True, timeout_s=1.5),
        HookEventTypes.PreInvocation: HookOptions(params={"who": "me"}),
        HookEventTypes.PostInvocation: HookOptions(exit=True, timeout_s=3),
    }
    assert "hook" not in bytes(call.request.body).decode()


def test_the_seeds_names_stand_over_hook_options_of_the_same_phase() -> None:
    model = iModel(model="m", api_key="k")
    call = model.create_api_calling(
        messages=MESSAGES,
        hook_options={"pre_invoke": {"timeout_s": 5, "exit": True}, "post_invoke": {"exit": True}},
        pre_invoke_event_exit_hook=False,
    )
    assert call.options.hook_options == {
        HookEventTypes.PreInvocation: HookOptions(exit=False, timeout_s=5),
        HookEventTypes.PostInvocation: HookOptions(exit=True),
    }


@in_virtual_time
async def test_a_wrong_hook_option_is_named_and_nothing_is_sent() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        for wrong in ({"create_event_hook_timeout": -1}, {"post_invoke_event_hook_params": 5}):
            with pytest.raises(InvalidCall, match=next(iter(wrong))):
                await a_model().invoke(messages=MESSAGES, **wrong)
        with pytest.raises(InvalidCall, match="did you mean"):
            await a_model().invoke(messages=MESSAGES, pre_invoke_event_hook_time=5)
    assert provider.requests == []


@in_virtual_time
async def test_the_seeds_parameters_reach_the_handlers() -> None:
    seen: list[object] = []

    async def before(call: object, **kw: object) -> None:
        seen.append(kw)

    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(hook_registry={HookEventTypes.PreInvocation: before})
        params = {"pre_invoke_event_hook_params": {"who": "me"}, "pre_invoke_event_exit_hook": True}
        await model.invoke(messages=MESSAGES, **params)
        async for _ in model.stream(messages=MESSAGES, **params):
            pass
    assert seen == [{"exit": True, "who": "me"}] * 2
