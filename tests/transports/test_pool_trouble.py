"""What a user of httpx may expect when something goes wrong: the same tests for httpx's own transport and for ours.

Real loopback sockets and scripted servers; time is virtual where something stalls. TLS and IPv6 are here as well.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio
import trio.testing
import trustme
from certificates import client_tls, server_tls
from h11_server import Build, client_of, echo, head, http
from raw_answers import BIG, CHUNKED
from scripted_server import Peer, response, serve

# --- trouble ---------------------------------------------------------------------------------------------------------


async def silent(peer: Peer) -> None:
    await trio.sleep_forever()


async def silent_after_head(peer: Peer) -> None:
    await head(peer)
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12")
    await trio.sleep_forever()


def cut(sent: bytes, way: Callable[[Peer], Awaitable[None]] = Peer.close) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(sent)
        await trio.testing.wait_all_tasks_blocked()
        await way(peer)

    return script


TROUBLE = {
    "no answer": (silent, b"", httpx.ReadTimeout),
    "half an answer": (silent_after_head, b"", httpx.ReadTimeout),
    "not read": (silent, BIG, httpx.WriteTimeout),
    "nonsense": (cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), b"", httpx.RemoteProtocolError),
    "nonsense in the headers": (cut(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), b"", httpx.RemoteProtocolError),
    "nonsense in a chunk": (cut(CHUNKED + b"zz\r\n"), b"", httpx.RemoteProtocolError),
    "cut before the answer": (cut(b""), b"", httpx.RemoteProtocolError),
    "cut in the headers": (cut(b"HTTP/1.1 200 OK\r\nConte"), b"", httpx.RemoteProtocolError),
    "cut in the body": (cut(response()[:-2]), b"", httpx.RemoteProtocolError),
    "cut in a chunk": (cut(CHUNKED + b"5\r\n123"), b"", httpx.RemoteProtocolError),
    "reset before the answer": (cut(b"", Peer.reset), b"", httpx.ReadError),
    "reset in the headers": (cut(b"HTTP/1.1 200 OK\r\nConte", Peer.reset), b"", httpx.ReadError),
    "reset in the body": (cut(response()[:-2], Peer.reset), b"", httpx.ReadError),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_trouble_has_the_exceptions_of_httpx(
    build: Build, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    script, body, expected = TROUBLE[name]
    async with serve(script) as server, client_of(build, server) as client:
        with pytest.raises(httpx.TransportError) as caught:
            await client.post("/path", content=body)
        assert type(caught.value) is expected
        assert (caught.value.request.method, caught.value.request.url.path) == ("POST", "/path")
        assert trio.current_time() <= 6


async def test_a_refusal_before_the_whole_request_was_read_is_heard_and_ends_the_connection(build: Build) -> None:
    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        await peer.send(response(b"too large", status="413 Content Too Large"))
        await peer.raw.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        peer.raw.socket.shutdown(trio.socket.SHUT_RD)
        await peer.gone()

    async with serve(script) as server, client_of(build, server) as client:
        got = await client.post("/", content=BIG)
        assert (got.status_code, got.text) == (413, "too large")
        await server.all_closed()


async def test_nobody_listens(build: Build) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        async with httpx.AsyncClient(transport=build(None)) as client:
            with pytest.raises(httpx.ConnectError) as caught:
                await client.get(url)
            assert caught.value.request.url == url


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connecting_has_a_limit(build: Build, scheme: str, autojump_clock: trio.testing.MockClock) -> None:
    """A listener whose queue is full answers nobody; a TLS server that says nothing is no better."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0 if scheme == "http" else 5)
        if scheme == "http":
            first.connect(listener.getsockname())
        async with httpx.AsyncClient(transport=build(client_tls()), timeout=httpx.Timeout(900, connect=7)) as client:
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await client.get(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/")
            assert caught.value.request.method == "GET"
            assert trio.current_time() < 10


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/nowhere", "gopher://x"])
async def test_other_schemes_are_not_spoken(build: Build, url: str) -> None:
    async with httpx.AsyncClient(transport=build(None)) as client:
        with pytest.raises(httpx.UnsupportedProtocol) as caught:
            await client.get(url)
        assert caught.value.request.method == "GET"


# --- TLS and IPv6 ----------------------------------------------------------------------------------------------------


async def test_tls_with_a_certificate_that_is_right(build: Build) -> None:
    async with serve(http(echo), tls=server_tls()) as server, client_of(build, server, tls=client_tls()) as client:
        for _ in range(3):
            assert (await client.post("/", content=b"x" * 300_000)).json()["body"] == "x" * 300_000
        assert server.accepted == 1


@pytest.mark.parametrize("wrong", [server_tls("other.example"), server_tls(authority=trustme.CA())])
async def test_tls_with_a_certificate_that_is_wrong(build: Build, wrong: ssl.SSLContext) -> None:
    async with serve(http(echo), tls=wrong) as server, client_of(build, server, tls=client_tls()) as client:
        with pytest.raises(
            httpx.ConnectError,
        ):
            await client.get("/")
        await server.all_closed()


async def test_the_certificate_may_be_for_another_name_than_the_address(build: Build) -> None:
    asked: list[str | None] = []
    context = server_tls("api.example")
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with serve(http(echo), tls=context) as server, client_of(build, server, tls=client_tls()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        told = (await client.get("/", extensions={"sni_hostname": "api.example"})).json()
    assert told["host"] == f"127.0.0.1:{server.port}"
    assert asked == [None, "api.example"], "an address of numbers is no name to ask for"


async def test_ipv6(build: Build) -> None:
    try:
        (listener,) = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        pytest.skip("no IPv6 on loopback here")

    async def handle(stream: trio.SocketStream) -> None:
        await http(echo)(Peer(stream, stream))

    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        async with httpx.AsyncClient(transport=build(None)) as client:
            assert (await client.get(f"http://[::1]:{port}/")).json()["host"] == f"[::1]:{port}"
        nursery.cancel_scope.cancel()
