"""No byte sequence from a provider makes any reader of the catalogue raise, or loses an answer that was paid for.

First the formats themselves, asked everything that is asked of them; then whole engines over real sockets, where a
server on loopback sends the same bodies: nothing reaches the caller but an error of the provider's or of the wire, and
the bytes of a success are kept. The formats' own tests say what is read in what.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import msgspec
import trio
from damaged_answers import cut, grown_body, grown_headers
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.errors
from actors.messages import encode
from engine import Call, ProviderError, TransportError, iModel, open_engine
from engine.providers.catalogue import COMPATIBLE, PROVIDERS, EndpointRow
from engine.providers.json_format import is_known
from engine.providers.wire import Reading, StreamChunk, Usage, View, WireFormat
from engine.sse import Event, EventReader, LineReader

FORMATS: dict[str, Any] = {
    f"{provider.name or 'any other'} {row.name}": row.format
    for provider in (*PROVIDERS, COMPATIBLE)
    for row in provider.endpoints
}
STREAMING = {name: wire for name, wire in FORMATS.items() if hasattr(wire, "monitor")}
_FOLDERS = {
    "openai response": "openai_responses", "anthropic chat": "anthropic_messages", "ollama chat": "ollama_compat",
    "any other response": "openai_responses", "any other completions": "openai_completions",
}  # fmt: skip


def like(name: str) -> tuple[str, ...]:
    """The folders with the recorded answers of an endpoint; those of OpenAI's chat stand for all that are like it."""
    further = ("openai_chat",) if name.endswith("chat") else ("openai_embed",) if name.endswith("embed") else ()
    return (_FOLDERS.get(name, name.replace(" ", "_")), *further)


SEEDS = st.integers(0, 2**64)
STATUSES = (200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 432, 498, 500, 502, 503, 529, 599)


@contextmanager
def named(reader: str) -> Iterator[None]:
    """Say which reader it was, and what it read."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"reader: {reader}")
        raise


def assert_plain(value: Any) -> None:
    """Every text in it can be written as UTF-8, every number as itself: it is of the types it is declared with."""
    plain = msgspec.to_builtins(value)
    assert msgspec.convert(plain, type(value)) is not None
    msgspec.json.encode(plain)


def assert_view(view: object) -> None:
    assert isinstance(view, View)
    vectors = [list(vector) for vector in view.embeddings]
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    assert_plain(msgspec.structs.replace(view, embeddings=()))


def assert_usage(usage: object) -> None:
    assert usage is None or isinstance(usage, Usage)
    if usage is not None:
        assert_plain(usage)
        assert all(part is None or 0 <= part <= 10**13 for part in msgspec.structs.astuple(usage))


def assert_reading(reading: object, status: int) -> None:
    """It says what to do, and can be sent on to the schedule and to the caller."""
    assert isinstance(reading, Reading)
    advice, fault = reading.advice, reading.fault
    assert (fault is None) == (advice.verdict == "done")
    assert fault is not None or 200 <= status <= 299
    assert advice.charge != "usage" or is_known(reading.usage)
    assert advice.hint_us is None or 0 <= advice.hint_us < 2**63
    assert 0 <= reading.free_tokens <= 10**12
    assert_usage(reading.usage)
    msgspec.msgpack.encode((advice, reading.headers))
    if fault is not None:
        encode(fault)
        whose = ProviderError if advice.verdict != "later" else (ProviderError, TransportError)
        assert issubclass(getattr(engine.errors, fault.kind), whose)
        assert "\n" not in fault.message
        engine.errors.error_of(fault, call_id=1).__repr__().encode()


def look_at_answer(wire: WireFormat, status: int, headers: dict[str, str], body: bytes, now_s: float) -> None:
    reading = wire.read(status, headers, memoryview(body), now_s=now_s)
    assert_reading(reading, status)
    try:
        decoded = wire.decode(memoryview(body))
    except msgspec.DecodeError:
        assert reading.fault is not None
        decoded = None
    assert_view(wire.view(decoded))


def look_at_stream(wire: Any, status: int, headers: dict[str, str], events: list[Event], seed: int) -> None:
    monitor, assembler, chance = wire.monitor(), wire.assembler(), Random(seed)
    left = list(events)
    while left:
        many = chance.randint(1, len(left))
        monitor.heard(left[:many])
        del left[:many]
    assert monitor.events == len(events)
    chunks = [chunk for event in events for chunk in assembler.feed(event)] + assembler.end()
    assert assembler.end() == []
    for chunk in chunks:
        assert isinstance(chunk, StreamChunk)
        assert_plain(msgspec.structs.replace(chunk, metadata={}, tool_input=None, tool_output=None))
        assert isinstance(dict(chunk.metadata), dict)
        str(chunk).encode()
    assert_reading(monitor.reading(status, headers, now_s=0.0), status)
    assert isinstance(assembler.response(), dict)
    assert 0 <= assembler.unreadable <= len(events)
    assert_view(wire.view(assembler.response()))


def split(kind: type[EventReader | LineReader], pieces: list[bytes]) -> list[Event]:
    reader = kind(cap_bytes=1 << 24)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


@given(SEEDS, st.sampled_from(STATUSES), st.sampled_from([0.0, 1.8e9]))
@settings(max_examples=250, deadline=None)
def test_no_answer_makes_any_reader_raise(seed: int, status: int, now_s: float) -> None:
    chance, headers = Random(seed), grown_headers(seed)
    for name, wire in FORMATS.items():
        body = grown_body(chance.getrandbits(64), like(name))
        with named(f"{name}: {status} {headers} {body[:2_000]!r}"):
            look_at_answer(wire, status, headers, body, now_s)


@given(SEEDS, st.sampled_from([200, 201]))
@settings(max_examples=250, deadline=None)
def test_no_stream_makes_any_reader_raise_however_it_is_cut(seed: int, status: int) -> None:
    chance, headers = Random(seed), grown_headers(seed)
    for name, wire in STREAMING.items():
        body = grown_body(chance.getrandbits(64), like(name))
        with named(f"{name}: {headers} {body[:2_000]!r}"):
            for kind in (EventReader, LineReader):
                events = split(kind, [body])
                assert split(kind, cut(seed, body)) == events
                look_at_stream(wire, status, headers, events, seed)
            decoded = wire.decode_stream(memoryview(body))
            assert isinstance(decoded, dict)
            assert_view(wire.view(decoded))


@given(st.binary(max_size=300), st.integers(200, 599))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read(body: bytes, status: int) -> None:
    for wire in FORMATS.values():
        look_at_answer(wire, status, {}, body, 0.0)
    for wire in STREAMING.values():
        look_at_stream(wire, 200, {}, split(EventReader, [body]), 0)
        assert_view(wire.view(wire.decode_stream(body)))


def test_whatever_was_decoded_has_a_view() -> None:
    """Also what no JSON can hold."""
    odd = (None, object(), b"x", {1: 2}, {"choices": object()}, {"data": [{"embedding": object()}]}, {"results": 3})
    for wire in FORMATS.values():
        for found in odd:
            assert_view(wire.view(found))


# --- over the wire ----------------------------------------------------------------------------------------------------

MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "chat": MESSAGES,
    "native": MESSAGES,
    "response": {"model": "m", "input": "hello"},
    "embed": {"model": "m", "input": "hello", "input_type": "query"},
    "completions": {"model": "m", "prompt": "hello"},
    "search": {"query": "hello"},
    "extract": {"urls": ["https://example.org/"]},
    "scrape": {"url": "https://example.org/"},
    "map": {"url": "https://example.org/"},
    "run": {"model": "m", "data": "hello"},
}
ROWS = [(provider.name or "any_other", row) for provider in (*PROVIDERS, COMPATIBLE) for row in provider.endpoints]
KINDS = (b"application/json", b"text/event-stream", b"text/event-stream", b"application/x-ndjson", b"text/html")


class Sent(NamedTuple):
    """What the server answers: in pieces, as a body of known length or as one in chunks; `cut`: without its end."""

    status: int
    kind: bytes
    pieces: list[bytes]
    chunked: bool
    cut: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @classmethod
    def grown(cls, seed: int, name: str) -> Sent:
        chance = Random(seed)
        status = chance.choice([200] * 8 + [status for status in STATUSES if status != 204])
        pieces = cut(seed, grown_body(seed, like(name))[:200_000])
        return cls(status, chance.choice(KINDS), pieces, chance.random() < 0.5, chance.random() < 0.1)

    def writes(self) -> Iterator[bytes]:
        length = b"transfer-encoding: chunked" if self.chunked else b"content-length: %d" % (len(self.body) + self.cut)
        yield b"HTTP/1.1 %d So\r\ncontent-type: %b\r\n%b\r\n\r\n" % (self.status, self.kind, length)
        for piece in filter(None, self.pieces):
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece
        if self.chunked and not self.cut:
            yield b"0\r\n\r\n"


class Server:
    """Answers every request on loopback with `sent`."""

    def __init__(self) -> None:
        self.sent = Sent(200, b"", [], chunked=False, cut=False)
        self.url = ""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        await trio.serve_listeners(self.answer, [listener], task_status=task_status)

    async def answer(self, stream: trio.SocketStream) -> None:
        asked = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                asked += data
                head, end, body = asked.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if end and length and len(body) >= int(length[1]):
                    asked = b""
                    for piece in self.sent.writes():
                        await stream.send_all(piece)
                    if self.sent.cut:
                        break
        await trio.aclose_forcefully(stream)


async def called(model: iModel, arguments: dict[str, Any], *, streamed: bool) -> Call:
    """A call that has ended, well or with an error of the provider's or of the wire; anything else is raised."""
    if not streamed:
        return await model.invoke(**arguments)
    stream = model.stream(**arguments)
    with contextlib.suppress(ProviderError, TransportError):
        async with stream:
            async for chunk in stream:
                assert isinstance(chunk, StreamChunk)
    return stream.call


def assert_kept(call: Call, sent: Sent, wire: Any) -> None:
    """What came is on the call: all of it, or, of a stream, what came before it said that it is over."""
    kept = bytes(call.reply.body)
    if kept != sent.body:
        assert call.reply.streamed
        assert sent.body.startswith(kept)
        monitor = wire.monitor()
        monitor.heard(split(LineReader if b"ndjson" in sent.kind else EventReader, [kept]))
        assert monitor.terminated


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_nothing_reaches_a_caller_but_an_error_of_the_providers_or_of_the_wire(seed: int) -> None:
    async def main() -> None:
        server, chance = Server(), Random(seed)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with open_engine():
                for provider, row in ROWS:
                    for streamed in (False, True) if hasattr(row.format, "monitor") else (False,):
                        server.sent = Sent.grown(chance.getrandbits(64), f"{provider} {row.name}")
                        with named(f"{provider} {row.name}, streamed: {streamed}, sent: {server.sent!r:.3000}"):
                            await look(server, provider, row, streamed=streamed)
            nursery.cancel_scope.cancel()

    async def look(server: Server, provider: str, row: EndpointRow, *, streamed: bool) -> None:
        model = iModel(provider=provider, endpoint=row.name, base_url=server.url, api_key="key", max_attempts=1)
        with trio.fail_after(30):
            call = await called(model, ARGUMENTS[row.name], streamed=streamed)
        assert call.status in ("completed", "failed")
        assert isinstance(call.error, ProviderError | TransportError | None)
        assert_view(call.view)
        assert_usage(call.usage)
        f"{call!r} {call.error!r} {call.text}".encode()
        if not server.sent.cut:
            assert not isinstance(call.error, TransportError)
            assert_kept(call, server.sent, row.format)

    trio.run(main)
