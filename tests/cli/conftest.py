"""Runs the command line and tells what came out where: in a process of its own, as a shell would, or in this one.

A process costs half a second, so tables of misuse are typed in this one; what runs to its end gets its own.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from command_line import COMMAND, Penstock, Ran, Start, Typed, command_environment

from engine.cli import execute


@pytest.fixture
def typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """``typed_here("demo", "--calls", "0")`` in an empty directory, without keys and without input."""
    for name in [name for name in os.environ if name.endswith("_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def give_up(*_: object) -> NoReturn:
        raise TimeoutError("misuse was not refused: the command has started")

    def type_here(*arguments: str) -> Ran:
        before = signal.signal(signal.SIGALRM, give_up)
        signal.alarm(30)
        try:
            code = execute(arguments)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return type_here


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """``await penstock("demo", "--calls", "4")`` in an empty directory."""

    async def run_command(*arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Ran:
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

    return run_command


@pytest.fixture
def start_penstock(tmp_path: Path) -> Start:
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
