"""Opening and closing: refused, unresolvable, TLS right and wrong, cancelled at every checkpoint; nothing stays open.

Real sockets on loopback; certificates are made by trustme for the length of the run. Open sockets are counted in
/proc/self/fd and as the server saw them.
"""

from __future__ import annotations

import logging
import socket
import traceback

import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from scripted_server import (
    KEY,
    OK_BODY,
    CancelAt,
    Ear,
    NotAfter,
    PairFormat,
    Peer,
    answer_everything,
    calling,
    eventually,
    open_sockets,
    response,
    serve,
    transport,
)

from actors.errors import ConnectFailed, UsageError
from actors.transport import TooLate
from engine.transports import streams, target
from engine.transports.http import HttpTransport


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- connecting ------------------------------------------------------------------------------------------------------


async def test_a_ready_connection_is_open_before_the_first_call() -> None:
    async with serve(answer_everything) as server:
        connection = await transport(server.url).connect()
        await trio.testing.wait_all_tasks_blocked()
        assert server.accepted == 1
        assert connection.usable()
        assert "open, 0 exchanges" in repr(connection)
        await connection.aclose()
        assert not connection.usable()
        assert "closed" in repr(connection)
        await server.all_closed()


async def test_a_refused_connection_says_where_and_why() -> None:
    port = free_port()
    with pytest.raises(ConnectFailed) as caught:
        await transport(f"http://127.0.0.1:{port}/v1").connect()
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "onnection refused" in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


class NoSuchName(trio.abc.HostnameResolver):
    """A resolver that knows nothing, so that the test needs no network."""

    async def getaddrinfo(self, *args: object, **kwargs: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_name_that_does_not_resolve_is_told_as_such() -> None:
    trio.socket.set_custom_hostname_resolver(NoSuchName())
    with pytest.raises(ConnectFailed, match=r"nowhere\.invalid:80: the name cannot be resolved"):
        await transport("http://nowhere.invalid/v1").connect()


async def test_a_name_that_is_no_name_is_told_as_such() -> None:
    with pytest.raises(ConnectFailed, match="host name"):
        await streams.open_stream("a" * 70 + ".example", 80, None)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://h/x", "http://", "http://h:99999/", "http://a\0b/", "https://[::1/", "h:80"]
)
def test_an_address_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="address"):
        transport(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-api-key", f"{KEY}\r\nx: y"), ("x-api-key", f"{KEY}\0"), ("x-api-key", f"{KEY}\u2019"), ("bad name", KEY)],
)
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        HttpTransport(url="http://h/", headers={name: value}, format=PairFormat())
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown


def test_the_line_break_at_the_end_of_a_key_from_a_file_is_forgiven() -> None:
    built = HttpTransport(url="http://h/", headers={"x-api-key": f"{KEY}\n"}, format=PairFormat())
    assert f"\r\nx-api-key: {KEY}\r\n".encode() in built.request(calling())


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_connect_and_exchange_can_be_cancelled_at_every_checkpoint(tls: bool) -> None:
    context = client_tls()
    before = open_sockets()
    cancelled = finished = 0

    async def two_calls(built: HttpTransport, scope: trio.CancelScope) -> None:
        connection = await built.connect()
        try:
            for _ in range(2):
                await connection.exchange(calling(b"x" * 4_000_000), NotAfter(scope))
        except trio.Cancelled:
            assert not connection.usable()
            raise
        finally:
            await connection.aclose()
            await connection.aclose()
            assert not connection.usable()

    async with serve(answer_everything, tls=server_tls() if tls else None) as server:
        built = transport(secure(server.url) if tls else server.url, ssl_context=context)
        for step in range(1, 500):
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await two_calls(built, scope)
                    finished += 1
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            cancelled += scope.cancelled_caught
            await server.all_closed()
            assert cancelled + finished == step
            if not scope.cancel_called:
                break
    assert cancelled >= 10
    assert finished >= 1
    assert open_sockets() == before


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12", b"HTTP/1.1 2"])
async def test_a_stalled_call_ends_when_it_is_cancelled(sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.gone()

    async with serve(script) as server, trio.open_nursery() as nursery:
        connection = await transport(server.url).connect()
        ear = Ear()
        nursery.start_soon(connection.exchange, calling(), ear)
        await eventually(lambda: "sent" in ear.heard)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await server.all_closed()
            await connection.aclose()
    assert not connection.usable()


async def test_closing_ends_a_call_that_waits() -> None:
    """As when an endpoint is stopped: the call under way ends as unknown, and nobody hangs."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with serve(script) as server, trio.open_nursery() as nursery:
        connection = await transport(server.url).connect()
        answers = []

        async def call() -> None:
            answers.append(await connection.exchange(calling(), Ear()))

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await connection.aclose()
        await eventually(lambda: answers)
        assert (answers[0].verdict, answers[0].keep) == ("unknown", False)
        with pytest.raises(ConnectFailed):
            await connection.exchange(calling(), Ear())


# --- the key ---------------------------------------------------------------------------------------------------------


ECHOES = [
    response(b'{"error": "the key %s is not valid"}' % KEY.encode(), f"x-echo: Bearer {KEY}", status="401 No"),
    response(OK_BODY, f"x-echo: {KEY}"),
    b"HTTP/1.1 200 OK\r\n" + KEY.encode() + b"\r\n\r\n",
]


async def test_the_key_is_in_no_repr_fault_header_or_error_though_the_provider_repeats_it() -> None:
    async def script(peer: Peer) -> None:
        for part in ECHOES:
            await peer.request()
            await peer.send(part)

    shown: list[object] = []
    async with serve(script) as server:
        built = transport(server.url)
        connection = await built.connect()
        for _ in ECHOES:
            reply = (await connection.exchange(calling(), Ear())).reply
            shown += [reply.fault, reply.headers]
        shown += [built, connection]
        with pytest.raises(ConnectFailed) as caught:
            await connection.exchange(calling(), Ear())
        shown.append("".join(traceback.format_exception(caught.value)))
        await connection.aclose()
    text = " ".join(map(repr, shown))
    assert "the key [key removed] is not valid" in text
    assert "Bearer" not in text
    assert KEY not in text


async def test_the_key_is_in_no_log_line_though_every_logger_is_at_its_loudest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(answer_everything) as server:
        connection = await transport(server.url).connect()
        await connection.exchange(calling(), Ear())
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        await connection.aclose()
    assert caplog.records
    assert KEY not in caplog.text


async def test_the_version_is_known_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise target.importlib.metadata.PackageNotFoundError(name)

    target.user_agent.cache_clear()
    monkeypatch.setattr(target.importlib.metadata, "version", missing)
    assert target.user_agent() == "penstock"
    target.user_agent.cache_clear()
    monkeypatch.setattr(target.importlib.metadata, "version", lambda name: "1.2.3")
    assert target.user_agent() == "penstock/1.2.3"
    target.user_agent.cache_clear()
