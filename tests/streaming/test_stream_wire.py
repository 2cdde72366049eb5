"""Streams over real sockets, by both ways of a worker: cut anywhere, in every framing; slow readers; breaks; the end.

Where a test waits for a time, that is virtual.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import CancelAt, Peer, eventually
from stream_bodies import (
    ASK,
    DONE,
    END,
    FINISH,
    KEY,
    USED,
    Read,
    answer,
    at_rest,
    delta,
    fixture,
    read,
    shown,
    sse,
    text,
)
from stream_server import (
    CHUNKED,
    FRAMINGS,
    HTTPS,
    LAST_CHUNK,
    UNTIL_END,
    Http,
    answering,
    chunks,
    cut,
    head,
    model_at,
    send_apart,
    wire_engine,
)
from trio.testing import MockClock

from actors.slots import STREAM_BYTES
from engine import OutcomeUnknown, iModel
from engine.call import Usage
from engine.sse import EventReader

STREAMS = {
    "openai": "openai_chat/stream.sse",
    "openai tools": "openai_chat/stream_tool_calls.sse",
    "openai error": "openai_chat/stream_error_in_200.sse",
    "gemini": "gemini_chat/stream.sse",
    "groq": "groq_chat/stream.sse",
    "groq error": "groq_chat/stream_error.sse",
    "deepseek": "deepseek_chat/stream.sse",
    "perplexity": "perplexity_chat/stream.sse",
    "openrouter": "openrouter_chat/stream.sse",
    "openrouter error": "openrouter_chat/stream_error_in_200.sse",
    "mine": "openai_chat/stream.sse",
}


@pytest.fixture(params=HTTPS)
def http(request: pytest.FixtureRequest) -> Http:
    return request.param


class Expected(NamedTuple):
    """What a recorded stream is to give, put together without any shell."""

    body: bytes
    chunks: list[tuple[object, ...]]
    response: object

    def check(self, got: Read) -> None:
        assert got.chunks == self.chunks
        assert got.response == self.response
        failed = any(chunk[0] == "error" for chunk in self.chunks)
        assert (got.status, bool(got.error)) == (("failed", True) if failed else ("completed", False))
        assert got.text == "".join(str(said) for kind, said, *_ in self.chunks if kind == "text") or got.tools


def expected(name: str) -> Expected:
    body = fixture(STREAMS[name])
    wire = iModel(provider=name.split()[0], base_url="http://mine.example", model="m", api_key=KEY).format
    reader, assembler = EventReader(cap_bytes=1 << 20), wire.assembler()  # type: ignore[attr-defined]  # it streams
    found = [chunk for event in [*reader.feed(body), *reader.end()] for chunk in assembler.feed(event)]
    return Expected(body, [shown(chunk) for chunk in found + assembler.end()], assembler.response())


async def check_cuts(http: Http, name: str, framing: str, cuts: Iterator[list[int]]) -> None:
    """One stream for each list of places at which the response is cut."""
    wanted = expected(name)
    raw = FRAMINGS[framing](wanted.body)
    plans = [cut(raw, places) for places in cuts]
    pending = iter(plans)

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await send_apart(peer, next(pending))
            if framing == "until the end":
                return

    async with wire_engine(http, script) as (_, server):
        model = model_at(server, name.split()[0])
        usages = set()
        for _ in plans:
            got = await read(model.stream(**ASK))
            wanted.check(got)
            usages.add(got.usage)
        assert len(usages) == 1
        assert framing == "until the end" or server.accepted <= 2, "a connection is used again after a stream"


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", STREAMS)
async def test_a_recorded_stream_gives_the_same_at_any_single_cut(http: Http, name: str, framing: str) -> None:
    size = len(FRAMINGS[framing](fixture(STREAMS[name])))
    few = [[], *[[place] for place in range(1, size, max(1, size // 25))]]
    await check_cuts(http, name, framing, iter(few))


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["openai", "openai tools", "groq error", "perplexity", "mine"])
async def test_a_recorded_stream_gives_the_same_byte_by_byte(http: Http, name: str, framing: str) -> None:
    size = len(FRAMINGS[framing](fixture(STREAMS[name])))
    await check_cuts(http, name, framing, iter([list(range(size))]))


@pytest.mark.parametrize("http", HTTPS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_recorded_stream_gives_the_same_at_any_cuts(http: Http, data: st.DataObject) -> None:
    name, framing = data.draw(st.sampled_from(list(STREAMS))), data.draw(st.sampled_from(list(FRAMINGS)))
    places = data.draw(st.lists(st.integers(1, 4000), max_size=30))
    trio.run(check_cuts, http, name, framing, iter([places]))


# --- the end of a stream ---------------------------------------------------------------------------------------------


async def test_what_follows_a_finish_in_packets_of_its_own_is_read(http: Http) -> None:
    """A provider who promises no terminator may send one, and the usage before it."""
    parts = [CHUNKED + chunks(text("a")), chunks(FINISH), chunks(USED), chunks(DONE), LAST_CHUNK]
    async with wire_engine(http, answering(*parts)) as (_, server):
        for _ in range(2):
            got = await read(model_at(server, "mine").stream(**ASK))
            assert (got.error, got.text, got.usage) == ("", "a", Usage(3, 4, 7))
            assert [kind for kind, *_ in got.chunks].count("result") == 1
        assert server.accepted == 1


async def test_choices_that_end_one_after_the_other_are_all_read(http: Http, autojump_clock: MockClock) -> None:
    events = [delta(0, content="a"), delta(1, content="x"), delta(0, "stop"), delta(1, content="y"), delta(1, "stop")]

    async def script(peer: Peer) -> None:
        await peer.request()
        await send_apart(peer, [CHUNKED, *[chunks(sse(event)) for event in events[:3]]])
        await trio.sleep(30)  # a choice that has ended says nothing of the others
        await send_apart(peer, [*[chunks(sse(event)) for event in events[3:]], LAST_CHUNK])

    async with wire_engine(http, script) as (_, server):
        got = await read(model_at(server, "mine").stream(**ASK, n=2))
        assert [choice["message"]["content"] for choice in got.response["choices"]] == ["a", "xy"]  # type: ignore[index]


@pytest.mark.parametrize("more", [b"", b": bye\n\n", b"data: {"])
async def test_a_response_that_does_not_end_after_its_stream_is_given_up(
    http: Http, more: bytes, autojump_clock: MockClock
) -> None:
    parts = [CHUNKED + chunks(text("a") + END + more)]
    async with wire_engine(http, answering(*parts, wait=True)) as (_, server):
        got = await read(model_at(server).stream(**ASK))
        assert (got.error, got.text, got.usage) == ("", "a", Usage(3, 4, 7))
        await eventually(lambda: server.open <= 1)
        assert (await read(model_at(server).stream(**ASK))).text == "a"
        assert server.accepted >= 2, "a connection in the middle of a response is not used again"


async def test_a_connection_that_breaks_after_the_terminator_costs_nothing(http: Http) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await send_apart(peer, [CHUNKED + chunks(text("a") + END)])
        await peer.reset()

    async with wire_engine(http, script) as (_, server):
        got = await read(model_at(server).stream(**ASK))
        assert (got.error, got.text, got.status) == ("", "a", "completed")


async def no_chunk(peer: Peer) -> None:
    await peer.send(b"zz\r\n")
    await peer.gone()


BREAKS = {
    "ends, chunked": (CHUNKED + chunks(text("a") + text("b")), Peer.close),
    "ends, until the end": (UNTIL_END + text("a") + text("b"), Peer.close),
    "ends with a last chunk": (CHUNKED + chunks(text("a") + text("b")) + LAST_CHUNK, Peer.gone),
    "ends within its length": (head("Content-Length: 5000") + text("a") + text("b"), Peer.close),
    "resets": (CHUNKED + chunks(text("a") + text("b")), Peer.reset),
    "goes on with what is no chunk": (CHUNKED + chunks(text("a") + text("b")), no_chunk),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_connection_that_breaks_leaves_what_came(http: Http, name: str) -> None:
    raw, end = BREAKS[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        await send_apart(peer, [raw])
        await end(peer)

    async with wire_engine(http, script) as (_, server):
        stream = model_at(server, on_unknown="retry").stream(**ASK)
        got = await read(stream)
        assert (got.error, got.status, got.text, stream.call.attempts) == ("Truncated", "failed", "ab", 1)


async def test_no_byte_of_a_body_is_truncated_by_either_way(http: Http) -> None:
    async with wire_engine(http, answering(CHUNKED, LAST_CHUNK)) as (_, server):
        assert (await read(model_at(server).stream(**ASK))).error == "Truncated"


@pytest.mark.parametrize("headers", [("Content-Type: application/json",), ("X-A: b",)])
async def test_an_answer_in_one_piece_is_read_by_either_way(http: Http, headers: tuple[str, ...]) -> None:
    body = answer("whole")
    raw = head(*headers, f"Content-Length: {len(body)}") + body
    async with wire_engine(http, answering(raw[:80], raw[80:])) as (_, server):
        got = await read(model_at(server).stream(**ASK))
        assert [chunk[:2] for chunk in got.chunks] == [("text", "whole"), ("result", None)]
        assert (got.error, got.text, got.usage) == ("", "whole", Usage(3, 4, 7))


# --- a slow reader ---------------------------------------------------------------------------------------------------

WORD = "w" * 4000
MANY = 8000


async def test_a_reader_who_stops_fills_the_socket_and_nothing_else(http: Http, autojump_clock: MockClock) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(CHUNKED)
        for number in range(MANY):
            await peer.send(chunks(text(f"{number:05d}{WORD}"), 1 << 20))
            sent = number + 1
        await peer.send(chunks(END) + LAST_CHUNK)

    async def stalled() -> None:
        """Until the server cannot write any more."""
        before = -1
        while before != sent:
            before = sent
            for _ in range(50):
                await trio.testing.wait_all_tasks_blocked()

    async with wire_engine(http, script) as (engine, server):
        # Nothing may be heard for so long: he is slow, the provider is not.
        async with model_at(server).stream(**ASK, idle_s=5, first_byte_s=5) as stream:
            first = str(await stream.__anext__())
            await stalled()
            assert sent < MANY, "the whole stream was taken in"
            buffer = stream._source._buffer
            assert STREAM_BYTES <= buffer._bytes <= 2 * STREAM_BYTES + 65_536 * 2
            await trio.sleep(100)
            assert stream.call.status == "calling"
            got = [first]
            async for chunk in stream:
                if str(chunk):
                    got.append(str(chunk))  # noqa: PERF401  # it reads better so
        assert got == [f"{number:05d}{WORD}" for number in range(MANY)]
        assert stream.call.status == "completed"
        at_rest(engine)


# --- leaving ---------------------------------------------------------------------------------------------------------


def open_stream() -> bytes:
    return CHUNKED + chunks(text("a"))


@pytest.mark.parametrize("way", ["leave", "cancel", "call", "drain"])
async def test_leaving_closes_the_connection(http: Http, way: str) -> None:
    left = trio.Event()

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await send_apart(peer, [open_stream()])
            await peer.gone()
            left.set()

    async with wire_engine(http, script) as (engine, server):
        stream = model_at(server).stream(**ASK)
        with trio.CancelScope() as scope, contextlib.suppress(Exception):
            async with stream:
                async for chunk in stream:
                    assert str(chunk) == "a"
                    if way == "leave":
                        break
                    if way == "cancel":
                        scope.cancel()
                    if way == "call":
                        stream.call.cancel()
                    if way == "drain":
                        await engine.drain(queue="discard", deadline_s=0)
        with trio.fail_after(10):
            await left.wait()
            await engine.wait_quiet()
        assert stream.call.status == ("failed" if way == "drain" else "cancelled")
        at_rest(engine)


async def test_a_reader_cancelled_at_any_of_his_steps_leaves_no_socket(http: Http) -> None:
    parts = [CHUNKED + chunks(text("a")), chunks(text("b")), chunks(END), LAST_CHUNK]
    cancelled = 0
    for step in range(1, 200):
        async with wire_engine(http, answering(*parts)) as (engine, server):
            stream = model_at(server).stream(**ASK)
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    got = await read(stream)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
                assert got.text == "ab"
            await engine.wait_quiet()
            at_rest(engine)
        cancelled += scope.cancelled_caught
        if not scope.cancel_called:
            break
    assert cancelled >= 3


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [b"", CHUNKED, CHUNKED + chunks(text("a"))])
async def test_the_bounds_strike_over_a_socket(http: Http, after: bytes, autojump_clock: MockClock) -> None:
    bound = "idle_s" if text("a") in after or b"data" in after else "first_byte_s"
    async with wire_engine(http, answering(after, wait=True)) as (_, server):
        stream = model_at(server).stream(**ASK, first_byte_s=5, idle_s=5)
        got = await read(stream)
        assert isinstance(stream.call.error, OutcomeUnknown)
        assert bound in str(stream.call.error)
        assert got.text == ("a" if bound == "idle_s" else None)
