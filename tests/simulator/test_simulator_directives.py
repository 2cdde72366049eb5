"""What a prompt tells the simulator to answer: which calls, when, and what text, in every format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from format_client import (
    FLAT_TOOLS,
    STREAMING,
    TOOLS,
    events_of,
    made_calls,
    post,
    stream,
    streamed_calls,
    text_of,
    whole_text_of,
)
from simulator_client import with_simulator

from engine.simulator import FaultRates, Simulator, SimulatorConfig, StreamShape
from engine.simulator.directives import (
    MOST_SAID,
    Directed,
    Turn,
    WantedCall,
    cut_text,
    directed,
    tools_of,
    turns_of,
)
from engine.simulator.failure import Failure

CALL = 'simulate: call get_weather {"city": "Köln \\"x\\"", "days": [1, 2.5, {"deep": "%s"}]}' % ("a" * 40)
WANTED = {"city": 'Köln "x"', "days": [1, 2.5, {"deep": "a" * 40}]}
SAID = 'say "this",  ☕ and \\ that'
CHATS = [name for name in STREAMING if not name.endswith(" completions") and not name.startswith("inferneo")]
TALKING = [name for name in CHATS if name != "perplexity chat"]
"""The formats that take tools."""


def wanted(*turns: Turn, tools: Sequence[str] = ("a", "b")) -> Directed | Failure | None:
    body = "\n".join(turn.text for turn in turns).encode()
    return directed(body, lambda: turns, lambda: tools)


def asked(name: str, prompt: str, *, then: str = "") -> dict[str, Any]:
    """A request with this prompt and a tool; `then` is what follows: a ``result`` of the tool, or a ``turn``."""
    flat = name in ("openai responses", "anthropic chat")
    field = "input" if name == "openai responses" else "messages"
    items: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    if name == "ollama chat":
        items = [{"role": "user", "content": prompt}]
    if then == "turn":
        items += [{"role": "assistant", "content": "well"}, {"role": "user", "content": "and now?"}]
    elif then and name == "anthropic chat":
        told = {"type": "tool_result", "tool_use_id": "t", "content": "sun"}
        made = {"type": "tool_use", "id": "t", "name": "get_weather", "input": {}}
        items += [{"role": "assistant", "content": [made]}, {"role": "user", "content": [told]}]
    elif then and name == "openai responses":
        items += [{"type": "function_call", "call_id": "t", "name": "get_weather", "arguments": "{}"}]
        items += [{"type": "function_call_output", "call_id": "t", "output": "sun"}]
    elif then:
        items += [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "sun"}]
    return {field: items, "tools": FLAT_TOOLS if flat else TOOLS}


@pytest.mark.parametrize("automatic", [0, 1])
@pytest.mark.parametrize("name", TALKING)
async def test_a_line_of_the_prompt_asks_for_exactly_one_call(name: str, automatic: int) -> None:
    async def body(simulator: Simulator) -> None:
        request = asked(name, f"Do it.\n  {CALL}\nThank you.")
        assert made_calls(name, (await post(simulator, name, **request)).json()) == [("get_weather", WANTED)]
        streamed = await stream(simulator, name, **request)
        assert streamed_calls(name, events_of(streamed)) == [("get_weather", WANTED)]
        assert (
            simulator.ends()[0].events
            == simulator.ends()[0].planned
            == len(events_of(streamed)) + (b"[DONE]" in streamed.body)
        )

    await with_simulator(SimulatorConfig(stream=StreamShape(tool_calls=automatic)), body)


@pytest.mark.parametrize("name", TALKING)
async def test_a_call_is_made_once_and_no_other_in_its_place(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        for then in ("result", "turn"):
            request = asked(name, CALL, then=then)
            answer = await post(simulator, name, **request)
            events = events_of(await stream(simulator, name, **request))
            told = "".join(text_of(name, event) for event in events)
            assert len(whole_text_of(name, answer.json()).split()) == len(told.split()) == 4
        refused = await post(simulator, name, **asked(name, CALL + "x"))
        assert refused.status in (400, 422)
        assert simulator.statistics().refused == {"invalid": 1}

    await with_simulator(SimulatorConfig(output_tokens=4), body)


@pytest.mark.parametrize("deltas", [0, 3])
@pytest.mark.parametrize("name", CHATS)
async def test_a_line_of_the_prompt_gives_the_text(name: str, deltas: int) -> None:
    async def body(simulator: Simulator) -> None:
        request = asked(name, f"simulate: say {SAID}")
        assert whole_text_of(name, (await post(simulator, name, **request)).json()) == SAID
        streamed = await stream(simulator, name, **request)
        told = [text for event in events_of(streamed) if (text := text_of(name, event))]
        assert "".join(told) == SAID
        assert len(told) == (deltas or len(SAID.split()))
        assert simulator.ends()[0].events == simulator.ends()[0].planned

    await with_simulator(SimulatorConfig(stream=StreamShape(deltas=deltas)), body)


@pytest.mark.parametrize("name", TALKING)
async def test_the_arguments_of_a_wanted_call_stay_what_they_are_where_a_stream_is_split(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, name, **asked(name, CALL))
        assert streamed_calls(name, events_of(streamed)) == [("get_weather", WANTED)]
        said = await stream(simulator, name, **asked(name, "simulate: say one two"))
        told = "".join(text_of(name, event) for event in events_of(said))
        assert "☕" in told
        assert {"one", "two"} <= set(re.findall("[a-z]+", told))

    await with_simulator(SimulatorConfig(faults=FaultRates(stream_split=1.0)), body)


async def test_a_long_answer_is_asked_for_with_a_short_prompt() -> None:
    async def body(simulator: Simulator) -> None:
        request = asked("anthropic chat", "simulate: repeat 262144 abc,\nsimulate: call get_weather {}")
        events = events_of(await stream(simulator, "anthropic chat", **request))
        assert streamed_calls("anthropic chat", events) == [("get_weather", {})]
        request = asked("anthropic chat", "simulate: repeat 262144 abc,\nsimulate: call get_weather {}", then="result")
        events = events_of(await stream(simulator, "anthropic chat", **request))
        assert "".join(text_of("anthropic chat", event) for event in events) == "abc," * 262_144
        assert sum(bool(text_of("anthropic chat", event)) for event in events) == 5

    await with_simulator(SimulatorConfig(stream=StreamShape(deltas=5)), body)


def test_the_newest_messages_of_the_user_count_and_those_before_only_keep_other_calls_away() -> None:
    say = Turn("user", "simulate: say x")
    a, b = Turn("user", "simulate: call a"), Turn("user", 'simulate: call b {"n": 1}')
    call_a, call_b = WantedCall("a", {}), WantedCall("b", {"n": 1})
    model, result, plain = Turn("model"), Turn("result"), Turn("user", "simulate: what")
    assert wanted(plain) is None
    assert wanted(a, b, say) == Directed((call_a, call_b), "x")
    assert wanted(a, plain) == Directed((call_a,))
    assert wanted(a, model, b) == Directed((call_b,))
    assert wanted(a, model, result, say) == Directed((), "x")
    assert wanted(a, say, model, result, model, result) == Directed((), "x")
    assert wanted(a, model, result, model, b) == Directed((call_b,))
    assert wanted(a, model, plain) == Directed()
    assert wanted(b, tools=["a"]) == Directed()


@pytest.mark.parametrize(
    "line",
    [
        "call a {",
        "call a [1]",
        'call a {"n": 1} and more',
        "call a 7",
        "repeat x",
        "repeat 3",
        "repeat -1 x",
        f"repeat {MOST_SAID} ab",
    ],
)
def test_a_directive_that_cannot_be_understood_is_refused_in_words_that_say_how_it_is_written(line: str) -> None:
    failure = wanted(Turn("user", f"simulate: {line}"))
    assert isinstance(failure, Failure)
    assert failure.status == 400
    assert f"simulate: {line}" in failure.message
    assert "write 'simulate: " in failure.message


def test_what_the_items_of_every_format_are_to_a_directive() -> None:
    items = [
        "text",
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u"},
        {"role": "user", "content": [{"text": "v"}, "w", {"type": "image"}, 7]},
        {"role": "user"},
        {"role": "user", "content": [{"type": "tool_result"}, {"text": "a reminder"}]},
        {"type": "function_call", "name": "f"},
        {"type": "custom_tool_call_output"},
        {"role": "tool"},
        {"role": "assistant", "content": "simulate: say x"},
    ]
    kinds = [(turn.kind, turn.text) for turn in turns_of(items)]
    users = [("user", "u"), ("user", "v\nw"), ("user", ""), ("result", "")]
    assert kinds == [*users, ("model", ""), ("result", ""), ("result", ""), ("model", "")]
    assert tools_of([*TOOLS, {"type": "custom", "name": "patch"}, {"function": 3}, 7]) == {"get_weather", "patch"}
    assert tools_of("x") == frozenset()


def test_a_text_is_cut_into_words_or_into_so_many_pieces() -> None:
    assert cut_text("one  two\tthree", 0) == ["one", "  two", "\tthree"]
    assert cut_text("abcdefg", 3) == ["abc", "def", "g"]
    assert cut_text("ab", 5) == ["a", "b"]
    assert json.loads("".join(WantedCall("a", WANTED).fragments)) == WANTED


async def test_claude_codes_messages_of_the_system_within_a_conversation_need_their_beta() -> None:
    messages = [{"role": "user", "content": CALL}, {"role": "system", "content": "# Environment"}]
    beta = {"anthropic-beta": "claude-code-20250219,mid-conversation-tool-changes-2026-07-01"}

    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, "anthropic chat", beta, messages=messages, tools=FLAT_TOOLS)
        assert made_calls("anthropic chat", answer.json()) == [("get_weather", WANTED)]
        first = await post(simulator, "anthropic chat", beta, messages=messages[::-1])
        without = await post(simulator, "anthropic chat", messages=messages)
        assert (first.status, without.status) == (400, 400)
        assert b"Unexpected role" in first.body
        assert b"Unexpected role" in without.body

    await with_simulator(SimulatorConfig(), body)


async def test_codex_sends_what_it_knows_of_its_turn() -> None:
    """The fields of a real request, and its prompt behind a message of the user that the user did not write."""
    items = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": CALL}]},
    ]
    further = {"client_metadata": {"session_id": "s"}, "include": ["reasoning.encrypted_content"], "store": False}

    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, "openai responses", input=items, tools=FLAT_TOOLS, **further)
        assert streamed_calls("openai responses", events_of(streamed)) == [("get_weather", WANTED)]

    await with_simulator(SimulatorConfig(), body)
