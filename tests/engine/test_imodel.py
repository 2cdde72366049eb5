"""`iModel`: what its constructor takes and refuses, and what its defaults do.

Over a provider in virtual time. Limits and lanes are in `test_engine_lanes`, calls in `test_engine_call`, engines
and keys in `test_imodel_engines`.
"""

from __future__ import annotations

import inspect

import pytest
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    InvalidCall,
    Quota,
    UsageError,
    iModel,
)
from engine.providers.catalogue import PROVIDERS
from engine.testing import ScriptedProvider, chat_reply

ALL_VARIABLES = tuple(variable for row in PROVIDERS for variable in row.key_env)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find a real key."""
    for variable in ALL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


# --- built anywhere ---


def test_the_constructor_is_the_seeds() -> None:
    parameters = inspect.signature(iModel).parameters.values()
    assert [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        ("provider", None),
        ("base_url", None),
        ("endpoint", "chat"),
        ("api_key", None),
        ("queue_capacity", None),
        ("capacity_refresh_time", 60),
        ("interval", None),
        ("limit_requests", None),
        ("limit_tokens", None),
        ("concurrency_limit", None),
        ("streaming_process_func", None),
        ("provider_metadata", None),
        ("hook_registry", None),
        ("exit_hook", False),
        ("id", None),
        ("created_at", None),
    ]


def problem_of(model: iModel, name: str) -> str:
    """What is said of a call with this argument."""
    try:
        model.create_api_calling(**{name: "x"}).request  # noqa: B018  # it raises
    except InvalidCall as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout_s": "sk-sentinel-0123456789abcdef"},
        {"limit_requests": "sk-sentinel-0123456789abcdef"},
        {"created_at": "sk-sentinel-0123456789abcdef"},
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        iModel(model="gpt-4o", **arguments)  # type: ignore[arg-type]  # on purpose
    assert "sentinel" not in repr(caught.value)


@pytest.mark.parametrize("row", [(one.name, two.name) for one in PROVIDERS for two in one.endpoints], ids=str)
def test_no_documented_argument_is_taken_for_a_misspelt_one(row: tuple[str, str]) -> None:
    """Firecrawl's `limit` is not our `limits`, nor Tavily's `timeout` our `timeout_s`."""
    model = iModel(provider=row[0], endpoint=row[1])
    assert model.request_options is not None
    for name in model.request_options.__struct_fields__:
        assert "did you mean" not in problem_of(model, name)


def test_it_is_built_without_a_loop_and_without_a_key() -> None:
    model = iModel(model="gpt-4o", limit_requests=100, limit_tokens=100_000)
    assert model.model_name == "gpt-4o"
    assert repr(model) == "<iModel openai/gpt-4o at https://api.openai.com/v1/chat/completions>"
    assert model.create_api_calling(messages=MESSAGES).status == "pending"


@pytest.mark.parametrize(
    ("arguments", "provider", "name", "url"),
    [
        ({"model": "gpt-4o"}, "openai", "gpt-4o", "https://api.openai.com/v1/chat/completions"),
        ({"model": "groq/llama-3.3"}, "groq", "llama-3.3", "https://api.groq.com/openai/v1/chat/completions"),
        (
            {"model": "openai/gpt-oss-120b", "provider": "groq"},
            "groq",
            "openai/gpt-oss-120b",
            "https://api.groq.com/openai/v1/chat/completions",
        ),
        (
            {"model": "nvidia_nim/meta/llama-3.1-70b"},
            "nvidia_nim",
            "meta/llama-3.1-70b",
            "https://integrate.api.nvidia.com/v1/chat/completions",
        ),
        (
            {"provider": "my_provider", "base_url": "https://my-api.example.com/v1", "model": "my-model"},
            "my_provider",
            "my-model",
            "https://my-api.example.com/v1/chat/completions",
        ),
        (
            {"provider": "ollama", "base_url": "http://localhost:11434", "model": "llama3"},
            "ollama",
            "llama3",
            "http://localhost:11434/v1/chat/completions",
        ),
    ],
)
def test_provider_and_model(arguments: dict[str, str], provider: str, name: str, url: str) -> None:
    model = iModel(**arguments)  # type: ignore[arg-type]  # all of these are texts
    assert (model.model_name, model.endpoint_name) == (name, f"{provider} {url}")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"limit_requests": 0}, "limit_requests"),
        ({"limit_requests": -1}, "limit_requests"),
        ({"limit_requests": True}, "limit_requests"),
        ({"limit_requests": "5"}, "limit_requests"),
        ({"limit_requests": 1.5}, "limit_requests"),
        ({"limit_tokens": 0}, "limit_tokens"),
        ({"limit_tokens": -1}, "limit_tokens"),
        ({"limit_tokens": True}, "limit_tokens"),
        ({"limit_tokens": "5"}, "limit_tokens"),
        ({"limit_tokens": 1.5}, "limit_tokens"),
        ({"limit_requests": 10**30}, "limit_requests"),
        ({"queue_capacity": 0}, "queue_capacity"),
        ({"queue_capacity": 1.5}, "queue_capacity"),
        ({"concurrency_limit": 0}, "concurrency_limit"),
        ({"concurrency_limit": "3"}, "concurrency_limit"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": True}, "max_connections"),
        ({"interval": 0}, "interval"),
        ({"interval": -60}, "interval"),
        ({"interval": "60"}, "interval"),
        ({"interval": True}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"interval": float("inf")}, "interval"),
        ({"interval": 10**400}, "interval"),
        ({"capacity_refresh_time": 0}, "capacity_refresh_time"),
        ({"capacity_refresh_time": None}, "capacity_refresh_time"),
        ({"capacity_refresh_time": "60"}, "capacity_refresh_time"),
        ({"endpoint": 5}, "endpoint"),
        ({"endpoint": "foo"}, "endpoint"),
        ({"provider": "no_such_provider"}, "no_such_provider"),
        ({"provider": ""}, "provider"),
        ({"provider": 5}, "provider"),
        ({"base_url": "ftp://host"}, "base_url"),
        ({"base_url": "http://user:pw@host/v1"}, "base_url"),
        ({"base_url": 5}, "base_url"),
        ({"api_key": 5}, "api_key"),
        ({"lane": 5}, "lane"),
        ({"lane": "\ud800"}, "lane"),
        ({"model": 5}, "model"),
        ({"quotas": 5}, "quotas"),
        ({"quotas": None}, "quotas"),
        ({"quotas": [5]}, "quotas"),
        ({"weights": 5}, "weights"),
        ({"weights": ["a"]}, "weights"),
        ({"weights": {"a": 0}}, r"weights\['a'\]"),
        ({"weights": {"a": 1, "b": -3}}, r"weights\['b'\]"),
        ({"weights": {"a": 1.5}}, r"weights\['a'\]"),
        ({"weights": {"a": True}}, r"weights\['a'\]"),
        ({"weights": {"a": "3"}}, r"weights\['a'\]"),
        ({"weights": {"a": None}}, r"weights\['a'\]"),
        ({"weights": {"a": 1_000_001}}, r"weights\['a'\] must be a whole number <= 1000000"),
        ({"weights": {5: 1}}, r"weights\[5\] must stand for a flow, a text"),
        ({"weights": {"\ud800": 1}}, "weights"),
        ({"weights": {"a" * 201: 1}}, "weights.* 200 characters"),
        ({"ageing_s": 0}, "ageing_s"),
        ({"ageing_s": -60}, "ageing_s"),
        ({"ageing_s": "60"}, "ageing_s"),
        ({"ageing_s": True}, "ageing_s"),
        ({"ageing_s": float("nan")}, "ageing_s"),
        ({"ageing_s": float("inf")}, "ageing_s"),
        ({"ageing_s": 10**400}, "ageing_s"),
        ({"weight": {"a": 3}}, "did you mean weights="),
        ({"ageing": 60}, "did you mean ageing_s="),
        ({"engine": 5}, "engine"),
        ({"streaming_process_func": "print"}, "streaming_process_func"),
        ({"provider_metadata": 5}, "provider_metadata"),
        ({"provider_metadata": {1: 2}}, "provider_metadata"),
        ({"id": 5}, "id must be"),
        ({"id": ""}, "id must be"),
        ({"id": "\ud800"}, "id must be"),
        ({"created_at": "now"}, "created_at"),
        ({"created_at": True}, "created_at"),
        ({"created_at": float("nan")}, "created_at"),
        ({"pre_invoke_event_hook_timeout": 0}, "pre_invoke_event_hook_timeout"),
        ({"pre_invoke_event_hook_timeouts": 5}, "did you mean pre_invoke_event_hook_timeout="),
        ({"hook_registry": 5}, "HookRegistry"),
        ({"http_client": object()}, "http_client"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(arguments: dict[str, object], names: str) -> None:
    with pytest.raises(UsageError, match=names) as caught:
        iModel(**{"model": "gpt-4o", "api_key": KEY, **arguments})  # type: ignore[arg-type]  # that is what is tested
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", [{"name": 5}, {"pace": 1}, {"burst": "5"}, {"guard_s": True}, {"settle": None}])
def test_a_quota_checks_every_field(field: dict[str, object]) -> None:
    """What slips through here would be found by an actor, and end the engine."""
    with pytest.raises(UsageError, match=next(iter(field))):
        Quota("requests", 5, **field)  # type: ignore[arg-type]  # that is what is tested


def test_a_quotas_limit_and_period_are_checked() -> None:
    for wrong in (0, -1, True, "5", 1.5, None):
        with pytest.raises(UsageError, match="limit"):
            Quota("requests", wrong)  # type: ignore[arg-type]  # that is what is tested
        if wrong not in (True, 1.5):
            with pytest.raises(UsageError, match="period_s"):
                Quota("requests", 5, wrong)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(UsageError, match="dimension"):
        Quota("tokens", 5)  # type: ignore[arg-type]  # that is what is tested


def test_weights_and_ageing_are_the_lane_s() -> None:
    """Sorted, so that the order they were written in makes no difference; and not said if they were not."""
    model = iModel(model="m", weights={"b": 1_000_000, "": 2, "a": 1}, ageing_s=5)
    assert (model.lane.weights, model.lane.ageing_s) == ((("", 2), ("a", 1), ("b", 1_000_000)), 5.0)
    assert iModel(model="m", weights={}).lane.weights is None
    assert (iModel(model="m").lane.weights, iModel(model="m").lane.ageing_s) == (None, None)


def test_weights_are_copied() -> None:
    given = {"a": 3}
    model = iModel(model="m", weights=given)
    given["a"] = 4
    assert model.lane.weights == (("a", 3),)


def test_no_limit_at_all_is_none() -> None:
    model = iModel(model="m", limit_requests=None, limit_tokens=None, interval=None, queue_capacity=None)
    assert model.lane.quotas == ()


def test_a_window_below_a_second_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="window"):
        iModel(model="m", limit_requests=5, interval=0.5)
    iModel(model="m", interval=0.5)  # no limit, no window


# --- its defaults ---


@in_virtual_time
async def test_defaults_are_merged_and_overridden() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(temperature=0.2, max_tokens=50, seed=7)
        await model.invoke(messages=MESSAGES)
        await model.invoke(messages=MESSAGES, temperature=0.9, seed=None, model="gpt-4o-mini")
        await model.invoke(messages=MESSAGES)
    first, second, third = (request.body for request in provider.requests)
    defaults = {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.2, "max_completion_tokens": 50, "seed": 7}
    assert first == third == defaults
    assert second == {
        "model": "gpt-4o-mini",
        "messages": MESSAGES,
        "temperature": 0.9,
        "max_completion_tokens": 50,
    }


@in_virtual_time
async def test_options_of_the_engine_as_defaults_never_reach_the_provider() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=50))
    async with virtual_engine(provider):
        model = a_model(timeout_s=5, metadata={"job": 1}, flow="a")
        call = await model.invoke(messages=MESSAGES)
        assert provider.requests[0].body == {"model": "gpt-4o", "messages": MESSAGES}
        assert call.options.timeout_s == 5
        assert (call.status, call.metadata) == ("failed", {"job": 1})


@in_virtual_time
async def test_weights_and_ageing_are_never_sent() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        await a_model(weights={"a": 3}, ageing_s=5.0).invoke(messages=MESSAGES)
    assert provider.requests[0].body == {"model": "gpt-4o", "messages": MESSAGES}


@in_virtual_time
async def test_invoke_takes_a_call_or_its_arguments() -> None:
    async with virtual_engine(ScriptedProvider()):
        model = a_model()
        call = model.create_api_calling(messages=MESSAGES)
        assert await model.invoke(call) is call
        assert await model.invoke(api_call=call) is call
        with pytest.raises(InvalidCall, match="not both"):
            await model.invoke(model.create_api_calling(messages=MESSAGES), temperature=1)
        for thing in ("hello", 7, {"messages": MESSAGES}):
            with pytest.raises(InvalidCall, match="create_api_calling"):
                await model.invoke(thing)  # type: ignore[arg-type]  # that is what is tested
