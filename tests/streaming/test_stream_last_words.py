"""The last things a stream says: what comes with a break, behind the terminator, or after its reader has left.

An answer that is all there is not lost because its connection ends badly, late or not at all; by either way.
"""

from __future__ import annotations

import pytest
import trio
from scripted_server import Peer
from stream_bodies import ASK, END, USED, at_rest, read, text
from stream_server import CHUNKED, HTTPS, Http, answering, chunks, head, model_at, send_apart, wire_engine
from trio.testing import MockClock

from engine.call import Usage

WHOLE = text("a") + text("b") + END
HELD = CHUNKED + chunks(WHOLE)
"""Whole, but for the chunk that says so."""


@pytest.fixture(params=HTTPS)
def http(request: pytest.FixtureRequest) -> Http:
    return request.param


@pytest.mark.parametrize("bound", [{"idle_s": 0.3}, {"timeout_s": 0.6}])
async def test_a_bound_that_passes_after_the_terminator_costs_nothing(
    http: Http, bound: dict[str, float], autojump_clock: MockClock
) -> None:
    async with wire_engine(http, answering(HELD, wait=True)) as (engine, server):
        got = await read(model_at(server).stream(**ASK, **bound))
        assert (got.error, got.text, got.usage) == ("", "ab", Usage(3, 4, 7))
        call = await model_at(server).invoke(**ASK, **bound, stream=True)
        assert (call.status, call.text, call.usage) == ("completed", "ab", Usage(3, 4, 7))
        at_rest(engine)


async def test_who_leaves_at_the_last_chunk_has_the_answer(http: Http, autojump_clock: MockClock) -> None:
    async with wire_engine(http, answering(HELD, wait=True)) as (engine, server):
        async with model_at(server).stream(**ASK) as stream:
            async for chunk in stream:
                if chunk.type == "result":
                    break
        assert (stream.call.status, stream.call.text, stream.call.usage) == ("completed", "ab", Usage(3, 4, 7))
        at_rest(engine)


@pytest.mark.parametrize("together", [True, False])
async def test_what_comes_with_a_break_is_read_however_it_was_cut(http: Http, together: bool) -> None:
    parts = [HELD, b"zz\r\n"]

    async def script(peer: Peer) -> None:
        await peer.request()
        await send_apart(peer, [b"".join(parts)] if together else parts)
        await peer.gone()

    async with wire_engine(http, script) as (engine, server):
        got = await read(model_at(server).stream(**ASK))
        assert (got.error, got.text, got.usage) == ("", "ab", Usage(3, 4, 7))
        at_rest(engine)


@pytest.mark.parametrize(
    ("last", "error", "said"),
    [(WHOLE[:-1], "", "ab"), (WHOLE[:-4], "Truncated", "ab"), (text("a") + text("b")[:-9] + b"\n", "Truncated", "a")],
    ids=["terminator without its blank line", "half a terminator", "half an event"],
)
async def test_the_last_event_counts_if_it_is_whole(http: Http, last: bytes, error: str, said: str) -> None:
    async with wire_engine(http, answering(CHUNKED + chunks(last), close=True)) as (engine, server):
        got = await read(model_at(server).stream(**ASK))
        assert (got.error, got.text) == (error, said)
        at_rest(engine)


async def test_json_lines_are_collected_as_they_are_read(http: Http) -> None:
    lines = b"".join(event.removeprefix(b"data: ") + b"\n" for event in WHOLE.split(b"\n\n") if b"{" in event)
    raw = head("Content-Type: application/x-ndjson", f"Content-Length: {len(lines)}") + lines
    async with wire_engine(http, answering(raw)) as (_, server):
        assert (await read(model_at(server, "mine").stream(**ASK))).text == "ab"
        call = await model_at(server, "mine").invoke(**ASK, stream=True)
        assert (call.status, call.text, call.usage) == ("completed", "ab", Usage(3, 4, 7))


async def test_a_reader_whose_time_is_up_keeps_what_he_has_read(http: Http, autojump_clock: MockClock) -> None:
    async with wire_engine(http, answering(CHUNKED + chunks(text("a") + USED), wait=True)) as (engine, server):
        with trio.move_on_after(0.3) as scope:
            async with model_at(server).stream(**ASK) as stream:
                async for _ in stream:
                    pass
        assert scope.cancelled_caught
        call = await stream.call.wait()
        assert (call.status, call.text) == ("cancelled", "a")
        at_rest(engine)
