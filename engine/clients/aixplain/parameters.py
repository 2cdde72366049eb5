"""The parameters that a model documents, and how its fine-tuning stands: two shapes of aiXplain's SDK.

`ModelParameters` is read and set by attribute, for the names there are and no others. What is set there describes the
model and is not sent: a run sends what it is given.

Nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.clients.aixplain.checks import of_type
from engine.clients.aixplain.enums import AssetStatus
from engine.errors import MalformedReply


class Parameter(msgspec.Struct, kw_only=True):
    """One parameter of a model, as the platform describes it, with the value that was set."""

    name: str
    required: bool = False
    value: Any = None
    is_fixed: bool = False
    values: list[Any] = []
    default_values: list[Any] = []
    available_options: list[Any] = []
    data_type: str | None = None
    data_sub_type: str | None = None
    multiple_values: bool = False


_FIELDS = {
    "name": "name",
    "required": "required",
    "value": "value",
    "is_fixed": "isFixed",
    "values": "values",
    "default_values": "defaultValues",
    "available_options": "availableOptions",
    "data_type": "dataType",
    "data_sub_type": "dataSubType",
    "multiple_values": "multipleValues",
}
"""The fields of a `Parameter`, and what the platform calls them."""


class ModelParameters:
    """The parameters of a model by their names: ``parameters.temperature``, ``parameters.temperature = 0.5``.

    Raises:
      UsageError: `input_params` is no dict of dicts.
      AttributeError: from reading or setting a name that the model does not document.
    """

    parameters: dict[str, Parameter]

    def __init__(self, input_params: Mapping[str, Mapping[str, Any]]) -> None:
        self.parameters = {}
        for name, said in of_type("the parameters of a model", input_params, Mapping).items():
            of_type("the name of a parameter", name, str)
            of_type(f"what is said of the parameter {name!a:.60}", said, Mapping)
            fields = {
                field: said[wire] for field, wire in _FIELDS.items() if field != "name" and said.get(wire) is not None
            }
            self.parameters[name] = Parameter(name=name, **fields)

    def get_parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, None if there is none."""
        return self.parameters.get(name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All of them, as the platform writes them (camelCase)."""
        return {
            name: {wire: getattr(parameter, field) for field, wire in _FIELDS.items()}
            for name, parameter in self.parameters.items()
        }

    def to_list(self) -> list[dict[str, Any]]:
        """Name and value of those that have a value."""
        return [{"name": one.name, "value": one.value} for one in self.parameters.values() if one.value is not None]

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__.get("parameters", {}).get(name)
        if found is None:
            raise AttributeError(f"Parameter '{name}' is not defined")
        return found.value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "parameters":
            super().__setattr__(name, value)
        elif name in self.parameters:
            self.parameters[name].value = value
        else:
            raise AttributeError(f"Parameter '{name}' is not defined")

    def __str__(self) -> str:
        if not self.parameters:
            return "No parameters defined"
        lines = ["Parameters:"]
        for one in self.parameters.values():
            marks = ["(Required)" if one.required else "(Optional)"]
            marks += ["[Fixed]"] if one.is_fixed else []
            marks += [f"[{one.data_type}]"] if one.data_type else []
            if one.available_options:
                marks.append(f"Options: {_values(one.available_options)}")
            lines.append(f"  - {one.name}: {'Not set' if one.value is None else one.value} {' '.join(marks)}")
        return "\n".join(lines)


def _values(options: Any) -> list[Any]:
    """The values of options, of whatever shape the platform gave them."""
    listed = options if isinstance(options, list | tuple) else [options]
    return [option.get("value") if isinstance(option, Mapping) else option for option in listed]


def parameters_of(given: Any) -> ModelParameters | None:
    """The parameters that a dict describes; None where it is empty, or None."""
    if isinstance(given, ModelParameters):
        return given
    said = of_type("model_params", given, Mapping, optional=True)
    return ModelParameters(said) if said else None


class FinetuneStatus(msgspec.Struct):
    """How a fine-tuning stands; the last three are None until an epoch was logged."""

    status: AssetStatus
    model_status: AssetStatus
    epoch: float | None = None
    training_loss: float | None = None
    validation_loss: float | None = None


def finetune_status_of(body: Mapping[str, Any], after_epoch: float | None) -> FinetuneStatus:
    """The status that the platform's log tells: of the last epoch, or of the first one after `after_epoch`.

    Several rows of one epoch are one: each loss is the last that was logged. What is no number is passed over.

    Raises:
      MalformedReply: its log is no list, or one of the two statuses is none.
    """
    epochs: dict[float, dict[str, float]] = {}
    logs = body.get("logs") or []
    if not isinstance(logs, list):
        raise MalformedReply(f"the platform's log of the fine-tuning is no list, but {type(logs).__name__}")
    for row in logs:
        if isinstance(row, Mapping) and (number := _number(row.get("epoch"))) is not None:
            said = {name: _number(row.get(name)) for name in ("trainLoss", "evalLoss")}
            losses = epochs.setdefault(number, {})
            losses |= {name: value for name, value in said.items() if value is not None}
    known = sorted(epochs)
    if after_epoch is not None:
        known = [epoch for epoch in known if epoch > after_epoch][:1]
    epoch = known[-1] if known else None
    last = epochs[epoch] if epoch is not None else {}
    return FinetuneStatus(
        status=_status(body, "finetuneStatus"),
        model_status=_status(body, "modelStatus"),
        epoch=epoch,
        training_loss=last.get("trainLoss"),
        validation_loss=last.get("evalLoss"),
    )


def _status(body: Mapping[str, Any], name: str) -> AssetStatus:
    said: Any = body.get(name)
    try:
        return AssetStatus(said)
    except ValueError:
        text = f"the platform says {said!a:.80} for {name}, which is no status of an asset"
        raise MalformedReply(text) from None


def _number(value: object) -> float | None:
    """A finite number of the platform's; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int that no float holds
        return None
