"""Runs the real command line in a process of its own, as a shell would, and tells what came out where."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from engine.cli import main; main()"]


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Penstock = Callable[..., Awaitable[Ran]]


def command_environment(directory: Path, **extra: str) -> dict[str, str]:
    """This process's environment without any key, so that no test can ever reach a real account."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(directory), "PYTHONWARNINGS": "error", **extra}


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """``await penstock("demo", "--calls", "4")`` in an empty directory."""

    async def run(*arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Ran:
        with trio.fail_after(120):
            done = await trio.run_process(
                [*COMMAND, *arguments],
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=tmp_path,
                env=command_environment(tmp_path, **(environment or {})),
            )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def start_penstock(tmp_path: Path) -> Callable[..., Awaitable[trio.Process]]:
    """Like `penstock`, but hands back the process, still running, with pipes for both its outputs."""

    async def start(*arguments: str) -> trio.Process:
        return await trio.lowlevel.open_process(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=command_environment(tmp_path),
        )

    return start
