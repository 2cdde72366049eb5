"""What a caller gives a model, held against the types that the seed's document states, before anything is sent.

Only types are stated there, and no ranges: a `top_p` of 9 is the service's to judge, and is sent. What has no type
there (a model's data) has to be something that JSON can hold, as it is: NaN, bytes and sets would arrive as something
else. An error names the argument, and never quotes a key.

Nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.errors import InvalidCall, UsageError
from engine.providers.aixplain import path_of
from engine.providers.arguments import checked

_TYPES = {str: "a text", bool: "True or False", dict: "a dict"}


class LLMFields(msgspec.Struct):
    """The fields that `LLM.run` has besides its data, in the order in which they are sent."""

    context: str | None = None
    prompt: str | None = None
    history: list[dict[str, Any]] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    response_format: Any = None


def checked_id(given: object) -> str:
    """An id that can stand in a path.

    Raises:
      InvalidCall: it is none.
    """
    if not isinstance(given, str) or not given:
        raise InvalidCall(f"id is that of a model on the platform, a text, not {_shown(given)}", argument="id")
    try:
        path_of(given)
    except InvalidCall as error:
        raise InvalidCall(f"id: {error.message.removeprefix('model: ')}", argument="id") from None
    return given


def of_type(name: str, given: Any, *kinds: type, optional: bool = False) -> Any:
    """The value, if it is of one of these types; None too if it is `optional`.

    Raises:
      UsageError: it is not. Values are not quoted: one may be a key.
    """
    if (given is None and optional) or isinstance(given, kinds):
        return given
    wanted = " or ".join(_TYPES.get(kind) or kind.__name__ for kind in kinds)
    raise UsageError(f"{name} is {wanted}, not {type(given).__name__}; nothing was sent")


def checked_key(given: object) -> str | None:
    """A key, or None."""
    return of_type("api_key", given, str, optional=True)  # type: ignore[no-any-return]  # a text now


def settings_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings as a dict of the caller's own names."""
    return texts_in("settings", of_type("settings", given, Mapping, optional=True) or {})


def texts_in(name: str, given: Mapping[Any, Any]) -> dict[str, Any]:
    """A copy of a dict whose names are texts."""
    for each in given:
        of_type(f"each name in {name}", each, str)
    return dict(given)


def number(name: str, given: Any) -> Any:
    """A finite number, or None.

    Raises:
      InvalidCall: it is another thing.
    """
    if given is None:
        return None
    try:
        if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given):
            return given
    except OverflowError:  # an int that no float holds
        pass
    raise InvalidCall(f"{name} is a number, not {_shown(given)}; nothing was sent", argument=name)


def run_name(given: object) -> str:
    """The name of a run, for logs."""
    if not isinstance(given, str):
        raise InvalidCall(f"name is a text, not {_shown(given)}; nothing was sent", argument="name")
    return given


def llm_fields(*given: Any) -> dict[str, Any]:
    """These arguments of `LLM.run`, in their order, by their names.

    Raises:
      InvalidCall: one is of another type than the seed's document states.
    """
    fields = dict(zip(LLMFields.__struct_fields__, given, strict=True))
    checked(fields, LLMFields, provider="aixplain", closed=False)
    return fields


def writable(body: Mapping[Any, Any]) -> None:
    """Refuse what the body of a run cannot hold.

    Raises:
      InvalidCall: something in it would not arrive as what it is; the argument is named.
    """
    for name, value in body.items():
        if not isinstance(name, str):
            raise InvalidCall(f"the names in a body are texts, not {_shown(name)}; nothing was sent", argument="data")
        try:
            problem = _problem(value)
        except RecursionError:
            problem = "something nested too deeply, or holding itself"
        if problem:
            raise InvalidCall(f"{name!a:.60}: JSON cannot hold {problem}; nothing was sent", argument=name)


def _problem(value: object) -> str:
    """What in a value JSON has no word for, and what would be written as something else; empty if there is nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    if isinstance(value, bytes | bytearray | memoryview | set | frozenset):
        return f"a value of type {type(value).__name__}"
    inner: Any = ()
    if isinstance(value, Mapping):
        if odd := [type(name).__name__ for name in value if not isinstance(name, str)]:
            return f"a name of type {odd[0]}"
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    return next((problem for each in inner if (problem := _problem(each))), "")


def _shown(value: object) -> str:
    """A value in an error: numbers and None as they are, the rest by its type."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -(10**9) < value < 10**9):
        return repr(value)
    return "an empty text" if value == "" else f"a value of type {type(value).__name__}"
