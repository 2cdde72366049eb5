"""What a run of an agent consists of, in the same terms for every program: the closed union of chunks.

A run is any number of chunks and then exactly one that is terminal, `Result` or `Error`. `raw` is the program's own
event, without what in it repeats the whole of what came before; it may be None. Chunks are JSON on their way to whoever
reads the run, one for each event of its stream.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Category: TypeAlias = Literal[
    "auth",
    "rate_limit",
    "quota",
    "server",
    "network",
    "cut",
    "rejected",
    "session_not_found",
    "session_busy",
    "interrupted",
    "limit",
    "protocol",
    "failed",
]
"""What a run failed of. ``auth`` to ``rejected`` are what came of asking the provider: no or a wrong key, too much for
now, credit used up, its own failure, not reached (no connection was made, so nothing was asked), its answer broke off
or never came (the request had left, for all that is known, and may be billed), the request refused.
``session_not_found``: there is nothing to resume. ``session_busy``: another run is going on with it, which passes.
``interrupted``: somebody stopped it. ``limit``: a limit that the caller set (budget, turns) was reached. ``protocol``:
what the program wrote cannot be followed. ``failed``: all else."""


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run, or a session so far, has cost; None where nobody said.

    `cached_tokens` is a part of the input, `reasoning_tokens` a part of the output. `cost_usd` is the program's own
    reckoning in US dollars.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


NOTHING_SPENT = Spent(0, 0, 0, 0)
"""What a session has cost that is new."""


def sum_of(first: Spent | None, second: Spent) -> Spent:
    """Two costs together; a count that only one of them has is that one's."""
    if first is None:
        return second
    both = zip(msgspec.structs.astuple(first), msgspec.structs.astuple(second), strict=True)
    return Spent(*[other if one is None else one if other is None else one + other for one, other in both])


class _Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    raw: Any = None


class Session(_Chunk, frozen=True, tag="session"):
    """The session that this run is part of, under the name by which it can be resumed. May come again."""

    session_id: str
    model: str = ""
    cwd: str = ""


class Text(_Chunk, frozen=True, tag="text"):
    """What the agent says. A fragment with `delta`, to be joined to those before of the same message, else the whole
    message. `message_id` is the program's own, or one that the parser counts."""

    text: str
    message_id: str
    delta: bool = True


class Thinking(_Chunk, frozen=True, tag="thinking"):
    """What the agent thinks, as far as the program shows it. Otherwise as `Text`."""

    text: str
    message_id: str
    delta: bool = True


class ToolUse(_Chunk, frozen=True, tag="tool_use"):
    """A tool the agent uses; told once, when its arguments are whole. `tool_input` is what it is given."""

    tool_id: str
    name: str
    tool_input: Any = None
    message_id: str = ""


class ToolResult(_Chunk, frozen=True, tag="tool_result"):
    """What the tool answered: a text, or what the program makes of it."""

    tool_id: str
    output: Any = None
    is_error: bool = False


class Retry(_Chunk, frozen=True, tag="retry"):
    """The program asks its provider once more. `discards` are the messages of which what came is void: all of it comes
    again under other names, but for tools that were really used, whose results stand. `delay_s` is how long it waits,
    None if it does not say."""

    attempt: int | None = None
    reason: str = ""
    delay_s: float | None = None
    discards: tuple[str, ...] = ()


class Used(_Chunk, frozen=True, tag="usage"):
    """What the run has cost so far, where the program says it before the end; replaces what was said before."""

    usage: Spent


class Notice(_Chunk, frozen=True, tag="notice"):
    """What the program has to say about itself: a warning, a progress, a refused permission."""

    text: str


class Raw(_Chunk, frozen=True, tag="raw"):
    """An event that has no meaning here, and stands in `raw`."""


class Result(_Chunk, frozen=True, tag="result"):
    """The run is complete. Terminal.

    `text` is the agent's last message, as the program itself has it. `usage` is what this run alone has cost; `total`
    what the session has cost with it, where the program counts that. `structured` is the answer by the schema that was
    asked for.
    """

    text: str = ""
    stop_reason: str = ""
    session_id: str = ""
    usage: Spent | None = None
    total: Spent | None = None
    turns: int | None = None
    structured: Any = None


class Error(_Chunk, frozen=True, tag="error"):
    """The run has failed. Terminal. `status` is the provider's HTTP status, 0 where none is known; `message` one line
    of what was said; `usage` what the run has cost nevertheless."""

    category: Category
    message: str
    status: int = 0
    session_id: str = ""
    usage: Spent | None = None
    total: Spent | None = None


Chunk: TypeAlias = Session | Text | Thinking | ToolUse | ToolResult | Retry | Used | Notice | Raw | Result | Error

SUBSTANCE = (Text, Thinking, ToolUse, ToolResult)
"""The chunks that show that the agent has begun with its task: it said, thought or did something."""

encode_chunk = msgspec.json.Encoder().encode
decode_chunk: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Chunk)
