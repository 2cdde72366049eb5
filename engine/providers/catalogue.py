"""Who the providers are, as data: addresses, keys, the formats they speak, and the limits they publish.

A row is one endpoint of one provider. `engine.providers.lookup` finds a row by the names users type and makes a whole
address of it; a provider of a user's own is a row like these. Addresses, paths, variables and limits: the providers'
documentation and SDKs, at the page and on the day that each row names.

Pure: no trio, no httpx, no I/O. No key is kept here.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from actors.limits import Quota
from engine.errors import UsageError
from engine.providers.aixplain import AIXPLAIN
from engine.providers.anthropic_messages import AnthropicMessages
from engine.providers.chat_dialects import DIALECTS
from engine.providers.completions import GENERIC as GENERIC_COMPLETIONS
from engine.providers.completions import INFERNEO, Completions
from engine.providers.completions import OPENAI as OPENAI_COMPLETIONS
from engine.providers.embeddings import GENERIC, NVIDIA_NIM, OPENAI, Embeddings
from engine.providers.exa import ExaSearch
from engine.providers.firecrawl import FirecrawlMap, FirecrawlScrape
from engine.providers.ollama_native import OllamaChat
from engine.providers.openai_chat import Dialect, OpenAIChat
from engine.providers.openai_responses import OpenAIResponses
from engine.providers.tavily import TavilyExtract, TavilySearch
from engine.providers.wire import WireFormat

_READ_ON = "2026-11-20"

Auth: TypeAlias = Literal["bearer", "x-api-key", "token", "none"]
"""How the key is sent: ``Authorization: Bearer KEY``, ``x-api-key: KEY``, ``Authorization: Token KEY``, or not at
all."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds at the provider's own address for whatever the user says nothing of.

    `quotas` and `concurrency_limit` are limits that the provider publishes for everybody, or for its smallest plan. A
    quota holds for one key at this endpoint; with a name, over all endpoints of the provider that have it.
    `timeout_s` bounds an attempt: some of them take long to begin.
    """

    quotas: tuple[Quota, ...] = ()
    concurrency_limit: int | None = None
    timeout_s: float = 600.0


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a provider: what it is called, which format it speaks, and where.

    `path` follows the provider's address; empty: the format's own. `is_cli`: nothing is posted, an agent is run on this
    machine, and the address is the service that it asks. `any_name`: it is meant whatever endpoint is asked for.
    """

    name: str
    format: WireFormat
    path: str = ""
    aliases: tuple[str, ...] = ()
    defaults: Defaults = Defaults()
    is_cli: bool = False
    any_name: bool = False


def _is_format(made: object) -> bool:
    return not isinstance(made, type) and callable(getattr(made, "encode", None))


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider. `key_env` are the variables its key is looked for in, in this order.

    `headers` go with every request. `source` is the page these facts are from, `read_on` the day it was read.

    Raises:
      UsageError: it has no endpoint, or two of one name.
    """

    name: str
    base_url: str
    endpoints: tuple[EndpointRow, ...]
    key_env: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    auth: Auth = "bearer"
    key_required: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    source: str = ""
    read_on: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "base_url"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"{name} of a provider must be a text, not {type(getattr(self, name)).__name__}")
        for name in ("endpoints", "key_env", "aliases", "headers"):
            if not isinstance(getattr(self, name), tuple):
                raise UsageError(f"{name} of provider {self.name!r} must be a tuple; mind the comma of a single one")
        rows: tuple[object, ...] = self.endpoints
        if not all(isinstance(row, EndpointRow) and _is_format(row.format) for row in rows):
            raise UsageError(f"endpoints of provider {self.name!r} must be EndpointRows, each with a format object")
        spellings = [spelling for row in self.endpoints for spelling in (row.name, *row.aliases)]
        if not spellings or len(set(spellings)) < len(spellings):
            raise UsageError(f"provider {self.name!r} needs endpoints, each with names of its own: {spellings}")

    def find(self, endpoint: str) -> EndpointRow | None:
        """The endpoint of that name or alias, in lower case; None if there is none."""
        rows = self.endpoints
        return next((row for row in rows if endpoint in map(str.lower, (row.name, *row.aliases))), None)


CHAT_ALIASES = ("chat/completions", "chat_completions")
_EMBED_ALIASES = ("embeddings", "embedding")
_RESPONSE_ALIASES = ("responses",)
_COMPLETION_ALIASES = ("completion", "v1/completions")


def _chat(name: str, defaults: Defaults = Defaults(), path: str = "") -> EndpointRow:  # noqa: B008  # it is frozen
    return EndpointRow(
        name="chat", format=OpenAIChat(DIALECTS[name]), path=path, aliases=CHAT_ALIASES, defaults=defaults
    )


def _completions(dialect: Dialect, path: str = "") -> EndpointRow:
    return EndpointRow(name="completions", format=Completions(dialect), path=path, aliases=_COMPLETION_ALIASES)


_NIM = Defaults(quotas=(Quota("requests", 40, 60.0, name="account"),), concurrency_limit=8)
_TAVILY = Defaults(quotas=(Quota("requests", 100, 60.0, name="key"),), timeout_s=120.0)
# A model that is not loaded yet takes minutes to begin, and one works on few at a time.
_OLLAMA = Defaults(concurrency_limit=4, timeout_s=1_800.0)
# Of the free plan: ten a minute for each endpoint, two browsers.
_FIRECRAWL = Defaults(quotas=(Quota("requests", 10, 60.0),), concurrency_limit=2, timeout_s=300.0)

ANTHROPIC = AnthropicMessages()

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        key_env=("OPENAI_API_KEY",),
        endpoints=(
            _chat("openai"),
            EndpointRow(name="response", format=OpenAIResponses(), aliases=_RESPONSE_ALIASES),
            EndpointRow(name="embed", format=Embeddings(OPENAI), aliases=_EMBED_ALIASES),
            _completions(OPENAI_COMPLETIONS),
        ),
        source="platform.openai.com/docs/api-reference",
        read_on=_READ_ON,
    ),
    Provider(
        name="anthropic",
        base_url="https://api.anthropic.com",
        key_env=("ANTHROPIC_API_KEY",),
        auth="x-api-key",
        headers=(("anthropic-version", ANTHROPIC.version),),
        endpoints=(EndpointRow(name="chat", format=ANTHROPIC, aliases=("messages", "v1/messages", *CHAT_ALIASES)),),
        source="platform.claude.com/docs/en/api/messages",
        read_on=_READ_ON,
    ),
    Provider(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        aliases=("gemini_api",),
        endpoints=(_chat("gemini"),),
        source="ai.google.dev/gemini-api/docs/openai",
        read_on=_READ_ON,
    ),
    Provider(
        name="ollama",
        base_url="http://localhost:11434",
        key_env=("OLLAMA_API_KEY",),
        key_required=False,
        endpoints=(
            _chat("ollama", _OLLAMA, path="/v1/chat/completions"),
            EndpointRow(
                name="native",
                format=OllamaChat(),
                aliases=("api/chat", "native_chat"),
                defaults=_OLLAMA,
            ),
            EndpointRow(
                name="embed",
                format=Embeddings(GENERIC),
                path="/v1/embeddings",
                aliases=_EMBED_ALIASES,
                defaults=_OLLAMA,
            ),
        ),
        source="docs.ollama.com/openai, docs.ollama.com/api",
        read_on=_READ_ON,
    ),
    Provider(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_env=("GROQ_API_KEY",),
        endpoints=(_chat("groq"),),
        source="console.groq.com/docs/openai",
        read_on=_READ_ON,
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com",
        key_env=("DEEPSEEK_API_KEY",),
        # It answers within ten minutes of the beginning, which may itself be ten minutes away. 500 at once are what it
        # allows for its larger model.
        endpoints=(_chat("deepseek", Defaults(concurrency_limit=500, timeout_s=1_200.0)),),
        source="api-docs.deepseek.com",
        read_on=_READ_ON,
    ),
    Provider(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        key_env=("PERPLEXITY_API_KEY",),
        endpoints=(_chat("perplexity"),),
        source="docs.perplexity.ai/api-reference/chat-completions-post",
        read_on=_READ_ON,
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_env=("OPENROUTER_API_KEY",),
        aliases=("open_router",),
        endpoints=(_chat("openrouter"),),
        source="openrouter.ai/docs/api-reference",
        read_on=_READ_ON,
    ),
    Provider(
        name="nvidia_nim",
        base_url="https://integrate.api.nvidia.com/v1",
        key_env=("NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"),
        aliases=("nvidia", "nim"),
        endpoints=(
            _chat("nvidia_nim", _NIM),
            EndpointRow(name="embed", format=Embeddings(NVIDIA_NIM), aliases=_EMBED_ALIASES, defaults=_NIM),
        ),
        source="docs.api.nvidia.com/nim; its forum for the limit",
        read_on=_READ_ON,
    ),
    Provider(
        name="exa",
        base_url="https://api.exa.ai",
        key_env=("EXA_API_KEY",),
        auth="x-api-key",
        endpoints=(
            EndpointRow(
                name="search",
                format=ExaSearch(),
                defaults=Defaults(quotas=(Quota("requests", 10, 1.0),), timeout_s=120.0),
            ),
        ),
        source="exa.ai/docs/reference",
        read_on=_READ_ON,
    ),
    Provider(
        name="tavily",
        base_url="https://api.tavily.com",
        key_env=("TAVILY_API_KEY",),
        endpoints=(
            EndpointRow(name="search", format=TavilySearch(), defaults=_TAVILY),
            EndpointRow(name="extract", format=TavilyExtract(), defaults=_TAVILY),
        ),
        source="docs.tavily.com/documentation/api-reference",
        read_on=_READ_ON,
    ),
    Provider(
        name="firecrawl",
        base_url="https://api.firecrawl.dev",
        key_env=("FIRECRAWL_API_KEY",),
        endpoints=(
            EndpointRow(
                name="scrape", format=FirecrawlScrape(), aliases=("v1/scrape", "v2/scrape"), defaults=_FIRECRAWL
            ),
            EndpointRow(name="map", format=FirecrawlMap(), aliases=("v1/map", "v2/map"), defaults=_FIRECRAWL),
        ),
        source="docs.firecrawl.dev/api-reference",
        read_on=_READ_ON,
    ),
    Provider(
        name="aixplain",
        base_url="https://models.aixplain.com",
        key_env=("TEAM_API_KEY", "AIXPLAIN_API_KEY"),
        auth="x-api-key",
        endpoints=(
            # The model's id follows the path. Limits are of each key, so none hold for everybody.
            EndpointRow(name="run", format=AIXPLAIN, aliases=("execute",)),
        ),
        source="docs.aixplain.com/getting-started/api-requests; aiXplain's SDK 0.2.48",
        read_on=_READ_ON,
    ),
    Provider(
        name="inferneo",
        base_url="http://localhost:8000",
        key_env=("INFERNEO_API_KEY",),
        key_required=False,
        endpoints=(
            _chat("inferneo", path="/v1/chat/completions"),
            _completions(INFERNEO, path="/v1/completions"),
        ),
        source="github.com/omkar-droid/inferneo at 3492952, github.com/deepdik/inferneo-docs",
        read_on=_READ_ON,
    ),
)

COMPATIBLE = Provider(
    name="",
    base_url="",
    key_required=False,
    endpoints=(
        _chat("generic"),
        EndpointRow(name="response", format=OpenAIResponses(), aliases=_RESPONSE_ALIASES),
        EndpointRow(name="embed", format=Embeddings(GENERIC), aliases=_EMBED_ALIASES),
        _completions(GENERIC_COMPLETIONS),
    ),
)
"""What a service that is not in the catalogue is taken for: it speaks OpenAI's formats at the address given with it."""
