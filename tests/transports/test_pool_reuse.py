"""What becomes of the connections of a `PooledTransport`: used again, aged, replaced, given up; none is ever lost.

Real loopback sockets. Every test ends with no connection busy, and with none open once the transport is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from h11_server import Asked, Reply, head, http
from raw_answers import BIG, CHUNKED
from scripted_server import CancelAt, Peer, eventually, open_sockets, response, serve

from engine.transports.pool import PooledTransport


@asynccontextmanager
async def pooled(idle_s: float = 60) -> AsyncIterator[tuple[httpx.AsyncClient, PooledTransport]]:
    """A client over ours; afterwards nothing is busy, idle or open."""
    transport = PooledTransport(ssl_context=client_tls(), idle_s=idle_s)
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        yield client, transport
        assert transport.statistics().busy == 0
    assert (transport.statistics().idle, transport.statistics().busy) == (0, 0)


def counts(transport: PooledTransport) -> tuple[int, int, int, int]:
    now = transport.statistics()
    return now.idle, now.busy, now.opened, now.reused


async def answer_heads(peer: Peer) -> None:
    while await head(peer):
        await peer.send(response(b"x"))


async def test_the_connection_used_last_is_used_next() -> None:
    served: list[Peer] = []

    def handler(asked: Asked) -> Reply:
        served.append(asked.peer)
        return Reply(body=b"x")

    async with serve(http(handler)) as server, pooled() as (client, transport):
        for order in ([0, 1, 2], [2, 0, 1]):
            streams = [await client.send(client.build_request("GET", server.url), stream=True) for _ in range(3)]
            for index in order:
                await streams[index].aread()
        last = served[-3:][1]
        assert counts(transport) == (3, 0, 3, 3)
        await client.get(server.url)
        assert served[-1] is last
        assert counts(transport) == (3, 0, 3, 4)


async def test_a_connection_idle_for_too_long_is_replaced(autojump_clock: trio.testing.MockClock) -> None:
    async with serve(answer_heads) as server, pooled(idle_s=10) as (client, transport):
        await client.get(server.url)
        await trio.sleep(9.5)
        await client.get(server.url)
        assert counts(transport) == (1, 0, 1, 1)
        await trio.sleep(10.5)
        await client.get(server.url)
        assert counts(transport) == (1, 0, 2, 1)
        await eventually(lambda: server.open == 1)


async def test_age_counts_between_two_sweeps_too(autojump_clock: trio.testing.MockClock) -> None:
    async with serve(answer_heads) as first, serve(answer_heads) as second, pooled(idle_s=10) as (client, transport):
        await client.get(first.url)
        await trio.sleep(9.5)
        await client.get(second.url)
        await trio.sleep(1)
        await client.get(first.url)
        assert counts(transport) == (2, 0, 3, 0)


async def test_idle_connections_to_places_nobody_asks_any_more_are_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serve(answer_heads) as first, serve(answer_heads) as second, pooled(idle_s=10) as (client, transport):
        await client.get(first.url)
        for _ in range(4):
            await trio.sleep(4)
            await client.get(second.url)
        assert counts(transport) == (1, 0, 2, 3)
        await first.all_closed()


async def test_origins_are_kept_apart() -> None:
    async with serve(answer_heads) as first, serve(answer_heads) as second, pooled() as (client, transport):
        for server in (first, second, first, second):
            await client.get(server.url)
        assert counts(transport) == (2, 0, 2, 2)


async def test_bytes_behind_an_answer_are_not_taken_for_the_next() -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(response(b"x") + response(b"y"))
        await peer.gone()

    async with serve(script) as server, pooled() as (client, transport):
        for number in range(1, 3):
            assert (await client.get(server.url)).text == "x"
            assert counts(transport) == (0, 0, number, 0)
        await server.all_closed()


async def test_a_connection_serves_only_the_name_its_certificate_was_checked_for() -> None:
    """And one without TLS, which checks none, serves them all."""
    named = {"sni_hostname": "api.example"}
    async with serve(answer_heads, tls=server_tls("api.example")) as server, pooled() as (client, transport):
        for number in range(3):
            assert (await client.get(secure(server.url), extensions=named)).text == "x"
            for asking in ({}, {"sni_hostname": "other.example"}):
                with pytest.raises(httpx.ConnectError, match="not valid for"):
                    await client.get(secure(server.url), extensions=asking)
            assert counts(transport) == (1, 0, 1, number)
    async with serve(answer_heads, tls=server_tls()) as server, pooled() as (client, transport):
        for asking in ({}, {"sni_hostname": None}, {"sni_hostname": "127.0.0.1"}):
            await client.get(secure(server.url), extensions=asking)
        assert counts(transport) == (1, 0, 1, 2)
    async with serve(answer_heads) as server, pooled() as (client, transport):
        for asking in ({}, named):
            await client.get(server.url, extensions=asking)
        assert counts(transport) == (1, 0, 1, 1)


async def test_a_clean_answer_to_half_a_request_does_not_keep_the_connection() -> None:
    """The server still takes whatever comes next for the rest of the body."""

    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        await peer.send(response(b"no"))
        await held.wait()

    held = trio.Event()
    async with serve(script) as server, pooled() as (client, transport):
        assert (await client.post(server.url, content=BIG)).text == "no"
        assert counts(transport) == (0, 0, 1, 0)
        held.set()


@pytest.mark.parametrize(("length", "word"), [("2", "longer"), ("4", "shorter")])
async def test_a_body_of_another_length_than_announced_is_not_sent_to_its_end(length: str, word: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"bc"

    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        while data := await peer.raw.receive_some(1000):
            got.append(data)

    async with serve(script) as server, pooled() as (client, transport), aclosing(parts()) as body:
        with pytest.raises(httpx.LocalProtocolError, match=word):
            await client.post(server.url, content=body, headers={"content-length": length})
        await eventually(lambda: server.accepted == 1)
        await server.all_closed()
        assert counts(transport)[:2] == (0, 0)
        assert b"".join(got).partition(b"\r\n\r\n")[2] == (b"a" if word == "longer" else b"abc")


async def test_no_more_is_read_than_is_asked_for() -> None:
    """What nobody reads stays with the server, whose writes then wait."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await head(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
        while sent < 64_000_000:
            await peer.send(b"x" * 64_000)
            sent += 64_000

    async with serve(script) as server, pooled() as (client, _):
        async with client.stream("GET", server.url) as got, aclosing(aiter(got.stream)) as parts:
            largest = 0
            for _ in range(50):
                largest = max(largest, len(await anext(parts)))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert largest <= 65_536
            assert sent < 32_000_000
        await server.all_closed()


async def test_closing_the_transport_closes_what_is_busy_too() -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(CHUNKED + b"1\r\nx\r\n")
        await peer.gone()

    raised: list[Exception] = []
    async with serve(script) as server, pooled() as (client, transport):

        async def read() -> None:
            with pytest.raises(httpx.ReadError) as caught:
                await client.get(server.url)
            raised.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
            await eventually(lambda: server.open == 2)
            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()
        await server.all_closed()
    assert len(raised) == 2


async def test_a_response_that_ends_after_the_transport_was_closed_keeps_nothing() -> None:
    async with serve(answer_heads) as server:
        transport = PooledTransport()
        await transport.aclose()
        got = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert await got.aread() == b"x"
        await got.aclose()
        assert counts(transport) == (0, 0, 1, 0)
        await server.all_closed()


async def test_a_body_given_up_does_not_look_like_one_that_ended() -> None:
    async with serve(http(lambda _: Reply(body=BIG))) as server:
        transport = PooledTransport()
        got = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert isinstance(got.stream, httpx.AsyncByteStream)
        await got.stream.aclose()
        with pytest.raises(httpx.StreamClosed):
            async for _ in got.stream:
                pass
        await server.all_closed()


async def test_a_body_that_breaks_frees_its_place_at_once() -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(response(b"whole")[:-1])

    async with serve(script) as server:
        transport = PooledTransport()
        got = await transport.handle_async_request(httpx.Request("GET", server.url))
        assert isinstance(got.stream, httpx.AsyncByteStream)
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in got.stream:
                pass
        assert counts(transport) == (0, 0, 1, 0)


async def test_port_0_is_a_port() -> None:
    async with pooled() as (client, _):
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1:0"):
            await client.get("http://127.0.0.1:0/")


@pytest.mark.parametrize("generated", [False, True])
async def test_each_limit_is_its_own(generated: bool, autojump_clock: trio.testing.MockClock) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield BIG

    async def deaf(peer: Peer) -> None:
        await trio.sleep_forever()

    async with serve(deaf) as server, pooled() as (client, transport), aclosing(parts()) as body:
        client.timeout = httpx.Timeout(900, write=3)
        with pytest.raises(httpx.WriteTimeout), trio.fail_after(50):
            await client.post(server.url, content=body if generated else BIG)
        assert trio.current_time() < 10
        assert counts(transport) == (0, 0, 1, 0)


# --- cancellation ----------------------------------------------------------------------------------------------------


def short(asked: Asked) -> Reply:
    return Reply(body=b"%d" % len(asked.body))


async def several(client: httpx.AsyncClient, url: str) -> None:
    """A new connection, the same again, an upload larger than the buffers, in one part and in many."""

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"a", BIG[:4_000_000], b"c"):
            await trio.lowlevel.checkpoint()
            yield part

    assert (await client.get(url)).status_code == 200
    assert (await client.post(url, content=BIG[:4_000_000])).status_code == 200
    async with aclosing(parts()) as body:
        assert (await client.post(url, content=body)).status_code == 200
    assert (await client.get(url)).status_code == 200


@pytest.mark.parametrize("tls", [False, True])
async def test_requests_can_be_cancelled_at_every_checkpoint(tls: bool) -> None:
    before = open_sockets()
    cancelled = 0
    context = client_tls()
    async with serve(http(short), tls=server_tls() if tls else None) as server:
        url = secure(server.url) if tls else server.url
        for step in range(1, 1000):
            transport = PooledTransport(ssl_context=context)
            client = httpx.AsyncClient(transport=transport)
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await several(client, url)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            cancelled += scope.cancelled_caught
            now = transport.statistics()
            assert now.busy == 0
            await eventually(lambda open_now=now.idle: server.open == open_now)
            await client.aclose()
            await server.all_closed()
            if not scope.cancel_called:
                break
    assert cancelled >= 8
    assert open_sockets() == before


async def test_a_request_cancelled_before_it_begins_leaves_the_idle_connection_alone() -> None:
    async with serve(answer_heads) as server, pooled() as (client, transport):
        await client.get(server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.get(server.url)
        assert scope.cancelled_caught
        assert counts(transport) == (1, 0, 1, 0)
        await client.get(server.url)
        assert counts(transport) == (1, 0, 1, 1)
