"""`Executor`: lionfuncs' limits and queue, as an engine with one lane, which all calls made with it share.

The engine is opened by `start` and closed by `stop`, and lives in a task of its own (`running`); `async with` does
both. Rates are token buckets (`rates`): what is admitted is taken from them at once, so that calls that wait do not all
go at the same instant. What is wrong with a call is on its event; only an executor that does not run is raised.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import trio

from actors.clock import now_us
from actors.transport import Transport
from engine.accounts import MAX_CONNECTIONS, Account, LaneDescription
from engine.call_options import CallOptions
from engine.clients.caller import Caller
from engine.clients.lionfuncs.coroutines import COROUTINES, CoroutineTransport, Work
from engine.clients.lionfuncs.events import NetworkRequestEvent, NotedCall, shown_headers
from engine.clients.lionfuncs.rates import Refill, bucket
from engine.clients.lionfuncs.running import Run
from engine.config import EngineConfig, EngineSection
from engine.errors import CapacityExceeded, EngineNotRunning, InvalidCall, PenstockError, UsageError
from engine.lane_arguments import check_count
from engine.providers.wire import Encoded
from engine.runtime import Engine
from engine.usual_transports import OnUsage, TransportFactory, usual_transports

Self = TypeVar("Self", bound="Executor")

_YEAR_S = 366 * 86_400.0
_LARGEST = 1 << 53


class Executor:
    """Runs calls under limits: ``async with Executor(requests_rate=3.0) as executor``.

    Args:
      queue_capacity: how many calls may wait; whoever submits another waits for a place.
      concurrency_limit: how many may be in flight.
      requests_rate, requests_period, requests_bucket_capacity: so many requests in so many seconds, from a bucket that
        holds `requests_bucket_capacity` (default: the rate, at least 1) and is full at first. Each attempt counts. A
        rate of None is no limit. Against jitter on the way the period is longer by a hundredth, 0.05 s at most.
      api_tokens_rate, api_tokens_period, api_tokens_bucket_capacity: the same for the tokens that calls say they
        consume. A call that needs more than the bucket holds FAILS at once, and nothing of it is sent.
      num_workers: accepted and without effect. lionfuncs runs at most so many calls at a time, whatever its
        `concurrency_limit` says; here each call that may go has a worker of its own, and `concurrency_limit` alone
        bounds them.
      transport: makes the transports of accounts in place of HTTP, as that of `open_engine`: for tests.

    Raises:
      UsageError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        queue_capacity: int = 1000,
        concurrency_limit: int | None = 10,
        requests_rate: float | None = 10.0,
        requests_period: float = 1.0,
        requests_bucket_capacity: float | None = None,
        api_tokens_rate: float | None = None,
        api_tokens_period: float = 60.0,
        api_tokens_bucket_capacity: float | None = None,
        num_workers: int = 5,
        *,
        transport: TransportFactory | None = None,
    ) -> None:
        if queue_capacity is None:
            raise UsageError("queue_capacity must be a whole number of at least 1, not None")
        check_count("num_workers", num_workers)
        quotas = (
            bucket("requests", "requests", requests_rate, requests_period, requests_bucket_capacity),
            bucket("api_tokens", "total_tokens", api_tokens_rate, api_tokens_period, api_tokens_bucket_capacity),
        )
        self.lane = LaneDescription(
            "executor",
            quotas=tuple(quota for quota in quotas if quota is not None),
            queue_capacity=check_count("queue_capacity", queue_capacity),
            concurrency_limit=check_count("concurrency_limit", concurrency_limit),
        )
        self.max_connections = max(MAX_CONNECTIONS, concurrency_limit or 0)
        self._transport = transport
        self._coroutines = Caller(COROUTINES, self.lane, max_connections=self.max_connections)
        self._works: weakref.WeakValueDictionary[int, NotedCall] = weakref.WeakValueDictionary()
        self._refills = [Refill(quota) for quota in self.lane.quotas or ()]
        self._counted_in: trio.lowlevel.TrioToken | None = None
        self._run: Run | None = None
        self._blocks: dict[trio.lowlevel.Task, list[trio.CancelScope]] = {}

    # --- while it runs ---

    @property
    def is_running(self) -> bool:
        """Whether calls are taken."""
        return self._run is not None and not self._run.closing

    @property
    def engine(self) -> Engine:
        """The engine that runs its calls: statistics, observers, and calls of models of another kind.

        Raises:
          EngineNotRunning: the executor was not started, or was stopped. It is a `RuntimeError`.
        """
        if self._run is None or self._run.closing or self._run.engine is None:
            raise EngineNotRunning(
                "Executor is not running. Call start() first, or use it as `async with Executor(...)`. Nothing was sent"
            )
        return self._run.engine

    async def start(self) -> None:
        """Take calls from now on. No effect on one that runs. Any task may start it.

        What was taken from its buckets before a stop stays taken: started again in the same `trio.run`, it first waits
        until they are full, so long as the rates take for what was used. It waits, too, for a stop under way. A
        checkpoint, and cancelled it has not started.

        Raises:
          UsageError: this is not trio.
          BaseException: what the run before ended of, if nobody has stopped it.
        """
        if not trio.lowlevel.in_trio_run():
            raise UsageError("penstock runs under trio: use trio.run(main), not asyncio.run")
        await trio.lowlevel.checkpoint()
        while (run := self._run) is None or run.closing:
            if run is not None and not run.over.is_set():
                await run.over.wait()
            elif run is not None and run.error is not None:
                self._run = None
                raise run.error  # nobody has stopped it, and so nobody was told
            elif (full_s := self._full_s()) > trio.current_time():
                await trio.sleep_until(full_s)
            else:
                section = self._section()
                self._run = Run(EngineConfig(engine=section), self._transports(section))
        with trio.CancelScope(shield=True):  # some steps without a wait; who is let go here holds an engine, or none
            await run.opened.wait()
        if run.engine is None and run.error is not None:
            self._run = None
            raise run.error

    async def stop(self, graceful: bool = True) -> None:
        """Take no more calls, and end. No effect on one that does not run. Any task may stop it, but for the coroutines
        that it runs itself: they would wait for their own end.

        `graceful`: what was submitted runs to its end, however long it takes. Else what has not ended is CANCELLED at
        once, also what is in flight; a call that had left may be billed, and its error says so. In either case whoever
        still waits in `acompletion` for a place in the queue gets an event that is CANCELLED.

        Cancellation ends everything at once.

        Raises:
          InternalError: the engine itself failed; calls that had not ended are FAILED.
        """
        run = self._run
        if run is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await run.stop(graceful=graceful)
        finally:
            self._forget(run)

    def _forget(self, run: Run) -> None:
        if self._run is run:
            self._run = None

    async def __aenter__(self: Self) -> Self:
        await self.start()
        block = trio.CancelScope()
        self._blocks.setdefault(trio.lowlevel.current_task(), []).append(block)
        if self._run is not None:
            self._run.blocks.append(block)
        block.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Left normally, it stops gracefully; by an exception or by cancellation, at once."""
        task, run = trio.lowlevel.current_task(), self._run
        block = self._blocks[task].pop()
        if not self._blocks[task]:
            del self._blocks[task]
        try:
            failed = bool(block.__exit__(kind, error, traceback))
        finally:
            if error is not None and run is not None:
                await run.abort()
                self._forget(run)
        if error is None:
            await self.stop()
        elif run is not None and run.error is not None and (failed or isinstance(error, trio.Cancelled)):
            raise run.error
        return failed

    def _section(self) -> EngineSection:
        most = max(EngineSection().max_queued, self.lane.queue_capacity or 0)
        return EngineSection(max_queued=most, drain_deadline_s=_YEAR_S)

    def _full_s(self) -> float:
        """When all buckets are full again, by trio's clock; another `trio.run` has another clock."""
        if self._counted_in is not trio.lowlevel.current_trio_token():
            return 0.0
        return max((refill.full_us for refill in self._refills), default=0) / 1_000_000

    def _sent(self, call: NotedCall) -> None:
        """A call has left: its cost is taken from the buckets."""
        token = trio.lowlevel.current_trio_token()
        if self._counted_in is not token:
            self._counted_in = token
            for refill in self._refills:
                refill.full_us = 0
        at_us = now_us()
        for refill in self._refills:
            refill.take(call.tokens if refill.quota.dimension == "total_tokens" else 1, at_us)

    def _transports(self, section: EngineSection) -> TransportFactory:
        usual = self._transport or usual_transports(section)

        def make(account: Account, on_usage: OnUsage) -> Transport:
            return CoroutineTransport(self._work) if account.spec is COROUTINES else usual(account, on_usage)

        return make

    def _work(self, call_id: int) -> Work:
        work = self._works[call_id].work
        assert work is not None, "only calls with work are noted"
        return work

    # --- calls ---

    async def submit(self, call: NotedCall) -> None:
        """Queue a call, once there is a place. What is wrong with it is on the call, which then has ended.

        Raises:
          EngineNotRunning: the executor does not run.
        """
        call.on_sent = self._sent
        try:
            await self.engine.submit(call)
        except EngineNotRunning:
            raise
        except CapacityExceeded as error:
            if not call.over:
                call.skip(_too_large(error))
        except PenstockError as error:
            if not call.over:
                call.skip(error)

    async def submit_task(
        self,
        api_call_coroutine: Callable[[], Awaitable[Any]],
        endpoint_url: str | None = None,
        method: str | None = None,
        headers: Mapping[str, Any] | None = None,
        payload: Any = None,
        num_api_tokens_needed: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> NetworkRequestEvent:
        """Run a coroutine of your own under the executor's limits; its event is returned at once, submitted.

        `api_call_coroutine` makes it, without arguments. What it returns is the event's `response_body`, with status
        200; a tuple ``(status, headers, body)`` says all three, and a status that is no success is FAILED. What it
        raises is on the event. It is run once, in a task of the executor's, and cancelled by `event.cancel()` or a
        `stop` that is not graceful. The other arguments are for the event; headers are shown on it without keys.

        Raises:
          EngineNotRunning: the executor does not run.
        """
        self.engine  # noqa: B018  # raises if there is none
        try:
            request: Encoded | InvalidCall = _request(
                api_call_coroutine, num_api_tokens_needed, headers=headers, metadata=metadata
            )
        except InvalidCall as error:
            request, headers, metadata = error, None, None
        call = NotedCall(self._coroutines, "", request, _ONCE, Work(api_call_coroutine))
        self._works[call.id] = call
        event = NetworkRequestEvent(
            call,
            endpoint_url=endpoint_url,
            method=method,
            headers=shown_headers(headers or {}),
            payload=payload,
            num_api_tokens_needed=num_api_tokens_needed,
            metadata=metadata,
        )
        await self.submit(call)
        return event

    def __repr__(self) -> str:
        return f"<Executor {'running' if self.is_running else 'stopped'}: {', '.join(self._limits())}>"

    def _limits(self) -> list[str]:
        """Its limits as its arguments say them."""
        said = [f"queue_capacity={self.lane.queue_capacity}", f"concurrency_limit={self.lane.concurrency_limit}"]
        for quota in self.lane.quotas or ():
            name = "requests" if quota.dimension == "requests" else "API tokens"
            said.append(f"{quota.limit} {name} in {quota.period_s:g} s from a bucket of {quota.burst}")
        return said


_ONCE = CallOptions(timeout_s=_YEAR_S, max_attempts=1)
"""How a coroutine is run: as long as it takes, and not again."""


def _too_large(error: CapacityExceeded) -> CapacityExceeded:
    """The error in the words of the executor's arguments. A bucket holds one request at least, so it is of tokens."""
    return CapacityExceeded(
        f"the call needs {error.requested} API tokens and the executor's bucket holds at most {error.capacity}, so it "
        "can never be sent; nothing was sent. Make it smaller, or raise api_tokens_rate or api_tokens_bucket_capacity",
        dimension=error.dimension,
        requested=error.requested,
        capacity=error.capacity,
    )


def _request(make: object, tokens: object, **dicts: object) -> Encoded:
    for name, given in dicts.items():
        if given is not None and not isinstance(given, Mapping):
            raise InvalidCall(f"{name} is a dict, not {type(given).__name__}; nothing was run", argument=name)
    if not callable(make):
        raise InvalidCall(
            f"api_call_coroutine is a function that makes a coroutine, not {type(make).__name__}; nothing was run",
            argument="api_call_coroutine",
        )
    return Encoded(b"", tokens_of(tokens), 0, streaming=False)


def tokens_of(value: object) -> int:
    """How many API tokens a call consumes.

    Raises:
      InvalidCall: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise InvalidCall(
            f"the API tokens of a call are a whole number of at least 0, not {value!a:.40}; nothing was sent",
            argument="num_tokens_to_consume",
        )
    return value
