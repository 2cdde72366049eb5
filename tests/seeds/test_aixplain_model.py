"""aiXplain's page about Model: every block is compiled and compared with our classes, every method is run.

The platform is the simulated one, which the environment names; what a method does for each answer is tested in
`tests/clients`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest
import trio
from aixplain_pages import Promised, ours, promises_of

from engine import ProviderError, open_engine
from engine.clients import aixplain as in_trio
from engine.clients.aixplain import (
    Asset,
    AssetStatus,
    FinetuneStatus,
    FunctionType,
    Model,
    ModelFactory,
    ModelParameters,
    ResponseStatus,
    Supplier,
)
from engine.portal import aixplain as blocking
from engine.simulator import Simulator, SimulatorConfig, serve

PAGE = "aixplain-model.md"
PROMISED = promises_of(PAGE)
KEY = "key-of-the-test"


@pytest.fixture
async def platform(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    simulator: Simulator = await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=6))
    monkeypatch.setenv("BACKEND_URL", simulator.address("aixplain"))
    monkeypatch.setenv("MODELS_RUN_URL", f"{simulator.address('aixplain')}/api/v1/execute")
    monkeypatch.setenv("TEAM_API_KEY", KEY)
    monkeypatch.delenv("AIXPLAIN_API_KEY", raising=False)
    async with open_engine():
        yield simulator


def test_the_page_is_read_whole() -> None:
    assert [promised.name for promised in PROMISED] == [
        "Model", "__init__", "to_dict", "get_parameters", "__repr__", "sync_poll", "poll", "run_stream", "run",
        "run_async", "check_finetune_status", "delete", "add_additional_info_for_benchmark", "from_dict",
    ]  # fmt: skip
    assert PROMISED[0].bases == ("Asset",)
    assert [promised.name for promised in PROMISED if promised.is_classmethod] == ["from_dict"]


@pytest.mark.parametrize("kind", [in_trio.Model, blocking.Model], ids=["trio", "blocking"])
@pytest.mark.parametrize("promised", PROMISED[1:], ids=lambda promised: promised.name)
def test_every_signature_is_the_pages(promised: Promised, kind: type[Model]) -> None:
    assert issubclass(kind, Asset)
    assert ours(kind, promised.name) == (promised.arguments, promised.rest)
    assert inspect.ismethod(getattr(kind, promised.name)) is promised.is_classmethod


def test_every_attribute_of_the_page_is_there() -> None:
    model = Model("m-1")
    for name in (
        "id", "name", "description", "api_key", "url", "supplier", "version", "function", "backend_url", "cost",
        "input_params", "output_params", "model_params", "supports_streaming", "function_type", "is_subscribed",
        "created_at", "status", "additional_info",
    ):  # fmt: skip
        assert hasattr(model, name), name
    assert (model.supplier, model.status, model.function_type) == (
        Supplier.AIXPLAIN,
        AssetStatus.ONBOARDED,
        FunctionType.AI,
    )


def test_to_dict_has_the_keys_of_the_page() -> None:
    assert list(Model("m-1", empty=None, kept=1).to_dict()) == [
        "id", "name", "description", "supplier", "additional_info", "input_params", "output_params", "model_params",
        "function", "status",
    ]  # fmt: skip
    assert Model("m-1", empty=None, kept=1).to_dict()["additional_info"] == {"kept": 1}


def test_from_dict_takes_the_keys_of_the_page() -> None:
    keys = ("id", "name", "description", "api_key", "supplier", "version", "function", "is_subscribed", "cost",
            "created_at", "input_params", "output_params", "model_params", "additional_info")  # fmt: skip
    model = Model.from_dict({**dict.fromkeys(keys), "id": "m-1", "created_at": "2026-11-27T10:00:00"})
    assert model.created_at is not None
    assert (model.id, model.created_at.hour, model.version) == ("m-1", 10, "1.0")


def test_repr_and_get_parameters_and_benchmark() -> None:
    model = Model("m-1", "Name", supplier="OpenAI", model_params={"text": {"required": True}})
    assert repr(model) == "Model: Name by OpenAI (id=m-1)"
    assert isinstance(model.get_parameters(), ModelParameters)
    assert Model("m-1").get_parameters() is None
    model.add_additional_info_for_benchmark("Shown", {"k": 1})
    assert model.additional_info == {"displayName": "Shown", "configuration": {"k": 1}}


async def test_run_waits_for_the_answer_now_or_later(platform: Simulator) -> None:
    for name in ("sync-m", "async-2-m"):
        response = await Model(name).run("hello", "a-name", 30, {"temperature": 0.5}, 0.2, False)
        assert (response.status, response.completed, len(response.data.split())) == ("SUCCESS", True, 6)
        assert response.usage["total_tokens"] > 6
        assert (response.used_credits > 0, response.run_time) == (True, 0.9)


async def test_run_async_sync_poll_and_poll(platform: Simulator) -> None:
    model = Model("async-2-m")
    begun = await model.run_async("hello", "a-name", {"temperature": 0.5})
    assert (begun.status, begun.completed, begun.data) == (ResponseStatus.IN_PROGRESS, False, "")
    once = await model.poll(begun.url, "a-name")
    assert (once.status, once.completed) == (ResponseStatus.IN_PROGRESS, False)
    ended = await model.sync_poll(begun.url, "a-name", 0.2, 30)
    assert (ended.status, ended.completed) == (ResponseStatus.SUCCESS, True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fail-m", "The model has failed."),
        ("async-1-fail-m", "The model has failed."),
        ("async-1-supplier-m", " - quota"),
        ("status-475", "Billing-related error: "),
        ("status-401", "Unauthorized API key: "),
        ("no-data-m", "Model Run: An error occurred"),
        ("async-poll-404", "Resource not found: "),
        ("async-poll-html", "Model Run: An error occurred"),
        ("foreign-poll-m", "Model Run: An error occurred"),
    ],
)
async def test_what_the_service_does_is_a_failed_response(platform: Simulator, name: str, says: str) -> None:
    response = await Model(name).run("hello")
    assert (response.status, response.completed) == (ResponseStatus.FAILED, True)
    assert response.error_message.startswith(says)


async def test_a_timeout_says_what_the_page_does(platform: Simulator) -> None:
    response = await Model("async-9999-m").run("hello", timeout=0.5)
    assert (response.status, response.completed) == (ResponseStatus.FAILED, False)
    assert response.error_message == "No response from the service."


async def test_run_stream_and_run_with_stream(platform: Simulator) -> None:
    for name in ("stream-m", "stream-done-m", "stream-text-m", "stream-openai-m", "stream-split-m", "stream-json-m"):
        model = Model(name, supports_streaming=True)
        for streamer in (model.run_stream("hello", {"k": 1}), await model.run("hello", stream=True)):
            responses = [response async for response in streamer]
            assert len("".join(response.data for response in responses).split()) == 6
            assert (streamer.status, responses[-1].completed) == (ResponseStatus.SUCCESS, True)
    for name in ("stream-cut-m", "stream-error-m", "stream-failed-m"):
        streamer = Model(name, supports_streaming=True).run_stream("hello")
        responses = [response async for response in streamer]
        assert streamer.status is ResponseStatus.FAILED
        assert responses[-1].error_message
    with pytest.raises(AssertionError, match="does not support streaming"):
        Model("stream-m").run_stream("hello")


async def test_check_finetune_status(platform: Simulator) -> None:
    model = Model("m-1")
    assert await model.check_finetune_status() == FinetuneStatus(
        AssetStatus.IN_PROGRESS, AssetStatus.TRAINING, 2.0, 0.3, 0.4
    )
    assert (await model.check_finetune_status(0)).epoch == 1.0
    assert (await model.check_finetune_status(after_epoch=9)).epoch is None
    assert (await Model("epochs-0-m").check_finetune_status()).epoch is None


async def test_delete(platform: Simulator) -> None:
    await Model("m-1").delete()
    with pytest.raises(
        ProviderError, match=r"^Model Deletion Error: Make sure the model exists and you are the owner\."
    ):
        await Model("kept-m").delete()


async def test_a_model_from_its_record(platform: Simulator) -> None:
    model = await ModelFactory.get("stream-m")
    assert (model.name, model.supports_streaming, model.function) == ("stream-m", True, "translation")
    assert (await ModelFactory.get(name="m-2")).id == "m-2"
    with pytest.raises(ProviderError, match=r"Failed to retrieve model missing-m\. Status Code: 404"):
        await ModelFactory.get("missing-m")
