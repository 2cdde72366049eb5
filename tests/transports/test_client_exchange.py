"""What comes out of one exchange through httpx: the same as over our own wire, for everything a server can do.

Real loopback sockets and a scripted server.
"""

from __future__ import annotations

import logging

import httpx
import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from client_ways import WAYS, answers_to, client_transport
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_answers import BIG, NOT_WHOLE, WHOLE
from scripted_server import (
    KEY,
    OK_BODY,
    CancelAt,
    Ear,
    NotAfter,
    Peer,
    answer_everything,
    calling,
    eventually,
    open_sockets,
    response,
    serve,
)

from actors.errors import ConnectFailed
from actors.transport import Answer, TooLate
from engine.transports import client as client_module

# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_the_request_is_what_a_provider_expects() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(response(OK_BODY, "Set-Cookie: a=b; Path=/"))

    async with serve(script) as server:
        connection = await client_transport(server.url + "?v=1", call_header=True).connect()
        for call_id in (41, 42):
            answer = await connection.exchange(calling(b'{"n": 1}', call_id), Ear())
            assert (answer.verdict, answer.keep, answer.input_tokens, answer.output_tokens) == ("done", True, 7, 11)
        assert server.accepted == 1
        assert "open, 2 exchanges" in repr(connection)
        await connection.aclose()
        await server.all_closed()
    head, _, body = seen[1].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    assert headers.pop(b"user-agent").startswith(b"penstock")
    assert first == b"POST /v1/call?v=1 HTTP/1.1"
    assert body == b'{"n": 1}'
    assert headers == {
        b"host": f"127.0.0.1:{server.port}".encode(),
        b"accept": b"application/json",
        b"accept-encoding": b"gzip, deflate",
        b"content-type": b"application/json",
        b"content-length": b"8",
        b"authorization": f"Bearer {KEY}".encode(),
        b"x-penstock-call": b"42",
    }


async def test_over_tls_the_certificate_is_checked() -> None:
    async with serve(answer_everything, tls=server_tls()) as server:
        connection = await client_transport(secure(server.url), ssl_context=client_tls()).connect()
        ear = Ear()
        assert (await connection.exchange(calling(), ear)).verdict == "done"
        assert ear.heard == ["begin", "sent"]
        await connection.aclose()
        stranger = await client_transport(secure(server.url)).connect()
        ear = Ear()
        with pytest.raises(ConnectFailed, match=r"certificate was not accepted.*Nothing was sent"):
            await stranger.exchange(calling(), ear)
        assert ear.heard == []
        await stranger.aclose()


@pytest.mark.parametrize("way", ["a connection of its own", "a user's client"])
async def test_sent_is_reported_only_when_the_kernel_has_the_last_byte(way: str) -> None:
    read_on = trio.Event()

    async def script(peer: Peer) -> None:
        await read_on.wait()
        assert await peer.request() is not None
        await peer.send(response())

    async with serve(script) as server, trio.open_nursery() as nursery:
        client = WAYS[way]()
        connection = await client_transport(server.url, client=client).connect()
        ear = Ear()
        nursery.start_soon(connection.exchange, calling(BIG), ear)
        await eventually(lambda: ear.heard)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ear.heard == ["begin"]
        read_on.set()
        await eventually(lambda: not nursery.child_tasks)
        assert ear.heard == ["begin", "sent"]
        await connection.aclose()
        if client is not None:
            await client.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_a_late_grant_writes_nothing(way: str) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (data := await peer.raw.receive_some(1000)) != b"":
            seen.append(data)

    async with serve(script) as server:
        client = WAYS[way]()
        connection = await client_transport(server.url, client=client).connect()
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        assert connection.usable()
        await connection.aclose()
        if client is not None:
            await client.aclose()
        await server.all_closed()
    assert seen == []


async def test_after_a_late_grant_the_connection_serves_the_next() -> None:
    async with serve(answer_everything) as server:
        connection = await client_transport(server.url).connect()
        assert (await connection.exchange(calling(), Ear())).verdict == "done"
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        assert (await connection.exchange(calling(), Ear())).verdict == "done"
        await connection.aclose()
        await server.all_closed()


# --- what is received ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_is_read_in_every_framing(name: str) -> None:
    raw, _ = WHOLE[name]
    answer, ear = await answers_to(raw)
    assert (answer.verdict, answer.charge, answer.input_tokens, answer.output_tokens) == ("done", "usage", 7, 11)
    assert bytes(answer.reply.body) == OK_BODY
    assert ear.heard == ["begin", "sent"]


@pytest.mark.parametrize("behind", [response(b'{"usage": [9, 9]}'), b"HTTP/1.1 2", b"\r\n"])
async def test_bytes_behind_an_answer_are_not_the_next_call_s(behind: bytes) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(response() + behind)

    async with serve(script) as server:
        built = client_transport(server.url)
        connection = await built.connect()
        answer = await connection.exchange(calling(), Ear())
        assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, False)
        assert not connection.usable()
        await server.all_closed()
        with pytest.raises(ConnectFailed):
            await connection.exchange(calling(), Ear())
        await connection.aclose()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NOT_WHOLE)
async def test_what_is_no_whole_answer_leaves_the_outcome_unknown(name: str, way: str) -> None:
    client = WAYS[way]()
    answer, ear = await answers_to(NOT_WHOLE[name], client=client)
    if client is not None:
        await client.aclose()
    assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
    fault = answer.reply.fault
    assert fault is not None
    assert (fault.kind, fault.detail, fault.sent) == ("OutcomeUnknown", "closed", True)
    assert "127.0.0.1" in fault.message
    assert "billed" in fault.message
    assert ear.heard[0] == "begin"


@pytest.mark.parametrize(("status", "verdict"), [("429 Slow", "retry"), ("503 Busy", "retry"), ("400 No", "failed")])
async def test_a_refusal_that_breaks_off_is_judged_by_its_status(status: str, verdict: str) -> None:
    answer, _ = await answers_to(response(b'{"error": "long story"}', status=status)[:-4])
    assert (answer.verdict, answer.keep, answer.reply.status) == (verdict, False, int(status[:3]))


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
async def test_redirects_are_answers(status: str) -> None:
    for client in (None, httpx.AsyncClient(follow_redirects=True)):
        answer, _ = await answers_to(response(b"", "Location: /elsewhere", status=status), client=client)
        assert (answer.verdict, answer.reply.status) == ("failed", int(status[:3]))


@pytest.mark.parametrize("framing", ["length", "chunked", "endless"])
async def test_an_answer_over_the_cap_is_dropped_and_not_tried_again(framing: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        head = {"length": b"Content-Length: 5000000", "chunked": b"Transfer-Encoding: chunked", "endless": b"x-a: b"}
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n\r\n")
        for _ in range(500):
            await peer.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n" if framing == "chunked" else b"x" * 10_000)

    async with serve(script) as server:
        connection = await client_transport(server.url, cap_bytes=100_000).connect()
        answer = await connection.exchange(calling(), Ear())
        assert (answer.verdict, answer.charge, answer.keep) == ("failed", "kept", False)
        assert answer.reply.fault is not None
        assert (answer.reply.fault.kind, answer.reply.fault.status) == ("OutcomeUnknown", 200)
        await server.all_closed()
        await connection.aclose()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([raw for raw, _ in WHOLE.values()]), st.binary(max_size=40)), max_size=5))
def test_any_bytes_at_all_give_an_answer(parts: list[bytes]) -> None:
    async def main() -> None:
        answer, ear = await answers_to(b"".join(parts))
        assert answer.verdict in ("done", "failed", "retry", "unknown")
        assert ear.heard == ["begin", "sent"]
        assert answer.verdict == "done" or answer.reply.fault is not None

    trio.run(main)


# --- when nobody is there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["a connection of its own", "a user's client"])
async def test_a_refused_connection_costs_nothing_and_says_why(way: str) -> None:
    async with serve(answer_everything) as server:
        pass
    client = WAYS[way]()
    connection = await client_transport(server.url, client=client).connect()
    ear = Ear()
    with pytest.raises(ConnectFailed, match=rf"127\.0\.0\.1:{server.port}: .*Connection refused\. Nothing was sent"):
        await connection.exchange(calling(), ear)
    assert ear.heard == []
    await connection.aclose()


async def test_a_transport_that_tells_nothing_leaves_even_a_refused_connection_unknown() -> None:
    """It might have written: nobody knows."""
    async with serve(answer_everything) as server:
        pass
    async with WAYS["a client over our own wire"]() as client:
        connection = await client_transport(server.url, client=client).connect()
        ear = Ear()
        assert (await connection.exchange(calling(), ear)).verdict == "unknown"
        assert ear.heard == ["begin"]


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
        assert ear.heard == []
        go.set()
        await eventually(lambda: got)
        assert got[0].verdict == "done", "its time for connecting does not bound the answer"


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_an_exchange_can_be_cancelled_at_every_checkpoint(tls: bool) -> None:
    context = client_tls()
    before = open_sockets()
    cancelled = finished = 0
    async with serve(answer_everything, tls=server_tls() if tls else None) as server:
        for step in range(1, 200):
            with trio.CancelScope() as scope:
                at = CancelAt(scope, step)
                trio.lowlevel.add_instrument(at)
                url = secure(server.url) if tls else server.url
                connection = await client_transport(url, ssl_context=context).connect()
                try:
                    answer = await connection.exchange(calling(), NotAfter(scope))
                    finished += answer.verdict == "done"
                finally:
                    trio.lowlevel.remove_instrument(at)
                    await connection.aclose()
                    assert not connection.usable()
            cancelled += scope.cancelled_caught
            await server.all_closed()
            if finished and not scope.cancel_called:
                break
    assert finished
    assert cancelled > 3
    assert open_sockets() == before


# --- the key ---------------------------------------------------------------------------------------------------------


async def test_the_key_is_in_no_log_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = response(f'{{"error": "bad key {KEY}"}}'.encode(), f"x-echo: {KEY}", status="401 No")
    answer, _ = await answers_to(told)
    assert answer.reply.fault is not None
    assert "bad key [key removed]" in answer.reply.fault.message
    garbage, _ = await answers_to(f"{KEY} is no status line\r\n\r\n".encode())
    connection = await client_transport("http://u:swordfish@h.example/v1").connect()
    for shown in (answer, garbage, connection, client_transport("http://u:swordfish@h.example/v1")):
        assert KEY not in repr(shown)
        assert "swordfish" not in repr(shown)
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert lines
    assert KEY not in "\n".join(lines)
