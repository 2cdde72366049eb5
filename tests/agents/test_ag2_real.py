"""Chats of the AG2 that is installed, 1.2 or later or the classic one, against the simulator and a model of our own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from ag2_chats import (
    KEY,
    LIBRARY,
    TWO,
    Ear,
    calls_then_talks,
    chat,
    no_ag2_thread_left,
    real,
    recorded,
    simulated,
    texts,
)
from model_server import serving

from engine.agents.ag2 import Ag2Options, plan_of
from engine.agents.ag2_tools import register_tool
from engine.agents.chunks import Error, Result, Text, ToolResult, ToolUse
from engine.errors import UsageError
from engine.providers.view import Usage
from engine.secret import REMOVED, Secret
from engine.simulator.config import FaultRates
from engine.transports.ag2 import Ag2Transport
from engine.transports.ag2_network import network_chat
from engine.transports.asyncio_thread import Outlet, run_in_thread

__all__ = ["no_ag2_thread_left"]

pytestmark = real


# --- chats that go well -----------------------------------------------------------------------------------------------


async def test_two_agents_take_turns() -> None:
    """In fragments, as they speak; each message once; what all of it used; and the same is kept as the answer."""
    ear, used = Ear(), list[Usage]()
    async with simulated() as url:
        answer = await chat(url, ear, used=used)
    assert ear.told == ["begin", "sent"]
    said = texts(ear.chunks)
    assert list(said) == ["alice-1", "bob-2", "alice-3"]
    assert len([chunk for chunk in ear.chunks if isinstance(chunk, Text)]) > 10
    result = ear.chunks[-1]
    assert isinstance(result, Result)
    assert result.text == said["alice-3"]
    assert (result.stop_reason, result.turns) == ("max_turns", 3)
    assert [len(text.split()) for text in said.values()] == [16, 16, 16]  # what the simulator says, not twice that
    assert answer.verdict == "done"
    assert answer.charge == "usage"
    assert answer.output_tokens == 48
    assert used[0].output_tokens == 48
    assert (answer.reply.status, answer.reply.streamed, answer.keep) == (200, True, True)
    assert texts(recorded(answer)) == said
    assert recorded(answer)[-1] == result


async def test_each_one_once() -> None:
    """In the order that is named, and then it is over, although there were turns left."""
    ear = Ear()
    async with simulated() as url:
        await chat(url, ear, pattern=["bob", "alice"], max_turns=9)
    assert list(texts(ear.chunks)) == ["bob-1", "alice-2"]
    assert isinstance(ear.chunks[-1], Result)


async def test_what_the_models_are_asked() -> None:
    """The prompts, who said what, and how; each agent's own model; and a key of no environment."""
    with pytest.MonkeyPatch.context() as patch, serving(lambda body: ["fine"]) as server:
        patch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
        agents = [TWO[0], {"name": "bob", "prompt": "You are Bob.", "model": "other"}]
        config = {"temperature": 0.5, "reasoning_effort": "low"}
        await chat(
            server.base_url, Ear(), key="", agents=agents, max_turns=2, llm_config=config, system_prompt="Be brief."
        )
    first, second = server.requests
    assert [first["model"], second["model"]] == ["m", "other"]
    assert first["temperature"] == 0.5
    assert first["reasoning_effort"] == "low"
    assert first["stream"] is True
    assert "Be brief.\n\nYou are Alice." in json.dumps(first["messages"]).replace("\\n", "\n")
    assert "Discuss." in json.dumps(first["messages"])
    assert "You are Bob." in json.dumps(second["messages"])
    assert "fine" in json.dumps(second["messages"])
    assert not first.get("tools")
    assert server.bearers == ["Bearer none"] * 2


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


async def whisper(text: str) -> str:
    """Say it softly."""
    await asyncio.sleep(0)
    return text.lower()


def broken(text: str) -> str:
    """It does not work."""
    raise ValueError(f"no {text}")


@pytest.mark.parametrize(("tool", "name", "output"), [(shout, "shout", "HI"), (whisper, "whisper", "hi")])
async def test_a_tool_is_called(tool: Any, name: str, output: str) -> None:
    """A function of this process: what it is called with, what it says, and then the agent goes on."""
    ear = Ear()
    with serving(calls_then_talks(name)) as server:
        answer = await chat(server.base_url, ear, agents=[{"name": "alice", "tools": [tool]}], pattern="sequence")
    assert server.requests[0]["tools"][0]["function"]["name"] == name
    assert [message["content"] for message in server.requests[1]["messages"] if message["role"] == "tool"] == [output]
    use, result = [chunk for chunk in ear.chunks if isinstance(chunk, ToolUse | ToolResult)]
    assert isinstance(use, ToolUse)
    assert isinstance(result, ToolResult)
    assert (use.name, use.tool_input, use.raw) == (name, {"text": "Hi"}, {"agent": "alice"})
    assert (result.tool_id, result.output, result.is_error) == (use.tool_id, output, False)
    assert list(texts(ear.chunks).values()) == ["Tool finished."]
    assert (answer.input_tokens, answer.output_tokens) == (22, 14)
    assert answer.verdict == "done"


@pytest.mark.skipif(LIBRARY == "classic", reason="its events are sent in their order")
async def test_events_come_in_their_causal_order() -> None:
    """A tool's call before its result, although AG2 tells its observers of the result first."""
    register_tool("shout", shout)
    asked = {
        "prompt": "Discuss.",
        "model": "m",
        "agents": [{"name": "alice", "tools": ["shout"]}],
        "pattern": "sequence",
    }
    kinds: list[str] = []
    with serving(calls_then_talks("shout")) as server:

        async def main(outlet: Outlet[str]) -> None:
            plan = plan_of(msgspec.convert(asked, Ag2Options))
            say = lambda event: outlet.put(event["type"], 1)  # noqa: E731
            await network_chat(plan, {"shout": shout}, say, key="", base_url=server.base_url)

        async def take(kind: str) -> None:
            kinds.append(kind)

        await run_in_thread(main, take, name="penstock test")
    assert kinds.index("ToolCallEvent") < kinds.index("ToolResultEvent") < kinds.index("ModelMessageChunk")
    assert kinds[-2:] == ["packet", "closed"]


async def test_a_tool_that_fails() -> None:
    """What it raised is its result, and the agent's to deal with."""
    register_tool("breaks", broken)
    ear = Ear()
    with serving(calls_then_talks("breaks")) as server:
        answer = await chat(server.base_url, ear, agents=[{"name": "alice", "tools": ["breaks"]}], pattern="sequence")
    (result,) = [chunk for chunk in ear.chunks if isinstance(chunk, ToolResult)]
    assert result.is_error
    assert "no Hi" in result.output
    assert answer.verdict == "done"


def exits(text: str) -> str:
    """It goes too far."""
    raise SystemExit(text)


async def test_a_tool_that_would_end_the_program() -> None:
    """It ends the chat, and no more than that."""
    register_tool("exits", exits)
    with serving(calls_then_talks("exits")) as server:
        answer = await chat(server.base_url, Ear(), agents=[{"name": "alice", "tools": ["exits"]}], pattern="sequence")
    assert answer.verdict == "failed"
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == "AgentError"
    assert "SystemExit" in answer.reply.fault.message


async def test_chats_at_the_same_time() -> None:
    """Each hears its own agents alone."""
    ears = {f"agent{number}": Ear() for number in range(4)}
    with serving(lambda body: [str(body["messages"][0]["content"]), " speaks"]) as server:
        async with trio.open_nursery() as nursery:
            for name, ear in ears.items():
                agents = [{"name": name, "prompt": f"{name} itself"}]
                nursery.start_soon(
                    lambda agents=agents, ear=ear: chat(server.base_url, ear, agents=agents, max_turns=1)
                )
    for name, ear in ears.items():
        assert texts(ear.chunks) == {f"{name}-1": f"{name} itself speaks"}
        assert isinstance(ear.chunks[-1], Result)


async def test_an_agent_that_says_nothing() -> None:
    """It ends the chat, which would wait for it for ever."""
    ear = Ear()
    with serving(lambda body: ["Over to you."] if "Alice" in str(body) else []) as server, trio.fail_after(20):
        await chat(server.base_url, ear, agents=[TWO[0], {"name": "bob", "prompt": "You are Bob."}], max_turns=2)
    assert isinstance(ear.chunks[-1], Result)
    assert ear.chunks[-1].text == "Over to you."


# --- chats that fail --------------------------------------------------------------------------------------------------


async def test_a_key_that_is_refused_gets_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """The provider repeats it; it is in no chunk, no answer and no line of a log, a traceback's included."""
    ear = Ear()
    with caplog.at_level(logging.DEBUG), serving(lambda body: 401) as server:
        answer = await chat(server.base_url, ear)
    assert answer.verdict == "failed"
    fault = answer.reply.fault
    assert fault is not None
    assert (fault.kind, fault.status) == ("Rejected", 401)
    assert REMOVED in fault.message
    assert isinstance(ear.chunks[-1], Error)
    assert ear.chunks[-1].category == "auth"
    assert len(server.requests) == 1
    shown = caplog.text + repr([record.__dict__ for record in caplog.records]) + repr(answer) + repr(ear.chunks)
    assert KEY not in shown + bytes(answer.reply.body).decode()
    if LIBRARY == "network":
        assert "AuthenticationError" in caplog.text  # it does log it


async def test_a_key_the_simulator_does_not_know() -> None:
    """A refusal is a refusal."""
    async with simulated(key="another") as url:
        answer = await chat(url, Ear())
    assert (answer.verdict, answer.reply.status) == ("failed", 401)


@pytest.mark.parametrize(
    ("faults", "kind", "barrier"),
    [({"rate_limited": 1.0}, "RateLimited", True), ({"server_error": 1.0}, "ProviderUnavailable", False)],
    ids=["429", "500"],
)
async def test_a_start_that_fails_may_be_tried_again(faults: dict[str, float], kind: str, barrier: bool) -> None:
    """Nobody has read anything of it."""
    ear = Ear()
    async with simulated(faults=FaultRates(**faults)) as url:
        answer = await chat(url, ear)
    assert answer.verdict == "retry"
    assert answer.barrier is barrier
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == kind
    assert ear.chunks == []


async def test_a_service_that_is_not_there() -> None:
    """Not reached: another attempt may be luckier."""
    with serving(lambda body: []) as server:
        pass
    answer = await chat(server.base_url, Ear())
    assert answer.verdict == "retry"
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == "ProviderUnavailable"


async def test_a_second_turn_that_fails_is_the_end() -> None:
    """What was said before it is kept, and so is what it used; nothing is tried again."""
    ear, used = Ear(), list[Usage]()
    with serving(lambda body: ["Well."] if "Alice" in str(body) else 503) as server:
        answer = await chat(server.base_url, ear, used=used, agents=[TWO[0], {"name": "bob", "prompt": "You are Bob."}])
    assert answer.verdict == "failed"
    assert list(texts(ear.chunks).values()) == ["Well."]
    assert isinstance(ear.chunks[-1], Error)
    assert ear.chunks[-1].status == 503
    assert (answer.charge, answer.input_tokens) == ("usage", 11)
    assert used == []  # of what half a chat uses nothing can be learnt


BROKEN_TOOLS = {
    "gone": ("test_ag2_real:gone", "'test_ag2_real:gone' cannot be found"),
    "no such module": ("nosuch.module:fn", "ModuleNotFoundError"),
    "a module with a bug": ("module_with_a_bug:fn", "ZeroDivisionError"),
    "a module that ends the program": ("module_that_ends:fn", "SystemExit"),
    "no function": ("test_ag2_real:KEY", "is no tool here"),
}


@pytest.mark.parametrize("name", BROKEN_TOOLS)
async def test_a_tool_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may come from a journal that another process wrote. It is the caller's mistake: nothing has begun."""
    tool, said = BROKEN_TOOLS[name]
    (tmp_path / "module_with_a_bug.py").write_text("1 / 0\n")
    (tmp_path / "module_that_ends.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    ear = Ear()
    answer = await chat("http://127.0.0.1:9/v1", ear, agents=[{"name": "alice", "tools": [tool]}])
    fault = answer.reply.fault
    assert fault is not None
    assert said in fault.message
    assert (answer.verdict, answer.charge, answer.keep, fault.kind) == ("failed", "nothing", True, "InvalidCall")
    assert (ear.told, ear.chunks) == ([], [])


async def test_what_is_no_chat_has_not_begun() -> None:
    ear = Ear()
    answer = await chat("http://127.0.0.1:9/v1", ear, agents=[])
    fault = answer.reply.fault
    assert fault is not None
    assert (answer.charge, fault.kind, ear.told) == ("nothing", "InvalidCall", [])


async def test_a_tools_module_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported in a thread; whoever gives the chat up by then does not wait for it."""
    lines = ["import threading", "GO = threading.Event()", "import sys", "sys.slow_tool = GO", "GO.wait(60)"]
    (tmp_path / "slow_tool_module.py").write_text("\n".join([*lines, "def fn(): ...", ""]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "slow_tool", None, raising=False)
    ear = Ear()
    with trio.fail_after(30), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            agents = [{"name": "alice", "tools": ["slow_tool_module:fn"]}]
            nursery.start_soon(lambda: chat("http://127.0.0.1:9/v1", ear, agents=agents))
            while (go := getattr(sys, "slow_tool", None)) is None:  # noqa: ASYNC110  # what a thread does
                await trio.sleep(0.01)
            scope.cancel()
    assert scope.cancelled_caught
    assert not go.is_set()
    go.set()
    assert ear.told == []


def test_without_an_address_there_are_no_chats() -> None:
    """The client would take that of its own provider."""
    with pytest.raises(UsageError, match=r"address.*Nothing was sent"):
        Ag2Transport(base_url="", key=Secret(KEY))


async def test_the_lines_of_our_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its start and its end, as for every call; nothing of what was said."""
    caplog.set_level("DEBUG", logger="penstock")
    with serving(lambda body: ["a word of the model's"]) as server:
        await chat(server.base_url, Ear(), max_turns=1)
    lines = [record.getMessage() for record in caplog.records if record.name.partition(".")[0] == "penstock"]
    assert [line.split()[0] for line in lines] == ["event='request'", "event='answer'"]
    assert "verdict='done'" in lines[1]
    for word in ("Discuss.", "a word of", KEY):
        assert word not in "".join(lines)


async def test_a_chat_that_fails_writes_nothing_to_standard_error() -> None:
    """Where nobody has set up logging: AG2 logs the traceback of a turn that failed."""
    program = "import sys, trio; from ag2_chats import Ear, chat; print(trio.run(chat, sys.argv[1], Ear()).verdict)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with serving(lambda body: 401) as server:
        command = [sys.executable, "-W", "ignore", "-c", program, server.base_url]
        run = await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True)
    assert (run.stdout.split(), run.stderr) == ([b"failed"], b"")
