"""A call's arguments held against the schema of their endpoint, and written as JSON.

The schema is a `msgspec.Struct` with a field for each argument that is documented: types and ranges are its
annotations, required is what has no default, and `rename` gives the provider's own spelling, which callers may use as
well; so do the structs among its fields, of whose dicts unknown names are passed on. What is wrong is said in a
sentence that names the argument and what to do, and quotes no text of the caller's.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from engine.errors import InvalidCall, one_line

# What callers of other clients pass beside the arguments. In a body it would tell the provider, and its logs, a key.
_SECRETS = frozenset({
    "apikey", "authorization", "bearer", "access_token", "auth_token", "headers", "extra_headers", "default_headers",
})  # fmt: skip

_PLACE = re.compile(r"(?P<problem>.*) - at `(?:key` in `)?\$\.?(?P<place>[^`]*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")


def checked(
    arguments: Mapping[str, object], options: type[msgspec.Struct], *, provider: str, closed: bool
) -> dict[str, Any]:
    """The arguments under the names the provider knows them by, without those that are None.

    `closed`: the provider refuses arguments it does not know, so they are refused here. Otherwise they are passed on.

    Raises:
      InvalidCall: one is missing, of the wrong type, out of its range, unknown, given twice, or must never be sent.
    """
    wire_names = _wire_names(options)
    nested = _nested(options)
    payload: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for name, value in arguments.items():
        wire_name = wire_names.get(name)
        if wire_name is None:
            _refuse_secrets(name)
        if value is None:
            continue
        if wire_name is None:
            if closed:
                raise invalid(name, f"{provider} knows no such argument; {_nearest(name, wire_names)}")
            wire_name = name
        if wire_name in payload:
            raise invalid(name, "it is given twice, in two spellings; pass one of them")
        payload[wire_name] = _respelt(value, nested[wire_name], name) if wire_name in nested else value
        spelt[wire_name] = name
    try:
        msgspec.convert(payload, options)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:
        raise _refusal(error, spelt) from None
    return payload


def _refuse_secrets(name: object) -> None:
    if not isinstance(name, str):
        raise invalid(repr(name)[:60], "an argument's name must be a text")
    plain = name.lower().replace("-", "_")
    if plain in _SECRETS or plain.endswith("api_key"):
        raise invalid(name, "it is not part of a call and is never sent in its body; give it to iModel(...)")


def _refusal(error: Exception, spelt: Mapping[str, str]) -> InvalidCall:
    """What the schema refused, in our words and under the name that the caller used."""
    if isinstance(error, RecursionError):
        return invalid("arguments", "they are nested too deeply, or hold themselves")
    if isinstance(error, UnicodeEncodeError):
        return invalid("arguments", "a text in them holds half of a surrogate pair, which is no character")
    message = str(error)
    missing = _MISSING.match(message)
    found = _PLACE.match(message)
    place = found["place"] if found else ""
    problem = found["problem"] if found else message
    if missing:
        place = f"{place}.{missing['name']}" if place else missing["name"]
        problem = "it is missing"
    first = re.split(r"[.\[]", place, maxsplit=1)[0]
    place = spelt.get(first, first) + place[len(first) :]
    return invalid(place or "arguments", one_line(problem, 300))


@functools.cache
def _wire_names(options: type[msgspec.Struct]) -> dict[str, str]:
    """The provider's spelling of every argument, by that spelling and by ours."""
    names: dict[str, str] = {}
    for field in msgspec.structs.fields(options):
        names[field.name] = names[field.encode_name] = field.encode_name
    return names


@functools.cache
def _nested(options: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    """The types of those arguments that have a struct in them, by the provider's spelling."""
    info = inspect.type_info(options)
    fields = info.fields if isinstance(info, inspect.StructType) else ()
    return {field.encode_name: field.type for field in fields if _has_struct(field.type)}


def _has_struct(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(_has_struct(member) for member in kind.types)
    return isinstance(kind, inspect.StructType) or (isinstance(kind, inspect.ListType) and _has_struct(kind.item_type))


def _respelt(value: object, kind: inspect.Type, place: str) -> object:
    """A value in the provider's spelling as far as its type has names, without what is None there. A copy."""
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            value = _respelt(value, member, place)
        return value
    if isinstance(kind, inspect.ListType) and isinstance(value, (list, tuple)):
        return [_respelt(item, kind.item_type, f"{place}[{position}]") for position, item in enumerate(value)]
    if not isinstance(kind, inspect.StructType) or not isinstance(value, dict):
        return value
    names = _wire_names(kind.cls)
    types = _nested(kind.cls)
    respelt: dict[object, object] = {}
    for name, item in value.items():
        wire_name = names.get(name, name) if isinstance(name, str) else name
        if item is None:
            continue
        if wire_name in respelt:
            raise invalid(f"{place}.{name}", "it is given twice, in two spellings; pass one of them")
        respelt[wire_name] = _respelt(item, types[wire_name], f"{place}.{name}") if wire_name in types else item
    return respelt


def names_of(options: type[msgspec.Struct] | None) -> frozenset[str]:
    """What a schema's arguments are called, in both spellings."""
    return frozenset(_wire_names(options) if options is not None else ())


def _nearest(name: str, known: Mapping[str, str]) -> str:
    meant = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {meant[0]}?" if meant else f"it knows {', '.join(dict.fromkeys(known.values()))}"


def to_json(payload: Mapping[str, object]) -> bytes:
    """The body of a request.

    Raises:
      InvalidCall: something in it cannot be written as JSON; the message says which argument.
    """
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        culprit, problem = _unencodable(payload, error)
    raise invalid(culprit, f"it cannot be written as JSON ({problem}); pass plain dicts, lists, texts and numbers")


def _unencodable(payload: Mapping[str, object], error: Exception) -> tuple[str, str]:
    """Which argument JSON refused, and what it said of it, without quoting any text."""
    parts: dict[str, object] = {name: value for name, value in payload.items() if name != "messages"}
    messages = payload.get("messages")
    if isinstance(messages, list):
        parts |= {f"messages[{position}]": message for position, message in enumerate(messages)}
    for name, value in parts.items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError:
            return name, "it holds half of a surrogate pair, which is no character"
        except RecursionError:
            return name, "it is nested too deeply, or holds itself"
        except (TypeError, ValueError, OverflowError) as refused:
            return name, str(refused)[:200]
    return "arguments", type(error).__name__


def invalid(argument: str, problem: str) -> InvalidCall:
    """The error for one argument: what is wrong with it, and what to do."""
    stop = "" if problem.endswith("?") else "."
    return InvalidCall(f"{argument}: {problem}{stop} Nothing was sent.", argument=argument)
