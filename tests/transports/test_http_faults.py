"""Everything a server can do wrong at every point of an exchange: one outcome a cell, and never an exception.

Real loopback sockets and a scripted server. Nothing here depends on the clock.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_answers import BIG, CHUNKED, NOT_WHOLE, WHOLE, answers_to
from scripted_server import OK_BODY, Ear, Peer, calling, eventually, response, serve, transport

from actors.errors import ConnectFailed


@pytest.mark.parametrize("name", NOT_WHOLE)
async def test_what_is_no_whole_answer_leaves_the_outcome_unknown(name: str) -> None:
    answer, ear = await answers_to(NOT_WHOLE[name])
    assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
    fault = answer.reply.fault
    assert fault is not None
    assert (fault.kind, fault.detail, fault.sent) == ("OutcomeUnknown", "closed", True)
    assert "127.0.0.1" in fault.message
    assert "billed" in fault.message
    assert ear.heard == ["begin", "sent"]


@pytest.mark.parametrize(("status", "verdict"), [("429 Slow", "retry"), ("503 Busy", "retry"), ("400 No", "failed")])
async def test_a_refusal_that_breaks_off_is_judged_by_its_status(status: str, verdict: str) -> None:
    answer, _ = await answers_to(response(b'{"error": "long story"}', status=status)[:-4])
    assert (answer.verdict, answer.keep, answer.reply.status) == (verdict, False, int(status[:3]))


UNREADABLE = {
    "damaged gzip": ("gzip", b"\x1f\x8b nonsense"),
    "gzip cut short": ("gzip", gzip.compress(OK_BODY)[:-9]),
    "a coding nobody asked for": ("br", b"\x0b\x02\x80{}\x03"),
    "a bomb": ("gzip", gzip.compress(b" " * 3_000_000)),
    "a bomb in a bomb": ("gzip, gzip", gzip.compress(gzip.compress(b" " * 9_000_000))),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_paid_answer_that_cannot_be_decompressed_fails_and_stays_charged(name: str) -> None:
    coding, body = UNREADABLE[name]
    answer, _ = await answers_to(response(body, f"Content-Encoding: {coding}"), cap_bytes=1_000_000, close=False)
    assert (answer.verdict, answer.charge, answer.keep) == ("failed", "kept", False)
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == "MalformedReply"
    assert bytes(answer.reply.body) == body


@pytest.mark.parametrize("framing", ["length", "chunked", "endless"])
async def test_an_answer_over_the_cap_is_dropped_and_not_tried_again(framing: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        head = {"length": b"Content-Length: 5000000", "chunked": b"Transfer-Encoding: chunked", "endless": b"x-a: b"}
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n\r\n")
        for _ in range(500):
            await peer.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n" if framing == "chunked" else b"x" * 10_000)

    async with serve(script) as server:
        connection = await transport(server.url, cap_bytes=100_000).connect()
        answer = await connection.exchange(calling(), Ear())
        assert (answer.verdict, answer.charge, answer.keep) == ("failed", "kept", False)
        assert answer.reply.fault is not None
        assert (answer.reply.fault.kind, answer.reply.fault.status) == ("OutcomeUnknown", 200)
        await server.all_closed()
        await connection.aclose()


# --- phase x way -----------------------------------------------------------------------------------------------------

End = Callable[[Peer], object]
ENDS = {"close": Peer.close, "reset": Peer.reset}
PHASES = {
    "request read": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "before the body": response()[: -len(OK_BODY)],
    "in the body": response()[:-3],
    "in a chunk": CHUNKED + b"12\r\n{",
}


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("how", ["end", "unasked bytes then end"])
async def test_a_connection_that_ends_before_the_request_costs_nothing(way: str, how: str) -> None:
    go, ended = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await go.wait()
        if how != "end":
            await peer.send(response())
        await ENDS[way](peer)
        ended.set()

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        assert connection.usable()
        go.set()
        await ended.wait()
        await eventually(lambda: not connection.usable())
        ear = Ear()
        with pytest.raises(ConnectFailed, match="Nothing was sent"):
            await connection.exchange(calling(), ear)
        assert ear.heard == []
        await connection.aclose()


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_connection_that_ends_after_the_request_leaves_the_outcome_unknown(phase: str, way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(PHASES[phase])
        await trio.testing.wait_all_tasks_blocked()
        await ENDS[way](peer)

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        ear = Ear()
        answer = await connection.exchange(calling(), ear)
        assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
        assert answer.reply.status == (200 if "body" in phase or "chunk" in phase else 0)
        assert ear.heard == ["begin", "sent"]
        assert not connection.usable()
        with pytest.raises(ConnectFailed):
            await connection.exchange(calling(), Ear())
        await connection.aclose()


@pytest.mark.parametrize("way", ENDS)
async def test_a_connection_that_ends_within_the_request_is_never_reported_sent(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        await ENDS[way](peer)

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert (answer.verdict, answer.keep) == ("unknown", False)
        assert ear.heard == ["begin"]
        await connection.aclose()


async def test_a_refusal_sent_before_the_whole_request_was_read_is_heard() -> None:
    """The server answers, ends its side, and goes on reading for a while, as good servers do, but not to the end."""

    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        await peer.send(response(b'{"error": "too large"}', "Connection: close", status="413 Content Too Large"))
        await peer.raw.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        peer.raw.socket.shutdown(trio.socket.SHUT_RD)
        await peer.gone()

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        answer = await connection.exchange(calling(BIG), Ear())
        assert (answer.verdict, answer.reply.status, answer.keep) == ("failed", 413, False)
        await connection.aclose()


@pytest.mark.parametrize("way", ENDS)
async def test_a_connection_that_ends_after_the_answer_is_seen_before_the_next_call(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response())
        await trio.testing.wait_all_tasks_blocked()
        await ENDS[way](peer)

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        answer = await connection.exchange(calling(), Ear())
        assert answer.verdict == "done"
        await eventually(lambda: not connection.usable())
        await connection.aclose()


# --- any bytes -------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(raw for raw, _ in WHOLE.values()),
        *(raw for raw in NOT_WHOLE.values() if len(raw) < 1000),
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 429 \r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: " + b"9" * 30 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Type: text/html; charset=\xff\r\n",
        b"Location: //[\r\n",
        b"\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\n",
        b"0\r\n\r\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=8))
def test_any_bytes_at_all_give_an_answer(parts: list[bytes]) -> None:
    async def main() -> None:
        answer, ear = await answers_to(*parts)
        assert answer.verdict in ("done", "failed", "retry", "unknown")
        assert ear.heard == ["begin", "sent"]
        assert answer.verdict == "done" or answer.reply.fault is not None

    trio.run(main)
