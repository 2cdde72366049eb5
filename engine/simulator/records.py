"""What a simulated provider remembers and tells: one arrival, one late turn of its loop, its statistics.

These are the lines of the log and the answer of ``/statistics``; the analysis reads them, in this process or another.
All instants are the monotonic clock of the machine in microseconds, so they compare across its processes.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from engine.simulator.config import ChargeKind, Dimension, LimitKind

Ending: TypeAlias = Literal["done", "error", "cut", "reset", "left"]


class Arrival(msgspec.Struct, frozen=True, gc=False, tag="arrival", tag_field="kind"):
    """One request for a completion, as the provider saw it.

    `at_us` is read right after the `recv` that returned the request's last byte: later than the byte's arrival in the
    kernel by however late the loop runs (see `Late`), never earlier. For a request that was already in memory behind
    the one before it, it is the instant its turn came; for one reset before its body was read, the instant of the
    reset. Instants in a log never fall.

    `call` is the identity (the header ``x-penstock-call``, else a hash of the body), `attempt` counts from 1 how often
    it was seen. `refused_by` is empty for an accepted request, else the dimension of the limit, ``concurrency``,
    ``injected`` (a 429 by chance), ``cut`` (reset before it was read), ``invalid``, ``key`` or ``too_large``.
    `status` 0: no answer was sent. `output_cap` is what a limit charged on arrival, `output_tokens` what the answer's
    usage said, and the same as the cap if the answer carried none.
    """

    at_us: int
    call: str
    attempt: int
    refused_by: str = ""
    status: int = 200
    fault: str = ""
    input_tokens: int = 0
    output_cap: int = 0
    output_tokens: int = 0

    @property
    def accepted(self) -> bool:
        """Whether it was admitted, and so counted and charged, whatever became of its answer."""
        return not self.refused_by

    def charged(self, dimension: Dimension, charge: ChargeKind = "arrival") -> int:
        """What an accepted request cost a limit of this dimension in the end."""
        output = self.output_cap if charge == "arrival" else self.output_tokens
        if dimension == "requests":
            return 1
        if dimension == "input_tokens":
            return self.input_tokens
        return output if dimension == "output_tokens" else self.input_tokens + output


class StreamEnd(msgspec.Struct, frozen=True, gc=False, tag="stream", tag_field="kind"):
    """One stream that is over, in the order of their ends. `at_us` is when, `call` and `attempt` are those of its
    arrival, `events` of its `planned` events were sent whole, comments not counted.

    `ending` is ``done`` (in order, with or without ``[DONE]``), ``error`` (in order, after an error in place of an
    event), ``cut`` or ``reset`` by a fault, or ``left``: the client closed the connection before it was over.
    """

    at_us: int
    call: str
    attempt: int
    events: int
    planned: int
    ending: Ending
    fault: str = ""


class StreamTotals(msgspec.Struct, frozen=True):
    """Streams so far: `begun`, `open` now, `ended` by how they did, and all their `events`, each counted when its
    stream ends."""

    begun: int = 0
    open: int = 0
    ended: dict[str, int] = {}
    events: int = 0


class Aside(msgspec.Struct, frozen=True, gc=False, tag="aside", tag_field="kind"):
    """One request that was no call and counted against no limit: an answer asked for again, a record, a deletion.

    `at_us` is when its last byte was read, `call` the name the caller gave it (the header ``x-penstock-call``) or
    empty, `number` counts from 1 how often this method was asked for this path, `status` is what it was answered.
    """

    at_us: int
    call: str
    method: str
    path: str
    number: int
    status: int


class Late(msgspec.Struct, frozen=True, gc=False, tag="late", tag_field="kind"):
    """The loop turned `late_us` later than it was asked to, at `at_us`: more than the guard."""

    at_us: int
    late_us: int


class LoopLateness(msgspec.Struct, frozen=True):
    """How late the server's own loop ran since its first arrival. `late` marks the run: the guard was exceeded, so
    the instants in the log may be off by as much."""

    guard_us: int
    max_late_us: int
    over_guard: int
    late: bool


class WorstWindow(msgspec.Struct, frozen=True):
    """The fullest sliding window one limit has seen: `worst` in the window of `period_us` that ended with the arrival
    at `at_us`. A fixed window or a token bucket may rightly let `worst` exceed `limit`."""

    dimension: Dimension
    limit_kind: LimitKind
    limit: int
    period_us: int
    worst: int
    at_us: int


class SimulatorStatistics(msgspec.Struct, frozen=True):
    """A provider's totals since its start. `refused` and `faults` count by kind; `not_found` are requests to unknown
    paths, which are not arrivals; `unlogged` are arrivals beyond the log's capacity; `asides` are requests that were no
    calls, and no arrivals either."""

    arrivals: int
    accepted: int
    refused: dict[str, int]
    faults: dict[str, int]
    not_found: int
    in_flight: int
    connections: int
    input_tokens: int
    output_tokens: int
    unlogged: int
    worst_windows: list[WorstWindow]
    loop: LoopLateness
    streams: StreamTotals = StreamTotals()
    asides: int = 0
