"""Who the providers are: address, key variables, and which dialect of which format each speaks. Data, and its lookup.

A name that is not here is taken for a service that speaks the OpenAI chat format at the address given with it. A name
or endpoint that belongs to another format is refused with a sentence, never sent a request it would not understand.

Pure: no trio, no httpx, no I/O; the environment is passed in. No key is kept here or shown in any message.
Addresses and variables: the providers' documentation and SDKs as of 2026-11-20.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from engine.errors import MissingKey, UnknownEndpoint
from engine.providers.chat_dialects import DIALECTS
from engine.providers.openai_chat import OpenAIChat
from engine.providers.wire import WireFormat


class Provider(msgspec.Struct, frozen=True):
    """A row of the catalogue: a provider's chat endpoint. `key_env` are looked at in this order."""

    name: str
    base_url: str
    key_env: tuple[str, ...]
    format: OpenAIChat
    key_required: bool = True


class EndpointSpec(msgspec.Struct, frozen=True):
    """Where a call goes and in which language. Holds no key, so it can be shown and compared.

    `url` is the whole address of a POST. `local`: it is on this machine or network, where no key is needed.
    """

    provider: str
    endpoint: str
    format: WireFormat
    url: str
    auth: Literal["bearer"]
    key_env: tuple[str, ...]
    key_required: bool
    local: bool


def _row(name: str, base_url: str, *key_env: str, key_required: bool = True) -> Provider:
    return Provider(name, base_url, key_env, OpenAIChat(DIALECTS[name]), key_required)


PROVIDERS: tuple[Provider, ...] = (
    _row("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    _row("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    _row("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    _row("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    _row("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    _row("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"),
    _row("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    _row("ollama", "http://localhost:11434/v1", "OLLAMA_API_KEY", key_required=False),
)

_BY_NAME = {row.name: row for row in PROVIDERS}
_ALIASES = {
    "nvidia": "nvidia_nim",
    "nim": "nvidia_nim",
    "gemini_api": "gemini",
    "open_router": "openrouter",
    "claude": "claude_code",
    "openai_codex": "codex",
    "gemini_cli": "gemini_code",
    "pi_code": "pi",
    "autogen": "ag2",
}
# Known by name, but in a language this version does not speak yet.
_NOT_YET = frozenset({"anthropic", "exa", "tavily", "firecrawl", "claude_code", "codex", "gemini_code", "pi", "ag2"})
_CHAT = frozenset({"chat", "chat/completions", "chat_completions"})
_GENERIC = OpenAIChat(DIALECTS["generic"])


def split_model(model: str, provider: str | None = None) -> tuple[str, str]:
    """The provider and the model that ``"anthropic/claude-x"`` means: ``("anthropic", "claude-x")``.

    Only the first ``provider/`` is cut off, and only where no provider is given; a given one leaves the model whole
    (``openai/gpt-oss-120b`` is a model of Groq's). Without a slash, or with nothing before it, the provider is openai.
    """
    if provider is not None:
        return provider, model
    prefix, slash, rest = model.partition("/")
    return (prefix, rest) if slash and prefix.strip() else ("openai", model)


def resolve(provider: str, endpoint: str = "chat", base_url: str | None = None) -> EndpointSpec:
    """Find where calls of this provider and endpoint go. Names ignore case; ``-`` is ``_``.

    `base_url` replaces the provider's address; the path is appended to it, so a prefix of a proxy's stays.

    Raises:
      UnknownEndpoint: no such provider (and no `base_url`), no such endpoint, or an address that cannot be used.
    """
    given = re.sub(r"[\s-]+", "_", provider.strip().lower())
    name = _ALIASES.get(given, given)
    if not name:
        raise UnknownEndpoint('provider is empty; pass provider="openai" or another name')
    if name in _NOT_YET:
        raise UnknownEndpoint(
            f"{name!r} is not spoken by this version of penstock yet; chat is, with {_known()}. Nothing was sent."
        )
    row = _BY_NAME.get(name)
    if endpoint.strip().strip("/").lower() not in _CHAT:
        raise UnknownEndpoint(
            f"{name} has no endpoint {endpoint!r} in this version; there is: 'chat'. Nothing was sent."
        )
    if row is None and base_url is None:
        raise UnknownEndpoint(
            f"unknown provider {name!r}; known are {_known()}. For any other service that speaks the OpenAI chat "
            "format, pass its address as base_url. Nothing was sent."
        )
    parts = _address(row.base_url if base_url is None and row is not None else str(base_url))
    path = parts.path.removesuffix("/")
    wire = _GENERIC if row is None else row.format
    if not path.endswith(wire.path):
        # Ollama's own address, as its documentation and its users write it, is not that of its OpenAI-like API.
        path += "/v1" if name == "ollama" and not path.endswith("/v1") else ""
        path += wire.path
    local = _is_local(parts.hostname or "")
    return EndpointSpec(
        provider=name,
        endpoint="chat",
        format=wire,
        url=parts._replace(path=path).geturl(),
        auth="bearer",
        key_env=(f"{re.sub(r'[^A-Z0-9]', '_', name.upper())}_API_KEY",) if row is None else row.key_env,
        key_required=row is not None and row.key_required and not local,
        local=local,
    )


def api_key(spec: EndpointSpec, explicit: str | None, environ: Mapping[str, str]) -> str | None:
    """The key to use: the explicit one, else the first of the endpoint's variables that is set. None: without a key.

    White space around it is dropped (a file's last line end is the usual case).

    Raises:
      MissingKey: there is none and this endpoint wants one, or it cannot stand in a header. Nothing was sent.
    """
    found, source = explicit, "api_key"
    for variable in spec.key_env:
        if not found or not found.strip():
            found, source = environ.get(variable), variable
    key = (found or "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise MissingKey(
            f"the key in {source} holds characters that no key has (spaces, line ends or non-ASCII ones); "
            "check what was pasted. Nothing was sent.",
            variables=spec.key_env,
        )
    if not key and spec.key_required:
        raise MissingKey(
            f"{spec.provider} wants a key: set {' or '.join(spec.key_env)}, or pass api_key=. Nothing was sent.",
            variables=spec.key_env,
        )
    return key or None


def auth_headers(spec: EndpointSpec, key: str | None) -> dict[str, str]:
    """The headers that carry the key: for the transport alone, never to be shown."""
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _known() -> str:
    return ", ".join(row.name for row in PROVIDERS)


# Names that keys travel under in an address, where every log on the way would hold them.
_KEY_PARAMETERS = frozenset({"key", "api_key", "apikey", "api-key", "access_token", "token", "subscription-key"})


def _address(base_url: str) -> SplitResult:
    """The address in parts, if it is one. What is wrong with it is said without quoting it: it may hold a password."""
    text = base_url.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname
    except ValueError:
        raise UnknownEndpoint("base_url is not a valid address: its host or port cannot be read") from None
    problem = ""
    if parts.scheme not in ("http", "https"):
        problem = 'must begin with "http://" or "https://"'
    elif "@" in parts.netloc:
        problem = "holds a user name or a password; pass the key as api_key instead"
    elif not host or port == 0:
        problem = "names no host to connect to, or port 0"
    elif re.search(r"[\x00-\x20\x7f]", text):
        problem = "holds a space or a control character"
    elif parts.fragment:
        problem = "holds a fragment (#...), which is never sent"
    elif any(name.lower() in _KEY_PARAMETERS for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        problem = "holds a key in its query, where logs would show it; pass it as api_key instead"
    if problem:
        raise UnknownEndpoint(f"base_url {problem}; an example is https://host.example/v1. Nothing was sent.")
    return parts


def _is_local(host: str) -> bool:
    """Whether a host is this machine or one of a private network: there a service usually wants no key."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
    return address.is_private or address.is_loopback or address.is_link_local
