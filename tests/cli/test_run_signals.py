"""`penstock run` when it is interrupted, and how much memory it takes: a process of its own, watched from outside."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from command_line import COMMAND, Start, command_environment

from engine.simulator import ConstantLatency, FaultRates, SimulatorConfig, simulated_provider

COUNT = 60
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def provider(latency_s: float, **changes: Any) -> Any:
    return simulated_provider(SimulatorConfig(latency=ConstantLatency(latency_s), **changes))


def write(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"prompt": f"hello {n}", "custom_id": n}) + "\n" for n in range(count)))


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def summary_of(out: bytes) -> dict[str, str]:
    rows = [re.split(r"  +", line, maxsplit=1) for line in out.decode().splitlines()]
    return dict(reversed([(row[0], row[1]) for row in rows if len(row) == 2]))


async def arrived(served: Any, count: int) -> None:
    """Wait until the provider has seen so many requests."""
    with trio.fail_after(60):
        while (await served.statistics()).arrivals < count:  # noqa: ASYNC110  # another process
            await trio.sleep(0.01)


@asynccontextmanager
async def running(start: Start, *options: str) -> AsyncIterator[tuple[trio.Process, list[bytes]]]:
    """The command under way; its stderr and stdout, complete once the block is left."""
    process = await start("run", *options)
    said = [b"", b""]

    async def collect(stream: trio.abc.ReceiveStream, which: int) -> None:
        async for data in stream:
            said[which] += data

    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, process.stdout, 0)
                nursery.start_soon(collect, process.stderr, 1)
                yield process, said
                await process.wait()
    finally:
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_first_signal_lets_what_is_in_flight_end(
    start_penstock: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ten are in flight and are written, completed; nothing else is sent, and the summary counts it."""
    write(tmp_path / "in.jsonl", COUNT)
    async with provider(1.0) as served:
        options = ("in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", served.base_url, "--concurrency", "10")
        async with running(start_penstock, *options) as (process, said):
            await arrived(served, 10)
            process.send_signal(number)
        assert (await served.statistics()).arrivals == 10
    assert process.returncode == code
    rows = read(tmp_path / "out.jsonl")
    assert [row["error"] for row in rows] == [None] * 10
    told = summary_of(said[0])
    assert (told["lines read"], told["completed"], told["failed"]) == (str(COUNT), "10", "0")
    assert told["not sent"] == f"{COUNT - 10}, 0 of them not read"
    assert said[1].count(b"Again: stop now.") == 1
    assert b"Traceback" not in said[1]


async def test_lines_that_were_not_even_read_are_counted(start_penstock: Start, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 3_000)
    async with provider(0.5) as served:
        options = ("in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", served.base_url, "--concurrency", "10")
        async with running(start_penstock, *options) as (process, said):
            await arrived(served, 10)
            process.send_signal(signal.SIGINT)
    told = summary_of(said[0])
    total, rest = (int(number) for number in re.findall(r"\d+", told["not sent"]))
    assert total + int(told["completed"]) == 3_000
    assert rest > 1_000
    assert len(read(tmp_path / "out.jsonl")) == int(told["completed"])


@pytest.mark.parametrize("ordered", [(), ("--ordered",)], ids=["as they end", "ordered"])
async def test_the_second_signal_stops_at_once(start_penstock: Start, tmp_path: Path, ordered: tuple[str, ...]) -> None:
    """Long before the provider answers; what had left is written as what it is, of unknown outcome."""
    write(tmp_path / "in.jsonl", COUNT)
    # Of the provider's answers some are stalled for an hour, the first ones among them or not.
    async with provider(0.05, faults=FaultRates(stall=0.5, stall_s=3600.0), seed=3) as served:
        options = ("in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url", served.base_url, "--concurrency", "10")
        async with running(start_penstock, *options, *ordered) as (process, said):
            stalled = 0
            while stalled < 10:
                stalled = (await served.statistics()).faults.get("stall", 0)
                await trio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            while b"Again: stop now." not in said[1]:  # noqa: ASYNC110  # another process
                await trio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
        arrivals = (await served.statistics()).arrivals
    assert process.returncode == 130
    rows = read(tmp_path / "out.jsonl")
    codes = [row["error"]["code"] if row["error"] else "" for row in rows]
    assert codes.count("outcome_unknown") == 10
    assert codes.count("") == arrivals - 10
    told = summary_of(said[0])
    assert (told["completed"], told["failed"]) == (str(arrivals - 10), "10")
    if ordered:
        assert [row["custom_id"] for row in rows] == sorted(row["custom_id"] for row in rows)


async def test_a_signal_ends_the_wait_for_an_input_that_is_silent(tmp_path: Path) -> None:
    """What had come was answered; that nobody knows what would have come is said."""
    async with provider(0.0) as served:
        command = [*COMMAND, "run", "-", "-o", "-", "--model", "m", "--base-url", served.base_url]
        with trio.fail_after(60):
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=command_environment(tmp_path),
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdin.send_all(b'{"prompt": "a"}\n')
            row = json.loads(await process.stdout.receive_some())
            process.send_signal(signal.SIGTERM)
            shown = b""
            async for data in process.stderr:
                shown += data
            assert await process.wait() == 143
            await process.stdin.aclose()
    assert row["error"] is None
    assert summary_of(shown)["not sent"] == "0, and whatever was not read"


async def test_the_second_signal_stops_though_nobody_reads_the_results(start_penstock: Start, tmp_path: Path) -> None:
    """A pipe that is full keeps nobody for ever."""
    write(tmp_path / "in.jsonl", 3_000)
    async with provider(0.0) as served:
        process = await start_penstock("run", "in.jsonl", "-o", "-", "--model", "m", "--base-url", served.base_url)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with trio.fail_after(60):
                await arrived(served, 500)
                process.send_signal(signal.SIGINT)
                shown = b""
                while b"Again: stop now." not in shown:
                    shown += await process.stderr.receive_some()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
        finally:
            process.kill()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def test_a_signal_before_anything_was_sent_leaves_no_file(start_penstock: Start, tmp_path: Path) -> None:
    """And an old one stays as it was, though it might have been replaced."""
    (tmp_path / "old.jsonl").write_text("old\n")
    for output in ("new.jsonl", "old.jsonl"):
        command = [
            *COMMAND,
            "run",
            "-",
            "-o",
            output,
            "--overwrite",
            "--model",
            "m",
            "--base-url",
            "http://127.0.0.1:9",
        ]
        with trio.fail_after(60):
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=command_environment(tmp_path),
            )
            assert process.stderr is not None
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stderr.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()
    assert (tmp_path / "old.jsonl").read_text() == "old\n"
    assert not (tmp_path / "new.jsonl").exists()


def peak_kb(pid: int) -> int:
    """The most resident memory a process has had; 0 once it has ended."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) if found else 0


@linux
async def test_memory_does_not_grow_with_the_input(start_penstock: Start, tmp_path: Path) -> None:
    """Ten times the lines, each answered once with faults on: at most 12 MB more at the peak."""
    peaks = []
    faults = FaultRates(server_error=0.01, reset_before=0.01)
    async with provider(0.05, faults=faults) as served:
        for count in (500, 5_000):
            write(tmp_path / "in.jsonl", count)
            options = ("in.jsonl", "-o", "out.jsonl", "--overwrite", "--model", "m", "--base-url", served.base_url)
            peak = 0
            async with running(start_penstock, *options, "--concurrency", "50", "--ordered") as (process, _):
                while process.poll() is None:
                    peak = max(peak, peak_kb(process.pid))
                    await trio.sleep(0.02)
            rows = read(tmp_path / "out.jsonl")
            assert [row["custom_id"] for row in rows] == list(range(count))
            peaks.append(peak / 1024)
    assert peaks[1] - peaks[0] < 12
    assert peaks[1] < 150
