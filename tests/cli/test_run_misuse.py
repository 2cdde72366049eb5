"""`penstock run` typed wrongly, or given a file of which no line can be used: code 2, one line that says why, and
nothing was sent. And what is typed as its help shows it, which works.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Penstock, Typed
from run_lines import BAD_LINES, provider, read, summary_of, write

AT_HOME = ["--model", "m", "--base-url", "http://127.0.0.1:9"]
MISUSES: list[tuple[list[str], list[str]]] = [
    (["in.jsonl"], ["--output"]),
    (["-o", "new.jsonl", *AT_HOME], ["SOURCE"]),
    (["missing.jsonl", "-o", "new.jsonl", *AT_HOME], ["missing.jsonl", "cannot be read", "Nothing was sent"]),
    ([".", "-o", "new.jsonl", *AT_HOME], ["directory", "Nothing was sent"]),
    (["in.jsonl", "-o", "old.jsonl", *AT_HOME], ["old.jsonl exists", "--overwrite", "Nothing was sent"]),
    (["in.jsonl", "-o", "in.jsonl", "--overwrite", *AT_HOME], ["the input itself", "Nothing was sent"]),
    (["in.jsonl", "-o", "no/new.jsonl", *AT_HOME], ["no/new.jsonl", "cannot be written", "Nothing was sent"]),
    (["in.jsonl", "-o", "new.jsonl"], ["no model", "--model", "Nothing was sent"]),
    (["in.jsonl", "-o", "new.jsonl", "--model", "gpt-4o"], ["OPENAI_API_KEY", "Nothing was sent"]),
    (["named.jsonl", "-o", "new.jsonl"], ["GROQ_API_KEY", "Nothing was sent"]),
    (["in.jsonl", "-o", "old.jsonl", "--overwrite", "--model", "gpt-4o"], ["OPENAI_API_KEY"]),
    (["in.jsonl", "-o", "new.jsonl", "--model", "acme/m"], ["acme"]),
    (["in.jsonl", "-o", "new.jsonl", "--model", "m", "--base-url", "x"], ["base_url"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--limit-requests", "0"], ["--limit-requests", "at least 1"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--limit-tokens", "-1"], ["--limit-tokens", "at least 1"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--per", "0"], ["--per", "above 0"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--limit-requests", "5", "--per", "1e12"], ["period_s"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--concurrency", "0"], ["--concurrency", "at least 1"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--deadline", "0"], ["--deadline", "above 0"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--on-unknown", "maybe"], ["--on-unknown", "retry"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--config", "missing.toml"], ["missing.toml", "cannot be read"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--config", "bad.toml"], ["bad.toml", "limits"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--journal", "x"], ["Unknown option: --journal"]),
    (["in.jsonl", "-o", "new.jsonl", *AT_HOME, "--overwite"], ["Did you mean --overwrite?"]),
]


@pytest.mark.parametrize(("typed", "words"), MISUSES, ids=lambda value: " ".join(value))
def test_misuse_is_one_line_and_nothing_is_sent(
    typed_here: Typed, tmp_path: Path, typed: list[str], words: list[str]
) -> None:
    """Code 2; no new file, and an old one as it was."""
    write(tmp_path / "in.jsonl", [{"prompt": "a"}])
    write(tmp_path / "named.jsonl", [b"{", {"prompt": "a", "model": "groq/m"}])
    (tmp_path / "old.jsonl").write_text("old\n")
    (tmp_path / "bad.toml").write_text("[limits]\nrequests = 5\n")
    ran = typed_here("run", *typed)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert [word for word in words if word not in ran.err] == []
    assert not (tmp_path / "new.jsonl").exists()
    assert (tmp_path / "old.jsonl").read_text() == "old\n"


UNUSABLE: list[tuple[list[Any], str]] = [
    ([b"{"], "not valid JSON"),
    ([b"hello", b"", b'["prompt"]'], "not valid JSON"),
    ([{"prompt": "a", "max_tokens": 100_000}], "limit"),
    ([bad for bad, _ in BAD_LINES], "not valid JSON"),
]


@pytest.mark.parametrize(("lines", "words"), UNUSABLE, ids=["one", "some", "too large", "all kinds"])
async def test_when_no_line_is_usable_it_was_misuse(
    penstock: Penstock, tmp_path: Path, lines: list[Any], words: str
) -> None:
    """Code 2, since nothing was sent; the results are there, and one line on stderr says where to look."""
    write(tmp_path / "in.jsonl", lines)
    options = ("--model", "m", "--base-url", "http://127.0.0.1:9", "--limit-tokens", "50000")
    ran = await penstock("run", "in.jsonl", "-o", "out.jsonl", *options)
    assert ran.code == 2
    wrong = [line for line in lines if line != b""]
    rows = read(tmp_path / "out.jsonl")
    assert len(rows) == len(wrong)
    assert words in next(row["error"]["message"] for row in rows if row["id"] == "line-1")
    said = summary_of(ran.out)
    assert (said["completed"], said["failed"]) == ("0", str(len(wrong)))
    last = ran.err.splitlines()[-1]
    assert last.startswith("penstock: in.jsonl: no line can be used")
    assert last.endswith("Nothing was sent.")


async def test_an_unusable_standard_input_is_called_that(penstock: Penstock) -> None:
    """In a pipeline, too: results on stdout, the rest on stderr, and code 2."""
    ran = await penstock("run", "-", "-o", "-", "--model", "m", "--base-url", "http://127.0.0.1:9", stdin=b"hello\n")
    assert ran.code == 2
    assert json.loads(ran.out)["error"]["code"] == "invalid_line"
    assert ran.err.splitlines()[-1].startswith("penstock: standard input: no line can be used")


@pytest.mark.parametrize("bad", [[], [b"{"]], ids=["all fail", "some are wrong"])
async def test_lines_that_fail_are_no_misuse(penstock: Penstock, tmp_path: Path, bad: list[bytes]) -> None:
    """One usable line is enough for code 1, though nobody could be reached and nothing was sent."""
    write(tmp_path / "in.jsonl", [*bad, {"prompt": "a", "deadline_s": 2}])
    async with provider() as served:
        address = served.base_url
    ran = await penstock("run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", address)
    assert ran.code == 1
    assert not any(line.startswith("penstock:") for line in ran.err.splitlines())
    assert {row["error"]["code"] for row in read(tmp_path / "out.jsonl")} >= {"connect_failed"}


async def test_help_shows_a_line_and_a_command_that_work(penstock: Penstock, tmp_path: Path) -> None:
    """Typed as they stand there, but for the address and the key."""
    ran = await penstock("run", "--help")
    assert ran.code == 0
    line = next(shown.strip() for shown in ran.out.splitlines() if shown.strip().startswith('{"custom_id"'))
    command = next(shown.strip() for shown in ran.out.splitlines() if shown.strip().startswith("penstock run"))
    write(tmp_path / "in.jsonl", [line.encode()])
    async with provider(key="sk-any-8f2h") as served:
        options = ("--provider", "openai", "--base-url", served.base_url)
        typed = await penstock(*command.split()[1:], *options, environment={"OPENAI_API_KEY": "sk-any-8f2h"})
        arrivals = await served.log()
    assert typed.code == 0
    assert [row["custom_id"] for row in read(tmp_path / "out.jsonl")] == [json.loads(line)["custom_id"]]
    assert len(arrivals) == 1
