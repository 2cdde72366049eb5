"""A value as JSON can hold it: how a model is written as data, whatever its caller put into it.

An enum is its value, a time its ISO form, bytes are base64, a set is a list, NaN and the infinities are their names, a
key that is no text is written as one, any other object is its text. What holds itself, or is nested deeper than a
hundred levels, is ``"..."`` there, as in Python's own repr.

Nothing here waits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from engine.clients.aixplain.parameters import ModelParameters

_DEEPEST = 100
_LONGEST_BITS = 1_024
"""Beyond it an int is no float either, and some readers of JSON refuse it."""


def plain(value: Any, above: frozenset[int] = frozenset()) -> Any:
    """The value, or a copy of it, of None, bools, numbers, texts, lists and dicts alone. `above`: what it stands in."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | str | int | float):
        return _scalar(value)
    if id(value) in above or len(above) >= _DEEPEST:
        return "..."
    inside = above | {id(value)}
    if isinstance(value, ModelParameters):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {_name(name): plain(item, inside) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item, inside) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(item, inside) for item in value]
    try:
        told = msgspec.to_builtins(value, str_keys=True, enc_hook=_text)
    except Exception:  # noqa: BLE001  # whatever an object of the caller's does when it is looked at
        return _text(value)
    return plain(told, inside)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode()  # half a character is none
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return f"{value:#x}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _name(name: Any) -> str:
    if isinstance(name, Enum):
        name = name.value
    if name is not None and not isinstance(name, bool | str | int | float):
        return _text(name)
    said = _scalar(name)
    return said if isinstance(said, str) else json.dumps(said)


def _text(value: Any) -> str:
    try:
        return str(_scalar(str(value)))
    except Exception:  # noqa: BLE001  # its own __str__
        return f"<{type(value).__name__}>"
