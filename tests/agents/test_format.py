"""An agent's wire format: its options as a body, its chunks as an answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.agents.agent import EventParser, Launch, Program, Setting
from engine.agents.chunks import Chunk, Error, Raw, Result, Session, Spent, Text, ToolUse, encode_chunk
from engine.agents.format import HANDLERS, AgentFormat
from engine.agents.options import AgentOptions
from engine.errors import InvalidCall
from engine.sse import Named


class Options(AgentOptions, frozen=True, kw_only=True):
    loud: bool = False


class Echo(Program[Options]):
    """An agent that is never run here."""

    name, program, install, options = "echo", "echo", "it is there", Options

    def launch(self, options: Options, setting: Setting) -> Launch:
        raise NotImplementedError

    def parser(self, options: Options, before: Spent | None) -> EventParser:
        raise NotImplementedError


FORMAT = AgentFormat(Echo())


def body(**arguments: Any) -> Any:
    return msgspec.json.decode(FORMAT.encode(arguments).body)


def test_arguments_are_the_body_and_always_a_stream() -> None:
    encoded = FORMAT.encode({"prompt": "go", "model": None, "loud": True, "stream": True})
    assert msgspec.json.decode(encoded.body) == {"prompt": "go", "loud": True}
    assert encoded.streaming
    assert encoded.output_cap is None
    assert msgspec.json.decode(encoded.body, type=Options) == Options(prompt="go", loud=True)


def test_the_estimate_is_of_what_is_said_to_it() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    FORMAT.encode(
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "go"}]}, count_text=count
    )
    assert counted == ["go", "be brief"]
    assert FORMAT.encode({"prompt": "go on " * 1000}).input_tokens > FORMAT.encode({"prompt": "go"}).input_tokens


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "nothing to ask"),
        ({"prompt": "  "}, "nothing to ask"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "beside messages"),
        ({"prompt": "a\0"}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "a", "temperature": 1}, "temperature"),
        ({"prompt": "a", "model": "--dangerous"}, "model"),
        ({"prompt": "a", "resume": "-x"}, "resume"),
        ({"prompt": "a", "resume": "../../x y"}, "resume"),
        ({"prompt": "a", "cwd": "-C"}, "cwd"),
        ({"prompt": "a", "cwd": ""}, "cwd"),
        ({"prompt": "a", "add_dirs": ["ok", "--no"]}, "add_dirs"),
        ({"prompt": "a", "permission": "root"}, "permission"),
        ({"prompt": "a", "pass_env": ["A=B"]}, "pass_env"),
        ({"prompt": "a", "start_s": 0}, "start_s"),
        ({"prompt": "a", "api_key": "sk-live0123456789"}, "api_key"),
        ({"prompt": "a", "on_text": print}, "on_text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "texts alone"),
        ({"messages": "hello"}, "messages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_asked_is_refused_by_its_name(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidCall, match=problem) as caught:
        FORMAT.encode(arguments)
    assert "sk-live" not in str(caught.value)


def test_a_resumed_session_is_told_the_last_message_alone() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    seen: list[str] = []
    FORMAT.encode({"messages": messages}, count_text=lambda text: seen.append(text) or 0)  # type: ignore[func-returns-value]
    FORMAT.encode({"messages": messages, "resume": "S1"}, count_text=lambda text: seen.append(text) or 0)  # type: ignore[func-returns-value]
    assert seen == ["one\n\ntwo\n\nthree", "", "three", ""]


RUN: list[Chunk] = [
    Session(session_id="S1", model="m"),
    Text(text="Hel", message_id="1"),
    Text(text="lo.", message_id="1"),
    ToolUse(tool_id="t", name="Bash", tool_input={"command": "ls"}, message_id="1"),
    Text(text="Bye.", message_id="2", delta=False),
    Result(text="Bye.", stop_reason="end_turn", usage=Spent(5, 2)),
]
RECORD = b"\n".join(map(encode_chunk, RUN))


def test_a_record_and_a_stream_make_the_same_answer() -> None:
    assembler = FORMAT.assembler()
    chunks = [seen for chunk in RUN for seen in assembler.feed(encode_chunk(chunk))]
    assert "".join(map(str, chunks)) == "Hello.Bye."
    assert assembler.end() == []
    assert assembler.response() == FORMAT.decode_stream(RECORD)
    view = FORMAT.view(assembler.response())
    assert (view.text, view.provider_id, view.model, view.finish_reason) == ("Bye.", "S1", "m", "end_turn")
    assert [(call.id, call.name, call.arguments) for call in view.tool_calls] == [("t", "Bash", '{"command":"ls"}')]


def test_a_run_without_an_end_has_the_text_that_came() -> None:
    assert FORMAT.view(FORMAT.decode_stream(b"\n".join(map(encode_chunk, RUN[:3])))).text == "Hello."


def test_what_is_no_chunk_is_shown_and_counted() -> None:
    assembler = FORMAT.assembler()
    (seen,) = assembler.feed(b"nonsense")
    assert (seen.type, seen.metadata) == ("system", {"event": "nonsense"})
    assert assembler.unreadable == 1
    assert assembler.feed(Named(b"x", encode_chunk(Raw(raw={"a": 1}))))[0].metadata["event"] == {"a": 1}


@pytest.mark.parametrize(
    "response", [None, [], 3, {"messages": 3}, {"messages": [1], "tool_uses": [2], "result": 4}], ids=str
)
def test_a_view_of_anything_is_a_view(response: object) -> None:
    assert FORMAT.view(response).text is None


def test_a_record_is_read_like_a_run() -> None:
    reading = FORMAT.read(200, {}, RECORD, now_s=0.0)
    assert (reading.advice.verdict, reading.advice.charge) == ("done", "usage")
    cut = FORMAT.read(200, {}, b"\n".join(map(encode_chunk, RUN[:-1])), now_s=0.0)
    assert (cut.advice.verdict, cut.advice.charge) == ("failed", "kept")
    monitor = FORMAT.monitor()
    monitor.heard([encode_chunk(Error(category="rate_limit", message="no", status=429))])
    assert (monitor.finished, monitor.terminated, monitor.events) == (True, True, 1)
    assert monitor.error is not None
    assert monitor.error.status == 429
    assert monitor.reading(200, {}, now_s=0.0).advice.verdict == "retry"


def test_handlers_are_named_once() -> None:
    assert len(set(HANDLERS)) == len(HANDLERS)
