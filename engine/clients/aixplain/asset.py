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

from engine.clients.aixplain import checks
from engine.clients.aixplain.access import access_of, key_of
from engine.clients.aixplain.bodies import TEMPERATURE, checked_compat, llm_body, model_body
from engine.clients.aixplain.enums import (
    AssetStatus,
    Function,
    FunctionType,
    Supplier,
    function_of,
    function_type_of,
    status_of,
    supplier_of,
)
from engine.clients.aixplain.parameters import ModelParameters, parameters_of
from engine.clients.aixplain.plain import plain
from engine.errors import UsageError

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
        self.id = checks.checked_id(id)
        self.name = checks.of_type("name", name, str)
        self.description = checks.of_type("description", description, str)
        self.supplier = supplier_of(checks.of_type("supplier", supplier, dict, str, Supplier, int, optional=True))
        self.version = checks.of_type("version", version, str, optional=True)
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
        super().__init__(
            id, name, description, supplier, version, cost=checks.of_type("cost", cost, dict, optional=True)
        )
        self.compat = checked_compat(compat)
        self.function = function_of(function)
        self.is_subscribed = checks.of_type("is_subscribed", is_subscribed, bool)
        self.created_at = checks.of_type("created_at", created_at, datetime, optional=True)
        self.input_params = checks.of_type("input_params", input_params, dict, ModelParameters, optional=True)
        self.output_params = checks.of_type("output_params", output_params, dict, ModelParameters, optional=True)
        self.model_params = parameters_of(model_params)
        self.supports_streaming = checks.of_type("supports_streaming", supports_streaming, bool)
        self.status = status_of(checks.of_type("status", status, str, optional=True))
        self.function_type = function_type_of(function_type)
        of_engine = self._engine_settings(checks.settings_of(settings))
        self._access = access_of(key_of(checks.checked_key(api_key), os.environ), of_engine, id)
        self.url = self._access.run_url
        self.backend_url = self._access.backend_url
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

        Entries of `additional_info` that are None or empty are left out, and one that is called ``api_key``. What JSON
        has no word for is written as `engine.clients.aixplain.plain` says.
        """
        told = {name: plain(getattr(self, name)) for name in _WRITTEN}
        info = told["additional_info"].items()
        told["additional_info"] = {
            name: value for name, value in info if name != "api_key" and value is not None and value not in ([], {})
        }
        return told

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The model that a dict describes: the seed's keys, and `status` as `to_dict` writes it.

        `created_at` is in ISO form; without a version it is ``"1.0"``. What stands in ``additional_info`` stays there,
        whatever it is called.

        Raises:
          UsageError: something in it is missing, or of the wrong type, or cannot be read.
        """
        checks.of_type("what a model is made from", data, dict)
        told = checks.texts_in(
            "additional_info", checks.of_type("additional_info", data.get("additional_info") or {}, dict)
        )
        known = {name: data[name] for name in _READ if data.get(name) is not None and name != "additional_info"}
        model = cls(
            **{"id": None, "name": "", **known},
            version=data.get("version") or "1.0",
            created_at=_time(data.get("created_at")),
        )
        model.additional_info.update(told)
        return model

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
        if not _generates_text(function):
            raise AssertionError("LLM only supports large language models (i.e. text generation function)")
        self.temperature: float | None = checks.number("temperature", temperature)
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
        if self.compat == "0.2.48" and self.temperature == TEMPERATURE:
            self.temperature = None

    def _llm_body(self, data: Any, parameters: Mapping[str, Any] | None, *fields: Any) -> dict[str, Any]:
        """The body of a run with these fields, in the order of `LLMFields`."""
        return llm_body(data, parameters, self.temperature, self.compat, checks.llm_fields(*fields))


def _generates_text(function: Any) -> bool:
    try:
        return function_of(function) is Function.TEXT_GENERATION
    except UsageError:
        return False


_WRITTEN = (
    "id", "name", "description", "supplier", "additional_info", "input_params", "output_params", "model_params",
    "function", "status",
)  # fmt: skip
_READ = (*_WRITTEN, "api_key", "is_subscribed", "cost")
"""What `to_dict` writes, and what `from_dict` hands on as it stands."""


def _time(given: Any) -> Any:
    """A time that may be written in ISO form."""
    try:
        return datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise UsageError(f"created_at is a time in ISO form, not {given!a:.60}; nothing was sent") from None
