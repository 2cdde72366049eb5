"""Coroutines of the user's own as calls: the transport that runs one where others send a request.

So an executor's limits, its queue and its way to stop hold for them as for any call. What a coroutine returns is a
Python object and never becomes bytes: it stays on its `Work`, where the event finds it. A coroutine is run once, since
nobody knows what a second time would do.

Opens no sockets. Must not import the executor or the events.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from actors.messages import APICalling, Fault, Reply
from actors.transport import Answer, Attempt, Transport
from engine.providers.documents import DOCUMENTS
from engine.providers.lookup import EndpointSpec

COROUTINES = EndpointSpec(
    provider="executor",
    endpoint="coroutines",
    format=DOCUMENTS,
    url="coroutines",
    auth="none",
    key_env=(),
    key_required=False,
    local=True,
)
"""Where such calls go, as an account has to say it. Nothing is ever sent there."""


_NOT_ITS_OWN = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Work:
    """One coroutine to be run, in the context it was submitted in, and what came of it: `status`, `headers` and `body`,
    or what it raised."""

    __slots__ = ("body", "context", "error", "headers", "make", "status")

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self.make = make
        self.context = contextvars.copy_context()
        self.status: int | None = None
        self.headers: dict[str, Any] | None = None
        self.body: Any = None
        self.error: BaseException | None = None

    async def run(self) -> Fault | None:
        """Run it; what is wrong with it afterwards, if anything is.

        Cancellation passes through, and so does what ends a program. All else that it raises is what became of it, also
        `asyncio.CancelledError`, which is no `Exception`.
        """
        task = trio.lowlevel.current_task()
        around, task.context = task.context, self.context
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()  # from here on the context is the submitter's
            self._take(await self.make())
        except _NOT_ITS_OWN:
            raise
        except BaseException as error:  # the user's own code: whatever it raises is what became of it
            if isinstance(error, BaseExceptionGroup) and error.subgroup((KeyboardInterrupt, SystemExit)) is not None:
                raise
            if isinstance(error, trio.Cancelled | BaseExceptionGroup):
                await trio.lowlevel.checkpoint_if_cancelled()  # it may be ours, or another's that the coroutine kept
            self.error = error
            name = type(error).__name__
            return Fault("OutcomeUnknown", f"the coroutine raised {name}; what it sent may be billed", sent=True)
        finally:
            task.context = around
            await trio.lowlevel.cancel_shielded_checkpoint()
        if self.status is None or 200 <= self.status <= 299:
            return None
        kind = "RateLimited" if self.status == 429 else "Rejected" if self.status < 500 else "ProviderUnavailable"
        return Fault(kind, f"the coroutine returned status {self.status}", status=self.status, sent=True)

    def _take(self, result: Any) -> None:
        """``(status, headers, body)``, the status one of HTTP's, or a body alone."""
        match result:
            case (int() as status, Mapping() as headers, body) if isinstance(result, tuple) and 100 <= status <= 599:
                self.status, self.headers, self.body = int(status), dict(headers), body
            case _:
                self.status, self.headers, self.body = 200, {"Content-Type": "application/json"}, result


class CoroutineTransport(Transport):
    """Runs the work that `find` knows by the number of its call."""

    kind = "coroutines"

    def __init__(self, find: Callable[[int], Work]) -> None:
        self._find = find

    async def connect(self) -> CoroutineConnection:
        """There is nothing to connect to. A checkpoint."""
        await trio.lowlevel.checkpoint()
        return CoroutineConnection(self._find)


class CoroutineConnection:
    """The place in flight of one coroutine at a time; see `actors.transport.Connection`."""

    def __init__(self, find: Callable[[int], Work]) -> None:
        self._find = find

    def usable(self) -> bool:
        """Always."""
        return True

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Run the coroutine of this call; its start is the call's stamp."""
        await trio.lowlevel.checkpoint_if_cancelled()
        work = self._find(calling.call_id)
        attempt.begin()
        attempt.sent()
        fault = await work.run()
        status = work.status or 0
        if fault is None:
            return Answer("done", "kept", Reply(status=status), keep=True)
        return Answer("failed", "kept", Reply(status=status, fault=fault), keep=True)

    async def aclose(self) -> None:
        """Nothing is open."""
