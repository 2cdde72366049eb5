"""Streams of text completions: chunks, the answer they make up, their end, what they cost, errors inside them."""

from __future__ import annotations

import json

import pytest
from chat_streams import DONE, USAGE, assembled, event, events_of

from engine.providers.completions import GENERIC, INFERNEO, Completions
from engine.providers.wire import Usage

INFERNEO_WIRE, GENERIC_WIRE = Completions(INFERNEO), Completions(GENERIC)


def said(text: str, index: int = 0, finish: str | None = None, **fields: object) -> bytes:
    return event({"index": index, "text": text, "finish_reason": finish, **fields})


WHOLE = [said(" w0"), said(" w1"), said("", finish="length"), DONE]


def test_the_chunks_and_the_answer_they_make_up() -> None:
    chunks, answer = assembled(list(WHOLE), INFERNEO_WIRE)
    assert [(chunk.type, str(chunk)) for chunk in chunks] == [("text", " w0"), ("text", " w1"), ("result", "")]
    assert chunks[0].metadata["event"] == json.loads(WHOLE[0])
    assert chunks[-1].metadata["finish_reason"] == "length"
    assert answer == {
        "id": "c1",
        "model": "m",
        "object": "text_completion",
        "choices": [{"index": 0, "finish_reason": "length", "text": " w0 w1"}],
    }
    assert INFERNEO_WIRE.view(answer).text == " w0 w1"


def test_further_choices_and_logprobs_are_in_the_answer() -> None:
    logged = [
        said("a", logprobs={"tokens": ["a"], "token_logprobs": [-0.5]}),
        said("x", index=1),
        said("b", finish="stop", logprobs={"tokens": ["b"], "token_logprobs": [-0.1]}),
        said("", index=1, finish="stop"),
    ]
    chunks, answer = assembled([*logged, DONE], GENERIC_WIRE)
    assert "".join(map(str, chunks)) == "ab"
    assert answer["choices"] == [
        {
            "index": 0, "finish_reason": "stop", "text": "ab",
            "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.1]},
        },
        {"index": 1, "finish_reason": "stop", "text": "x"},
    ]  # fmt: skip


def test_a_recorded_stream_is_one_answer() -> None:
    body = b"".join(b"data: %b\n\n" % one for one in WHOLE)
    assert GENERIC_WIRE.view(GENERIC_WIRE.decode_stream(body)).text == " w0 w1"
    assert GENERIC_WIRE.view(GENERIC_WIRE.decode(body)).text == " w0 w1"
    assert events_of(body) == WHOLE


@pytest.mark.parametrize("blocks", [[WHOLE], [[one] for one in WHOLE]])
def test_the_terminator_ends_it(blocks: list[list[bytes]]) -> None:
    monitor = INFERNEO_WIRE.monitor()
    for block in blocks:
        assert not monitor.finished
        monitor.heard(block)
    assert monitor.finished
    assert monitor.reading(200, {}, now_s=0.0).fault is None


@pytest.mark.parametrize("heard", [WHOLE[:1], WHOLE[:2], WHOLE[:3]])
def test_without_its_terminator_it_is_cut_at_inferneo(heard: list[bytes]) -> None:
    monitor = INFERNEO_WIRE.monitor()
    monitor.heard(heard)
    fault = monitor.reading(200, {}, now_s=0.0).fault
    assert fault is not None
    assert fault.kind == "Truncated"


@pytest.mark.parametrize(
    ("heard", "finished"),
    [
        (WHOLE[:3], True),
        (WHOLE[:2], False),
        ([said("a", finish="stop"), said("x", index=1)], False),
        ([said("x", index=1), said("a", finish="stop")], False),
        ([said("x", index=1, finish="stop"), said("a", finish="stop")], True),
    ],
)
def test_elsewhere_the_reason_of_the_finish_ends_it_too(heard: list[bytes], finished: bool) -> None:
    monitor = GENERIC_WIRE.monitor()
    monitor.heard(heard)
    assert monitor.finished is finished


def test_its_usage_is_noted() -> None:
    monitor = GENERIC_WIRE.monitor()
    monitor.heard([*WHOLE[:3], event(usage=USAGE), DONE])
    assert monitor.reading(200, {}, now_s=0.0).usage == Usage(3, 4, 7)
    _, answer = assembled([*WHOLE[:3], event(usage=USAGE), DONE], GENERIC_WIRE)
    assert GENERIC_WIRE.usage_of(answer) == Usage(3, 4, 7)


def test_an_error_inside_it() -> None:
    failing = [WHOLE[0], b'{"error":{"message":"the engine died"}}']
    monitor = GENERIC_WIRE.monitor()
    monitor.heard(failing)
    fault = monitor.reading(200, {}, now_s=0.0).fault
    assert fault is not None
    assert "the engine died" in fault.message
    chunks, answer = assembled(list(failing), GENERIC_WIRE)
    assert chunks[-1].is_error
    assert answer["error"] == {"message": "the engine died"}
