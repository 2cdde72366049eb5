"""A provider that exists only in virtual time: no socket, no thread, and a script of what it says to each request.

It stands behind the real wire format and the real reading of answers, so what an answer costs and whether it is tried
again is decided by the code under test. `virtual_engine` opens an engine over it and, when that is left in whatever
way, checks that no live gauge is above zero and that every connection was closed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, ParamSpec

import trio
from trio.testing import MockClock

from actors.errors import ConnectFailed
from actors.messages import APICalling
from actors.transport import Answer, Attempt
from engine import Engine, iModel, open_engine
from engine.accounts import Account
from engine.config import EngineConfig
from engine.switchboard import OnUsage
from engine.transports.answers import answer_of, lost_answer

P = ParamSpec("P")

KEY = "sk-sentinel-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "hello"}]
PATIENCE_S = 1_000_000.0
"""Virtual seconds after which a test is taken to hang."""


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test under a clock of its own, which starts at 0 and jumps whenever everybody waits."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        trio.run(main, clock=MockClock(autojump_threshold=0))

    return run


def answer_body(text: str = "hi", *, given: int | None = 10, made: int | None = 5, **more: object) -> bytes:
    """A chat completion; without usage if `given` is None."""
    body: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if given is not None and made is not None:
        body["usage"] = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    return json.dumps({**body, **more}).encode()


def error_body(message: str, code: str = "") -> bytes:
    """An error as OpenAI writes it."""
    return json.dumps({"error": {"message": message, "type": "", "code": code}}).encode()


class Said(NamedTuple):
    """What the provider does with one request.

    `begin_s` passes before the first byte is written, `write_s` until the last one has left, `after_s` until the
    answer is there. `lost`: the connection breaks instead of an answer. `raises`: the transport has a bug.
    """

    status: int = 200
    body: bytes = answer_body()
    headers: Mapping[str, str] = {}
    after_s: float = 0.1
    begin_s: float = 0.0
    write_s: float = 0.0
    lost: bool = False
    raises: Exception | None = None


HANGS = Said(after_s=10 * PATIENCE_S)


def refusing(status: int, message: str = "no", code: str = "", **headers: str) -> Said:
    """An error answer. A header's name is written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(status, error_body(message, code), named)


class Arrival(NamedTuple):
    """One request that has left: when, over which account and connection, and what it said."""

    at_s: float
    account: Account
    connection: int
    call_id: int
    body: dict[str, Any]


class VirtualProvider:
    """All the accounts of one test, and the factory of their transports.

    `says` is asked for every request, or is a list: one for each request in order, its last one from then on.
    `connect_s` is how long a connection takes; the first `unreachable` attempts to connect fail.
    """

    def __init__(
        self,
        says: Callable[[Arrival], Said] | Iterable[Said] = (),
        *,
        connect_s: float = 0.0,
        unreachable: float = 0,
    ) -> None:
        self._says = says if callable(says) else None
        self._script = [] if callable(says) else list(says) or [Said()]
        self.connect_s = connect_s
        self.unreachable = unreachable
        self.arrivals: list[Arrival] = []
        self.accounts: list[Account] = []
        self.connects = 0
        self.opened = 0
        self.open_now = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def __call__(self, account: Account, on_usage: OnUsage) -> VirtualTransport:
        self.accounts.append(account)
        return VirtualTransport(self, account, on_usage)

    def say(self, arrival: Arrival) -> Said:
        """What to do with this request."""
        if self._says is not None:
            return self._says(arrival)
        return self._script[min(len(self.arrivals), len(self._script)) - 1]

    @property
    def times(self) -> list[float]:
        """When each request had left, in order, to the millisecond."""
        return [round(arrival.at_s, 3) for arrival in self.arrivals]

    def fullest(self, period_s: float) -> int:
        """The most requests in any half-open window of that length."""
        stamps = [arrival.at_s for arrival in self.arrivals]
        return max(sum(start <= at < start + period_s for at in stamps) for start in stamps)


class VirtualTransport:
    """The way to one account."""

    def __init__(self, provider: VirtualProvider, account: Account, on_usage: OnUsage) -> None:
        self.provider = provider
        self.account = account
        self.on_usage = on_usage

    async def connect(self) -> VirtualConnection:
        provider = self.provider
        provider.connects += 1
        await trio.sleep(provider.connect_s)
        if provider.connects <= provider.unreachable:
            raise ConnectFailed("nobody there. Nothing was sent.")
        provider.opened += 1
        provider.open_now += 1
        return VirtualConnection(self, provider.opened)


class VirtualConnection:
    """One connection to it."""

    def __init__(self, transport: VirtualTransport, number: int) -> None:
        self.transport = transport
        self.number = number
        self.closed = False

    def usable(self) -> bool:
        return not self.closed

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.transport.provider.open_now -= 1

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        provider, account = self.transport.provider, self.transport.account
        body = json.loads(bytes(calling.body))
        arrival = Arrival(trio.current_time(), account, self.number, calling.call_id, body)
        provider.arrivals.append(arrival)
        said = provider.say(arrival)
        here = len(provider.arrivals) - 1
        if said.begin_s:
            await trio.sleep(said.begin_s)
        attempt.begin()
        if said.write_s:
            await trio.sleep(said.write_s)
        attempt.sent()
        provider.arrivals[here] = arrival._replace(at_s=trio.current_time())
        provider.in_flight += 1
        provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
        try:
            await trio.sleep(said.after_s)
        finally:
            provider.in_flight -= 1
        if said.raises is not None:
            raise said.raises
        if said.lost:
            return lost_answer("the connection broke. The request had left.", status=0)
        reading = account.spec.format.read(said.status, said.headers, said.body, now_s=0.0)
        if reading.usage is not None:
            self.transport.on_usage(calling, reading.usage)
        return answer_of(reading, status=said.status, body=said.body, keep=True)


def a_model(model: str = "gpt-4o", **arguments: Any) -> iModel:
    """An iModel with a key of its own."""
    return iModel(model=model, **{"api_key": KEY, **arguments})


def assert_quiet(engine: Engine) -> None:
    """Every live gauge is zero."""
    assert {name: value for name, value in engine.statistics().live.items() if value} == {}


@asynccontextmanager
async def virtual_engine(provider: VirtualProvider, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    """An engine over `provider`; the clock stands a second after its zero, as it does in any real program."""
    engine: Engine | None = None
    with trio.fail_after(PATIENCE_S):
        await trio.sleep(1.0)
        try:
            async with open_engine(config, transport=provider) as engine:
                yield engine
        finally:
            if engine is not None:
                assert_quiet(engine)
                assert provider.open_now == 0
                assert provider.in_flight == 0
