"""How each provider of the OpenAI chat format differs from the others: one row each, as data.

``generic`` is every service that is known by its address alone: it is sent what the caller wrote.

Pure: no trio, no httpx, no I/O. Sources beside the rows, as of 2026-11-20.
"""

from __future__ import annotations

from engine.providers.chat_options import (
    ChatOptions,
    DeepSeekOptions,
    GeminiOptions,
    GroqOptions,
    InferneoOptions,
    NvidiaNimOptions,
    OllamaOptions,
    OpenAIOptions,
    OpenRouterOptions,
    PerplexityOptions,
)
from engine.providers.openai_chat import Dialect

# max_tokens: refused by OpenAI's reasoning models, deprecated at Groq and OpenRouter; the others document only that.
_NEW_CAP = "max_completion_tokens"
_OLD_CAP = "max_tokens"

_ROWS = (
    Dialect("openai", _NEW_CAP, stream_usage=True, options=OpenAIOptions, ends_with_done=True),
    # console.groq.com/docs/openai: these are answered with 400; /docs/rate-limits: cached input counts for no limit.
    Dialect(
        "groq",
        _NEW_CAP,
        refused={"logprobs": None, "top_logprobs": None, "logit_bias": None, "n": 1},
        options=GroqOptions,
        exclusive=(("reasoning_format", "include_reasoning"),),
        message_names=False,
        cached_is_free=True,
        ends_with_done=True,
    ),
    # api-docs.deepseek.com/api/create-chat-completion
    Dialect("deepseek", _OLD_CAP, stream_usage=True, options=DeepSeekOptions, ends_with_done=True),
    # docs.perplexity.ai: nothing there says that unknown fields are refused, so they are passed on.
    Dialect("perplexity", _OLD_CAP, options=PerplexityOptions),
    # openrouter.ai/docs/api-reference
    Dialect("openrouter", _NEW_CAP, options=OpenRouterOptions, ends_with_done=True),
    # docs.nvidia.com/nim/large-language-models
    Dialect("nvidia_nim", _OLD_CAP, stream_usage=True, options=NvidiaNimOptions),
    # ai.google.dev/gemini-api/docs/openai; reports of 400 "Unknown name" for any further field, and for these three.
    Dialect(
        "gemini",
        _OLD_CAP,
        refused={"frequency_penalty": None, "logit_bias": None, "seed": None},
        rest_is_output=True,
        options=GeminiOptions,
        closed=True,
        ends_with_done=True,
    ),
    # docs.ollama.com/api/openai-compatibility: what it does not know it ignores.
    Dialect("ollama", _OLD_CAP, stream_usage=True, options=OllamaOptions, ends_with_done=True),
    # Its server (omkar-droid/inferneo 3492952): fields it does not know are ignored, so is stream_options.
    Dialect("inferneo", _OLD_CAP, options=InferneoOptions, ends_with_done=True),
    Dialect("generic", options=ChatOptions),
)

DIALECTS: dict[str, Dialect] = {row.name: row for row in _ROWS}
"""By the provider's name."""
