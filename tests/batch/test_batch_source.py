"""Lines out of bytes, however these come in pieces; and files, pipes and directories as inputs."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest
import trio
import trio.testing
from batch_runs import Pieces
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import InputFile, LineReader, Misuse


async def lines_of(reader: LineReader) -> list[tuple[int, bytes | None]]:
    found = []
    while (line := await reader.next()) is not None:
        found.append((line.number, line.data))
    return found


@given(
    st.lists(st.sampled_from([b"", b" ", b"\r", b"a", b"bc\r", b"0123456789", b"x" * 40])),
    st.integers(1, 30),
    st.booleans(),
)
def test_lines_are_those_of_the_bytes(lines: list[bytes], piece_bytes: int, ends: bool) -> None:
    """In any pieces; blank ones are left out but counted, one longer than the cap is None, a last line needs no end."""
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    reader = LineReader(Pieces(data, piece_bytes), max_bytes=10)
    wanted = [(number, line if len(line) <= 10 else None) for number, line in enumerate(lines, start=1) if line.strip()]
    assert trio.run(lines_of, reader) == wanted
    assert reader.ended


async def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    reader = LineReader(Pieces(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", 1))
    assert await lines_of(reader) == [(1, b"a"), (2, b"\xef\xbb\xbfb")]


async def test_a_line_that_never_ends_is_not_kept() -> None:
    """However long it is, no more than the cap is held of it."""

    class Long:
        size_bytes = None
        left = 200

        async def read(self) -> bytes:
            self.left -= 1
            return bytes(100_000) if self.left > 0 else b"\na\n" if self.left == 0 else b""

    reader = LineReader(Long(), max_bytes=5_000)
    tracemalloc.start()
    try:
        assert await lines_of(reader) == [(1, None), (2, b"a")]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_stopping_gives_a_silent_read_up(autojump_clock: object) -> None:
    """What was read before can still be counted, what might come never is waited for."""
    reader = LineReader(Pieces(b"a\nb\nc", silent=True))
    assert await reader.next() is not None
    assert await reader.next() is not None
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await trio.sleep(1)
            reader.stop()

        nursery.start_soon(stop)
        assert await reader.next() is None
    assert await reader.count_rest() is None


async def test_the_rest_of_a_file_is_counted() -> None:
    reader = LineReader(Pieces(b"a\n\nb\n  \nc\nd", 3))
    assert await reader.next() is not None
    reader.stop()
    assert await reader.next() is None
    assert await reader.count_rest() == 3


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    data = b"".join(b"%d\n" % number for number in range(100_000))
    (tmp_path / "in").write_bytes(data)
    source = await InputFile.open(str(tmp_path / "in"))
    assert source.size_bytes == len(data)
    found = await lines_of(LineReader(source))
    source.close()
    assert found == [(number + 1, b"%d" % number) for number in range(100_000)]


async def test_a_read_of_a_file_that_is_stopped_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that was already on its way is waited for, so that what is left unread can be counted."""
    (tmp_path / "in").write_bytes(b"a\n" * 200_000)
    source = await InputFile.open(str(tmp_path / "in"))
    reader = LineReader(source)
    asked, let = threading.Event(), threading.Event()
    read = os.read

    def slow(number: int, count: int) -> bytes:
        asked.set()
        assert let.wait(10)
        return read(number, count)

    monkeypatch.setattr(os, "read", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.next)
        await trio.to_thread.run_sync(asked.wait, 10)
        reader.stop()
        await trio.testing.wait_all_tasks_blocked()
        let.set()
    assert await reader.count_rest() == 200_000
    source.close()


async def test_a_pipe_nobody_writes_to_can_be_given_up(tmp_path: Path) -> None:
    """While it is opened, and while it is read."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    with trio.move_on_after(0.01) as opening:
        await InputFile.open(path)
    assert opening.cancelled_caught
    writer = os.open(path, os.O_RDWR)
    source = await InputFile.open(path)
    assert source.size_bytes is None
    reader = LineReader(source)
    with trio.move_on_after(0.01) as reading:
        await reader.next()
    assert reading.cancelled_caught
    os.write(writer, b"\n\n")  # lets both threads end
    source.close()
    os.close(writer)


@pytest.mark.parametrize(("name", "words"), [("missing", "No such file"), (".", "directory")])
async def test_what_cannot_be_read_is_misuse(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(Misuse, match=words) as caught:
        await InputFile.open(str(tmp_path / name))
    assert "Nothing was sent." in caught.value.message
