"""Which engine an `iModel` uses, using it alone, and where it finds its key.

Over a provider in virtual time.
"""

from __future__ import annotations

import pytest
import trio
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

import engine.opening as opening_module
from engine import (
    EngineNotRunning,
    MissingKey,
    UnknownEndpoint,
    iModel,
    open_engine,
)
from engine.providers.catalogue import PROVIDERS
from engine.testing import ScriptedProvider

ALL_VARIABLES = tuple(variable for row in PROVIDERS for variable in row.key_env)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find a real key."""
    for variable in ALL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


# --- which engine ---


@in_virtual_time
async def test_without_an_engine_it_says_how_to_open_one() -> None:
    model = a_model()
    with pytest.raises(EngineNotRunning, match="open_engine") as caught:
        await model.invoke(messages=MESSAGES)
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(EngineNotRunning):
        _ = model.engine


@in_virtual_time
async def test_it_uses_the_innermost_engine_or_the_one_it_was_given() -> None:
    outer, inner = ScriptedProvider(), ScriptedProvider()
    async with virtual_engine(outer) as first:
        given = a_model(engine=first)
        loose = a_model()
        async with virtual_engine(inner) as second:
            assert (loose.engine, given.engine) == (second, first)
            await loose.invoke(messages=MESSAGES)
            assert (len(outer.requests), len(inner.requests)) == (0, 1)
            await given.invoke(messages=MESSAGES)
            assert (len(outer.requests), len(inner.requests)) == (1, 1)
        assert loose.engine is first
        await loose.invoke(messages=MESSAGES)
        assert (len(outer.requests), len(inner.requests)) == (2, 1)
    with pytest.raises(EngineNotRunning):
        await loose.invoke(messages=MESSAGES)


@in_virtual_time
async def test_tasks_inherit_the_engine_of_their_context() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: a_model().invoke(messages=MESSAGES))
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_model_outlives_its_engines() -> None:
    model = a_model(limit_requests=1, interval=10)
    for _ in range(2):
        provider = ScriptedProvider()
        async with virtual_engine(provider):
            assert (await model.invoke(messages=MESSAGES)).status == "completed"


# --- alone ---


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> ScriptedProvider:
    """What an engine that a model opens for itself talks to."""
    virtual = ScriptedProvider()
    monkeypatch.setattr(opening_module, "open_engine", lambda: open_engine(transport=virtual))
    return virtual


@in_virtual_time
async def test_alone_it_opens_an_engine_of_its_own(provider: ScriptedProvider) -> None:
    model = a_model()
    async with model as entered:
        assert entered is model
        assert (await model.invoke(messages=MESSAGES)).text == "hi"
        own = model.engine
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"  # others find it, too
    assert provider.open_now == 0
    assert "closed" in repr(own)
    with pytest.raises(EngineNotRunning):
        await model.invoke(messages=MESSAGES)
    async with model:
        assert model.engine is not own
        assert (await model.invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_inside_an_engine_it_uses_that() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model()
        async with model:
            assert model.engine is engine
            await model.invoke(messages=MESSAGES)
        assert (await model.invoke(messages=MESSAGES)).status == "completed"
    assert len(provider.requests) == 2


@in_virtual_time
async def test_entered_twice_it_lives_until_the_outer_block_is_left(provider: ScriptedProvider) -> None:
    async with a_model() as model:
        async with model:
            pass
        assert (await model.invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_alone_the_blocks_own_exception_leaves_unchanged(provider: ScriptedProvider) -> None:
    mine = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012  # what counts is how the whole block is left
        async with a_model() as model:
            await model.invoke(messages=MESSAGES)
            raise mine
    assert caught.value is mine
    assert provider.open_now == 0


@in_virtual_time
async def test_alone_it_drains_when_left(provider: ScriptedProvider) -> None:
    async with a_model(limit_requests=1, interval=10) as model:
        calls = [await model.engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(3)]
    assert [call.status for call in calls] == ["completed"] * 3


@in_virtual_time
async def test_after_close_it_can_be_used_and_is_still_limited() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        model = a_model(limit_requests=1, interval=10)
        await model.close()  # before it was ever used
        await model.invoke(messages=MESSAGES)
        assert provider.open_now == 1
        await model.close()
        await model.close()
        await trio.testing.wait_all_tasks_blocked()
        assert provider.open_now == 0
        assert (await model.invoke(messages=MESSAGES)).status == "completed"
    assert provider.times == [1, 11.05]
    await model.close()  # where no engine is open


@in_virtual_time
async def test_close_leaves_what_is_in_flight_and_what_waits_alone() -> None:
    """Closed at every instant while twenty calls go through four connections: all of them complete."""
    provider = ScriptedProvider(delay_s=1.0)
    async with virtual_engine(provider) as engine:
        model = a_model(concurrency_limit=4)
        calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(20)]
        for _ in range(60):
            await model.close()
            await trio.sleep(0.1)
        assert [call.status for call in calls] == ["completed"] * 20
        assert [call.attempts for call in calls] == [1] * 20
    assert provider.most_in_flight == 4


# --- its key ---


@in_virtual_time
async def test_a_missing_key_names_its_variables_and_nothing_is_connected() -> None:
    for row in [provider for provider in PROVIDERS if provider.find("chat") is not None]:
        provider = ScriptedProvider()
        async with virtual_engine(provider) as engine:
            model = iModel(provider=row.name, model="m")
            if not row.key_required:
                assert (await model.invoke(messages=MESSAGES)).status == "completed"
                continue
            for send in (engine.submit, engine.invoke):
                with pytest.raises(MissingKey) as caught:
                    await send(model.create_api_calling(messages=MESSAGES))
                assert caught.value.variables == row.key_env
                assert all(variable in str(caught.value) for variable in row.key_env)
        assert (provider.connects, provider.accounts) == (0, [])


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        ("openai", ["OPENAI_API_KEY"]),
        ("gemini", ["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
        ("ollama", ["OLLAMA_API_KEY"]),
        ("groq", ["GROQ_API_KEY"]),
        ("deepseek", ["DEEPSEEK_API_KEY"]),
        ("perplexity", ["PERPLEXITY_API_KEY"]),
        ("openrouter", ["OPENROUTER_API_KEY"]),
        ("nvidia_nim", ["NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"]),
    ],
)
def test_keys_come_from_the_providers_variables(
    provider: str, variables: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last variable counts if those before it are not set; an explicit key before all."""

    def found(**arguments: str) -> str | None:
        key: list[str | None] = []

        async def main() -> None:
            virtual = ScriptedProvider()
            async with virtual_engine(virtual):
                await iModel(provider=provider, model="m", **arguments).invoke(messages=MESSAGES)  # type: ignore[arg-type]
            secret = virtual.requests[0].account.key
            key.append(secret.reveal() if secret is not None else None)

        in_virtual_time(main)()
        return key[0]

    for variable in reversed(variables):
        monkeypatch.setenv(variable, f"key-of-{variable}")
        assert found() == f"key-of-{variable}"
    assert found(api_key=KEY) == KEY


@in_virtual_time
async def test_a_key_that_is_set_later_is_found() -> None:
    import os

    async with virtual_engine(ScriptedProvider()):
        model = iModel(model="gpt-4o")
        with pytest.raises(MissingKey):
            await model.invoke(messages=MESSAGES)
        os.environ["OPENAI_API_KEY"] = "sk-set-later"
        try:
            assert (await model.invoke(messages=MESSAGES)).status == "completed"
        finally:
            del os.environ["OPENAI_API_KEY"]


def test_an_unknown_provider_without_an_address() -> None:
    with pytest.raises(UnknownEndpoint, match="base_url"):
        iModel(provider="nobody_knows", model="m")


@in_virtual_time
async def test_an_unknown_provider_with_an_address_needs_no_key() -> None:
    async with virtual_engine(ScriptedProvider()):
        model = iModel(provider="nobody_knows", base_url="https://host.example/v1", model="m")
        assert (await model.invoke(messages=MESSAGES)).status == "completed"
