"""Models by name: a program's own, and those of a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import MissingKey, UsageError, iModel, iModelManager, models_of
from engine.config import parse_config
from engine.testing import ScriptedProvider

TEXT = """
[lanes.account]
concurrency_limit = 2
ageing_s = 5
[lanes.account.weights]
a = 2
[[lanes.account.quotas]]
dimension = "requests"
limit = 1
period_s = 10
[lanes.learned]
limits = "learn"
[models.chat]
model = "openai/gpt-4o"
key_env = "TEAM_KEY"
lane = "account"
[models.parse]
model = "openai/gpt-4o-mini"
key_env = "TEAM_KEY"
lane = "account"
[models.other]
model = "m"
base_url = "http://127.0.0.1:9/v1"
lane = "learned"
"""


def test_models_have_names() -> None:
    chat, parse, third = a_model(), a_model(), a_model()
    models = iModelManager(chat=chat, parse=parse)
    models.register_imodel("third", third)
    assert (models.chat, models.parse, models["third"], models.get("third")) == (chat, parse, third, third)
    assert (models.get("fourth"), len(models), list(models)) == (None, 3, ["chat", "parse", "third"])
    models.register_imodel("chat", third)
    assert models.chat is third
    assert KEY not in repr(models)


def test_a_model_without_a_name_is_called_what_its_endpoint_is() -> None:
    chat, embed = a_model(), iModel(provider="openai", endpoint="embed", model="m")
    models = iModelManager(chat, embed)
    assert (models.chat, models["embed"]) == (chat, embed)
    with pytest.raises(UsageError, match="'chat'"):
        iModelManager(chat, a_model())
    with pytest.raises(UsageError, match="'chat'"):
        iModelManager(chat, chat=chat)


def test_a_name_that_is_not_there_says_which_are() -> None:
    models = iModelManager(chat=a_model())
    for look in (lambda: models.parse, lambda: models["parse"]):
        with pytest.raises(UsageError, match=r"'parse'; there are: chat"):
            look()
    with pytest.raises(KeyError):
        models["parse"]


def test_what_is_no_model_is_refused() -> None:
    for make in (
        lambda: iModelManager(5),  # type: ignore[arg-type]  # that is what is tested
        lambda: iModelManager(chat="gpt-4o"),  # type: ignore[arg-type]  # that is what is tested
        lambda: iModelManager().register_imodel("", a_model()),
        lambda: iModelManager().register_imodel(5, a_model()),  # type: ignore[arg-type]  # that is what is tested
    ):
        with pytest.raises(UsageError):
            make()


@in_virtual_time
async def test_shutdown_closes_every_model_even_if_one_fails() -> None:
    closed: list[str] = []

    class Watched(iModel):
        async def close(self) -> None:
            closed.append(self.model_name)
            if self.model_name == "bad":
                raise ValueError("bad")
            await super().close()

    bad, good = Watched(model="bad"), Watched(model="good")
    with pytest.raises(ValueError, match="bad"):
        await iModelManager(a=bad, b=good, c=good).shutdown()
    assert closed == ["bad", "good"]
    async with virtual_engine(ScriptedProvider()):
        async with iModelManager(chat=a_model()) as models:
            assert (await models.chat.invoke(messages=MESSAGES)).text == "hi"
        assert (await models.chat.invoke(messages=MESSAGES)).text == "hi"


@in_virtual_time
@pytest.mark.parametrize("configured", [True, False])
async def test_models_of_a_configuration_share_its_lanes(configured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an engine opened with the same configuration, and in any other."""
    monkeypatch.setenv("TEAM_KEY", KEY)
    config = parse_config(TEXT, "penstock.toml")
    provider = ScriptedProvider()
    async with virtual_engine(provider, config if configured else None):
        models = await iModelManager.from_config(config)
        for name in ("chat", "parse", "chat"):
            assert (await models[name].invoke(messages=MESSAGES)).status == "completed"
        assert (await models["other"].invoke(messages=MESSAGES)).status == "completed"
    assert [round(time, 2) for time in provider.times] == [1, 11.05, 21.1, 21.2]
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o", "gpt-4o-mini", "gpt-4o", "m"]
    key = provider.requests[0].account.key
    assert key is not None
    assert key.reveal() == KEY


async def test_a_configuration_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", KEY)
    path = tmp_path / "penstock.toml"
    path.write_text(TEXT)
    models = await iModelManager.from_config(path)
    assert list(models) == ["chat", "parse", "other"]
    assert models["other"].lane.learn_s == 60
    with pytest.raises(UsageError, match="cannot be read"):
        await iModelManager.from_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="EngineConfig"):
        await iModelManager.from_config(5)  # type: ignore[arg-type]  # that is what is tested


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_KEY", raising=False)
    with pytest.raises(MissingKey, match=r"models\.chat .*TEAM_KEY"):
        models_of(parse_config(TEXT, "penstock.toml"))
