"""A user's own `httpx.AsyncClient`: with httpx's transport, with another that tells nothing, with a mock.

Whatever it does is one outcome, one request leaves for one attempt, and it is never closed by anybody but its user.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import trio
from scripted_server import (
    KEY,
    OK_BODY,
    Ear,
    Peer,
    answer_everything,
    calling,
    eventually,
    response,
    serve,
)
from worker_ways import HTTPX, answers_to, client_transport

from actors.errors import ConnectFailed
from actors.transport import Answer, TooLate
from engine.transports import client as client_module
from engine.transports.pool import PooledTransport


async def exchange_with(
    handler: Callable[[httpx.Request], httpx.Response], **options: object
) -> tuple[Answer, Ear, httpx.AsyncClient]:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), **options)
    connection = await client_transport("http://h.example/v1", client=client).connect()
    ear = Ear()
    answer = await connection.exchange(calling(), ear)
    await connection.aclose()
    return answer, ear, client


async def test_a_mock_transport_answers_and_stays_open() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"usage": [3, 4]})

    answer, ear, client = await exchange_with(handler, headers={"x-team": "blue", "accept": "nothing"})
    assert (answer.verdict, answer.input_tokens, answer.output_tokens, answer.keep) == ("done", 3, 4, True)
    assert ear.told == ["begin", "sent"]
    assert not client.is_closed
    assert seen[0].headers["x-team"] == "blue", "a user's headers are added"
    assert seen[0].headers["accept"] == "application/json", "and replace none of the call's"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


async def test_what_a_client_has_decoded_is_not_decoded_again() -> None:
    zipped = gzip.compress(OK_BODY)
    answer, _, _ = await exchange_with(
        lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, content=zipped)
    )
    assert (answer.verdict, bytes(answer.reply.body)) == ("done", OK_BODY)


async def test_a_hook_that_reads_the_answer_leaves_it_readable() -> None:
    async def read(answered: httpx.Response) -> None:
        await answered.aread()

    async with httpx.AsyncClient(event_hooks={"response": [read]}) as client:
        answer, _ = await answers_to(HTTPX, response(gzip.compress(OK_BODY), "Content-Encoding: gzip"), client=client)
    assert (answer.verdict, bytes(answer.reply.body)) == ("done", OK_BODY)


async def test_an_endless_answer_of_a_mock_is_given_up() -> None:
    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while not self.closed:
                yield b"x" * 1_000_000

        async def aclose(self) -> None:
            self.closed = True

    answer, _, _ = await exchange_with(lambda _: httpx.Response(200, stream=Endless()))
    assert answer.verdict == "failed"


async def test_whatever_a_client_raises_is_an_answer() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError(f"my own bug, with {KEY}")

    answer, ear, _ = await exchange_with(handler)
    assert (answer.verdict, answer.charge) == ("unknown", "kept")
    assert "my own bug" in str(answer.reply.fault)
    assert KEY not in str(answer)
    assert ear.told == ["begin"]


async def test_a_hook_that_takes_the_ear_away_delays_what_is_told() -> None:
    async def deafen(request: httpx.Request) -> None:
        request.extensions.clear()

    async with httpx.AsyncClient(event_hooks={"request": [deafen]}) as client:
        answer, ear = await answers_to(HTTPX, response(), client=client)
    assert answer.verdict == "done"
    assert ear.told == ["begin", "sent"]


class Swallowing(httpx.AsyncBaseTransport):
    """Tries again whatever went wrong, as packages for retrying do."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self.below = below

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            first = await self.below.handle_async_request(request)
        except Exception:  # noqa: BLE001  # that is what they do
            return await self.below.handle_async_request(request)
        if first.status_code != 503:
            return first
        await first.aread()
        return await self.below.handle_async_request(request)

    async def aclose(self) -> None:
        await self.below.aclose()


async def test_a_request_leaves_once_for_each_attempt() -> None:
    seen = 0

    async def script(peer: Peer) -> None:
        nonlocal seen
        while await peer.request() is not None:
            seen += 1
            await peer.send(response(status="503 Busy"))

    below = httpx.AsyncHTTPTransport()
    async with httpx.AsyncClient(transport=Swallowing(below)) as client, serve(script) as server:
        built = client_transport(server.url, client=client)
        answer = await (await built.connect()).exchange(calling(), Ear())
        assert answer.verdict == "unknown"
        assert "twice" in str(answer.reply.fault)
        assert seen == 1
        connection = await built.connect()
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        assert seen == 1


async def test_a_client_that_is_closed_meanwhile_sends_nothing() -> None:
    client = httpx.AsyncClient()
    built = client_transport("http://h.example/v1", client=client)
    connection = await built.connect()
    assert connection.usable()
    await client.aclose()
    assert not connection.usable()
    for action in (built.connect(), connection.exchange(calling(), Ear())):
        with pytest.raises(ConnectFailed, match="closed"):
            await action


async def test_many_workers_share_a_client_that_stays_open() -> None:
    async with httpx.AsyncClient() as client, serve(answer_everything) as server:
        built = client_transport(server.url, client=client)
        connections = [await built.connect() for _ in range(5)]
        for connection in connections:
            assert (await connection.exchange(calling(), Ear())).verdict == "done"
            await connection.aclose()
            await connection.aclose()
        assert server.accepted == server.open == 1
        assert not client.is_closed


async def test_a_transport_that_tells_nothing_leaves_even_a_refused_connection_unknown() -> None:
    """It might have written: nobody knows."""
    async with serve(answer_everything) as server:
        pass
    async with httpx.AsyncClient(transport=PooledTransport()) as client:
        connection = await client_transport(server.url, client=client).connect()
        ear = Ear()
        assert (await connection.exchange(calling(), ear)).verdict == "unknown"
        assert ear.told == ["begin"]


async def test_a_connection_that_takes_too_long_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's pool without a place for it stands for whatever can take long before the first byte."""
    monkeypatch.setattr(client_module, "OPEN_WITHIN_S", 0.05)
    answered, go = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        answered.set()
        await go.wait()
        await peer.send(response())

    limits = httpx.Limits(max_connections=1)
    async with (
        httpx.AsyncClient(limits=limits, timeout=60) as client,
        serve(script) as server,
        trio.open_nursery() as nursery,
    ):
        built = client_transport(server.url, client=client)
        first, second = await built.connect(), await built.connect()
        got: list[Answer] = []

        async def call() -> None:
            got.append(await first.exchange(calling(), Ear()))

        nursery.start_soon(call)
        await answered.wait()
        ear = Ear()
        with pytest.raises(ConnectFailed, match=r"no connection to .* in .* Nothing was sent"):
            await second.exchange(calling(), ear)
        assert ear.told == []
        go.set()
        await eventually(lambda: got)
        assert got[0].verdict == "done", "its time for connecting does not bound the answer"
