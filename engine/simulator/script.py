"""What is written of a stream, and when: every write to the socket, its instant, and what a fault makes of it.

A `StreamPlan` is decided when its request is; its `writes` are made as they are needed. Instants are microseconds after
the answer's head. Events are numbered from 0, and a fault strikes before the event of its number: what comes before is
written whole, in writes that end there.

Pure: no trio, no I/O, no clock, no random.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.simulator.chunks import COMMENT, ERROR, GARBAGE, SPLITS, Chunks
from engine.simulator.config import FaultRates, StreamShape
from engine.simulator.faults import Draw
from engine.simulator.latency import ConstantLatency
from engine.simulator.records import Ending

GAP_US: Final = 2_000
"""Between the two parts of what is cut in two: enough to be read apart."""

_ENDINGS: Final[dict[str, Ending]] = {
    "truncated": "cut",
    "stream_cut": "cut",
    "stream_reset": "reset",
    "stream_stall": "reset",
    "stream_keep_alive": "reset",
    "stream_error": "error",
}
_STRIKING: Final = frozenset((*_ENDINGS, "malformed_json", "stream_garbage", "stream_split", "stream_crlf"))


class Write(NamedTuple):
    """Bytes to be written at an instant, perhaps none; `events` is how many are whole once they are."""

    at_us: int
    data: bytes
    events: int


def fractions(seed: int) -> Iterator[float]:
    """Endless fractions from 0 up to 1 (splitmix64)."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        yield ((mixed ^ mixed >> 31) >> 11) / 2**53


class StreamPlan:
    """One stream as it is to be sent. `ending` is how it ends unless its client leaves, `struck_at` the number of the
    event before which its fault strikes, None without one, and `usage_arrives` whether the client gets a usage."""

    def __init__(self, chunks: Chunks, shape: StreamShape, fault: str, faults: FaultRates, chances: Draw) -> None:
        self._chunks = chunks
        self._shape = shape
        self._fault = fault
        self._stall_us = round(faults.stall_s * 1_000_000)
        self._comment_us = max(1, round(faults.comment_s * 1_000_000))
        self._chances = chances
        self.events = chunks.total
        self.ending: Ending = _ENDINGS.get(fault, "done")
        self.struck_at: int | None = None
        if fault in _STRIKING:
            self.struck_at = self._place(faults.stream_at)
        self.usage_at = chunks.usage_at
        self.usage_arrives = self.usage_at is not None and not self._spoils(self.usage_at)
        if fault == "stream_split":
            self.events += SPLITS
            self.usage_at = None if self.usage_at is None else self.usage_at + SPLITS

    def _place(self, asked: int | None) -> int:
        place = int(self._chances.fault * self.events) if asked is None else min(asked, self.events - 1)
        if self._fault == "malformed_json":
            return min(place, self.events - 2)  # [DONE] is no JSON to begin with
        if self._fault == "stream_split":
            # Among the deltas of the first choice: after its role, and before its finish.
            return max(1, min(place, self._chunks.tail_at))
        return place

    def _spoils(self, event: int) -> bool:
        if self.struck_at is None:
            return False
        if self._fault == "malformed_json":
            return self.struck_at == event
        return self.ending != "done" and self.struck_at <= event

    def writes(self) -> Iterator[Write]:
        """All of them, in order; instants never fall."""
        plain = self._plain()
        if self._fault == "stream_comments":
            return self._commented(plain)
        return plain if self.struck_at is None else self._struck(plain)

    def _plain(self) -> Iterator[Write]:
        burst, tail_at, struck_at = self._shape.burst, self._chunks.tail_at, self.struck_at
        instants = self._instants()
        at_us = next(instants)
        pending: list[bytes] = []
        for number, event in enumerate(self._chunks.events(), 1):
            pending.append(event)
            if len(pending) == burst or number == struck_at:
                yield Write(at_us, b"".join(pending), number)
                pending.clear()
                if number <= tail_at:
                    at_us = next(instants)
        if pending:
            yield Write(at_us, b"".join(pending), self._chunks.total)

    def _instants(self) -> Iterator[int]:
        first, interval = self._shape.first, self._shape.interval
        at_us = first.draw_us(self._chances.latency)
        chances = fractions(self._chances.word)
        step_us = interval.draw_us(0.0) if isinstance(interval, ConstantLatency) else None
        while True:
            yield at_us
            at_us += interval.draw_us(next(chances)) if step_us is None else step_us

    def _commented(self, plain: Iterator[Write]) -> Iterator[Write]:
        before = 0
        for write in plain:
            yield Write(write.at_us, COMMENT, before)
            yield write
            before = write.events

    def _struck(self, plain: Iterator[Write]) -> Iterator[Write]:
        before = later_us = more = 0
        for write in plain:
            if self._fault == "stream_crlf":
                write = write._replace(data=write.data.replace(b"\n", b"\r\n"))
            last = Write(write.at_us + later_us, write.data, write.events + more)
            if before == self.struck_at:
                for last in self._strike(write, before):
                    yield last
                if self.ending != "done":
                    return
                later_us, more = last.at_us - write.at_us, last.events - write.events
            else:
                yield last
            before = write.events

    def _strike(self, write: Write, number: int) -> Iterator[Write]:
        """What comes in the place of a write; if the stream goes on, it is the last of it, or in the last."""
        at_us, data, events = write
        if self._fault in ("stream_stall", "stream_keep_alive"):
            yield from self._stall(at_us, number)
        elif self._fault == "stream_error":
            yield Write(at_us, ERROR, number)
        elif self._fault == "truncated":
            yield Write(at_us, data[: data.index(b"\n\n") // 2], number)
        elif self._fault == "malformed_json":
            end = data.index(b"\n\n")
            yield Write(at_us, data[: end // 2] + b"]" + data[end:], events)
        elif self._fault == "stream_garbage":
            yield Write(at_us, GARBAGE, number)
            yield write
        elif self._fault == "stream_crlf":
            cut = data.index(b"\r") + 1
            yield Write(at_us, data[:cut], number)
            yield Write(at_us + GAP_US, data[cut:], events)
        elif self._fault == "stream_split":
            yield from self._split(write, number)
        else:
            yield Write(at_us, b"", number)

    def _stall(self, at_us: int, number: int) -> Iterator[Write]:
        if self._fault == "stream_keep_alive":
            for after_us in range(self._comment_us, self._stall_us, self._comment_us):
                yield Write(at_us + after_us, COMMENT, number)
        yield Write(at_us + self._stall_us, b"", number)

    def _split(self, write: Write, number: int) -> Iterator[Write]:
        at_us = write.at_us
        extra = 0
        for parts in self._chunks.split():
            for part in parts[:-1]:
                yield Write(at_us, part, number + extra)
                at_us += GAP_US
            extra += 1
            yield Write(at_us, parts[-1], number + extra)
            at_us += GAP_US
        yield Write(at_us, write.data, write.events + extra)
