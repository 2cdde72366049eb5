"""Everything a server can do wrong at every point of an exchange: one outcome a cell, by every way, never an exception.

Real loopback sockets and a scripted server. Nothing here depends on the clock.
"""

from __future__ import annotations

import gzip
from typing import NamedTuple

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_answers import BIG, CHUNKED, NOT_WHOLE, WHOLE
from scripted_server import OK_BODY, Ear, Peer, calling, response, serve
from worker_ways import HTTPX, OURS, Way, answers_to, connected

from actors.errors import ConnectFailed

# --- phase x fault ---------------------------------------------------------------------------------------------------


async def garbage(peer: Peer) -> None:
    """And then the end, for the script is over."""
    await peer.send(b"\x00\xff garbage \r\n\r\n" * 5)


FAULTS = {"close": Peer.close, "reset": Peer.reset, "garbage": garbage}


class Phase(NamedTuple):
    """What the server has `sent`, None while the request is still coming in; the `status` that is known by then; and
    what a `close` and `garbage` make of it, for where a body has no chunks they may well belong to it."""

    sent: bytes | None
    status: int = 200
    close: str = "unknown"
    garbage: str = "unknown"

    async def reach(self, peer: Peer) -> None:
        if self.sent is None:
            await peer.some()
        else:
            await peer.request()
            await peer.send(self.sent)
        await trio.testing.wait_all_tasks_blocked()

    def told(self, way: Way) -> list[str]:
        return ["begin", "sent"] if self.sent is not None and (way.tells or self.status) else ["begin"]


UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\n"
PHASES = {
    "in the request": Phase(None, 0),
    "before the head": Phase(b"", 0),
    "in the head": Phase(b"HTTP/1.1 200 OK\r\nContent-Le", 0),
    "after the head, a length": Phase(response()[: -len(OK_BODY)], garbage="done"),
    "after the head, chunks": Phase(CHUNKED),
    "after the head, until the end": Phase(UNTIL_END, close="done", garbage="done"),
    "in the body, a length": Phase(response()[:-3], garbage="done"),
    "in a chunk": Phase(CHUNKED + b"12\r\n{"),
    "between chunks": Phase(CHUNKED + b"2\r\n{}\r\n"),
    "in the body, until the end": Phase(UNTIL_END + OK_BODY[:-3], close="done", garbage="done"),
}


@pytest.fixture(params=PHASES)
def phase(request: pytest.FixtureRequest) -> Phase:
    return PHASES[request.param]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_after_the_first_byte_is_one_outcome(way: Way, phase: Phase, fault: str) -> None:
    async def script(peer: Peer) -> None:
        await phase.reach(peer)
        await FAULTS[fault](peer)

    verdict = {"close": phase.close, "reset": "unknown", "garbage": phase.garbage}[fault]
    async with serve(script) as server, connected(way, server) as connection:
        ear = Ear()
        answer = await connection.exchange(calling(BIG if phase.sent is None else b"{}"), ear)
        assert (answer.verdict, answer.charge, answer.reply.status) == (verdict, "kept", phase.status)
        assert ear.told == phase.told(way)
        assert connection.usable() is answer.keep
        if verdict == "unknown" or way is OURS:
            assert not answer.keep
            with pytest.raises(ConnectFailed, match="Nothing was sent"):
                await connection.exchange(calling(), Ear())


async def test_a_stall_ends_when_the_call_is_cancelled(way: Way, phase: Phase) -> None:
    scope = trio.CancelScope()

    async def script(peer: Peer) -> None:
        await phase.reach(peer)
        scope.cancel()
        await peer.gone()

    async with serve(script) as server, connected(way, server) as connection:
        ear = Ear()
        with scope:
            await connection.exchange(calling(BIG if phase.sent is None else b"{}"), ear)
        assert scope.cancelled_caught
        assert ear.told == phase.told(way)
        await server.all_closed()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_between_two_calls_costs_nothing(way: Way, fault: str) -> None:
    spoilt = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response())
        if server.accepted > 1:
            await peer.gone()
        await trio.testing.wait_all_tasks_blocked()
        await FAULTS[fault](peer)
        spoilt.set()
        await peer.gone()

    async with serve(script) as server, connected(way, server) as connection:
        assert (await connection.exchange(calling(), Ear())).keep
        await spoilt.wait()
        ear = Ear()
        if way is OURS:
            assert not connection.usable()
            with pytest.raises(ConnectFailed, match="Nothing was sent"):
                await connection.exchange(calling(), ear)
            assert ear.told == []
        else:  # httpx looks by itself, and opens another
            answer = await connection.exchange(calling(), ear)
            assert (answer.verdict, answer.input_tokens, server.accepted) == ("done", 7, 2)
            assert ear.told == ["begin", "sent"]


async def test_a_refusal_sent_before_the_whole_request_was_read_is_heard(way: Way) -> None:
    """The server answers, ends its side, and goes on reading for a while, as good servers do, but not to the end."""

    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        await peer.send(response(b'{"error": "too large"}', "Connection: close", status="413 Content Too Large"))
        await peer.raw.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        peer.raw.socket.shutdown(trio.socket.SHUT_RD)
        await peer.gone()

    async with serve(script) as server, connected(way, server) as connection:
        answer = await connection.exchange(calling(BIG), Ear())
        assert (answer.verdict, answer.reply.status, connection.usable()) == ("failed", 413, answer.keep)
        assert not answer.keep or not way.tells


# --- what is no answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_WHOLE)
async def test_what_is_no_whole_answer_leaves_the_outcome_unknown(way: Way, name: str) -> None:
    answer, ear = await answers_to(way, NOT_WHOLE[name])
    assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
    fault = answer.reply.fault
    assert fault is not None
    assert (fault.kind, fault.detail, fault.sent) == ("OutcomeUnknown", "closed", True)
    assert "127.0.0.1" in fault.message
    assert "billed" in fault.message
    assert ear.told == (["begin", "sent"] if way.tells or answer.reply.status else ["begin"])


@pytest.mark.parametrize(("status", "verdict"), [("429 Slow", "retry"), ("503 Busy", "retry"), ("400 No", "failed")])
async def test_a_refusal_that_breaks_off_is_judged_by_its_status(way: Way, status: str, verdict: str) -> None:
    answer, _ = await answers_to(way, response(b'{"error": "long story"}', status=status)[:-4])
    assert (answer.verdict, answer.keep, answer.reply.status) == (verdict, False, int(status[:3]))


UNREADABLE = {
    "damaged gzip": ("gzip", b"\x1f\x8b nonsense"),
    "gzip cut short": ("gzip", gzip.compress(OK_BODY)[:-9]),
    "a coding nobody asked for": ("br", b"\x0b\x02\x80{}\x03"),
    "a bomb": ("gzip", gzip.compress(b" " * 3_000_000)),
    "a bomb in a bomb": ("gzip, gzip", gzip.compress(gzip.compress(b" " * 9_000_000))),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_paid_answer_that_cannot_be_decompressed_fails_and_stays_charged(way: Way, name: str) -> None:
    coding, body = UNREADABLE[name]
    raw = response(body, f"Content-Encoding: {coding}")
    answer, _ = await answers_to(way, raw, cap_bytes=1_000_000, close=False)
    assert (answer.verdict, answer.charge, answer.keep) == ("failed", "kept", False)
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == "MalformedReply"
    assert bytes(answer.reply.body) == body


ENDLESS = {
    "length": (b"Content-Length: 5000000", b"x" * 10_000),
    "chunked": (b"Transfer-Encoding: chunked", b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
    "until the end": (b"x-a: b", b"x" * 10_000),
}


@pytest.mark.parametrize("framing", ENDLESS)
async def test_an_answer_over_the_cap_is_dropped_and_not_tried_again(way: Way, framing: str) -> None:
    header, part = ENDLESS[framing]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n")
        for _ in range(500):
            await peer.send(part)

    async with serve(script) as server, connected(way, server, cap_bytes=100_000) as connection:
        answer = await connection.exchange(calling(), Ear())
        assert (answer.verdict, answer.charge, answer.keep) == ("failed", "kept", False)
        assert answer.reply.fault is not None
        assert (answer.reply.fault.kind, answer.reply.fault.status) == ("OutcomeUnknown", 200)
        await server.all_closed()


# --- any bytes -------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(raw for raw, _ in WHOLE.values()),
        *(raw for raw in NOT_WHOLE.values() if len(raw) < 1000),
        *(phase.sent for phase in PHASES.values() if phase.sent),
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


@pytest.mark.parametrize("way", [OURS, HTTPX], ids=["our wire", "httpx"])
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=8))
def test_any_bytes_at_all_give_an_answer(way: Way, parts: list[bytes]) -> None:
    async def main() -> None:
        answer, ear = await answers_to(way, *parts)
        assert answer.verdict in ("done", "failed", "retry", "unknown")
        assert ear.told == ["begin", "sent"]
        assert answer.verdict == "done" or answer.reply.fault is not None

    trio.run(main)
