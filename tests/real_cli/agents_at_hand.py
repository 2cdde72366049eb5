"""The four programs as `iModel`s that ask a simulator in this process, each in a scratch home of its own.

The simulator does what a prompt tells it (`engine.simulator.directives`), and remembers what it was asked: `Simulated`.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import npm_programs as npm
import trio

from engine import iModel
from engine.simulator import Arrival, Simulator, SimulatorConfig, StreamShape, count_input, serve

KEY = "sk-a-key-of-the-test"
HANG_S = 120
QUIET = StreamShape(tool_calls=0)


class Row(NamedTuple):
    """One program: its provider here, its package, who the simulator is to it, its model, its tool that runs commands
    and that tool's argument for one, what lets it do so without being asked, and the status its provider gives a wrong
    key."""

    provider: str
    package: npm.Package
    simulated: str
    model: str
    shell: str
    command: str
    may: Mapping[str, Any] = {"permission": "full"}
    wrong_key: int = 401


ROWS = (
    # Claude Code refuses root the full permission.
    Row("claude_code", npm.CLAUDE, "anthropic", "sonnet", "Bash", "command", {"allowed_tools": ["Bash"]}),
    Row("codex", npm.CODEX, "openai", "gpt-5.2-codex", "exec_command", "cmd"),
    Row("gemini_code", npm.GEMINI, "gemini_native", "gemini-2.5-pro", "run_shell_command", "command", wrong_key=400),
    Row("pi", npm.PI, "openai", "simulated-1", "bash", "command"),
)


class Simulated:
    """A simulator and what it was asked, each request as JSON text."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.simulator: Simulator

    def count(self, arguments: Mapping[str, object]) -> int:
        """Count a request's input, and remember it."""
        self.requests.append(json.dumps(arguments, ensure_ascii=False))
        return count_input(arguments)

    def accepted(self) -> list[Arrival]:
        """The requests that were answered."""
        return [arrival for arrival in self.simulator.log() if arrival.accepted]


@asynccontextmanager
async def simulated(**config: Any) -> AsyncIterator[Simulated]:
    """A simulator in this process; what hangs in it fails."""
    seen = Simulated()
    wanted = SimulatorConfig(**{"output": "short", "stream": QUIET, **config})
    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            seen.simulator = await nursery.start(_serve, wanted, seen)
            yield seen
            nursery.cancel_scope.cancel()


async def _serve(config: SimulatorConfig, seen: Simulated, task_status: trio.TaskStatus[Simulator]) -> None:
    await serve(config, count_input=seen.count, task_status=task_status)


class AgentAtHand:
    """One program in a scratch home: `work` is its working directory, `state` its state directory."""

    def __init__(self, row: Row, root: Path) -> None:
        self.row = row
        self.root = root
        self.home, self.work, self.state = (root / name for name in ("home", "work", "state"))
        for folder in (self.home, self.work, self.state):
            folder.mkdir(exist_ok=True)

    def model(self, seen: Simulated, **arguments: Any) -> iModel:
        """A model that asks this simulator."""
        given = {"model": self.row.model, "cwd": str(self.work), "state_dir": str(self.state), **arguments}
        address = seen.simulator.address(self.row.simulated)
        return iModel(provider=self.row.provider, base_url=address, api_key=KEY, **given)

    def running(self, command: str) -> str:
        """The prompt that has its shell run a command, and then say ``done with it``."""
        arguments = {self.row.command: command}
        if self.row.provider in ("claude_code", "gemini_code"):
            arguments["description"] = "what the test wants"
        return f"simulate: call {self.row.shell} {json.dumps(arguments)}\nsimulate: say done with it"

    def left(self) -> list[str]:
        """The command lines of processes that run in its directories, or name them."""
        marks = str(self.root).encode()
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal() or int(process.name) == os.getpid():
                continue
            try:
                line, where = (process / "cmdline").read_bytes(), os.fsencode(os.readlink(process / "cwd"))
            except OSError:
                continue  # it is gone
            if marks in line or where.startswith(marks):
                found.append(line.replace(b"\x00", b" ").decode(errors="replace"))
        return found
