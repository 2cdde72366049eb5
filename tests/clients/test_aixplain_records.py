"""What is asked of the platform besides runs: fine-tuning, deletion, records of models, the limits of a key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aixplain_platform import KEY, Platform, Reply

from actors.limits import Quota
from engine import MalformedReply, MissingKey, ProviderError
from engine.clients.aixplain import LLM, AssetStatus, FinetuneStatus, Function, Model, ModelFactory, Supplier

LOGS = [
    {"epoch": 2.0, "trainLoss": 0.3, "evalLoss": 0.4},
    {"epoch": 1.0, "trainLoss": 0.5, "evalLoss": None},
    {"epoch": 1.0, "trainLoss": None, "evalLoss": 0.6},
]
RECORD: dict[str, Any] = {
    "id": "m/1", "name": "N", "description": "D", "status": "onboarded", "function": {"id": "text-generation"},
    "functionType": "ai", "supplier": {"id": 1777, "name": "OpenAI", "code": "openai"}, "pricing": {"price": 1},
    "version": {"id": "v1"}, "supportsStreaming": True, "createdAt": "2026-11-27T00:00:00.000Z",
    "params": [
        {"name": "temperature", "required": False, "dataType": "number", "defaultValues": [{"value": "0.7"}]},
        {"name": "text", "required": True, "dataType": "text", "defaultValues": []},
    ],
}  # fmt: skip


# --- fine-tuning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "epoch", "trained", "held"),
    [(None, 2.0, 0.3, 0.4), (0, 1.0, 0.5, 0.6), (1, 2.0, 0.3, 0.4), (0.5, 1.0, 0.5, 0.6), (9, None, None, None)],
)
async def test_the_log_of_a_fine_tuning(
    service: Platform, after: int | None, epoch: float | None, trained: float | None, held: float | None
) -> None:
    service.answers("ml-logs", Reply({"finetuneStatus": "in_progress", "modelStatus": "training", "logs": LOGS}))
    status = await Model("m-1").check_finetune_status(after)
    assert status == FinetuneStatus(AssetStatus.IN_PROGRESS, AssetStatus.TRAINING, epoch, trained, held)
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.headers["x-api-key"]) == ("GET", "/sdk/finetune/m-1/ml-logs", KEY)


async def test_a_fine_tuning_without_logs_or_with_an_odd_epoch(service: Platform) -> None:
    told = {"finetuneStatus": "onboarding", "modelStatus": "onboarding"}
    service.answers("ml-logs", Reply(told | {"logs": []}), Reply(told | {"logs": [{"epoch": 1.5, "trainLoss": 1}]}))
    assert (await Model("m-1").check_finetune_status()).epoch is None
    assert (await Model("m-1").check_finetune_status()).training_loss == 1


async def test_why_a_fine_tuning_cannot_be_told(service: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    service.answers("ml-logs", Reply({"statusCode": 404, "message": "gone"}, 404))
    with pytest.raises(ProviderError, match="gone"):
        await Model("m-1").check_finetune_status()
    service.answers("ml-logs", Reply({"finetuneStatus": "odd", "modelStatus": "training", "logs": []}))
    with pytest.raises(MalformedReply, match="'odd' for finetuneStatus"):
        await Model("m-1").check_finetune_status()
    monkeypatch.delenv("TEAM_API_KEY")
    with pytest.raises(MissingKey, match="TEAM_API_KEY"):
        await Model("m-1").check_finetune_status()
    assert len(service.seen) == 2


# --- deletion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [Reply({"id": "m-1"}), Reply(b""), Reply(b"", 204)])
async def test_a_model_is_deleted(service: Platform, reply: Reply) -> None:
    service.answers("m-1", reply)
    await Model("m-1").delete()
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.headers["authorization"]) == ("DELETE", "/sdk/models/m-1", f"Token {KEY}")
    assert "x-api-key" not in seen.headers


async def test_a_model_that_is_not_deleted_says_why(service: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    service.answers("m-1", Reply({"message": "not yours"}, 403))
    with pytest.raises(ProviderError) as caught:
        await Model("m-1").delete()
    text = str(caught.value)
    assert text.startswith("Model Deletion Error: Make sure the model exists and you are the owner.")
    assert ("not yours" in text, caught.value.status, KEY in text) == (True, 403, False)
    monkeypatch.delenv("TEAM_API_KEY")
    with pytest.raises(MissingKey):
        await Model("m-1").delete()


# --- records ----------------------------------------------------------------------------------------------------------


async def test_a_record_makes_a_language_model(service: Platform) -> None:
    service.answers("1", Reply(RECORD))
    service.answers("m/1", Reply(RECORD))
    model = await ModelFactory.get("m/1")
    assert isinstance(model, LLM)
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.headers["authorization"]) == ("GET", "/sdk/models/m%2F1", f"Token {KEY}")
    assert (model.id, model.name, model.description, model.version) == ("m/1", "N", "D", "v1")
    assert (model.supplier, model.status, model.function) == (
        Supplier.OPENAI,
        AssetStatus.ONBOARDED,
        Function.TEXT_GENERATION,
    )
    assert (model.temperature, model.supports_streaming, model.cost) == (0.7, True, {"price": 1})
    assert model.created_at == datetime(2026, 11, 27, tzinfo=UTC)
    parameters = model.get_parameters()
    assert parameters is not None
    assert set(parameters.parameters) == {"temperature", "text"}


async def test_a_record_of_another_function_makes_a_model(service: Platform) -> None:
    service.answers("a name", Reply(RECORD | {"id": "m-2", "function": {"id": "translation"}, "params": []}))
    model = await ModelFactory.get(name="a name", compat="0.2.48", settings={"limit_requests": 3})
    assert (type(model), model.id, model.compat) == (Model, "m-2", "0.2.48")
    assert service.paths == ["GET /sdk/models/by-name/a%20name"]
    assert model._access.runs.lane.quotas == (Quota("requests", 3, 60.0),)


async def test_the_least_record_is_enough(service: Platform) -> None:
    service.answers("m-2", Reply({"id": "m-2", "function": {"id": "text-generation"}, "params": None}))
    model = await ModelFactory.get("m-2", api_key="another-key-123")
    assert isinstance(model, LLM)
    assert (model.temperature, model.name, model.api_key) == (0.001, "", "another-key-123")
    assert service.seen[0].headers["authorization"] == "Token another-key-123"


@pytest.mark.parametrize("arguments", [{}, {"model_id": "a", "name": "b"}, {"model_id": ""}])
async def test_exactly_one_of_id_and_name(service: Platform, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of 'model_id' or 'name'"):
        await ModelFactory.get(**arguments)
    assert service.seen == []


@pytest.mark.parametrize(
    ("reply", "status"), [(Reply({"message": "nobody"}, 404), 404), (Reply({"message": "nobody"}), 200)]
)
async def test_a_model_that_is_not_there(service: Platform, reply: Reply, status: int) -> None:
    service.answers("missing", reply)
    with pytest.raises(ProviderError) as caught:
        await ModelFactory.get("missing")
    text = f"Model GET Error: Failed to retrieve model missing. Status Code: {status}. Error: "
    assert caught.value.message.startswith(text)
    assert "nobody" in caught.value.message


async def test_the_limits_of_a_key_become_quotas(service: Platform) -> None:
    rows = [
        {"requestCount": 1, "requestCountLimit": 100, "tokenCount": 5, "tokenCountLimit": 2000},
        {"requestCount": 0, "requestCountLimit": 0, "tokenCount": None, "tokenCountLimit": None, "assetId": "m-1"},
    ]
    service.answers("usage-limits", Reply(rows), Reply({"message": "no"}, 403))
    whole, one = await ModelFactory.usage_limits()
    assert (whole.requests, whole.tokens, whole.model, one.model) == (1, 5, None, "m-1")
    assert whole.quotas == (Quota("requests", 100, 86_400.0), Quota("total_tokens", 2000, 86_400.0))
    assert one.quotas == ()
    assert service.seen[0].headers["authorization"] == f"Token {KEY}"
    model = Model("m-1", settings={"quotas": whole.quotas})
    assert model._access.runs.lane.quotas == whole.quotas
    with pytest.raises(ProviderError, match="API Key Usage Error"):
        await ModelFactory.usage_limits()
