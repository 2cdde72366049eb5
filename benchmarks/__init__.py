"""What the engine costs and what it achieves, measured: one question per file, `python -m benchmarks` lists them.

Rules: every case runs in a process of its own, in rounds of alternating order; figures are medians, and ratios within
one run; a time stands only beside a unit that was timed in the same run. Everything measured goes into the JSON, and
plots are made from that alone.

Not part of the installed packages: it is run from the repository. It uses `engine` as a user does.
"""

from __future__ import annotations

from benchmarks import (
    engine_overhead,
    faults,
    hooks,
    learn,
    parse,
    payload,
    portal,
    queue_scale,
    streams,
    throughput_under_limits,
    wire,
)

BENCHMARKS = {
    one.BENCHMARK.name: one.BENCHMARK
    for one in (
        throughput_under_limits,
        engine_overhead,
        hooks,
        portal,
        wire,
        streams,
        parse,
        payload,
        queue_scale,
        faults,
        learn,
    )
}
"""All benchmarks by name, in the order in which they are listed."""
