"""What a caller gets wrong: each argument of the wrong type is refused by its name, and nothing is sent.

Only types are stated by the seed's document; a range is the service's to judge, and what is out of one is sent.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aixplain_platform import KEY, Platform, stream

from engine import InvalidCall, UsageError
from engine.clients.aixplain import LLM, Function, Model, ModelFactory
from engine.portal import aixplain as blocking

TEXT = Function.TEXT_GENERATION
HALF = "\ud800"
HUGE = 10**400
HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


# --- what a model is --------------------------------------------------------------------------------------------------

OF_A_MODEL: list[tuple[str, Any]] = [
    *[("id", value) for value in (None, 5, "", b"m-1", ["m-1"], "/m-1", "a/../b", "a\nb", HALF)],
    *[("name", value) for value in (b"N", 5, None, ["N"])],
    *[("description", value) for value in (b"D", 5, None)],
    *[("api_key", value) for value in (5, [1], KEY.encode(), {"key": KEY})],
    *[("supplier", value) for value in (b"openai", [1], 1.5)],
    *[("version", value) for value in (1, b"1", ["1"])],
    *[("function", value) for value in (5, "", " x ", b"search", [1], {"id": 5}, {})],
    *[("is_subscribed", value) for value in ("no", 1, None)],
    *[("cost", value) for value in (5, "x", [1])],
    *[("created_at", value) for value in ("x", "2026-11-27", 5)],
    *[("input_params", value) for value in (5, "x", [1])],
    *[("output_params", value) for value in (5, "x", [1])],
    *[("model_params", value) for value in (5, "x", [1])],
    *[("supports_streaming", value) for value in ("no", 1, None)],
    *[("status", value) for value in (5, [1], b"draft")],
    *[("function_type", value) for value in (5, [1], "unheard of")],
    *[("compat", value) for value in (5, None, "1.0", ["0.2.34"])],
    *[("settings", value) for value in (5, "x", [1], {5: 1, "engine": None})],
]


@pytest.mark.parametrize("kind", [Model, blocking.Model], ids=["trio", "blocking"])
@pytest.mark.parametrize(("name", "value"), OF_A_MODEL, ids=lambda value: ascii(value)[:30])
def test_what_a_model_is_has_its_type(
    kind: type[Model], name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_API_KEY", KEY)
    with pytest.raises(UsageError) as caught:
        kind(**{"id": "m-1", name: value})
    assert str(caught.value).startswith((name, f"each name in {name}"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("told", "says"), [
    ({5: {}}, "the name of a parameter"),
    ({"text": 5}, "what is said of the parameter 'text'"),
])  # fmt: skip
def test_the_parameters_of_a_model_are_dicts(told: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Model("m-1", model_params=told)


@pytest.mark.parametrize("kind", [LLM, blocking.LLM], ids=["trio", "blocking"])
def test_what_a_language_model_is_has_its_type(kind: type[LLM]) -> None:
    for value in ("hot", True, [0.5], math.nan, math.inf, HUGE):
        with pytest.raises(InvalidCall, match="temperature is a number"):
            kind("m-1", "N", function=TEXT, temperature=value)  # type: ignore[arg-type]  # on purpose
    for function in (5, "", [1], b"text-generation"):
        with pytest.raises(AssertionError, match="LLM only supports large language models"):
            kind("m-1", "N", function=function)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="'name'"):
        kind("m-1", function=TEXT)  # type: ignore[call-arg]  # as in the seed's signature


# --- from a dict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Model, blocking.Model], ids=["trio", "blocking"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (5, "a model is made from is a dict"),
        (None, "a model is made from is a dict"),
        ([("id", "m-1")], "a model is made from is a dict"),
        ({}, "id is that of a model"),
        ({"name": "N"}, "id is that of a model"),
        ({"id": 5}, "id is that of a model"),
        ({"id": "m-1", "additional_info": 5}, "additional_info is a dict"),
        ({"id": "m-1", "additional_info": {5: 1}}, "each name in additional_info is a text"),
        ({"id": "m-1", "created_at": "yesterday"}, "created_at is a time in ISO form"),
        ({"id": "m-1", "created_at": 5}, "created_at is datetime"),
        ({"id": "m-1", "version": 3}, "version is a text"),
        ({"id": "m-1", "function": 5}, "function names what a model does"),
        ({"id": "m-1", "status": 5}, "status is a text"),
        ({"id": "m-1", "api_key": [1]}, "api_key is a text"),
        ({"id": "m-1", "is_subscribed": "no"}, "is_subscribed is True or False"),
    ],
)
def test_a_dict_that_is_no_model(kind: type[Model], data: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        kind.from_dict(data)


def test_a_dict_without_a_function_is_a_model_and_no_language_model() -> None:
    assert Model.from_dict({"id": "m-1"}).function is None
    with pytest.raises(AssertionError, match="LLM only supports large language models"):
        LLM.from_dict({"id": "m-1", "name": "N"})


@pytest.mark.parametrize("kind", [Model, LLM, blocking.Model, blocking.LLM])
def test_additional_info_of_a_dict_is_no_argument(kind: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_API_KEY", KEY)
    info = {
        "id": "other", "name": "other", "api_key": "another-key-123", "settings": {"limit_requests": 1}, "compat": "?",
        "temperature": "hot", "self": 1, "supports_streaming": "no",
    }  # fmt: skip
    model = kind.from_dict({"id": "m-1", "name": "N", "function": "text-generation", "additional_info": info})
    assert (model.id, model.name, model.api_key, model.compat) == ("m-1", "N", KEY, "0.2.34")
    assert (model.supports_streaming, model._access.runs.lane.quotas) == (False, ())
    assert model.additional_info == info
    told = model.to_dict()["additional_info"]
    assert told == {name: value for name, value in info.items() if name != "api_key"}  # a key is in no dict


# --- a run ------------------------------------------------------------------------------------------------------------


def a_model() -> Model:
    return Model("m-1", "N", supports_streaming=True)


def an_llm() -> LLM:
    return LLM("m-1", "N", function=TEXT, supports_streaming=True)


UNWRITABLE: list[Any] = [
    object(), b"x", {"x": b"x"}, {1, 2}, [{"x": {1}}], math.nan, {"x": [math.inf]}, {(1, 2): 3}, {"x": {(1, 2): 3}},
    HALF, {"x": HALF}, 1 << 100_000, HOLDS_ITSELF, {"x": HOLDS_ITSELF}, {5: 1}, {"x": {None: 1}},
]  # fmt: skip


@pytest.mark.parametrize("data", UNWRITABLE, ids=range(len(UNWRITABLE)))
async def test_data_that_json_cannot_hold(service: Platform, data: Any) -> None:
    for model in (a_model(), an_llm()):
        for given in ({"data": data}, {"data": "hello", "parameters": {"x": data}}):
            for method in (model.run, model.run_async, partial(model.run, stream=True)):
                with pytest.raises(InvalidCall):
                    await method(**given)
            with pytest.raises(InvalidCall):
                model.run_stream(**given)
    assert service.seen == []


OF_A_RUN: list[tuple[str, Any]] = [
    *[("context", value) for value in (5, b"x", ["x"])],
    *[("prompt", value) for value in (5, b"x", {})],
    *[("history", value) for value in ("x", [1], {"role": "user"}, [["role", "user"]], [{5: 1}], 5)],
    *[("temperature", value) for value in ("hot", True, [1], math.nan, math.inf, HUGE)],
    *[("max_tokens", value) for value in ("x", True, 1.5, [1])],
    *[("top_p", value) for value in ("x", True, math.nan, HUGE)],
]


@pytest.mark.parametrize(("name", "value"), OF_A_RUN, ids=lambda value: ascii(value)[:30])
async def test_what_a_language_model_is_told_has_its_type(service: Platform, name: str, value: Any) -> None:
    for call in (
        lambda: an_llm().run("hello", **{name: value}),
        lambda: an_llm().run_async("hello", **{name: value}),
        lambda: an_llm().run("hello", stream=True, **{name: value}),
    ):
        with pytest.raises(InvalidCall) as caught:
            await call()
        assert caught.value.argument.startswith(name)
        assert name in str(caught.value)
    assert service.seen == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("parameters", 5), ("parameters", ["x"]), ("parameters", "x"), ("name", 5), ("name", None), ("name", b"x")],
)
async def test_parameters_are_a_dict_and_a_name_is_a_text(service: Platform, name: str, value: Any) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = []
    for model in (a_model(), an_llm()):
        calls += [
            lambda model=model: model.run("hello", **{name: value}),
            lambda model=model: model.run("hello", stream=True, **{name: value}),
            lambda model=model: model.run_async("hello", **{name: value}),
        ]
    if name == "name":
        calls += [lambda: a_model().poll(service.url, value), lambda: a_model().sync_poll(service.url, value)]
    for call in calls:
        with pytest.raises(InvalidCall) as caught:
            await call()
        assert caught.value.argument == name
    assert service.seen == []


@pytest.mark.parametrize("name", ["timeout", "wait_time"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "x", HUGE, True, [1]], ids=lambda value: ascii(value)[:30])
async def test_times_are_seconds(service: Platform, name: str, value: Any) -> None:
    for call in (
        lambda: a_model().run("hello", **{name: value}),
        lambda: an_llm().run("hello", **{name: value}),
        lambda: a_model().sync_poll(f"{service.url}/api/v1/data/1", **{name: value}),
    ):
        with pytest.raises(InvalidCall) as caught:
            await call()
        assert caught.value.argument == name
    assert service.seen == []


@pytest.mark.parametrize("url", [None, 5, "", b"http://127.0.0.1"])
async def test_an_address_to_poll_is_a_text(service: Platform, url: Any) -> None:
    for call in (a_model().poll(url), a_model().sync_poll(url)):
        with pytest.raises(InvalidCall) as caught:
            await call
        assert caught.value.argument == "poll_url"
    assert service.seen == []


@pytest.mark.parametrize("epoch", ["x", [1], True, math.nan, HUGE])
async def test_an_epoch_is_a_number(service: Platform, epoch: Any) -> None:
    with pytest.raises(InvalidCall, match="after_epoch is a number"):
        await a_model().check_finetune_status(epoch)
    assert service.seen == []


async def test_what_the_service_judges_is_sent(service: Platform) -> None:
    given: dict[str, Any] = {"temperature": -9, "max_tokens": -1, "top_p": 9, "history": [], "context": ""}
    await an_llm().run("", **given)
    assert service.seen[0].body == {"data": "", "prompt": None, **given}
    await an_llm().run("x", max_tokens=0, history=({"role": "user"},))  # type: ignore[arg-type]  # a tuple will do
    assert (service.seen[1].body["max_tokens"], service.seen[1].body["history"]) == (0, [{"role": "user"}])
    parameters = {"max_tokens": "many", "temperature": "hot", "n": HUGE}
    await an_llm().run("x", parameters=parameters)
    assert service.seen[2].body.items() >= parameters.items()


# --- the factory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, ValueError, "exactly one of 'model_id' or 'name'"),
        ({"model_id": "a", "name": "b"}, ValueError, "exactly one of 'model_id' or 'name'"),
        ({"model_id": 5}, UsageError, "model_id is a text"),
        ({"model_id": b"m-1"}, UsageError, "model_id is a text"),
        ({"name": 5}, UsageError, "name is a text"),
        ({"model_id": HALF}, UsageError, "model_id holds half a character"),
        ({"name": HALF}, UsageError, "name holds half a character"),
        ({"model_id": "a", "api_key": 5}, UsageError, "api_key is a text"),
        ({"model_id": "a", "settings": 5}, UsageError, "settings is"),
        ({"model_id": "a", "compat": 5}, UsageError, "compat is one of"),
        ({"model_id": "a", "settings": {"limits_": 5}}, UsageError, "limits_"),
    ],
)
async def test_a_model_that_cannot_be_asked_for(
    service: Platform, arguments: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await ModelFactory.get(**arguments)
    assert service.seen == []


async def test_the_limits_of_what_is_no_key(service: Platform) -> None:
    with pytest.raises(UsageError, match="api_key is a text"):
        await ModelFactory.usage_limits(5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UsageError, match="settings is"):
        await ModelFactory.usage_limits(settings=5)  # type: ignore[arg-type]  # on purpose
    assert service.seen == []


def test_synchronous_code_is_told_the_same(platform: Platform) -> None:
    platform.answers("m-1", stream("data: [DONE]"))
    model, llm = blocking.Model("m-1", "N", supports_streaming=True), blocking.LLM("m-1", "N", function=TEXT)
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.run(b"x"), "data"),
        (lambda: model.run("x", name=5), "name"),  # type: ignore[arg-type]  # on purpose, and so below
        (lambda: model.run("x", name=5, stream=True), "name"),  # type: ignore[arg-type]
        (lambda: model.run("x", timeout="soon"), "timeout"),  # type: ignore[arg-type]
        (lambda: model.run_async("x", parameters=5), "parameters"),  # type: ignore[arg-type]
        (lambda: model.poll("x", 5), "name"),  # type: ignore[arg-type]
        (lambda: model.sync_poll("x", wait_time=-1), "wait_time"),
        (lambda: model.check_finetune_status("x"), "after_epoch"),  # type: ignore[arg-type]
        (lambda: llm.run("x", max_tokens="x"), "max_tokens"),  # type: ignore[arg-type]
        (lambda: llm.run_async("x", history=[1]), "history"),  # type: ignore[list-item]
    ]
    for call, argument in calls:
        with pytest.raises(InvalidCall) as caught:
            call()
        assert caught.value.argument.startswith(argument)
    for get in (lambda: blocking.ModelFactory.get(5), lambda: blocking.ModelFactory.get("m-1", settings=5)):  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            get()
    assert platform.seen == []
