"""The catalogue, row by row: what each provider and endpoint of the seed system's tables is here.

Its tables of providers, endpoints and key variables, and the aliases its registry knows, as one parametrised test.
"""

# ruff: noqa: E501  # a table reads best with one row on a line

from __future__ import annotations

import pytest

import engine.endpoints as classes
from engine.endpoints import Endpoint, match_endpoint
from engine.providers.catalogue import PROVIDERS
from engine.providers.lookup import request_headers, resolve

BEARER, API_KEY = "authorization", "x-api-key"

ROWS = [
    # provider, endpoint, class, format, address, variables, header of the key
    ("openai", "chat", "OpenaiChatEndpoint", "openai_chat/openai", "https://api.openai.com/v1/chat/completions", "OPENAI_API_KEY", BEARER),
    ("openai", "response", "OpenaiResponseEndpoint", "openai_responses", "https://api.openai.com/v1/responses", "OPENAI_API_KEY", BEARER),
    ("openai", "embed", "OpenaiEmbedEndpoint", "embeddings/openai", "https://api.openai.com/v1/embeddings", "OPENAI_API_KEY", BEARER),
    ("openai", "completions", "OpenaiCompletionsEndpoint", "completions/openai", "https://api.openai.com/v1/completions", "OPENAI_API_KEY", BEARER),
    ("anthropic", "chat", "AnthropicMessagesEndpoint", "anthropic_messages/2023-06-01", "https://api.anthropic.com/v1/messages", "ANTHROPIC_API_KEY", API_KEY),
    ("gemini", "chat", "GeminiChatEndpoint", "openai_chat/gemini", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "GOOGLE_API_KEY GEMINI_API_KEY", BEARER),
    ("ollama", "chat", "OllamaChatEndpoint", "openai_chat/ollama", "http://localhost:11434/v1/chat/completions", "OLLAMA_API_KEY", BEARER),
    ("ollama", "native", "OllamaNativeEndpoint", "ollama_native", "http://localhost:11434/api/chat", "OLLAMA_API_KEY", BEARER),
    ("ollama", "embed", "OllamaEmbedEndpoint", "embeddings/generic", "http://localhost:11434/v1/embeddings", "OLLAMA_API_KEY", BEARER),
    ("groq", "chat", "GroqChatEndpoint", "openai_chat/groq", "https://api.groq.com/openai/v1/chat/completions", "GROQ_API_KEY", BEARER),
    ("deepseek", "chat", "DeepseekChatEndpoint", "openai_chat/deepseek", "https://api.deepseek.com/chat/completions", "DEEPSEEK_API_KEY", BEARER),
    ("perplexity", "chat", "PerplexityChatEndpoint", "openai_chat/perplexity", "https://api.perplexity.ai/chat/completions", "PERPLEXITY_API_KEY", BEARER),
    ("openrouter", "chat", "OpenRouterChatEndpoint", "openai_chat/openrouter", "https://openrouter.ai/api/v1/chat/completions", "OPENROUTER_API_KEY", BEARER),
    ("nvidia_nim", "chat", "NvidiaNimChatEndpoint", "openai_chat/nvidia_nim", "https://integrate.api.nvidia.com/v1/chat/completions", "NVIDIA_NIM_API_KEY NVIDIA_API_KEY", BEARER),
    ("nvidia_nim", "embed", "NvidiaNimEmbedEndpoint", "embeddings/nvidia_nim", "https://integrate.api.nvidia.com/v1/embeddings", "NVIDIA_NIM_API_KEY NVIDIA_API_KEY", BEARER),
    ("exa", "search", "ExaSearchEndpoint", "exa_search", "https://api.exa.ai/search", "EXA_API_KEY", API_KEY),
    ("tavily", "search", "TavilySearchEndpoint", "tavily_search", "https://api.tavily.com/search", "TAVILY_API_KEY", BEARER),
    ("tavily", "extract", "TavilyExtractEndpoint", "tavily_extract", "https://api.tavily.com/extract", "TAVILY_API_KEY", BEARER),
    ("firecrawl", "scrape", "FirecrawlScrapeEndpoint", "firecrawl_scrape", "https://api.firecrawl.dev/v2/scrape", "FIRECRAWL_API_KEY", BEARER),
    ("firecrawl", "map", "FirecrawlMapEndpoint", "firecrawl_map", "https://api.firecrawl.dev/v2/map", "FIRECRAWL_API_KEY", BEARER),
    ("aixplain", "run", "AixplainRunEndpoint", "aixplain_run", "https://models.aixplain.com/api/v2/execute", "TEAM_API_KEY AIXPLAIN_API_KEY", API_KEY),
    ("inferneo", "chat", "InferneoChatEndpoint", "openai_chat/inferneo", "http://localhost:8000/v1/chat/completions", "INFERNEO_API_KEY", BEARER),
    ("inferneo", "completions", "InferneoCompletionsEndpoint", "completions/inferneo", "http://localhost:8000/v1/completions", "INFERNEO_API_KEY", BEARER),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "endpoint", "cls", "wire", "url", "key_env", "header"), ROWS)
def test_every_row_of_the_seeds_tables(
    provider: str, endpoint: str, cls: str, wire: str, url: str, key_env: str, header: str
) -> None:
    spec = resolve(provider.upper(), f" {endpoint.upper()} ")
    assert (spec.provider, spec.endpoint, spec.format.name, spec.url) == (provider, endpoint, wire, url)
    assert spec.key_env == tuple(key_env.split())
    assert spec.key_required is (provider not in ("ollama", "inferneo"))
    assert header in request_headers(spec, "k")
    assert match_endpoint(provider, endpoint) is getattr(classes, cls)


def test_the_table_above_has_every_row_of_the_catalogue() -> None:
    assert [(row.name, endpoint.name) for row in PROVIDERS for endpoint in row.endpoints] == [row[:2] for row in ROWS]


@pytest.mark.parametrize(
    ("alias", "endpoint", "provider", "name"),
    [
        ("NVIDIA", "CHAT", "nvidia_nim", "chat"),
        ("nim", "embeddings", "nvidia_nim", "embed"),
        ("gemini-api", "chat/completions", "gemini", "chat"),
        ("Open-Router", "chat_completions", "openrouter", "chat"),
        ("openai", "responses", "openai", "response"),
        ("openai", "embedding", "openai", "embed"),
        ("anthropic", "messages", "anthropic", "chat"),
        ("firecrawl", "v1/scrape", "firecrawl", "scrape"),
        ("firecrawl", "/v1/map/", "firecrawl", "map"),
        ("aiXplain", "chat", "aixplain", "run"),
        ("Inferneo", "v1/completions", "inferneo", "completions"),
        ("openai", "completion", "openai", "completions"),
    ],
)
def test_aliases_of_providers_and_endpoints(alias: str, endpoint: str, provider: str, name: str) -> None:
    spec = resolve(alias, endpoint)
    assert (spec.provider, spec.endpoint) == (provider, name)


def test_every_fact_has_a_source_and_a_date() -> None:
    assert all(row.source and row.read_on for row in PROVIDERS)


@pytest.mark.parametrize(
    ("provider", "endpoint", "limits", "concurrency_limit"),
    [
        ("exa", "search", [(10, 1.0)], None),
        ("tavily", "extract", [(100, 60.0)], None),
        ("firecrawl", "map", [(10, 60.0)], 2),
        ("nvidia_nim", "embed", [(40, 60.0)], 8),
        ("deepseek", "chat", [], 500),
        ("ollama", "native", [], 4),
        ("openai", "chat", [], None),
    ],
)
def test_published_limits_hold_at_the_providers_own_address_alone(
    provider: str, endpoint: str, limits: list[tuple[int, float]], concurrency_limit: int | None
) -> None:
    own = resolve(provider, endpoint).defaults
    assert [(quota.limit, quota.period_s) for quota in own.quotas] == limits
    assert own.concurrency_limit == concurrency_limit
    elsewhere = resolve(provider, endpoint, "http://127.0.0.1:8000").defaults
    assert (elsewhere.quotas, elsewhere.concurrency_limit, elsewhere.timeout_s) == ((), None, own.timeout_s)


def test_an_unknown_provider_matches_the_general_class() -> None:
    found = match_endpoint("mine")
    assert issubclass(found, Endpoint)
    assert found(base_url="http://127.0.0.1:1/v1").config.full_url == "http://127.0.0.1:1/v1/chat/completions"
