"""Every endpoint of the catalogue, through `iModel`, against the simulated provider on real loopback sockets.

One simulator serves them all. Each row is called in one piece, and where there is such a thing as a stream; what comes
is looked at in the terms that are common to all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from engine import InvalidCall, MissingKey, UnknownEndpoint, iModel, open_engine
from engine.endpoints import match_endpoint
from engine.providers.catalogue import PROVIDERS
from engine.simulator import ProviderLimit, Simulator, SimulatorConfig, serve

KEY = "key-of-the-test"
CHAT = {"model": "m-1", "messages": [{"role": "user", "content": "Say hello."}]}
EMBED = {"model": "m-1", "input": ["one", "two"]}

CHATS = [
    ("openai", "chat", CHAT),
    ("openai", "response", {"model": "m-1", "input": "Say hello."}),
    ("anthropic", "chat", {**CHAT, "max_tokens": 6}),
    ("gemini", "chat", CHAT),
    ("ollama", "chat", CHAT),
    ("ollama", "native", CHAT),
    ("groq", "chat", CHAT),
    ("deepseek", "chat", CHAT),
    ("perplexity", "chat", CHAT),
    ("openrouter", "chat", CHAT),
    ("nvidia_nim", "chat", CHAT),
    ("inferneo", "chat", {**CHAT, "max_tokens": 6}),
    ("openai", "completions", {"model": "m-1", "prompt": "Say hello.", "max_tokens": 6}),
    ("inferneo", "completions", {"model": "m-1", "prompt": "Say hello.", "max_tokens": 6}),
    ("my_provider", "chat", CHAT),
]
STREAMS = [row for row in CHATS if row[:2] != ("openai", "completions")]  # which are not simulated
EMBEDS = [
    ("openai", "embed", EMBED),
    ("ollama", "embed", EMBED),
    ("nvidia_nim", "embed", {**EMBED, "input_type": "query"}),
    ("my_provider", "embed", EMBED),
]
SEARCHES = [
    ("exa", "search", {"query": "schedulers", "num_results": 3}),
    ("tavily", "search", {"query": "schedulers", "max_results": 3}),
    ("tavily", "extract", {"urls": ["https://example.org/a"]}),
    ("firecrawl", "scrape", {"url": "https://example.org/a", "formats": ["markdown"]}),
    ("firecrawl", "map", {"url": "https://example.org"}),
]
RUNS = [("aixplain", "run", {"model": "llm-m-1", "data": "Say hello."})]
ROWS = [*CHATS, *EMBEDS, *SEARCHES, *RUNS]


def ids(rows: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    return [f"{provider}-{endpoint}" for provider, endpoint, _ in rows]


@pytest.fixture
async def simulator(nursery: trio.Nursery) -> Simulator:
    served: Simulator = await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=6))
    return served


@pytest.fixture
async def engine() -> AsyncIterator[None]:
    async with open_engine():
        yield


def model_of(simulator: Simulator, provider: str, endpoint: str, **more: Any) -> iModel:
    """A model of this row at the simulated address of its provider."""
    address = simulator.base_url if provider == "my_provider" else simulator.address(provider)
    return iModel(provider=provider, endpoint=endpoint, base_url=address, api_key=KEY, **more)


def test_every_row_of_the_catalogue_is_called_here() -> None:
    rows = {(row.name, endpoint.name) for row in PROVIDERS for endpoint in row.endpoints}
    called = {(provider, endpoint) for provider, endpoint, _ in ROWS if provider != "my_provider"}
    assert rows == called


@pytest.mark.parametrize(("provider", "endpoint", "arguments"), CHATS, ids=ids(CHATS))
async def test_a_chat_answers(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any]
) -> None:
    call = await model_of(simulator, provider, endpoint).invoke(**arguments)
    call.raise_for_status()
    assert call.text
    assert call.view.finish_reason in ("stop", "length")
    assert call.view.model == "m-1"
    assert call.usage is not None
    assert call.usage.output_tokens == 6
    assert (call.usage.input_tokens or 0) > 0


@pytest.mark.parametrize(("provider", "endpoint", "arguments"), STREAMS, ids=ids(STREAMS))
async def test_a_chat_streams(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any]
) -> None:
    async with model_of(simulator, provider, endpoint).stream(**arguments) as chunks:
        text = "".join([str(chunk) async for chunk in chunks])
    call = chunks.call.raise_for_status()
    assert text
    assert text == call.text
    assert call.reply.streamed
    assert call.view.finish_reason in ("stop", "length")
    if provider not in ("my_provider", "inferneo"):  # whose servers may not know, or do not, how to be asked for it
        assert call.usage is not None
        assert call.usage.output_tokens == 6


@pytest.mark.parametrize(("provider", "endpoint", "arguments"), EMBEDS, ids=ids(EMBEDS))
async def test_an_embedding_answers(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any]
) -> None:
    call = await model_of(simulator, provider, endpoint).invoke(**arguments)
    vectors = call.raise_for_status().view.embeddings
    assert len(vectors) == 2
    assert len(vectors[0]) == len(vectors[1]) > 1
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    assert call.usage is not None
    assert (call.usage.input_tokens or 0) > 0


@pytest.mark.parametrize(("provider", "endpoint", "arguments"), SEARCHES, ids=ids(SEARCHES))
async def test_a_search_answers(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any]
) -> None:
    call = await model_of(simulator, provider, endpoint).invoke(**arguments)
    results = call.raise_for_status().view.results
    assert results
    assert all(found.url.startswith("https://example.org") for found in results)


@pytest.mark.parametrize("model", ["llm-m-1", "llm-async-2-m-1"])
async def test_a_run_answers_at_once_or_later(simulator: Simulator, engine: None, model: str) -> None:
    call = await model_of(simulator, "aixplain", "run").invoke(model=model, data="Say hello.", poll_s=0.01)
    call.raise_for_status()
    assert call.text
    assert call.view.finish_reason == "stop"
    assert call.usage is not None
    assert call.usage.output_tokens == 6


@pytest.mark.parametrize("model", ["llm-m-1", "llm-stream-openai-m-1"])
async def test_a_run_streams(simulator: Simulator, engine: None, model: str) -> None:
    async with model_of(simulator, "aixplain", "run").stream(model=model, data="Say hello.") as chunks:
        text = "".join([str(chunk) async for chunk in chunks])
    call = chunks.call.raise_for_status()
    assert text
    assert text == call.text
    assert call.reply.streamed
    if "openai" in model:  # envelopes tell none
        assert call.usage is not None
        assert call.usage.output_tokens == 6


@pytest.mark.parametrize(("provider", "endpoint", "arguments"), ROWS, ids=ids(ROWS))
async def test_a_wrong_key_is_rejected(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any]
) -> None:
    address = simulator.base_url if provider == "my_provider" else simulator.address(provider)
    model = iModel(provider=provider, endpoint=endpoint, base_url=address, api_key="key-that-is-wrong")
    call = await model.invoke(**arguments)
    assert (call.status, type(call.error).__name__) == ("failed", "Rejected")
    assert "key-that-is-wrong" not in f"{call.error!r} {call.error}"


async def test_a_limit_of_any_provider_is_survived(nursery: trio.Nursery, engine: None) -> None:
    """Told nothing of it, half of the calls are refused, wait as long as each says in its own way, and complete."""
    half = len(ROWS) // 2 + 1
    limited: Simulator = await nursery.start(serve, SimulatorConfig(limits=(ProviderLimit("requests", half, 1.0),)))
    calls = []
    with trio.fail_after(60):
        async with trio.open_nursery() as callers:
            for provider, endpoint, arguments in ROWS:
                model = model_of(limited, provider, endpoint)
                calls.append(model.create_api_calling(**arguments))
                callers.start_soon(model.invoke, calls[-1])
    assert [repr(call) for call in calls if call.status != "completed"] == []
    assert limited.statistics().refused["requests"] >= len(ROWS) - half


@pytest.mark.parametrize(
    ("provider", "endpoint"), [row[:2] for row in ROWS if row[0] not in ("ollama", "inferneo", "my_provider")], ids=str
)
async def test_a_missing_key_gives_one_clear_line(
    engine: None, provider: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in PROVIDERS:
        for variable in row.key_env:
            monkeypatch.delenv(variable, raising=False)
    arguments = next(given for name, kind, given in ROWS if (name, kind) == (provider, endpoint))
    with pytest.raises(MissingKey, match=r"^\S+ wants a key: set \w+_API_KEY.*Nothing was sent\.") as caught:
        await iModel(provider=provider, endpoint=endpoint).invoke(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "endpoint", "arguments", "says"),
    [
        ("openai", "chat", {"model": "m"}, "messages: it is missing"),
        ("openai", "chat", {**CHAT, "temperature": 3}, "temperature: "),
        ("openai", "response", {"model": "m", "messages": []}, "messages: "),
        ("openai", "embed", {"model": "m"}, "input: it is missing"),
        ("openai", "embed", {"model": "m", "input": ""}, "input: "),
        ("anthropic", "chat", {**CHAT, "max_tokens": "many"}, "max_tokens: "),
        ("anthropic", "chat", {**CHAT, "frequency_penalty": 1}, "frequency_penalty: "),
        ("gemini", "chat", {**CHAT, "frequency_penalty": 1}, "frequency_penalty: "),
        ("groq", "chat", {**CHAT, "n": 2}, "n: groq takes only 1"),
        ("exa", "search", {}, "query: it is missing"),
        ("exa", "search", {"query": "q", "num_results": 0}, "num_?[rR]esults: "),
        ("tavily", "extract", {}, "urls: it is missing"),
        ("firecrawl", "scrape", {"url": "https://a.example", "fromats": []}, "fromats: .*formats"),
        ("firecrawl", "map", {"url": 3}, "url: "),
    ],
)
async def test_a_wrong_argument_gives_one_clear_line_and_sends_nothing(
    simulator: Simulator, engine: None, provider: str, endpoint: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidCall, match=f"^{says}") as caught:
        await model_of(simulator, provider, endpoint).invoke(**arguments)
    assert str(caught.value).endswith("Nothing was sent.")
    assert "\n" not in str(caught.value)
    assert simulator.statistics().arrivals == 0


async def test_an_endpoint_object_is_as_good_as_its_names(simulator: Simulator, engine: None) -> None:
    embed = match_endpoint("openai", "embed")(base_url=simulator.address("openai"), api_key=KEY, model="m-1")
    model = iModel(endpoint=embed)
    assert model.model_name == "m-1"
    assert model.request_options is embed.request_options is not None
    call = await model.invoke(input="one")
    assert len(call.raise_for_status().view.embeddings) == 1


def test_an_unknown_endpoint_lists_those_there_are() -> None:
    with pytest.raises(UnknownEndpoint, match="'scrape', 'map'"):
        iModel(provider="firecrawl", endpoint="crawl")
