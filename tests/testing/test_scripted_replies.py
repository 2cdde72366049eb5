"""Replies as data: the bytes are those of OpenAI's chat completions, and what cannot be meant is refused at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_calls import a_model, call_over

from engine import UsageError
from engine.testing import ProviderReply, ScriptedProvider, chat_reply, error_reply, fault

COUNTS = st.integers(0, 10**6)


@given(st.text(), COUNTS, COUNTS, st.sampled_from(["stop", "length"]))
def test_a_chat_reply_says_what_it_was_told_to(text: str, given: int, made: int, finish_reason: str) -> None:
    """As the wire format reads it that reads the providers' own."""
    reply = chat_reply(text, input_tokens=given, output_tokens=made, finish_reason=finish_reason)
    model = a_model()
    reading = model.format.read(reply.status, reply.headers, reply.body, now_s=0.0)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens, reading.fault) == (given, made, None)
    view = model.format.view(model.format.decode(reply.body))
    assert (view.text, view.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize("counts", [{"input_tokens": None}, {"output_tokens": None}])
def test_half_a_usage_is_none(counts: dict[str, None]) -> None:
    assert "usage" not in json.loads(chat_reply(**counts).body)  # type: ignore[arg-type]


def test_fields_of_ones_own_stand_in_the_body() -> None:
    body = json.loads(chat_reply("x", usage=None, model="m", service_tier="flex").body)
    assert (body["usage"], body["model"], body["service_tier"], body["object"]) == (
        None, "m", "flex", "chat.completion",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [(0, "0", "0"), (2, "2", "2000"), (0.25, "1", "250"), (1.0001, "2", "1001"), (0.1 + 0.2, "1", "300")],
)
def test_a_hint_is_told_as_providers_tell_it(wait_s: float, seconds: str, milliseconds: str) -> None:
    """Whole seconds for all, and milliseconds for those who look; never shorter than was meant."""
    reply = error_reply(429, retry_after_s=wait_s)
    assert reply.headers == {"retry-after": seconds, "retry-after-ms": milliseconds}


def test_headers_of_ones_own_go_before_those_of_the_hint() -> None:
    reply = error_reply(429, retry_after_s=1, headers={"retry-after": "7", "X-Request-Id": "r"})
    assert reply.headers == {"retry-after": "7", "retry-after-ms": "1000", "X-Request-Id": "r"}


def test_an_error_is_read_as_one() -> None:
    """Whatever the case of its headers' names."""
    reply = error_reply(400, "too warm", code="bad", headers={"X-Request-ID": "req-1"})
    error = call_over(ScriptedProvider(reply)).error
    assert error is not None
    assert "too warm" in error.message
    assert (getattr(error, "status", 0), getattr(error, "code", ""), getattr(error, "request_id", "")) == (
        400, "bad", "req-1",
    )  # fmt: skip


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: ProviderReply(status=99), "status"),
    (lambda: ProviderReply(status=600), "status"),
    (lambda: ProviderReply(status=200.0), "status"),  # type: ignore[arg-type]
    (lambda: ProviderReply(status=True), "status"),
    (lambda: chat_reply(delay_s=-0.1), "delay_s"),
    (lambda: chat_reply(delay_s=math.nan), "delay_s"),
    (lambda: chat_reply(begin_s=-1), "begin_s"),
    (lambda: chat_reply(begin_s=None), "begin_s"),  # type: ignore[arg-type]
    (lambda: chat_reply(write_s="1"), "write_s"),  # type: ignore[arg-type]
    (lambda: error_reply(429, retry_after_s=-1), "retry_after_s"),
    (lambda: error_reply(429, retry_after_s=math.inf), "retry_after_s"),
    (lambda: fault("cuts"), "no fault 'cuts'; there are closed, cut_writing"),  # type: ignore[arg-type]
    (lambda: ScriptedProvider(3), "a script is"),  # type: ignore[arg-type]
    (lambda: ScriptedProvider(seed=-1), "seed"),
    (lambda: ScriptedProvider(seed=1.5), "seed"),  # type: ignore[arg-type]
    (lambda: ScriptedProvider(delay_s=-1), "value_s"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_cannot_be_meant_is_refused_where_it_is_written(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
