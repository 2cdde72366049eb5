"""Names, addresses and keys: every provider is found, and what cannot be reached is refused before anything is sent.

No refusal may quote an address or a key, because either may hold a secret.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MissingKey, UnknownEndpoint, UsageError
from engine.providers.catalogue import EndpointRow, Provider
from engine.providers.lookup import (
    EndpointSpec,
    api_key,
    is_own_address,
    register_provider,
    request_headers,
    resolve,
    split_model,
)
from engine.providers.openai_chat import Dialect, OpenAIChat


@pytest.mark.parametrize(
    ("provider", "base_url", "url"),
    [
        ("ollama", "http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("ollama", "http://localhost:11434/", "http://localhost:11434/v1/chat/completions"),
        ("ollama", "http://localhost:11434/v1", "http://localhost:11434/v1/chat/completions"),
        ("ollama", "http://localhost:11434/v1/", "http://localhost:11434/v1/chat/completions"),
        ("anthropic", "https://proxy.example/v1", "https://proxy.example/v1/messages"),
        ("anthropic", "https://proxy.example", "https://proxy.example/v1/messages"),
        ("firecrawl/map", "http://127.0.0.1:3002/v2/", "http://127.0.0.1:3002/v2/map"),
        ("firecrawl/map", "http://127.0.0.1:3002", "http://127.0.0.1:3002/v2/map"),
        ("ollama/native", "http://localhost:11434/api", "http://localhost:11434/api/chat"),
        ("openai", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/chat/completions"),
        ("openai", "https://proxy.example/a/b/", "https://proxy.example/a/b/chat/completions"),
        ("vllm", "http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        (
            "azure",
            "https://x.example/openai?api-version=1",
            "https://x.example/openai/chat/completions?api-version=1",
        ),
        ("any", "https://x.example/v1/chat/completions", "https://x.example/v1/chat/completions"),
        ("any", " https://x.example ", "https://x.example/chat/completions"),
    ],
)
def test_an_address_of_ones_own_is_joined_by_its_path(provider: str, base_url: str, url: str) -> None:
    name, _, endpoint = provider.partition("/")
    assert resolve(name, endpoint or "chat", base_url).url == url


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "x.example/v1",
        "ftp://x.example",
        "https://",
        "https:///v1",
        "https://x.example:notaport",
        "http://[::1",
        "http://x.example:0",
        "http://x.example:99999",
        "https://x.example/a b",
        "https://x.example/a\nb",
        "https://x.example/#v1",
        "https://x.example/v1?key=hunter22",
        "https://x.example/v1?API-KEY=hunter22",
        "https://user:hunter22@x.example/v1",
        "user:hunter22@x.example",
        "https://hunter22@x.example",
        "https://:hunter22@x.example",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_quoting_it(base_url: str) -> None:
    with pytest.raises(UnknownEndpoint, match="base_url") as caught:
        resolve("openai", base_url=base_url)
    assert "hunter22" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("provider", "endpoint", "says"),
    [
        ("nobody", "chat", "unknown provider 'nobody'.*openai, anthropic.*base_url"),
        ("openai", "foo", "openai has no endpoint 'foo'; there is: 'chat', 'response', 'embed'"),
        ("anthropic", "embed", "no endpoint 'embed'; there is: 'chat'"),
        ("firecrawl", "chat", "no endpoint 'chat'; there is: 'scrape', 'map'"),
        (" ", "chat", "provider is empty"),
    ],
)
def test_what_nobody_speaks_is_refused_with_a_sentence(provider: str, endpoint: str, says: str) -> None:
    with pytest.raises(UnknownEndpoint, match=says):
        resolve(provider, endpoint)


def test_the_one_endpoint_there_is_needs_no_name() -> None:
    assert resolve("exa").endpoint == "search"


def test_an_agents_address_is_the_service_that_it_asks_and_has_no_path_of_ours() -> None:
    found = resolve("codex", base_url="https://x.example/v1/", endpoint="whatever")
    assert (found.url, found.is_cli, found.key_required) == ("https://x.example/v1", True, False)
    assert not is_own_address(found)
    assert is_own_address(resolve("codex"))
    assert is_own_address(resolve("pi"))
    assert resolve("pi").url == ""
    with pytest.raises(UsageError, match="default_headers"):
        resolve("codex", headers={"x": "y"})


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("NVIDIA", "nvidia_nim"),
        ("nvidia-nim", "nvidia_nim"),
        (" OpenAI ", "openai"),
        ("open-router", "openrouter"),
        ("gemini-api", "gemini"),
        ("nim", "nvidia_nim"),
    ],
)
def test_names_ignore_case_and_know_their_other_spellings(given_name: str, name: str) -> None:
    assert resolve(given_name).provider == name


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("192.168.1.9", True),
        ("10.0.0.1", True),
        ("box", True),
        ("a.localhost", True),
        ("nas.local", True),
        ("8.8.8.8", False),
        ("api.example.com", False),
        ("localhost.example.com", False),
        ("[2606:4700::1]", False),
    ],
)
def test_a_local_address_needs_no_key(host: str, local: bool) -> None:
    spec = resolve("openai", base_url=f"http://{host}:8000/v1")
    assert spec.local is local
    assert spec.key_required is not local


def test_an_unknown_provider_has_a_variable_of_its_own_and_needs_no_key() -> None:
    spec = resolve("My.Service-2", base_url="https://x.example/v1")
    assert spec.key_env == ("MY_SERVICE_2_API_KEY",)
    assert spec.format.name == "openai_chat/generic"
    assert api_key(spec, None, {}) is None
    assert api_key(spec, None, {"MY_SERVICE_2_API_KEY": "k1"}) == "k1"


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gemini() -> EndpointSpec:
    return resolve("gemini")


@pytest.mark.parametrize(
    ("explicit", "environ", "expected"),
    [
        ("mine", {"GOOGLE_API_KEY": "a"}, "mine"),
        (None, {"GOOGLE_API_KEY": "a", "GEMINI_API_KEY": "b"}, "a"),
        (None, {"GEMINI_API_KEY": "b"}, "b"),
        (None, {"GOOGLE_API_KEY": " ", "GEMINI_API_KEY": "b"}, "b"),
        ("", {"GEMINI_API_KEY": "b"}, "b"),
        (None, {"GOOGLE_API_KEY": "a\n"}, "a"),
    ],
)
def test_the_key_is_the_explicit_one_else_the_first_variable_that_is_set(
    gemini: EndpointSpec, explicit: str | None, environ: dict[str, str], expected: str
) -> None:
    assert api_key(gemini, explicit, environ) == expected


def test_a_missing_key_names_the_variables(gemini: EndpointSpec) -> None:
    with pytest.raises(MissingKey, match="GOOGLE_API_KEY or GEMINI_API_KEY") as caught:
        api_key(gemini, None, {"OPENAI_API_KEY": "not this one"})
    assert caught.value.variables == ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("key", ["two words", "a\nb", "schlüssel", "a\x00b", "a\x7fb"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_showing_it(gemini: EndpointSpec, key: str) -> None:
    with pytest.raises(MissingKey, match="GEMINI_API_KEY") as caught:
        api_key(gemini, None, {"GEMINI_API_KEY": key})
    assert key not in repr(caught.value)


def test_the_key_goes_into_a_header_and_nowhere_else(gemini: EndpointSpec) -> None:
    assert request_headers(gemini, "hunter22") == {"authorization": "Bearer hunter22"}
    assert request_headers(gemini, None) == {}
    assert "hunter22" not in repr(gemini)


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ("bearer", {"authorization": "Bearer hunter22"}),
        ("x-api-key", {"x-api-key": "hunter22"}),
        ("none", {}),
        (None, {"x-api-key": "hunter22"}),
    ],
)
def test_the_way_the_key_is_sent_can_be_chosen(auth: Any, headers: dict[str, str]) -> None:
    assert request_headers(resolve("exa", "search", auth=auth), "hunter22") == headers


def test_headers_of_ones_own_stand_over_the_providers_and_are_in_no_repr() -> None:
    spec = resolve("anthropic", headers={"Anthropic-Version": "2026-10-21", "X-Secret": "hunter22"})
    assert dict(spec.headers) == {"anthropic-version": "2026-10-21", "x-secret": "hunter22"}
    assert spec.format.name == "anthropic_messages/2026-10-21"
    assert "hunter22" not in repr(spec)


# --- providers of ones own ------------------------------------------------------------------------------------------


def acme(**changed: Any) -> Provider:
    fields = {
        "name": "Road-Runner",
        "base_url": "https://api.acme.example/v1",
        "key_env": ("ACME_API_KEY",),
        "aliases": ("roadrunner",),
        "endpoints": (EndpointRow(name="chat", format=OpenAIChat(Dialect("acme"))),),
    }
    return Provider(**{**fields, **changed})


def test_a_provider_of_ones_own_is_found_like_any_other() -> None:
    register_provider(acme(base_url="https://old.example"))
    register_provider(acme())
    spec = resolve("ROADRUNNER")
    assert (spec.provider, spec.url) == ("road_runner", "https://api.acme.example/v1/chat/completions")
    assert spec.key_required


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": "openai"}, "'openai' belongs to the provider 'openai'"),
        ({"name": "other", "aliases": ("NIM",)}, "'nim' belongs to the provider 'nvidia_nim'"),
        ({"name": "claude"}, "'claude' belongs to the provider 'claude_code'"),
        ({"name": " "}, "no name"),
        ({"name": "second", "aliases": ("roadrunner",)}, "'roadrunner' belongs to the provider 'road_runner'"),
        ({"name": "third", "aliases": (), "base_url": "elsewhere"}, "base_url"),
    ],
)
def test_a_name_that_is_taken_is_refused(changed: dict[str, Any], says: str) -> None:
    register_provider(acme())
    with pytest.raises(UsageError, match=says):
        register_provider(acme(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"key_env": "ROAD_RUNNER_API_KEY"},
        {"aliases": "roadrunner"},
        {"endpoints": EndpointRow(name="chat", format=OpenAIChat(Dialect("acme")))},
        {"endpoints": (EndpointRow(name="chat", format=OpenAIChat),)},
        {"endpoints": ("chat",)},
    ],
    ids=str,
)
def test_what_a_provider_is_made_of_is_checked(changed: dict[str, Any]) -> None:
    """A variable's name without its comma would be taken for a variable of each letter."""
    with pytest.raises(UsageError, match=next(iter(changed))):
        acme(**changed)


@pytest.mark.parametrize("endpoints", [(), (EndpointRow(name="a", format=OpenAIChat(Dialect("a"))),) * 2])
def test_a_provider_has_endpoints_each_with_a_name_of_its_own(endpoints: tuple[EndpointRow, ...]) -> None:
    with pytest.raises(UsageError, match="endpoints"):
        acme(endpoints=endpoints)


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("gpt-4o", None, ("openai", "gpt-4o")),
        ("anthropic/claude-x", None, ("anthropic", "claude-x")),
        ("openrouter/openrouter/auto", None, ("openrouter", "openrouter/auto")),
        ("openai/gpt-oss-120b", "groq", ("groq", "openai/gpt-oss-120b")),
        ("openai/gpt-4o", "openai", ("openai", "openai/gpt-4o")),
        ("/models/llama.gguf", None, ("openai", "/models/llama.gguf")),
    ],
)
def test_the_provider_in_a_models_name(model: str, provider: str | None, expected: tuple[str, str]) -> None:
    assert split_model(model, provider) == expected


@given(
    st.text(),
    st.just("chat") | st.text(),
    st.none() | st.text(max_size=60) | st.builds("http://{}".format, st.text(max_size=40)),
)
def test_any_name_is_found_or_refused(provider: str, endpoint: str, base_url: str | None) -> None:
    try:
        spec = resolve(provider, endpoint, base_url)
    except UnknownEndpoint:
        return
    assert spec.url.startswith(("http://", "https://"))
    assert spec.format.path.endswith(spec.url.rpartition("/")[2].partition("?")[0])
