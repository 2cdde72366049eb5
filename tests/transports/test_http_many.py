"""Thousands of exchanges over real loopback sockets, and not one socket too many, meanwhile or afterwards.

`PENSTOCK_EXPLORE=10` makes ten times as many: a hundred thousand and more.

    PENSTOCK_EXPLORE=10 python -m pytest tests/transports/test_http_many.py
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from http1_replies import EXPLORE
from scripted_server import OK_BODY, Ear, Peer, Server, answer_everything, calling, open_sockets, response, serve
from scripted_server import transport as transport_to

from engine.transports.http import HttpTransport

MANY = max(1, EXPLORE)
CONNECTIONS = 200
EACH = 50 * MANY


async def test_a_thousand_exchanges_use_one_connection_and_leave_none() -> None:
    before = open_sockets()
    async with serve(answer_everything) as server:
        connection = await transport_to(server.url).connect()
        await connection.exchange(calling(), Ear())  # so that the server, too, has accepted it
        meanwhile = open_sockets()
        for number in range(1000 * MANY):
            ear = Ear()
            answer = await connection.exchange(calling(call_id=number), ear)
            assert (answer.verdict, answer.keep, ear.told) == ("done", True, ["begin", "sent"])
        assert open_sockets() == meanwhile
        await connection.aclose()
        await server.all_closed()
        assert server.accepted == 1
    assert open_sockets() == before


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n" + OK_BODY + b"\r\n0\r\nx-end: 1\r\n\r\n"
UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\n" + OK_BODY

STEADY = {"length": response(), "chunked": CHUNKED, "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + response()}
"""Answers after which the server reads on."""
LAST = {
    "close": response(OK_BODY, "Connection: close"),
    "until the end": UNTIL_END,
    "cut": response()[:-3],
    "nothing": b"",
    "not HTTP": b"\x00" * 40,
    "one too many": response() + response(),
}
"""Answers after which the connection must be given up."""
SCRIPT = [*STEADY, "close", *STEADY, "until the end", *STEADY, "cut", *STEADY, "nothing", *STEADY, "not HTTP", *STEADY,
          "one too many"]  # fmt: skip
LOST = {"cut", "nothing", "not HTTP"}


async def say(peer: Peer) -> None:
    """Answer each request in the way its number, the last thing in it, asks for."""
    while (request := await peer.request()) is not None:
        name = SCRIPT[int(request.rpartition(b"n")[2]) % len(SCRIPT)]
        await peer.send(STEADY.get(name, b"") or LAST[name])
        if name in LAST:
            return


async def work(transport: HttpTransport, seen: Counter[str], opened: Counter[str]) -> None:
    """A worker: exchange after exchange, on another connection when the last one was given up."""
    connection = None
    try:
        for number in range(EACH):
            if connection is None:
                connection = await transport.connect()
                opened["connections"] += 1
            name = SCRIPT[number % len(SCRIPT)]
            ear = Ear()
            answer = await connection.exchange(calling(b"n%d" % number, number), ear)
            assert ear.told == ["begin", "sent"]
            assert answer.verdict == ("unknown" if name in LOST else "done"), name
            assert answer.keep is (name in STEADY), name
            seen[name] += 1
            if not answer.keep:
                connection = None  # and nobody closes it: that was the exchange's part
    finally:
        if connection is not None:
            await connection.aclose()


async def run_all(server: Server) -> None:
    seen: Counter[str] = Counter()
    opened: Counter[str] = Counter()
    transport = transport_to(server.url)
    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(work, transport, seen, opened)
    assert seen.total() == CONNECTIONS * EACH
    assert opened["connections"] == server.accepted
    assert set(seen) == set(SCRIPT)


async def test_two_hundred_workers_leave_no_connection_however_their_calls_end() -> None:
    before = open_sockets()
    async with serve(say) as server:
        listening = open_sockets()
        await run_all(server)
        await server.all_closed()
        assert open_sockets() == listening
    assert open_sockets() == before


@pytest.mark.parametrize("rounds", [20 * MANY])
async def test_workers_that_are_cancelled_again_and_again_leave_no_connection(rounds: int) -> None:
    """At whatever point of its exchange each of them happens to be."""
    before = open_sockets()
    async with serve(say) as server:
        listening = open_sockets()
        for turns in range(rounds):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(work, transport_to(server.url), Counter(), Counter())
                    for _ in range(turns % 40):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        await server.all_closed()
        assert open_sockets() == listening
    assert open_sockets() == before
