"""A run put together from its chunks, and each chunk as the reader of a stream sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents import chunks as ch
from engine.agents.claude_events import ClaudeEvents
from engine.agents.record import RunRecord, as_stream_chunk, read_chunk

SPENT = ch.Spent(22, 14, 3, 2, 0.5)

EVERY_KIND: tuple[ch.Chunk, ...] = (
    ch.Session(session_id="S1", model="sonnet", cwd="/x"),
    ch.Text(text="a", message_id="m1"),
    ch.Thinking(text="hm", message_id="m1"),
    ch.ToolUse(tool_id="t1", name="Bash", tool_input={"command": "ls"}, message_id="m1"),
    ch.ToolResult(tool_id="t1", output="x", is_error=True),
    ch.Retry(attempt=1, reason="overloaded", delay_s=0.5, discards=("m1",)),
    ch.Used(usage=SPENT),
    ch.Notice(text="careful"),
    ch.Raw(raw={"type": "new"}),
    ch.Result(
        text="done", stop_reason="end_turn", session_id="S1", usage=SPENT, total=SPENT, turns=2, structured={"a": 1}
    ),
    ch.Error(category="auth", message="no", status=401, session_id="S1", usage=SPENT),
)


def answer(*chunks: ch.Chunk) -> dict[str, object]:
    run = RunRecord()
    for chunk in chunks:
        run.take(chunk)
    return run.answer()


@pytest.mark.parametrize("chunk", EVERY_KIND, ids=lambda chunk: str(type(chunk).__name__))
def test_a_chunk_survives_its_json(chunk: ch.Chunk) -> None:
    assert read_chunk(ch.encode_chunk(chunk)) == chunk


def test_every_kind_of_chunk_is_in_these_tests() -> None:
    assert {type(chunk) for chunk in EVERY_KIND} == set(ch.Chunk.__args__)  # type: ignore[attr-defined]


@given(st.binary(max_size=50))
def test_what_is_no_chunk_is_none(data: bytes) -> None:
    assert read_chunk(data) is None


def test_a_run_says_what_was_said_done_and_spent() -> None:
    got = answer(
        ch.Session(session_id="S1", model="sonnet"),
        ch.Thinking(text="hm ", message_id="m1"),
        ch.Thinking(text="hm", message_id="m1"),
        ch.Text(text="Let me ", message_id="m1"),
        ch.Text(text="look.", message_id="m1"),
        ch.ToolUse(tool_id="t1", name="Bash", tool_input={"command": "ls"}, message_id="m1"),
        ch.ToolResult(tool_id="t1", output="x"),
        ch.Text(text="Found it.", message_id="m2", delta=False),
        ch.Result(text="Found it.", stop_reason="end_turn", usage=SPENT, turns=2, structured=[1]),
    )
    assert got == {
        "session_id": "S1",
        "model": "sonnet",
        "result": "Found it.",
        "messages": ["Let me look.", "Found it."],
        "thinking": "hm hm",
        "tool_uses": [{"id": "t1", "name": "Bash", "input": {"command": "ls"}}],
        "tool_results": [{"tool_use_id": "t1", "content": "x", "is_error": False}],
        "usage": {
            "input_tokens": 22, "output_tokens": 14, "cached_tokens": 3, "reasoning_tokens": 2, "cost_usd": 0.5,
        },
        "total_cost_usd": 0.5,
        "stop_reason": "end_turn",
        "num_turns": 2,
        "structured_output": [1],
        "is_error": False,
        "error": None,
    }  # fmt: skip
    json.dumps(got)


def test_what_a_retry_discards_is_forgotten_and_nothing_else() -> None:
    got = answer(
        ch.Text(text="First.", message_id="m1"),
        ch.Text(text="Half an ans", message_id="m2"),
        ch.Thinking(text="so", message_id="m2"),
        ch.ToolUse(tool_id="t2", name="Bash", message_id="m2"),
        ch.Retry(discards=("m2",)),
        ch.Text(text="Half an answer, whole.", message_id="m3"),
    )
    assert got["messages"] == ["First.", "Half an answer, whole."]
    assert got["result"] == "Half an answer, whole."
    assert got["thinking"] is None
    assert got["tool_uses"] == []


def test_a_tool_that_was_really_used_outlives_the_message_that_a_retry_discards() -> None:
    """Whether its result comes before the retry or after it."""
    use = ch.ToolUse(tool_id="t1", name="Bash", message_id="m1")
    result, retry = ch.ToolResult(tool_id="t1", output="x"), ch.Retry(discards=("m1",))
    for rest in ((result, retry), (retry, result)):
        got = answer(ch.Text(text="Half", message_id="m1"), use, *rest)
        assert got["tool_uses"] == [{"id": "t1", "name": "Bash", "input": None}]
        assert got["messages"] == []


def test_a_discarded_use_is_not_revived_by_a_later_one_of_the_same_name() -> None:
    void, used = (ch.ToolUse(tool_id="c", name=name, message_id=name) for name in ("void", "used"))
    got = answer(void, ch.Retry(discards=("void",)), used, ch.ToolResult(tool_id="c", output="x"))
    assert got["tool_uses"] == [{"id": "c", "name": "used", "input": None}]


def test_a_name_that_comes_again_swallows_nothing() -> None:
    chunks = [
        chunk
        for n in range(2)
        for chunk in (ch.ToolUse(tool_id="c", name="t", tool_input=n), ch.ToolResult(tool_id="c", output=n))
    ]
    got = answer(*chunks)
    assert got["tool_uses"] == [{"id": "c", "name": "t", "input": n} for n in range(2)]
    assert got["tool_results"] == [{"tool_use_id": "c", "content": n, "is_error": False} for n in range(2)]


def test_a_tool_used_in_a_real_run_whose_message_broke_off() -> None:
    lines = (Path(__file__).parent / "transcripts" / "claude__cut_block.stdout.jsonl").read_text("utf-8").splitlines()
    parser = ClaudeEvents()
    chunks = [chunk for line in lines for chunk in parser.feed(json.loads(line))]
    assert any(isinstance(chunk, ch.Retry) and chunk.discards for chunk in chunks)
    got = answer(*chunks, *parser.end(0, ""))
    assert [(use["id"], use["name"]) for use in got["tool_uses"]] == [("toolu_0", "Read")]  # type: ignore[attr-defined]
    assert [one["tool_use_id"] for one in got["tool_results"]] == ["toolu_0"]  # type: ignore[attr-defined]
    assert got["messages"] == ["First block.", "After."]


def test_a_whole_message_takes_the_place_of_its_fragments() -> None:
    got = answer(ch.Text(text="Hel", message_id="m"), ch.Text(text="Hello.", message_id="m", delta=False))
    assert got["messages"] == ["Hello."]


def test_a_failed_run_keeps_what_came_and_says_why() -> None:
    got = answer(
        ch.Text(text="Half", message_id="m"),
        ch.Used(usage=SPENT),
        ch.Error(category="server", message="overloaded", status=529, session_id="S9"),
    )
    assert (got["session_id"], got["result"], got["is_error"]) == ("S9", "Half", True)
    assert got["error"] == {"category": "server", "message": "overloaded", "status": 529}
    assert got["total_cost_usd"] == 0.5  # what it said before it failed


def test_a_run_of_nothing_has_every_field() -> None:
    got = answer()
    assert {name for name, value in got.items() if value not in (None, [], False)} == set()
    assert got.keys() == answer(*EVERY_KIND).keys()


KINDS = {
    "text": "text", "thinking": "thinking", "tool_use": "tool_use", "tool_result": "tool_result", "result": "result",
    "error": "error",
}  # fmt: skip


@pytest.mark.parametrize("chunk", EVERY_KIND, ids=lambda chunk: str(type(chunk).__name__))
def test_a_reader_sees_each_chunk_by_its_kind(chunk: ch.Chunk) -> None:
    seen = as_stream_chunk(chunk)
    kind = str(seen.metadata["kind"])
    assert seen.type == KINDS.get(kind, "system")
    assert str(seen) == (chunk.text if isinstance(chunk, ch.Text) else "")
    assert seen.is_error == isinstance(chunk, ch.Error | ch.ToolResult)


def test_a_reader_sees_the_programs_own_event_as_the_event() -> None:
    seen = as_stream_chunk(ch.Text(text="a", message_id="m", raw={"type": "delta"}))
    assert seen.metadata == {"kind": "text", "text": "a", "message_id": "m", "event": {"type": "delta"}}
    tool = as_stream_chunk(ch.ToolUse(tool_id="t", name="Bash", tool_input={"a": 1}))
    assert (tool.tool_name, tool.tool_id, tool.tool_input) == ("Bash", "t", {"a": 1})
    assert as_stream_chunk(ch.ToolResult(tool_id="t", output="x")).tool_output == "x"
    assert as_stream_chunk(ch.Result(text="whole", stop_reason="stop")).metadata["finish_reason"] == "stop"


def test_only_what_the_agent_says_or_does_is_substance() -> None:
    assert [type(chunk).__name__ for chunk in EVERY_KIND if isinstance(chunk, ch.SUBSTANCE)] == [
        "Text", "Thinking", "ToolUse", "ToolResult",
    ]  # fmt: skip
