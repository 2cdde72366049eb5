"""Answers as the SDKs of OpenAI's shape hold them, read as their users read them: OpenAI's own, Groq's, Perplexity's,
OpenRouter's. No SDK is imported here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from two_sides import Told, without_time


def _usage(usage: Any) -> tuple[int | None, ...] | None:
    if usage is None:
        return None
    reasoning = getattr(getattr(usage, "completion_tokens_details", None), "reasoning_tokens", None)
    if reasoning is None:
        reasoning = getattr(usage, "reasoning_tokens", None)
    # Gemini counts what it thought in the total alone; everybody else's total is the sum.
    return int(usage.prompt_tokens), int(usage.total_tokens - usage.prompt_tokens), reasoning


def _thinking(message: Any) -> str | None:
    return getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)


def told_by(completion: Any) -> Told:
    """A completion."""
    choice = completion.choices[0]
    message = choice.message
    return Told(
        text=message.content or None,
        reasoning=_thinking(message),
        finish=choice.finish_reason,
        calls=[
            (call.id, call.function.name, call.function.arguments)
            for call in getattr(message, "tool_calls", None) or []
        ],
        usage=_usage(completion.usage),
        identity=without_time(completion.id),
        model=completion.model,
    )


def told_by_chunks(chunks: Iterable[Any]) -> Told:
    """The chunks of a stream, put together."""
    told, calls = Told(), dict[int, list[str]]()
    for chunk in chunks:
        told.identity, told.model = without_time(chunk.id), chunk.model
        usage = chunk.usage or getattr(getattr(chunk, "x_groq", None), "usage", None)
        told.usage = _usage(usage) or told.usage
        for choice in chunk.choices:
            delta = choice.delta
            told.finish = choice.finish_reason or told.finish
            told.text = (told.text or "") + delta.content if delta.content else told.text
            thinking = _thinking(delta)
            told.reasoning = (told.reasoning or "") + thinking if thinking else told.reasoning
            for call in getattr(delta, "tool_calls", None) or []:
                so_far = calls.setdefault(call.index, ["", "", ""])
                for place, piece in enumerate((call.id, call.function.name, call.function.arguments)):
                    so_far[place] += piece or ""
    told.calls = [(identity, name, arguments) for identity, name, arguments in calls.values()]
    return told
