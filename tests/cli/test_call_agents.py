"""`penstock call` with an agent: its answer as it comes, its tools beside it, and nothing left of it after a signal."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
import trio
from command_line import Penstock, Start
from replayed import TRANSCRIPTS, Replayed

PATIENCE_S = 60
SESSION = "01a1fa8d-4643-7b02-b588-b579baacdb47"


def path(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:/usr/bin:/bin"}


async def test_the_answer_is_on_stdout_and_what_it_did_beside_it(penstock: Penstock, tmp_path: Path) -> None:
    program = Replayed(tmp_path / "bin", "claude", "claude__tool")
    ran = await penstock("call", "--provider", "claude_code", "Say hello.", environment=path(tmp_path / "bin"))
    assert (ran.code, ran.out) == (0, "Tool finished.\n"), ran.err
    assert 'Bash {"command":"echo tool-ran"' in ran.err
    assert "session 88119571-eb44-421c-a341-4f490a08d14c" in ran.err
    (run,) = program.runs
    assert run["prompt"] == "Say hello."


async def test_options_of_agents_reach_it(penstock: Penstock, tmp_path: Path) -> None:
    program = Replayed(tmp_path / "bin", "codex", "codex__plain")
    (tmp_path / "there").mkdir()
    ran = await penstock(
        "call", "go", "--model", "codex/gpt-5", "--cwd", str(tmp_path / "there"), "--permission", "edit", "--resume",
        SESSION, "--system", "Be brief.", "--json", environment=path(tmp_path / "bin"),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["is_error"] is False
    (run,) = program.runs
    assert {"resume", SESSION} <= set(run["argv"])
    assert "gpt-5" in json.dumps(run["argv"])
    assert "workspace-write" in json.dumps(run["argv"])
    assert "Be brief." in json.dumps(run["argv"])
    assert run["cwd"] == str(tmp_path / "there") or str(tmp_path / "there") in run["argv"]


async def test_a_failed_run_is_one_line_and_exit_code_1(penstock: Penstock, tmp_path: Path) -> None:
    Replayed(tmp_path / "bin", "claude", "claude__401_retry0")
    ran = await penstock("call", "--provider", "claude_code", "hello", environment=path(tmp_path / "bin"))
    assert (ran.code, ran.out) == (1, "")
    assert "claude_code failed (auth)" in ran.err


async def test_a_missing_program_is_exit_code_2_and_says_how_to_install_it(penstock: Penstock, tmp_path: Path) -> None:
    ran = await penstock("call", "--provider", "claude_code", "hello", environment=path(tmp_path / "bin"))
    assert (ran.code, ran.out) == (2, "")
    assert "npm install -g @anthropic-ai/claude-code" in ran.err


@pytest.mark.parametrize("option", ["cwd", "permission", "resume", ""])
async def test_what_only_agents_know_or_lack_is_refused_for_others(penstock: Penstock, option: str) -> None:
    extra = (f"--{option}", "read", "--model", "m") if option else ()
    ran = await penstock("call", "hello", "--base-url", "http://127.0.0.1:9", *extra)
    assert (ran.code, ran.out) == (2, "")
    assert f"--{option or 'model'}" in ran.err


_WAITING = """#!{python}
import os, signal, sys
sys.stdin.read()
for line in open({transcript!r}):
    print(line, end="", flush=True)
    if "text_delta" in line:
        break
open({pid!r}, "w").write(str(os.getpid()))
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_text_is_there_while_it_comes_and_a_signal_leaves_nothing(
    start_penstock: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    folder, pid = tmp_path / "bin", tmp_path / "pid"
    folder.mkdir()
    program = folder / "claude"
    transcript = str(TRANSCRIPTS / "claude__multi.stdout.jsonl")
    program.write_text(_WAITING.format(python=sys.executable, transcript=transcript, pid=str(pid)), "utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", path(folder)["PATH"])
    with trio.fail_after(PATIENCE_S):
        process = await start_penstock("call", "--provider", "claude_code", "go")
        assert process.stdout is not None
        assert await process.stdout.receive_some() != b""
        process.send_signal(number)
        assert await process.wait() == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
