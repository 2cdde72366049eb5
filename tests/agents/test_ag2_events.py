"""What the recorded events of real chats of AG2 mean, and what has to be read although no record shows it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.agents.ag2_events import ChatParser, ClassicParser, NetworkParser
from engine.agents.chunks import Chunk, Error, Result, Spent, Text, Thinking, ToolResult, ToolUse, Used

TRANSCRIPTS = Path(__file__).parent / "transcripts"


# --- recorded chats ---------------------------------------------------------------------------------------------------

_USAGE = re.compile(r"(\w+)=(\d+)")
_CALL = re.compile(r"ToolCallEvent\(id=(\w+), name='(\w+)', arguments='(.*?)'\)")


def network_events(name: str) -> list[dict[str, Any]]:
    """A recorded run of AG2 1.2.1 as the transport tells it: the record holds the reprs of the same fields."""
    names: dict[str, str] = {}
    events = []
    for line in (TRANSCRIPTS / f"ag2__{name}.events.jsonl").read_text().splitlines():
        record = json.loads(line)
        kind = record["type"]
        if kind == "on_agent_event":
            found = re.search(r"name='(\w+)'", record["a"][2])
            assert found
            names[ast.literal_eval(record["a"][0])] = found[1]
        elif kind == "on_turn_failed":
            error, said = re.fullmatch(r"(\w+)\('(.*)'\)", record["a"][3]).groups()  # type: ignore[union-attr]
            speaker = names[ast.literal_eval(record["a"][1])]
            events.append(
                {"type": "turn_failed", "agent": speaker, "error": {"type": error, "message": said, "status": 401}}
            )
        elif kind == "on_channel_event" and record["a"][1] == "'closed'":
            events.append({"type": "closed", "reason": re.search(r"'reason': '(\w+)'", record["a"][2])[1]})  # type: ignore[index]
        elif kind == "on_envelope_posted" and record["event_type"] == "ag2.packet":
            events.append({"type": "packet", "agent": names[record["sender"]], "content": record["data"]["body"]})
        elif record["kind"].startswith("agent:"):
            events.append(agent_event(record["kind"][6:], kind, record["f"]))
    return events


def agent_event(agent: str, kind: str, fields: Mapping[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {"type": kind, "agent": agent}
    for name in ("content", "id", "name", "arguments", "parent_id"):
        if name in fields:
            event[name] = ast.literal_eval(fields[name])
    if kind == "UsageEvent":
        event["usage"] = {name: int(number) for name, number in _USAGE.findall(fields["usage"])}
    if kind == "ModelResponse":
        calls = _CALL.findall(fields["tool_calls"])
        event["tool_calls"] = [{"id": one, "name": two, "arguments": three} for one, two, three in calls]
        content = re.search(r"content='(.*)'", fields["message"])
        event["content"] = content[1] if content else None
    if kind == "ToolResultEvent":
        event["output"] = re.search(r"content='(.*?)'", fields["result"])[1]  # type: ignore[index]
    return event


def classic_events(name: str) -> list[dict[str, Any]]:
    lines = (TRANSCRIPTS / f"ag2classic__{name}.events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def read(parser: ChatParser, events: Iterable[object]) -> list[Chunk]:
    """All chunks of a run; that there is one terminal chunk, and that it is the last, holds for all of them."""
    chunks = [chunk for event in events for chunk in parser.feed(event)]
    chunks += parser.end(None, "")
    assert parser.end(None, "") == []
    assert [chunk for chunk in chunks if isinstance(chunk, Result | Error)] == chunks[-1:]
    assert msgspec.json.encode(chunks)
    return chunks


def messages(chunks: Iterable[Chunk]) -> dict[str, str]:
    """The texts by message, from fragments and whole ones alike: what is told twice stands there twice."""
    found: dict[str, str] = {}
    for chunk in chunks:
        if isinstance(chunk, Text):
            found[chunk.message_id] = found.get(chunk.message_id, "") + chunk.text
            assert chunk.message_id.startswith(chunk.raw["agent"])
    return found


ONCE = Spent(11, 7)


@pytest.mark.parametrize(
    ("name", "said"), [("multi", "Alpha beta gamma delta."), ("plain", "Hello from the fake provider.")]
)
def test_a_chat_in_the_network(name: str, said: str) -> None:
    """Each message once, though its fragments, the whole and the response say it; all that was used, summed."""
    parser = NetworkParser()
    chunks = read(parser, network_events(name))
    assert messages(chunks) == {"bob-1": said, "alice-2": said}
    assert all(chunk.delta for chunk in chunks if isinstance(chunk, Text))
    assert [chunk.usage.input_tokens for chunk in chunks if isinstance(chunk, Used)] == [11, 22]
    result = chunks[-1]
    assert isinstance(result, Result)
    assert (result.text, result.stop_reason, result.turns) == (said, "max_turns", 2)
    assert result.usage == Spent(22, 14)
    assert parser.done


def test_tools_in_the_network() -> None:
    """A call is told once and before its result, with its arguments decoded, although events come in any order."""
    chunks = read(NetworkParser(), network_events("tool"))
    told = [chunk for chunk in chunks if isinstance(chunk, ToolUse | ToolResult)]
    assert [type(chunk) for chunk in told] == [ToolUse, ToolResult] * 2
    uses = [chunk for chunk in told if isinstance(chunk, ToolUse)]
    assert [(use.tool_id, use.name, use.tool_input, use.raw["agent"]) for use in uses] == [
        ("call_1", "shout", {"text": "hi"}, "bob"),
        ("alice-call_1-1", "shout", {"text": "hi"}, "alice"),
    ]
    results = [chunk for chunk in told if isinstance(chunk, ToolResult)]
    assert [result.tool_id for result in results] == [use.tool_id for use in uses]
    assert all(result.output == "HI" and not result.is_error for result in results)
    assert list(messages(chunks).values()) == ["Tool finished.", "Tool finished."]
    assert isinstance(chunks[-1], Result)
    assert chunks[-1].usage == Spent(44, 28)


def test_a_failed_turn_in_the_network() -> None:
    """It is the end, and says whose turn it was and what the provider said."""
    parser = NetworkParser()
    error = read(parser, network_events("401"))[-1]
    assert isinstance(error, Error)
    assert (error.category, error.status) == ("auth", 401)
    assert error.message == "bob: AuthenticationError: Error code: 401 - fake 401"
    assert parser.done


def test_a_classic_chat() -> None:
    """Fragments that do not say whose they are are the last speaker's; the caller's own words are nobody's message."""
    parser = ClassicParser(["alice", "bob"])
    said = "Alpha beta gamma delta."
    chunks = read(parser, classic_events("multi_iter"))
    assert messages(chunks) == {"alice-1": said, "bob-2": said}
    result = chunks[-1]
    assert isinstance(result, Result)
    assert (result.text, result.stop_reason, result.turns) == (said, "max_turns", 2)
    assert parser.done


def test_a_classic_chat_that_fails() -> None:
    """All that is known is the exception's name, and that is enough."""
    error = read(ClassicParser(["alice", "bob"]), classic_events("401_sync"))[-1]
    assert isinstance(error, Error)
    assert error.category == "auth"
    assert error.message.startswith("alice: ")


def told(name: str) -> list[object]:
    """What the transport told of a real run: of AG2 1.2.1 (``ag2told``) or 0.14.0 (``ag2classictold``)."""
    return [json.loads(line) for line in (TRANSCRIPTS / f"{name}.events.jsonl").read_text().splitlines()]


LIBRARIES = [("ag2told", NetworkParser), ("ag2classictold", lambda: ClassicParser(["alice", "bob"]))]
both = pytest.mark.parametrize(("record", "parser"), LIBRARIES, ids=["network", "classic"])


@both
def test_three_turns(record: str, parser: Any) -> None:
    """The same chat is told alike, whichever library ran it."""
    chunks = read(parser(), told(f"{record}__multi"))
    assert messages(chunks) == {"alice-1": "Alpha beta.", "bob-2": "Alpha beta.", "alice-3": "Alpha beta."}
    result = chunks[-1]
    assert isinstance(result, Result)
    assert (result.text, result.stop_reason, result.turns) == ("Alpha beta.", "max_turns", 3)
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_tokens) == (33, 21)


@both
@pytest.mark.parametrize(("tool", "output"), [("tool", "HI"), ("tool_error", "no Hi")])
def test_a_tool(record: str, parser: Any, tool: str, output: str) -> None:
    """One call, one result, with the same identifier; then the agent speaks."""
    chunks = [
        chunk for chunk in read(parser(), told(f"{record}__{tool}")) if isinstance(chunk, ToolUse | ToolResult | Text)
    ]
    use, result, *texts = chunks
    assert isinstance(use, ToolUse)
    assert isinstance(result, ToolResult)
    assert (use.tool_id, use.tool_input) == (result.tool_id, {"text": "Hi"})
    assert output in result.output
    assert result.is_error is (tool == "tool_error")
    assert "".join(messages(texts).values()) == "Tool finished."


@both
def test_the_second_turn_fails(record: str, parser: Any) -> None:
    """What the first one used is in the error, and whose turn it was."""
    chunks = read(parser(), told(f"{record}__second_fails"))
    assert messages(chunks) == {"alice-1": "Well."}
    error = chunks[-1]
    assert isinstance(error, Error)
    assert (error.category, error.status) == ("server", 503)
    assert error.message.startswith("bob: InternalServerError: ")
    assert error.usage is not None
    assert (error.usage.input_tokens, error.usage.output_tokens) == (11, 7)


def test_thinking() -> None:
    """It comes in fragments, of the message that follows; the classic library does not show any."""
    chunks = read(NetworkParser(), told("ag2told__think"))
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Thinking)) == "millstockrace penweirver"
    assert messages(chunks) == {"alice-1": "millstockrace penweirver"}


# --- what the records do not show -------------------------------------------------------------------------------------


def test_whole_messages_are_told_where_there_were_no_fragments() -> None:
    """From the message itself, or from the response alone; then they are no fragments."""
    events = [
        {"type": "ModelMessage", "agent": "a", "content": "one"},
        {"type": "ModelResponse", "agent": "a", "content": "one"},
        {"type": "ModelResponse", "agent": "a", "content": "two"},
        {"type": "packet", "agent": "a", "content": "two"},
        {"type": "closed", "reason": "sequence_complete"},
    ]
    chunks = read(NetworkParser(), events)
    assert messages(chunks) == {"a-1": "one", "a-2": "two"}
    assert not any(chunk.delta for chunk in chunks if isinstance(chunk, Text))
    assert isinstance(chunks[-1], Result)
    assert (chunks[-1].text, chunks[-1].stop_reason) == ("two", "sequence_complete")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_calls_that_a_server_counts_anew_in_each_response_are_told_apart(late: bool) -> None:
    """Each has a name of its own, and its result has that; whether a response or an event tells of it first."""
    ids = []
    for number in range(2):
        call = {"id": "call_0", "name": "shout", "arguments": json.dumps({"n": number})}
        event = {"type": "ToolCallEvent", "agent": "a", **call}
        response = {"type": "ModelResponse", "agent": "a", "tool_calls": [call]}
        answer = {"type": "ToolResultEvent", "agent": "a", "parent_id": "call_0", "output": str(number)}
        ids += [event, answer, response] if late else [response, event, answer]
    chunks = [chunk for chunk in read(NetworkParser(), ids) if isinstance(chunk, ToolUse | ToolResult)]
    assert [(chunk.tool_id, chunk.tool_input if isinstance(chunk, ToolUse) else chunk.output) for chunk in chunks] == [
        ("call_0", {"n": 0}),
        ("call_0", "0"),
        ("a-call_0-2", {"n": 1}),
        ("a-call_0-2", "1"),
    ]


def test_classic_calls_that_a_server_counts_anew_are_told_apart() -> None:
    """The second is not taken for the first, whose failure is its own."""
    call = {"id": "call_0", "function": {"name": "shout", "arguments": "{}"}, "type": "function"}
    used = {"type": "tool_call", "content": {"sender": "a", "content": None, "tool_calls": [call]}}
    broke = {"type": "executed_function", "content": {"call_id": "call_0", "is_exec_success": False}}
    answer = {"type": "tool_response", "content": {"tool_responses": [{"tool_call_id": "call_0", "content": "x"}]}}
    chunks = read(ClassicParser(["a"]), [used, broke, answer, used, answer])
    uses = [chunk.tool_id for chunk in chunks if isinstance(chunk, ToolUse)]
    results = [(chunk.tool_id, chunk.is_error) for chunk in chunks if isinstance(chunk, ToolResult)]
    assert len(set(uses)) == 2
    assert results == [(uses[0], True), (uses[1], False)]


def test_thinking_belongs_to_the_message_that_follows() -> None:
    """It does not count as a part of its text."""
    events = [
        {"type": "ModelReasoning", "agent": "a", "content": "hm"},
        {"type": "ModelMessage", "agent": "a", "content": "yes"},
    ]
    thinking, text, _ = read(NetworkParser(), events)
    assert isinstance(thinking, Thinking)
    assert isinstance(text, Text)
    assert thinking.message_id == text.message_id


@pytest.mark.parametrize("kind", ["ToolErrorEvent", "ToolNotFoundEvent"])
def test_a_tool_that_failed(kind: str) -> None:
    """What it raised is its result, marked as an error."""
    chunk, _ = read(NetworkParser(), [{"type": kind, "agent": "a", "parent_id": "c", "output": "ValueError: no"}])
    assert chunk == ToolResult(tool_id="c", output="ValueError: no", is_error=True, raw={"agent": "a", "name": None})


@pytest.mark.parametrize("reason", ["expectation_violated:turn_within", "expired"])
def test_a_chat_that_was_closed_for_its_time(reason: str) -> None:
    """It is no success; what it used is kept."""
    usage = {"type": "UsageEvent", "agent": "a", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    error = read(NetworkParser(), [usage, {"type": "closed", "reason": reason}])[-1]
    assert isinstance(error, Error)
    assert (error.category, error.usage) == ("limit", Spent(3, 1))


def test_a_chat_that_just_ended() -> None:
    """Without a word of its end nobody knows what came of it."""
    usage = {"type": "UsageEvent", "agent": "a", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    error = read(NetworkParser(), [{"type": "ModelMessage", "agent": "a", "content": "and"}, usage])[-1]
    assert isinstance(error, Error)
    assert (error.category, error.usage) == ("protocol", Spent(3, 1))


def test_trouble_on_our_side_keeps_what_was_used() -> None:
    """The chat was billed all the same."""
    parser = NetworkParser()
    parser.feed({"type": "UsageEvent", "agent": "a", "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    (error,) = parser.end(None, "", Error(category="failed", message="SystemExit: 1"))
    assert isinstance(error, Error)
    assert (error.category, error.usage) == ("failed", Spent(3, 1))


def test_what_a_failed_chat_used_is_told() -> None:
    """Whether it is known before it fails or only afterwards."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    failed = {"type": "turn_failed", "agent": "a", "error": {"type": "RateLimitError", "message": "x", "status": 429}}
    error = read(NetworkParser(), [{"type": "UsageEvent", "agent": "a", "usage": usage}, failed])[-1]
    assert isinstance(error, Error)
    assert (error.category, error.usage) == ("rate_limit", Spent(5, 2))
    failed = {"type": "error", "content": {"error": {"type": "APIConnectionError", "message": "Connection error."}}}
    error = read(ClassicParser(["a"]), [failed, {"type": "usage", "content": usage}])[-1]
    assert isinstance(error, Error)
    assert (error.category, error.usage) == ("cut", Spent(5, 2))


@pytest.mark.parametrize(
    ("cause", "category"),
    [("ConnectError", "network"), ("ConnectTimeout", "network"), ("ReadError", "cut"), ("", "cut")],
)
def test_a_service_that_was_not_reached_is_known_by_the_cause(cause: str, category: str) -> None:
    """The words are the same for a connection that broke."""
    told = {"type": "APIConnectionError", "message": "Connection error.", "status": 0, "cause": cause}
    error = read(NetworkParser(), [{"type": "turn_failed", "agent": "a", "error": told}])[-1]
    assert isinstance(error, Error)
    assert error.category == category


def test_classic_tools() -> None:
    """A call and what came of it, by its identifier; a broken one is known from another event."""
    call = {"id": "c", "function": {"name": "shout", "arguments": '{"text": "hi"}'}, "type": "function"}
    events = [
        {"type": "group_chat_run_chat", "content": {"speaker": "a"}},
        {"type": "tool_call", "content": {"sender": "a", "content": None, "tool_calls": [call]}},
        {"type": "executed_function", "content": {"call_id": "c", "is_exec_success": False}},
        {"type": "tool_response", "content": {"tool_responses": [{"tool_call_id": "c", "content": "Error: no"}]}},
    ]
    told = [chunk for chunk in read(ClassicParser(["a"]), events) if isinstance(chunk, ToolUse | ToolResult)]
    assert told == [
        ToolUse(tool_id="c", name="shout", tool_input={"text": "hi"}, message_id="a-1", raw={"agent": "a"}),
        ToolResult(tool_id="c", output="Error: no", is_error=True),
    ]


NONSENSE: tuple[object, ...] = (
    None,
    [],
    {},
    {"type": 3},
    {"type": "ModelMessageChunk"},
    {"type": "ModelMessageChunk", "agent": 3, "content": 3},
    {"type": "ModelResponse", "agent": "a", "tool_calls": [None, {"id": 1, "arguments": "{"}]},
    {"type": "ToolCallEvent", "agent": "a", "id": "x", "arguments": "not json"},
    {"type": "UsageEvent", "usage": "much"},
    {"type": "stream", "content": "x"},
    {"type": "tool_call", "content": {"sender": "a", "tool_calls": "x"}},
    {"type": "tool_call", "content": {"sender": "a", "tool_calls": [{"function": "x"}, 3]}},
    {"type": "tool_response", "content": {"tool_responses": [3]}},
    {"type": "error", "content": {"error": None}},
    {"type": "turn_failed"},
)


@pytest.mark.parametrize("parser", [NetworkParser, lambda: ClassicParser(["a"])], ids=["network", "classic"])
def test_whatever_comes_is_read(parser: Any) -> None:
    """Nothing is raised, and the end is an end."""
    read(parser(), NONSENSE)
    for event in NONSENSE:
        read(parser(), [event])
