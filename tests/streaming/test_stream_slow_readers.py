"""A reader who is slow, in virtual time: what is held for him is bounded, nothing is lost, and no bound strikes.

What the socket does meanwhile is in `test_stream_wire.py`.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from stream_bodies import ASK, END, a_model, read, text, texts
from virtual_streams import FOREVER, StreamProvider, in_virtual_time, streaming_engine

from actors.slots import STREAM_BYTES, StreamBuffer

PIECE = text("x" * 1000)
WORDS = [f"{number:06d}" + "." * 1000 for number in range(1000)]


@in_virtual_time
async def test_a_reader_who_stops_holds_the_provider_back_and_misses_nothing() -> None:
    script = [text(word) for word in WORDS]
    provider = StreamProvider([*script, END])
    async with streaming_engine(provider) as engine:
        async with a_model().stream(**ASK, idle_s=5, first_byte_s=5) as stream:
            first = str(await stream.__anext__())
            await trio.sleep(10)
            held = provider.written
            assert STREAM_BYTES <= held <= 2 * STREAM_BYTES + 3 * len(script[0])
            await trio.sleep(500)
            assert provider.written == held
            assert engine.statistics().live["permits_held"] == 1
            assert [first, *await texts(stream)] == WORDS
        assert (stream.call.status, stream.call.text) == ("completed", "".join(WORDS))


@in_virtual_time
async def test_a_reader_who_takes_his_time_at_every_chunk_gets_them_all() -> None:
    provider = StreamProvider([*[text(word) for word in WORDS], END])
    async with streaming_engine(provider):
        got = []
        async for chunk in a_model().stream(**ASK, idle_s=3, timeout_s=100_000):
            got.append(str(chunk))
            await trio.sleep(2)
        assert [one for one in got if one] == WORDS


@in_virtual_time
async def test_silence_counts_again_once_a_slow_reader_has_read() -> None:
    provider = StreamProvider([*[PIECE] * 400, FOREVER])
    async with streaming_engine(provider), a_model().stream(**ASK, idle_s=5) as stream:
        await stream.__anext__()
        await trio.sleep(100)
        began = trio.current_time()
        got = await read(stream)
        assert (got.error, round(trio.current_time() - began, 2)) == ("OutcomeUnknown", 5)
        assert "idle_s" in str(stream.call.error)
        assert got.text == "x" * 400_000


@in_virtual_time
async def test_a_slow_reader_is_still_bounded_by_the_timeout() -> None:
    provider = StreamProvider([*[PIECE] * 400, END])
    async with streaming_engine(provider), a_model().stream(**ASK, idle_s=5, timeout_s=50) as stream:
        await stream.__anext__()
        await stream.call.wait()
        assert "timeout_s" in str(stream.call.error)
        got = await read(stream)
        assert (got.error, got.status) == ("OutcomeUnknown", "failed")
        assert got.text is not None
        assert len(got.text) >= STREAM_BYTES // 2


@pytest.mark.parametrize("way", ["leave", "cancel", "drop"])
@in_virtual_time
async def test_a_worker_that_waits_for_its_reader_is_let_go_at_once(way: str) -> None:
    provider = StreamProvider([*[PIECE] * 400, END])
    async with streaming_engine(provider) as engine:
        stream = a_model().stream(**ASK)
        call = stream.call
        await stream.__anext__()
        await trio.testing.wait_all_tasks_blocked()
        assert provider.busy == 1
        if way == "leave":
            await stream.aclose()
        elif way == "cancel":
            call.cancel()
        else:
            with pytest.warns(ResourceWarning, match="was dropped before its end"):
                del stream
        began = trio.current_time()
        await engine.wait_quiet()
        assert trio.current_time() == began
        assert (call.status, provider.busy) == ("cancelled", 0)


# --- the buffer ------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_buffer_is_bounded_but_for_one_piece() -> None:
    buffer = StreamBuffer()
    assert not buffer.taken_over
    buffer.put(b"x" * (STREAM_BYTES - 1))
    assert (buffer.full, buffer.taken_over) == (False, True)
    buffer.put(b"y" * 10)
    assert buffer.full
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        assert [len(piece) for piece in buffer.take()] == [STREAM_BYTES - 1, 10]
    assert (buffer.full, buffer.take()) == (False, [])
    buffer.close()
    buffer.put(b"z")
    assert (buffer.take(), buffer.full) == ([], False)


@in_virtual_time
async def test_a_buffer_that_is_closed_holds_nothing_and_wakes_its_reader_alone() -> None:
    buffer = StreamBuffer()
    buffer.put(b"x" * STREAM_BYTES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.wait_room)
        nursery.start_soon(buffer.wait_news)
        await trio.testing.wait_all_tasks_blocked()
        assert (buffer.awaited, buffer.full) == (True, True)
        buffer.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not buffer.awaited
        assert len(nursery.child_tasks) == 1, "the worker would read what nobody wants"
        assert buffer.take() == []  # which also makes room
