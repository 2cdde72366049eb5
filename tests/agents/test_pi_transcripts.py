"""Pi's events as recorded, of 0.73.1 (``pi__``) and 0.87.1 (``pi2__``), and those runs with something wrong in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.agent import EventParser
from engine.agents.chunks import (
    Chunk,
    Error,
    Raw,
    Result,
    Retry,
    Session,
    Spent,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Used,
    encode_chunk,
)
from engine.agents.pi_events import PiParser

TRANSCRIPTS = Path(__file__).parent / "transcripts"
NAMES = sorted(path.name.removesuffix(".stdout.jsonl") for path in TRANSCRIPTS.glob("pi*__*.stdout.jsonl"))

Kind = TypeVar("Kind", bound=Chunk)


class Run(NamedTuple):
    """A recorded run, read: its events, its chunks but for the terminal one, that, and the parser."""

    events: list[dict[str, Any]]
    chunks: list[Chunk]
    terminal: Chunk
    parser: EventParser

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [chunk for chunk in self.chunks if isinstance(chunk, kind)]


def events_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TRANSCRIPTS / f"{name}.stdout.jsonl").read_text().splitlines()]


def read(name: str) -> Run:
    meta = json.loads((TRANSCRIPTS / f"{name}.meta.json").read_text())
    events = events_of(name)
    parser = PiParser()
    chunks = [chunk for event in events for chunk in parser.feed(event)]
    end = parser.end(meta["rc"], (TRANSCRIPTS / f"{name}.stderr.txt").read_text())
    return Run(events, [*chunks, *end[:-1]], end[-1], parser)


COST = 0.000024999999999999998
PLAIN = Spent(11, 7, 0, None, COST)
PLAIN_2 = Spent(11, 7, 0, 0, COST)
TWO_TURNS = Spent(22, 14, 0, None, 2 * COST)
TWO_TURNS_2 = Spent(22, 14, 0, 0, 2 * COST)
HELLO = "Hello from the fake provider."

SUCCESSES = {
    "pi__plain": (HELLO, 1, PLAIN),
    "pi__rec": (HELLO, 1, PLAIN),
    "pi__resume": (HELLO, 1, PLAIN),
    "pi__noauth": (HELLO, 1, PLAIN),
    "pi__think": (HELLO, 1, PLAIN),
    "pi__multi": ("Alpha beta gamma delta.", 1, PLAIN),
    "pi__tool": ("Tool finished.", 2, TWO_TURNS),
    "pi2__plain": (HELLO, 1, PLAIN_2),
    "pi2__multi": ("Alpha beta gamma delta.", 1, PLAIN_2),
    "pi2__tool": ("Tool finished.", 2, TWO_TURNS_2),
}
FAILURES = {
    "pi__401": ("auth", 401, "401 fake 401", None),
    "pi__429": ("rate_limit", 429, "429 fake 429", None),
    "pi__429_noretry": ("rate_limit", 429, "429 fake 429", None),
    "pi__500_noretry": ("server", 500, "500 fake 500", None),
    "pi__refused": ("cut", 0, "Connection error.", None),
    "pi__resume_bad": (
        "session_not_found",
        0,
        "No session found matching '00000000-0000-4000-8000-000000000000'",
        None,
    ),
    "pi__sigINT_stream": ("interrupted", 0, "it was ended by signal 2", None),
    "pi__sigTERM_tool": ("interrupted", 0, "it was ended by signal 15", PLAIN),
    "pi2__401": (
        "auth",
        401,
        '401: {"message":"fake 401","type":"authentication_error","code":"authentication_error"}',
        None,
    ),
    "pi2__slow": ("interrupted", 0, "it was ended by signal 15", None),
}


def test_every_recorded_run_is_in_a_table() -> None:
    """A transcript that is added is to be understood as well."""
    assert sorted([*SUCCESSES, *FAILURES]) == NAMES


@pytest.mark.parametrize("name", SUCCESSES)
def test_a_run_that_worked_ends_with_its_last_message(name: str) -> None:
    """Text, turns, usage and session; and what was told before it agrees."""
    run = read(name)
    text, turns, spent = SUCCESSES[name]
    session_id = run.events[0]["id"]
    assert run.terminal == Result(text=text, stop_reason="stop", session_id=session_id, usage=spent, turns=turns)
    assert "".join(chunk.text for chunk in run.of(Text) if chunk.message_id == f"message-{turns}") == text
    assert run.of(Used)[-1].usage == spent
    assert run.parser.done
    assert run.parser.session_id == session_id
    assert [(one.session_id, one.model) for one in run.of(Session)] == [(session_id, ""), (session_id, "fake-model")]
    assert run.of(Session)[0].cwd == run.events[0]["cwd"]


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_that_failed_says_of_what(name: str) -> None:
    """Whatever its exit code: Pi ends with 0 when its provider refused it."""
    run = read(name)
    category, status, message, spent = FAILURES[name]
    assert isinstance(run.terminal, Error)
    assert (run.terminal.category, run.terminal.status, run.terminal.message) == (category, status, message)
    assert run.terminal.usage == spent
    assert run.terminal.session_id == (run.events[0]["id"] if run.events else "")


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_understood(name: str) -> None:
    """No recorded event is passed on as one without a meaning, and none but fragments says a text."""
    run = read(name)
    assert run.of(Raw) == []
    fragments = [event for event in run.events if '"text_delta"' in json.dumps(event)]
    assert [chunk.text for chunk in run.of(Text)] == [event["assistantMessageEvent"]["delta"] for event in fragments]
    assert all(chunk.delta for chunk in run.of(Text))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_fragment_does_not_grow(name: str) -> None:
    """0.73.1 writes the whole message twice into each of its fragments."""
    for chunk in read(name).chunks:
        if isinstance(chunk, Text | Thinking):
            assert "message" not in chunk.raw
            assert "partial" not in chunk.raw["assistantMessageEvent"]
            assert len(encode_chunk(chunk)) < 600


def test_thinking_is_told_apart() -> None:
    """It belongs to the message whose text follows."""
    run = read("pi__think")
    assert "".join(chunk.text for chunk in run.of(Thinking)) == "Let me think."
    assert {chunk.message_id for chunk in run.of(Thinking)} == {"message-1"}
    assert {chunk.message_id for chunk in run.of(Text)} == {"message-1"}


@pytest.mark.parametrize("name", ["pi__tool", "pi2__tool"])
def test_a_tool_is_told_once(name: str) -> None:
    """When it starts, and when it has answered; not once more for each of the events that repeat it."""
    run = read(name)
    (use,), (result,) = run.of(ToolUse), run.of(ToolResult)
    assert (use.tool_id, use.name, use.tool_input) == ("call_1", "bash", {"command": "echo tool-ran"})
    assert use.message_id == "message-1"
    assert (result.tool_id, result.output, result.is_error) == ("call_1", "tool-ran\n", False)
    assert {chunk.message_id for chunk in run.of(Text)} == {"message-2"}


@pytest.mark.parametrize("name", ["pi__429", "pi__refused"])
def test_each_retry_is_told(name: str) -> None:
    """With its wait; nothing had been said that would be void."""
    run = read(name)
    assert [(one.attempt, one.delay_s, one.discards) for one in run.of(Retry)] == [
        (1, 2.0, ()),
        (2, 4.0, ()),
        (3, 8.0, ()),
    ]
    assert not run.parser.done


# --- events that nobody wrote -----------------------------------------------------------------------------------------

RECORDED = [event for name in NAMES for event in events_of(name)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """A recorded event with something else in one of its places, or without it."""
    event = json.loads(json.dumps(draw(st.sampled_from(RECORDED))))
    place: Any = event
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return event
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        return event


@given(
    st.lists(mutated() | JSON | st.sampled_from(RECORDED), max_size=12), st.none() | st.integers(-15, 255), st.text()
)
def test_nothing_raises_and_one_chunk_is_terminal(events: list[object], code: int | None, stderr: str) -> None:
    """Whatever is written, every chunk can be sent on, and the run has exactly one end."""
    parser = PiParser()
    before = [chunk for event in events for chunk in parser.feed(event)]
    end = parser.end(code, stderr)
    assert not [chunk for chunk in before + end[:-1] if isinstance(chunk, Result | Error)]
    assert isinstance(end[-1], Result | Error)
    for chunk in before + end:
        encode_chunk(chunk)
    assert parser.feed({"type": "agent_end"}) == parser.end(code, stderr) == []
