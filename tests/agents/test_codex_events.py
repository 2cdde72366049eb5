"""What Codex's events mean: every recorded run of the program, what was read in its source, and events gone wrong."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.chunks import (
    NOTHING_SPENT,
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
    encode_chunk,
)
from engine.agents.codex import CODEX, CodexOptions
from engine.agents.codex_events import CodexParser

TRANSCRIPTS = Path(__file__).parent / "transcripts"
TAGS = sorted(path.name.split("__")[1].split(".")[0] for path in TRANSCRIPTS.glob("codex__*.meta.json"))


@cache
def lines(tag: str) -> list[dict[str, Any]]:
    told = (TRANSCRIPTS / f"codex__{tag}.stdout.jsonl").read_text()
    return [json.loads(line) for line in told.splitlines()]


def run(
    tag: str, before: Spent | None = NOTHING_SPENT, parser: CodexParser | None = None
) -> tuple[list[Chunk], Result | Error]:
    """The chunks of a recorded run before its last, and its last."""
    parser = parser or CodexParser(before)
    told = [chunk for event in lines(tag) for chunk in parser.feed(event)]
    meta = json.loads((TRANSCRIPTS / f"codex__{tag}.meta.json").read_text())
    ending = parser.end(meta["rc"], (TRANSCRIPTS / f"codex__{tag}.stderr.txt").read_text())
    assert isinstance(ending[-1], Result | Error)
    assert parser.end(0, "") == []
    assert parser.feed({"type": "turn.started"}) == []
    return told + ending[:-1], ending[-1]


def fed(*events: dict[str, Any], parser: CodexParser | None = None) -> list[Chunk]:
    parser = parser or CodexParser(NOTHING_SPENT)
    return [chunk for event in events for chunk in parser.feed(event)]


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"item.{kind}", "item": {"id": "item_1"} | fields}


def completed(**usage: Any) -> dict[str, Any]:
    return {"type": "turn.completed", "usage": usage}


def kinds(chunks: list[Chunk]) -> list[str]:
    return [type(chunk).__name__ for chunk in chunks if not isinstance(chunk, Raw)]


@pytest.mark.parametrize("tag", TAGS)
def test_every_recorded_run_ends_once_and_every_chunk_can_be_written(tag: str) -> None:
    told, last = run(tag)
    for chunk in [*told, last]:
        assert json.loads(encode_chunk(chunk))["kind"]
    assert not any(isinstance(chunk, Result | Error) for chunk in told)
    if lines(tag):
        assert last.session_id == lines(tag)[0]["thread_id"]
    finished = [event["type"] for event in lines(tag) if event["type"] in ("turn.completed", "turn.failed")]
    assert isinstance(last, Result) == (finished == ["turn.completed"])


def test_a_plain_run() -> None:
    told, last = run("plain")
    assert kinds(told) == ["Session", "Notice", "Text"]
    said = told[-1]
    assert isinstance(said, Text)
    assert (said.text, said.delta, said.message_id) == ("Hello from the fake provider.", False, "item_1")
    assert isinstance(last, Result)
    assert last.text == "Hello from the fake provider."
    assert last.usage == last.total == Spent(11, 7, 0, 0)
    assert last.stop_reason == "completed"


def test_reasoning_is_thinking() -> None:
    told, _ = run("think")
    assert [chunk.text for chunk in told if isinstance(chunk, Thinking)] == ["Let me think."]


def test_a_tool_is_used_once_and_answers_once() -> None:
    told, last = run("tool")
    assert kinds(told) == ["Session", "Notice", "ToolUse", "ToolResult", "Text"]
    used = next(chunk for chunk in told if isinstance(chunk, ToolUse))
    answer = next(chunk for chunk in told if isinstance(chunk, ToolResult))
    assert (used.tool_id, used.name, used.tool_input) == (
        "item_1",
        "command_execution",
        {"command": "/bin/bash -lc 'echo tool-ran'"},
    )
    assert (answer.tool_id, answer.output, answer.is_error) == ("item_1", "tool-ran\n", False)
    assert isinstance(last, Result)
    assert last.text == "Tool finished."


@pytest.mark.parametrize(
    ("tag", "category", "status", "words"),
    [
        ("401", "auth", 401, "fake 401"),
        ("429", "rate_limit", 429, "Too Many Requests"),
        ("noauth", "auth", 0, "Missing environment variable"),
        ("refused_nounb", "network", 0, "Connection failed"),
        ("refused", "interrupted", 0, "signal 9"),
        ("resume_bad", "session_not_found", 0, "no rollout found"),
        ("sigINT_stream", "interrupted", 0, "stopped"),
        ("sigTERM_tool", "interrupted", 0, "signal 15"),
        ("wire_chat", "failed", 0, '`wire_api = "chat"` is no longer supported'),
    ],
)
def test_what_a_run_failed_of(tag: str, category: str, status: int, words: str) -> None:
    _, last = run(tag)
    assert isinstance(last, Error)
    assert (last.category, last.status) == (category, status)
    assert words in last.message
    assert last.usage is None


def test_another_attempt_is_a_retry_and_no_failure() -> None:
    told, _ = run("401")
    assert [(chunk.attempt, chunk.reason[:21]) for chunk in told if isinstance(chunk, Retry)] == [
        (1, "unexpected status 401")
    ]
    waiting, _ = run("refused")
    found = [chunk for chunk in waiting if isinstance(chunk, Retry)]
    assert len(found) == 4
    assert found[0].attempt is None
    assert found[0].reason.startswith("waiting for network")


# --- usage ------------------------------------------------------------------------------------------------------------


def test_the_usage_of_a_run_is_what_it_added_to_its_session() -> None:
    _, first = run("plain")
    assert isinstance(first, Result)
    _, second = run("resume", before=first.total)
    assert isinstance(second, Result)
    assert second.total == Spent(22, 14, 0, 0)
    assert second.usage == Spent(11, 7, 0, 0)


def test_the_usage_of_a_run_is_unknown_where_nobody_knows_what_came_before() -> None:
    _, last = run("resume", before=None)
    assert isinstance(last, Result)
    assert last.usage is None
    assert last.total == Spent(22, 14, 0, 0)


@pytest.mark.parametrize(
    ("before", "usage", "expected"),
    [
        (Spent(12, 7, 0, 0), Spent(11, 7, 0, 0), None),
        (Spent(5, 2, None, 1), Spent(11, 7, 3, 2), Spent(6, 5, None, 1)),
        (Spent(5, 2, 0, 9), Spent(11, 7, 3, 2), None),
        (NOTHING_SPENT, Spent(11, 7, 3, 2), Spent(11, 7, 3, 2)),
        (NOTHING_SPENT, Spent(0, 0, 0, 0), None),
        (Spent(11, 7, 0, 0), Spent(11, 7, 0, 0), None),
    ],
    ids=["less", "partly-known", "less-of-a-part", "new", "nobody-counted", "nobody-counted-since"],
)
def test_differences(before: Spent, usage: Spent, expected: Spent | None) -> None:
    parser = CodexParser(before)
    fed(
        completed(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_tokens,
            reasoning_output_tokens=usage.reasoning_tokens,
        ),
        parser=parser,
    )
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert last.usage == expected
    assert last.total == usage


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"input_tokens": -1}, {"input_tokens": True}, {"input_tokens": "x"}], ids=str
)
def test_usage_that_cannot_be_read_is_unknown_and_the_run_done_all_the_same(usage: object) -> None:
    parser = CodexParser(NOTHING_SPENT)
    fed({"type": "turn.completed", "usage": usage}, parser=parser)
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert (last.usage, last.total) == (None, None)


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "ended", "name", "given_input", "output", "is_error"),
    [
        (
            {"type": "command_execution", "command": "exit 3", "exit_code": None, "status": "in_progress"},
            {"aggregated_output": "", "exit_code": 3, "status": "failed"},
            "command_execution",
            {"command": "exit 3"},
            "",
            True,
        ),
        (
            {"type": "command_execution", "command": "rm x", "exit_code": None, "status": "in_progress"},
            {"aggregated_output": "no", "status": "declined"},
            "command_execution",
            {"command": "rm x"},
            "no",
            True,
        ),
        (
            {"type": "file_change", "changes": [{"path": "/w/new.txt", "kind": "add"}], "status": "in_progress"},
            {"status": "completed"},
            "file_change",
            {"changes": [{"path": "/w/new.txt", "kind": "add"}]},
            "completed",
            False,
        ),
        (
            {"type": "mcp_tool_call", "server": "s", "tool": "t", "arguments": {"x": 1}, "result": None, "error": None},
            {"result": {"content": []}, "status": "completed"},
            "mcp__s__t",
            {"x": 1},
            {"content": []},
            False,
        ),
        (
            {"type": "mcp_tool_call", "server": "s", "tool": "t", "arguments": {}, "result": None, "error": None},
            {"error": {"message": "gone"}},
            "mcp__s__t",
            {},
            {"message": "gone"},
            True,
        ),
        (
            {"type": "web_search", "query": "weather", "action": {"type": "search"}},
            {},
            "web_search",
            {"query": "weather", "action": {"type": "search"}},
            None,
            False,
        ),
        (
            {"type": "todo_list", "items": [{"text": "a", "completed": False}]},
            {"items": [{"text": "a", "completed": True}]},
            "todo_list",
            {"items": [{"text": "a", "completed": False}]},
            [{"text": "a", "completed": True}],
            False,
        ),
        (
            {"type": "collab_tool_call", "tool": "spawn_agent", "prompt": "p", "receiver_thread_ids": []},
            {"agents_states": {"x": {"status": "running"}}, "status": "completed"},
            "spawn_agent",
            {"prompt": "p", "receiver_thread_ids": []},
            {"x": {"status": "running"}},
            False,
        ),
    ],
    ids=["command", "declined", "file", "mcp", "mcp-error", "web", "todo", "collab"],
)
def test_tools(
    begun: dict[str, Any], ended: dict[str, Any], name: str, given_input: object, output: object, is_error: bool
) -> None:
    told = fed(item("started", **begun), item("updated", **begun), item("completed", **(begun | ended)))
    assert kinds(told) == ["ToolUse", "ToolResult"]
    used = next(chunk for chunk in told if isinstance(chunk, ToolUse))
    answer = next(chunk for chunk in told if isinstance(chunk, ToolResult))
    assert (used.tool_id, used.name, used.tool_input) == ("item_1", name, given_input)
    assert (answer.tool_id, answer.output, answer.is_error) == ("item_1", output, is_error)
    assert kinds(fed(item("completed", **(begun | ended)))) == ["ToolUse", "ToolResult"]  # that began untold


def test_a_search_is_told_once_its_words_are_known() -> None:
    parser = CodexParser(NOTHING_SPENT)
    assert kinds(fed(item("started", type="web_search", query=""), parser=parser)) == []
    told = fed(item("completed", type="web_search", query="weather"), parser=parser)
    assert kinds(told) == ["ToolUse", "ToolResult"]
    assert isinstance(told[0], ToolUse)
    assert told[0].tool_input == {"query": "weather"}


def test_a_tool_that_completes_twice_answers_once() -> None:
    event = item("completed", type="file_change", changes=[], status="completed")
    assert kinds(fed(event, event)) == ["ToolUse", "ToolResult"]


def test_what_a_running_command_has_put_out_is_not_told_again_and_again() -> None:
    begun = item("started", type="command_execution", command="make", aggregated_output="")
    event = item("updated", type="command_execution", command="make", aggregated_output="x" * 1000)
    told = fed(begun, event)[-1]
    assert isinstance(told, Raw)
    assert told.raw["item"] == {"id": "item_1", "type": "command_execution", "command": "make"}
    assert "aggregated_output" in event["item"]  # the event itself is not touched


def test_an_error_among_the_items_is_a_warning_whenever_it_comes() -> None:
    parser = CodexParser(NOTHING_SPENT)
    warning = item("completed", type="error", message="Falling back from WebSockets to HTTPS transport.")
    told = fed(warning, {"type": "turn.started"}, warning, completed(input_tokens=1, output_tokens=1), parser=parser)
    assert [chunk.text for chunk in told if isinstance(chunk, Notice)] == [warning["item"]["message"]] * 2
    assert isinstance(parser.end(0, "")[-1], Result)


def test_the_last_message_is_the_answer_and_messages_without_a_name_get_one() -> None:
    parser = CodexParser(NOTHING_SPENT)
    told = fed(
        {"type": "item.completed", "item": {"type": "agent_message", "text": "I shall look."}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "Found."}},
        completed(input_tokens=1, output_tokens=1),
        parser=parser,
    )
    first, second = (chunk for chunk in told if isinstance(chunk, Text))
    assert first.message_id != second.message_id
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert last.text == "Found."


@pytest.mark.parametrize(
    "event",
    [
        {"type": "thread.renamed", "name": "x"},
        {"type": "thread.started"},
        {"type": "item.completed", "item": {"id": "i", "type": "hologram"}},
        {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": 3}},
        {"type": "item.completed", "item": {"type": "file_change"}},
        {"type": "item.completed"},
        {"type": "error"},
        {"no": "type"},
    ],
    ids=str,
)
def test_what_it_does_not_know_it_passes_on(event: dict[str, Any]) -> None:
    assert fed(event) == [Raw(raw=event)]


# --- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "category", "status", "words"),
    [
        ('{"error": {"message": "bad tool", "type": "x"}}', "rejected", 400, "bad tool"),
        ('{"detail": "The model is not supported."}', "rejected", 400, "not supported"),
        ('{"nothing": 1}', "failed", 0, "nothing"),
        ("{not json", "failed", 0, "not json"),
        ("unexpected status 404 Not Found: x, url: http://h/v1", "rejected", 404, "404"),
        ("unexpected status 402 Payment Required: x", "quota", 402, "402"),
        ("unexpected status 503 Service Unavailable: x", "server", 503, "503"),
        ("429 Too Many Requests", "rate_limit", 429, "429"),
        ("unexpected status 429 Too Many Requests: Quota exceeded, see billing.", "rate_limit", 429, "Quota"),
        ("We\u2019re currently experiencing high demand, which may cause temporary errors.", "server", 0, "demand"),
        ("Quota exceeded. Check your plan and billing details.", "quota", 0, "Quota"),
        ("You've hit your usage limit. Try again later.", "quota", 0, "usage limit"),
        ("stream disconnected before completion: stream closed", "cut", 0, "disconnected"),
        ("stream disconnected before completion: error sending request", "cut", 0, "disconnected"),
        ("Connection failed: error sending request", "network", 0, "failed"),
        ("Codex ran out of room in the model's context window.", "rejected", 0, "room"),
        ("Selected model is at capacity. Please try a different model.", "server", 0, "capacity"),
        ("Something else.", "failed", 0, "Something"),
    ],
)  # fmt: skip
def test_the_text_of_a_failure_is_all_there_is(message: str, category: str, status: int, words: str) -> None:
    parser = CodexParser(NOTHING_SPENT)
    fed({"type": "turn.failed", "error": {"message": message}}, parser=parser)
    assert parser.done
    (last,) = parser.end(1, "")
    assert isinstance(last, Error)
    assert (last.category, last.status) == (category, status)
    assert words in last.message
    assert "\n" not in last.message


def complaint(message: str) -> dict[str, Any]:
    return {"type": "error", "message": message}


def test_a_complaint_that_only_says_what_the_turn_failed_of_is_not_told_twice() -> None:
    failed = {"type": "turn.failed", "error": {"message": "Too bad."}}
    assert kinds(fed(complaint("Too bad."), failed)) == []
    assert kinds(fed(complaint("Worse."), failed)) == ["Notice"]
    told = fed(complaint("Worse."), complaint("Too bad."), failed)
    assert [chunk.text for chunk in told if isinstance(chunk, Notice)] == ["Worse."]
    assert kinds(fed(complaint("Too bad."), completed())) == ["Notice"]


def test_a_last_complaint_is_told_unless_the_run_failed_of_it() -> None:
    dies, goes_on = CodexParser(NOTHING_SPENT), CodexParser(NOTHING_SPENT)
    for parser in (dies, goes_on):
        fed({"type": "turn.started"}, complaint("Too bad."), parser=parser)
    assert [type(chunk) for chunk in dies.end(1, "")] == [Error]
    assert [type(chunk) for chunk in goes_on.end(0, "")] == [Notice, Error]
    assert goes_on.end(0, "") == []


def test_a_failed_turn_that_says_nothing_failed_of_what_was_said_before() -> None:
    parser = CodexParser(NOTHING_SPENT)
    fed({"type": "error", "message": "unexpected status 401 Unauthorized: no"}, {"type": "turn.failed"}, parser=parser)
    (last,) = parser.end(1, "")
    assert isinstance(last, Error)
    assert (last.category, last.status) == ("auth", 401)


def test_a_program_that_dies_of_an_error_without_a_failed_turn_died_of_that() -> None:
    parser = CodexParser(NOTHING_SPENT)
    fed({"type": "turn.started"}, {"type": "error", "message": "Quota exceeded."}, parser=parser)
    (last,) = parser.end(1, "")
    assert isinstance(last, Error)
    assert last.category == "quota"


def test_a_session_that_another_run_goes_on_with_is_busy_and_not_gone() -> None:
    stderr = (
        "2026-11-27T19:08:40.472320Z ERROR codex_core::session: Failed to create session: thread-store conflict: "
        "thread 01a21e68 already has an active writer\n"
        "Error: thread/resume: thread/resume failed: thread 01a21e68 already has an active writer (code -32600)\n"
    )
    (last,) = CodexParser(NOTHING_SPENT).end(1, stderr)
    assert isinstance(last, Error)
    assert (last.category, "active writer" in last.message) == ("session_busy", True)


@pytest.mark.parametrize(
    ("exit_code", "stderr", "category", "words"),
    [
        (2, "error: unexpected argument '--nosuch' found\n\nFor more information, try '--help'.", "failed", "--nosuch"),
        (1, 'Error finding codex home: CODEX_HOME points to "/x", but that path does not exist', "failed", "/x"),
        (1, "WARNING: proceeding, even though\nReading additional input from stdin...", "failed", "exit code 1"),
        (0, "", "protocol", "without saying"),
        (101, "thread 'main' panicked at src/main.rs", "failed", "panicked"),
        (None, "", "failed", "None"),
    ],
    ids=["usage", "state", "noise", "silent", "panic", "never-ran"],
)
def test_a_program_that_says_nothing_is_judged_by_what_it_complained_of(
    exit_code: int | None, stderr: str, category: str, words: str
) -> None:
    (last,) = CodexParser(NOTHING_SPENT).end(exit_code, stderr)
    assert isinstance(last, Error)
    assert last.category == category
    assert words in last.message


def test_an_answer_by_a_schema_is_decoded() -> None:
    asked = msgspec.convert({"prompt": "p", "output_schema": {"type": "object"}}, CodexOptions)
    parser = CODEX.parser(asked, NOTHING_SPENT)
    fed(item("completed", type="agent_message", text='{"a": 1}'), completed(), parser=parser)
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert (last.structured, last.text) == ({"a": 1}, '{"a": 1}')


def test_an_answer_that_is_not_json_is_kept_and_said() -> None:
    parser = CodexParser(NOTHING_SPENT, structured=True)
    told = fed(item("completed", type="agent_message", text="Sorry."), completed(), parser=parser)
    assert kinds(told) == ["Text", "Notice"]
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert (last.structured, last.text) == (None, "Sorry.")


def test_without_a_schema_json_stays_a_text() -> None:
    parser = CODEX.parser(msgspec.convert({"prompt": "p"}, CodexOptions), NOTHING_SPENT)
    fed(item("completed", type="agent_message", text="[1]"), completed(), parser=parser)
    (last,) = parser.end(0, "")
    assert isinstance(last, Result)
    assert last.structured is None


def test_the_session_is_told_as_soon_as_it_is_known() -> None:
    parser = CodexParser(NOTHING_SPENT)
    assert fed({"type": "thread.started", "thread_id": "t-1"}, parser=parser) == [
        Session(session_id="t-1", raw={"type": "thread.started", "thread_id": "t-1"})
    ]
    assert parser.session_id == "t-1"


# --- whatever comes ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENTS = [event for tag in TAGS for event in lines(tag)]


def places(found: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [place for name, value in inner for place in ((*at, name), *places(value, (*at, name)))]


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """An event of a recorded run with something else in one of its places, or nothing."""
    event = json.loads(json.dumps(draw(st.sampled_from(EVENTS))))
    place = draw(st.sampled_from(places(event)))
    holder: Any = event
    for name in place[:-1]:
        holder = holder[name]
    if draw(st.booleans()):
        holder[place[-1]] = draw(JSON)
    else:
        del holder[place[-1]]
    return event


@given(
    st.lists(JSON | mutated() | st.sampled_from(EVENTS), max_size=12),
    st.none() | st.integers(-64, 255),
    st.text(max_size=200),
    st.none() | st.builds(Spent, st.none() | st.integers(0, 99), st.none() | st.integers(0, 99)),
    st.booleans(),
)
def test_nothing_makes_it_raise_and_it_ends_exactly_once(
    events: list[object], exit_code: int | None, stderr: str, before: Spent | None, structured: bool
) -> None:
    parser = CodexParser(before, structured=structured)
    told = [chunk for event in events for chunk in parser.feed(event)]
    assert not any(isinstance(chunk, Result | Error) for chunk in told)
    ending = parser.end(exit_code, stderr)
    assert [isinstance(chunk, Result | Error) for chunk in ending] == [False] * (len(ending) - 1) + [True]
    last = ending[-1]
    assert isinstance(last, Result | Error)
    if last.usage is not None:
        counts = (last.usage.input_tokens, last.usage.output_tokens, last.usage.cached_tokens)
        assert all(value is None or value >= 0 for value in counts)
    assert parser.end(0, "") == []
    for used in (ToolUse, ToolResult):
        names = [chunk.tool_id for chunk in told if isinstance(chunk, used)]
        assert len(names) == len(set(names))
