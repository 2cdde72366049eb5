"""Streams in virtual time: a transport whose answers follow a script of bytes, waits and breaks, without any socket.

Everything but the bytes' way is the real thing: the ear of the worker, what listens to the answer, the wire format. A
script is a list of steps for each request; the last one serves all that follow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio
from stream_bodies import at_rest

from actors.messages import APICalling
from actors.transport import Answer, Attempt
from engine import Engine, open_engine
from engine.accounts import Account
from engine.config import EngineConfig
from engine.testing import in_virtual_time as in_virtual_time_with
from engine.transports.answers import Undecodable
from engine.transports.hearing import Hearing
from engine.transports.http1 import TooLarge
from engine.transports.target import Target

in_virtual_time = in_virtual_time_with(seed=None)
"""Tasks that are ready together run in another order every time: no test may depend on one."""


class Head(NamedTuple):
    """The status and headers of an answer; without one it is a stream of events."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream"),)


class Break(NamedTuple):
    """The connection breaks here."""

    reason: str = "the server disconnected before it was complete"


class Bug(NamedTuple):
    """The transport has a bug, which shows here."""


BREAK = Break()
FOREVER = float("inf")
Step = bytes | float | Head | Break | Bug | Callable[[], object]
JSON = Head(200, (("content-type", "application/json"),))


class Response:
    """An answer as far as it has come; see `engine.transports.hearing.Arrived`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []

    def begin(self, head: Head) -> None:
        self.status = head.status
        self.headers = [(name.encode(), value.encode()) for name, value in head.headers]


class StreamProvider:
    """What ``open_engine(transport=...)`` wants. `attempts` are the instants at which requests left, `written` counts
    the bytes of answers that were taken off the line, `open` the connections."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = scripts
        self.attempts: list[float] = []
        self.open = 0
        self.busy = 0
        self.written = 0

    def __call__(self, account: Account, on_usage: Callable[..., None]) -> StreamProvider:
        self.target = Target(
            url="http://provider.example/v1", headers={}, format=account.spec.format, on_usage=on_usage
        )
        return self

    async def connect(self) -> StreamConnection:
        await trio.lowlevel.checkpoint()
        self.open += 1
        return StreamConnection(self)


class StreamConnection:
    """See `actors.transport.Connection`."""

    def __init__(self, provider: StreamProvider) -> None:
        self._provider = provider
        self._closed = False

    def usable(self) -> bool:
        return not self._closed

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._provider.open -= 1

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        provider = self._provider
        await trio.lowlevel.checkpoint()
        attempt.begin()
        script = provider.scripts[min(len(provider.attempts), len(provider.scripts) - 1)]
        provider.attempts.append(trio.current_time())
        attempt.sent()
        provider.busy += 1
        try:
            answer = await self._follow(script, Hearing(provider.target, calling, attempt))
        finally:
            provider.busy -= 1
        return answer

    async def _follow(self, script: Sequence[Step], hearing: Hearing) -> Answer:
        response = Response()
        try:
            for step in script:
                if isinstance(step, Break):
                    return hearing.lost(response, step.reason)
                await self._do(step, response, hearing)
                if hearing.is_over():
                    break
            await hearing.end()
        except TooLarge:
            return self._provider.target.too_large(response.status, response.headers)
        except Undecodable as error:
            return hearing.lost(response, str(error))
        return hearing.answer(response, keep=True)

    async def _do(self, step: Step, response: Response, hearing: Hearing) -> None:
        if isinstance(step, Bug):
            raise RuntimeError("a bug of the transport")  # noqa: TRY004  # the step says so
        if isinstance(step, Head):
            response.begin(step)
            await hearing.look(response)
        elif isinstance(step, bytes):
            if not response.status:
                response.begin(Head())
            self._provider.written += len(step)
            response.parts.append(step)
            await hearing.look(response)
        elif isinstance(step, float | int):
            await trio.sleep(step)
        else:
            step()


@asynccontextmanager
async def streaming_engine(provider: StreamProvider, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    """An engine over `provider`; when it is left nothing may be left of it, and nothing of it at the provider."""
    await trio.sleep(1.0)
    async with open_engine(config, transport=provider) as engine:
        engine._switchboard._random.seed(1)
        yield engine
        await engine.wait_quiet()
        at_rest(engine)
        assert provider.busy == 0
    at_rest(engine)
    assert (provider.open, provider.busy) == (0, 0)
