"""TLS on loopback: right, wrong, cut short, and looked into without waiting.

The point of many of these: a TLS 1.3 server sends session tickets nobody asked for, and they must neither look like
an end nor hide one.
"""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trustme
from certificates import client_tls, secure, server_tls
from scripted_server import (
    KEY,
    OK_BODY,
    Ear,
    Peer,
    answer_everything,
    calling,
    eventually,
    open_sockets,
    response,
    serve,
    transport,
)

from actors.errors import ConnectFailed
from engine.transports.streams import default_tls


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_calls_go_through_tls(newest: ssl.TLSVersion) -> None:
    """Large ones too; and a fresh connection is usable though the server's session tickets already lie in it."""
    chosen: list[str | None] = []
    seen: list[int] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            chosen.append(peer.stream.selected_alpn_protocol())
            seen.append(len(request))
            await peer.send(response(OK_BODY + b" " * 1_000_000))

    async with serve(script, tls=server_tls(newest=newest)) as server:
        connection = await transport(secure(server.url), ssl_context=client_tls("http/1.1")).connect()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            assert connection.usable()
            ear = Ear()
            answer = await connection.exchange(calling(b"x" * 1_000_000), ear)
            assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, True)
            assert ear.told == ["begin", "sent"]
        await connection.aclose()
        await server.all_closed()
    assert chosen == ["http/1.1"] * 5
    assert min(seen) > 1_000_000


@pytest.mark.parametrize("goodbye", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
async def test_the_end_of_a_tls_connection_is_seen(fresh: bool, goodbye: bool) -> None:
    async def script(peer: Peer) -> None:
        if fresh:
            await peer.stream.do_handshake()
        else:
            await peer.request()
            await peer.send(response())
            await trio.testing.wait_all_tasks_blocked()
        if goodbye:
            await peer.stream.unwrap()
        else:
            await peer.close()

    async with serve(script, tls=server_tls()) as server:
        connection = await transport(secure(server.url), ssl_context=client_tls()).connect()
        if not fresh:
            await connection.exchange(calling(), Ear())
        await eventually(lambda: not connection.usable())
        with pytest.raises(ConnectFailed):
            await connection.exchange(calling(), Ear())
        await connection.aclose()


async def test_bytes_nobody_asked_for_make_a_tls_connection_unusable() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(response())
        await peer.gone()

    async with serve(script, tls=server_tls()) as server:
        connection = await transport(secure(server.url), ssl_context=client_tls()).connect()
        await eventually(lambda: not connection.usable())
        await connection.aclose()


async def test_an_answer_cut_short_under_tls_is_unknown() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response()[:-3])
        await peer.close()

    async with serve(script, tls=server_tls()) as server:
        connection = await transport(secure(server.url), ssl_context=client_tls()).connect()
        answer = await connection.exchange(calling(), Ear())
        assert (answer.verdict, answer.reply.status, answer.keep) == ("unknown", 200, False)
        await connection.aclose()


WRONG = {
    "an authority unknown here": (server_tls(authority=trustme.CA()), "certificate was not accepted"),
    "another host's certificate": (server_tls("other.example"), "certificate was not accepted"),
    "no TLS at all": (None, "TLS handshake failed"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_server_that_is_not_who_it_should_be_is_refused(name: str) -> None:
    tls, words = WRONG[name]

    async def script(peer: Peer) -> None:
        if tls is None:
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.request()

    before = open_sockets()
    async with serve(script, tls=tls) as server:
        with pytest.raises(ConnectFailed, match=words) as caught:
            await transport(secure(server.url), ssl_context=client_tls()).connect()
        assert f"127.0.0.1:{server.port}" in str(caught.value)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        await server.all_closed()
    assert open_sockets() == before


@pytest.mark.parametrize("way", [Peer.close, Peer.reset])
async def test_a_connection_that_ends_in_the_handshake_is_told_as_such(way: Callable[[Peer], Awaitable[None]]) -> None:
    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(100)
        await way(peer)

    async with serve(script, tls=server_tls()) as server:
        with pytest.raises(ConnectFailed, match="no secure connection"):
            await transport(secure(server.url), ssl_context=client_tls()).connect()


async def test_a_server_that_chooses_http_2_is_refused() -> None:
    async with serve(answer_everything, tls=server_tls()) as server:
        with pytest.raises(ConnectFailed, match="insists on h2"):
            await transport(secure(server.url), ssl_context=client_tls("h2")).connect()


def test_all_transports_share_one_tls_context_and_it_checks_certificates() -> None:
    first, second = transport("https://a.example/v1"), transport("https://b.example/v1")
    assert first._tls is second._tls is default_tls()
    assert default_tls().verify_mode is ssl.CERT_REQUIRED
    assert default_tls().check_hostname
    assert transport("http://a.example/v1")._tls is None
