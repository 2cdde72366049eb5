"""The bodies of runs, of what a caller gives: his text as it is, his dicts merged into a new one.

A text is sent exactly as given: JSON in it stays a text, and the name of a file stays a name. Parameters win over a
dict of data, that over keyword arguments, these over the model's own. `compat` says whose body it is: ``"0.2.34"``, the
one that the seed documents, always sends temperature and top_p; ``"0.2.48"`` leaves them out unless they were given.

Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from engine.clients.aixplain.checks import writable
from engine.errors import InvalidCall, UsageError

Compat = Literal["0.2.34", "0.2.48"]
COMPATS = ("0.2.34", "0.2.48")

TEMPERATURE, TOP_P = 0.001, 1.0
"""What the seed's signatures say; with ``"0.2.48"`` they stand for nothing given."""


def checked_compat(compat: object) -> Compat:
    """The version, if it is one of those that are known."""
    if not isinstance(compat, str) or compat not in COMPATS:
        raise UsageError(f"compat is one of {', '.join(COMPATS)}, not {compat!a:.40}")
    return compat  # type: ignore[return-value]  # it is one of them


def model_body(data: Any, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The body of `Model.run`. A dict of data is the body; anything else stands under ``data``."""
    given = _checked(parameters)
    if not isinstance(data, Mapping):
        return _written({"data": data, **{name: value for name, value in given.items() if name != "data"}})
    return _written({**data, **given})


def llm_body(
    data: Any,
    parameters: Mapping[str, Any] | None,
    own_temperature: float | None,
    compat: Compat,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """The body of `LLM.run`: ``data``, then what was given, then the `fields` of its own that nobody gave."""
    given = dict(_checked(parameters))
    if isinstance(data, Mapping):
        given = {**data, **given}
        if "data" not in data and "text" in data:  # the newer form of the same request
            given.pop("data", None)
            return _written({**given, **_unless(given, own_temperature, compat, fields)})
        data = data.get("data", "")
    given.pop("data", None)
    return _written({"data": data, **given, **_unless(given, own_temperature, compat, fields)})


def _unless(
    given: Mapping[str, Any], own_temperature: float | None, compat: Compat, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a language model that are not given yet, in the order in which they are sent."""
    newer = compat == "0.2.48"
    wanted = dict(fields)
    if wanted["temperature"] is None:
        wanted["temperature"] = own_temperature
    left_out = {name for name in ("temperature", "top_p") if wanted[name] is None}
    if newer and wanted["top_p"] == TOP_P:
        left_out.add("top_p")
    if not newer and wanted["response_format"] is None:
        left_out.add("response_format")
    return {name: value for name, value in wanted.items() if name not in left_out and name not in given}


def _checked(parameters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidCall(
            f"parameters is a dict, not {type(parameters).__name__}; nothing was sent", argument="parameters"
        )
    return parameters or {}


def _written(body: dict[str, Any]) -> dict[str, Any]:
    writable(body)
    return body
