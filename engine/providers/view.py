"""An answer in the same terms for every provider: text, reasoning, tool calls, what was found, what it cost.

These are the shapes alone; how each format fills them is said in its own file. Whatever they leave out is in the raw
answer, which is always kept. Words of a provider's that have no common one (a finish reason, say) stay as they are.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """What the provider says a call cost; None where it did not say.

    `cached_tokens` is a part of the input, `reasoning_tokens` a part of the output.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A tool the model wants called. `arguments` is the JSON text as the model wrote it, which may be invalid."""

    id: str
    name: str
    arguments: str


class Citation(msgspec.Struct, frozen=True):
    """A source that the text of an answer rests on. `text` is the passage that is quoted, if the provider names it."""

    url: str
    title: str | None = None
    text: str | None = None


class Found(msgspec.Struct, frozen=True):
    """One thing a search found, or one page that was fetched.

    `text` is its content in the form that was asked for, else the passage shown. `score` is the provider's own, larger
    is better. `error` says why this one could not be had, although the call as a whole succeeded.
    """

    url: str
    title: str | None = None
    text: str | None = None
    score: float | None = None
    published: str | None = None
    error: str | None = None


class View(msgspec.Struct, frozen=True):
    """An answer in the same terms for every format.

    `finish_reason` is ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``pause`` (send it back to have it
    continued), ``error``, or a word of the provider's. `embeddings` are vectors in the order of the inputs.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    provider_id: str | None = None
    model: str | None = None
    citations: tuple[Citation, ...] = ()
    results: tuple[Found, ...] = ()
    embeddings: Sequence[Sequence[float]] = ()
