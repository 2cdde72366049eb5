"""What the platform sends that it should not: it is read as far as it can be, else an error of ours says why not."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from aixplain_platform import Platform, Reply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import MalformedReply, ProviderError
from engine.clients.aixplain import (
    LLM,
    AssetStatus,
    FinetuneStatus,
    Function,
    FunctionType,
    Model,
    ModelFactory,
    ModelParameters,
    Supplier,
)
from engine.clients.aixplain.factory import made_of
from engine.clients.aixplain.parameters import finetune_status_of

HUGE = 10**400
RECORD: dict[str, Any] = {"id": "m-1", "name": "N", "function": {"id": "text-generation"}}
LOGS: dict[str, Any] = {"finetuneStatus": "completed", "modelStatus": "onboarded"}

LEFT_OUT: list[tuple[str, Any, str, Any]] = [
    ("params", 5, "model_params", None),
    ("params", {"a": 1}, "model_params", None),
    ("params", [5, None, {"name": 5}, {}], "model_params", None),
    ("createdAt", "garbage", "created_at", None),
    ("createdAt", HUGE, "created_at", None),
    ("name", 5, "name", ""),
    ("name", ["N"], "name", ""),
    ("description", {"a": 1}, "description", ""),
    ("version", {"id": 5}, "version", "5"),
    ("version", 7, "version", "7"),
    ("version", True, "version", None),
    ("version", [1], "version", None),
    ("version", {}, "version", None),
    ("supplier", [1], "supplier", Supplier.AIXPLAIN),
    ("supplier", HUGE, "supplier", HUGE),
    ("pricing", 5, "cost", None),
    ("status", [1], "status", AssetStatus.ONBOARDED),
    ("status", "unheard of", "status", AssetStatus.ONBOARDED),
    ("functionType", [1], "function_type", FunctionType.AI),
    ("functionType", HUGE, "function_type", FunctionType.AI),
    ("supportsStreaming", "yes", "supports_streaming", False),
    ("subscription", [1], "is_subscribed", True),
]


@pytest.mark.parametrize(("field", "said", "name", "value"), LEFT_OUT)
async def test_what_cannot_be_read_of_a_record_is_left_out(
    service: Platform, field: str, said: Any, name: str, value: Any
) -> None:
    service.answers("m-1", Reply(RECORD | {field: said}))
    model = await ModelFactory.get("m-1")
    assert (type(model), model.id) == (LLM, "m-1")
    assert getattr(model, name) == value
    json.dumps(model.to_dict(), allow_nan=False)


@pytest.mark.parametrize("first", [HUGE, "1e999", "NaN", "hot", [1], {"a": 1}, None, -HUGE])
async def test_a_temperature_that_is_none_is_the_usual_one(service: Platform, first: Any) -> None:
    row = {"name": "temperature", "defaultValues": [{"value": first}]}
    service.answers("m-1", Reply(RECORD | {"params": [row]}), Reply(RECORD | {"params": [row | {"defaultValues": 5}]}))
    for _ in range(2):
        model = await ModelFactory.get("m-1")
        assert isinstance(model, LLM)
        assert model.temperature == 0.001


@pytest.mark.parametrize(
    "record",
    [
        RECORD | {"function": [1]},
        RECORD | {"function": 5},
        RECORD | {"function": {"id": 5}},
        RECORD | {"function": {}},
        RECORD | {"function": ""},
        RECORD | {"id": "/../m"},
        RECORD | {"id": "a\nb"},
        RECORD | {"id": ""},
        RECORD | {"id": 5},
        {},
        [],
        5,
        None,
    ],
)
async def test_a_record_that_makes_no_model(service: Platform, record: Any) -> None:
    service.answers("m-1", Reply(record))
    with pytest.raises(MalformedReply, match=r"^Model GET Error: Failed to retrieve model ") as caught:
        await ModelFactory.get("m-1")
    assert "Nothing was sent" not in str(caught.value)


async def test_parameters_of_any_shape_are_shown(service: Platform) -> None:
    rows = [
        {"name": "a", "availableOptions": 5, "required": "yes", "isFixed": [1], "dataType": {"x": 1}},
        {"name": "b", "availableOptions": [5, {"value": 6}, {"label": 7}, None]},
        {"name": "parameters", "values": "x"},
    ]
    service.answers("m-1", Reply(RECORD | {"params": rows}))
    parameters = (await ModelFactory.get("m-1")).get_parameters()
    assert str(parameters) == (
        "Parameters:\n  - a: Not set (Required) [Fixed] [{'x': 1}] Options: [5]\n"
        "  - b: Not set (Optional) Options: [5, 6, None, None]\n  - parameters: Not set (Optional)"
    )
    assert isinstance(parameters, ModelParameters)
    assert parameters.to_dict()["a"]["availableOptions"] == 5


@pytest.mark.parametrize(
    ("logs", "epoch", "trained"),
    [
        (None, None, None),
        ([], None, None),
        ([5, None, [], {}, {"epoch": "1"}, {"epoch": HUGE}, {"epoch": True}, {"epoch": None}], None, None),
        ([{"epoch": 1, "trainLoss": HUGE}, {"epoch": HUGE, "trainLoss": 1}], 1.0, None),
        ([{"epoch": 1, "trainLoss": "low"}, {"epoch": 1, "trainLoss": 0.5}, {"epoch": 1, "trainLoss": True}], 1.0, 0.5),
    ],
)
async def test_what_is_no_number_in_a_log_is_passed_over(
    service: Platform, logs: Any, epoch: float | None, trained: float | None
) -> None:
    service.answers("ml-logs", Reply(LOGS | {"logs": logs}))
    status = await Model("m-1").check_finetune_status()
    assert status == FinetuneStatus(AssetStatus.COMPLETED, AssetStatus.ONBOARDED, epoch, trained, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (LOGS | {"logs": 5}, "no list, but int"),
        (LOGS | {"logs": {"epoch": 1}}, "no list, but dict"),
        (LOGS | {"finetuneStatus": [1]}, "for finetuneStatus, which is no status"),
        (LOGS | {"modelStatus": HUGE}, "for modelStatus, which is no status"),
        ({}, "None for finetuneStatus"),
        ([1], "None for finetuneStatus"),
        (b"<html>", "is not an answer"),
    ],
)
async def test_a_log_that_cannot_be_read_says_so(service: Platform, body: Any, says: str) -> None:
    service.answers("ml-logs", Reply(body))
    with pytest.raises(ProviderError, match=says):
        await Model("m-1").check_finetune_status()


@pytest.mark.parametrize("rows", [[5, None, []], [{"requestCountLimit": HUGE, "tokenCount": "x", "assetId": 5}]])
async def test_limits_of_any_shape_are_read(service: Platform, rows: Any) -> None:
    service.answers("usage-limits", Reply(rows))
    assert all(limit.quotas == () and limit.model is None for limit in await ModelFactory.usage_limits())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(HUGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([
    "name", "description", "supplier", "version", "function", "subscription", "pricing", "createdAt", "params",
    "supportsStreaming", "status", "functionType",
])  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(["epoch", "trainLoss", "evalLoss"]), ANYTHING)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.dictionaries(NAMES, ANYTHING), identity=st.text(min_size=1, max_size=8))
def test_any_record_is_a_model_or_an_error_of_ours(record: dict[str, Any], identity: str) -> None:
    with contextlib.suppress(MalformedReply):
        model = made_of({**record, "id": identity}, (Model, LLM), api_key="none")
        assert f"{model} {model.get_parameters()}"
        json.dumps(model.to_dict(), allow_nan=False)


@given(body=st.fixed_dictionaries({}, optional={"logs": ANYTHING | st.lists(ROWS), "finetuneStatus": ANYTHING}))
def test_any_log_is_a_status_or_an_error_of_ours(body: dict[str, Any]) -> None:
    for told in (body, LOGS | body):
        with contextlib.suppress(MalformedReply):
            assert finetune_status_of(told, 1).model_status is AssetStatus.ONBOARDED


def test_a_function_that_nobody_knows_makes_a_model() -> None:
    model = made_of(RECORD | {"function": {"id": "brand-new"}}, (Model, LLM), api_key="none")
    assert (type(model), model.function) == (Model, Function("brand-new"))
