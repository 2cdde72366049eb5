"""How each provider that speaks the OpenAI chat format differs from the shared one, as data.

Pure: no trio, no httpx, no I/O. From the providers' documentation and SDKs as of 2026-11-20.
Placeholder until the real one is merged.
"""

from __future__ import annotations

from engine.providers.openai_chat import Dialect

# max_tokens: refused by OpenAI's reasoning models, deprecated at Groq and OpenRouter; the others document only that.
_NEW_CAP = "max_completion_tokens"
_OLD_CAP = "max_tokens"
# console.groq.com/docs/openai: these are answered with 400.
_GROQ_REFUSES: dict[str, object] = {"logprobs": None, "top_logprobs": None, "logit_bias": None, "n": 1}

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("openai", _NEW_CAP, stream_usage=True),
        Dialect("groq", _NEW_CAP, _GROQ_REFUSES),
        Dialect("deepseek", _OLD_CAP, stream_usage=True),
        Dialect("perplexity", _OLD_CAP),
        Dialect("openrouter", _NEW_CAP),
        Dialect("nvidia_nim", _OLD_CAP, stream_usage=True),
        Dialect("gemini", _OLD_CAP, rest_is_output=True),
        Dialect("ollama", _OLD_CAP, stream_usage=True),
        Dialect("generic"),
    )
}
