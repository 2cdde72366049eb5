"""`to_dict` is nothing but JSON, whatever a model was given, and `from_dict` reads it again."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clients.aixplain import LLM, Asset, AssetStatus, Function, Model, ModelParameters, Supplier
from engine.portal import aixplain as blocking


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Colour(Enum):
    RED = b"red"


class Point(msgspec.Struct):
    x: Any = 1


HOLDS_ITSELF: dict[str, Any] = {}
HOLDS_ITSELF |= {"a": [HOLDS_ITSELF, HOLDS_ITSELF], "b": HOLDS_ITSELF}
DEEP: Any = "end"
for _ in range(5_000):
    DEEP = [DEEP]

TABLE: list[tuple[Any, Any]] = [
    (b"red", "cmVk"),
    (bytearray(b"red"), "cmVk"),
    ({2, 1}, [1, 2]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ((1, (2,)), [1, [2]]),
    (math.nan, "nan"),
    ([math.inf, -math.inf], ["inf", "-inf"]),
    ({(1, 2): 3}, {"(1, 2)": 3}),
    ({None: 1, True: 2, 3: 4, 1.5: 5, Function.SEARCH: 6, math.nan: 7, b"x": 8}, {
        "null": 1, "true": 2, "3": 4, "1.5": 5, "search": 6, "nan": 7, "b'x'": 8,
    }),
    (1 << 100, 1 << 100),
    (1 << 2_000, f"{1 << 2_000:#x}"),
    ("half \ud800", "half ?"),
    ({"\ud800": 1}, {"?": 1}),
    (datetime(2026, 11, 27, tzinfo=UTC), "2026-11-27T00:00:00Z"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.50"), "1.50"),
    (Supplier.OPENAI, {"id": 1777, "name": "OpenAI", "code": "openai"}),
    (Colour.RED, "cmVk"),
    (Point({math.nan}), {"x": ["nan"]}),
    (Unprintable(), "<Unprintable>"),
    ([Point], [str(Point)]),
    (HOLDS_ITSELF, {"a": ["...", "..."], "b": "..."}),
    (ModelParameters({}), {}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "written"), TABLE, ids=range(len(TABLE)))
@pytest.mark.parametrize("kind", [Model, blocking.Model], ids=["trio", "blocking"])
def test_what_json_has_no_word_for_is_written_all_the_same(kind: type[Model], given: Any, written: Any) -> None:
    model = kind("m-1", supplier={"new": given}, model_params={"p": {"value": given}}, first=given)
    model.additional_info["second"] = given
    model.input_params = model.output_params = {"in": given}
    told = model.to_dict()
    json.dumps(told, allow_nan=False)
    msgspec.json.encode({**told, "additional_info": None} if written == 1 << 100 else told)
    if written != {}:
        assert told["additional_info"] == {"first": written, "second": written}
    assert (told["supplier"], told["input_params"]) == ({"new": written}, {"in": written})
    assert told["model_params"]["p"]["value"] == written
    assert kind.from_dict(told).to_dict() == told


def test_what_is_nested_without_end_ends() -> None:
    told = Model("m-1", deep=DEEP).to_dict()
    assert json.dumps(told).count("[") < 110
    asset = Asset("a-1", "N", "D", cost=DEEP, license={b"x"}, privacy=HOLDS_ITSELF).to_dict()
    assert json.loads(json.dumps(asset)) == asset


def test_a_key_in_additional_info_is_not_written() -> None:
    assert Model.from_dict({"id": "m-1", "additional_info": {"api_key": "k-0123456789"}}).to_dict() == (
        Model("m-1").to_dict()
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ODD = st.recursive(
    st.none() | st.binary(max_size=4) | st.floats() | st.integers() | st.text(st.characters(), max_size=4)
    | st.datetimes() | st.uuids() | st.decimals() | st.fractions() | st.complex_numbers() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.sets(st.tuples(st.integers()), max_size=2)
    | st.dictionaries(st.none() | st.tuples(st.text(max_size=2)) | st.integers() | st.binary(max_size=2), inner),
    max_leaves=8,
)  # fmt: skip
NAMES = st.text(min_size=1, max_size=8)
DICTS = st.dictionaries(NAMES, ODD | JSON, max_size=3)


@given(
    name=st.text(max_size=8),
    supplier=st.sampled_from(["openai", "Someone New", 1777, 31337, Supplier.GROQ, {}]) | DICTS,
    function=st.none() | st.sampled_from([Function.SEARCH, "text-generation", "brand-new"]),
    status=st.sampled_from(list(AssetStatus)),
    params=st.tuples(st.none() | DICTS, st.none() | DICTS),
    model_params=st.none() | st.dictionaries(NAMES, DICTS | st.fixed_dictionaries({"value": ODD, "values": ODD})),
    info=DICTS,
)
def test_what_was_written_is_read_again(
    name: str, supplier: Any, function: Any, status: AssetStatus, params: Any, model_params: Any, info: Any
) -> None:
    model = Model(
        "m-1", name, supplier=supplier, function=function, status=status, input_params=params[0],
        output_params=params[1], model_params=model_params, api_key="none",
    )  # fmt: skip
    model.additional_info.update(info)
    told = model.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for kind in (Model, blocking.Model, LLM):
        if kind is not LLM or model.function is Function.TEXT_GENERATION:
            again = kind.from_dict(told)
            assert (type(again), again.to_dict()) == (kind, told)
