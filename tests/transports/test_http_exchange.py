"""What comes out of one exchange over plain HTTP, for everything a server can do at every point of it.

Real loopback sockets and a scripted server. Each cell asserts one outcome; nothing here depends on the clock.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from certificates import client_tls, secure, server_tls
from raw_answers import BIG, WHOLE, answers_to
from scripted_server import (
    OK_BODY,
    Ear,
    PairFormat,
    Peer,
    answer_everything,
    calling,
    eventually,
    response,
    serve,
    transport,
)

from actors.messages import APICalling
from actors.transport import TooLate
from engine.providers.wire import Usage
from engine.transports.http import HttpTransport

# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_the_request_is_what_a_provider_expects() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(response(OK_BODY, "Set-Cookie: a=b; Path=/"))

    async with serve(script) as server:
        connection = await transport(server.url + "?v=1", call_header=True).connect()
        for call_id in (41, 42):
            await connection.exchange(calling(b'{"n": 1}', call_id), Ear())
        await connection.aclose()
    head, _, body = seen[1].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    agent = headers.pop(b"user-agent")
    assert agent.startswith(b"penstock")
    assert first == b"POST /v1/call?v=1 HTTP/1.1"
    assert body == b'{"n": 1}'
    assert headers == {
        b"host": f"127.0.0.1:{server.port}".encode(),
        b"accept": b"application/json",
        b"accept-encoding": b"gzip, deflate",
        b"content-type": b"application/json",
        b"content-length": b"8",
        b"authorization": b"Bearer sk-live-0123456789abcdef",
        b"x-penstock-call": b"42",
    }


async def test_without_being_asked_no_call_header_is_sent_and_given_headers_win() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request() or b"")
        await peer.send(response())

    async with serve(script) as server:
        url = server.url.replace("http://", "http://user:pass@")
        built = HttpTransport(url=url, headers={"User-Agent": "mine"}, format=PairFormat())
        connection = await built.connect()
        await connection.exchange(calling(), Ear())
        await connection.aclose()
    assert b"x-penstock-call" not in seen[0].lower()
    assert seen[0].lower().count(b"user-agent: mine") == 1
    assert b"penstock" not in seen[0]
    assert b"authorization: Basic dXNlcjpwYXNz" in seen[0]
    assert "pass" not in repr(built)


@pytest.mark.parametrize("tls", [False, True])
async def test_sent_is_reported_once_and_only_when_the_kernel_has_the_last_byte(tls: bool) -> None:
    read_on = trio.Event()

    async def script(peer: Peer) -> None:
        if tls:
            await peer.stream.do_handshake()
        await read_on.wait()
        assert await peer.request() is not None
        await peer.send(response())

    async with serve(script, tls=server_tls() if tls else None) as server, trio.open_nursery() as nursery:
        built = transport(secure(server.url) if tls else server.url, ssl_context=client_tls())
        connection = await built.connect()
        ear = Ear()
        nursery.start_soon(connection.exchange, calling(BIG), ear)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ear.heard == ["begin"]
        read_on.set()
        await eventually(lambda: not nursery.child_tasks)
        assert ear.heard == ["begin", "sent"]
        await connection.aclose()


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


async def test_a_late_grant_writes_nothing_and_leaves_the_connection_good() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(response())

    async with serve(script) as server:
        connection = await transport(server.url).connect()
        for number in range(3):
            with pytest.raises(TooLate):
                await connection.exchange(calling(b"late"), Ear(late=True))
            assert connection.usable()
            answer = await connection.exchange(calling(b"%d" % number), Ear())
            assert answer.verdict == "done"
            assert answer.keep
        await connection.aclose()
        assert server.accepted == 1
    assert [request[-1:] for request in seen] == [b"0", b"1", b"2"]


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_an_answer_carries_usage_headers_and_the_providers_bytes() -> None:
    learned: list[tuple[int, Usage]] = []

    def on_usage(call: APICalling, usage: Usage) -> None:
        learned.append((call.call_id, usage))

    answer, ear = await answers_to(response(OK_BODY, "X-Request-Id: r1", "x-a: 1", "X-A: 2"), on_usage=on_usage)
    assert (answer.verdict, answer.charge, answer.input_tokens, answer.output_tokens) == ("done", "usage", 7, 11)
    assert answer.reply.status == 200
    assert answer.reply.headers == (("x-request-id", "r1"), ("x-a", "1, 2"))
    assert bytes(answer.reply.body) == OK_BODY
    assert (answer.reply.input_tokens, answer.reply.output_tokens) == (7, 11)
    assert learned == [(1, Usage(7, 11, 18))]
    assert ear.heard == ["begin", "sent"]


async def test_a_refusal_carries_the_advice_of_its_format() -> None:
    answer, _ = await answers_to(response(b'{"error": "slow down"}', status="429 Too Many Requests"), close=False)
    assert (answer.verdict, answer.charge, answer.barrier, answer.hint_us, answer.exempt, answer.keep) == (
        ("retry", "requests_kept", True, 3_000_000, True, True)
    )
    assert answer.reply.fault is not None
    assert answer.reply.fault.message == "slow down"


async def test_a_hundred_calls_use_one_connection() -> None:
    async with serve(answer_everything) as server:
        connection = await transport(server.url).connect()
        for number in range(100):
            assert connection.usable()
            answer = await connection.exchange(calling(b"%d" % number), Ear())
            assert answer.keep
        await connection.aclose()
        assert server.accepted == 1


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_is_read_however_it_is_framed(name: str) -> None:
    raw, keep = WHOLE[name]
    answer, ear = await answers_to(raw, close=b"\r\nContent-Length" not in raw and not keep)
    assert (answer.verdict, answer.input_tokens, answer.output_tokens) == ("done", 7, 11)
    assert bytes(answer.reply.body) == OK_BODY
    assert answer.keep is keep
    assert ear.heard == ["begin", "sent"]


async def test_an_answer_may_be_cut_anywhere_into_packets() -> None:
    for raw, keep in (WHOLE["chunked"], WHOLE["100 first"], WHOLE["gzip"]):

        async def script(peer: Peer, raw: bytes = raw) -> None:
            at = 0
            while await peer.request() is not None:
                at += 1
                await peer.send(raw[:at])
                await trio.testing.wait_all_tasks_blocked()
                await peer.send(raw[at:])

        async with serve(script) as server:
            connection = await transport(server.url).connect()
            for _ in range(len(raw) - 1):
                answer = await connection.exchange(calling(), Ear())
                assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, keep)
            await connection.aclose()


async def test_no_content_is_an_answer_like_any_other() -> None:
    answer, _ = await answers_to(b"HTTP/1.1 204 No Content\r\n\r\n", close=False)
    assert (answer.verdict, answer.charge, answer.reply.status, answer.keep) == ("done", "kept", 204, True)
    assert bytes(answer.reply.body) == b""


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/", "http://[", "http://h:port/", "\xff"])
async def test_a_redirect_is_not_followed_and_a_bad_one_is_no_worse(location: str) -> None:
    answer, _ = await answers_to(response(b"", f"Location: {location}", status="307 Temporary Redirect"), close=False)
    assert (answer.verdict, answer.reply.status, answer.keep) == ("failed", 307, True)
