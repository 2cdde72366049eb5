"""One `EndpointConfig` for both seeds: what lionfuncs' fields mean for an endpoint of the catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from engine import Endpoint, EndpointConfig, UsageError, iModel
from engine.endpoints import OpenaiChatEndpoint
from engine.testing import ScriptedProvider, error_reply, in_virtual_time, scripted_engine

QUESTION = {"messages": [{"role": "user", "content": "hello"}]}


@in_virtual_time
async def test_the_models_name_and_the_retries_are_those_of_its_calls() -> None:
    provider = ScriptedProvider(error_reply(503))
    async with scripted_engine(provider):
        endpoint = OpenaiChatEndpoint(model_name="gpt-4o", max_retries=1, api_key="key-of-the-test")
        model = iModel(endpoint=endpoint)
        assert model.model_name == "gpt-4o"
        await model.invoke(**QUESTION)
        assert [request.body["model"] for request in provider.requests] == ["gpt-4o"] * 2
        await iModel(endpoint=endpoint, max_attempts=1, model="gpt-4o-mini").invoke(**QUESTION)
    assert provider.requests[2].body["model"] == "gpt-4o-mini"
    assert len(provider.requests) == 3


def test_kwargs_name_the_model_before_its_name_does() -> None:
    endpoint = Endpoint({"model_name": "one", "kwargs": {"model": "two"}})
    assert endpoint.config.kwargs == {"model": "two"}


def test_a_restored_model_has_its_retries_and_its_model() -> None:
    model = iModel(endpoint=OpenaiChatEndpoint(model_name="gpt-4o", max_retries=0, timeout=9))
    restored = iModel.from_dict(model.to_dict())
    assert restored.model_name == "gpt-4o"
    assert restored.create_api_calling(**QUESTION).options == model.create_api_calling(**QUESTION).options
    assert restored.create_api_calling(**QUESTION).options.max_attempts == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("method", "GET"), ("content_type", "application/x+json"), ("endpoint_params", ["a"]), ("params", {"a": 1})],
)
def test_what_the_catalogue_says_of_an_endpoint_is_not_said_again(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} is what the catalogue says of its endpoint"):
        Endpoint({field: value})


def test_what_is_said_as_it_is_anyway_may_be_said() -> None:
    usual = {"method": "post", "content_type": "application/json", "params": {}, "endpoint_params": [], "name": "mine"}
    assert Endpoint(usual).spec == Endpoint().spec


def test_the_repr_has_what_was_said_and_no_key() -> None:
    assert "method" not in repr(EndpointConfig())
    shown = repr(EndpointConfig(method="GET", model_name="m", api_key="key-of-the-test"))  # type: ignore[arg-type]
    assert "method='GET'" in shown
    assert "model_name='m'" in shown
    assert "key-of-the-test" not in shown
