"""What is written of a stream, and when: every write to the socket, its instant, and what a fault makes of it.

A `StreamPlan` is decided when its request is; its `writes` are made as they are needed. Instants are microseconds after
the answer's head. Events are numbered from 0, and a fault strikes before the event of its number: what comes before is
written whole, in writes that end there.

Pure: no trio, no I/O, no clock, no random.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from engine.simulator.chunks import GARBAGE
from engine.simulator.config import FaultRates, StreamShape
from engine.simulator.events import SPLITS, Events
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
    "error_in_200": "error",
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

    def __init__(self, stream: Events, shape: StreamShape, fault: str, faults: FaultRates, chances: Draw) -> None:
        self._stream = stream
        self._shape = shape
        self._fault = fault
        self._stall_us = round(faults.stall_s * 1_000_000)
        self._comment_us = max(1, round(faults.comment_s * 1_000_000))
        self._chances = chances
        self.events = stream.total
        self.ending: Ending = _ENDINGS.get(fault, "done")
        if self.ending == "error" and not stream.error:
            self.ending = "cut"
        self.struck_at: int | None = None
        if fault in _STRIKING:
            self.struck_at = self._place(faults.stream_at)
        self.usage_at = stream.usage_at
        self.usage_arrives = self.usage_at is not None and not self._spoils(self.usage_at)
        if fault == "stream_split":
            self.events += SPLITS
            self.usage_at = None if self.usage_at is None else self.usage_at + SPLITS

    def _place(self, asked: int | None) -> int:
        place = int(self._chances.fault * self.events) if asked is None else min(asked, self.events - 1)
        if self._fault == "malformed_json":
            return min(place, self._stream.json_events - 1)  # [DONE] is no JSON to begin with
        if self._fault == "stream_split":
            return max(self._stream.split_from, min(place, self._stream.split_to))
        return place

    def _spoils(self, event: int) -> bool:
        if self.struck_at is None:
            return False
        if self._fault == "malformed_json":
            return self.struck_at == event
        return self.ending != "done" and self.struck_at <= event

    def writes(self) -> Iterator[Write]:
        """All of them, in order; instants never fall."""
        writes = self._plain()
        if self._fault == "stream_comments":
            writes = self._commented(writes)
        elif self.struck_at is not None:
            writes = self._struck(writes)
        preamble = self._stream.preamble
        return chain((Write(0, preamble, 0),), writes) if preamble else writes

    def _plain(self) -> Iterator[Write]:
        burst, tail_at, struck_at = self._shape.burst, self._stream.tail_at, self.struck_at
        instants = self._instants()
        at_us = next(instants)
        pending: list[bytes] = []
        for number, event in enumerate(self._stream.events(), 1):
            pending.append(event)
            if len(pending) == burst or number == struck_at:
                yield Write(at_us, b"".join(pending), number)
                pending.clear()
                if number <= tail_at:
                    at_us = next(instants)
        if pending:
            yield Write(at_us, b"".join(pending), self._stream.total)

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
            yield Write(write.at_us, self._stream.comment, before)
            yield write
            before = write.events

    def _struck(self, plain: Iterator[Write]) -> Iterator[Write]:
        before = later_us = more = 0
        for write in plain:
            if self._fault == "stream_crlf":
                write = write._replace(data=write.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
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
        end = data.find(self._stream.end)
        if self._fault in ("stream_stall", "stream_keep_alive"):
            yield from self._stall(at_us, number)
        elif self.ending == "error":
            yield Write(at_us, self._stream.error, number)
        elif self._fault == "truncated":
            yield Write(at_us, data[: end // 2], number)
        elif self._fault == "malformed_json":
            cut = max(end // 2, data.index(b"{") + 1)  # within the JSON, whatever stands before it
            yield Write(at_us, data[:cut] + b"]" + data[end:], events)
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
                yield Write(at_us + after_us, self._stream.comment, number)
        yield Write(at_us + self._stall_us, b"", number)

    def _split(self, write: Write, number: int) -> Iterator[Write]:
        at_us = write.at_us
        extra = 0
        for parts in self._stream.split():
            for part in parts[:-1]:
                yield Write(at_us, part, number + extra)
                at_us += GAP_US
            extra += 1
            yield Write(at_us, parts[-1], number + extra)
            at_us += GAP_US
        yield Write(at_us, write.data, write.events + extra)
