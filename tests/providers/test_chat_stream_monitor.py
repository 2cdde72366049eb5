"""The worker's view of a stream: its end, its cost, the error inside it; the same however its events were grouped."""

from __future__ import annotations

import json

import msgspec
import pytest
from chat_answers import FORMATS, GENERIC, NOW_S, read
from chat_streams import DONE, OPENAI, STREAMS, USAGE, delta, event, recorded, text
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import error_of
from engine.providers.openai_chat import OpenAIChat
from engine.providers.wire import Reading, StreamMonitor, Usage
from engine.sse import Event, Named


def heard(events: list[Event], wire: OpenAIChat = OPENAI, block: int = 1_000) -> StreamMonitor:
    monitor = wire.monitor()
    for at in range(0, len(events), block):
        monitor.heard(events[at : at + block])
    return monitor


def reading(events: list[Event], wire: OpenAIChat = OPENAI, headers: dict[str, str] | None = None) -> Reading:
    return heard(events, wire).reading(200, headers or {}, now_s=NOW_S)


@pytest.mark.parametrize(
    ("provider", "name", "usage", "kind"),
    [
        ("openai", "openai_chat/stream.sse", Usage(19, 3, 22, 0, 0), ""),
        ("openai", "openai_chat/stream_tool_calls.sse", Usage(19, 3, 22, 0, 0), ""),
        ("openai", "openai_chat/stream_error_in_200.sse", None, "ProviderUnavailable"),
        ("gemini", "gemini_chat/stream.sse", Usage(7, 2, 9), ""),
        ("groq", "groq_chat/stream.sse", Usage(18, 6, 24, 0, 2), ""),
        ("groq", "groq_chat/stream_error.sse", None, "ProviderUnavailable"),
        ("deepseek", "deepseek_chat/stream.sse", Usage(16, 30, 46, 0, 20), ""),
        ("perplexity", "perplexity_chat/stream.sse", Usage(8, 40, 48, None, 0), ""),
        ("openrouter", "openrouter_chat/stream.sse", Usage(10, 4, 14, 0, 2), ""),
        ("openrouter", "openrouter_chat/stream_error_in_200.sse", None, "ProviderUnavailable"),
    ],
)
def test_the_recorded_streams(provider: str, name: str, usage: Usage | None, kind: str) -> None:
    wire, events = FORMATS[provider], recorded(name)
    for block in (1, 2, 3, 100):
        monitor = heard(events, wire, block)
        assert (monitor.usage, monitor.events, monitor.error is not None) == (usage, len(events), bool(kind))
        found = monitor.reading(200, {}, now_s=NOW_S)
        assert (found.fault.kind if found.fault else "") == kind
        assert found.advice.verdict == ("retry" if kind else "done")
        assert found.advice.charge == ("usage" if usage else "kept")


@pytest.mark.parametrize(("provider", "name"), [row for row in STREAMS if "error" not in row[1]])
def test_every_recorded_stream_without_its_end_is_truncated_or_known_to_be_whole(provider: str, name: str) -> None:
    wire, events = FORMATS[provider], recorded(name)
    assert events[-1] == DONE
    for kept in range(len(events)):
        found = reading(events[:kept], wire)
        whole = provider == "perplexity" and kept == len(events) - 1
        assert (found.fault is None) == whole
        if found.fault:
            assert (found.fault.kind, found.fault.sent, found.advice.verdict) == ("Truncated", True, "failed")
            assert (found.advice.charge, f"after {kept} events" in found.fault.message) == ("kept", True)


@pytest.mark.parametrize("done", [b"[DONE]", b" [DONE]", b"[DONE]  ", Named(b"done", b"[DONE]")])
@pytest.mark.parametrize("behind", [[], [b"{}"], [text("x")]])
def test_the_terminator_with_spaces_anywhere_in_a_block(done: Event, behind: list[Event]) -> None:
    for block in (1, 100):
        assert heard([text("a"), done, *behind], block=block).finished


@pytest.mark.parametrize("content", ["[DONE]", '"error"', "_tokens", '"total_tokens": 5', "error", '{"error": "x"}'])
def test_the_same_words_in_a_text_mean_nothing(content: str) -> None:
    monitor = heard([text(content), text(content)])
    assert (monitor.finished, monitor.error, monitor.usage) == (False, None, None)


@pytest.mark.parametrize(
    ("events", "finished"),
    [
        ([], False),
        ([text("a")], False),
        ([text("a"), event(delta(finish="stop"))], True),
        ([event(delta(finish="stop", content="a"))], True),
        ([text("a"), event(delta(finish="length")), event(usage=USAGE)], True),
        ([text("a"), event(delta(finish="stop")), event(delta(content="", role="assistant"), usage=USAGE)], True),
        ([event(delta(0, finish="stop")), event(delta(1, content="still"))], False),
        ([event(delta(0, finish="stop")), event(delta(1, content="x")), event(delta(1, finish="stop"))], True),
        ([event(delta(finish="stop")), b"garbage", b"3", b"[]", event()], True),
        ([event(delta(finish="stop")), *[event(usage=USAGE)] * 20], False),
        ([Named(b"x", event(delta(finish="stop")))], True),
    ],
)
def test_a_finish_is_an_end_only_where_the_terminator_is_not_certain(events: list[Event], finished: bool) -> None:
    for block in (1, 2, 100):
        assert heard(events, GENERIC, block).finished == finished
        assert not heard(events, OPENAI, block).finished


@pytest.mark.parametrize(
    "usage",
    [
        b'"usage":{"prompt_tokens":3,"completion_tokens":4}',
        b'"usage" : { "prompt_tokens" : 3, "completion_tokens" : 4 }',
        b'"usage": {"input_tokens": 3, "output_tokens": 4}',
        b'"x_groq":{"usage":{"prompt_tokens":3,"total_tokens":7}}',
    ],
)
def test_usage_wherever_and_however_it_is_written(usage: bytes) -> None:
    assert heard([b'{"choices":[],' + usage + b"}", event(usage=None), DONE]).usage == Usage(3, 4, 7)


def test_the_last_usage_counts_and_one_side_alone_is_not_charged() -> None:
    events: list[Event] = [event(usage=USAGE), event(delta(content="x"), usage={**USAGE, "completion_tokens": 9}), DONE]
    assert reading(events).usage == Usage(3, 9, 7)
    assert reading([event(usage={"completion_tokens": 9}), DONE]).advice.charge == "kept"


ERRORS = [
    {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}},
    {"error": {"message": "no money", "code": "insufficient_quota"}},
    {"error": {"code": 502, "message": "gone", "metadata": {"raw": "upstream"}}},
    {"error": "over capacity"},
    {"x_groq": {"id": "req_1", "error": "over capacity"}, "choices": []},
    {"choices": [{"index": 0, "delta": {}, "error": {"message": "cut", "code": 503}, "finish_reason": "error"}]},
    [{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}],
    {"error": {"type": "invalid_request_error", "message": "bad"}},
    {"error": {"code": 500}},
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("headers", [{}, {"retry-after": "7", "x-request-id": "r1"}])
def test_an_error_inside_is_judged_like_a_body_that_holds_it(error: object, headers: dict[str, str]) -> None:
    raw = json.dumps(error).encode()
    assert reading([text("a"), raw, DONE], headers=headers) == read(raw, headers=headers, wire=OPENAI)


@pytest.mark.parametrize(
    ("failure", "kind", "says"),
    [
        (Named(b"error", b'{"code": "rate_limit_exceeded", "message": "slow down"}'), "RateLimited", "slow down"),
        (Named(b"error", b'{"message": "boom"}'), "ProviderUnavailable", "boom"),
        (Named(b"error", b"overloaded, come back"), "ProviderUnavailable", "overloaded, come back"),
        (Named(b"error", b"{}"), "ProviderUnavailable", "{}"),
        (b'{"object": "error", "message": "boom", "code": 400}', "Rejected", "boom"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}', "ProviderUnavailable", "boom"),
    ],
)
def test_an_error_by_its_name_or_kind(failure: Event, kind: str, says: str) -> None:
    for events in ([failure], [text("a"), failure, DONE], [failure, b'{"error": "a later one"}']):
        fault = reading(list(events)).fault
        assert fault is not None
        assert (fault.kind, fault.message.endswith(f"It says: {says}")) == (kind, True)


def test_usage_beside_an_error_is_charged() -> None:
    found = reading([event(usage=USAGE), b'{"error": "boom"}'])
    assert (found.usage, found.advice.charge) == (Usage(3, 4, 7), "usage")


def test_no_error_where_it_is_null_or_empty() -> None:
    for nothing in (None, "", {}, []):
        assert reading([event(delta(content="a"), error=nothing), DONE]).fault is None


def test_the_headers_worth_keeping_and_the_request_id_are_kept() -> None:
    headers = {"x-request-id": "r1", "x-ratelimit-remaining-requests": "3", "set-cookie": "no"}
    kept = (("x-request-id", "r1"), ("x-ratelimit-remaining-requests", "3"))
    whole, cut = reading([DONE], headers=headers), reading([text("a")], headers=headers)
    assert whole.headers == cut.headers == kept
    assert cut.fault is not None
    assert cut.fault.request_id == "r1"


WORDS = st.sampled_from([
    DONE, b" [DONE]", b"", b'"error"', b'_tokens"', b'{"error":', b"null", b"\xff", event(usage=USAGE), text("x"),
    b'{"choices":[{"finish_reason":"stop"}]}', b'{"error":"x"}', b"[" * 3_000, b'{"usage":{"prompt_tokens":"\\ud83d"}}',
    b'{"choices":[3],"error":[[]]}', b'{"choices":[{"error":7}],"x_groq":{"error":1},"a_tokens":{}}',
])  # fmt: skip
EVENTS = st.lists(
    WORDS | st.binary(max_size=40) | st.builds(Named, st.sampled_from([b"error", b"ping"]), WORDS), max_size=8
)


@given(EVENTS, st.integers(-1, 700), st.integers(1, 8), st.sampled_from([*sorted(FORMATS), ""]))
def test_hearing_never_raises_and_does_not_depend_on_the_blocks(
    events: list[Event], status: int, block: int, provider: str
) -> None:
    wire = FORMATS.get(provider, GENERIC)
    found = heard(events, wire, block).reading(status, {}, now_s=NOW_S)
    assert found == heard(events, wire).reading(status, {}, now_s=NOW_S)
    assert (found.fault is None) == (found.advice.verdict == "done")
    assert msgspec.msgpack.encode(found)
    if found.fault is not None:
        assert type(error_of(found.fault)).__name__ == found.fault.kind


@pytest.mark.parametrize("block", [1, 2, 1_000])
@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (text("whole")[:-9], "MalformedReply"),
        (b'{"choices":[],"usage":{"prompt_tokens":3,"comple', "MalformedReply"),
        (b'{"choices":[],"error":{"mess', "MalformedReply"),
        (b"heartbeat: all is well at this end of the line", ""),
        (b'{"choices":[], "not": "damaged" }  ', ""),
        (Named(b"heartbeat", b"still here"), ""),
    ],
)
def test_a_damaged_event_leaves_a_hole_that_is_not_passed_over(odd: Event, kind: str, block: int) -> None:
    monitor = heard([text("one"), odd, text("two"), event(usage=USAGE), DONE], block=block)
    reading = monitor.reading(200, {}, now_s=NOW_S)
    assert (reading.fault.kind if reading.fault else "") == kind
    assert (reading.advice.verdict, reading.advice.charge) == ("failed" if kind else "done", "usage")


def test_a_named_error_that_tells_a_usage_is_one() -> None:
    """Although its data could be an ordinary event's."""
    failed = reading([text("one"), Named(b"error", event(delta(0, content="no"), usage=USAGE)), DONE])
    assert failed.fault is not None
    assert failed.usage is not None


@pytest.mark.parametrize("block", [1, 1_000])
def test_what_is_cut_short_is_truncated_whatever_was_damaged_before(block: int) -> None:
    monitor = heard([text("one"), text("whole")[:-9], text("two")], block=block)
    fault = monitor.reading(200, {}, now_s=NOW_S).fault
    assert fault is not None
    assert fault.kind == "Truncated"


def test_a_choice_that_ends_ends_nothing_while_another_is_in_the_middle() -> None:
    """Where no terminator is sure to come."""
    events = [event(delta(0, content="a")), event(delta(1, content="half of")), event(delta(0, "stop"))]
    assert not heard(events, GENERIC).finished
    assert heard([*events, event(delta(1, "stop"))], GENERIC).finished
