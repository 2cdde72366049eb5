"""Anthropic's Messages: the manner of ``/v1/messages``.

What the real one refuses is refused: no ``max_tokens``, a ``system`` role (but for one after a user's, under the betas
of Claude Code for that), unknown fields, a missing ``anthropic-version``, and under the version 2026-10-21 all
parameters of sampling. Shapes from the SDK 2.11.0 and
platform.claude.com/docs, headers from a public capture; all as of 2026-11-20. The key comes as ``x-api-key``, or as a
bearer key. Its streams have named events and no ``[DONE]``; their input is counted in the first, the output in the
last but one.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from engine.simulator.chat import MAX_OUTPUT, ChatRequest, StreamRequest, follow, read_object
from engine.simulator.chunks import Wording
from engine.simulator.config import ProviderLimit
from engine.simulator.events import Block, Composed, Event, Events, Script
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment, header, retry_after
from engine.simulator.formats.openai_responses import flat_tool
from engine.simulator.formats.words import (
    Call,
    body,
    calls,
    names,
    reasoning_pieces,
    reasoning_tokens,
    spoiled,
    text_pieces,
    usage,
)
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Headers, encode

_KNOWN: Final = names("""
    model max_tokens messages system stop_sequences stream tools tool_choice thinking output_config metadata
    service_tier cache_control container inference_geo speed temperature top_p top_k mcp_servers context_management
""")
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_NO_SAMPLING_SINCE: Final = b"2026-10-21"
_MID_CONVERSATION: Final = b"mid-conversation-"
"""How the betas begin under which Claude Code sends messages of the system within a conversation."""
_SIGNATURE: Final = "c2ltdWxhdGVk"
_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 405: "invalid_request_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error",
}  # fmt: skip
_FAMILIES: Final = (
    ("requests", "requests"), ("tokens", "total_tokens"), ("input-tokens", "input_tokens"),
    ("output-tokens", "output_tokens"),
)  # fmt: skip


def bearer(headers: HeadersSeen) -> bytes:
    """The key that comes as ``x-api-key`` or else as a bearer key; as a bearer key."""
    key = header(headers, b"x-api-key")
    return b"Bearer " + key if key else header(headers, b"authorization")


class Anthropic(Manner):
    """``/v1/messages``."""

    id_header = b"request-id"

    def credential(self, headers: HeadersSeen) -> bytes:
        return bearer(headers)

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        betas = header(headers, b"anthropic-beta")
        wrong = _wrong(arguments, header(headers, b"anthropic-version"), mid_system=_MID_CONVERSATION in betas)
        if wrong is not None:
            return wrong
        tool = flat_tool(arguments)
        stream = StreamRequest(True, tool=tool) if arguments.get("stream") else None
        model, cap = arguments["model"], arguments["max_tokens"]
        assert isinstance(model, str)
        assert isinstance(cap, int)
        messages = _messages(arguments)
        return follow(body, ChatRequest({**arguments, "messages": messages}, model, 1, cap, stream, tool), messages)

    def whole(self, said: Wording) -> bytes:
        message = _message(said, _content(said), "tool_use" if calls(said) else "end_turn")
        return body(said, message | {"usage": usage(said, _usage(said, said.done.cost.output_tokens))})

    def events(self, said: Wording) -> Events:
        def frame(_: int, event: Event) -> bytes:
            name = str(event["type"]).encode()
            return b"event: %b\ndata: %b\n\n" % (name, encode(spoiled(said, event)))

        error = {"type": "overloaded_error", "message": "Overloaded"}
        wrong = {"type": "error", "error": error, "request_id": f"req_{said.done.identity}"}
        return Composed(_script(said), frame, error=frame(0, wrong))

    def status(self, failure: Failure) -> int:
        return 529 if failure.status == HTTPStatus.SERVICE_UNAVAILABLE else failure.status

    def error(self, failure: Failure, now: Moment) -> object:
        status = self.status(failure)
        kind = _TYPES.get(status, "api_error")
        error = {"type": kind, "message": _words(failure, kind)}
        return {"type": "error", "error": error, "request_id": f"req_{failure.identity}"}

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return retry_after(failure)

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        headers: Headers = []
        for family, dimension in _FAMILIES:

            def told(rule: ProviderLimit, dimension: str = dimension) -> bool:
                return rule.dimension == dimension

            standing = limits.where(now.at_us, told)
            if standing is not None:
                name = b"anthropic-ratelimit-" + family.encode()
                headers.append((name + b"-limit", b"%d" % standing.limit))
                headers.append((name + b"-remaining", b"%d" % max(0, standing.remaining)))
                headers.append((name + b"-reset", _calendar(now.unix_us + standing.reset_us)))
        return headers


def _calendar(unix_us: int) -> bytes:
    """An instant as RFC 3339 writes it, in whole seconds, rounded up."""
    return datetime.fromtimestamp(-(-unix_us // 1_000_000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _words(failure: Failure, kind: str) -> str:
    """What Anthropic says of a failure."""
    if kind == "overloaded_error":
        return "Overloaded"
    if failure.why == "key":
        return "invalid x-api-key"
    if failure.why == "server_error":
        return "Internal server error"
    if failure.why == "concurrency":
        return "Number of concurrent connections has exceeded your rate limit."
    if failure.refusal is None:
        return failure.message
    rule = failure.refusal.rule
    what, period = rule.dimension.replace("_", " "), "minute" if rule.period_s == 60 else f"{rule.period_s:g} seconds"
    return f"This request would exceed your organization's rate limit of {rule.limit:,} {what} per {period}."


def _messages(arguments: Mapping[str, Any]) -> list[object]:
    """The prompt as messages, so that it is counted as those are."""
    system = arguments.get("system")
    return [*([{"role": "system", "content": system}] if system else []), *arguments["messages"]]


def _wrong(arguments: Mapping[str, Any], version: bytes, *, mid_system: bool) -> Failure | None:
    """What the provider refuses in a request; `mid_system`: the system may speak within the conversation."""
    if not version:
        return invalid("anthropic-version: header is required")
    for name in ("model", "max_tokens", "messages"):
        if arguments.get(name) is None:
            return invalid(f"{name}: Field required")
    for name in arguments:
        if name not in _KNOWN:
            return invalid(f"{name}: Extra inputs are not permitted")
        if name in _SAMPLING and version >= _NO_SAMPLING_SINCE:
            return invalid(f"{name}: parameter is not supported in this API version")
    cap = arguments["max_tokens"]
    if isinstance(cap, bool) or not isinstance(cap, int) or not 0 <= cap <= MAX_OUTPUT:
        return invalid("max_tokens: Input should be a valid integer, 0 or more")
    if not isinstance(arguments["model"], str) or not arguments["model"]:
        return invalid("model: Input should be a valid string")
    temperature = arguments.get("temperature")
    if temperature is not None and not (isinstance(temperature, (int, float)) and 0 <= temperature <= 1):
        return invalid("temperature: range: 0..1")
    if not isinstance(arguments.get("stream", False), bool):
        return invalid("stream: Input should be a valid boolean")
    return _wrong_messages(arguments["messages"], mid_system=mid_system) or _wrong_thinking(
        arguments.get("thinking"), cap
    )


def _wrong_messages(messages: object, *, mid_system: bool) -> Failure | None:
    if not isinstance(messages, list) or not messages:
        return invalid("messages: at least one message is required")
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role == "system" and not (mid_system and place):
            text = 'Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" as'
            return invalid(f"messages: {text} an input message role.")
        if role not in ("user", "assistant", "system"):
            return invalid(f"messages.{place}.role: Input should be 'user' or 'assistant'")
        if not message.get("content"):
            return invalid(f"messages.{place}.content: Field required")
    return None


def _wrong_thinking(thinking: object, cap: int) -> Failure | None:
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < 1024:
        return invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= cap:
        return invalid("`max_tokens` must be greater than `thinking.budget_tokens`")
    return None


def _usage(said: Wording, output: int) -> dict[str, object]:
    return {
        "input_tokens": said.done.cost.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(output, reasoning_tokens(said))},
        "service_tier": "standard",
    }


def _message(said: Wording, content: list[dict[str, object]], reason: str | None) -> dict[str, object]:
    done = said.done
    head = {"id": f"msg_{done.identity}", "type": "message", "role": "assistant", "model": done.model}
    return {**head, "content": content, "stop_reason": reason, "stop_sequence": None}


def _content(said: Wording) -> list[dict[str, object]]:
    """The blocks of an answer in one piece."""
    content: list[dict[str, object]] = []
    if thought := reasoning_pieces(said):
        content.append({"type": "thinking", "thinking": "".join(thought), "signature": _SIGNATURE})
    made = calls(said)
    content += [_tool(call, call.arguments) for call in made]
    return content if made else [*content, {"type": "text", "text": said.done.text}]


def _tool(call: Call, arguments: dict[str, Any]) -> dict[str, object]:
    return {"type": "tool_use", "id": f"toolu_{call.identity}", "name": call.name, "input": arguments}


def _delta(place: int, kind: str, field: str, piece: str) -> Event:
    return {"type": "content_block_delta", "index": place, "delta": {"type": kind, field: piece}}


def _block(place: int, content: Event, kind: str, field: str, pieces: list[str], last: tuple[Event, ...] = ()) -> Block:
    """A block of content: its start, its pieces, its stop."""
    start = {"type": "content_block_start", "index": place, "content_block": content}
    stop = {"type": "content_block_stop", "index": place}
    return Block(pieces, lambda piece, _: _delta(place, kind, field, piece), [start], [*last, stop])


def _blocks(said: Wording) -> list[Block]:
    blocks: list[Block] = []
    if thought := reasoning_pieces(said):
        signed = _delta(0, "signature_delta", "signature", _SIGNATURE)
        content = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append(_block(0, content, "thinking_delta", "thinking", thought, (signed,)))
    made = calls(said)
    for call in made:
        fragments = ["", *call.fragments]
        blocks.append(_block(len(blocks), _tool(call, {}), "input_json_delta", "partial_json", fragments))
    if not made:
        content = {"type": "text", "text": ""}
        blocks.append(_block(len(blocks), content, "text_delta", "text", text_pieces(said)))
    return blocks


def _script(said: Wording) -> Script:
    """The parts of a stream. What is split is added to the text, or within the arguments of the last call."""
    blocks = _blocks(said)
    started = usage(said, _usage(said, 1))
    begun = _message(said, [], None) | {"usage": started}
    head: list[Event] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    reason = "tool_use" if calls(said) else "end_turn"
    counts = usage(said, _usage(said, said.done.cost.output_tokens))
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": counts}
    tail: list[Event | bytes] = [delta]
    if said.fault != "stream_no_done":
        tail.append({"type": "message_stop"})
    within = len(head) + sum(block.size for block in blocks) - 1 - bool(calls(said))
    return Script(head, blocks, tail, lambda piece: blocks[-1].delta(piece, 0), 0 if counts else None, within)
