"""Runs a batch in virtual time: lines from memory, results into memory, and a provider that does what each line says.

A prompt is a plan in JSON: the statuses its attempts are answered with, and how long each takes. No socket, no file and
no thread; `run_batch` checks that the books balance and that no connection is left open.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import trio
from trio.testing import MockClock

from actors.messages import APICalling
from actors.transport import Answer, Attempt
from engine.accounts import Account
from engine.batch import Batch, BatchSettings, LineReader, Tally
from engine.errors import PenstockError
from engine.switchboard import OnUsage
from engine.transports.answers import answer_of, lost_answer

LOST = 0
"""In a plan, in place of a status: the connection breaks, and there is no answer."""

PATIENCE_S = 1_000_000.0


def plan(*statuses: int, after_s: float = 0.1) -> str:
    """A prompt that makes the provider answer so, attempt by attempt, the last from then on."""
    return json.dumps({"statuses": statuses or (200,), "after_s": after_s})


def plain(*statuses: int, after_s: float = 0.1, **more: object) -> dict[str, Any]:
    """A plain line with a plan for its prompt."""
    return {"prompt": plan(*statuses, after_s=after_s), **more}


def as_bytes(lines: Iterable[object]) -> bytes:
    """An input: objects as JSON, bytes as they are."""
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


class Pieces:
    """A source that hands its bytes out in pieces of some size, and may take its time or never end."""

    def __init__(self, data: bytes, piece_bytes: int = 100, *, silent: bool = False, pause_s: float = 0.0) -> None:
        self.size_bytes = None if silent else len(data)
        self._data = data
        self._piece_bytes = piece_bytes
        self._silent = silent
        self._pause_s = pause_s
        self._at = 0

    async def read(self) -> bytes:
        await trio.sleep(self._pause_s)
        piece = self._data[self._at : self._at + self._piece_bytes]
        self._at += len(piece)
        if not piece and self._silent:
            await trio.sleep_forever()
        return piece


class Sheet:
    """A sink in memory. It takes `pause_s` for each piece, and fails once it holds `full_bytes`."""

    def __init__(self, *, pause_s: float = 0.0, full_bytes: float = float("inf")) -> None:
        self.data = b""
        self._pause_s = pause_s
        self._full_bytes = full_bytes

    async def append(self, lines: bytes) -> None:
        await trio.sleep(self._pause_s)
        if len(self.data) + len(lines) > self._full_bytes:
            raise BrokenPipeError
        self.data += lines

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert not self.data or self.data.endswith(b"\n")
        return [json.loads(line) for line in self.data.splitlines()]


class PlannedProvider:
    """All accounts, and what arrived at them: (when, account, body), and with it the flow and priority of the call."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, Account, dict[str, Any]]] = []
        self.turns: list[tuple[str, int]] = []
        self.open_now = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._attempts: dict[int, int] = {}

    def __call__(self, account: Account, on_usage: OnUsage) -> PlannedTransport:
        return PlannedTransport(self, account, on_usage)

    def status(self, calling: APICalling, statuses: list[int]) -> int:
        """What this attempt of a call is answered with."""
        attempt = self._attempts[calling.call_id] = self._attempts.get(calling.call_id, 0) + 1
        return statuses[min(attempt, len(statuses)) - 1]


class PlannedTransport:
    """The way to one account."""

    def __init__(self, provider: PlannedProvider, account: Account, on_usage: OnUsage) -> None:
        self.provider = provider
        self.account = account
        self.on_usage = on_usage

    async def connect(self) -> PlannedConnection:
        await trio.lowlevel.checkpoint()
        self.provider.open_now += 1
        return PlannedConnection(self)


class PlannedConnection:
    """One connection to it."""

    def __init__(self, transport: PlannedTransport) -> None:
        self.transport = transport
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
        attempt.begin()
        attempt.sent()
        provider.arrivals.append((trio.current_time(), account, body))
        provider.turns.append((calling.flow, calling.priority))
        provider.in_flight += 1
        provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
        planned = json.loads(body["messages"][-1]["content"])
        try:
            await trio.sleep(planned["after_s"])
        finally:
            provider.in_flight -= 1
        status = provider.status(calling, planned["statuses"])
        if status == LOST:
            return lost_answer("the connection broke. The request had left.", status=0)
        answer = json.dumps(answer_to(body) if status == 200 else {"error": {"message": f"planned {status}"}}).encode()
        reading = account.spec.format.read(status, {"x-request-id": f"req-{status}"}, answer, now_s=0.0)
        if reading.usage is not None:
            self.transport.on_usage(calling, reading.usage)
        return answer_of(reading, status=status, body=answer, keep=True)


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion that repeats what it was asked."""
    said = {"role": "assistant", "content": body["messages"][-1]["content"]}
    return {
        "model": body["model"],
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


class Run(NamedTuple):
    """A batch that has ended."""

    tally: Tally
    rows: list[dict[str, Any]]
    provider: PlannedProvider
    time_s: float


AT_HOME = BatchSettings(model="m-1", base_url="http://127.0.0.1:1/v1")
"""A model that needs no key."""


def run_batch(
    data: bytes | Pieces,
    settings: BatchSettings = AT_HOME,
    *,
    sheet: Sheet | None = None,
    meanwhile: Callable[[Batch], Awaitable[None]] | None = None,
    environ: dict[str, str] | None = None,
    max_bytes: int = 1_000_000,
) -> Run:
    """Run a batch under a clock of its own; `meanwhile` runs beside it. Raises what the batch raises."""
    sheet = sheet or Sheet()
    source = Pieces(data) if isinstance(data, bytes) else data
    provider = PlannedProvider()

    async def main() -> Run:
        await trio.sleep(1.0)
        reader = LineReader(source, max_bytes=max_bytes)
        batch = Batch(reader, sheet, settings, transport=provider, environ=environ or {})
        raised: list[Exception] = []

        async def run() -> None:
            try:
                await batch.run()
            except (PenstockError, BrokenPipeError) as error:
                raised.append(error)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                if meanwhile is not None:
                    nursery.start_soon(meanwhile, batch)
                await run()
                nursery.cancel_scope.cancel()
        assert (provider.open_now, provider.in_flight) == (0, 0)
        if raised:
            raise raised[0]
        tally = batch.tally
        assert tally.read == tally.completed + tally.failed + tally.not_sent
        assert len(sheet.rows) == tally.completed + tally.failed
        return Run(tally, sheet.rows, provider, trio.current_time() - 1.0)

    return trio.run(main, clock=MockClock(autojump_threshold=0))
