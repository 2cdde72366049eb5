"""Runs a batch in virtual time: lines from memory, results into memory, and a provider that does what each line says.

A prompt is a plan in JSON: the statuses its attempts are answered with, and how long each takes. No socket, no file and
no thread; `run_batch` checks that the books balance and that no connection is left open.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import trio

from engine.batch import Batch, BatchSettings, LineReader, Tally
from engine.errors import PenstockError
from engine.testing import ProviderReply, Request, ScriptedProvider, chat_reply, error_reply, fault, run_virtual

LOST = 0
"""In a plan, in place of a status: the connection breaks, and there is no answer."""


def plan(*statuses: int, after_s: float = 0.1) -> str:
    """A prompt that makes the provider answer so, attempt by attempt, the last from then on."""
    return json.dumps({"statuses": statuses or (200,), "after_s": after_s})


def as_planned(request: Request) -> ProviderReply:
    """What the plan in a request says of this attempt; a success repeats the prompt."""
    planned = json.loads(request.prompt)
    status = planned["statuses"][: request.attempt][-1]
    after_s = planned["after_s"]
    if status == LOST:
        return fault("cut", delay_s=after_s)
    if status == 200:
        headers = {"x-request-id": "req-200"}
        return chat_reply(request.prompt, model=request.body["model"], delay_s=after_s, headers=headers)
    return error_reply(status, f"planned {status}", delay_s=after_s, headers={"x-request-id": f"req-{status}"})


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


class Run(NamedTuple):
    """A batch that has ended."""

    tally: Tally
    rows: list[dict[str, Any]]
    provider: ScriptedProvider
    time_s: float

    @property
    def turns(self) -> list[tuple[str, int]]:
        """Flow and priority of each request, in the order in which they left."""
        return [(request.flow, request.priority) for request in self.provider.requests]


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
    provider = ScriptedProvider(as_planned)

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

        async with trio.open_nursery() as nursery:
            if meanwhile is not None:
                nursery.start_soon(meanwhile, batch)
            await run()
            nursery.cancel_scope.cancel()
        assert (provider.open_now, provider.in_flight, provider.failure) == (0, 0, None)
        if raised:
            raise raised[0]
        tally = batch.tally
        assert tally.read == tally.completed + tally.failed + tally.not_sent
        assert len(sheet.rows) == tally.completed + tally.failed
        return Run(tally, sheet.rows, provider, trio.current_time() - 1.0)

    return run_virtual(main, seed=None)
