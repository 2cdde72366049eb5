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
