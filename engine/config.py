"""The configuration file: TOML text in, an `EngineConfig` out, and every mistake named with its place.

A key nobody knows is refused, never ignored: a limit misspelt is a limit not kept. Secrets have no place in the file,
which names the environment variable that holds a key and nothing more; no message repeats a value that could be one.
What a quota's numbers may be is decided by `actors.limits.Quota` alone; what a flow, its weight and a lane's other
numbers may be is decided here, for `iModel` and for calls as well, and a section made by hand is checked like a file.

Pure: the caller reads the file. No trio, no I/O, no environment.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Meta

from actors.limits import Quota, is_text
from engine.errors import UsageError

Count = Annotated[int, Meta(ge=1, le=1 << 53)]
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]
Name = Annotated[str, Meta(min_length=1)]

QUEUE_CAPACITY = 10_000
AGEING_S = 60.0
MAX_WEIGHT = 1_000_000
MAX_FLOW_CHARS = 200
FLOW_RULE = f"a text of at most {MAX_FLOW_CHARS} characters"
"""What a call's flow is, and so what a weight can stand for: one for any other name would be a mistake."""

Weight = Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]

_Section = TypeVar("_Section", bound=msgspec.Struct)


def is_flow(value: object) -> bool:
    """Whether a call can be in such a flow: `FLOW_RULE`."""
    return isinstance(value, str) and len(value) <= MAX_FLOW_CHARS and is_text(value)


def weight_fault(flow: object, weight: object) -> str:
    """What is wrong with a flow's weight, as the rest of a sentence that begins with its place; "" if nothing is."""
    return fault_in(weight, Weight) if is_flow(flow) else f"must stand for a flow, {FLOW_RULE}"


def fault_in(value: object, kind: object) -> str:
    """The same for a value that is to be of the type `kind`. The value, which may be a secret, is not repeated."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return _in_words(str(error), kind)
    except UnicodeEncodeError:
        return "must be text that can be written as UTF-8"
    return ""


_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`str | null`": "text",
    "`int | null`": "a whole number",
    "`float | null`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
}


def _in_words(what: str, kind: object) -> str:
    """msgspec's sentence about a value, in the words of somebody who writes TOML. `kind` is the type of the field."""
    if what.startswith("Invalid enum value"):
        return f"must be one of {', '.join(repr(choice) for choice in get_args(kind))}"
    if what.startswith("Object missing required field"):
        return f"the key {what.split()[-1].strip('`')} is missing; add it"
    if what.startswith("Number out of range"):
        return "must be a number that a float can hold"
    for type_name, words in _WORDS.items():
        what = what.replace(type_name, words)
    return what.replace("Expected", "must be", 1).replace(", got ", ", not ", 1)


class _Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section that is in order however it was made; by itself msgspec looks only at what it decodes."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a value that the file could not hold either."""
        for name, kind in _kinds(type(self)).items():
            if fault := fault_in(getattr(self, name), kind):
                raise UsageError(f"{type(self).__name__}: {name} {fault}")


@functools.cache
def _kinds(section: type[msgspec.Struct]) -> dict[str, object]:
    return get_type_hints(section, include_extras=True)


class EngineSection(_Checked, frozen=True, forbid_unknown_fields=True):
    """``[engine]``: `max_queued` bounds the calls queued in all lanes together; `drain_deadline_s` is how long a drain
    waits for what is in flight. `http` is the way providers are spoken to: ``own`` is the engine's own wire, without
    proxies; ``httpx`` goes through httpx; ``auto`` is the former, unless a proxy stands before an address or `http2`
    asks for HTTP/2, which only httpx speaks."""

    max_queued: Count = 1_000_000
    drain_deadline_s: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 30.0
    http: Literal["auto", "own", "httpx"] = "auto"
    http2: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.http2 and self.http == "own":
            raise UsageError('http2 = true needs http = "httpx" or "auto": the engine\'s own wire speaks HTTP/1.1')


class LaneSection(_Checked, frozen=True, forbid_unknown_fields=True):
    """``[lanes.NAME]`` with its ``[[lanes.NAME.quotas]]`` and ``[lanes.NAME.weights]``. `queue_capacity` counts the
    calls waiting, `concurrency_limit` those in flight (None: as many as the endpoint has connections). `ageing_s` is
    what one step of priority is worth in waiting. A flow that is not among the weights has the weight 1.
    ``limits = "learn"`` finds the limits that are not stated, counted in windows of `interval_s`."""

    queue_capacity: Count = QUEUE_CAPACITY
    concurrency_limit: Count | None = None
    ageing_s: Seconds = AGEING_S
    limits: Literal["learn"] | None = None
    interval_s: Seconds = 60.0
    weights: dict[str, Weight] = {}
    quotas: tuple[Quota, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.weights, Mapping):
            for flow, weight in self.weights.items():
                if fault := weight_fault(flow, weight):
                    raise UsageError(f"LaneSection: weights[{flow!a:.80}] {fault}")
        super().__post_init__()


class _Lanes(msgspec.Struct, frozen=True):
    lanes: Annotated[tuple[Name, ...], Meta(min_length=1)]


class SharedQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[quotas]]``: one quota that stands over several lanes at once."""

    quota: Quota
    lanes: tuple[str, ...]


class ModelSection(_Checked, frozen=True, forbid_unknown_fields=True):
    """``[models.NAME]``: arguments of an `iModel`. `key_env` is the name of the variable that holds the key."""

    model: Name
    base_url: str | None = None
    key_env: str | None = None
    lane: str | None = None


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file; every lane that a quota or a model names is in `lanes`."""

    engine: EngineSection = EngineSection()
    lanes: dict[str, LaneSection] = {}
    quotas: tuple[SharedQuota, ...] = ()
    models: dict[str, ModelSection] = {}


def parse_config(text: str, source: str) -> EngineConfig:
    """Read a configuration.

    Args:
      text: the TOML.
      source: the file's name, for messages.

    Raises:
      UsageError: not TOML, an unknown key, a wrong type, a number out of range, a lane that does not exist, or a
        secret. The message says where, what, and what to do.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not valid TOML: {error}") from error
    place = _Place(source)
    place.refuse_unknown(document, EngineConfig.__struct_fields__)
    lanes = {name: _lane(table, place.at("lanes").key(name)) for name, table in place.tables(document, "lanes").items()}
    config = EngineConfig(
        engine=_section(place.table(document, "engine"), EngineSection, place.at("engine")),
        lanes=lanes,
        quotas=tuple(
            _shared_quota(table, lanes, place.at(f"quotas[{index}]"))
            for index, table in enumerate(place.array(document, "quotas"))
        ),
        models={
            name: _model(table, lanes, place.at("models").key(name))
            for name, table in place.tables(document, "models").items()
        },
    )
    _refuse_twins(config.quotas, place)
    return config


class _Place:
    """Where in the file a value stands, and the refusals that name it."""

    def __init__(self, source: str, path: tuple[str, ...] = ()) -> None:
        self.source = source
        self.path = path

    def at(self, *parts: str) -> _Place:
        return _Place(self.source, (*self.path, *parts))

    def key(self, name: str) -> _Place:
        """The place of a name the user has chosen, which may hold a dot, a blank or nothing: then as TOML quotes it."""
        return self.at(name if _BARE.fullmatch(name) else msgspec.json.encode(name).decode())

    def refuse(self, what: str) -> NoReturn:
        raise UsageError(f"{self.source}: {'.'.join(self.path)}: {what}" if self.path else f"{self.source}: {what}")

    def refuse_unknown(self, table: Mapping[str, object], known: Iterable[str]) -> None:
        known = tuple(known)
        for key in table:
            if key in known:
                continue
            if _NAMES_A_SECRET.search(key) and not get_close_matches(key, known, cutoff=0.75):
                self.at(key).refuse(
                    "a secret has no place in this file. Put it into an environment variable, take it out of here, "
                    'and name the variable in a model\'s section: key_env = "OPENAI_API_KEY"'
                )
            near = get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            self.at(key).refuse(f"unknown key; {hint}")

    def table(self, parent: Mapping[str, Any], key: str) -> dict[str, Any]:
        table = parent.get(key, {})
        if not isinstance(table, dict):
            self.at(key).refuse(f"must be a table: [{'.'.join((*self.path, key))}]")
        return table

    def tables(self, parent: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
        tables = self.table(parent, key)
        for name, table in tables.items():
            if not isinstance(table, dict):
                self.at(key).key(name).refuse(f"must be a table: [{'.'.join((*self.path, key, 'NAME'))}]")
        return tables

    def array(self, parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        array = parent.get(key, [])
        if not isinstance(array, list) or not all(isinstance(table, dict) for table in array):
            self.at(key).refuse(f"must be tables, one per quota: [[{'.'.join((*self.path, key))}]]")
        return array


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NAMES_A_SECRET = re.compile(r"key|secret|password|credential|auth|token$", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_PREFIX = re.compile(r"(sk|rk|pk|gsk|xai|pplx|nvapi|tvly|fc|hf|r8|key|bearer)[-_]|AIza")
_LONG_AND_MIXED = re.compile(r"(?=.*[a-z])(?=.*[0-9]).{20,}")


def _looks_like_a_key(value: str) -> bool:
    """A variable's name is short or in capitals; a key has a known beginning, or is long with digits and small
    letters mixed."""
    return bool(_KEY_PREFIX.match(value) or _LONG_AND_MIXED.match(value) or not _VARIABLE.fullmatch(value))


def _section(table: Mapping[str, object], kind: type[_Section], place: _Place) -> _Section:
    """A table as its struct, which holds no structs, so that what msgspec names is the whole rest of the place."""
    place.refuse_unknown(table, kind.__struct_fields__)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        field = where.strip(".`")
        (place.at(field) if field else place).refuse(_in_words(what, get_type_hints(kind).get(field)))
    except UsageError as error:
        place.refuse(error.message)


def _lane(table: dict[str, Any], place: _Place) -> LaneSection:
    quotas = tuple(
        _section(row, Quota, place.at(f"quotas[{index}]")) for index, row in enumerate(place.array(table, "quotas"))
    )
    place.refuse_unknown(table, LaneSection.__struct_fields__)
    weights = _weights(place.table(table, "weights"), place.at("weights"))
    flat = {key: value for key, value in table.items() if key not in ("quotas", "weights")}
    return msgspec.structs.replace(_section(flat, LaneSection, place), quotas=quotas, weights=weights)


def _weights(table: Mapping[str, object], place: _Place) -> dict[str, int]:
    """Flow by flow, since the names are the user's own, and msgspec would not say at which of them a mistake stands."""
    for flow, weight in table.items():
        if fault := weight_fault(flow, weight):
            place.key(flow).refuse(fault)
    return msgspec.convert(table, dict[str, Weight])


def _shared_quota(table: dict[str, Any], lanes: Mapping[str, LaneSection], place: _Place) -> SharedQuota:
    place.refuse_unknown(table, ("lanes", *Quota.__struct_fields__))
    if not table.get("name"):
        place.refuse('a quota over several lanes needs a name: name = "account"')
    if "lanes" not in table:
        place.refuse('it says over which lanes the quota stands: lanes = ["NAME", "OTHER"]')
    quota = _section({key: value for key, value in table.items() if key != "lanes"}, Quota, place)
    names = _section({"lanes": table["lanes"]}, _Lanes, place).lanes
    for index, lane in enumerate(names):
        _refuse_unknown_lane(lane, lanes, place.at(f"lanes[{index}]"))
        if lane in names[:index]:
            place.at(f"lanes[{index}]").refuse(f"lane {lane!r} is named twice; name it once")
    return SharedQuota(quota, names)


def _model(table: dict[str, Any], lanes: Mapping[str, LaneSection], place: _Place) -> ModelSection:
    model = _section(table, ModelSection, place)
    if model.lane is not None:
        _refuse_unknown_lane(model.lane, lanes, place.at("lane"))
    if model.key_env is not None and _looks_like_a_key(model.key_env):
        place.at("key_env").refuse(
            "names an environment variable, but what stands here looks like a key. Take it out of the file (replace "
            'it, if the file was ever shared), put it into a variable, and name that: key_env = "OPENAI_API_KEY"'
        )
    if model.base_url is not None:
        _check_address(model.base_url, place.at("base_url"))
    return model


def _check_address(address: str, place: _Place) -> None:
    try:
        parts = urlsplit(address)
    except ValueError:
        place.refuse("cannot be read as an address; write it like https://api.openai.com/v1")
    if "@" in parts.netloc or any(
        _NAMES_A_SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    ):
        place.refuse("holds a secret (a name, a password or a key); give the bare address, and the key by key_env")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        place.refuse("must be an address with its scheme, like https://api.openai.com/v1")


def _refuse_unknown_lane(lane: str, lanes: Mapping[str, LaneSection], place: _Place) -> None:
    if lane not in lanes:
        near = get_close_matches(lane, lanes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"add [lanes.{lane}]"
        place.refuse(f"there is no lane {lane!r}; {hint}")


def _refuse_twins(quotas: Iterable[SharedQuota], place: _Place) -> None:
    names: set[str] = set()
    for index, shared in enumerate(quotas):
        if shared.quota.name in names:
            place.at(f"quotas[{index}]", "name").refuse(f"there are two quotas {shared.quota.name!r}; rename one")
        names.add(shared.quota.name)
