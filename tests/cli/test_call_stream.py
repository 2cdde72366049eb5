"""`penstock call` as the answer comes: on a terminal, down a pipe, and when the stream breaks off or its reader leaves.

Each command is a process of its own, against the simulated provider's streams. Where the order of things matters the
provider falls silent within the stream, so that whatever is seen was there before the rest.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import termios
from pathlib import Path

import pytest
import trio
from call_provider import PATIENCE_S, fixed_provider, on_a_terminal, provider, the_end
from command_line import COMMAND, Penstock, Start, Typed, command_environment

from engine.simulator import ConstantLatency, FaultRates, Simulator, StreamShape

SILENT = {"faults": FaultRates(stream_stall=1.0, stream_at=9), "stream": StreamShape(deltas=20)}
"""Eight words, and then nothing for as long as the client stays."""

ENDLESS = StreamShape(deltas=1_000_000, burst=500)
DIM = "\x1b[2m"


def typed(served: Simulator, *options: str) -> tuple[str, ...]:
    return "call", "hello", "--model", "m", "--base-url", served.base_url, *options


def answer(message: dict[str, str]) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"id": "a", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()


async def complaint(process: trio.Process) -> str:
    """All that a command writes to standard error."""
    assert process.stderr is not None
    said = b""
    async for data in process.stderr:
        said += data
    return said.decode()


def unread(number: int) -> int:
    """How many bytes lie in a pipe."""
    found = array.array("i", [0])
    fcntl.ioctl(number, termios.FIONREAD, found)
    return found[0]


# --- as it comes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_terminal_shows_the_text_while_it_comes(tmp_path: Path, number: signal.Signals) -> None:
    """Eight words stand there though the ninth never comes; a signal ends it at once, on a line of its own."""
    async with provider(**SILENT) as served, on_a_terminal(tmp_path, *typed(served)) as screen:
        await screen.wait_for_words(8)
        assert screen.process.poll() is None
        screen.process.send_signal(number)
        assert await complaint(screen.process) == ""
        assert await screen.wait_end() == 128 + number
        ended = await the_end(served)
    assert (len(screen.text.split()), screen.text[-1]) == (8, "\n")
    assert (ended.ending, ended.events) == ("left", 9)


async def test_the_text_is_the_same_in_pieces_and_whole(penstock: Penstock, tmp_path: Path) -> None:
    """On a terminal a stream unless that is not wanted, elsewhere none unless it is; the provider was asked so."""
    shown = []
    async with provider(stream=StreamShape(interval=ConstantLatency(0.001))) as served:
        for options, streams in (((), 0), (("--stream",), 1), (("--no-stream",), 1)):
            ran = await penstock(*typed(served, "--max-tokens", "30", *options))
            assert (ran.code, ran.err) == (0, "")
            shown.append(ran.out)
            assert len(served.ends()) == streams
        for options, streams in (((), 2), (("--no-stream",), 2), (("--json",), 2)):
            async with on_a_terminal(tmp_path, *typed(served, "--max-tokens", "30", *options)) as screen:
                assert await screen.wait_end() == 0
            shown.append(screen.text)
            assert len(served.ends()) == streams
    assert json.loads(shown.pop())["object"] == "chat.completion"
    assert [text.count(" ") for text in shown] == [29] * 5
    assert [text[-1] for text in shown] == ["\n"] * 5


@pytest.mark.parametrize("fault", ["stream_split", "stream_comments", "stream_crlf"])
async def test_what_is_split_on_the_wire_is_whole_on_the_screen(penstock: Penstock, fault: str) -> None:
    faults = FaultRates(stream_at=4, **{fault: 1.0})
    async with provider(faults=faults) as served:
        ran = await penstock(*typed(served, "--stream", "--max-tokens", "9"))
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.split()) == 9
    assert ("\N{HOT BEVERAGE}\N{GRINNING FACE}" in ran.out) == (fault == "stream_split")


async def test_what_the_terminal_cannot_show_is_a_question_mark(penstock: Penstock) -> None:
    async with provider(faults=FaultRates(stream_at=4, stream_split=1.0)) as served:
        ran = await penstock(*typed(served, "--stream"), environment={"PYTHONIOENCODING": "latin-1"})
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("?") == 2


async def test_a_provider_that_streams_nothing_is_printed_all_the_same(penstock: Penstock) -> None:
    """It was asked for a stream and answers in one piece."""
    async with fixed_provider(answer({"content": "All at once."})) as address:
        ran = await penstock("call", "hello", "--model", "m", "--base-url", address, "--stream")
    assert ran == (0, "All at once.\n", "")


@pytest.mark.parametrize(("content", "out"), [("a line\n", "a line\n"), ("", ""), (" ", " \n")])
async def test_the_last_line_is_ended_once(penstock: Penstock, content: str, out: str) -> None:
    async with fixed_provider(answer({"content": content})) as address:
        ran = await penstock("call", "hello", "--model", "m", "--base-url", address)
    assert ran == (0, out, "")


# --- what the model thinks --------------------------------------------------------------------------------------------

THINKING = StreamShape(reasoning=3, deltas=4)


async def test_thoughts_are_hidden_unless_asked_for(penstock: Penstock, tmp_path: Path) -> None:
    """On stderr, as they are; on a terminal dim, and the answer begins on a line of its own."""
    async with provider(stream=THINKING) as served:
        hidden = await penstock(*typed(served, "--stream"))
        shown = await penstock(*typed(served, "--stream", "--thinking"))
        async with on_a_terminal(tmp_path, *typed(served, "--thinking"), errors_too=True) as screen:
            assert await screen.wait_end() == 0
    assert (hidden.code, hidden.err, hidden.out.count(" ")) == (0, "", 3)
    assert (shown.code, shown.out.count(" ")) == (0, 3)
    assert (shown.err.count(" "), shown.err[-1], DIM in shown.err) == (2, "\n", False)
    thoughts, text = screen.text.splitlines()
    assert (thoughts.count(DIM), thoughts.count(" ")) == (3, 2)
    assert (DIM in text, text.count(" ")) == (False, 3)


@pytest.mark.parametrize(("options", "out"), [((), "Five.\n"), (("--json",), "{")])
async def test_thoughts_of_an_answer_in_one_piece(penstock: Penstock, options: tuple[str, ...], out: str) -> None:
    async with fixed_provider(answer({"content": "Five.", "reasoning_content": "Two and three."})) as address:
        asked = ("call", "hello", "--model", "m", "--base-url", address, *options)
        hidden, shown = await penstock(*asked), await penstock(*asked, "--thinking")
    assert (hidden.code, hidden.err) == (0, "")
    assert (shown.code, shown.err) == (0, "Two and three.\n")
    assert hidden.out == shown.out
    assert shown.out.startswith(out)


# --- when it breaks off -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["stream_cut", "stream_reset", "stream_error", "truncated"])
async def test_what_came_stands_and_the_error_is_told(penstock: Penstock, fault: str) -> None:
    """Five words, their line's end, one line on stderr, code 1; and it was asked once only."""
    async with provider(faults=FaultRates(stream_at=6, **{fault: 1.0})) as served:
        ran = await penstock(*typed(served, "--stream"))
        asked = len(served.log())
    assert (ran.code, asked) == (1, 1)
    assert (len(ran.out.split()), ran.out[-1]) == (5, "\n")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("penstock: ")


async def test_a_failure_before_the_first_word_is_tried_again(penstock: Penstock) -> None:
    """Nothing was shown yet, so there is nothing to take back."""
    async with provider(faults=FaultRates(unavailable=1.0, only_first_attempts=1)) as served:
        ran = await penstock(*typed(served, "--stream"))
        asked = len(served.log())
    assert (ran.code, ran.err, asked) == (0, "", 2)
    assert ran.out.strip()


async def test_a_failure_without_a_word_leaves_stdout_empty(penstock: Penstock) -> None:
    async with provider(key="sk-right-8f2h") as served:
        ran = await penstock(
            *("call", "hello", "--provider", "acme", "--model", "m", "--base-url", served.base_url, "--stream"),
            environment={"ACME_API_KEY": "sk-wrong-3k9Q"},
        )
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert "Incorrect API key" in ran.err


# --- when its reader leaves -------------------------------------------------------------------------------------------


async def test_a_reader_that_leaves_ends_the_call_quietly(start_penstock: Start) -> None:
    """The provider sees its client go in the middle of the stream."""
    async with provider(stream=ENDLESS) as served:
        process = await start_penstock(*typed(served, "--stream"))
        assert process.stdout is not None
        with trio.fail_after(PATIENCE_S):
            assert await process.stdout.receive_some(5)
            await process.stdout.aclose()
            assert await complaint(process) == ""
            assert await process.wait() == 1
        ended = await the_end(served)
    assert ended.ending == "left"


async def test_the_first_bytes_are_enough_for_a_shell(tmp_path: Path) -> None:
    async with provider(stream=ENDLESS) as served:
        command = shlex.join([*COMMAND, *typed(served, "--stream")])
        with trio.fail_after(PATIENCE_S):
            done = await trio.run_process(
                ["sh", "-c", f"({command}; echo $? >&2) | head -c 5"],
                capture_stdout=True,
                capture_stderr=True,
                cwd=tmp_path,
                env=command_environment(tmp_path),
            )
    assert (len(done.stdout), done.stderr) == (5, b"1\n")


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the size of a pipe can be set on Linux only")
async def test_a_signal_ends_it_though_nobody_reads(tmp_path: Path) -> None:
    """A pipe that is full to the last byte keeps nobody for ever, neither with a word nor with the end of a line."""
    read, write = os.pipe()
    size = fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)
    ours = os.open(f"/proc/self/fd/{write}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        async with provider(stream=ENDLESS) as served:
            command = [*COMMAND, *typed(served, "--stream")]
            process = await trio.lowlevel.open_process(
                command, stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, env=command_environment(tmp_path)
            )
            try:
                with trio.fail_after(PATIENCE_S):
                    while unread(read) < size - 16:  # noqa: ASYNC110  # nobody tells
                        await trio.sleep(0.01)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            os.write(ours, b"x")
                    process.send_signal(signal.SIGINT)
                    assert await process.wait() == 130
                    assert await complaint(process) == ""
            finally:
                process.kill()
    finally:
        for number in (read, write, ours):
            os.close(number)


async def test_a_pipe_that_others_made_unwilling_to_wait_gets_it_all(tmp_path: Path) -> None:
    """Whoever shares a pipe may set it so, for everybody; it takes less than there is, or nothing."""
    text = "word " * 100_000
    read, write = os.pipe()
    os.set_blocking(write, False)
    got = b""
    async with fixed_provider(answer({"content": text})) as address, trio.lowlevel.FdStream(read) as pipe:
        command = [*COMMAND, "call", "hello", "--model", "m", "--base-url", address]
        process = await trio.lowlevel.open_process(
            command, stdout=write, cwd=tmp_path, env=command_environment(tmp_path)
        )
        os.close(write)
        with trio.fail_after(PATIENCE_S):
            while unread(read) < 50_000:  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.01)
            async for data in pipe:
                got += data
            assert await process.wait() == 0
    assert got.decode() == text + "\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("option", ["--stream", "--no-stream", "--json"])
async def test_a_full_disk_is_one_line_and_code_1(tmp_path: Path, option: str) -> None:
    async with provider() as served:
        with open("/dev/full", "wb") as full, trio.fail_after(PATIENCE_S):  # noqa: ASYNC230  # not a real disk
            done = await trio.run_process(
                [*COMMAND, *typed(served, option)],
                stdout=full,
                capture_stderr=True,
                check=False,
                cwd=tmp_path,
                env=command_environment(tmp_path),
            )
    assert done.returncode == 1
    assert done.stderr.startswith(b"penstock: standard output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_json_is_never_in_pieces(typed_here: Typed) -> None:
    ran = typed_here("call", "hello", "--model", "m", "--base-url", "http://127.0.0.1:9", "--json", "--stream")
    assert (ran.code, ran.out) == (2, "")
    assert "--stream" in ran.err
