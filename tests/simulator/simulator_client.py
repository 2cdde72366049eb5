"""A small client for the simulator's tests: real sockets, h11, one connection, nothing hidden.

It shows what the wire showed: status, headers, body, or the error the connection ended with. It must not use the
engine's own transport, which has tests of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11
import trio

from engine.simulator import Simulator, SimulatorConfig, serve

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
"""Costs 6 input tokens by the simulator's own rule: 4, and 5 bytes in fours."""


class Response(NamedTuple):
    """An answer as it came; `cut` if the connection ended before the length it claims."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Streamed(NamedTuple):
    """A streamed answer as it came. `end` is ``done``, ``cut`` (closed without the end of the body) or ``reset``."""

    status: int
    headers: dict[str, str]
    writes: list[bytes]
    reads: list[bytes]
    end: str

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.writes)

    @property
    def events(self) -> list[Any]:
        """The data of the events, decoded, but for ``[DONE]``; as people read streams who know the simulator."""
        lines = [line.removeprefix(b"data: ") for line in self.body.splitlines() if line.startswith(b"data: ")]
        return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


class Client:
    """One connection to a simulator."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """One request, one answer. Raises `trio.BrokenResourceError` or `EOFError` if none comes."""
        http = self._http
        head = [("host", "simulator"), ("content-length", str(len(body))), *(headers or {}).items()]
        data = (http.send(h11.Request(method=method, target=path, headers=head)) or b"") + (
            (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b"")
        )
        await self.stream.send_all(data)
        return await self.read()

    async def read(self) -> Response:
        """Read one answer."""
        http = self._http
        response, parts = None, []
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError:
                if response is None:
                    raise EOFError from None
                return self._response(response, parts, cut=True)
            if event is h11.NEED_DATA:
                http.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                if http.our_state is h11.DONE and http.their_state is h11.DONE:
                    http.start_next_cycle()
                return self._response(response, parts, cut=False)

    @staticmethod
    def _response(response: h11.Response, parts: list[bytes], *, cut: bool) -> Response:
        headers = {key.decode(): value.decode() for key, value in response.headers}
        return Response(response.status_code, headers, b"".join(parts), cut)

    async def chat(self, call: str = "", *, key: str = "", **arguments: object) -> Response:
        """Ask for a completion: `CHAT` with `arguments` on top, under the name `call`."""
        headers = {"x-penstock-call": call} if call else {}
        if key:
            headers["authorization"] = f"Bearer {key}"
        return await self.request("POST", "/v1/chat/completions", json.dumps({**CHAT, **arguments}).encode(), headers)

    async def ask(self, call: str = "one", **arguments: object) -> None:
        """Ask for a stream, and do not wait for it."""
        body = json.dumps({**CHAT, "stream": True, **arguments}).encode()
        head = [("host", "simulator"), ("content-length", str(len(body))), ("x-penstock-call", call)]
        request = h11.Request(method="POST", target="/v1/chat/completions", headers=head)
        parts = [self._http.send(part) or b"" for part in (request, h11.Data(data=body), h11.EndOfMessage())]
        await self.stream.send_all(b"".join(parts))

    async def listen(self) -> Streamed:
        """Read a stream to its end: the chunks, each of which was a write, and what each `recv` brought."""
        http, head, writes, reads = self._http, None, [b""], []
        end = ""
        while not end:
            try:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    reads.append(await self.stream.receive_some())
                    http.receive_data(reads[-1])
            except h11.RemoteProtocolError:
                end = "cut"
            except trio.BrokenResourceError:
                end = "reset"
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                writes[-1] += bytes(event.data)
                if event.chunk_end:
                    writes.append(b"")
            elif isinstance(event, h11.EndOfMessage):
                http.start_next_cycle()
                end = "done"
        assert head is not None
        headers = {key.decode(): value.decode() for key, value in head.headers}
        return Streamed(head.status_code, headers, writes[:-1], reads, end)

    async def streamed(self, call: str = "one", **arguments: object) -> Streamed:
        """Ask for a stream and read it to its end."""
        await self.ask(call, **arguments)
        return await self.listen()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """A connection to a simulator on this machine."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Client(stream)


async def with_simulator(config: SimulatorConfig, body: Callable[[Simulator], Any], **options: Any) -> None:
    """Run `body` against a simulator in this loop; a test that hangs fails."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            simulator = await nursery.start(lambda task_status: serve(config, task_status=task_status, **options))
            await body(simulator)
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is on its way; a test that waits in vain fails."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is a number in the server, which has no event
            await trio.sleep(0.001)
