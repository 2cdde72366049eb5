"""A model as data and back: the same model, and never a key in what is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_provider import KEY, MESSAGES, in_virtual_time, virtual_engine

from engine import Endpoint, HookRegistry, MissingKey, Quota, UnknownEndpoint, UsageError, iModel
from engine.providers.catalogue import PROVIDERS
from engine.testing import ScriptedProvider

ENV_KEY = "env-key-0123456789"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find a real key."""
    for row in PROVIDERS:
        for variable in row.key_env:
            monkeypatch.delenv(variable, raising=False)


def through_json(model: iModel, **arguments: Any) -> dict[str, Any]:
    data = model.to_dict()
    read: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))
    assert read == data
    return read


def restored(model: iModel, **arguments: Any) -> iModel:
    return iModel.from_dict(through_json(model), **arguments)


FULL: dict[str, Any] = {
    "provider": "groq",
    "model": "openai/gpt-oss-120b",
    "api_key": KEY,
    "queue_capacity": 7,
    "capacity_refresh_time": 30,
    "interval": 20,
    "limit_requests": 5,
    "limit_tokens": 5_000,
    "concurrency_limit": 3,
    "quotas": [Quota("output_tokens", 50, 1.0, guard_s=0.2, pace=True)],
    "limits": "learn",
    "weights": {"a": 3},
    "ageing_s": 5.0,
    "provider_metadata": {"session_id": "S1", "nested": {"list": [1, None]}},
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"api_key": {"type": "string"}}}}],
    "timeout_s": 5,
    "flow": "a",
    "metadata": {"job": 1},
    "max_connections": 9,
    "default_headers": {"x-team": "blue"},
}


def test_the_documented_keys() -> None:
    data = through_json(iModel(**FULL))
    assert set(data) == {"id", "created_at", "provider_metadata", "endpoint", "options", "processor_config"}
    assert set(data["endpoint"]) == {"config"}
    for name in (
        "queue_capacity",
        "capacity_refresh_time",
        "interval",
        "limit_requests",
        "limit_tokens",
        "concurrency_limit",
    ):
        assert data["processor_config"][name] == FULL[name]
    assert "processor_config" not in iModel(**FULL).to_dict(include_processor_config=False)


@pytest.mark.parametrize(("where", "value"), [("kwargs", {1: 2}), ("quotas", "\ud800")])
def test_data_of_the_wrong_kind_is_the_callers_mistake(where: str, value: object) -> None:
    data = iModel(model="gpt-4o", limit_requests=5).to_dict()
    (data["endpoint"]["config"] if where == "kwargs" else data["processor_config"])[where] = value
    with pytest.raises(UsageError, match=where):
        iModel.from_dict(data)


@pytest.mark.parametrize("further", [{}, {"lane": "account"}, {"base_url": "https://proxy.example/v1"}], ids=str)
def test_what_is_restored_is_the_same_model(further: dict[str, Any]) -> None:
    model = iModel(**FULL, **further)
    again = restored(model)
    assert (again.id, again.created_at) == (model.id, model.created_at)
    assert again.provider_metadata == model.provider_metadata
    assert (again.lane, again.endpoint_name, again.model_name) == (model.lane, model.endpoint_name, model.model_name)
    assert again.endpoint.spec == model.endpoint.spec
    mine, its = (one.create_api_calling(messages=MESSAGES, temperature=0.1) for one in (model, again))
    assert bytes(mine.request.body) == bytes(its.request.body)
    assert mine.options == its.options
    assert again.to_dict() == model.to_dict()


@pytest.mark.parametrize("row", [(one.name, two.name) for one in PROVIDERS for two in one.endpoints], ids=str)
def test_every_endpoint_is_restored(row: tuple[str, str]) -> None:
    model = iModel(provider=row[0], endpoint=row[1], model="m", api_key=KEY)
    assert restored(model).endpoint.spec == model.endpoint.spec
    shown = model.to_dict(include_request_options=True)
    assert "properties" in json.dumps(shown["endpoint"]["config"]["request_options"])
    assert iModel.from_dict(shown).to_dict() == model.to_dict()


def test_an_endpoint_object_is_restored() -> None:
    endpoint = Endpoint(provider="groq", timeout=9, api_key=KEY, seed=4, model="llama", auth_type="x-api-key")
    again = restored(iModel(endpoint=endpoint))
    assert (again.model_name, again.endpoint.config.timeout, again.endpoint.spec.auth) == ("llama", 9, "x-api-key")
    assert json.loads(bytes(again.create_api_calling(messages=MESSAGES).request.body))["seed"] == 4


@in_virtual_time
async def test_in_one_engine_it_shares_the_lane_of_the_model_it_was() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = iModel(model="gpt-4o", api_key=KEY, limit_requests=1, interval=10)
        shared = model.copy(share_limits=True)
        for one in (model, restored(model, api_key=KEY), restored(shared, api_key=KEY)):
            assert (await one.invoke(messages=MESSAGES)).status == "completed"
    assert provider.times == [1, 11.05, 21.1]


def test_without_its_limits_it_has_none() -> None:
    data = iModel(**FULL).to_dict(include_processor_config=False)
    assert iModel.from_dict(data).lane.quotas == ()


# --- no key ---

SECRET = "wJalrXUtnFEMI7K7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    "planted",
    [
        {"api_key": SECRET},
        {"default_headers": {"authorization": f"Bearer {SECRET}"}},
        {"default_headers": {"Authorization": SECRET, "X-Api-Key": SECRET, "Cookie": SECRET, "x-auth-token": SECRET}},
        {"default_headers": {"x-harmless": SECRET}},
        {"default_headers": {"x-harmless": f"Basic {SECRET}"}},
        {"default_headers": {"x-harmless": f"sk-{SECRET}"}},
        {"base_url": f"https://host.example/v1?auth={SECRET}"},
        {"base_url": f"https://host.example/v1?authtoken={SECRET}&api-version=2"},
        {"base_url": f"https://host.example/{SECRET}/v1", "api_key": SECRET},
        {"provider_metadata": {"api_key": SECRET, "deep": [{"password": SECRET}], "text": f"sk-{SECRET}"}},
        {"provider_metadata": {"note": f"with {SECRET}", SECRET: 1}, "api_key": SECRET},
        {"aws_secret": SECRET},
        {"extra_headers": {"Authorization": f"Bearer {SECRET}"}},
        {"extra_body": {"client_secret": SECRET}},
        {"user": f"me {SECRET}", "api_key": SECRET},
        {"metadata": {"token": SECRET}},
        {"endpoint": Endpoint(api_key=SECRET)},
    ],
    ids=str,
)
def test_no_key_is_written(planted: dict[str, Any]) -> None:
    model = iModel(**{"model": "m", **planted})
    assert SECRET not in json.dumps(model.to_dict(include_request_options=True))


def test_no_key_of_the_environment_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENV_KEY)
    assert ENV_KEY not in json.dumps(iModel(model="m", user=f"x{ENV_KEY}").to_dict())


def test_what_only_sounds_like_a_key_is_kept() -> None:
    headers = {"anthropic-beta": "prompt-caching-2024-07-31", "openai-organization": "org-1"}
    model = iModel(
        model="m",
        base_url="https://host.example/v1?api-version=2024-07-01",
        provider="mine",
        default_headers=headers,
        provider_metadata={"max_tokens": 5, "author": "x", "session_id": "S1"},
        prompt_cache_key="tenant-a",
    )
    config = model.to_dict()["endpoint"]["config"]
    assert config["default_headers"] == headers
    assert config["kwargs"]["prompt_cache_key"] == "tenant-a"
    assert config["base_url"] == "https://host.example/v1?api-version=2024-07-01"
    assert restored(model).provider_metadata == model.provider_metadata


# --- whose key goes where ---


def key_sent(model: iModel) -> str | None:
    virtual = ScriptedProvider()

    async def main() -> None:
        async with virtual_engine(virtual):
            await model.invoke(messages=MESSAGES)

    in_virtual_time(main)()
    secret = virtual.requests[0].account.key
    return secret.reveal() if secret is not None else None


def test_the_environments_key_goes_only_where_the_program_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENV_KEY)
    monkeypatch.setenv("MINE_API_KEY", ENV_KEY)
    assert key_sent(restored(iModel(model="m"))) == ENV_KEY
    there = "https://host.example/v1"
    data = iModel(model="m", base_url=there).to_dict()
    with pytest.raises(MissingKey, match="base_url you trust"):
        key_sent(iModel.from_dict(data))
    assert key_sent(iModel.from_dict(data, base_url=there)) == ENV_KEY
    assert key_sent(iModel.from_dict(data, api_key=KEY)) == KEY
    assert key_sent(restored(iModel(model="m", provider="mine", base_url=there))) is None
    data["endpoint"]["config"]["base_url"] = "http://api.openai.com/v1"  # not encrypted: another address
    with pytest.raises(MissingKey):
        key_sent(iModel.from_dict(data))
    assert iModel.from_dict(data).copy().to_dict()["endpoint"] == iModel.from_dict(data).to_dict()["endpoint"]
    with pytest.raises(MissingKey):
        key_sent(iModel.from_dict(data).copy())


# --- what cannot be written or read ---


def test_hooks_and_functions_are_not_written() -> None:
    assert "hooks" in (iModel.to_dict.__doc__ or "")
    model = iModel(
        model="m",
        hook_registry=HookRegistry({"pre_invoke": print}),
        exit_hook=True,
        streaming_process_func=str,
        count_tokens=len,
        hook_options={"pre_invoke": {"params": {"f": print}}},
    )
    again = restored(model)
    assert (again.hook_registry.empty, again.exit_hook, again.streaming_process_func) == (True, False, None)


def test_what_cannot_be_written_is_refused_by_name() -> None:
    for wrong, name in (
        ({"thing": object()}, "kwargs"),
        ({"provider_metadata": {"thing": print}}, "provider_metadata"),
    ):
        with pytest.raises(UsageError, match=rf"{name}\['thing'\]"):
            iModel(model="m", **wrong).to_dict()


def test_what_lionagi_writes_is_read() -> None:
    """The keys it has and we do not are passed over."""
    data = {
        "id": "5e0ab1a4-8a2c-4b5c-9f0e-0a1b2c3d4e5f",
        "created_at": 1_700_000_000.5,
        "provider_metadata": {},
        "endpoint": {
            "retry_config": None,
            "circuit_breaker": None,
            "config": {
                "name": "openai_chat",
                "provider": "openai",
                "base_url": "https://api.openai.com/v1",
                "endpoint": "chat/completions",
                "method": "POST",
                "params": {},
                "content_type": "application/json",
                "auth_type": "bearer",
                "default_headers": {},
                "timeout": 600,
                "max_retries": 3,
                "requires_tokens": True,
                "kwargs": {"model": "gpt-4o", "temperature": 0.5},
                "client_kwargs": {},
            },
        },
        "processor_config": {
            "queue_capacity": 100,
            "capacity_refresh_time": 60,
            "interval": None,
            "limit_requests": 5,
            "limit_tokens": None,
            "concurrency_limit": None,
        },
    }
    model = iModel.from_dict(data)
    assert repr(model) == "<iModel openai/gpt-4o at https://api.openai.com/v1/chat/completions>"
    assert model.lane.quotas == (Quota("requests", 5, 60),)
    assert json.loads(bytes(model.create_api_calling(messages=MESSAGES).request.body))["temperature"] == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        {},
        {"endpoint": 5},
        {"endpoint": {"config": None}},
        {"endpoint": {"config": {"provider": 5}}},
        {"endpoint": {"config": {"provider": "no_such_provider"}}},
        {"endpoint": {"config": {"base_url": f"https://me:{SECRET}@host.example"}}},
        {"endpoint": {"config": {}}, "id": 5},
        {"endpoint": {"config": {}}, "processor_config": 5},
        {"endpoint": {"config": {}}, "processor_config": {"quotas": [{"dimension": "requests"}]}},
        {"endpoint": {"config": {}}, "processor_config": {"limit_requests": -1}},
        {"endpoint": {"config": {}}, "processor_config": {"max_connections": "many"}},
        {"endpoint": {"config": {}}, "processor_config": {"lane": 5}},
        {"endpoint": {"config": {}}, "processor_config": {"shares": ["a"]}},
        {"endpoint": {"config": {}}, "processor_config": {"limits": 5}},
        {"endpoint": {"config": {}}, "options": {"priority": "high"}},
    ],
    ids=str,
)
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises((UsageError, UnknownEndpoint)) as caught:
        iModel.from_dict(wrong)
    assert SECRET not in str(caught.value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc é"\\'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('abcé"', max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcé", min_size=1, max_size=5), plain, max_size=4))
def test_any_plain_metadata_comes_back(metadata: dict[str, Any]) -> None:
    assert restored(iModel(model="m", provider_metadata=metadata)).provider_metadata == metadata
