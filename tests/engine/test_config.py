"""The configuration file: what it may say, and how each mistake is named.

Every mistake is planted into one good file, so a case that is refused is refused for that mistake alone.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.limits import Quota
from actors.messages import OpenLane
from engine.accounts import Account, LaneDescription, Lanes
from engine.call import CallOptions
from engine.config import (
    AGEING_S,
    MAX_FLOW_CHARS,
    QUEUE_CAPACITY,
    EngineConfig,
    EngineSection,
    LaneSection,
    ModelSection,
    SharedQuota,
    parse_config,
)
from engine.errors import InvalidCall, UsageError
from engine.providers.lookup import resolve

GOOD = """\
[engine]
max_queued = 5000
drain_deadline_s = 10

[lanes.main]
queue_capacity = 7
concurrency_limit = 3
ageing_s = 1.5

[lanes.main.weights]
"tenant-a" = 3
tenant_b = 1_000_000
"" = 2

[[lanes.main.quotas]]
dimension = "requests"
limit = 500

[[lanes.main.quotas]]
dimension = "total_tokens"
limit = 200_000
period_s = 1
burst = 10
pace = true
guard_s = 0.01
settle = "reserved"

[lanes.other]

[[quotas]]
name = "account"
lanes = ["main", "other"]
dimension = "requests"
limit = 900

[models.mini]
model = "openai/gpt-4o-mini"
base_url = "http://127.0.0.1:8080/v1"
key_env = "OPENAI_API_KEY"
lane = "main"
"""

USAGE = (Path(__file__).parents[2] / "docs" / "usage.md").read_text("utf-8")
SECRET = "sk-proj-Zx81hhQ0aLr7"


def test_everything_it_may_say_arrives() -> None:
    """Each field of each section is read, and what is left out takes its default."""
    assert parse_config(GOOD, "penstock.toml") == EngineConfig(
        engine=EngineSection(max_queued=5000, drain_deadline_s=10.0),
        lanes={
            "main": LaneSection(
                queue_capacity=7,
                concurrency_limit=3,
                ageing_s=1.5,
                weights={"tenant-a": 3, "tenant_b": 1_000_000, "": 2},
                quotas=(
                    Quota("requests", 500),
                    Quota("total_tokens", 200_000, 1.0, burst=10, pace=True, guard_s=0.01, settle="reserved"),
                ),
            ),
            "other": LaneSection(queue_capacity=10_000, concurrency_limit=None, ageing_s=60.0, weights={}, quotas=()),
        },
        quotas=(SharedQuota(Quota("requests", 900, name="account"), ("main", "other")),),
        models={"mini": ModelSection("openai/gpt-4o-mini", "http://127.0.0.1:8080/v1", "OPENAI_API_KEY", "main")},
    )


@pytest.mark.parametrize("flow", ["a" * 200, "", "acme.com", "\N{GREEK SMALL LETTER ALPHA}" * 200])
def test_a_weight_may_stand_for_every_flow_a_call_can_be_in(flow: str) -> None:
    """What a call accepts as its flow, its lane accepts among its weights; and of longer names neither."""
    config = parse_config(f'[lanes.x.weights]\n"{flow}" = 5', "penstock.toml")
    assert config.lanes["x"].weights == {CallOptions(flow=flow).flow: 5}
    with pytest.raises(InvalidCall, match="flow"):
        CallOptions(flow="a" * (MAX_FLOW_CHARS + 1))


def test_an_address_may_have_a_query_that_holds_no_key() -> None:
    """As some providers want their version there."""
    config = parse_config(GOOD.replace("8080/v1", "8080/v1?api-version=2026-01-01"), "penstock.toml")
    assert config.models["mini"].base_url == "http://127.0.0.1:8080/v1?api-version=2026-01-01"


def test_the_documentation_s_example_is_one() -> None:
    """The file that `docs/usage.md` shows is read, and has in it what the page says of it."""
    found = re.search(r"```toml\n(.*?)```", USAGE, re.DOTALL)
    assert found is not None
    config = parse_config(found.group(1), "docs/usage.md")
    assert config.lanes["account"].weights == {"tenant-a": 3}
    assert config.quotas[0].lanes == ("account", "research")
    assert config.models["small"].lane == "research"


@pytest.mark.parametrize("section", [EngineSection, LaneSection, Quota, ModelSection])
def test_the_documentation_names_every_key(section: type[msgspec.Struct]) -> None:
    """As a row of its reference, or as the head of one of its sections; and with the default that it has."""
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", USAGE, re.MULTILINE))
    for field in msgspec.structs.fields(section):
        assert field.name in rows or f"[lanes.NAME.{field.name}]" in USAGE
        said = rows.get(field.name, "").replace(",", "").strip('`"')
        if re.fullmatch(r"[\d.]+", said):
            assert float(said) == field.default


def test_an_empty_file_is_the_defaults() -> None:
    assert parse_config("", "penstock.toml") == EngineConfig(
        engine=EngineSection(max_queued=1_000_000, drain_deadline_s=30.0), lanes={}, quotas=(), models={}
    )


MISTAKES = [
    # what stands there, what is planted instead, where it is said to be, a word of what is said
    ("[engine]", "[engine", "", "not valid TOML"),
    ("[engine]", "lanes = 3\n[engine]", "", "not valid TOML"),
    ("[engine]", "[engin]", "engin", "did you mean engine?"),
    ("[engine]", "[zebra]", "zebra", "known here: engine, lanes, quotas, models"),
    ("max_queued", "max_queue", "engine.max_queue", "did you mean max_queued?"),
    ("= 5000", "= 0", "engine.max_queued", "whole number >= 1"),
    ("= 5000", "= -5", "engine.max_queued", "whole number >= 1"),
    ("= 5000", "= 1.5", "engine.max_queued", "whole number"),
    ("= 5000", "= true", "engine.max_queued", "not true or false"),
    ("= 5000", '= "many"', "engine.max_queued", "not text"),
    ("drain_deadline_s = 10", "drain_deadline_s = -1", "engine.drain_deadline_s", ">= 0"),
    ("drain_deadline_s = 10", "drain_deadline_s = nan", "engine.drain_deadline_s", ">= 0"),
    ("drain_deadline_s = 10", "drain_deadline_s = inf", "engine.drain_deadline_s", "<= 31622400"),
    ("[lanes.other]", "[lanes]\nother = 3", "lanes.other", "must be a table: [lanes.NAME]"),
    ("queue_capacity = 7", "queue_capacity = 0", "lanes.main.queue_capacity", ">= 1"),
    ("queue_capacity", "capacity", "lanes.main.capacity", "did you mean queue_capacity?"),
    ("concurrency_limit = 3", "concurrency_limit = 0", "lanes.main.concurrency_limit", ">= 1"),
    ("ageing_s = 1.5", "ageing_s = 0", "lanes.main.ageing_s", "> 0"),
    ('"tenant-a" = 3', '"tenant-a" = 0', "lanes.main.weights.tenant-a", "whole number >= 1"),
    ('"tenant-a" = 3', '"tenant-a" = -1', "lanes.main.weights.tenant-a", "whole number >= 1"),
    ('"tenant-a" = 3', '"tenant-a" = 1_000_001', "lanes.main.weights.tenant-a", "whole number <= 1000000"),
    ('"tenant-a" = 3', f'"tenant-a" = {10**25}', "lanes.main.weights.tenant-a", "whole number"),
    ('"tenant-a" = 3', '"tenant-a" = 1.5', "lanes.main.weights.tenant-a", "whole number"),
    ('"tenant-a" = 3', '"tenant-a" = nan', "lanes.main.weights.tenant-a", "whole number"),
    ('"tenant-a" = 3', '"tenant-a" = true', "lanes.main.weights.tenant-a", "not true or false"),
    ('"tenant-a" = 3', '"tenant-a" = "3"', "lanes.main.weights.tenant-a", "not text"),
    ('"tenant-a" = 3', '"tenant-a" = [3]', "lanes.main.weights.tenant-a", "not a list"),
    ('"tenant-a" = 3', "tenant.a = 3", "lanes.main.weights.tenant", "not a table"),
    ('"tenant-a" = 3', '"acme.com" = 0', 'lanes.main.weights."acme.com"', "whole number"),
    ('"tenant-a" = 3', '"a\\nb" = 0', 'lanes.main.weights."a\\nb"', "whole number"),
    ('"" = 2', '"" = 0', 'lanes.main.weights.""', "whole number"),
    ('"tenant-a" = 3', f"{'a' * 201} = 3", f"lanes.main.weights.{'a' * 201}", "at most 200 characters"),
    ('"tenant-a" = 3', '"tenant_b" = 3', "", "not valid TOML"),
    ("[lanes.main.weights]", "[lanes.main.weight]", "lanes.main.weight", "did you mean weights?"),
    ("[lanes.other]", "[lanes.other]\nweights = 3", "lanes.other.weights", "must be a table: [lanes.other.weights]"),
    ("[lanes.other]", '[lanes."o ther"]\nweights = []', 'lanes."o ther".weights', '[lanes."o ther".weights]'),
    ("limit = 500", "limit = 0", "lanes.main.quotas[0]", "limit"),
    ("limit = 500", "limit = -500", "lanes.main.quotas[0]", "limit"),
    ("limit = 500", "limt = 500", "lanes.main.quotas[0].limt", "did you mean limit?"),
    ("limit = 500", "", "lanes.main.quotas[0]", "limit is missing"),
    ('dimension = "requests"\nlimit = 500', "limit = 500", "lanes.main.quotas[0]", "dimension is missing"),
    ('"total_tokens"', '"tokens"', "lanes.main.quotas[1].dimension", "'input_tokens', 'output_tokens'"),
    ("period_s = 1", "period_s = 0", "lanes.main.quotas[1]", "period_s"),
    ("period_s = 1", "period_s = inf", "lanes.main.quotas[1]", "period_s"),
    ("burst = 10", "burst = 0", "lanes.main.quotas[1]", "burst"),
    ("pace = true", 'pace = "yes"', "lanes.main.quotas[1].pace", "true or false"),
    ("guard_s = 0.01", "guard_s = -1", "lanes.main.quotas[1]", "guard_s"),
    ('settle = "reserved"', 'settle = "never"', "lanes.main.quotas[1].settle", "'usage', 'reserved'"),
    ('name = "account"', "", "quotas[0]", "needs a name"),
    ('name = "account"', "name = 3", "quotas[0].name", "must be text"),
    ('lanes = ["main", "other"]', "", "quotas[0]", "over which lanes"),
    ('lanes = ["main", "other"]', "lanes = []", "quotas[0].lanes", "length >= 1"),
    ('lanes = ["main", "other"]', 'lanes = "main"', "quotas[0].lanes", "must be a list"),
    ('lanes = ["main", "other"]', 'lanes = ["main", 3]', "quotas[0].lanes[1]", "must be text"),
    ('lanes = ["main", "other"]', 'lanes = ["main", "othr"]', "quotas[0].lanes[1]", "did you mean 'other'?"),
    ('lanes = ["main", "other"]', 'lanes = ["main", "zebra"]', "quotas[0].lanes[1]", "add [lanes.zebra]"),
    ('lanes = ["main", "other"]', 'lanes = ["main", "main"]', "quotas[0].lanes[1]", "twice"),
    ("[[quotas]]", "[quotas]", "quotas", "[[quotas]]"),
    (
        "[models.mini]",
        '[[quotas]]\nname = "account"\nlanes = ["main"]\ndimension = "requests"\nlimit = 1\n[models.mini]',
        "quotas[1].name",
        "two quotas 'account'",
    ),
    ("model = ", "modl = ", "models.mini.modl", "did you mean model?"),
    ('model = "openai/gpt-4o-mini"', "", "models.mini", "model is missing"),
    ('model = "openai/gpt-4o-mini"', 'model = ""', "models.mini.model", "length >= 1"),
    ('lane = "main"', 'lane = "mian"', "models.mini.lane", "did you mean 'main'?"),
    ("http://127.0.0.1:8080/v1", "127.0.0.1:8080", "models.mini.base_url", "https://"),
    ("http://127.0.0.1:8080/v1", "ftp://127.0.0.1", "models.mini.base_url", "https://"),
    ("http://127.0.0.1:8080/v1", "http://[::1", "models.mini.base_url", "https://"),
    ("key_env = ", "key_evn = ", "models.mini.key_evn", "did you mean key_env?"),
]


@pytest.mark.parametrize(("there", "planted", "place", "says"), MISTAKES)
def test_a_mistake_is_named_with_its_place(there: str, planted: str, place: str, says: str) -> None:
    """The file, the dotted path, what is wrong or what to write instead; on one line."""
    assert there in GOOD
    with pytest.raises(UsageError) as caught:
        parse_config(GOOD.replace(there, planted, 1), "conf/penstock.toml")
    message = caught.value.message
    assert message.startswith(f"conf/penstock.toml: {place}: " if place else "conf/penstock.toml: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("there", "planted", "place"),
    [
        ('key_env = "OPENAI_API_KEY"', f'api_key = "{SECRET}"', "models.mini.api_key"),
        ('key_env = "OPENAI_API_KEY"', f'key = "{SECRET}"', "models.mini.key"),
        ('key_env = "OPENAI_API_KEY"', f'auth_token = "{SECRET}"', "models.mini.auth_token"),
        ('key_env = "OPENAI_API_KEY"', f'key_env = "{SECRET}"', "models.mini.key_env"),
        ("max_queued", f'openai_api_key = "{SECRET}"\nmax_queued', "engine.openai_api_key"),
        ("http://127", f"http://me:{SECRET}@127", "models.mini.base_url"),
        ("8080/v1", f"8080/v1?key={SECRET}", "models.mini.base_url"),
    ],
)
def test_a_secret_is_refused_and_never_repeated(there: str, planted: str, place: str) -> None:
    """A key in the file is an error that says where to put it, and does not print it again."""
    with pytest.raises(UsageError) as caught:
        parse_config(GOOD.replace(there, planted, 1), "penstock.toml")
    assert caught.value.message.startswith(f"penstock.toml: {place}: ")
    assert SECRET not in repr(caught.value)
    assert "secret" in caught.value.message or "looks like a key" in caught.value.message


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("OPENAI_API_KEY", False),
        ("A_RATHER_LONG_NAME_OF_A_VARIABLE_2", False),
        ("my_key_2", False),
        ("_K", False),
        ("gsk_Qe81mZ", True),
        ("AIzaSyD3xx", True),
        ("nvapi-77x", True),
        ("3f9a81c2d4b7e6a05f1c9d8b", True),
        ("OPENAI KEY", True),
        ("${OPENAI_API_KEY}", True),
        ("", True),
    ],
)
def test_a_variable_is_told_from_a_key(value: str, refused: bool) -> None:
    """What could be a variable's name is taken; what has the look of a key is not."""
    text = GOOD.replace("OPENAI_API_KEY", value)
    if refused:
        with pytest.raises(UsageError, match="looks like a key"):
            parse_config(text, "penstock.toml")
    else:
        assert parse_config(text, "penstock.toml").models["mini"].key_env == value


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"weights": {"a": 0}}, r"weights['a'] must be a whole number >= 1"),
        ({"weights": {"a": 1_000_001}}, r"weights['a'] must be a whole number <= 1000000"),
        ({"weights": {"a": True}}, r"weights['a'] must be a whole number, not true or false"),
        ({"weights": {"a" * 201: 1}}, "must stand for a flow, a text of at most 200 characters"),
        ({"weights": {"\ud800": 1}}, "must stand for a flow"),
        ({"weights": {3: 1}}, "weights[3] must stand for a flow"),
        ({"weights": 3}, "weights must be a table, not a whole number"),
        ({"ageing_s": 0}, "ageing_s must be a number > 0"),
        ({"ageing_s": float("nan")}, "ageing_s must be a number > 0"),
        ({"ageing_s": float("inf")}, "ageing_s must be a number <= 31622400"),
        ({"ageing_s": 10**400}, "ageing_s must be a number"),
        ({"queue_capacity": 0}, "queue_capacity must be a whole number >= 1"),
        ({"queue_capacity": None}, "queue_capacity must be a whole number"),
        ({"concurrency_limit": 0}, "concurrency_limit must be a whole number >= 1"),
        ({"concurrency_limit": 1.5}, "concurrency_limit must be a whole number"),
        ({"quotas": (3,)}, "quotas must be"),
    ],
)
def test_a_section_made_by_hand_is_checked_like_a_file(numbers: dict[str, Any], says: str) -> None:
    """When it is made, and when it is made of another."""
    for make in (lambda: LaneSection(**numbers), lambda: msgspec.structs.replace(LaneSection(), **numbers)):
        with pytest.raises(UsageError) as caught:
            make()
        assert caught.value.message.startswith("LaneSection: ")
        assert says in caught.value.message


def test_the_other_sections_are_checked_as_well() -> None:
    with pytest.raises(UsageError, match="EngineSection: max_queued must be a whole number >= 1"):
        EngineSection(max_queued=0)
    with pytest.raises(UsageError, match="ModelSection: model must be text of length >= 1"):
        ModelSection("")


def test_a_number_that_is_not_said_is_the_same_everywhere() -> None:
    """In a file, for a model that says nothing, and in the message that opens a lane."""
    lane, opened = LaneSection(), OpenLane(1, "x")
    assert (lane.queue_capacity, lane.ageing_s) == (QUEUE_CAPACITY, AGEING_S)
    assert opened.ageing_us == AGEING_S * 1_000_000
    _, message = Lanes(EngineConfig()).open(LaneDescription("x"), Account(resolve("openai"), None))
    assert message == opened


toml_values = st.recursive(
    st.sampled_from(["{}", "true", "-1", "0", "2", "1.5", "nan", "inf", '""', '"text"', "1979-05-27", "{limit = 1}"]),
    lambda inner: st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=4,
)


@given(line=st.sampled_from([i for i, line in enumerate(GOOD.splitlines()) if " = " in line]), value=toml_values)
def test_no_value_anywhere_does_more_than_raise_usage_error(line: int, value: str) -> None:
    """Whatever stands behind any key, the answer is a configuration or a `UsageError`."""
    lines = GOOD.splitlines()
    lines[line] = f"{lines[line].partition(' = ')[0]} = {value}"
    with suppress(UsageError):
        assert set(parse_config("\n".join(lines), "penstock.toml").lanes) == {"main", "other"}
