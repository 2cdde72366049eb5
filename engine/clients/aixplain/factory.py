"""`ModelFactory`: models made of what the platform knows of them, and the limits that it keeps for a key.

A model whose id is known needs none of this: ``Model(id)`` runs. What is read here is its name, whether it streams, its
parameters, the temperature it starts from; and whether it is a language model, which becomes an `LLM`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from actors.limits import Quota
from engine.call import Call
from engine.clients.aixplain.access import Access, key_of
from engine.clients.aixplain.bodies import TEMPERATURE
from engine.clients.aixplain.enums import AssetStatus, Function, FunctionType, function_of
from engine.clients.aixplain.llm import LLM
from engine.clients.aixplain.model import Model
from engine.errors import MalformedReply, ProviderError
from engine.providers.wire import count, mapping, text_or_none

DAY_S = 86_400.0


class KeyLimit(msgspec.Struct, frozen=True):
    """What a key may do in a day, and has done today; None where the platform does not say. `model`: of that model."""

    requests: int | None
    requests_limit: int | None
    tokens: int | None
    tokens_limit: int | None
    model: str | None = None

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """The limits as quotas of a lane, for ``settings={"quotas": limit.quotas}``; a limit of 0 is left out."""
        found = (("requests", self.requests_limit), ("total_tokens", self.tokens_limit))
        return tuple(Quota(dimension, limit, DAY_S) for dimension, limit in found if limit)  # type: ignore[arg-type]  # two of its words


async def fetch_record(
    model_id: str | None, name: str | None, api_key: str | None, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the platform knows of one model, found by its id or its name."""
    if bool(model_id) == bool(name):
        raise ValueError("Must provide exactly one of 'model_id' or 'name'")
    way = _way(api_key, settings)
    path = f"/sdk/models/{quote(model_id, safe='')}" if model_id else f"/sdk/models/by-name/{quote(str(name), safe='')}"
    call = await way.engine.invoke(way.record_call("GET", path, auth="token"))
    record = mapping(call.response)
    if call.error is not None or not isinstance(record.get("id"), str):
        raise _failure(call, f"Model GET Error: Failed to retrieve model {model_id or name}.") from call.error
    return dict(record)


async def fetch_limits(api_key: str | None, settings: Mapping[str, Any] | None) -> list[KeyLimit]:
    """The limits in force for a key: those of all models, and those of single ones."""
    way = _way(api_key, settings)
    call = await way.engine.invoke(way.record_call("GET", "/sdk/api-keys/usage-limits", auth="token"))
    if call.error is not None or not isinstance(call.response, list):
        raise _failure(call, "API Key Usage Error: Failed to get usage.") from call.error
    return [
        KeyLimit(
            count(row.get("requestCount")),
            count(row.get("requestCountLimit")),
            count(row.get("tokenCount")),
            count(row.get("tokenCountLimit")),
            text_or_none(row.get("assetId")),
        )
        for row in map(mapping, call.response)
    ]


def model_arguments(record: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether a record is of a language model, and the arguments of the model that it describes."""
    function = function_of(record.get("function"))
    parameters = {
        row["name"]: row
        for row in record.get("params") or ()
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    }
    made = record.get("createdAt")
    version = record.get("version")
    arguments = {
        "id": record["id"],
        "name": record.get("name") or "",
        "description": record.get("description") or "",
        "supplier": record.get("supplier") or "aiXplain",
        "version": version.get("id") if isinstance(version, dict) else version,
        "function": function,
        "is_subscribed": bool(record.get("subscription")),
        "cost": record.get("pricing"),
        "created_at": datetime.fromisoformat(made) if isinstance(made, str) and made else None,
        "model_params": parameters or None,
        "supports_streaming": record.get("supportsStreaming") is True,
        "status": record.get("status") or AssetStatus.ONBOARDED,
        "function_type": _function_type(record.get("functionType")),
    }
    is_llm = function is Function.TEXT_GENERATION
    if is_llm:
        arguments["temperature"] = _temperature(parameters)
    return is_llm, arguments


class ModelFactory:
    """Models by their id or their name on the platform."""

    models: ClassVar[tuple[type[Model], type[LLM]]] = (Model, LLM)

    @classmethod
    async def get(
        cls,
        model_id: str | None = None,
        name: str | None = None,
        api_key: str | None = None,
        *,
        compat: str = "0.2.34",
        settings: Mapping[str, Any] | None = None,
    ) -> Model:
        """The model of this id, or of this name: an `LLM` where it generates text.

        `compat` and `settings` are those of the model; see `Model`.

        Raises:
          ValueError: neither id nor name is given, or both are.
          ProviderError: the platform does not know it, or did not say; the message holds what it said.
        """
        is_llm, arguments = model_arguments(await fetch_record(model_id, name, api_key, settings))
        made: Model = cls.models[is_llm](**arguments, api_key=api_key, compat=compat, settings=settings)
        return made

    @classmethod
    async def usage_limits(
        cls, api_key: str | None = None, *, settings: Mapping[str, Any] | None = None
    ) -> list[KeyLimit]:
        """What the platform allows the key in a day, as `KeyLimit` objects, whose `quotas` a lane takes.

        Raises:
          ProviderError: the platform did not say.
        """
        return await fetch_limits(api_key, settings)


def _way(api_key: str | None, settings: Mapping[str, Any] | None) -> Access:
    access = Access(
        key_of(api_key, os.environ), {"engine": settings["engine"]} if settings and "engine" in settings else {}
    )
    access.check_key()
    return access


def _failure(call: Call, text: str) -> ProviderError:
    """The error for a record that could not be had, in the seed's words."""
    said = bytes(call.reply.body[:2_000]).decode("utf-8", "replace") or str(call.error or "")
    status = call.reply.status
    kind = (
        type(call.error)
        if isinstance(call.error, ProviderError)
        else MalformedReply
        if not call.error
        else ProviderError
    )
    return kind(f"{text} Status Code: {status}. Error: {said}", status=status or None)


def _function_type(value: Any) -> FunctionType:
    try:
        return FunctionType(value or "ai")
    except ValueError:
        return FunctionType.AI


def _temperature(parameters: Mapping[str, Any]) -> float:
    """The temperature that the model starts from, as its record says."""
    defaults = mapping(parameters.get("temperature")).get("defaultValues")
    first = mapping(defaults[0]).get("value") if isinstance(defaults, list) and defaults else None
    try:
        return float(first)  # type: ignore[arg-type]  # None is a TypeError
    except (TypeError, ValueError):
        return TEMPERATURE
