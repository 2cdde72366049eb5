"""What Pi's events mean: recorded runs of 0.73.1 (``pi__``) and 0.87.1 (``pi2__``), and events that nobody wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.agent import EventParser
from engine.agents.chunks import (
    Chunk,
    Error,
    Notice,
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
from engine.agents.options import AgentOptions
from engine.agents.pi import PI, PiOptions
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


def fed(*events: object, exit_code: int | None = 0, stderr: str = "") -> list[Chunk]:
    parser = PiParser()
    return [chunk for event in events for chunk in parser.feed(event)] + parser.end(exit_code, stderr)


def assistant(text: str = "", stop: str = "stop", **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}] if text else []
    return {"type": "message_end", "message": {"role": "assistant", "content": content, "stopReason": stop, **more}}


BEGUN = {"type": "message_start", "message": {"role": "assistant", "content": []}}
OVER = {"type": "agent_end", "messages": []}


def delta(text: str) -> dict[str, Any]:
    return {"type": "message_update", "assistantMessageEvent": {"type": "text_delta", "delta": text}}


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
    "pi__refused": ("network", 0, "Connection error.", None),
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


def test_what_comes_again_is_discarded_by_its_name() -> None:
    """The message that failed, and no other; what comes again has a name of its own."""
    chunks = fed(
        BEGUN,
        delta("First."),
        assistant("First.", "toolUse"),
        BEGUN,
        delta("Hal"),
        assistant("Hal", "error", errorMessage="terminated"),
        OVER,
        {"type": "auto_retry_start", "attempt": 1, "delayMs": 2000, "errorMessage": "terminated"},
        {"type": "agent_start"},
        BEGUN,
        delta("Hallo"),
        assistant("Hallo"),
        OVER,
    )
    (retry,) = [chunk for chunk in chunks if isinstance(chunk, Retry)]
    assert retry.discards == ("message-2",)
    kept = [chunk.text for chunk in chunks if isinstance(chunk, Text) and chunk.message_id not in retry.discards]
    assert kept == ["First.", "Hallo"]
    assert chunks[-1] == Result(text="Hallo", stop_reason="stop", turns=2)


def test_the_end_of_a_run_that_is_tried_again_is_no_end() -> None:
    """Killed in its wait, it has failed of what it waits for; killed while it is asking again, it was interrupted."""
    failed = [BEGUN, assistant(stop="error", errorMessage="429 slow down"), OVER]
    retried = [*failed, {"type": "auto_retry_start", "attempt": 1}]
    assert isinstance(found := fed(*retried, exit_code=143)[-1], Error)
    assert found.category == "rate_limit"
    assert isinstance(found := fed(*retried, {"type": "agent_start"}, BEGUN, exit_code=143)[-1], Error)
    assert found.category == "interrupted"


def test_success_needs_the_end_of_the_run() -> None:
    """A message that is whole, before the run is over or while Pi says that it goes on, is no success."""
    for events in ([BEGUN, assistant("Hi")], [BEGUN, assistant("Hi"), {**OVER, "willRetry": True}]):
        assert isinstance(found := fed(*events)[-1], Error)
        assert found.category == "protocol"
    assert isinstance(fed(BEGUN, assistant("Hi"), OVER)[-1], Result)


def done_after(*events: object) -> bool:
    parser = PiParser()
    for event in events:
        parser.feed(event)
    return parser.done


def test_done_waits_for_the_last_word() -> None:
    """Where Pi says that it has settled, that is; before there was such an event, the end of a run that worked."""
    settling = (BEGUN, assistant("Hi"), {**OVER, "willRetry": False})
    assert not done_after(*settling)
    assert done_after(*settling, {"type": "agent_settled"})
    older = (BEGUN, assistant("Hi"), OVER)
    compacting = (*older, {"type": "compaction_start", "reason": "threshold"})
    assert done_after(*older)
    assert not done_after(*compacting)
    assert done_after(*compacting, {"type": "compaction_end", "result": {}, "willRetry": False})


@pytest.mark.parametrize(
    "more",
    [{"type": "agent_start"}, {"type": "compaction_end", "reason": "overflow", "result": {}, "willRetry": True}],
    ids=["agent_start", "compaction_end"],
)
def test_a_run_that_goes_on_has_not_succeeded_yet(more: dict[str, Any]) -> None:
    """What it had said by then is not its answer, if it is killed before it says more."""
    events = (BEGUN, assistant("Hi", "length"), OVER, more)
    assert not done_after(*events)
    found = fed(*events, exit_code=143)[-1]
    assert isinstance(found, Error)
    assert found.category == "interrupted"


def test_an_exit_code_is_only_a_second_witness() -> None:
    """Success with a bad exit code is a success with a notice."""
    notice, result = fed(BEGUN, assistant("Hi"), OVER, exit_code=1)[-2:]
    assert isinstance(notice, Notice)
    assert isinstance(result, Result)


def test_a_message_without_fragments_is_told_whole() -> None:
    """Text and thinking, each unless fragments of it came."""
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    whole = {"type": "message_end", "message": {"role": "assistant", "content": content, "stopReason": "length"}}
    assert fed(BEGUN, whole, OVER) == [
        Thinking(text="Hm.", message_id="message-1", delta=False),
        Text(text="AB", message_id="message-1", delta=False),
        Result(text="AB", stop_reason="length", turns=1),
    ]
    kinds = [type(chunk) for chunk in fed(BEGUN, delta("AB"), whole, OVER)]
    assert kinds == [Text, Thinking, Result]


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"input": 5, "output": 2, "cacheRead": 30, "cacheWrite": 4}, Spent(39, 2, 30, None, None)),
        ({"input": 5, "output": 2, "reasoning": 1, "cost": {"total": 0.5}}, Spent(5, 2, 0, 1, 0.5)),
        ({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0}}, None),
        ({"input": True, "output": "x", "cost": {"total": float("nan")}}, None),
        ({"input": 5, "output": -1, "cost": {"total": 10**400}}, Spent(5, 0, 0, None, None)),
        ([], None),
    ],
    ids=["cached", "cost", "zeros", "words", "absurd", "list"],
)
def test_usage_is_what_was_stated(usage: object, spent: Spent | None) -> None:
    """The cache is a part of the input; zeros all over are nobody's count."""
    found = fed(BEGUN, assistant("Hi", usage=usage), OVER)[-1]
    assert isinstance(found, Result)
    assert found.usage == spent


def test_usage_of_messages_adds_up_and_outlives_a_failure() -> None:
    """An error says what the turns before it have cost."""
    one = {"input": 5, "output": 2, "cost": {"total": 0.5}}
    found = fed(
        BEGUN, assistant("Hi", "toolUse", usage=one), BEGUN, assistant("Ho", "toolUse", usage={**one, "reasoning": 1})
    )[-1]
    assert isinstance(found, Error)
    assert found.usage == Spent(10, 4, 0, 1, 1.0)


@pytest.mark.parametrize(
    ("said", "category", "status"),
    [
        ("401 no", "auth", 401),
        ("penstock API error (429): {}", "rate_limit", 429),
        ('429: {"code":"insufficient_quota"}', "quota", 429),
        ("got status: 503 . {}", "server", 503),
        ('{"error":{"code":404,"message":"x"}}', "rejected", 404),
        ("500 status code (no body)", "server", 500),
        ("The server had an error while processing your request.", "server", 0),
        ("terminated", "network", 0),
        ("Stream ended without finish_reason", "network", 0),
        ("Unterminated string in JSON at position 148", "failed", 0),
        ("I counted 429 sheep", "failed", 0),
    ],
)
def test_what_a_failure_is(said: str, category: str, status: int) -> None:
    """The status where the message has one, as the releases and providers write it, else its words."""
    found = fed(BEGUN, assistant(stop="error", errorMessage=said), OVER)[-1]
    assert isinstance(found, Error)
    assert (found.category, found.status) == (category, status)


def test_an_answer_with_nothing_in_it_is_none() -> None:
    """0.73.1 takes an empty stream for an answer."""
    found = fed(BEGUN, assistant(), OVER)[-1]
    assert isinstance(found, Error)
    assert found.category == "network"


def test_an_aborted_answer_was_interrupted() -> None:
    """Whatever its message says."""
    found = fed(BEGUN, assistant(stop="aborted", errorMessage="Request was aborted."), OVER)[-1]
    assert isinstance(found, Error)
    assert found.category == "interrupted"


@pytest.mark.parametrize(
    ("stderr", "exit_code", "category"),
    [
        ("Session found in different project: /a\nFork? [y/N] Aborted.\n", 0, "session_not_found"),
        ("Stored session working directory does not exist: /a\nSession file: /b\n", 1, "session_not_found"),
        ("No API key found for anthropic.\n\nUse /login. See:\n  /docs/providers.md\n", 1, "auth"),
        ('Error: Unknown provider "x".\n', 1, "failed"),
        ("", 0, "protocol"),
        ("", 129, "interrupted"),
        ("", -9, "interrupted"),
    ],
    ids=["elsewhere", "no-cwd", "no-key", "no-provider", "silence", "hangup", "killed"],
)
def test_what_pi_refuses_it_says_on_standard_error(stderr: str, exit_code: int, category: str) -> None:
    """Its own words there, wherever among others they stand."""
    (found,) = fed(exit_code=exit_code, stderr=stderr)
    assert isinstance(found, Error)
    assert found.category == category


def test_trouble_of_ours_stands_above_all() -> None:
    """What went wrong on this side of the pipe, and what the run had cost by then."""
    parser = PiParser()
    for event in (BEGUN, assistant("Hi", usage={"input": 3, "output": 1}), OVER):
        parser.feed(event)
    (found,) = parser.end(0, "", Error(category="protocol", message="a line was too long"))
    assert found == Error(category="protocol", message="a line was too long", usage=Spent(3, 1, 0, None, None))
    assert parser.end(0, "") == []


def test_a_session_that_is_not_kept_has_no_name() -> None:
    """There is nothing to resume."""
    parser = PI.parser(PiOptions(prompt="x", ephemeral=True), None)
    (session,) = parser.feed({"type": "session", "id": "01a1", "cwd": "/w"})
    assert isinstance(session, Session)
    assert (session.session_id, session.cwd, parser.session_id) == ("", "/w", "")


def test_a_compaction_is_told() -> None:
    """Without its summary; and one after which the answer is asked for again makes that answer void."""
    chunks = fed(
        BEGUN,
        delta("Ha"),
        assistant("Ha", "error", errorMessage="400 too long"),
        OVER,
        {"type": "compaction_start", "reason": "overflow"},
        {"type": "compaction_end", "reason": "overflow", "result": {"summary": "S" * 5000}, "willRetry": True},
    )
    (notice,) = [chunk for chunk in chunks if isinstance(chunk, Notice)]
    (retry,) = [chunk for chunk in chunks if isinstance(chunk, Retry)]
    assert "overflow" in notice.text
    assert retry.discards == ("message-1",)
    assert "result" not in retry.raw
    failed = fed({"type": "compaction_end", "reason": "threshold", "errorMessage": "no luck"})[0]
    assert isinstance(failed, Notice)
    assert "no luck" in failed.text


@pytest.mark.parametrize(
    "event",
    [
        {"type": "brand_new", "x": 1},
        {"type": "message_update", "assistantMessageEvent": {"type": "image_delta", "delta": "x"}},
        {"type": "session"},
        {"type": "tool_execution_start"},
        {"type": "tool_execution_end"},
        {},
        [],
        None,
    ],
    ids=["unknown", "update", "session", "tool", "result", "empty", "list", "null"],
)
def test_what_has_no_meaning_is_passed_on(event: object) -> None:
    """As it is, and without an end of the run."""
    assert PiParser().feed(event) == [Raw(raw=event)]


def test_a_result_that_is_not_all_text_is_passed_on() -> None:
    """A tool may answer with an image, or in a shape of its own."""
    content = [{"type": "text", "text": "a"}, {"type": "image", "data": "b"}]
    results = [{"content": content}, {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "c"]
    chunks = fed(*({"type": "tool_execution_end", "toolCallId": "1", "result": result} for result in results))
    assert [chunk.output for chunk in chunks if isinstance(chunk, ToolResult)] == [content, "a\nb", "c"]


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


def test_the_options_are_those_of_every_agent_and_more() -> None:
    """No option of every agent is taken away or given another type."""
    common = {field.name: field.type for field in msgspec.structs.fields(AgentOptions)}
    own = {field.name: field.type for field in msgspec.structs.fields(PiOptions)}
    assert common.items() <= own.items()
