"""HTTP/2 and SOCKS, through the packages that httpx needs for them: the same outcomes as over HTTP/1.1.

A server that speaks HTTP/2 by the library h2, and a SOCKS proxy of a few lines, on real loopback sockets.
"""

from __future__ import annotations

import logging

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from scripted_server import KEY, OK_BODY, Ear, Peer, answer_everything, calling, serve
from worker_ways import client_transport

from actors.errors import ConnectFailed
from actors.transport import TooLate


async def speak_http2(peer: Peer) -> None:
    """Answer each request on its stream; one with ``reset`` in its body is reset, one with ``cut`` half answered."""
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    state.initiate_connection()
    bodies: dict[int, bytes] = {}
    await peer.send(state.data_to_send())
    while data := await peer.stream.receive_some(65_536):
        for event in state.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                number, body = event.stream_id, bodies[event.stream_id]
                if b"reset" in body:
                    state.reset_stream(number)
                    continue
                state.send_headers(number, [(":status", "200"), ("content-type", "application/json")])
                state.send_data(number, OK_BODY[: 3 if b"cut" in body else None], end_stream=b"cut" not in body)
                if b"cut" in body:
                    await peer.send(state.data_to_send())
                    return
        await peer.send(state.data_to_send())


async def test_http2_serves_one_call_after_the_other() -> None:
    async with serve(speak_http2, tls=server_tls()) as server:
        built = client_transport(secure(server.url), http2=True, ssl_context=client_tls())
        connection = await built.connect()
        for body in (b'{"n": 1}', b"x" * 300_000):
            ear = Ear()
            answer = await connection.exchange(calling(body), ear)
            assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, True)
            assert ear.told == ["begin", "sent"]
        assert server.accepted == 1
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        assert (await connection.exchange(calling(), Ear())).verdict == "done"
        await connection.aclose()
        await server.all_closed()


@pytest.mark.parametrize("how", [b"reset", b"cut"])
async def test_an_http2_stream_that_breaks_leaves_the_outcome_unknown(how: bytes) -> None:
    async with serve(speak_http2, tls=server_tls()) as server:
        built = client_transport(secure(server.url), http2=True, ssl_context=client_tls())
        connection = await built.connect()
        ear = Ear()
        answer = await connection.exchange(calling(how), ear)
        assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
        assert ear.told == ["begin", "sent"]
        await connection.aclose()
        await server.all_closed()


async def test_a_server_without_http2_is_spoken_to_all_the_same() -> None:
    context = server_tls()
    context.set_alpn_protocols(["http/1.1"])
    async with serve(answer_everything, tls=context) as server:
        built = client_transport(secure(server.url), http2=True, ssl_context=client_tls())
        connection = await built.connect()
        assert (await connection.exchange(calling(), Ear())).verdict == "done"
        await connection.aclose()


@pytest.mark.parametrize("granted", [True, False])
async def test_a_socks_proxy_is_asked_by_name_and_its_password_not_logged(
    granted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked: list[bytes] = []

    async def socks(peer: Peer) -> None:
        await peer.raw.receive_some(100)
        await peer.send(b"\x05\x02")
        asked.append(await peer.raw.receive_some(100))
        await peer.send(b"\x01\x00")
        asked.append(await peer.raw.receive_some(100))
        await peer.send(b"\x05" + (b"\x00" if granted else b"\x02") + b"\x00\x01\x7f\x00\x00\x01\x00\x50")
        if granted:
            await answer_everything(peer)

    async with serve(socks) as proxy:
        address = f"socks5://me:swordfish@127.0.0.1:{proxy.port}"
        connection = await client_transport("http://api.example/v1", proxy=address).connect()
        ear = Ear()
        if granted:
            assert (await connection.exchange(calling(), ear)).verdict == "done"
            assert ear.told == ["begin", "sent"]
        else:
            with pytest.raises(ConnectFailed, match="Nothing was sent"):
                await connection.exchange(calling(), ear)
            assert ear.told == []
        await connection.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert asked[0] == b"\x01\x02me\x09swordfish"
    assert b"api.example" in asked[1]
    shown = "\n".join(record.getMessage() for record in caplog.records)
    assert "setup_socks5_connection.complete" in shown or not granted
    assert "swordfish" not in shown
    assert KEY not in shown
