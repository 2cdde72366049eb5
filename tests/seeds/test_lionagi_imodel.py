"""Every code block of lionagi's page about iModel, run against the simulated provider.

The page has lost the marks around its code, so `BLOCKS` says where each block begins and ends. The addresses of all
providers are the simulator's, the keys are in the variables that the page names, and one engine is open around all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from replayed import Replayed
from seed_blocks import DOCUMENTS, REWRITES, Block

import engine
from engine import Call, StreamChunk, iModel, open_engine
from engine.providers import lookup
from engine.providers.agents import AGENTS
from engine.providers.catalogue import PROVIDERS
from engine.simulator import Simulator, SimulatorConfig, serve

PAGE = "lionagi-imodel.md"
KEY = "key-of-the-test"

BLOCKS = {
    "constructor": Block(PAGE, 11, 17),
    "services": Block(PAGE, 101, 126),
    "agents": Block(PAGE, 128, 132),
    "searches": Block(PAGE, 134, 147),
    "invoke": Block(PAGE, 153, 157),
    "stream": Block(PAGE, 163, 164),
    "create_api_calling": Block(PAGE, 170, 174),
    "copy": Block(PAGE, 180, 180),
    "close": Block(PAGE, 186, 186),
    "context": Block(PAGE, 192, 195),
    "hooks": Block(PAGE, 231, 246),
    "serialization": Block(PAGE, 250, 251),
}
"""Where each block stands."""

VARIABLES = dict(re.findall(r'^"(\w+)" [^"]*?(\w+_API_KEY)$', (DOCUMENTS / PAGE).read_text("utf-8"), re.MULTILINE))
"""The variables of keys, from the page's own table of providers."""

QUESTION = {"messages": [{"role": "user", "content": "hello"}]}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "chat": QUESTION,
    "response": {"input": "hello"},
    "search": {"query": "hello"},
    "scrape": {"url": "https://example.org/"},
    "map": {"url": "https://example.org/"},
}


class Stage:
    """Where blocks run: their names, what they printed, and the simulators with the rewrites that lead to them.

    The first demands the key; the second stands for Ollama, which has none.
    """

    def __init__(self, simulator: Simulator, keyless: Simulator) -> None:
        self.simulators = simulator, keyless
        self.printed: list[str] = []
        self.names: dict[str, Any] = {"li": engine, "print": self._print}
        self.rewrites = {
            **REWRITES,
            "http://localhost:11434": keyless.address("ollama"),
            "https://my-api.example.com/v1": simulator.address("openai"),
            "messages=[...]": 'messages=[{"role": "user", "content": "hello"}]',  # which the page leaves out
        }

    def _print(self, *things: object, end: str = "\n", flush: bool = False) -> None:
        self.printed.append(" ".join(map(str, things)) + end)

    @property
    def statuses(self) -> list[int]:
        """How every request that arrived was answered."""
        return [arrival.status for simulator in self.simulators for arrival in simulator.log()]

    async def run(self, *blocks: str) -> list[Any]:
        """Run blocks one after another; what the last one assigned."""
        assigned: list[Any] = []
        for block in blocks:
            assigned = await BLOCKS[block].run(self.names, self.rewrites)
        return assigned


@pytest.fixture
async def stage(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    for row in PROVIDERS:
        for variable in row.key_env:
            monkeypatch.delenv(variable, raising=False)
    for variable in (*VARIABLES.values(), "MY_PROVIDER_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    simulator = await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=5))
    keyless = await nursery.start(serve, SimulatorConfig(output_tokens=5))
    here = {
        row.name: msgspec.structs.replace(
            row, base_url=(keyless if row.name == "ollama" else simulator).address(row.name)
        )
        for row in PROVIDERS
    }
    monkeypatch.setattr(lookup, "_registered", here | {row.name: row for row in AGENTS})
    yield Stage(simulator, keyless)
    nursery.cancel_scope.cancel()


# --- the page ---


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_is_python(name: str) -> None:
    assert BLOCKS[name].statements()


def test_no_line_of_code_is_left_out() -> None:
    """What stands outside the blocks is prose, tables and a picture with arrows."""
    lines = (DOCUMENTS / PAGE).read_text("utf-8").splitlines()
    inside = {line for block in BLOCKS.values() for line in range(block.first, block.last + 1)}
    code = re.compile(r"\s*(import |from |async |await |\w+ += |\w+\.\w+\(|print\(|li\.|\)$|# |@|def )")
    outside = [text for number, text in enumerate(lines, 1) if number not in inside and code.match(text)]
    assert outside == []


def test_the_pages_table_of_keys_was_read() -> None:
    assert len(VARIABLES) == 11
    assert VARIABLES["gemini"] == "GOOGLE_API_KEY"


@pytest.mark.parametrize("provider", VARIABLES)
def test_every_variable_of_the_page_is_looked_at(provider: str) -> None:
    found, _ = lookup.find(provider, OTHERS.get(provider, "chat"), compatible=False)
    assert VARIABLES[provider] in found.key_env


OTHERS = {"exa": "search", "tavily": "search", "firecrawl": "scrape"}


# --- the blocks ---


async def test_the_constructor(stage: Stage) -> None:
    async with open_engine():
        (model,) = await stage.run("constructor")
        call = await model.invoke(**QUESTION)
    assert call.status == "completed"
    assert {(quota.dimension, quota.limit, quota.period_s) for quota in model.lane.quotas} == {
        ("requests", 100, 60),
        ("total_tokens", 100_000, 60),
    }


@pytest.mark.parametrize(("block", "count"), [("services", 7), ("searches", 5)])
async def test_construction_patterns(block: str, count: int, stage: Stage) -> None:
    """Each model the block makes is called, and answered by the provider it names."""
    async with open_engine():
        models = await stage.run(block)
        assert [type(model) for model in models] == [iModel] * count
        for model in models:
            call = await model.invoke(**ARGUMENTS[model.endpoint.spec.endpoint])
            assert call.status == "completed", call.error
            assert call.response
            assert not model.is_cli
    assert stage.statuses == [200] * count


async def test_agents(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each agent the block makes runs its program, which replays what the real one has said."""
    runs = {"claude": "claude__plain", "codex": "codex__plain", "gemini": "gemini__plain", "pi": "pi__plain"}
    programs = [Replayed(tmp_path / "bin", program, transcript) for program, transcript in runs.items()]
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_engine():
        models = await stage.run("agents")
        assert [model.is_cli for model in models] == [True] * 4
        for model in models:
            call = await model.invoke(**QUESTION)
            assert call.status == "completed", call.error
            assert call.text
            assert model.provider_session_id
    for model, program in zip(models, programs, strict=True):
        (run,) = program.runs
        assert run["prompt"] == "hello"
        assert any(argument.endswith(model.model_name) for argument in run["argv"])


async def test_invoke(stage: Stage) -> None:
    async with open_engine():
        call, response = await stage.run("constructor", "invoke")
    assert isinstance(call, Call)
    assert response["choices"][0]["message"]["content"] == call.text


async def test_stream(stage: Stage) -> None:
    async with open_engine():
        await stage.run("constructor", "stream")
    assert isinstance(stage.names["chunk"], StreamChunk)
    assert len("".join(stage.printed).split()) == 5
    assert stage.printed[-1] == ""


async def test_create_api_calling(stage: Stage) -> None:
    async with open_engine():
        call, result = await stage.run("constructor", "create_api_calling")
    assert result is call
    assert result.status == "completed"
    assert stage.statuses == [200]


async def test_copy(stage: Stage) -> None:
    async with open_engine():
        (other,) = await stage.run("constructor", "copy")
        model = stage.names["model"]
        assert (await other.invoke(**QUESTION)).status == "completed"
    assert other.id != model.id
    assert other.lane_name != model.lane_name
    assert other.lane.quotas == model.lane.quotas


async def test_close(stage: Stage) -> None:
    async with open_engine():
        await stage.run("constructor", "close")
        assert (await stage.names["model"].invoke(**QUESTION)).status == "completed"


async def test_the_context_manager(stage: Stage) -> None:
    """Without an engine around it: it opens its own."""
    await stage.run("context")
    assert stage.names["api_call"].status == "completed"
    assert stage.printed == [f"{stage.names['api_call'].response}\n"]


async def test_the_hook_registry(stage: Stage) -> None:
    async with open_engine():
        await stage.run("hooks")
        assert (await stage.names["model"].invoke(**QUESTION)).status == "completed"
        assert stage.printed == ["Sending: Call\n", "Received: Call\n"]
        async for _ in stage.names["model"].stream(**QUESTION):
            pass
    assert stage.printed == ["Sending: Call\n", "Received: Call\n"] * 2


async def test_serialization(stage: Stage) -> None:
    async with open_engine():
        data, restored = await stage.run("constructor", "serialization")
        assert (await restored.invoke(**QUESTION)).status == "completed"
    assert KEY not in msgspec.json.encode(data).decode()
    assert (restored.id, restored.lane) == (stage.names["model"].id, stage.names["model"].lane)
