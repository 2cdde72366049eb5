"""`ScriptedProvider`: a provider that exists only in the test's own loop, does what its script says, and remembers.

It is what ``open_engine(transport=...)`` wants, and stands behind every account the engine uses. The script decides
what happens to a request; limits, if it has any, refuse what is over them, as a real provider's do; what reached it
and when is kept for the test to look at.

No sockets, no threads, no pytest. Whatever is left to chance is drawn from the seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import trio

from actors.errors import ConnectFailed, UsageError
from actors.messages import APICalling, Fault, Reply
from actors.transport import Answer, Attempt
from engine.accounts import Account
from engine.providers.wire import Reading
from engine.simulator.analysis import WindowWatch
from engine.simulator.config import ProviderLimit
from engine.simulator.faults import draw
from engine.simulator.latency import ConstantLatency, Latency
from engine.simulator.limits import Cost, LimitSet, Refusal
from engine.testing.replies import ProviderReply, error_reply, is_span, reply_of
from engine.testing.script import Request, Script, decider
from engine.transports.answers import answer_of, counted, lost_answer
from engine.transports.polls import with_poll
from engine.usual_transports import OnUsage


class ScriptedProvider:
    """A provider that does what its script says: all accounts of an engine, and the factory of their transports.

    ``open_engine(transport=ScriptedProvider("yes"))``; `scripted_engine(provider)` adds the checks a test wants.

    `delay_s` is what an answer takes whose reply does not say: seconds, or a distribution of `engine.simulator`, drawn
    for each attempt of each call. `limits` are enforced as requests arrive: what is over them is answered 429 with the
    wait it needs, and charged nothing. A request is charged the tokens that the usage of its reply reports, so such a
    limit's `charge` does not matter; what the script itself refuses, by a status from 400 to 499, is charged nothing.

    `connect_s` is how long an attempt to connect takes, in seconds. While `connect_failures` is above zero, such an
    attempt fails, and lowers it by one; ``math.inf``: nobody is there. Both may be set at any time.

    `seed` decides `Request.chance`, drawn delays and, in `scripted_engine`, the engine's backoff. It is a whole number
    from 0 to 2**63 - 1.

    To be read at any time: `requests` that arrived whole, in order; `refused`, how many of them were over a limit;
    `accounts`, in the order of their first use; `connects`, attempts to connect; `opened`, connections made, and
    `open_now`; `in_flight`, requests that have left and were not answered yet, and `most_in_flight`; `failure`, the
    first exception of the script itself, which ends its call and is raised when `scripted_engine` is left; a
    `scripted_engine` begins with none.

    Raises:
      UsageError: the seed, a delay or the script is none; also when `connect_s` is set.
    """

    def __init__(
        self,
        script: Script = "hi",
        *,
        delay_s: float | Latency = 0.1,
        limits: Sequence[ProviderLimit] = (),
        connect_s: float = 0.0,
        connect_failures: float = 0,
        seed: int = 0,
    ) -> None:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise UsageError(f"seed is a whole number from 0 to 2**63 - 1, not {seed!r}")
        self.connect_s = connect_s
        self.connect_failures = connect_failures
        self.seed = seed
        self.requests: list[Request] = []
        self.refused = 0
        self.accounts: list[Account] = []
        self.connects = 0
        self.opened = 0
        self.open_now = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.failure: Exception | None = None
        self._latency = delay_s if isinstance(delay_s, Latency) else ConstantLatency(delay_s)
        self._limits = LimitSet(limits, 0)
        self._places: dict[int, int] = {}
        self._attempts: dict[int, int] = {}
        self._decide = decider(script)

    def __call__(self, account: Account, on_usage: OnUsage) -> ScriptedTransport:
        """The way to one account: this is what makes it an engine's `TransportFactory`."""
        self.accounts.append(account)
        return ScriptedTransport(self, account, on_usage)

    def __repr__(self) -> str:
        return (
            f"<ScriptedProvider: {len(self.requests)} requests, {self.in_flight} in flight (most "
            f"{self.most_in_flight}), {self.open_now} connections open>"
        )

    def follow(self, script: Script) -> None:
        """Do what this script says, from the next request on.

        Raises:
          UsageError: it is not a script.
        """
        self._decide = decider(script)

    @property
    def connect_s(self) -> float:
        """How long an attempt to connect takes that begins now, in seconds; it may be infinite."""
        return self._connect_s

    @connect_s.setter
    def connect_s(self, value: float) -> None:
        if not is_span(value):
            raise UsageError(f"connect_s is a number of seconds of at least 0, not {value!r}")
        self._connect_s = value

    @property
    def times(self) -> list[float]:
        """When each request arrived, in order: seconds of trio's clock, to the millisecond."""
        return [round(request.at_s, 3) for request in self.requests]

    def fullest(self, period_s: float) -> int:
        """The most requests that arrived within any `period_s` seconds; two exactly so far apart are not together."""
        watch = WindowWatch(round(period_s * 1_000_000))
        for request in self.requests:
            watch.add(_us(request.at_s), 1)
        return watch.worst.amount

    # --- for the connections ---

    def _ask(self, calling: APICalling, account: Account, connection: int) -> _Asked:
        """A request about to be written, and what the script wants done with it; raises what the script raises."""
        place = self._places.setdefault(calling.call_id, len(self._places))
        attempt = self._attempts[place] = self._attempts.get(place, 0) + 1
        # Not by `call_id`, which goes on counting from one test to the next.
        chances = draw(self.seed, str(place), attempt)
        request = Request(
            at_s=trio.current_time(),
            call_id=calling.call_id,
            attempt=attempt,
            body=json.loads(bytes(calling.body) or b"{}"),
            account=account,
            connection=connection,
            flow=calling.flow,
            priority=calling.priority,
            chance=chances.fault,
            method=calling.method,
            path=calling.path,
        )
        try:
            reply = reply_of(self._decide(request))
        except Exception as error:
            self.failure = self.failure or error
            raise
        return _Asked(request, reply, self._latency.draw_us(chances.latency) / 1_000_000)

    def _arrive(self, asked: _Asked) -> _Asked:
        """Note a request that has left whole. What comes back has another reply if the request is over a limit."""
        at_s = trio.current_time()
        request, reply, _ = asked
        if not 400 <= reply.answered <= 499:
            cost = Cost(*(counted(_reading(request.account, reply).usage) or (0, 0)))
            verdict = self._limits.admit(_us(at_s), cost)
            if isinstance(verdict, Refusal):
                self.refused += 1
                reply = _over_limit(verdict)
        request = request._replace(at_s=at_s, status=reply.answered)
        self.requests.append(request)
        return asked._replace(request=request, reply=reply)


class _Asked(NamedTuple):
    """A request, the reply to it, and the delay of an answer that names none."""

    request: Request
    reply: ProviderReply
    usual_s: float


class ScriptedTransport:
    """The way to one account of a scripted provider, which made it; see `actors.transport.Transport`."""

    def __init__(self, provider: ScriptedProvider, account: Account, on_usage: OnUsage) -> None:
        self.provider = provider
        self.account = account
        self.on_usage = on_usage

    async def connect(self) -> ScriptedConnection:
        """Open a connection after the provider's `connect_s`. Cancelling it leaves nothing open.

        Raises:
          ConnectFailed: the provider wants it so.
        """
        provider = self.provider
        provider.connects += 1
        await trio.sleep(provider.connect_s)
        if provider.connect_failures > 0:
            provider.connect_failures -= 1
            raise ConnectFailed("the scripted provider took no connection. Nothing was sent.")
        provider.opened += 1
        provider.open_now += 1
        return ScriptedConnection(self, provider.opened)


class ScriptedConnection:
    """An open connection to a scripted provider; see `actors.transport.Connection`."""

    def __init__(self, transport: ScriptedTransport, number: int) -> None:
        self.number = number
        self.closed = False
        self._transport = transport

    def usable(self) -> bool:
        """Whether it has not been closed."""
        return not self.closed

    async def aclose(self) -> None:
        """Close it, without waiting; closing it twice is closing it once."""
        if not self.closed:
            self.closed = True
            self._transport.provider.open_now -= 1

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Let happen to a call what the script wants. A checkpoint, and cancellable wherever it waits.

        Raises:
          ConnectFailed: the fault ``closed``.
          TooLate: from `attempt.begin`; nothing was written.
        """
        provider = self._transport.provider
        try:
            asked = provider._ask(calling, self._transport.account, self.number)
        except Exception as error:  # noqa: BLE001  # the test's own script: `scripted_engine` raises it once it can
            attempt.begin()
            attempt.sent()
            return _script_failed(error)
        reply = asked.reply
        await trio.sleep(reply.begin_s)
        if reply.fault == "closed":
            raise ConnectFailed("the connection was no longer good (scripted). Nothing was sent.")
        attempt.begin()
        if reply.write_s:
            await trio.sleep(reply.write_s)
        if reply.fault == "cut_writing":
            return lost_answer("the connection broke while the request was being written (scripted)", status=0)
        attempt.sent()
        asked = provider._arrive(asked)
        provider.in_flight += 1
        provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
        try:
            delay_s = asked.usual_s if asked.reply.delay_s is None else asked.reply.delay_s
            await trio.sleep(math.inf if asked.reply.fault == "stall" else delay_s)
        finally:
            provider.in_flight -= 1
        return self._answer(calling, asked.reply)

    def _answer(self, calling: APICalling, reply: ProviderReply) -> Answer:
        """What the engine makes of it, exactly as of an answer over HTTP."""
        cut = reply.fault == "cut_reading"
        if reply.fault == "cut" or (cut and reply.status < 400):
            message = "the connection broke before the answer was there (scripted). The request had left."
            return lost_answer(message, status=reply.answered)
        body = b"" if cut else reply.body
        reading = _reading(self._transport.account, reply, body, poll=calling.method == "GET")
        if reading.usage is not None:
            self._transport.on_usage(calling, reading.usage)
        answer = answer_of(reading, status=reply.status, body=body, keep=not cut)
        return with_poll(answer, calling, reading.poll, self._transport.account.spec.url)


def _reading(account: Account, reply: ProviderReply, body: bytes | None = None, *, poll: bool = False) -> Reading:
    headers = {name.lower(): value for name, value in reply.headers.items()}
    read = account.spec.format.read_poll if poll else account.spec.format.read
    return read(reply.status, headers, reply.body if body is None else body, now_s=trio.current_time())


def _script_failed(error: Exception) -> Answer:
    fault = Fault("InternalError", f"the script of the ScriptedProvider raised {error!r}")
    return Answer("failed", "nothing", Reply(fault=fault), keep=True)


def _over_limit(refusal: Refusal) -> ProviderReply:
    rule = refusal.rule
    where = f"on {rule.dimension} per {rule.period_s:g}s: Limit {rule.limit}, Requested {refusal.asked}"
    if refusal.wait_us is None:
        return error_reply(429, f"Request too large {where}.", headers={"x-should-retry": "false"})
    wait_s = refusal.wait_us / 1_000_000
    return error_reply(429, f"Rate limit reached {where}.", code="rate_limit_exceeded", retry_after_s=wait_s)


def _us(at_s: float) -> int:
    # Cut off, as the engine's own clock is: both must see an instant as the same one.
    return int(at_s * 1_000_000)
