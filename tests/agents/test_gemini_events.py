"""What the recorded runs of Gemini CLI mean, chunk for chunk at the end; and that nothing it writes makes the parser
raise, or end a run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.chunks import Chunk, Error, Notice, Raw, Result, Session, Spent, Text, ToolResult, ToolUse
from engine.agents.gemini_events import GeminiParser
from engine.agents.verdicts import reading_of

TRANSCRIPTS = Path(__file__).parent / "transcripts"


class Recorded(NamedTuple):
    """One recorded run."""

    events: list[Any]
    stderr: str
    exit_code: int


def recorded(name: str) -> Recorded:
    """A run by its name."""
    lines = (TRANSCRIPTS / f"{name}.stdout.jsonl").read_text().splitlines()
    meta = json.loads((TRANSCRIPTS / f"{name}.meta.json").read_text())
    stderr = (TRANSCRIPTS / f"{name}.stderr.txt").read_text()
    return Recorded([json.loads(line) for line in lines], stderr, meta["rc"])


NAMES = sorted(path.name.removesuffix(".meta.json") for path in TRANSCRIPTS.glob("gemini__*.meta.json"))


def parsed(run: Recorded) -> list[Chunk]:
    """All chunks of a run."""
    parser = GeminiParser()
    chunks = [chunk for event in run.events for chunk in parser.feed(event)]
    return [*chunks, *parser.end(run.exit_code, run.stderr)]


HELLO = "Hello from the fake provider."
USED = Spent(11, 7, 0, 0)
SUCCESSES = {
    "gemini__plain": (HELLO, USED),
    "gemini__rec": (HELLO, USED),
    "gemini__resume": (HELLO, USED),
    "gemini__think": (HELLO, USED),
    "gemini__multi": ("Alpha beta gamma delta.", USED),
    "gemini__tool": ("Tool finished.", Spent(22, 14, 0, 0)),
}
FAILURES: dict[str, tuple[str, int, str]] = {
    "gemini__401": ("auth", 401, "fake 401"),
    "gemini__429": ("interrupted", 0, ""),
    "gemini__429_max1": ("rate_limit", 429, "fake 429"),
    "gemini__500_clihome": ("server", 500, "fake 500"),
    "gemini__noauth": ("auth", 0, "you must specify the GEMINI_API_KEY"),
    "gemini__refused": ("interrupted", 0, ""),
    "gemini__refused_max1": ("cut", 0, "fetch failed"),
    "gemini__resume_bad": ("session_not_found", 0, 'Invalid session identifier "00000000-'),
    "gemini__sigINT_stream": ("protocol", 0, ""),
    "gemini__sigTERM_tool": ("protocol", 0, ""),
}


def test_every_recorded_run_is_judged_here() -> None:
    assert sorted([*SUCCESSES, *FAILURES]) == NAMES


@pytest.mark.parametrize("name", SUCCESSES)
def test_a_run_that_succeeded(name: str) -> None:
    text, usage = SUCCESSES[name]
    run = recorded(name)
    chunks = parsed(run)
    result = chunks[-1]
    assert isinstance(result, Result)
    assert (result.text, result.usage, result.stop_reason) == (text, usage, "success")
    assert result.session_id == run.events[0]["session_id"]
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Text)) == text
    assert all(chunk.delta for chunk in chunks if isinstance(chunk, Text))
    assert reading_of(result, name="gemini_code", began=True).advice.kind == ""


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_that_failed(name: str) -> None:
    category, status, said = FAILURES[name]
    run = recorded(name)
    error = parsed(run)[-1]
    assert isinstance(error, Error)
    assert (error.category, error.status) == (category, status)
    assert said in error.message
    assert "\n" not in error.message
    assert error.usage is None
    assert error.session_id == (run.events[0]["session_id"] if run.events else "")


def test_the_chunks_of_a_run_with_a_tool() -> None:
    chunks = parsed(recorded("gemini__tool"))
    assert [type(chunk) for chunk in chunks] == [Session, Raw, ToolUse, ToolResult, Text, Text, Result]
    session, echo, use, result = chunks[:4]
    assert isinstance(session, Session)
    assert (session.model, echo.raw["role"]) == ("gemini-2.5-pro", "user")
    assert isinstance(use, ToolUse)
    assert isinstance(result, ToolResult)
    assert (use.name, use.tool_input) == ("list_directory", {"dir_path": ".", "path": "."})
    assert (result.tool_id, result.output, result.is_error) == (use.tool_id, "Directory is empty.", False)


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": text, "delta": True}


def ended(**more: Any) -> dict[str, Any]:
    return {"type": "result", "status": "success", "stats": {"input_tokens": 9, "output_tokens": 2}, **more}


def chunks_of(*events: dict[str, Any], exit_code: int | None = 0, stderr: str = "") -> list[Chunk]:
    return parsed(Recorded(list(events), stderr, exit_code))  # type: ignore[arg-type]


def test_a_tools_result_ends_a_message_and_the_last_is_the_result() -> None:
    """Of parallel uses all are of the message before them; results that follow upon one another end it once."""
    use = {"type": "tool_use", "tool_id": "t1", "tool_name": "glob", "parameters": {}}
    answer = {"type": "tool_result", "tool_id": "t1", "status": "success", "output": "x"}
    events = (said("I "), said("look."), use, use, answer, answer, said("Found."), ended())
    chunks = [chunk for chunk in chunks_of(*events) if not isinstance(chunk, ToolResult)]
    names = [(type(chunk).__name__, getattr(chunk, "message_id", "")) for chunk in chunks]
    assert names == [
        ("Text", "message-0"), ("Text", "message-0"), ("ToolUse", "message-0"), ("ToolUse", "message-0"),
        ("Text", "message-1"), ("Result", ""),
    ]  # fmt: skip
    result = chunks[-1]
    assert isinstance(result, Result)
    assert result.text == "Found."


def test_a_use_without_a_word_is_a_message_of_its_own() -> None:
    names = [chunk.message_id for chunk in parsed(recorded("gemini__tool")) if isinstance(chunk, ToolUse | Text)]
    assert names == ["message-0", "message-1", "message-1"]


def test_a_failed_tool_says_why() -> None:
    failed = {"type": "tool_result", "tool_id": "t1", "status": "error", "error": {"type": "X", "message": "denied"}}
    told, shown = chunks_of(failed, failed | {"output": "No."})[:2]
    assert isinstance(told, ToolResult)
    assert isinstance(shown, ToolResult)
    assert (told.output, told.is_error, shown.output) == ("denied", True, "No.")


@pytest.mark.parametrize(
    ("severity", "message", "category"),
    [
        ("warning", "Loop detected, stopping execution", "failed"),
        ("error", "Maximum session turns exceeded", "limit"),
        ("error", "Model stream ended without a finish reason.", "cut"),
        ("error", "The model returned an empty response with no text or thoughts. Please try again.", "server"),
    ],
)
def test_a_success_after_an_error_is_none(severity: str, message: str, category: str) -> None:
    error = {"type": "error", "severity": severity, "message": message}
    notice, failure = chunks_of(error, ended())
    assert isinstance(notice, Notice)
    assert isinstance(failure, Error)
    assert (notice.text, failure.message) == (message, message)
    assert failure.category == category
    assert failure.usage == Spent(9, 2, None, 0)
    assert isinstance(chunks_of(error, ended(status="error"))[-1], Error)


def test_a_warning_leaves_a_success_one() -> None:
    error = {"type": "error", "severity": "warning", "message": "Agent execution blocked: x"}
    assert [type(chunk) for chunk in chunks_of(error, said("Done."), ended())] == [Notice, Text, Result]


@pytest.mark.parametrize(
    ("message", "kind", "exit_code", "category", "status"),
    [
        ("[API Error: API key not valid. Please pass a valid API key.]", "unknown", 144, "auth", 400),
        ('[API Error: {"error":{"code":400,"message":"API key not valid."}}]', "unknown", 1, "auth", 400),
        ('[API Error: {"error":{"code":400,"message":"no such field"}}]', "unknown", 144, "rejected", 400),
        ("[API Error: You exceeded your current quota, check billing details.]", "unknown", 173, "rate_limit", 429),
        ("[API Error: You have exhausted your daily quota on this model.]", "unknown", 173, "quota", 429),
        ("[API Error: The model is overloaded.]", "unknown", 247, "server", 503),
        ("[API Error: terminated]", "unknown", 1, "cut", 0),
        ("[API Error: Unterminated string in JSON at position 149]", "unknown", 1, "server", 0),
        ("Reached max session turns for this session.", "FatalTurnLimitedError", 53, "limit", 0),
        ("Operation cancelled.", "FatalCancellationError", 130, "interrupted", 0),
        ("", "unknown", 1, "failed", 0),
    ],
)
def test_a_failure_by_its_words_and_its_exit_code(
    message: str, kind: str, exit_code: int, category: str, status: int
) -> None:
    event = ended(status="error", error={"type": kind, "message": message})
    (failure,) = chunks_of(event, exit_code=exit_code)
    assert isinstance(failure, Error)
    assert (failure.category, failure.status) == (category, status)
    assert failure.message


@pytest.mark.parametrize(
    ("exit_code", "stderr", "category", "status", "told"),
    [
        (145, "", "auth", 401, "status 401"),
        (173, "Ripgrep is not available.\nAttempt 1 failed: slow", "rate_limit", 429, "Attempt 1 failed: slow"),
        (244, "    at x\nError: boom\n    at y", "server", 500, "Error: boom"),
        (42, "Error starting session: it exists", "rejected", 0, "it refused what it was given: Error starting"),
        (41, "Loaded cached credentials.\nError: gone", "auth", 0, "no login that it can use: Error: gone"),
        (53, "", "limit", 0, "the limit of turns"),
        (42, "Error resuming session: none", "session_not_found", 0, "Error resuming session: none"),
        (-9, "", "interrupted", 0, "signal 9"),
        (0, "", "protocol", 0, "without saying"),
        (1, "Error: socket hang up", "cut", 0, "socket hang up"),
        (None, "", "failed", 0, "exit code"),
    ],
)
def test_what_an_exit_code_says_where_nothing_else_does(
    exit_code: int | None, stderr: str, category: str, status: int, told: str
) -> None:
    (failure,) = chunks_of(exit_code=exit_code, stderr=stderr)
    assert isinstance(failure, Error)
    assert (failure.category, failure.status) == (category, status)
    assert told in failure.message


@pytest.mark.parametrize(
    ("stats", "usage"),
    [
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 20, "cached": 8}, Spent(10, 10, 8, 6)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 3}, Spent(10, 4, None, 0)),
        ({"input_tokens": 10}, Spent(10, None, None, 0)),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cached": 0}, None),
        ({"input_tokens": "006378", "output_tokens": "006"}, None),
        ({"input_tokens": -1, "output_tokens": True}, None),
        ([], None),
    ],
    ids=str,
)
def test_what_a_run_has_cost(stats: object, usage: Spent | None) -> None:
    (result,) = chunks_of(ended(stats=stats))
    assert isinstance(result, Result)
    assert result.usage == usage


def test_what_went_wrong_on_our_side_stands_over_a_success() -> None:
    parser = GeminiParser()
    parser.feed(ended())
    (failure,) = parser.end(0, "", Error(category="protocol", message="a line too long"))
    assert isinstance(failure, Error)
    assert (failure.message, failure.usage) == ("a line too long", Spent(9, 2, None, 0))
    assert parser.done
    assert parser.end(0, "") == parser.feed(said("late")) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
RECORDED = [event for name in NAMES for event in recorded(name).events]
FIELDS = st.sampled_from(sorted({field for event in RECORDED for field in event} | {"severity", "error", "message"}))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """An event of a recorded run, some of its fields replaced or gone."""
    event = dict(draw(st.sampled_from(RECORDED)))
    for field in draw(st.lists(FIELDS, max_size=3)):
        if draw(st.booleans()):
            event.pop(field, None)
        else:
            event[field] = draw(ANYTHING | st.fixed_dictionaries({"message": ANYTHING, "type": ANYTHING}))
    return event


@given(st.lists(ANYTHING | mutated(), max_size=8), st.none() | st.integers(-64, 255), st.text())
def test_nothing_it_writes_makes_the_parser_raise(events: list[Any], exit_code: int | None, stderr: str) -> None:
    parser = GeminiParser()
    before = [chunk for event in events for chunk in parser.feed(event)]
    last = parser.end(exit_code, stderr)
    assert not [chunk for chunk in before if isinstance(chunk, (Result, Error))]
    assert [isinstance(chunk, (Result, Error)) for chunk in last].count(True) == 1
    assert isinstance(last[-1], (Result, Error))
    assert parser.end(exit_code, stderr) == []
