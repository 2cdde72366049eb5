"""Which model a name means, with which key, in which lane; and limits that hold over all lanes."""

from __future__ import annotations

import pytest

from engine import iModel
from engine.batch import BatchSettings
from engine.batch.models import LANE, Models
from engine.config import EngineConfig, parse_config
from engine.errors import InvalidCall, MissingKey, UnknownEndpoint, UsageError

CONFIG = parse_config(
    """
    [lanes.slow]
    concurrency_limit = 5
    [[lanes.slow.quotas]]
    dimension = "requests"
    limit = 3
    [lanes.fast]
    [models.big]
    model = "acme/big-1"
    base_url = "https://acme.example/v1"
    key_env = "BIG_KEY"
    lane = "slow"
    [models.house]
    model = "m-2"
    base_url = "http://127.0.0.1:1/v1"
    """,
    "c.toml",
)
KEYS = {"BIG_KEY": "k-123"}


def models(**settings: object) -> Models:
    return Models(BatchSettings(**{"config": CONFIG, **settings}), KEYS)  # type: ignore[arg-type]  # as each test says


def test_a_name_of_the_configuration_stands_for_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever provider and address were given for all other names; an account of its own key."""
    monkeypatch.setenv("OPENAI_API_KEY", "k-other")
    found = models(provider="openai", base_url="http://127.0.0.1:9").find("big")
    assert (found.model_name, found.lane_name) == ("big-1", "slow")
    assert found.endpoint_name == "acme https://acme.example/v1/chat/completions"
    same = iModel("acme", "https://acme.example/v1", api_key="k-123")
    assert found.account().identity == same.account().identity


def test_every_other_name_is_the_providers() -> None:
    found = models(provider="acme", base_url="http://127.0.0.1:9/v1").find("some/model")
    assert (found.model_name, found.lane_name) == ("some/model", LANE)
    assert found.endpoint_name == "acme http://127.0.0.1:9/v1/chat/completions"


def test_a_line_without_a_name_has_the_default() -> None:
    with pytest.raises(InvalidCall, match=r"no model.*--model"):
        models().find(None)
    given = models(model="house")
    assert given.find(None).model_name == "m-2"
    assert given.find("big").model_name == "big-1"


def test_one_model_for_each_name() -> None:
    """So that connections and lanes are shared."""
    given = models()
    assert given.find("big") is given.find("big")
    assert given.find("big") is not given.find("house")


@pytest.mark.parametrize(
    ("name", "endpoint", "kind", "words"),
    [
        ("gpt-4o", "chat/completions", MissingKey, "OPENAI_API_KEY"),
        ("acme/m", "chat/completions", UnknownEndpoint, "acme"),
        ("house", "audio/speech", UnknownEndpoint, "audio/speech"),
        ("groq/", "chat/completions", InvalidCall, "no model of it"),
    ],
)
def test_a_model_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, name: str, endpoint: str, kind: type[UsageError], words: str
) -> None:
    """Each time it is asked for, with the same words."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = models()
    for _ in range(2):
        with pytest.raises(kind, match=words):
            given.find(name, endpoint)


@pytest.mark.parametrize("key", ["", "  "])
def test_a_key_that_is_not_there_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The provider's usual variable is somebody else's key once the configuration names one."""
    monkeypatch.setenv("ACME_API_KEY", "k-other")
    given = Models(BatchSettings(config=CONFIG), {"BIG_KEY": key})
    with pytest.raises(MissingKey, match=r"models\.big.*BIG_KEY"):
        given.find("big")


def test_limits_hold_over_all_lanes() -> None:
    config = BatchSettings(config=CONFIG, limit_requests=7, limit_tokens=900, period_s=2.0).engine_config()
    assert set(config.lanes) == {LANE, "slow", "fast"}
    assert config.lanes["slow"].quotas[0].limit == 3
    shared = {shared.quota.dimension: shared for shared in config.quotas}
    assert {name: shared[name].quota.limit for name in shared} == {"requests": 7, "total_tokens": 900}
    for quota in config.quotas:
        assert set(quota.lanes) == set(config.lanes)
        assert quota.quota.period_s == 2.0


@pytest.mark.parametrize(("concurrency", "slow", "others"), [(None, 5, None), (3, 3, 3), (8, 5, 8)])
def test_concurrency_only_ever_narrows(concurrency: int | None, slow: int, others: int | None) -> None:
    lanes = BatchSettings(config=CONFIG, concurrency=concurrency).engine_config().lanes
    assert {name: lane.concurrency_limit for name, lane in lanes.items()} == {
        "slow": slow,
        "fast": others,
        LANE: others,
    }


def test_the_batchs_own_lane_can_be_configured() -> None:
    config = parse_config("[lanes.batch]\nqueue_capacity = 7\nageing_s = 5\nweights = {a = 3}", "c.toml")
    own = config.lanes["batch"]
    assert BatchSettings(config=config).engine_config().lanes == {LANE: own}
    narrowed = BatchSettings(config=config, concurrency=2).engine_config().lanes[LANE]
    assert (narrowed.concurrency_limit, narrowed.weights, narrowed.ageing_s) == (2, own.weights, own.ageing_s)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (BatchSettings(limit_requests=5, period_s=1e12), "period_s"),
        (BatchSettings(deadline_s=1e12), "deadline_s"),
        (BatchSettings(timeout_s=1e12), "timeout_s"),
        (BatchSettings(base_url="127.0.0.1:80"), "base_url"),
        (BatchSettings(provider="acme"), "acme"),
    ],
)
def test_what_can_hold_for_no_line_is_refused(settings: BatchSettings, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settings.check()
    BatchSettings(provider="acme", base_url="http://127.0.0.1", config=EngineConfig()).check()
