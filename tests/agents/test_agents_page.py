"""The code of `docs/agents.md` runs as it stands there, with programs that replay recorded runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio
from replayed import Replayed

from engine.agents.options import AgentOptions
from engine.providers.agents import AGENTS
from engine.simulator import SimulatorConfig, StreamShape, serve

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text("utf-8")
AGENT, SIGNALS, CHAT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(block: str, **environment: str) -> str:
    ended = subprocess.run(  # noqa: S603  # our own page
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_an_agent_as_it_stands(tmp_path: Path) -> None:
    program = Replayed(tmp_path / "bin", "claude", "claude__plain", "claude__tool", "claude__multi")
    block = AGENT.replace("/srv/project", str(tmp_path))
    printed = run(block, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin", HOME=str(tmp_path), PYTHONPATH=":".join(sys.path))
    assert "uses Bash" in printed
    assert "Tool finished." in printed
    assert [run["prompt"] for run in program.runs] == [
        "What does this project do?", "And how is it tested?", "Sum it up.",
    ]  # fmt: skip
    assert all(run["cwd"] == str(tmp_path) for run in program.runs)


async def test_signals_as_they_stand() -> None:
    names: dict[str, Any] = {}
    exec(compile(SIGNALS, "docs/agents.md", "exec"), names)  # noqa: S102  # our own page
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
        finally:
            ended = True

    with trio.fail_after(60):
        await names["until_told"](work)
    assert ended


async def test_a_chat_as_it_stands(tmp_path: Path, nursery: trio.Nursery) -> None:
    simulator = await nursery.start(serve, SimulatorConfig(output_tokens=5, stream=StreamShape(tool_calls=0)))
    block = CHAT.replace('model="gpt-4o-mini"', f'model="gpt-4o-mini", base_url="{simulator.address("openai")}"')
    printed = await trio.to_thread.run_sync(
        lambda: run(
            block,
            PATH="/usr/bin:/bin",
            HOME=str(tmp_path),
            PYTHONPATH=":".join(sys.path),
            OPENAI_API_KEY="key-of-the-test",
        )
    )
    assert printed.strip()
    nursery.cancel_scope.cancel()


def test_the_page_names_every_agent_its_command_and_its_key() -> None:
    for row in AGENTS:
        assert f"| `{row.name}` |" in PAGE
        assert all(variable in PAGE for variable in row.key_env)
        install = getattr(row.endpoints[0].format.agent, "install", "penstock[ag2]")  # type: ignore[attr-defined]
        assert install in PAGE


def test_the_page_names_every_common_argument() -> None:
    assert [name for name in AgentOptions.__struct_fields__ if f"`{name}`" not in PAGE and name != "stream"] == []
