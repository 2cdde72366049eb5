"""What a user of httpx may expect of a transport: the same tests for httpx's own and for ours.

Real loopback sockets; a server of h11 where the request is ordinary, scripted bytes where it is not. Time is virtual
where something stalls.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import httpx
import pytest
import trio
import trio.testing
from h11_server import Asked, Build, Reply, client_of, echo, head, http
from raw_answers import BIG, CHUNKED
from scripted_server import Peer, response, serve

# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_methods_targets_and_headers_arrive(build: Build, method: str) -> None:
    async with serve(http(echo)) as server, client_of(build, server) as client:
        got = await client.request(method, "/a%20b/ä?x=1&y=%C3%A9", headers={"X-Odd": "1, 2"}, auth=("me", "pw"))
        told = got.json()
    assert (told["method"], told["target"]) == (method, "/a%20b/%C3%A4?x=1&y=%C3%A9")
    assert (told["host"], told["x-odd"]) == (f"127.0.0.1:{server.port}", "1, 2")
    assert told["authorization"].startswith("Basic ")
    assert got.headers.get_list("x-twice") == ["a", "b"]
    assert (got.status_code, got.http_version, got.reason_phrase) == (200, "HTTP/1.1", "Fine")
    assert got.extensions["http_version"] == b"HTTP/1.1"
    assert got.extensions["reason_phrase"] == b"Fine"


async def pieces() -> AsyncIterator[bytes]:
    for part in (b"one ", b"", b"two ", b"x" * 100_000):
        await trio.lowlevel.checkpoint()
        yield part


WHOLE = "one two " + "x" * 100_000
UPLOADS = {
    "bytes": lambda: {"content": WHOLE.encode()},
    "generator": lambda: {"content": pieces()},
    "generator with a length": lambda: {"content": pieces(), "headers": {"content-length": str(len(WHOLE))}},
    "bytes in chunks": lambda: {"content": WHOLE.encode(), "headers": {"transfer-encoding": "chunked"}},
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_bodies_arrive_and_the_connection_serves_again(build: Build, name: str) -> None:
    async with serve(http(echo)) as server, client_of(build, server) as client:
        for _ in range(2):
            told = (await client.post("/", **UPLOADS[name]())).json()
            assert told["body"] == WHOLE
            chunked = name in ("generator", "bytes in chunks")
            assert told.get("transfer-encoding") == ("chunked" if chunked else None)
        assert server.accepted == 1


async def test_empty_bodies_forms_and_files_arrive(build: Build) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    async with serve(http(echo)) as server, client_of(build, server) as client:
        assert (await client.post("/", content=nothing())).json()["body"] == ""
        assert (await client.post("/", content=b"")).json()["content-length"] == "0"
        assert (await client.post("/", data={"a": "b c"})).json()["body"] == "a=b+c"
        assert "hello" in (await client.post("/", files={"f": ("n.txt", b"hello")})).json()["body"]
        assert server.accepted == 1


@pytest.mark.parametrize(
    "asking",
    [
        {"headers": {"x-a": "1\r\nx-b: 2"}},
        {"headers": {"x-a": "1\n"}},
        {"headers": [(b"x a", b"1")]},
        {"headers": [(b"x-a: b", b"1")]},
        {"method": "GET / HTTP/1.1\r\nx: y\r\n\r\nGET"},
        {"extensions": {"target": b"/ HTTP/1.1\r\nx: y"}},
        {"content": b"abc", "headers": {"content-length": "many"}},
    ],
    ids=repr,
)
async def test_what_cannot_be_written_as_http_is_refused_here(build: Build, asking: dict[str, object]) -> None:
    async with serve(http(echo)) as server, client_of(build, server) as client:
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await client.request(**{"method": "POST", "url": "/", **asking})
        assert caught.value.request.url.path == "/"
        await server.all_closed()


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("mine")])
async def test_what_a_body_raises_midway_passes_through_and_closes_the_connection(
    build: Build, error: Exception
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise error

    async with serve(http(echo)) as server, client_of(build, server) as client:
        with pytest.raises(type(error)) as caught:
            await client.post("/", content=failing())
        assert caught.value is error
        await server.all_closed()


async def test_making_a_body_may_take_longer_than_any_timeout(
    build: Build, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for part in (b"a", b"b"):
            await trio.sleep(100)
            yield part
        await trio.sleep(100)

    async with serve(http(echo)) as server, client_of(build, server) as client:
        assert (await client.post("/", content=slow())).json()["body"] == "ab"


# --- responses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [Reply(204, None), Reply(304, None), Reply(200, b""), Reply(200, [])], ids=repr)
async def test_responses_without_a_body(build: Build, reply: Reply) -> None:
    async with serve(http(lambda _: reply)) as server, client_of(build, server) as client:
        for _ in range(3):
            got = await client.get("/")
            assert (got.status_code, got.content) == (reply.status, b"")
        assert server.accepted == 1


@pytest.mark.parametrize("body", [b"not sent", [b"not ", b"sent"]])
async def test_the_answer_to_head_ends_with_its_headers(build: Build, body: bytes | list[bytes]) -> None:
    async with serve(http(lambda asked: Reply(body=body))) as server, client_of(build, server) as client:
        for _ in range(3):
            got = await client.head("/")
            assert (got.status_code, got.content) == (200, b"")
            assert (await client.get("/")).text == "not sent"
        if isinstance(body, bytes):  # chunks behind a HEAD could be taken for its framing: ours does not risk it
            assert server.accepted == 1


CODED = {
    "gzip": gzip.compress(b"hello " * 1000),
    "deflate": zlib.compress(b"hello " * 1000),
    "identity": b"hello " * 1000,
}


@pytest.mark.parametrize("coding", CODED)
async def test_codings_are_httpx_own(build: Build, coding: str) -> None:
    async with serve(http(lambda _: Reply(body=CODED[coding], headers=[("content-encoding", coding)]))) as server:
        async with client_of(build, server) as client:
            assert (await client.get("/")).text == "hello " * 1000
            async with client.stream("GET", "/") as got:
                assert b"".join([part async for part in got.aiter_raw()]) == CODED[coding]
        assert server.accepted == 1


async def test_streams_are_read_as_they_come(build: Build) -> None:
    """A line is there before the next is sent."""
    go = [trio.Event() for _ in range(3)]

    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(CHUNKED)
        for index, event in enumerate(go):
            await event.wait()
            await peer.send(b"7\r\nline %d\n\r\n" % index)
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with serve(script) as server, client_of(build, server) as client, client.stream("GET", "/") as got:
        go[0].set()
        with trio.fail_after(10):
            async with aclosing(got.aiter_lines()) as lines:
                for index, event in enumerate(go):
                    event.set()
                    assert await anext(lines) == f"line {index}"
                assert [line async for line in lines] == []


@pytest.mark.parametrize("first", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
async def test_interim_responses_are_passed_over(build: Build, first: bytes) -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(first + response(b"final"))

    async with serve(script) as server, client_of(build, server) as client:
        got = await client.get("/")
        assert (got.status_code, got.text, "link" in got.headers) == (200, "final", False)


async def test_http_1_0_and_a_body_that_ends_with_the_connection(build: Build) -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(b"HTTP/1.0 200 Yes\r\n\r\nto the ")
        await peer.send(b"end")

    async with serve(script) as server, client_of(build, server) as client:
        got = await client.get("/")
        assert (got.text, got.http_version, got.reason_phrase) == ("to the end", "HTTP/1.0", "Yes")


async def test_redirects_and_cookies_are_httpx_own(build: Build) -> None:
    def handler(asked: Asked) -> Reply:
        if asked.target == "/see":
            return Reply(303, b"moved", [("location", "/here"), ("set-cookie", "a=b; Path=/")])
        if asked.target == "/again":
            return Reply(307, None, [("location", "/here"), ("content-length", "0")])
        return echo(asked)

    async with serve(http(handler)) as server, client_of(build, server) as client:
        client.follow_redirects = True
        told = (await client.post("/see", content=b"body")).json()
        assert (told["method"], told["body"], told["cookie"]) == ("GET", "", "a=b")
        told = (await client.post("/again", content=b"body")).json()
        assert (told["method"], told["body"], told["target"]) == ("POST", "body", "/here")
        assert server.accepted == 1


async def test_an_authentication_that_asks_twice_is_httpx_own(build: Build) -> None:
    def handler(asked: Asked) -> Reply:
        if "authorization" not in asked.headers:
            return Reply(401, b"who?", [("www-authenticate", 'Digest realm="r", nonce="n", qop="auth"')])
        return echo(asked)

    async with serve(http(handler)) as server, client_of(build, server) as client:
        told = (await client.post("/", content=b"body", auth=httpx.DigestAuth("me", "pw"))).json()
        assert (told["body"], told["authorization"][:20]) == ("body", 'Digest username="me"')
        assert server.accepted == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a generator of httpx.Response's own
async def test_a_stream_closed_early_is_discarded_and_the_next_request_served(build: Build) -> None:
    async with serve(http(lambda _: Reply(body=BIG))) as server, client_of(build, server) as client:
        async with client.stream("GET", "/") as got, aclosing(got.aiter_raw()) as parts:
            assert len(await anext(parts)) < len(BIG)
        await server.all_closed()
        assert len((await client.get("/")).content) == len(BIG)
        assert server.accepted == 2


async def test_requests_at_once_have_connections_of_their_own(build: Build) -> None:
    async def script(peer: Peer) -> None:
        while await head(peer):
            with trio.fail_after(10):
                while server.open < 5:  # noqa: ASYNC110  # nobody is answered before all have asked
                    await trio.sleep(0.001)
            await peer.send(response(b"x"))

    async with serve(script) as server, client_of(build, server) as client, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client.get, "/")
    assert server.accepted == 5


# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [Peer.close, Peer.reset, lambda peer: peer.send(response(b"unasked"))],
    ids=["close", "reset", "unasked bytes"],
)
async def test_a_stale_connection_is_noticed_and_replaced(build: Build, spoil: Callable[[Peer], object]) -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(response(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        await spoil(peer)
        spoilt.set()
        await peer.gone()

    async with serve(script) as server, client_of(build, server) as client:
        for number in range(1, 4):
            spoilt = trio.Event()
            assert (await client.get("/")).text == "x"
            await spoilt.wait()
            assert server.accepted == number


NOT_AGAIN = {
    "it says close": response(b"x", "Connection: close"),
    "an older version": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "no end but the connection's": b"HTTP/1.1 200 OK\r\n\r\nx",
}


@pytest.mark.parametrize("name", NOT_AGAIN)
async def test_a_connection_that_does_not_stay_is_not_used_again(build: Build, name: str) -> None:
    async def script(peer: Peer) -> None:
        await head(peer)
        await peer.send(NOT_AGAIN[name])
        if "end" not in name:
            await peer.gone()

    async with serve(script) as server, client_of(build, server) as client:
        for number in range(1, 3):
            assert (await client.get("/")).text == "x"
            assert server.accepted == number
            await server.all_closed()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a generator of httpx.Response's own
@pytest.mark.parametrize("sent", [None, b"", b"HTTP/1.1 2", CHUNKED, CHUNKED + b"5\r\n12"], ids=repr)
async def test_a_request_that_is_cancelled_gives_up_its_connection(build: Build, sent: bytes | None) -> None:
    """None: it is still being sent. The next request has a connection of its own."""
    scope = trio.CancelScope()

    async def script(peer: Peer) -> None:
        if scope.cancel_called:
            await http(echo)(peer)
        elif sent is None:
            await peer.some()
        else:
            await head(peer)
            await peer.send(sent)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await peer.gone()

    async with serve(script) as server, client_of(build, server) as client:
        with scope:
            await client.post("/", content=BIG if sent is None else b"")
        assert scope.cancelled_caught
        await server.all_closed()
        assert (await client.post("/", content=b"again")).json()["body"] == "again"
        assert server.accepted == 2
