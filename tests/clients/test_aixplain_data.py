"""What a model of aiXplain's is without asking anybody: its arguments, its key, its data, its parameters, its words."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from engine import UsageError
from engine.clients.aixplain import (
    LLM,
    Asset,
    AssetStatus,
    FinetuneStatus,
    Function,
    FunctionType,
    Model,
    ModelParameters,
    ModelResponse,
    ResponseStatus,
    Supplier,
)
from engine.portal import aixplain as blocking

KEY = "key-of-the-test-0123456789"
TEXT = Function.TEXT_GENERATION
PARAMS = {
    "text": {"required": True, "dataType": "text"},
    "temperature": {"value": 0.7, "isFixed": True, "availableOptions": [{"value": 1}]},
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEAM_API_KEY", "AIXPLAIN_API_KEY", "MODELS_RUN_URL", "BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", [Model, blocking.Model])
def test_an_id_is_enough(kind: type[Model]) -> None:
    model = kind("m-1", code="x", nothing=None)
    assert (model.id, model.name, model.description, model.version, model.function) == ("m-1", "", "", None, None)
    assert (model.supplier, model.status, model.function_type) == (
        Supplier.AIXPLAIN,
        AssetStatus.ONBOARDED,
        FunctionType.AI,
    )
    assert (model.supports_streaming, model.is_subscribed, model.cost, model.created_at) == (False, False, None, None)
    assert (model.input_params, model.output_params, model.model_params) == (None, None, None)
    assert (model.url, model.backend_url, model.api_key) == (
        "https://models.aixplain.com/api/v1/execute",
        "https://platform-api.aixplain.com",
        None,
    )
    assert model.additional_info == {"code": "x", "nothing": None}
    assert isinstance(model, Asset)


def test_every_argument_is_readable() -> None:
    when = datetime(2026, 11, 27, tzinfo=UTC)
    given: dict[str, Any] = {
        "name": "N", "description": "D", "api_key": KEY, "supplier": "openai", "version": "2", "function": TEXT,
        "is_subscribed": True, "cost": {"price": 1}, "created_at": when, "input_params": {"a": 1},
        "output_params": {"b": 2}, "supports_streaming": True, "status": AssetStatus.DRAFT,
        "function_type": FunctionType.UTILITY,
    }  # fmt: skip
    model = Model("m-1", **given, model_params=PARAMS)
    assert {name: getattr(model, name) for name in given} == given | {"supplier": Supplier.OPENAI}
    assert Model("m-1", status="hidden").status is AssetStatus.HIDDEN  # type: ignore[arg-type]  # as from the wire
    assert Model("m-1", status="unheard of").status is AssetStatus.ONBOARDED  # type: ignore[arg-type]


def test_a_key_comes_from_either_variable_and_two_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIXPLAIN_API_KEY", "second-key-123")
    assert Model("m-1").api_key == "second-key-123"
    assert LLM("m-1", "n", function=TEXT, api_key=None).api_key == "second-key-123"
    monkeypatch.setenv("TEAM_API_KEY", "first-key-4567")
    with pytest.raises(UsageError, match="Conflicting API keys") as caught:
        Model("m-1")
    assert "first-key" not in str(caught.value)
    assert Model("m-1", api_key=KEY).api_key == KEY
    monkeypatch.setenv("AIXPLAIN_API_KEY", "first-key-4567")
    assert Model("m-1").api_key == "first-key-4567"


def test_the_addresses_are_those_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_RUN_URL", "https://runs.example/api/v1/execute")
    monkeypatch.setenv("BACKEND_URL", "https://back.example/")
    model = Model("m-1", api_key=KEY)
    monkeypatch.setenv("BACKEND_URL", "not an address")
    assert (model.url, model.backend_url) == ("https://runs.example/api/v1/execute", "https://back.example")
    with pytest.raises(UsageError):
        Model("m-1", api_key=KEY)


def test_objects_for_one_model_share_their_way_unless_they_have_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {id(Model("m-1", api_key=KEY)._access) for _ in range(20)}
    assert len(ways) == 1
    others = [Model("m-2", api_key=KEY), Model("m-1", api_key="other-key-1"), Model("m-1", api_key=KEY, settings={
        "limit_requests": 1
    })]  # fmt: skip
    monkeypatch.setenv("BACKEND_URL", "https://back.example")
    others.append(Model("m-1", api_key=KEY))
    assert len(ways | {id(model._access) for model in others}) == 5


def test_no_key_gets_out_by_accident() -> None:
    for model in (Model("m-1", "N", api_key=KEY), LLM("m-1", "N", api_key=KEY, function=TEXT)):
        assert KEY not in f"{model!r} {model} {model.to_dict()} {vars(model)}"
        assert KEY.encode() not in pickle.dumps(model._access.key)


@pytest.mark.parametrize("setting", ["provider", "api_key", "model", "base_url", "endpoint", "temperature", "limits_"])
def test_settings_are_the_engines(setting: str) -> None:
    with pytest.raises(UsageError, match=setting):
        Model("m-1", settings={setting: "x"})
    with pytest.raises(UsageError, match="limit_requests"):
        Model("m-1", settings={"limit_requests": 0})
    with pytest.raises(UsageError, match="compat"):
        Model("m-1", compat="1.0")


@pytest.mark.parametrize(
    ("supplier", "held", "shown"),
    [
        ("aiXplain", Supplier.AIXPLAIN, "aiXplain"),
        ("OPENAI", Supplier.OPENAI, "OpenAI"),
        ("microsoft", Supplier.AZURE, "Microsoft"),
        ("Someone New", "Someone New", "Someone New"),
        (Supplier.GROQ, Supplier.GROQ, "Groq"),
        ({"id": 1777, "name": "OpenAI", "code": "openai"}, Supplier.OPENAI, "OpenAI"),
        ({"id": 9, "name": "New", "code": "new"}, {"id": 9, "name": "New", "code": "new"}, "New"),
        ({}, {}, "{}"),
        (1777, Supplier.OPENAI, "OpenAI"),
        (31337, 31337, "31337"),
    ],
)
def test_a_supplier_is_a_dict_a_text_a_number_or_itself(supplier: Any, held: object, shown: str) -> None:
    model = Model("m-1", "Name", supplier=supplier)
    assert model.supplier == held
    assert repr(model) == f"Model: Name by {shown} (id=m-1)"


def test_functions_and_statuses_are_words() -> None:
    assert Function("text-generation") is TEXT
    assert Function("brand-new") is Function("brand-new")
    assert (Function("brand-new").value, Function("brand-new").name) == ("brand-new", "BRAND_NEW")
    with pytest.raises(ValueError, match="None"):
        Function(None)  # type: ignore[arg-type]  # on purpose
    assert (str(ResponseStatus.SUCCESS), ResponseStatus("FAILED")) == ("SUCCESS", "FAILED")
    assert FunctionType("connector") is FunctionType.INTEGRATION
    assert {status.value for status in AssetStatus} >= {"draft", "onboarded", "in_progress", "deprecated_draft"}
    status = FinetuneStatus(AssetStatus.TRAINING, AssetStatus.DRAFT)
    assert (status.epoch, status.training_loss, status.validation_loss) == (None, None, None)


# --- as data ----------------------------------------------------------------------------------------------------------

TEN = {
    "id", "name", "description", "supplier", "additional_info", "input_params", "output_params", "model_params",
    "function", "status",
}  # fmt: skip


def test_to_dict_has_the_ten_keys_and_is_json() -> None:
    bare, full = Model("m-1"), Model("m-1", "N", function=TEXT, model_params=PARAMS, a=1, b=None, c=[], d={}, e=TEXT)
    for model in (bare, full):
        assert model.to_dict().keys() == TEN
        json.dumps(model.to_dict())
    assert bare.to_dict()["model_params"] is None
    told = full.to_dict()
    assert told["additional_info"] == {"a": 1, "e": "text-generation"}
    assert (told["function"], told["status"]) == ("text-generation", "onboarded")
    assert told["model_params"]["text"]["dataType"] == "text"


def test_what_was_written_is_read_again() -> None:
    model = Model("m-1", "N", "D", supplier="openai", function=TEXT, status=AssetStatus.DRAFT, model_params=PARAMS, a=1)
    told = model.to_dict()
    assert Model.from_dict(json.loads(json.dumps(told))).to_dict() == told
    again = LLM.from_dict(told)
    assert (type(again), again.to_dict()) == (LLM, told)


def test_from_dict_takes_the_seeds_keys() -> None:
    model = Model.from_dict({
        "id": "m-1", "name": "N", "description": "D", "api_key": KEY, "supplier": "aiXplain", "version": "3",
        "function": "translation", "is_subscribed": True, "cost": {"price": 1},
        "created_at": "2026-11-27T10:00:00+00:00", "input_params": {"a": 1}, "output_params": {"b": 1},
        "model_params": PARAMS, "additional_info": {"k": "v"},
    })  # fmt: skip
    assert (model.api_key, model.version, model.function) == (KEY, "3", Function.TRANSLATION)
    assert model.created_at == datetime(2026, 11, 27, 10, tzinfo=UTC)
    assert (model.is_subscribed, model.additional_info) == (True, {"k": "v"})
    assert Model.from_dict({"id": "m-1"}).version == "1.0"
    with pytest.raises(UsageError, match="created_at is a time in ISO form"):
        Model.from_dict({"id": "m-1", "created_at": "yesterday"})


def test_add_additional_info_for_benchmark() -> None:
    model = Model("m-1", a=1)
    model.add_additional_info_for_benchmark("Shown", {"k": 1})
    assert model.additional_info == {"a": 1, "displayName": "Shown", "configuration": {"k": 1}}


def test_an_asset_is_data_too() -> None:
    asset = Asset("a-1", "N", "D", supplier=1)
    assert asset.to_dict() | {"supplier": None} == {
        "id": "a-1", "name": "N", "description": "D", "supplier": None, "version": "1.0", "license": None,
        "privacy": "Private", "cost": None,
    }  # fmt: skip


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_are_attributes_with_known_names() -> None:
    assert Model("m-1").get_parameters() is None
    parameters = Model("m-1", model_params=PARAMS).get_parameters()
    assert isinstance(parameters, ModelParameters)
    assert (parameters.text, parameters.temperature) == (None, 0.7)
    parameters.text = "v"
    found = parameters.get_parameter("text")
    assert found is not None
    assert (found.value, found.required, parameters.get_parameter("nope")) == ("v", True, None)
    with pytest.raises(AttributeError, match=r"^Parameter 'nope' is not defined$"):
        _ = parameters.nope
    with pytest.raises(AttributeError, match=r"^Parameter 'nope' is not defined$"):
        parameters.nope = 1


def test_parameters_as_data_and_as_text() -> None:
    parameters = ModelParameters(PARAMS)
    assert parameters.to_list() == [{"name": "temperature", "value": 0.7}]
    assert parameters.to_dict()["text"] == {
        "name": "text", "required": True, "value": None, "isFixed": False, "values": [], "defaultValues": [],
        "availableOptions": [], "dataType": "text", "dataSubType": None, "multipleValues": False,
    }  # fmt: skip
    assert str(parameters) == (
        "Parameters:\n  - text: Not set (Required) [text]\n  - temperature: 0.7 (Optional) [Fixed] Options: [1]"
    )
    assert str(ModelParameters({})) == "No parameters defined"


# --- language models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LLM, blocking.LLM])
@pytest.mark.parametrize("function", [None, Function.TRANSLATION])
def test_a_language_model_generates_text(kind: type[LLM], function: Function | None) -> None:
    with pytest.raises(AssertionError) as caught:
        kind("m-1", "N", function=function)
    assert str(caught.value) == "LLM only supports large language models (i.e. text generation function)"


def test_the_temperature_of_a_language_model() -> None:
    assert LLM("m-1", "N", function=TEXT).temperature == 0.001
    assert LLM("m-1", "N", function=TEXT, temperature=0.4).temperature == 0.4
    assert LLM("m-1", "N", function=TEXT, compat="0.2.48").temperature is None
    model = LLM("m-1", "N", function=TEXT, supports_streaming=True, extra=1)
    assert (model.supports_streaming, model.additional_info) == (True, {"extra": 1})
    assert isinstance(model, Model)


# --- responses --------------------------------------------------------------------------------------------------------


def test_a_response_is_a_mapping_of_what_it_knows() -> None:
    response = ModelResponse(ResponseStatus.SUCCESS, data="x", usedBy="me")
    response["usedCredits"], response["data"], response["usedBy"] = 2.0, "y", "you"
    assert (response.used_credits, response.data, response.additional_fields) == (2.0, "y", {"usedBy": "you"})
    with pytest.raises(KeyError, match="Key 'nope' not found in ModelResponse"):
        response["nope"] = 1
    with pytest.raises(KeyError, match="Key 'nope' not found in ModelResponse"):
        _ = response["nope"]
    assert response.to_dict() == {
        "status": ResponseStatus.SUCCESS, "data": "y", "details": {}, "completed": False, "error_message": "",
        "used_credits": 2.0, "run_time": 0.0, "usage": None, "asset": None, "url": None, "error_code": None,
        "usedBy": "you",
    }  # fmt: skip
    assert repr(response) == "ModelResponse(status=SUCCESS, data='y', used_credits=2.0, usedBy='you')"
    json.dumps(response.to_dict())


def test_a_responses_error_may_be_told_in_several_fields() -> None:
    assert ModelResponse(ResponseStatus.FAILED, supplierError="quota").error_message == " - quota"
    assert ModelResponse(ResponseStatus.FAILED, error="e", supplierError="quota").error_message == "e - quota"
    assert ModelResponse(ResponseStatus.FAILED, error_message="m", supplierError="quota").error_message == "m"
