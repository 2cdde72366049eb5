"""What a worker may expect of any way to speak to a provider, when nothing goes wrong: the same tests for all of them.

What a request looks like, when it is reported sent, what its answer is, being cancelled at every checkpoint, and where
the key is not. Real loopback sockets and a scripted server. What goes wrong is in `test_worker_faults`.
"""

from __future__ import annotations

import logging
import traceback

import pytest
import trio
import trio.testing
from certificates import client_tls, server_tls
from raw_answers import BIG, WHOLE
from scripted_server import (
    KEY,
    OK_BODY,
    CancelAt,
    Ear,
    NotAfter,
    Peer,
    Server,
    answer_everything,
    calling,
    eventually,
    open_sockets,
    response,
    serve,
)
from worker_ways import HTTPX, OURS, WAYS, Way, answers_to, connected, reaching

from actors.errors import ConnectFailed
from actors.messages import APICalling
from actors.transport import Answer, TooLate
from engine.providers.wire import Usage

OWN = pytest.mark.parametrize("way", [OURS, HTTPX], ids=["our wire", "httpx"])
TELLING = pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in WAYS.items() if way.tells])

# --- what is sent ----------------------------------------------------------------------------------------------------


async def requests_of(way: Way, *calls: APICalling, **options: object) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """First line, headers and body of what leaves for each call, all on one connection."""
    seen: list[tuple[bytes, dict[bytes, bytes], bytes]] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            head, _, body = request.partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
            assert len(headers) == len(dict(headers))
            seen.append((first, dict(headers), body))
            await peer.send(response(OK_BODY, "Set-Cookie: a=b; Path=/"))

    async with serve(script) as server, connected(way, server, **options) as connection:
        for call in calls:
            answer = await connection.exchange(call, Ear())
            assert (answer.verdict, answer.charge, answer.input_tokens, answer.output_tokens) == (
                "done",
                "usage",
                7,
                11,
            )
            assert answer.keep
            assert connection.usable()
        assert server.accepted == 1
        assert f"open, {len(calls)} exchanges" in repr(connection)
        assert seen[0][1].pop(b"host") == f"127.0.0.1:{server.port}".encode()
    return seen


async def test_the_request_is_what_a_provider_expects(way: Way) -> None:
    again, (first, headers, body) = await requests_of(
        way, calling(b'{"n": 1}', 41), calling(b'{"n": 1}', 42), query="?v=1", call_header=True
    )
    expected = {
        b"accept": b"application/json",
        b"accept-encoding": b"gzip, deflate",
        b"content-type": b"application/json",
        b"content-length": b"8",
        b"authorization": f"Bearer {KEY}".encode(),
        b"x-penstock-call": b"42",
    }
    assert headers.pop(b"user-agent").startswith(b"penstock")
    assert (first, body) == (b"POST /v1/call?v=1 HTTP/1.1", b'{"n": 1}')
    assert expected.items() <= headers.items()
    assert way.client is not None or headers.keys() - {b"host"} == expected.keys()
    assert again[1][b"x-penstock-call"] == b"41"


async def test_given_headers_win_and_no_call_header_is_sent_without_being_asked(way: Way) -> None:
    ((_, headers, _),) = await requests_of(way, calling(), user="user:swordfish@", headers={"User-Agent": "mine"})
    assert headers[b"user-agent"] == b"mine"
    assert headers[b"authorization"] == b"Basic dXNlcjpzd29yZGZpc2g="
    assert b"x-penstock-call" not in headers
    assert "swordfish" not in repr(way.build("http://user:swordfish@h.example/v1"))


@pytest.mark.parametrize("tls", [False, True])
async def test_sent_is_reported_once_and_only_when_the_kernel_has_the_last_byte(way: Way, tls: bool) -> None:
    read_on = trio.Event()

    async def script(peer: Peer) -> None:
        if tls:
            await peer.stream.do_handshake()
        await read_on.wait()
        assert await peer.request() is not None
        await peer.send(response())

    async with (
        serve(script, tls=server_tls() if tls else None) as server,
        connected(way, server, tls=tls) as connection,
        trio.open_nursery() as nursery,
    ):
        ear = Ear()
        nursery.start_soon(connection.exchange, calling(BIG), ear)
        await eventually(lambda: ear.told)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ear.told == ["begin"]
        read_on.set()
        await eventually(lambda: not nursery.child_tasks)
        assert ear.told == ["begin", "sent"]


async def test_a_late_grant_writes_nothing_and_leaves_the_connection_good(way: Way) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(response())
        assert peer.unread == b""

    async with serve(script) as server, connected(way, server) as connection:
        for number in range(3):
            ear = Ear(late=True)
            with pytest.raises(TooLate):
                await connection.exchange(calling(b"late"), ear)
            assert ear.told == ["begin"]
            assert connection.usable()
            answer = await connection.exchange(calling(b"%d" % number), Ear())
            assert (answer.verdict, answer.keep) == ("done", True)
        assert server.accepted == 1 or way is not OURS
    assert [request[-1:] for request in seen] == [b"0", b"1", b"2"]


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_an_answer_carries_usage_headers_and_the_providers_bytes(way: Way) -> None:
    learned: list[tuple[int, Usage]] = []

    def on_usage(call: APICalling, usage: Usage) -> None:
        learned.append((call.call_id, usage))

    answer, ear = await answers_to(way, response(OK_BODY, "X-Request-Id: r1", "x-a: 1", "X-A: 2"), on_usage=on_usage)
    assert (answer.verdict, answer.charge, answer.input_tokens, answer.output_tokens) == ("done", "usage", 7, 11)
    assert answer.reply.status == 200
    assert answer.reply.headers == (("x-request-id", "r1"), ("x-a", "1, 2"))
    assert bytes(answer.reply.body) == OK_BODY
    assert (answer.reply.input_tokens, answer.reply.output_tokens) == (7, 11)
    assert learned == [(1, Usage(7, 11, 18))]
    assert ear.told == ["begin", "sent"]


async def test_a_refusal_carries_the_advice_of_its_format(way: Way) -> None:
    told = response(b'{"error": "slow down"}', status="429 Too Many Requests")
    answer, _ = await answers_to(way, told, close=False)
    assert (answer.verdict, answer.charge, answer.barrier, answer.hint_us, answer.exempt, answer.keep) == (
        ("retry", "requests_kept", True, 3_000_000, True, True)
    )
    assert answer.reply.fault is not None
    assert answer.reply.fault.message == "slow down"


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_is_read_however_it_is_framed(way: Way, name: str) -> None:
    raw, keep = WHOLE[name]
    answer, ear = await answers_to(way, raw, close=b"\r\nContent-Length" not in raw and not keep)
    assert (answer.verdict, answer.input_tokens, answer.output_tokens) == ("done", 7, 11)
    assert bytes(answer.reply.body) == OK_BODY
    assert answer.keep is keep or way is not OURS  # httpx opens another connection where this one ends
    assert ear.told == ["begin", "sent"]


@OWN
@pytest.mark.parametrize("name", ["chunked", "100 first", "gzip"])
async def test_an_answer_may_be_cut_anywhere_into_packets(way: Way, name: str) -> None:
    raw, _ = WHOLE[name]

    async def script(peer: Peer) -> None:
        at = 0
        while await peer.request() is not None:
            at += 1
            await peer.send(raw[:at])
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(raw[at:])

    async with serve(script) as server, connected(way, server) as connection:
        for _ in range(len(raw) - 1):
            answer = await connection.exchange(calling(), Ear())
            assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, True)
        assert server.accepted == 1


@OWN
@pytest.mark.parametrize("behind", [response(b'{"usage": [9, 9]}'), b"HTTP/1.1 2", b"more"])
async def test_bytes_behind_an_answer_are_not_the_next_call_s(way: Way, behind: bytes) -> None:
    answer, _ = await answers_to(way, response() + behind, close=False)
    assert (answer.verdict, answer.input_tokens, answer.keep) == ("done", 7, False)


async def test_no_content_is_an_answer_like_any_other(way: Way) -> None:
    answer, _ = await answers_to(way, b"HTTP/1.1 204 No Content\r\n\r\n", close=False)
    assert (answer.verdict, answer.charge, answer.reply.status, answer.keep) == ("done", "kept", 204, True)
    assert bytes(answer.reply.body) == b""


@pytest.mark.parametrize("location", ["/elsewhere", "http://127.0.0.1:1/"])
@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
async def test_a_redirect_is_an_answer(way: Way, location: str, status: str) -> None:
    answer, _ = await answers_to(way, response(b"", f"Location: {location}", status=status), close=False)
    assert (answer.verdict, answer.reply.status, answer.keep) == ("failed", int(status[:3]), True)


@OWN
@pytest.mark.parametrize("location", ["http://[", "http://h:port/", "\xff"])
async def test_a_bad_redirect_is_no_worse(way: Way, location: str) -> None:
    answer, _ = await answers_to(way, response(b"", f"Location: {location}", status="307 There"), close=False)
    assert (answer.verdict, answer.reply.status, answer.keep) == ("failed", 307, True)


# --- when nobody is there --------------------------------------------------------------------------------------------


@TELLING
async def test_a_refused_connection_costs_nothing_and_says_why(way: Way) -> None:
    async with serve(answer_everything) as server:
        pass
    ear = Ear()
    told = rf"127\.0\.0\.1:{server.port}: .*Connection refused\. Nothing was sent"
    with pytest.raises(ConnectFailed, match=told):
        async with connected(way, server) as connection:
            await connection.exchange(calling(), ear)
    assert ear.told == []


@TELLING
async def test_a_certificate_that_is_wrong_costs_nothing(way: Way) -> None:
    ear = Ear()
    async with serve(answer_everything, tls=server_tls("other.example")) as server:
        with pytest.raises(ConnectFailed, match=r"certificate was not accepted.*Nothing was sent") as caught:
            async with connected(way, server, tls=True) as connection:
                await connection.exchange(calling(), ear)
        await server.all_closed()
    assert ear.told == []
    assert KEY not in "".join(traceback.format_exception(caught.value))


# --- cancellation ----------------------------------------------------------------------------------------------------


@OWN
@pytest.mark.parametrize("tls", [False, True])
async def test_calls_can_be_cancelled_at_every_checkpoint(way: Way, tls: bool) -> None:
    context = client_tls()
    before = open_sockets()
    cancelled = finished = 0
    async with serve(answer_everything, tls=server_tls() if tls else None) as server:
        for step in range(1, 500):
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await two_calls(way, server, scope, tls=tls, ssl_context=context)
                    finished += 1
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            cancelled += scope.cancelled_caught
            await server.all_closed()
            assert cancelled + finished == step
            if not scope.cancel_called:
                break
    assert cancelled >= 5
    assert finished >= 1
    assert open_sockets() == before


async def two_calls(way: Way, server: Server, scope: trio.CancelScope, **options: object) -> None:
    body = b"x" * (4_000_000 if way is OURS else 100)  # more than the kernel takes at once
    async with reaching(way, server, **options) as built:
        connection = await built.connect()
        try:
            for _ in range(2):
                await connection.exchange(calling(body), NotAfter(scope))
        except trio.Cancelled:
            assert not (way is OURS and connection.usable())
            raise
        finally:
            await connection.aclose()
            await connection.aclose()
            assert not connection.usable()


@OWN
async def test_closing_ends_a_call_that_waits(way: Way) -> None:
    """As when an endpoint is stopped: the call under way ends as unknown, and nobody hangs."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    answers: list[Answer] = []
    async with serve(script) as server, connected(way, server) as connection, trio.open_nursery() as nursery:
        ear = Ear()

        async def call() -> None:
            answers.append(await connection.exchange(calling(), ear))

        nursery.start_soon(call)
        await eventually(lambda: "sent" in ear.told)
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


async def test_the_key_is_nowhere_though_the_provider_repeats_it_and_every_logger_is_at_its_loudest(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def script(peer: Peer) -> None:
        for part in ECHOES:
            await peer.request()
            await peer.send(part)

    shown: list[object] = []
    async with serve(script) as server, reaching(way, server) as built:
        connection = await built.connect()
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        for _ in ECHOES:
            reply = (await connection.exchange(calling(), Ear())).reply
            shown += [reply.fault, reply.headers]
        shown += [built, connection]
        with pytest.raises(ConnectFailed) as caught:
            await connection.exchange(calling(), Ear())
        shown.append("".join(traceback.format_exception(caught.value)))
        await connection.aclose()
    # httpcore's debug log shows what goes over the wire: whoever turns it on has asked for it.
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert lines
    text = " ".join(map(repr, [*shown, *lines]))
    assert "the key [key removed] is not valid" in text
    assert "Bearer" not in text
    assert KEY not in text
