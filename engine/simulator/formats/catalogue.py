"""Which path of the simulated provider speaks in which manner, and the address of each provider.

Every provider has a prefix of its own, followed by the path the real one has below its host; Inferneo has two, for what
its server does and for what its documentation says, and Gemini's own API one beside that for OpenAI's chat. The paths
without a prefix are those of whoever owns them: ``/v1/messages`` is Anthropic's, ``/api/chat`` Ollama's, ``/v2/...``
Firecrawl's (whose SDK leaves the path of an address out), ``/sdk/...`` aiXplain's (for the same reason), the others
OpenAI's.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from typing import Final

from actors.errors import UsageError
from engine.simulator.formats.aixplain import BASE as AIXPLAIN
from engine.simulator.formats.aixplain import AixplainRun
from engine.simulator.formats.aixplain_desks import (
    Deletion,
    KeyUse,
    ModelPage,
    ModelsNamed,
    Poll,
    Record,
    TrainingLog,
)
from engine.simulator.formats.anthropic import Anthropic
from engine.simulator.formats.dialects import DeepSeek, Gemini, Groq, Nim, OllamaCompat
from engine.simulator.formats.exa import Exa
from engine.simulator.formats.firecrawl import FirecrawlMap, FirecrawlScrape
from engine.simulator.formats.gateways import OpenRouter, Perplexity
from engine.simulator.formats.gemini_native import GeminiNative
from engine.simulator.formats.inferneo import (
    DocumentedChat,
    DocumentedCompletions,
    InferneoChat,
    InferneoCompletions,
)
from engine.simulator.formats.inferneo_desks import PLACES as INFERNEO_PLACES
from engine.simulator.formats.manner import Manner
from engine.simulator.formats.ollama import Ollama
from engine.simulator.formats.openai_chat import OpenAIChat
from engine.simulator.formats.openai_completions import OpenAICompletions
from engine.simulator.formats.openai_embed import Embeddings, NimEmbeddings, OllamaEmbeddings
from engine.simulator.formats.openai_responses import Responses
from engine.simulator.formats.routes import Routes, Served
from engine.simulator.formats.tavily import TavilyExtract, TavilySearch

BASES: Final = {
    "openai": "/openai/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini/v1beta/openai",
    "gemini_native": "/gemini",
    "ollama": "/ollama",
    "groq": "/groq/openai/v1",
    "deepseek": "/deepseek",
    "perplexity": "/perplexity",
    "openrouter": "/openrouter/api/v1",
    "nvidia_nim": "/nvidia_nim/v1",
    "exa": "/exa",
    "tavily": "/tavily",
    "firecrawl": "/firecrawl",
    "inferneo": "/inferneo",
    "inferneo_documented": "/inferneo_documented",
    "aixplain": AIXPLAIN,
}
"""The path of each provider's base address, as a client of it is given that."""

PROVIDERS: Final = tuple(BASES)
"""The name of every provider."""

CHAT: Final = OpenAIChat()
_CHAT_PATH: Final = "/chat/completions"
_ENDPOINTS: Final[tuple[tuple[str, str, Manner], ...]] = (
    ("openai", _CHAT_PATH, CHAT),
    ("openai", "/completions", OpenAICompletions()),
    ("openai", "/responses", Responses()),
    ("openai", "/embeddings", Embeddings()),
    ("anthropic", "/v1/messages", Anthropic()),
    ("gemini", _CHAT_PATH, Gemini()),
    ("ollama", "/api/chat", Ollama()),
    ("ollama", "/v1/chat/completions", OllamaCompat()),
    ("ollama", "/v1/embeddings", OllamaEmbeddings()),
    ("groq", _CHAT_PATH, Groq()),
    ("deepseek", _CHAT_PATH, DeepSeek()),
    ("perplexity", _CHAT_PATH, Perplexity()),
    ("openrouter", _CHAT_PATH, OpenRouter()),
    ("nvidia_nim", _CHAT_PATH, Nim()),
    ("nvidia_nim", "/embeddings", NimEmbeddings()),
    ("exa", "/search", Exa()),
    ("tavily", "/search", TavilySearch()),
    ("tavily", "/extract", TavilyExtract()),
    ("firecrawl", "/v2/scrape", FirecrawlScrape()),
    ("firecrawl", "/v2/map", FirecrawlMap()),
    ("inferneo", "/v1/completions", InferneoCompletions()),
    ("inferneo", "/v1/chat/completions", InferneoChat()),
    ("inferneo_documented", "/v1/completions", DocumentedCompletions()),
    ("inferneo_documented", "/v1/chat/completions", DocumentedChat()),
)

_PREFIXED: Final = {(BASES[provider] + path).encode(): manner for provider, path, manner in _ENDPOINTS}
ROUTES: Final[dict[bytes, Manner]] = {
    **_PREFIXED,
    b"/v1/chat/completions": CHAT,
    b"/chat/completions": CHAT,
    b"/v1/completions": _PREFIXED[b"/openai/v1/completions"],
    b"/v1/responses": _PREFIXED[b"/openai/v1/responses"],
    b"/v1/embeddings": _PREFIXED[b"/openai/v1/embeddings"],
    b"/v1/messages": _PREFIXED[b"/anthropic/v1/messages"],
    b"/api/chat": _PREFIXED[b"/ollama/api/chat"],
    b"/v2/scrape": _PREFIXED[b"/firecrawl/v2/scrape"],
    b"/v2/map": _PREFIXED[b"/firecrawl/v2/map"],
}
"""Every path that takes a POST, and how it is spoken there."""

_PLACES: Final[tuple[tuple[str, str, str, Served], ...]] = (
    ("gemini_native", "POST", "/v1beta/models/{}:generateContent", GeminiNative(stream=False)),
    ("gemini_native", "POST", "/v1beta/models/{}:streamGenerateContent", GeminiNative(stream=True)),
    ("aixplain", "POST", "/api/v1/execute/{...}", AixplainRun(1)),
    ("aixplain", "POST", "/api/v2/execute/{...}", AixplainRun(2)),
    ("aixplain", "GET", "/api/v1/data/{}", Poll()),
    ("aixplain", "GET", "/api/v2/data/{}", Poll()),
    ("aixplain", "GET", "/sdk/models", ModelsNamed()),
    ("aixplain", "POST", "/sdk/models/paginate", ModelPage()),
    ("aixplain", "GET", "/sdk/models/by-name/{}", Record()),
    ("aixplain", "GET", "/sdk/models/{}", Record()),
    ("aixplain", "DELETE", "/sdk/models/{}", Deletion()),
    ("aixplain", "GET", "/sdk/finetune/{}/ml-logs", TrainingLog()),
    ("aixplain", "GET", "/sdk/api-keys/usage-limits", KeyUse()),
    *INFERNEO_PLACES,
)
"""By provider, method and template below its base address: paths with an open part, and whatever is no POST."""

_BARE: Final = ("/sdk/",)
"""How paths begin that are served without their provider's prefix as well."""
PLACES: Final = Routes(
    [
        *((method, BASES[provider] + path, served) for provider, method, path, served in _PLACES),
        *((method, path, served) for _, method, path, served in _PLACES if path.startswith(_BARE)),
    ]
)
"""Who serves them."""

_LISTING: Final = ("openai", "gemini", "groq", "deepseek", "openrouter", "nvidia_nim")
MODEL_PATHS: Final = frozenset(
    path.encode() for path in ("/v1/models", "/models", "/ollama/v1/models", *(f"{BASES[n]}/models" for n in _LISTING))
)
"""Where the models are listed, in OpenAI's shape."""

_OWNERS: Final = {
    **{provider.encode(): served for provider, _, _, served in reversed(_PLACES) if isinstance(served, Manner)},
    **{provider.encode(): manner for provider, _, manner in reversed(_ENDPOINTS)},
}


def owner_of(path: bytes) -> Manner:
    """Whose manner an error at an unknown path is told in."""
    return _OWNERS.get(path.split(b"/", 2)[1] if path.startswith(b"/") else b"", CHAT)


def base_of(provider: str) -> str:
    """The path of a provider's base address. Raises `UsageError` if it is not simulated."""
    if provider not in BASES:
        raise UsageError(f"simulator: no provider is called {provider!r}; there are {', '.join(BASES)}")
    return BASES[provider]
