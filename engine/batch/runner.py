"""`Batch`: the lines of a source through an engine, and what became of each to a sink, every line exactly once.

Lines are read as calls can be queued, and results are written as calls end, so what is held at a time is bounded: in
calls by the engine's buffer, in bytes here. A batch ends in one of three ways: all is done; `discard` was called, and
what has not been sent stays unwritten and counted; or `stop`, by which also what is in flight ends at once. Nothing
that was ever sent goes unwritten in any of them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

import trio

from actors.limits import QuotaStatistics
from engine.batch.lines import RawLine, Request, read_request
from engine.batch.models import BatchSettings, Misuse, Models
from engine.batch.results import Results, Sink, code_of, result_line
from engine.batch.source import LineReader
from engine.call import Call
from engine.errors import InvalidCall, MissingKey, ShuttingDown, UsageError
from engine.imodel import iModel
from engine.opening import only_cause, open_engine
from engine.providers.embeddings import Embeddings
from engine.runtime import Engine
from engine.usual_transports import TransportFactory

HELD_BYTES: Final = 32 << 20
"""No further line is read while those under way are larger than this together."""

_LOOKED_AT: Final = 1_000
_FLUSH_S: Final = 2.0


class Failures:
    """The failures of one kind: how many, and the first of them."""

    def __init__(self, line: int, message: str) -> None:
        self.count = 0
        self.line = line
        self.message = message


class Tally:
    """What became of a batch's lines so far; read = completed + failed + not_sent + those under way.

    `unusable` are those of the failed that were wrong in themselves, so that nothing was sent. `rest` is how many lines
    were left unread when the batch was interrupted; None where nobody can know.
    """

    def __init__(self) -> None:
        self.read = self.completed = self.failed = self.unusable = self.not_sent = self.retries = 0
        self.rest: int | None = 0
        self.attempts = self.input_tokens = self.output_tokens = 0
        self.first_sent_us = self.last_sent_us = 0
        self.time_s = 0.0
        self.failures: dict[str, Failures] = {}

    @property
    def done(self) -> int:
        """How many have ended."""
        return self.completed + self.failed + self.not_sent

    def share(self, used: int, limit: int, period_s: float, *, whole: bool) -> float | None:
        """How much of a limit was spent: the span of the fastest lawful schedule for `used` (`whole`: of amounts of 1,
        else as if they could be divided) over the span it took. None if less than one period's worth was used."""
        periods = (used - 1) // limit if whole else used / limit - 1
        span_s = (self.last_sent_us - self.first_sent_us) / 1e6
        return min(periods * period_s / span_s, 1.0) if periods > 0 and span_s > 0 else None

    def add(self, call: Call, request: Request) -> bool:
        """Count what became of a line. Whether it is to be written: not if nothing of it was ever sent because the
        batch was interrupted."""
        error, ended = call.error, call.ended
        unsent = ended is None or call.status == "aborted" or (call.status == "cancelled" and not call.attempts)
        if unsent or (call.status == "skipped" and isinstance(error, ShuttingDown)):
            self.not_sent += 1
            return False
        self.attempts += call.attempts
        self.retries += max(call.attempts - 1, 0)
        if ended is not None and ended.sent_us > 0:
            self.first_sent_us = min(self.first_sent_us or ended.sent_us, ended.sent_us)
            self.last_sent_us = max(self.last_sent_us, ended.sent_us)
        if call.usage is not None:
            self.input_tokens += call.usage.input_tokens or 0
            self.output_tokens += call.usage.output_tokens or 0
        if error is None:
            self.completed += 1
        else:
            self.failed += 1
            self.unusable += call.status == "skipped" and isinstance(error, UsageError)
            self.failures.setdefault(code_of(error), Failures(request.number, error.message)).count += 1
        return True


class Gauges(NamedTuple):
    """What is under way: calls, and every quota they stand under, each once."""

    in_flight: int = 0
    queued: int = 0
    backing_off: int = 0
    retries: int = 0
    quotas: tuple[QuotaStatistics, ...] = ()


class Batch:
    """One batch, to be run once.

    Args:
      reader: the input.
      sink: where the results go.
      settings: what holds for the batch as a whole.
      transport: as in `open_engine`.
      environ: where the keys are that the configuration names; the process's own by default.

    `begun` is set once nothing more can be found wrong with the batch as a whole.
    """

    def __init__(
        self,
        reader: LineReader,
        sink: Sink,
        settings: BatchSettings,
        *,
        transport: TransportFactory | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.tally = Tally()
        self.begun = trio.Event()
        self._reader = reader
        self._settings = settings
        self._defaults = settings.defaults()
        self._models = Models(settings, environ)
        self._results = Results(sink)
        self._transport = transport
        self._engine: Engine | None = None
        self._nowhere = iModel("nobody", "http://127.0.0.1")  # whom the calls of unusable lines belong to
        self._looked_at: deque[Request] = deque()
        self._under_way: dict[Call, Request] = {}
        self._held_bytes = 0
        self._room = trio.lowlevel.ParkingLot()
        self._discarded = trio.Event()
        self._stopped = trio.Event()

    async def run(self) -> Tally:
        """Run all lines and return what became of them.

        Cancellation drops what is in flight; what had come out by then is written.

        Raises:
          Misuse: the batch as a whole cannot be run: no model, or no key for the first line's. Nothing was sent.
          PenstockError: the input or the sink failed on the way; `tally` has what was done until then.
          BrokenPipeError: nobody reads the results any more.
        """
        started_s = trio.current_time()
        writing = trio.CancelScope(shield=True)
        try:
            await self._look_at_the_first()
            self.begun.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_writing, writing)
                try:
                    async with open_engine(self._settings.engine_config(), transport=self._transport) as engine:
                        self._engine = engine
                        await self._run(engine)
                finally:
                    # However the calls ended, what came of them is written, unless nobody takes it.
                    with trio.move_on_after(_FLUSH_S, shield=True):
                        await self._results.flush()
                    writing.cancel()
        except BaseExceptionGroup as group:
            raise only_cause(group) from None
        finally:
            self.tally.time_s = trio.current_time() - started_s
        self.tally.not_sent += len(self._looked_at)
        if self._discarded.is_set():
            self.tally.rest = await self._reader.count_rest()
        return self.tally

    def discard(self) -> None:
        """Send nothing more, and let what is in flight end, for as long as the configuration's drain takes."""
        self._discarded.set()
        self._reader.stop()
        self._room.unpark_all()

    def stop(self) -> None:
        """End what is in flight, too, at once; it may have been billed, and is written as such."""
        self.discard()
        self._stopped.set()

    def gauges(self) -> Gauges:
        """What is under way now."""
        if self._engine is None:
            return Gauges()
        schedule = self._engine.statistics().scheduler.schedule
        shared = {quota.name for quota in (*self._settings.quotas(), *(q.quota for q in self._settings.config.quotas))}
        quotas = {
            ("" if quota.name in shared else lane.name, quota.name): quota
            for lane in schedule.lanes
            for quota in lane.quotas
        }
        return Gauges(
            in_flight=schedule.granted + schedule.sent,
            queued=schedule.queued,
            backing_off=schedule.backing_off,
            retries=schedule.retries,
            quotas=tuple(quotas.values()),
        )

    async def _look_at_the_first(self) -> None:
        """Find out before anything is sent whether there is a model and a key for it at all."""
        if self._settings.model is not None:
            self._must_find(None)
            return
        while len(self._looked_at) < _LOOKED_AT and (line := await self._reader.next()) is not None:
            request = self._read(line)
            self._looked_at.append(request)
            if request.problem is None:
                self._must_find(request)
                return

    def _must_find(self, request: Request | None) -> None:
        try:
            if request is None:
                self._models.find(None)
            else:
                self._models.find(request.model, request.endpoint)
        except UsageError as error:
            if request is None or isinstance(error, MissingKey) or request.model is None:
                raise Misuse(error.message) from error

    async def _keep_writing(self, scope: trio.CancelScope) -> None:
        with scope:
            await self._results.keep_writing()

    async def _run(self, engine: Engine) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain_when_told, engine)
            ordered, buffer = self._settings.ordered, self._settings.buffer()
            async with engine.map(_Calls(self), ordered=ordered, buffer=buffer) as ended:
                async for call in ended:
                    await self._write(call)
            for call in list(self._under_way):  # an interrupt may let go of the one that was just being submitted
                if call.progress:
                    await call.wait_ended()
                await self._write(call)
            await self._results.flush()
            nursery.cancel_scope.cancel()

    async def _drain_when_told(self, engine: Engine) -> None:
        await self._discarded.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(engine.drain, queue="discard"))
            await self._stopped.wait()
            await engine.drain(queue="discard", deadline_s=0)

    # --- a line on its way in, and on its way out ---

    async def next_call(self) -> Call | None:
        """The call of the next line, None after the last; one that cannot be made has ended with the reason."""
        while self._held_bytes > HELD_BYTES and not self._discarded.is_set():
            await self._room.park()
        if self._discarded.is_set():
            return None
        if self._looked_at:
            request = self._looked_at.popleft()
        else:
            line = await self._reader.next()
            if line is None:
                return None
            request = self._read(line)
        call = self._call(request)
        # The arguments are in the call, as bytes; an exception would keep the line by its traceback.
        self._under_way[call] = request._replace(arguments={}, problem=None)
        return call

    def _read(self, line: RawLine) -> Request:
        request = read_request(line, self._defaults, max_bytes=self._reader.max_bytes)
        self.tally.read += 1
        self._held_bytes += request.size_bytes
        return request

    def _call(self, request: Request) -> Call:
        try:
            if request.problem is not None:
                raise request.problem
            model = self._models.find(request.model, request.endpoint)
            arguments = {**request.arguments, "model": model.model_name}
            if isinstance(model.format, Embeddings):
                arguments.setdefault("encoding_format", "float")  # the answer is copied: numbers
            encoded = model.format.encode(arguments)
            return Call(model, model.model_name, encoded, request.options)
        except UsageError as error:
            call = Call(self._nowhere, "", InvalidCall(error.message))
            call.skip(error)
            return call

    async def _write(self, call: Call) -> None:
        request = self._under_way.pop(call)
        self._held_bytes -= request.size_bytes
        self._room.unpark_all()
        if self.tally.add(call, request):
            await self._results.write(result_line(call, request))


class _Calls:
    """The calls of a batch, as `Engine.map` pulls them."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __aiter__(self) -> _Calls:
        return self

    async def __anext__(self) -> Call:
        call = await self._batch.next_call()
        if call is None:
            raise StopAsyncIteration
        return call
