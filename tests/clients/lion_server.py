"""A service on a real socket that remembers what it was asked and answers what it was told, and a scripted executor."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11
import msgspec
import trio

from engine.clients.lionfuncs import Executor
from engine.testing import ScriptedProvider

KEY = "key-of-the-test-1234"
CONFIG: dict[str, Any] = {"base_url": "https://service.example/v1", "api_key": KEY, "model_name": "m-1"}
"""Of a scripted provider, whose address nobody connects to."""
FREE: dict[str, Any] = {"requests_rate": None, "concurrency_limit": None}
"""An executor without limits."""


def scripted(provider: ScriptedProvider, **limits: Any) -> Executor:
    """An executor whose requests all go to the provider of the test."""
    return Executor(**{**FREE, **limits}, transport=provider)


class Asked(NamedTuple):
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Service:
    """Answers every request with `status`, `headers` and `body`. `asked` are the requests so far."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.status = 200
        self.headers: dict[str, str] = {"content-type": "application/json"}
        self.body = b'{"choices": [{"text": "yes"}]}'
        self.address = ""

    @property
    def config(self) -> dict[str, Any]:
        """Of a model that asks here."""
        return {**CONFIG, "base_url": f"{self.address}/v1"}

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, to its end."""
        http = h11.Connection(h11.SERVER)
        head, body = None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                self.asked.append(Asked(head.method.decode(), head.target.decode(), headers, body))
                await stream.send_all(self._answer(http))
                http.start_next_cycle()
            else:
                return

    def _answer(self, http: h11.Connection) -> bytes:
        said = {**self.headers, "content-length": str(len(self.body))}
        parts = [http.send(h11.Response(status_code=self.status, headers=list(said.items())))]
        if self.body:
            parts.append(http.send(h11.Data(data=self.body)))
        return b"".join(part or b"" for part in [*parts, http.send(h11.EndOfMessage())])


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A service on this machine, for the block."""
    served = Service()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            listen = functools.partial(trio.serve_tcp, host="127.0.0.1")
            listeners = await nursery.start(listen, served.serve, 0)
            served.address = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            yield served
            nursery.cancel_scope.cancel()
