"""A transport that does what a test tells it, for endpoint actors and whole engines in virtual time.

`SteeredTransport` opens `SteeredConnection`s; what a connect and an exchange do are two async functions the test passes
in, which may wait on events, sleep, or raise. It keeps count of what was asked of it. No sockets, no real time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from actors.messages import APICalling, Reply
from actors.transport import Answer, Attempt

DONE = Answer("done", "usage", Reply(status=200, body=memoryview(b'{"answer": 1}')), keep=True)


class SteeredConnection:
    """One open connection. `standing` is what `usable` answers; `calls` are those it was given, in order."""

    def __init__(self, transport: SteeredTransport, number: int) -> None:
        self.number = number
        self.standing = True
        self.closed = False
        self.calls: list[int] = []
        self._transport = transport

    def usable(self) -> bool:
        return self.standing

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        self.calls.append(calling.call_id)
        self._transport.callings.append(calling)
        return await self._transport.on_exchange(self, calling, attempt)

    async def aclose(self) -> None:
        self.closed = True


Exchange = Callable[[SteeredConnection, APICalling, Attempt], Awaitable[Answer]]
Connect = Callable[[], Awaitable[None]]


async def answer_at_once(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
    """Send and be answered without time passing."""
    await trio.lowlevel.checkpoint()
    attempt.begin()
    attempt.sent()
    await trio.lowlevel.checkpoint()
    return DONE


def answer_after(seconds: float, answer: Answer = DONE) -> Exchange:
    """An exchange that is sent at once and answered `seconds` later."""

    async def exchange(connection: SteeredConnection, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.sleep(seconds)
        return answer

    return exchange


class SteeredTransport:
    """`connecting` are attempts to connect under way, `most_connecting` the most there ever were at once."""

    def __init__(self, on_exchange: Exchange = answer_at_once, on_connect: Connect = trio.lowlevel.checkpoint) -> None:
        self.on_exchange = on_exchange
        self.on_connect = on_connect
        self.connects = 0
        self.connecting = 0
        self.most_connecting = 0
        self.connections: list[SteeredConnection] = []
        self.callings: list[APICalling] = []

    async def connect(self) -> SteeredConnection:
        self.connects += 1
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await self.on_connect()
        finally:
            self.connecting -= 1
        connection = SteeredConnection(self, len(self.connections))
        self.connections.append(connection)
        return connection

    @property
    def open(self) -> int:
        """Connections made and not closed."""
        return sum(not connection.closed for connection in self.connections)
