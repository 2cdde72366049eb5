"""What our own wire promises beyond the contract of all ways: it is open before the first call, and says so if not.

Addresses, headers and keys that cannot be used; the stamp that comes with the last byte; a connection that ends while
nobody asks. Real sockets on loopback.
"""

from __future__ import annotations

import socket
import traceback

import pytest
import trio
import trio.testing
from scripted_server import (
    KEY,
    Ear,
    PairFormat,
    Peer,
    Script,
    answer_everything,
    calling,
    eventually,
    response,
    serve,
    transport,
)

from actors.errors import ConnectFailed, UsageError
from engine.transports import streams, target
from engine.transports.http import HttpTransport

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


# --- what only a wire of our own can promise -------------------------------------------------------------------------


async def test_sent_is_reported_before_the_loop_turns_again() -> None:
    """Another task that is always ready to run gets no turn between the last write and the stamp."""
    turns = [0]
    at_begin: list[int] = []
    at_sent: list[int] = []

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    class Noting(Ear):
        def begin(self) -> None:
            at_begin.append(turns[0])

    async with serve(answer_everything) as server, trio.open_nursery() as nursery:
        nursery.start_soon(spin)
        connection = await transport(server.url).connect()
        for _ in range(5):
            await connection.exchange(calling(), Noting(on_sent=lambda: at_sent.append(turns[0])))
        await connection.aclose()
        nursery.cancel_scope.cancel()
    assert len(at_begin) == 5
    assert at_begin == at_sent


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
@pytest.mark.parametrize("how", ["end", "unasked bytes then end"])
async def test_a_connection_that_ends_before_the_request_costs_nothing(end: Script, how: str) -> None:
    go, ended = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await go.wait()
        if how != "end":
            await peer.send(response())
        await end(peer)
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
        assert ear.told == []
        await connection.aclose()
