"""`Asset`, and the half of a model that asks nobody: what it is, what it sends, how it is written as data.

`ModelData` and `LLMData` hold the constructors of aiXplain's SDK and all that is the same in trio and in synchronous
code; `engine.clients.aixplain.model` and `engine.portal.aixplain` add the methods that wait.

The key is in no repr and in no dict. Nothing here waits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

import msgspec

from engine.clients.aixplain.access import Access, key_of
from engine.clients.aixplain.bodies import TEMPERATURE, checked_compat, llm_body, model_body
from engine.clients.aixplain.enums import (
    AssetStatus,
    Function,
    FunctionType,
    Supplier,
    function_of,
    status_of,
    supplier_of,
)
from engine.clients.aixplain.parameters import ModelParameters

M = TypeVar("M", bound="ModelData")


class Asset:
    """Anything the platform holds: id, name, description, supplier, version, license, privacy, cost."""

    def __init__(
        self,
        id: str,  # noqa: A002  # as the seed has it
        name: str,
        description: str,
        supplier: Any = Supplier.AIXPLAIN,
        version: str | None = "1.0",
        license: Any = None,  # noqa: A002
        privacy: Any = "Private",
        cost: Any = None,
    ) -> None:
        self.id = id
        self.name = name
        self.description = description
        self.supplier = supplier_of(supplier)
        self.version = version
        self.license = license
        self.privacy = privacy
        self.cost = cost

    def to_dict(self) -> dict[str, Any]:
        """What it is, as data that JSON can hold."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {name: plain(value) for name, value in shown.items()}


class ModelData(Asset):
    """What a model is. See `Model` for its arguments."""

    def __init__(
        self,
        id: str,  # noqa: A002  # as the seed has it
        name: str = "",
        description: str = "",
        api_key: str | None = None,
        supplier: dict[str, Any] | str | Supplier | int = "aiXplain",
        version: str | None = None,
        function: Function | None = None,
        is_subscribed: bool = False,
        cost: dict[str, Any] | None = None,
        created_at: datetime | None = None,
        input_params: dict[str, Any] | None = None,
        output_params: dict[str, Any] | None = None,
        model_params: dict[str, Any] | None = None,
        supports_streaming: bool = False,
        status: AssetStatus | None = AssetStatus.ONBOARDED,
        function_type: FunctionType | None = FunctionType.AI,
        *,
        compat: str = "0.2.34",
        settings: Mapping[str, Any] | None = None,
        **additional_info: Any,
    ) -> None:
        super().__init__(id, name, description, supplier, version, cost=cost)
        self.compat = checked_compat(compat)
        self._access = Access(key_of(api_key, os.environ), self._engine_settings(settings))
        self.url = self._access.run_url
        self.backend_url = self._access.backend_url
        self.function = function_of(function)
        self.is_subscribed = is_subscribed
        self.created_at = created_at
        self.input_params = input_params
        self.output_params = output_params
        self.model_params = ModelParameters(model_params) if model_params else None
        self.supports_streaming = supports_streaming
        self.status = status_of(status)
        self.function_type = function_type
        self.additional_info: dict[str, Any] = additional_info

    def _engine_settings(self, settings: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """What of the settings is the engine's: all of them."""
        return settings

    @property
    def api_key(self) -> str | None:
        """The key its requests are sent with, None if there is none."""
        return self._access.key.reveal() if self._access.key is not None else None

    def to_dict(self) -> dict[str, Any]:
        """The model as data that JSON can hold: ten fields, those of the seed. Never its key.

        Entries of `additional_info` that are None or empty are left out.
        """
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "supplier": plain(self.supplier),
            "additional_info": {
                name: plain(value) for name, value in self.additional_info.items() if value not in (None, [], {})
            },
            "input_params": plain(self.input_params),
            "output_params": plain(self.output_params),
            "model_params": plain(self.model_params.to_dict()) if self.model_params is not None else None,
            "function": plain(self.function),
            "status": plain(self.status),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The model that a dict describes: the seed's keys, and `status` as `to_dict` writes it.

        `created_at` is in ISO form; without a version it is ``"1.0"``.

        Raises:
          ValueError: `function` or `created_at` is none.
        """
        made = data.get("created_at")
        known = {
            name: data[name]
            for name in ("id", "name", "description", "api_key", "supplier", "function", "is_subscribed", "cost")
            if data.get(name) is not None
        }
        parts: dict[str, Any] = {name: data.get(name) for name in ("input_params", "output_params", "model_params")}
        return cls(
            **known,
            **parts,
            version=data.get("version") or "1.0",
            created_at=datetime.fromisoformat(made) if isinstance(made, str) else made,
            status=status_of(data.get("status", AssetStatus.ONBOARDED)),
            **(data.get("additional_info") or {}),
        )

    def get_parameters(self) -> ModelParameters | None:
        """The parameters it documents, None if there are none."""
        return self.model_params

    def add_additional_info_for_benchmark(self, display_name: str, configuration: dict[str, Any]) -> None:
        """Note under which name and configuration it is benchmarked, in `additional_info`."""
        self.additional_info["displayName"] = display_name
        self.additional_info["configuration"] = configuration

    def _body(self, data: Any, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        return model_body(data, parameters)

    def _check_streaming(self) -> None:
        if not self.supports_streaming:
            raise AssertionError(f"Model '{self.name} ({self.id})' does not support streaming")

    def __repr__(self) -> str:
        supplier = self.supplier
        shown = supplier.get("name", supplier) if isinstance(supplier, dict) else supplier
        return f"Model: {self.name} by {shown} (id={self.id})"


class LLMData(ModelData):
    """What a language model is. See `LLM` for its arguments."""

    def __init__(
        self,
        id: str,  # noqa: A002  # as the seed has it
        name: str,
        description: str = "",
        api_key: str | None = None,
        supplier: dict[str, Any] | str | Supplier | int = "aiXplain",
        version: str | None = None,
        function: Function | None = None,
        is_subscribed: bool = False,
        cost: dict[str, Any] | None = None,
        temperature: float | None = TEMPERATURE,
        function_type: FunctionType | None = FunctionType.AI,
        *,
        compat: str = "0.2.34",
        settings: Mapping[str, Any] | None = None,
        **additional_info: Any,
    ) -> None:
        if function is None or function_of(function) is not Function.TEXT_GENERATION:
            raise AssertionError("LLM only supports large language models (i.e. text generation function)")
        super().__init__(
            id,
            name,
            description,
            api_key,
            supplier,
            version,
            function,
            is_subscribed,
            cost,
            function_type=function_type,
            compat=compat,
            settings=settings,
            **additional_info,
        )
        self.temperature = None if self.compat == "0.2.48" and temperature == TEMPERATURE else temperature

    def _llm_body(self, data: Any, parameters: Mapping[str, Any] | None, **fields: Any) -> dict[str, Any]:
        return llm_body(data, parameters, self.temperature, self.compat, **fields)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: enums by their value, times in ISO form, the rest as text where it must be."""
    if isinstance(value, ModelParameters):
        return plain(value.to_dict())
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_plain_enum)


def _plain_enum(value: Any) -> Any:
    return value.value if isinstance(value, Supplier) else str(value)
