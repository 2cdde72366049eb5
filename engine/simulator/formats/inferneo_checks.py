"""What Inferneo's server refuses in a request: the fields it knows, their types and ranges, and its words for a fault.

The server declares its requests with pydantic, so it lists every fault with ``type``, ``loc``, ``msg`` and ``input``,
in the order of the fields, reads numbers written as strings, takes null only where it is declared, and ignores what it
does not know. Fields, ranges and words: recordings of the server at omkar-droid/inferneo 3492952 under FastAPI 0.165,
as of 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Detail: TypeAlias = dict[str, Any]
"""One fault."""
Place: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["int", "float", "bool", "str", "texts"]

_WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "int": ("integer", ", unable to parse string as an integer"),
    "float": ("number", ", unable to parse string as a number"),
    "bool": ("boolean", ", unable to interpret input"),
    "str": ("string", ""),
}
"""What each kind is called, and what is said besides of a text that is none."""
_TRUE: Final = frozenset(("1", "on", "t", "true", "y", "yes"))
_FALSE: Final = frozenset(("0", "off", "f", "false", "n", "no"))
_BOUNDS: Final = (
    ("gt", "greater_than", "greater than"),
    ("ge", "greater_than_equal", "greater than or equal to"),
    ("le", "less_than_equal", "less than or equal to"),
)


class _Field(NamedTuple):
    """One field of the requests: what it holds if it is there, and in what range."""

    name: str
    kind: Kind
    default: Any = None
    bounds: Mapping[str, float] = {}
    null: bool = False


_SAMPLING: Final = (
    _Field("max_tokens", "int", 128, {"ge": 1}, null=True),
    _Field("temperature", "float", 1.0, {"ge": 0}),
    _Field("top_p", "float", 1.0, {"gt": 0, "le": 1}),
    _Field("top_k", "int", -1, {"ge": -1}),
    _Field("min_p", "float", 0.0, {"ge": 0, "le": 1}),
    _Field("presence_penalty", "float", 0.0, {"ge": -2, "le": 2}),
    _Field("frequency_penalty", "float", 0.0, {"ge": -2, "le": 2}),
    _Field("repetition_penalty", "float", 1.0, {"gt": 0}),
    _Field("seed", "int", null=True),
    _Field("stop", "texts", [], null=True),
    _Field("ignore_eos", "bool", False),
    _Field("logprobs", "int", None, {"ge": 0}, null=True),
    _Field("stream", "bool", False),
    _Field("priority", "int", 0),
)


def fault(kind: str, loc: Place, text: str, given: object, ctx: Mapping[str, object] | None = None) -> Detail:
    """One fault, as the server lists it."""
    told: Detail = {"type": kind, "loc": ["body", *loc], "msg": text, "input": given}
    return told | ({"ctx": ctx} if ctx is not None else {})


def read_fields(arguments: Mapping[str, Any], faults: list[Detail]) -> dict[str, Any]:
    """The fields that both requests have, as the server understands them; what is wrong is added to `faults`."""
    read: dict[str, Any] = {}
    for field in _SAMPLING:
        given = arguments.get(field.name, field.default)
        if given is None and field.null:
            read[field.name] = field.default
            continue
        if field.kind == "texts":
            faults += _text_or_texts(field.name, given)
            read[field.name] = [given] if isinstance(given, str) else given
            continue
        value, wrong = _value(field.kind, (field.name,), given)
        wrong = wrong or _out_of_range(field, given, value)
        if wrong is not None:
            faults.append(wrong)
        read[field.name] = value
    return read


def model_of(arguments: Mapping[str, Any], faults: list[Detail]) -> str:
    """The model, any string; it is not looked at further."""
    given = _required(arguments, "model", (), faults)
    return given if isinstance(given, str) else ""


def prompt_of(arguments: Mapping[str, Any], faults: list[Detail]) -> list[str]:
    """The prompts of a completion."""
    if "prompt" not in arguments:
        faults.append(_missing((), "prompt", arguments))
        return []
    given = arguments["prompt"]
    faults += _text_or_texts("prompt", given)
    return given if isinstance(given, list) else [given]


def messages_of(arguments: Mapping[str, Any], faults: list[Detail]) -> list[dict[str, Any]]:
    """The messages of a chat."""
    if "messages" not in arguments:
        faults.append(_missing((), "messages", arguments))
        return []
    given = arguments["messages"]
    if not isinstance(given, list):
        faults.append(fault("list_type", ("messages",), "Input should be a valid list", given))
        return []
    for number, message in enumerate(given):
        place: Place = ("messages", number)
        if isinstance(message, dict):
            _required(message, "role", place, faults)
            faults += _content(message, place)
        else:
            text = "Input should be a valid dictionary or object to extract fields from"
            faults.append(fault("model_attributes_type", place, text, message))
    return given


def _content(message: Mapping[str, Any], place: Place) -> list[Detail]:
    if "content" not in message:
        return [_missing(place, "content", message)]
    content = message["content"]
    if isinstance(content, str):
        return []
    where: Place = (*place, "content", "list[dict[str,any]]")
    told = [fault("string_type", (*place, "content", "str"), "Input should be a valid string", content)]
    if not isinstance(content, list):
        return [*told, fault("list_type", where, "Input should be a valid list", content)]
    wrong = [
        fault("dict_type", (*where, number), "Input should be a valid dictionary", part)
        for number, part in enumerate(content)
        if not isinstance(part, dict)
    ]
    return told + wrong if wrong else []


def _required(given: Mapping[str, Any], name: str, place: Place, faults: list[Detail]) -> object:
    """A string that must be there."""
    if name not in given:
        faults.append(_missing(place, name, given))
        return None
    value, wrong = _value("str", (*place, name), given[name])
    if wrong is not None:
        faults.append(wrong)
    return value


def _missing(place: Place, name: str, given: object) -> Detail:
    return fault("missing", (*place, name), "Field required", given)


def _text_or_texts(name: str, given: object) -> list[Detail]:
    """What is wrong with what must be a string or a list of them: it says why it is neither."""
    if isinstance(given, str):
        return []
    told = [fault("string_type", (name, "str"), "Input should be a valid string", given)]
    if not isinstance(given, list):
        return [*told, fault("list_type", (name, "list[str]"), "Input should be a valid list", given)]
    wrong = [
        fault("string_type", (name, "list[str]", number), "Input should be a valid string", item)
        for number, item in enumerate(given)
        if not isinstance(item, str)
    ]
    return told + wrong if wrong else []


def _value(kind: Kind, loc: Place, given: Any) -> tuple[Any, Detail | None]:
    """A value as its kind, or why it is none."""
    what, unread = _WORDS[kind]
    text = f"Input should be a valid {what}"
    parsed = _parsed(kind, given)
    if parsed is not None:
        return parsed, None
    if kind == "int" and isinstance(given, float):
        return None, fault("int_from_float", loc, f"{text}, got a number with a fractional part", given)
    if kind != "str" and (isinstance(given, str) or (kind == "bool" and isinstance(given, int))):
        return None, fault(f"{kind}_parsing", loc, text + unread, given)
    return None, fault("string_type" if kind == "str" else f"{kind}_type", loc, text, given)


def _parsed(kind: Kind, given: Any) -> Any:
    """The value, None if it is not of its kind."""
    if kind == "str":
        return given if isinstance(given, str) else None
    if kind == "bool":
        whole = isinstance(given, float) and given in (0.0, 1.0)
        word = str(int(given) if whole else given).lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if not isinstance(given, (str, int, float)):
        return None
    try:
        number = float(given)
        if kind == "float":
            return number
        return int(given) if isinstance(given, str) or number == int(number) else None
    except (ValueError, OverflowError):
        return None


def _out_of_range(field: _Field, given: object, value: Any) -> Detail | None:
    for name, kind, words in _BOUNDS:
        bound = field.bounds.get(name)
        if bound is None or value is None:
            continue
        if value > bound if name == "gt" else value >= bound if name == "ge" else value <= bound:
            continue
        told = float(bound) if field.kind == "float" else bound
        text = f"Input should be {words} {bound:g}"
        return fault(kind, (field.name,), text, given, {name: told})
    if field.name == "top_k" and value == 0:
        return fault(
            "value_error", ("top_k",), "Value error, top_k must be -1 (disabled) or >= 1", given, {"error": {}}
        )
    return None
