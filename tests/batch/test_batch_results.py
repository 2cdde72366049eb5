"""The line a result is, and the file it is written to: whole lines whatever happens, nothing lost by looking."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors.messages import EMPTY, Ended, Fault, Reply, encode
from engine import Call, iModel
from engine.batch import InputFile, Misuse, ResultFile
from engine.batch.lines import Request
from engine.batch.results import Results, result_line
from engine.errors import InvalidCall, PenstockError

MODEL = iModel("acme", "http://127.0.0.1:1", model="m")


def ended(status: str, reply: Reply | None = None, fault: Fault | None = None) -> Call:
    call = Call(MODEL, "m", InvalidCall("never sent"))
    outcome = Ended(call.id, status, 1, 0, 0, 0, 0, fault=fault)  # type: ignore[arg-type]  # as each test says
    call.put((encode(outcome), b"" if reply is None else encode(reply)))
    return call


def row_of(call: Call) -> dict[str, Any]:
    line = result_line(call, Request(7, "line-7", "a"))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    row = msgspec.json.decode(line)
    assert {name: row[name] for name in ("id", "custom_id")} == {"id": "line-7", "custom_id": "a"}
    return row


BODIES: list[tuple[bytes, object]] = [
    (b'{"a": 1.10}', {"a": 1.1}),
    (b'{\r\n  "a": [1,\n2]\n}\n', {"a": [1, 2]}),
    ('{"a": "é\u2028"}'.encode(), {"a": "é\u2028"}),
    (b'{"a": "\\ud83d"}', {"a": "\ufffd"}),
    (b'{"a": "\xff"}', {"a": "\ufffd"}),
    (b'{"a": NaN}', {"a": None}),
    (b"\xef\xbb\xbf{}", {}),
    (b"<html>\nno\n</html>", "<html>\nno\n</html>"),
    (b'{"a": 1', '{"a": 1'),
    (b"", None),
]


@pytest.mark.parametrize(("body", "wanted"), BODIES, ids=[repr(body)[:30] for body, _ in BODIES])
def test_a_body_stands_in_its_line_whatever_it_is(body: bytes, wanted: object) -> None:
    """A success that cannot be read is kept as the text it is: it was paid for."""
    row = row_of(ended("completed", Reply(200, body=memoryview(body) if body else EMPTY)))
    assert row["response"] == {"status_code": 200, "request_id": None, "body": wanted}
    assert row["error"] is None


def test_a_body_is_the_providers_own_bytes() -> None:
    """No number is written anew, no key is sorted."""
    body = b'{"b":1.10,"a":12345678901234567890123}'
    line = result_line(ended("completed", Reply(200, body=memoryview(body))), Request(7, "x"))
    assert body in line


REFUSED = Reply(429, (("x-request-id", "r-1"),), fault=Fault("RateLimited", "slow", status=429))
FAILURES: list[tuple[Call, int | None, str]] = [
    (ended("failed", REFUSED), 429, "rate_limited"),
    (ended("failed", Reply(200, fault=Fault("OutcomeUnknown", "cut", detail="closed"))), None, "outcome_unknown"),
    (ended("failed", None, Fault("ConnectFailed", "nobody")), None, "connect_failed"),
    (ended("skipped", None, Fault("InvalidCall", "what", detail="line")), None, "invalid_line"),
    (ended("skipped", None, Fault("InvalidCall", "what", detail="model")), None, "invalid_call"),
    (ended("skipped", None, Fault("CapacityExceeded", "much")), None, "capacity_exceeded"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "status", "code"), FAILURES, ids=[code for *_, code in FAILURES])
def test_a_failure_says_what_and_where(call: Call, status: int | None, code: str) -> None:
    """With the provider's answer beside it, if it gave one."""
    row = row_of(call)
    assert (row["error"]["code"], row["error"]["line"]) == (code, 7)
    assert row["error"]["message"] == call.error.message  # type: ignore[union-attr]  # a failure has one
    if status is None:
        assert row["response"] is None
    else:
        assert row["response"] == {"status_code": status, "request_id": "r-1", "body": None}


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_is_written_as_lines_come(tmp_path: Path) -> None:
    """Not only at the end, and in the order they were given."""
    path = tmp_path / "out"
    sink = await ResultFile.open(str(path), overwrite=False)
    results = Results(sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(results.keep_writing)
        await results.write(b"1\n")
        with trio.fail_after(10):
            while path.read_bytes() != b"1\n":  # noqa: ASYNC110  # the file system tells no event
                await trio.sleep(0.001)
        for number in range(2, 2000):
            await results.write(b"%d\n" % number)
        await results.flush()
        nursery.cancel_scope.cancel()
    sink.finish()
    sink.close()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(1, 2000))


async def test_who_writes_faster_than_the_sink_waits(autojump_clock: trio.testing.MockClock) -> None:
    """So that what is in memory is bounded: 10 MiB in tenths take ten of the sink's turns."""

    class Slow:
        most = 0

        async def append(self, lines: bytes) -> None:
            self.most = max(self.most, len(lines))
            await trio.sleep(1.0)

    sink = Slow()
    results = Results(sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(results.keep_writing)
        for _ in range(100):
            await results.write(b"x" * 100_000)
        await results.flush()
        nursery.cancel_scope.cancel()
    assert sink.most < 1_300_000
    assert trio.current_time() >= 8


@pytest.mark.parametrize("taken", range(0, 13, 2))
async def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    """Wherever within the lines it was full; and nothing is tried again."""
    path = tmp_path / "out"
    sink = await ResultFile.open(str(path), overwrite=False)
    await sink.append(b"first\n")
    write, room = os.write, taken

    def write_some(number: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(number, data[: min(room, 3)])
        room -= count
        return count

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(PenstockError, match="No space left"):
        await sink.append(b"aaaa\nbbbb\ncccc\n")
    monkeypatch.undo()
    sink.close()
    assert path.read_bytes() == b"first\n" + b"aaaa\nbbbb\n"[: taken // 5 * 5]


async def test_cancelling_does_not_lose_what_was_handed_over(tmp_path: Path) -> None:
    """A write that has been asked for is done, though whoever asked is cancelled."""
    path = tmp_path / "out"
    sink = await ResultFile.open(str(path), overwrite=False)
    with trio.CancelScope() as scope:
        scope.cancel()
        await sink.append(b"a\n")
    sink.close()
    assert path.read_bytes() == b"a\n"


Leave = Callable[[ResultFile], None]
LEAVES: dict[str, tuple[bool, Leave, bytes | None, bytes]] = {
    # were results written, how it is left, what then stands in a new file (None: there is none) and in an old one
    "at once": (False, lambda sink: None, None, b"old\n"),
    "finished empty": (False, ResultFile.finish, b"", b""),
    "interrupted": (True, lambda sink: None, b"new\n", b"new\n"),
    "finished": (True, ResultFile.finish, b"new\n", b"new\n"),
}


@pytest.mark.parametrize("way", LEAVES)
@pytest.mark.parametrize("old", [False, True], ids=["new file", "old file"])
async def test_what_was_there_stays_until_there_is_something_else(tmp_path: Path, way: str, old: bool) -> None:
    written, leave, new_file, old_file = LEAVES[way]
    path = tmp_path / "out"
    if old:
        path.write_bytes(b"old\n")
    sink = await ResultFile.open(str(path), overwrite=True)
    if written:
        await sink.append(b"new\n")
    leave(sink)
    sink.close()
    assert (path.read_bytes() if path.exists() else None) == (old_file if old else new_file)


async def test_a_file_that_is_there_is_refused(tmp_path: Path) -> None:
    """Unless it may be replaced, or is no file; never replaced is the input."""
    path = tmp_path / "here"
    path.write_bytes(b"{}\n")
    with pytest.raises(Misuse, match=r"exists.*--overwrite.*Nothing was sent"):
        await ResultFile.open(str(path), overwrite=False)
    source = await InputFile.open(str(path))
    os.link(path, tmp_path / "same")
    with pytest.raises(Misuse, match="the input itself"):
        await ResultFile.open(str(tmp_path / "same"), overwrite=True, source=source)
    source.close()
    sink = await ResultFile.open("/dev/null", overwrite=False)
    await sink.append(b"a\n")
    sink.close()
    assert path.read_bytes() == b"{}\n"


@pytest.mark.parametrize("name", ["missing/out", "."])
async def test_what_cannot_be_written_is_misuse(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misuse, match="Nothing was sent"):
        await ResultFile.open(str(tmp_path / name), overwrite=True)


async def test_a_pipe_with_room_for_nothing_is_waited_for() -> None:
    """Also where somebody else made it one that does not wait itself."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sink = ResultFile(f"/dev/fd/{writing}", writing, created=False)
    lines = b"x" * 99 + b"\n"
    found = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.append, lines * 5000)
        while len(found) < 500_000:
            found += await trio.to_thread.run_sync(os.read, reading, 65_536)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        await sink.append(lines)
    sink.close()
    assert found == lines * 5000


def test_rows_are_what_json_readers_read() -> None:
    """Not only ours."""
    row = json.loads(result_line(ended("completed", Reply(200, body=memoryview(b'{"a": 1}'))), Request(1, "x")))
    assert row["response"]["body"] == {"a": 1}
