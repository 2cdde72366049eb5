"""Batches of agents: what their results are, how many run at once, what is misuse. Programs replay recorded runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from replayed import Replayed

from engine.accounts import MAX_CONNECTIONS
from engine.batch.models import BatchSettings, Models
from engine.errors import AgentNotInstalled, InvalidCall


def run(tmp_path: Path, lines: list[dict[str, object]], *options: str) -> tuple[int, list[dict[str, object]], str]:
    """The exit code of `penstock run`, its results in the order of the lines, and what it said."""
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    ended = subprocess.run(  # noqa: S603  # our own command line
        [sys.executable, "-c", "from engine.cli import main; main()", "run", "in.jsonl", "-o", "out.jsonl", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    out = tmp_path / "out.jsonl"
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    return ended.returncode, sorted(found, key=lambda row: str(row["id"])), ended.stderr


@pytest.mark.parametrize(
    "options", [("--provider", "claude_code"), ("--model", "claude_code/sonnet")], ids=["provider", "model"]
)
def test_each_line_is_a_run_and_its_result_is_one_answer(tmp_path: Path, options: tuple[str, ...]) -> None:
    program = Replayed(tmp_path / "bin", "claude", "claude__plain")
    lines = [{"prompt": "a"}, {"messages": [{"role": "user", "content": "b"}]}, {"prompt": "c", "temperature": 1}]
    code, results, _ = run(tmp_path, lines, *options)
    assert code == 1
    assert sorted(run["prompt"] for run in program.runs) == ["a", "b"]
    assert not any("--resume" in json.dumps(run["argv"]) for run in program.runs)
    first, second, third = results
    for row in (first, second):
        assert row["error"] is None
        assert row["response"]["body"]["result"] == "Hello from the fake provider."  # type: ignore[index]
        assert row["response"]["body"]["is_error"] is False  # type: ignore[index]
    assert third["error"]["code"] == "invalid_call"  # type: ignore[index]


def test_a_program_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    code, results, said = run(tmp_path, [{"prompt": "a"}], "--provider", "codex")
    assert (code, results) == (2, [])
    assert "npm install -g @openai/codex" in said


def test_no_more_run_at_once_than_is_usual_unless_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Replayed(tmp_path / "bin", "claude", "claude__plain")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert Models(BatchSettings(provider="claude_code"), {}).find(None).account().max_connections == 3
    assert Models(BatchSettings(provider="claude_code", concurrency=9), {}).find(None).account().max_connections == 9
    chat = Models(BatchSettings(model="openai/m", base_url="http://127.0.0.1"), {}).find(None)
    assert chat.account().max_connections == MAX_CONNECTIONS


def test_only_an_agent_needs_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidCall, match="no model"):
        Models(BatchSettings(provider="openai"), {}).find(None)
    with pytest.raises(AgentNotInstalled):
        Models(BatchSettings(provider="pi"), {}).find(None)
