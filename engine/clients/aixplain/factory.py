"""`ModelFactory`: models made of what the platform knows of them, and the limits that it keeps for a key.

A model whose id is known needs none of this: ``Model(id)`` runs. What is read here is its name, whether it streams, its
parameters, the temperature it starts from; and whether it is a language model, which becomes an `LLM`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import msgspec

from actors.limits import Quota
from engine.call import Call
from engine.clients.aixplain.access import Access, access_of, key_of
from engine.clients.aixplain.asset import ModelData
from engine.clients.aixplain.bodies import TEMPERATURE, checked_compat
from engine.clients.aixplain.checks import checked_id, checked_key, of_type, settings_of
from engine.clients.aixplain.enums import AssetStatus, Function, FunctionType, function_of
from engine.clients.aixplain.llm import LLM
from engine.clients.aixplain.model import Model
from engine.errors import MalformedReply, ProviderError, UsageError
from engine.providers.wire import count, mapping, text_or_none

M = TypeVar("M", bound=ModelData)

DAY_S = 86_400.0

_NOT_HAD = "Model GET Error: Failed to retrieve model"


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
    path = f"/sdk/models/{_part('model_id', model_id)}" if model_id else f"/sdk/models/by-name/{_part('name', name)}"
    way = _way(api_key, settings)
    call = await way.engine.invoke(way.record_call("GET", path, auth="token"))
    record = mapping(call.response)
    if call.error is not None or not text_or_none(record.get("id")):
        raise _failure(call, f"{_NOT_HAD} {model_id or name}.") from call.error
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
    rows = record.get("params")
    parameters = {
        row["name"]: row
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    }
    version = record.get("version")
    version = version.get("id") if isinstance(version, dict) else version
    supplier, cost, status = (record.get(name) for name in ("supplier", "pricing", "status"))
    arguments = {
        "id": record["id"],
        "name": text_or_none(record.get("name")) or "",
        "description": text_or_none(record.get("description")) or "",
        "supplier": supplier if supplier and isinstance(supplier, dict | str | int) else "aiXplain",
        "version": text_or_none(version) or (str(number) if (number := count(version)) is not None else None),
        "function": function,
        "is_subscribed": bool(record.get("subscription")),
        "cost": cost if isinstance(cost, dict) else None,
        "created_at": _time(record.get("createdAt")),
        "model_params": parameters or None,
        "supports_streaming": record.get("supportsStreaming") is True,
        "status": status if isinstance(status, str) else AssetStatus.ONBOARDED,
        "function_type": _function_type(record.get("functionType")),
    }
    is_llm = function is Function.TEXT_GENERATION
    if is_llm:
        arguments["temperature"] = _temperature(parameters)
    return is_llm, arguments


def made_of(record: Mapping[str, Any], kinds: tuple[type[M], type[M]], **ours: Any) -> M:
    """The model that a record describes, of the first kind, or of the second where it generates text.

    What of the record cannot be read is left out, but for its id and its function.

    Raises:
      MalformedReply: one of these two is none.
    """
    try:
        is_llm, arguments = model_arguments(record)
        checked_id(record["id"])
    except UsageError as error:  # of the platform's making
        problem = error.message.removesuffix(" Nothing was sent.")
        raise MalformedReply(f"{_NOT_HAD} {record['id']!a:.80}. Its record cannot be read: {problem}") from None
    return kinds[is_llm](**arguments, **ours)


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
          UsageError: an argument is of the wrong type, or there is no key. Nothing was sent.
          ProviderError: the platform does not know it, or did not say; the message holds what it said.
        """
        checked_compat(compat)
        record = await fetch_record(model_id, name, api_key, settings)
        return made_of(record, cls.models, api_key=api_key, compat=compat, settings=settings)

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
    access = access_of(key_of(checked_key(api_key), os.environ), settings_of(settings), "")
    access.check_key()
    return access


def _part(name: str, given: object) -> str:
    """A text as one part of a path."""
    try:
        return quote(str(of_type(name, given, str)), safe="")
    except UnicodeEncodeError:
        raise UsageError(f"{name} holds half a character, which cannot be written; nothing was sent") from None


def _time(said: object) -> datetime | None:
    try:
        return datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None


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
        temperature = float(first)  # type: ignore[arg-type]  # None is a TypeError
    except (TypeError, ValueError, OverflowError):
        return TEMPERATURE
    return temperature if math.isfinite(temperature) else TEMPERATURE
