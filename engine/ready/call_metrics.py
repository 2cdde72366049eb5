"""`CallMetrics`: what became of the calls of each model, in counters, and how long they took, in histograms.

Rules: nothing of a call is kept but numbers, and rows for a bounded number of models, so that a program may run for
ever; what was paid for is counted once, at the call that paid. A call is one call, however often it was attempted.
"""

from __future__ import annotations

import itertools
import math
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from actors.limits import is_count, is_number
from engine.call import Call
from engine.errors import UsageError
from engine.hooks import Handler, HookEventTypes

BUCKETS_S = tuple(0.001 * 2**power for power in range(20))
"""From a millisecond to nearly nine minutes, each twice the one before."""

OTHERS = "others"

SPANS = ("waited_s", "answering_s", "first_chunk_s", "total_s")
"""The fields of `Timings` that are counted."""


class Histogram(msgspec.Struct, frozen=True):
    """How often something took how long. `counts[i]` were at most `bounds_s[i]` seconds and more than the bound before;
    the last one, for which there is no bound, were longer than all."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float
    max_s: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)


class ModelMetrics(msgspec.Struct, frozen=True):
    """The calls of one model at one provider account.

    `begun` were submitted. `ended` counts those that came to an end after their handlers let them go, by status, and
    `errors` why, by the error's class; calls that ended before (vetoed, cancelled in their handlers, never queued) are
    in neither. `reused` are completed ones for which nothing was sent: a cache or another call answered. `attempts` and
    the amounts, as the provider reported them, are of calls that were sent. The histograms are of `Call.timings`,
    without those that never got so far.
    """

    model: str
    endpoint: str
    begun: int
    ended: Mapping[str, int]
    errors: Mapping[str, int]
    reused: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    waited_s: Histogram
    answering_s: Histogram
    first_chunk_s: Histogram
    total_s: Histogram


class CallMetricsStatistics(msgspec.Struct, frozen=True):
    """A row for each model, in the order of their first calls; those for which there was no room are one row, whose
    model and endpoint are both ``others``."""

    models: tuple[ModelMetrics, ...]


class _Spans:
    """A histogram that grows."""

    __slots__ = ("bounds_s", "counts", "max_s", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = self.max_s = 0.0

    def add(self, span_s: float) -> None:
        self.counts[bisect_left(self.bounds_s, span_s)] += 1
        self.sum_s += span_s
        if span_s > self.max_s:
            self.max_s = span_s

    def copy(self) -> Histogram:
        return Histogram(self.bounds_s, tuple(self.counts), self.sum_s, self.max_s)


class _Row:
    """What is counted of one model."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.begun = self.reused = self.attempts = 0
        self.input_tokens = self.output_tokens = self.cached_tokens = 0
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.spans = tuple((name, _Spans(bounds_s)) for name in SPANS)

    def add(self, call: Call) -> None:
        ended, reply, timings = call.ended, call.reply, call.timings
        if ended is None or timings is None:
            return
        self.ended[ended.status] += 1
        fault = ended.fault or reply.fault
        if ended.status != "completed" and fault is not None:
            self.errors[fault.kind] += 1
        for name, spans in self.spans:
            span_s = getattr(timings, name)
            if span_s is not None:
                spans.add(span_s)
        self.attempts += ended.attempts
        if ended.attempts:
            self.input_tokens += reply.input_tokens or 0
            self.output_tokens += reply.output_tokens or 0
            self.cached_tokens += reply.cached_tokens or 0
        elif ended.status == "completed":
            self.reused += 1

    def copy(self, model: str, endpoint: str) -> ModelMetrics:
        return ModelMetrics(
            model=model,
            endpoint=endpoint,
            begun=self.begun,
            ended=dict(self.ended),
            errors=dict(self.errors),
            reused=self.reused,
            attempts=self.attempts,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            **{name: spans.copy() for name, spans in self.spans},
        )


class CallMetrics:
    """Counts calls, and what they cost and took, by model and endpoint.

    Args:
      buckets_s: the bounds of the histograms, in seconds, ascending.
      max_models: how many rows there are; the models that are met after that are counted together.

    Where another handler replaces a call by one of another model, it has begun as the one and ended as the other.

    Raises:
      UsageError: the bounds do not ascend, or an argument is out of range.
    """

    def __init__(self, buckets_s: Iterable[float] = BUCKETS_S, *, max_models: int = 100) -> None:
        bounds_s = tuple(buckets_s)
        if not bounds_s or not all(is_number(bound) and 0 < bound < math.inf for bound in bounds_s):
            raise UsageError("buckets_s are seconds, more than 0, at least one")
        if any(before >= bound for before, bound in itertools.pairwise(bounds_s)):
            raise UsageError("buckets_s ascend; each is more than the one before")
        if not is_count(max_models):
            raise UsageError(f"max_models is a whole number of at least 1, not {max_models!a:.60}")
        self._bounds_s = bounds_s
        self._max_models = max_models
        self._rows: dict[tuple[str, str], _Row] = {}
        self._others: _Row | None = None
        # The handlers before a call are run again if the call that it followed was cancelled.
        self._begun: weakref.WeakSet[Call] = weakref.WeakSet()

    def handlers(self) -> Mapping[HookEventTypes, Handler]:
        """Its handlers, for `HookRegistry.use`. The first is of the earliest phase, so that no cache comes before."""
        return {HookEventTypes.PreEventCreate: self._before, HookEventTypes.PostInvocation: self._after}

    def statistics(self) -> CallMetricsStatistics:
        """A frozen copy of the counts."""
        rows = [row.copy(*key) for key, row in self._rows.items()]
        if self._others is not None:
            rows.append(self._others.copy(OTHERS, OTHERS))
        return CallMetricsStatistics(tuple(rows))

    def prometheus(self) -> str:
        """The counts in the text format that Prometheus reads, version 0.0.4."""
        return "".join(f"{line}\n" for line in _exposition(self.statistics().models))

    def __repr__(self) -> str:
        rows = [*self._rows.values(), *([self._others] if self._others is not None else [])]
        ended = sum(row.ended.total() for row in rows)
        return f"<CallMetrics: {sum(row.begun for row in rows)} calls begun, {ended} ended, {len(rows)} models>"

    # --- the handlers: neither waits ---

    async def _before(self, event: Call, **kw: Any) -> None:
        """Count a call that was submitted."""
        if event not in self._begun:
            self._begun.add(event)
            self._row(event).begun += 1

    async def _after(self, event: Call, **kw: Any) -> None:
        """Count a call that has ended."""
        await self._before(event)  # one that an earlier handler of the same phase answered
        self._begun.discard(event)
        self._row(event).add(event)

    def _row(self, call: Call) -> _Row:
        key = (call.model, call.owner.endpoint_name)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) < self._max_models:
                row = self._rows[key] = _Row(self._bounds_s)
            else:
                row = self._others = self._others or _Row(self._bounds_s)
        return row


# --- as text ---

_COUNTERS = {
    "begun": "Calls submitted.",
    "reused": "Completed calls for which nothing was sent.",
    "attempts": "Attempts of calls.",
    "input_tokens": "Input tokens, as reported.",
    "output_tokens": "Output tokens, as reported.",
    "cached_tokens": "Input tokens that the provider read from its own cache, as reported.",
}
_BY_LABEL = {
    "ended": ("status", "Calls that have ended."),
    "errors": ("kind", "Calls that did not complete, by what went wrong."),
}
_HISTOGRAMS = {
    "waited_s": "From submit to the last grant.",
    "answering_s": "From when the request had left to the end.",
    "first_chunk_s": "From when the request had left to the first event of a stream.",
    "total_s": "From submit to the end.",
}


def _exposition(models: tuple[ModelMetrics, ...]) -> Iterator[str]:
    for field, what in _COUNTERS.items():
        name = f"penstock_calls_{field}_total"
        yield from _head(name, "counter", what)
        for model in models:
            yield f"{name}{_labels(model)} {getattr(model, field)}"
    for field, (label, what) in _BY_LABEL.items():
        name = f"penstock_calls_{field}_total"
        yield from _head(name, "counter", what)
        for model in models:
            for value, number in sorted(getattr(model, field).items()):
                yield f"{name}{_labels(model, **{label: value})} {number}"
    for field, what in _HISTOGRAMS.items():
        name = f"penstock_call_{field.removesuffix('_s')}_seconds"
        yield from _head(name, "histogram", what)
        for model in models:
            yield from _histogram(name, model, getattr(model, field))


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _histogram(name: str, model: ModelMetrics, histogram: Histogram) -> Iterator[str]:
    below = 0
    for bound_s, number in zip((*histogram.bounds_s, "+Inf"), histogram.counts, strict=True):
        below += number
        yield f"{name}_bucket{_labels(model, le=str(bound_s))} {below}"
    yield f"{name}_sum{_labels(model)} {histogram.sum_s}"
    yield f"{name}_count{_labels(model)} {below}"


def _labels(model: ModelMetrics, **more: str) -> str:
    labels = {"model": model.model, "endpoint": model.endpoint, **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
