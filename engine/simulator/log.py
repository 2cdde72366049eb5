"""The provider's memory of its arrivals: kept in columns, about 60 bytes each, and appended to a file when asked.

`ArrivalLog` also keeps the totals, the fullest window of every limit and the lateness of the loop up to date as it
goes, so that asking for statistics costs nothing while a run is on. It opens one file, the one it was told; it reads no
clock and must not import trio.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import msgspec

from engine.simulator.analysis import WindowWatch
from engine.simulator.config import ProviderLimit
from engine.simulator.records import Arrival, Aside, Late, LoopLateness, StreamEnd, StreamTotals, WorstWindow

MAX_LATE_RECORDS: Final = 10_000

_encode = msgspec.json.Encoder().encode


class ArrivalLog:
    """All arrivals up to `capacity`, in order; totals over all of them."""

    def __init__(self, rules: Sequence[ProviderLimit], *, capacity: int, guard_us: int) -> None:
        self._capacity = capacity
        self._guard_us = guard_us
        self._rules = tuple(rules)
        self._watches = [WindowWatch(rule.period_us) for rule in rules]
        self._at_us = array("q")
        self._calls: list[str] = []
        self._attempts = array("l")
        self._statuses = array("h")
        self._refusals = bytearray()
        self._faults = bytearray()
        self._tokens = (array("q"), array("q"), array("q"))
        self._words: list[str] = []
        self._numbers: dict[str, int] = {}
        self.lates: list[Late] = []
        self.ends: list[StreamEnd] = []
        self.asides: list[Aside] = []
        self.asked = 0
        self._streams: Counter[str] = Counter()
        self._events = 0
        self._begun = 0
        self.arrivals = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self._max_late_us = 0
        self._over_guard = 0

    def _number(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
        return number

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def unlogged(self) -> int:
        """Arrivals that came when the log was full: counted, not kept."""
        return self.arrivals - len(self._calls)

    def add(self, arrival: Arrival) -> None:
        """Remember one arrival."""
        self.arrivals += 1
        if arrival.fault:
            self.faults[arrival.fault] += 1
        if arrival.refused_by:
            self.refused[arrival.refused_by] += 1
        else:
            self.accepted += 1
            self.input_tokens += arrival.input_tokens
            self.output_tokens += arrival.output_tokens
            for rule, watch in zip(self._rules, self._watches, strict=True):
                watch.add(arrival.at_us, arrival.charged(rule.dimension, rule.charge))
        if len(self._calls) < self._capacity:
            self._keep(arrival)

    def _keep(self, arrival: Arrival) -> None:
        self._at_us.append(arrival.at_us)
        self._calls.append(arrival.call)
        self._attempts.append(arrival.attempt)
        self._statuses.append(arrival.status)
        self._refusals.append(self._number(arrival.refused_by))
        self._faults.append(self._number(arrival.fault))
        for column, amount in zip(
            self._tokens, (arrival.input_tokens, arrival.output_cap, arrival.output_tokens), strict=True
        ):
            column.append(amount)

    def stream_began(self) -> None:
        """Count a stream that is under way."""
        self._begun += 1

    def stream_ended(self, end: StreamEnd) -> None:
        """Remember how a stream ended."""
        self._streams[end.ending] += 1
        self._events += end.events
        if len(self.ends) < self._capacity:
            self.ends.append(end)

    def aside(self, aside: Aside) -> None:
        """Remember a request that was no call."""
        self.asked += 1
        if len(self.asides) < self._capacity:
            self.asides.append(aside)

    def streams(self) -> StreamTotals:
        """The streams so far."""
        return StreamTotals(self._begun, self._begun - self._streams.total(), dict(self._streams), self._events)

    def turned(self, due_us: int, now_us: int) -> None:
        """Note that the loop, asked to turn at `due_us`, turned at `now_us`. Before the first arrival none counts."""
        late_us = now_us - due_us
        if not self.arrivals or late_us <= 0:
            return
        self._max_late_us = max(self._max_late_us, late_us)
        if late_us > self._guard_us:
            self._over_guard += 1
            if len(self.lates) < MAX_LATE_RECORDS:
                self.lates.append(Late(now_us, late_us))

    def lateness(self) -> LoopLateness:
        """How late the loop ran so far."""
        return LoopLateness(self._guard_us, self._max_late_us, self._over_guard, self._over_guard > 0)

    def worst_windows(self) -> list[WorstWindow]:
        """The fullest sliding window of every limit so far."""
        return [
            WorstWindow(rule.dimension, rule.kind, rule.limit, rule.period_us, watch.worst.amount, watch.worst.at_us)
            for rule, watch in zip(self._rules, self._watches, strict=True)
        ]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Arrival]:
        """The arrivals kept, from the `start`-th on, before the `stop`-th."""
        for row in range(start, len(self) if stop is None else min(stop, len(self))):
            yield Arrival(
                self._at_us[row],
                self._calls[row],
                self._attempts[row],
                self._words[self._refusals[row]],
                self._statuses[row],
                self._words[self._faults[row]],
                *(column[row] for column in self._tokens),
            )

    def lines(self, start: int, stop: int) -> bytes:
        """The same as JSON lines."""
        return b"".join(_encode(arrival) + b"\n" for arrival in self.read(start, stop))

    def late_lines(self, start: int = 0) -> bytes:
        """The late turns from the `start`-th on, as JSON lines."""
        return b"".join(_encode(late) + b"\n" for late in self.lates[start:])

    def end_lines(self, start: int, stop: int) -> bytes:
        """The ends of streams from the `start`-th on, before the `stop`-th, as JSON lines."""
        return b"".join(_encode(end) + b"\n" for end in self.ends[start:stop])

    def aside_lines(self, start: int, stop: int) -> bytes:
        """The requests that were no calls from the `start`-th on, before the `stop`-th, as JSON lines."""
        return b"".join(_encode(aside) + b"\n" for aside in self.asides[start:stop])


class LogFile:
    """Appends to an open file what its log has gained since the last time."""

    def __init__(self, log: ArrivalLog, file: BinaryIO) -> None:
        self._log = log
        self._file = file
        self._written = 0
        self._lates_written = 0
        self._ends_written = 0
        self._asides_written = 0

    def write(self, most: int) -> bool:
        """Append up to `most` arrivals, as many ends of streams, as many requests that were no calls, and all new late
        turns. Returns whether any are left to write."""
        stop = min(len(self._log), self._written + most)
        ends = min(len(self._log.ends), self._ends_written + most)
        asides = min(len(self._log.asides), self._asides_written + most)
        self._file.write(self._log.lines(self._written, stop))
        self._file.write(self._log.end_lines(self._ends_written, ends))
        self._file.write(self._log.aside_lines(self._asides_written, asides))
        self._file.write(self._log.late_lines(self._lates_written))
        self._file.flush()
        self._written, self._ends_written, self._lates_written = stop, ends, len(self._log.lates)
        self._asides_written = asides
        return stop < len(self._log) or ends < len(self._log.ends) or asides < len(self._log.asides)


_decode_line = msgspec.json.Decoder(Arrival | Late | StreamEnd | Aside).decode


class LogRecords(NamedTuple):
    """What is in a log, each kind in order."""

    arrivals: list[Arrival]
    lates: list[Late]
    ends: list[StreamEnd]
    asides: list[Aside]


def read_log(data: bytes) -> LogRecords:
    """Read a log from its JSON lines: the arrivals, the late turns, the ends of streams, and what was no call.

    Raises `msgspec.DecodeError` if a line is none of them.
    """
    arrivals: list[Arrival] = []
    lates: list[Late] = []
    ends: list[StreamEnd] = []
    asides: list[Aside] = []
    for line in data.splitlines():
        record = _decode_line(line)
        if isinstance(record, Arrival):
            arrivals.append(record)
        elif isinstance(record, StreamEnd):
            ends.append(record)
        elif isinstance(record, Aside):
            asides.append(record)
        else:
            lates.append(record)
    return LogRecords(arrivals, lates, ends, asides)
