"""The arguments of a chat call, as each provider of the OpenAI format documents them: one schema each.

What all share stands in `ChatOptions`, with the documented ranges; a provider's own follow in its class. Words that a
provider may add to (an effort, a tier) are texts, never closed lists: its refusal of a wrong one costs nothing, ours of
a new one would cost a call. `messages` are looked at by `chat_arguments`, with sentences of their own.

Pure: no trio, no httpx, no I/O. Sources: platform.openai.com/docs/api-reference/chat and the providers' own SDKs and
pages (console.groq.com/docs, api-docs.deepseek.com, openrouter.ai/docs, ai.google.dev/gemini-api/docs/openai,
docs.perplexity.ai, docs.nvidia.com/nim, docs.ollama.com), all as of 2026-11-20.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

Object: TypeAlias = dict[str, Any] | UnsetType
Objects: TypeAlias = list[Any] | UnsetType
Text: TypeAlias = str | UnsetType
Flag: TypeAlias = bool | UnsetType
Texts: TypeAlias = list[str] | UnsetType
Cap: TypeAlias = Annotated[int, Meta(ge=1)] | UnsetType
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)] | UnsetType
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)] | UnsetType
Bias: TypeAlias = Annotated[float, Meta(ge=-100, le=100)]


class ChatOptions(msgspec.Struct, kw_only=True, gc=False):
    """What every provider of the format documents. `max_tokens` and `max_completion_tokens` are one cap in two
    spellings: the one that the provider takes is sent."""

    model: str
    messages: Annotated[Any, Meta(description="a list of objects, each with a role and a content")]
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    top_p: Fraction = UNSET
    n: Cap = UNSET
    stop: str | list[Any] | UnsetType = UNSET
    max_tokens: Cap = UNSET
    max_completion_tokens: Cap = UNSET
    presence_penalty: Penalty = UNSET
    frequency_penalty: Penalty = UNSET
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType = UNSET
    logprobs: Flag = UNSET
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | UnsetType = UNSET
    logit_bias: dict[str | int, Bias] | UnsetType = UNSET
    response_format: Object = UNSET
    tools: Objects = UNSET
    tool_choice: str | dict[str, Any] | UnsetType = UNSET
    parallel_tool_calls: Flag = UNSET
    stream: Flag = UNSET
    stream_options: Object = UNSET
    user: Text = UNSET
    metadata: Object = UNSET


class OpenAIOptions(ChatOptions, kw_only=True, gc=False):
    """Which models take which effort, verbosity or sampling is OpenAI's to say: it changes with each of them."""

    reasoning_effort: Annotated[str, Meta(description="none, minimal, low, medium, high, xhigh, max")] | UnsetType = (
        UNSET
    )
    verbosity: Annotated[str, Meta(description="low, medium, high")] | UnsetType = UNSET
    service_tier: Annotated[str, Meta(description="auto, default, flex, scale, priority, fast")] | UnsetType = UNSET
    store: Flag = UNSET
    prompt_cache_key: Text = UNSET
    prompt_cache_options: Object = UNSET
    safety_identifier: Text = UNSET
    prediction: Object = UNSET
    modalities: Texts = UNSET
    audio: Object = UNSET
    web_search_options: Object = UNSET
    moderation: Object = UNSET


class GroqOptions(ChatOptions, kw_only=True, gc=False):
    """`reasoning_format` and `include_reasoning` exclude each other."""

    reasoning_effort: Annotated[str, Meta(description="none, default, low, medium, high")] | UnsetType = UNSET
    reasoning_format: Annotated[str, Meta(description="hidden, raw, parsed")] | UnsetType = UNSET
    include_reasoning: Flag = UNSET
    service_tier: Annotated[str, Meta(description="auto, on_demand, flex, performance")] | UnsetType = UNSET
    documents: Objects = UNSET
    citation_options: Text = UNSET
    compound_custom: Object = UNSET
    search_settings: Object = UNSET
    disable_tool_validation: Flag = UNSET


class DeepSeekOptions(ChatOptions, kw_only=True, gc=False):
    """It thinks unless `thinking` says ``{"type": "disabled"}``, and ignores sampling while it does."""

    thinking: Object = UNSET
    reasoning_effort: Annotated[str, Meta(description="low, high, max")] | UnsetType = UNSET
    user_id: Text = UNSET


class PerplexityOptions(ChatOptions, kw_only=True, gc=False):
    """Dates are written MM/DD/YYYY; a domain with ``-`` before it is left out of the search."""

    search_mode: Annotated[str, Meta(description="web, academic, sec")] | UnsetType = UNSET
    search_recency_filter: Annotated[str, Meta(description="hour, day, week, month, year")] | UnsetType = UNSET
    search_domain_filter: Texts = UNSET
    search_after_date_filter: Text = UNSET
    search_before_date_filter: Text = UNSET
    return_images: Flag = UNSET
    return_related_questions: Flag = UNSET
    disable_search: Flag = UNSET
    enable_search_classifier: Flag = UNSET
    reasoning_effort: Annotated[str, Meta(description="minimal, low, medium, high")] | UnsetType = UNSET
    web_search_options: Object = UNSET
    stream_mode: Annotated[str, Meta(description="full, concise")] | UnsetType = UNSET


class OpenRouterOptions(ChatOptions, kw_only=True, gc=False):
    """`models` are tried one after the other; without `model` the account's default answers."""

    model: str | UnsetType = UNSET  # type: ignore[assignment]  # unlike at the others, it may be missing
    models: Texts = UNSET
    provider: Object = UNSET
    reasoning: Object = UNSET
    reasoning_effort: Text = UNSET
    plugins: Objects = UNSET
    transforms: Texts = UNSET
    top_k: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    min_p: Fraction = UNSET
    top_a: Fraction = UNSET
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    session_id: Text = UNSET
    trace: Object = UNSET


class NvidiaNimOptions(ChatOptions, kw_only=True, gc=False):
    """The older `nvext` holds what newer servers take at the top."""

    top_k: int | UnsetType = UNSET
    min_p: Fraction = UNSET
    chat_template_kwargs: Object = UNSET
    nvext: Object = UNSET
    guided_json: Object = UNSET


class GeminiOptions(ChatOptions, kw_only=True, gc=False):
    """Google's own arguments stand in `extra_body`: ``{"google": {"thinking_config": {...}, "cached_content": ...}}``.
    At the top it refuses every name that it does not know."""

    reasoning_effort: Annotated[str, Meta(description="none, minimal, low, medium, high")] | UnsetType = UNSET
    extra_body: Object = UNSET


class OllamaOptions(ChatOptions, kw_only=True, gc=False):
    """Its OpenAI-like path; the size of the context cannot be set there."""

    reasoning_effort: Annotated[str, Meta(description="none, low, medium, high, max")] | UnsetType = UNSET


class InferneoOptions(ChatOptions, kw_only=True, gc=False):
    """What its server adds. `priority`: the higher is served first. `stop` is ignored in its streams."""

    top_k: int | UnsetType = UNSET
    min_p: Fraction = UNSET
    repetition_penalty: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    ignore_eos: Flag = UNSET
    priority: int | UnsetType = UNSET


def required_of(options: type[msgspec.Struct]) -> frozenset[str]:
    """The arguments that a schema cannot do without."""
    return frozenset(field.name for field in msgspec.structs.fields(options) if field.required)
