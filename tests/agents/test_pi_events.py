"""What Pi's events mean, one by one and in the orders in which they can come."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

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
)
from engine.agents.options import AgentOptions
from engine.agents.pi import PI, PiOptions
from engine.agents.pi_events import PiParser


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
        ("terminated", "cut", 0),
        ("Stream ended without finish_reason", "cut", 0),
        ("connect ECONNREFUSED 127.0.0.1:80", "network", 0),
        ("429 Rate limit reached for tokens per min. Add a payment method under billing", "rate_limit", 429),
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
    assert found.category == "cut"


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


def test_the_options_are_those_of_every_agent_and_more() -> None:
    """No option of every agent is taken away or given another type."""
    common = {field.name: field.type for field in msgspec.structs.fields(AgentOptions)}
    own = {field.name: field.type for field in msgspec.structs.fields(PiOptions)}
    assert common.items() <= own.items()
