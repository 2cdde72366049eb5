"""`penstock run` end to end: the real command, the real provider in its own process, real files and pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import trio
from command_line import COMMAND, Penstock, command_environment
from run_lines import BAD_LINES, provider, read, summary_of, three_kinds, write

from engine.batch import BatchSettings, Tally
from engine.batch.runner import Failures
from engine.cli.run import summary
from engine.simulator import ConstantLatency, FaultRates, ProviderLimit

FAULTS = FaultRates(server_error=0.03, reset_before=0.03, reset_after=0.03, retry_after_s=0.0, rate_limited=0.03)


async def test_every_line_is_answered_once_whatever_the_provider_does(penstock: Penstock, tmp_path: Path) -> None:
    """With faults on, all three kinds of lines mixed, and the provider's own count agrees with the summary."""
    write(tmp_path / "in.jsonl", three_kinds(300))
    async with provider(faults=FAULTS) as served:
        ran = await penstock(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "m-2", "--base-url", served.base_url),
            *("--on-unknown", "retry"),
        )
        arrivals = await served.log()
    rows = read(tmp_path / "out.jsonl")
    assert Counter(row["custom_id"] for row in rows) == Counter(f"c{number}" for number in range(300))
    failed = [row for row in rows if row["error"] is not None]
    assert ran.code == (1 if failed else 0)
    said = summary_of(ran.out)
    assert (said["lines read"], said["completed"]) == ("300", str(300 - len(failed)))
    assert said["results"] == "out.jsonl"
    assert int(said["retries"]) > 5
    served_200 = sum(arrival.status == 200 for arrival in arrivals)
    assert served_200 >= 300 - len(failed)
    for row in rows:
        number = int(row["custom_id"][1:])
        if row["error"] is None:
            assert row["response"]["status_code"] == 200
            assert row["response"]["request_id"]
            assert row["response"]["body"]["model"] == ("m-1" if number % 3 == 0 else "m-2")
    assert ran.err.splitlines()[-1].startswith("300/300 done")


async def test_what_is_wrong_with_a_line_is_its_own_error(penstock: Penstock, tmp_path: Path) -> None:
    """The rest goes on; duplicate names are nobody's business; blank lines are none."""
    good = {"prompt": "hello", "custom_id": "twin", "model": "openai/m"}
    lines = [line for bad, _ in BAD_LINES for line in (bad, good, b"")]
    write(tmp_path / "in.jsonl", lines)
    async with provider() as served:
        config = f'[models."openai/m"]\nmodel = "m"\nbase_url = "{served.base_url}"\n'
        (tmp_path / "c.toml").write_text(config)
        ran = await penstock(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "openai/m", "--config", "c.toml", "--ordered"),
            *("--limit-tokens", "50000"),
        )
        arrivals = await served.log()
    assert ran.code == 1
    rows = read(tmp_path / "out.jsonl")
    assert len(rows) == 2 * len(BAD_LINES)
    codes = [row["error"] and row["error"]["code"] for row in rows]
    assert codes == [code for _, bad in BAD_LINES for code in (bad, None)]
    assert [row["error"]["line"] for row in rows[::2]] == [3 * index + 1 for index in range(len(BAD_LINES))]
    assert {row["custom_id"] for row in rows[1::2]} == {"twin"}
    assert len(arrivals) == len(BAD_LINES)
    assert summary_of(ran.out)["failed"] == str(len(BAD_LINES))


async def test_a_refusal_keeps_what_the_provider_said(penstock: Penstock, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [{"prompt": "a"}])
    async with provider(key="sk-right-8f2h") as served:
        ran = await penstock(
            *("run", "in.jsonl", "-o", "out.jsonl", "--provider", "acme", "--model", "m"),
            *("--base-url", served.base_url),
            environment={"ACME_API_KEY": "sk-wrong-3k9Q"},
        )
    assert ran.code == 1
    row = read(tmp_path / "out.jsonl")[0]
    assert (row["response"]["status_code"], row["error"]["code"]) == (401, "rejected")
    assert "Incorrect API key" in row["response"]["body"]["error"]["message"]
    assert "sk-wrong" not in json.dumps(row) + ran.out + ran.err


async def test_in_order_and_under_the_limit(penstock: Penstock, tmp_path: Path) -> None:
    """The provider, which enforces the same limit, refuses none; the summary says what was spent."""
    write(tmp_path / "in.jsonl", three_kinds(60))
    limit = ProviderLimit("requests", 30, 1.0)
    async with provider(limits=(limit,), faults=FaultRates(reset_after=0.2), latency=ConstantLatency(0.01)) as served:
        ran = await penstock(
            *("run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", served.base_url, "--ordered"),
            *("--limit-requests", "30", "--per", "1", "--on-unknown", "retry"),
        )
        statistics = await served.statistics()
    rows = read(tmp_path / "out.jsonl")
    assert [row["custom_id"] for row in rows] == [f"c{number}" for number in range(60)]
    assert statistics.faults["reset_after"] > 2
    assert statistics.refused == {} or statistics.loop.late
    assert re.fullmatch(r"\d+\.\d% of 30 requests per 1 s", summary_of(ran.out)["limit spent"])
    assert "/30 requests in 1 s" in ran.err


async def test_in_a_pipeline_stdout_is_data_alone(penstock: Penstock) -> None:
    """The summary joins the progress on stderr."""
    lines = "".join(json.dumps(line) + "\n" for line in three_kinds(30))
    async with provider() as served:
        ran = await penstock(
            *("run", "-", "-o", "-", "--model", "m", "--base-url", served.base_url), stdin=lines.encode()
        )
    assert ran.code == 0
    assert sorted(json.loads(line)["custom_id"] for line in ran.out.splitlines()) == sorted(f"c{n}" for n in range(30))
    assert summary_of(ran.err)["completed"] == "30"


async def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    """As `penstock run ... | head -n 1` does: no traceback, no summary nobody asked for, nobody hangs."""
    write(tmp_path / "in.jsonl", three_kinds(2_000))
    async with provider() as served:
        command = [*COMMAND, "run", "in.jsonl", "-o", "-", "--model", "m", "--base-url", served.base_url]
        with trio.fail_after(60):
            process = await trio.lowlevel.open_process(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=command_environment(tmp_path),
            )
            assert process.stdout is not None
            assert process.stderr is not None
            assert (await process.stdout.receive_some(100)).startswith(b'{"id":"line-')
            await process.stdout.aclose()
            shown = b""
            async for data in process.stderr:
                shown += data
            assert await process.wait() == 1
    assert b"Traceback" not in shown
    assert b"penstock:" not in shown
    assert b"results" not in shown


async def test_an_empty_input_is_done(penstock: Penstock, tmp_path: Path) -> None:
    ran = await penstock("run", "-", "-o", "out.jsonl", "--model", "m", "--base-url", "http://127.0.0.1:9")
    assert (ran.code, read(tmp_path / "out.jsonl")) == (0, [])
    assert summary_of(ran.out)["lines read"] == "0"


async def test_an_old_file_can_be_replaced(penstock: Penstock, tmp_path: Path) -> None:
    """All of it, though the new one is shorter."""
    write(tmp_path / "in.jsonl", three_kinds(3))
    (tmp_path / "out.jsonl").write_text("old\n" * 10_000)
    async with provider() as served:
        options = ("--model", "m", "--base-url", served.base_url, "--overwrite")
        ran = await penstock("run", "in.jsonl", "-o", "out.jsonl", *options)
    assert (ran.code, len(read(tmp_path / "out.jsonl"))) == (0, 3)


async def test_a_disk_that_is_full_is_told(penstock: Penstock, tmp_path: Path) -> None:
    """Code 1, since something was sent; /dev/full is such a disk."""
    write(tmp_path / "in.jsonl", three_kinds(30))
    async with provider() as served:
        ran = await penstock("run", "in.jsonl", "-o", "/dev/full", "--model", "m", "--base-url", served.base_url)
    assert ran.code == 1
    assert "No space left" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_of_a_good_run() -> None:
    tally = Tally()
    tally.read = tally.completed = tally.attempts = 240
    tally.input_tokens, tally.output_tokens, tally.time_s = 1_000, 500, 2.04
    tally.first_sent_us, tally.last_sent_us = 0, 2_040_000
    settings = BatchSettings(limit_requests=100, limit_tokens=5_000, period_s=1.0)
    assert summary_of(summary(settings, tally, "out.jsonl")) == {
        "lines read": "240",
        "completed": "240",
        "failed": "0",
        "retries": "0",
        "tokens": "1000 in, 500 out",
        "limit spent": "98.0% of 100 requests per 1 s",
        "time": "2.0 s",
        "results": "out.jsonl",
    }


@pytest.mark.parametrize(
    ("not_sent", "rest", "said"),
    [(5, 7, "12, 7 of them not read"), (5, 0, "5, 0 of them not read"), (5, None, "5, and whatever was not read")],
)
def test_the_summary_of_an_interrupted_run(not_sent: int, rest: int | None, said: str) -> None:
    """And the commonest failures are named, each by its first line."""
    tally = Tally()
    tally.read, tally.failed, tally.not_sent, tally.rest = 20, 10, not_sent, rest
    for index, count in enumerate([1, 5, 2, 2]):
        failures = tally.failures[f"kind_{index}"] = Failures(index + 10, "no\nway " + "x" * 500)
        failures.count = count
    out = summary(BatchSettings(), tally, "out.jsonl")
    assert summary_of(out)["not sent"] == said
    rows = [line for line in out.splitlines() if line.startswith("failed")]
    assert len(rows) == 4
    assert rows[1].startswith("failed         5 kind_1; line 11: no way xxx")
    assert max(len(row) for row in rows) < 260


# --- on a terminal ----------------------------------------------------------------------------------------------------


async def test_on_a_terminal_it_shows_a_live_display(tmp_path: Path) -> None:
    """Drawn in place on stderr, with a bar for the lines and one for the limit."""
    write(tmp_path / "in.jsonl", three_kinds(40))
    options = ["run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--limit-requests", "20", "--per", "0.4"]
    ours, theirs = os.openpty()
    async with provider() as served:
        process = await trio.lowlevel.open_process(
            [*COMMAND, *options, "--base-url", served.base_url],
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=tmp_path,
            env=command_environment(tmp_path, TERM="xterm", COLUMNS="100"),
        )
        os.close(theirs)
        assert process.stdout is not None
        screen = b""
        with trio.fail_after(60):
            async with trio.lowlevel.FdStream(ours) as stream:
                # A pseudo-terminal ends with an error once its other side is closed.
                try:
                    while True:
                        screen += await stream.receive_some()
                except trio.BrokenResourceError:
                    pass
            out = await process.stdout.receive_some()
            assert await process.wait() == 0
    assert b"40 of 40 done" in screen
    assert b"of 20 requests in 0.4 s" in screen
    assert screen.rstrip().endswith(b"\x1b[?25h"), "the cursor is shown again"
    assert b"\x1b" not in out
