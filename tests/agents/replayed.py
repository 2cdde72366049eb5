"""Executables that replay recorded runs of the real programs, put on the PATH of a test.

Each answers its first run with the first transcript it was given, the second with the second, the last for ever, and
notes how it was started: arguments, prompt, environment and working directory.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

TRANSCRIPTS = Path(__file__).parent / "transcripts"

_SCRIPT = """#!{python}
import json, os, sys
here = {here!r}
prompt = sys.stdin.read()
with open(here + ".runs", "a+") as notes:
    notes.seek(0)
    number = len(notes.readlines())
    run = dict(argv=sys.argv[1:], prompt=prompt, env=dict(os.environ), cwd=os.getcwd())
    notes.write(json.dumps(run) + "\\n")
name = {names!r}[min(number, {count} - 1)]
folder = {folder!r} + "/" + name
sys.stderr.write(open(folder + ".stderr.txt").read())
sys.stdout.write(open(folder + ".stdout.jsonl").read())
sys.stdout.flush()
code = json.load(open(folder + ".meta.json"))["rc"]
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def say(folder: Path, program: str, said: str, then: str = "exit 0") -> None:
    """An executable that says this."""
    folder.mkdir(exist_ok=True)
    (folder / f"{program}.said").write_text(said, "utf-8")
    script = folder / program
    script.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {script}.said\n{then}\n", "utf-8")
    script.chmod(0o700)


def execute(folder: Path, program: str, script: str, **names: str) -> None:
    """An executable of this script, in which ``python``, ``here`` and these names stand in braces."""
    folder.mkdir(exist_ok=True)
    path = folder / program
    path.write_text(script.format(python=sys.executable, here=str(path), **names), "utf-8")
    path.chmod(0o700)


def hang(folder: Path, program: str, said: str = "") -> None:
    """An executable that says this and then nothing for ever."""
    say(folder, program, said, "exec sleep 1000")


def beginning(transcript: str, mark: str) -> str:
    """A recorded run up to the first line with this mark in it."""
    lines = (TRANSCRIPTS / f"{transcript}.stdout.jsonl").read_text("utf-8").splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if mark in line)
    return "".join(lines[: last + 1])


class Replayed:
    """One such executable, called `program`, in `folder`."""

    def __init__(self, folder: Path, program: str, *transcripts: str) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / program
        script = _SCRIPT.format(
            python=sys.executable,
            here=str(self.path),
            names=list(transcripts),
            count=len(transcripts),
            folder=str(TRANSCRIPTS),
        )
        self.path.write_text(script, "utf-8")
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """How it was started, run by run."""
        notes = Path(f"{self.path}.runs")
        return [json.loads(line) for line in notes.read_text("utf-8").splitlines()] if notes.exists() else []


def session_of(transcript: str) -> str:
    """The session of a recorded run, as its first line has it."""
    lines = (TRANSCRIPTS / f"{transcript}.stdout.jsonl").read_text("utf-8").splitlines()
    found = json.loads(lines[0])
    return str(found.get("session_id") or found["thread_id"])
