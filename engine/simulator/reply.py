"""What the provider answers, as bytes: completions, nonsense, and the headers that tell of the limits.

The shapes are those of OpenAI's chat completions and its ``x-ratelimit-*`` headers (durations written
as Go writes them, ``"12ms"``, ``"6m0s"``), from the reference and the rate-limit guide at platform.openai.com, read on
2026-11-20. The words of a reply come from the seed and mean nothing.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from engine.simulator.faults import draw
from engine.simulator.limits import Cost, LimitSet, Standing

MAX_REPLY_WORDS: Final = 4_096

_SYLLABLES: Final = (
    # Sixteen, so that four bits choose one.
    "pen", "stock", "wa", "ter", "flow", "gate", "mill", "race", "weir", "sluice", "head", "tail", "ri", "ver", "lock",
    "basin",
)  # fmt: skip

encode = msgspec.json.Encoder().encode

Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """A whole answer, not yet on the wire. `missing_bytes` is how much longer its length claims to be than it is."""

    status: int
    headers: Headers
    body: bytes
    missing_bytes: int = 0


def count_input(arguments: Mapping[str, object]) -> int:
    """Count the input tokens of a request by this provider's own plain rule.

    Every message costs 4, and the UTF-8 bytes of its text divided by 4, rounded up. Text is a string content or the
    ``text`` of each part of a list; anything else in a message is free. A real provider counts otherwise: give the
    simulator the counter whose numbers you want it to enforce.
    """
    messages = arguments.get("messages")
    if not isinstance(messages, list):
        return 0
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
        texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if isinstance(text, str))
        total += 4 - -size // 4
    return total


def go_duration(duration_us: int) -> str:
    """A duration as Go's ``time.Duration`` prints it, to the millisecond, rounded up: ``0s``, ``12ms``, ``1m0.5s``."""
    whole_ms = -(-duration_us // 1000)
    if whole_ms < 1000:
        return f"{whole_ms}ms" if whole_ms else "0s"
    seconds, ms = divmod(whole_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{seconds}{fraction}s"


class Prose:
    """Endless seeded words: a text of n words that starts wherever a number says."""

    def __init__(self, seed: int) -> None:
        words = []
        for place in range(MAX_REPLY_WORDS):
            bits = draw(seed, "prose", place).word
            words.append("".join(_SYLLABLES[bits >> 4 * i & 15] for i in range(1 + (bits >> 60) % 3)))
        self.pieces = [b" " + word.encode() for word in words]
        """The words one by one, each with the blank before it: a text of n of them starts at place `word % len`."""
        self._text = " ".join(words + words) + " "
        self._starts = [0, *accumulate(len(word) + 1 for word in words + words)]

    def text(self, word: int, count: int) -> str:
        """`count` words, at most `MAX_REPLY_WORDS`, from the place that `word` names."""
        start = word % MAX_REPLY_WORDS
        stop = start + min(count, MAX_REPLY_WORDS)
        return self._text[self._starts[start] : self._starts[stop] - 1]


def tell_standing(headers: Headers, family: bytes, standing: Standing | None) -> None:
    """Add the headers that tell where a limit stands; none without a limit."""
    if standing is not None:
        headers.append((b"x-ratelimit-limit-" + family, b"%d" % standing.limit))
        headers.append((b"x-ratelimit-remaining-" + family, b"%d" % max(0, standing.remaining)))
        headers.append((b"x-ratelimit-reset-" + family, go_duration(standing.reset_us).encode()))


def limit_headers(limits: LimitSet, at_us: int) -> Headers:
    """The limit headers as they stand; a family without a limit has none."""
    headers: Headers = []
    tell_standing(headers, b"requests", limits.standing(at_us, "requests"))
    tell_standing(headers, b"tokens", limits.standing(at_us, "tokens"))
    return headers


def retry_headers(wait_us: int) -> Headers:
    """When to come back: whole seconds, rounded up, as HTTP wants them, and exactly enough milliseconds."""
    return [
        (b"retry-after", b"%d" % -(-wait_us // 1_000_000)),
        (b"retry-after-ms", b"%d" % -(-wait_us // 1_000)),
    ]


class Completion(NamedTuple):
    """One completion to be written down. `created_s` is unix time."""

    identity: str
    model: str
    text: str
    choices: int
    cost: Cost
    created_s: int


def usage_of(cost: Cost, *, wrong: bool = False, details: bool = False) -> dict[str, object]:
    """A usage as it is told: its numbers as strings if they are to be `wrong`; with the `details`, all zero, that a
    stream's has."""
    counts = {
        "prompt_tokens": cost.input_tokens,
        "completion_tokens": cost.output_tokens,
        "total_tokens": cost.input_tokens + cost.output_tokens,
    }
    usage: dict[str, object] = {name: str(count) if wrong else count for name, count in counts.items()}
    if details:
        usage["prompt_tokens_details"] = {"cached_tokens": 0}
        usage["completion_tokens_details"] = {"reasoning_tokens": 0}
    return usage


def completion_body(done: Completion, fault: str = "", said: Mapping[str, object] = {}) -> bytes:
    """The body of a completion; under the faults ``wrong_types`` and ``null_usage``, as those spoil it. `said` are
    further fields of its messages, or others in their places."""
    wrong = fault == "wrong_types"
    message: dict[str, object] = {"role": "assistant", "content": done.text, "refusal": None, "annotations": []}
    reason = "stop"
    if said:
        message.update(said)
        reason = "tool_calls" if "tool_calls" in said else "stop"
    choices = [
        {"index": str(i) if wrong else i, "message": message, "logprobs": None, "finish_reason": reason}
        for i in range(done.choices)
    ]
    usage = None if fault == "null_usage" else usage_of(done.cost, wrong=wrong)
    return encode(
        {
            "id": f"chatcmpl-{done.identity}",
            "object": "chat.completion",
            "created": str(done.created_s) if wrong else done.created_s,
            "model": done.model,
            "choices": choices,
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
    )


_HTML: Final = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


def faulty_answer(fault: str, body: bytes, headers: Headers) -> Answer:
    """What a fault that spoils bytes makes of a good answer; any other leaves it as it is."""
    if fault == "malformed_json":
        return Answer(200, headers, body[: len(body) // 2] + b",]")
    if fault == "html":
        return Answer(200, [*headers, (b"content-type", b"text/html; charset=utf-8")], _HTML)
    if fault == "empty":
        return Answer(200, headers, b"")
    if fault == "truncated":
        cut = len(body) // 2
        return Answer(200, headers, body[:cut], missing_bytes=len(body) - cut)
    return Answer(200, headers, body)
