"""Servers that do not wait for the whole of a large request: they refuse it, answer it, leave, or send nonsense.

Real loopback sockets, plain and TLS. The request is larger than the buffers between the two ends hold, so that it is
still being written when the server acts, and what the server does not read is never sent. Nothing depends on the clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from raw_answers import BIG
from scripted_server import OK_BODY, Ear, Peer, Script, Server, calling, open_sockets, response, serve, transport

from actors.transport import Answer
from engine.transports.http import HttpConnection

REFUSAL = response(b'{"error": "too large"}', "X-Why: size", status="413 Content Too Large")
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nX-Why: none\r\n\r\n"
SAFE = {"plain": False, "tls": True}

pytestmark = pytest.mark.parametrize("tls", SAFE.values(), ids=SAFE.keys())


@asynccontextmanager
async def connected(script: Script, tls: bool, **options: object) -> AsyncIterator[tuple[HttpConnection, Server]]:
    """A connection to a server that runs `script` once the TLS handshake is over; no socket is left afterwards."""

    async def begin(peer: Peer) -> None:
        if tls:
            await peer.stream.do_handshake()
        await script(peer)

    before = open_sockets()
    async with serve(begin, tls=server_tls() if tls else None) as server:
        built = transport(secure(server.url) if tls else server.url, ssl_context=client_tls(), **options)
        connection = await built.connect()
        with trio.fail_after(30):  # instead of waiting for ever for a server that does not read
            yield connection, server
            await connection.aclose()
    assert open_sockets() == before


async def exchanged(script: Script, tls: bool, **options: object) -> tuple[Answer, Ear]:
    """What comes of a large call; the connection must be closed at once, because a part of it is on the way."""
    async with connected(script, tls, **options) as (connection, _):
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert not answer.keep
        assert "closed" in repr(connection)
        return answer, ear


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [INTERIM], [HINTS, INTERIM]], ids=["at once", "after 100", "after two interim"])
async def test_a_refusal_is_heard_though_the_server_reads_no_more(before: list[bytes], tls: bool) -> None:
    """The connection stays open and its answer says keep-alive: but half a request is on it."""
    heard = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.some()
        for raw in [*before, REFUSAL]:
            await peer.send(raw)
            await trio.testing.wait_all_tasks_blocked()
        await heard.wait()

    async with connected(script, tls) as (connection, server):
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert (answer.verdict, answer.charge, answer.keep, answer.reply.status) == (
            ("failed", "requests_kept", False, 413)
        )
        assert answer.reply.fault is not None
        assert answer.reply.fault.message == "too large"
        assert answer.reply.headers == (("x-why", "size"),)
        assert ear.told == ["begin"]
        assert "closed" in repr(connection)
        assert server.open == 1
        heard.set()


async def test_a_refusal_is_read_to_its_end_after_the_writing_has_stopped(tls: bool) -> None:
    heard = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.some()
        for cut in range(0, len(REFUSAL), 30):
            await peer.send(REFUSAL[cut : cut + 30])
            await trio.testing.wait_all_tasks_blocked()
        await heard.wait()

    async with connected(script, tls) as (connection, _):
        answer = await connection.exchange(calling(BIG), Ear())
        assert (answer.reply.status, answer.keep, bytes(answer.reply.body)) == (413, False, b'{"error": "too large"}')
        heard.set()


@pytest.mark.parametrize("way", [Peer.close, Peer.reset])
async def test_a_refusal_counts_though_the_server_leaves_in_the_middle_of_the_request(way: Script, tls: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.some()
        await peer.send(REFUSAL)
        await trio.testing.wait_all_tasks_blocked()
        await way(peer)

    answer, ear = await exchanged(script, tls)
    assert (answer.verdict, answer.reply.status) == ("failed", 413)
    assert ear.told == ["begin"]


@pytest.mark.parametrize("way", [Peer.close, Peer.reset])
@pytest.mark.parametrize("last", [b"", INTERIM, b"HTTP/1.1 413 Too"], ids=["nothing", "interim", "half a line"])
async def test_a_server_that_leaves_in_the_middle_of_the_request_leaves_it_unknown(
    way: Script, last: bytes, tls: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.some()
        if last:
            await peer.send(last)
            await trio.testing.wait_all_tasks_blocked()
        await way(peer)

    answer, ear = await exchanged(script, tls)
    assert (answer.verdict, answer.charge, answer.reply.status) == ("unknown", "kept", 0)
    assert answer.reply.fault is not None
    assert answer.reply.fault.kind == "OutcomeUnknown"
    assert ear.told == ["begin"]


# --- answered --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", INTERIM], ids=["at once", "after 100"])
async def test_a_server_may_begin_to_answer_and_go_on_reading(before: bytes, tls: bool) -> None:
    """It sends its headers first and the rest when it has everything: whoever stopped writing would wait for ever."""
    answered = before + response()

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.some()
            await peer.send(answered[:-9])
            await trio.testing.wait_all_tasks_blocked()
            assert (await peer.request() or b"").endswith(BIG)
            await peer.send(answered[-9:])
        await peer.gone()

    async with connected(script, tls) as (connection, server):
        for _ in range(2):
            ear = Ear()
            answer = await connection.exchange(calling(BIG), ear)
            assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, True)
            assert ear.told == ["begin", "sent"]
        assert server.accepted == 1


async def test_a_whole_answer_to_half_a_request_is_an_answer(tls: bool) -> None:
    heard = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.some()
        await peer.send(response())
        await heard.wait()

    async with connected(script, tls) as (connection, _):
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert (answer.verdict, answer.charge, answer.input_tokens, answer.keep) == ("done", "usage", 7, False)
        assert bytes(answer.reply.body) == OK_BODY
        assert ear.told == ["begin"]
        assert "closed" in repr(connection)
        heard.set()


# --- nonsense --------------------------------------------------------------------------------------------------------

NONSENSE = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "unknown"),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 40_000, "unknown"),
    "endless interim responses": (INTERIM * 20_000, "unknown"),
    "a body over the cap": (response(b"x" * 200_000), "failed"),
    "a refusal over the cap": (response(b"x" * 200_000, status="503 Busy"), "retry"),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_in_the_middle_of_the_request_ends_the_writing(name: str, tls: bool) -> None:
    raw, verdict = NONSENSE[name]

    async def script(peer: Peer) -> None:
        await peer.some()
        await peer.send(raw)
        await trio.sleep_forever()

    async with connected(script, tls, cap_bytes=100_000) as (connection, _):
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert (answer.verdict, answer.keep) == (verdict, False)
        assert ear.told == ["begin"]
        assert "closed" in repr(connection)


async def test_bytes_that_are_no_tls_end_the_writing(tls: bool) -> None:
    """The alert that TLS wants to send about them would come into the middle of a record that is half sent."""

    async def script(peer: Peer) -> None:
        await peer.some()
        await peer.raw.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32 if tls else b"\x00" * 40)
        await trio.sleep_forever()

    async with connected(script, tls) as (connection, _):
        ear = Ear()
        answer = await connection.exchange(calling(BIG), ear)
        assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
        assert ear.told == ["begin"]


# --- given up on this side -------------------------------------------------------------------------------------------

SAID = {"nothing": b"", "interim": HINTS, "half a head": REFUSAL[:20], "half a refusal": REFUSAL[:-3],
        "half an answer": response()[:-3]}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_giving_up_in_the_middle_of_the_request_leaves_no_socket(how: str, said: str, tls: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.some()
        if SAID[said]:
            await peer.send(SAID[said])
        await trio.sleep_forever()

    ear = Ear()
    answers: list[Answer] = []
    async with connected(script, tls) as (connection, _):

        async def call() -> None:
            answers.append(await connection.exchange(calling(BIG), ear))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked(0.01)
            if how == "cancelled":
                nursery.cancel_scope.cancel()
            else:
                await connection.aclose()
        assert ear.told == ["begin"]
        assert "closed" in repr(connection)
        assert [answer.verdict for answer in answers] == (
            [] if how == "cancelled" else ["failed" if said == "half a refusal" else "unknown"]
        )


@pytest.mark.parametrize("way", [Peer.close, Peer.reset])
async def test_an_answer_that_runs_ahead_and_then_breaks_ends_the_exchange(way: Script, tls: bool) -> None:
    """More than is held ahead has come when the server leaves, and nobody listens any more.

    Hardly more: what is left over has to fit into the buffers in between, or the server would wait for us.
    """
    ahead = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"y" * 1_060_000

    async def script(peer: Peer) -> None:
        await peer.some()
        await peer.send(ahead)
        await trio.testing.wait_all_tasks_blocked()
        await way(peer)

    answer, ear = await exchanged(script, tls)
    assert (answer.verdict, ear.told) == ("unknown", ["begin"])
