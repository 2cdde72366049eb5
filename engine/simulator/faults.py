"""What chance decides about one attempt of a call: the fault, the latency, the length and the words of the reply.

Everything is drawn from the seed, the call's identity and the attempt's number by one keyed hash, and from nothing
else: not from the order of arrival, not from the clock, not from a generator's state. So two runs with the same calls
have the same faults.

Pure: no trio, no I/O, no random.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate
from struct import unpack
from typing import Final, NamedTuple

FAULTS: Final = (
    "rate_limited",
    "server_error",
    "unavailable",
    "bare_error",
    "reset_before",
    "reset_after",
    "stall",
    "malformed_json",
    "html",
    "empty",
    "truncated",
    "wrong_types",
    "null_usage",
    "stream_cut",
    "stream_reset",
    "stream_error",
    "stream_stall",
    "stream_keep_alive",
    "stream_garbage",
    "stream_comments",
    "stream_split",
    "stream_crlf",
    "stream_no_done",
    "error_in_200",
)
"""Every fault's name, in the order in which one draw is laid over their probabilities."""

STREAM_FAULTS: Final = frozenset(name for name in FAULTS if name.startswith("stream_"))
"""Those that strike streams alone; an answer in one piece is spared them."""

NO_FAULT: Final = ""


class Draw(NamedTuple):
    """The chances of one attempt: three fractions from 0 up to, never equal to, 1, and one 64-bit number."""

    fault: float
    latency: float
    output: float
    word: int


def draw(seed: int, call: str, attempt: int, *, about: bytes = b"") -> Draw:
    """The chances of the `attempt`-th attempt (from 1) of the call with this identity; other ones for each `about`, of
    at most 16 bytes."""
    material = b"%d\x00%s" % (attempt, call.encode("utf-8", "surrogatepass"))
    digest = blake2b(material, digest_size=32, key=seed.to_bytes(8, "little"), person=about).digest()
    fault, latency, output, word = unpack("<4Q", digest)
    return Draw((fault >> 11) / 2**53, (latency >> 11) / 2**53, (output >> 11) / 2**53, word)


class FaultTable:
    """Turns a fraction into the name of a fault, or ``""`` for none."""

    def __init__(self, rates: Mapping[str, float], only_first_attempts: int = 0) -> None:
        self._names = [name for name, rate in rates.items() if rate > 0]
        self._edges = list(accumulate(rate for rate in rates.values() if rate > 0))
        if self._edges and self._edges[-1] > 1 - 1e-9:
            self._edges[-1] = 1.0  # probabilities meant to add up to 1 must leave no sliver of "none"
        self._only_first_attempts = only_first_attempts

    def pick(self, fraction: float, attempt: int) -> str:
        """The fault that strikes an attempt whose draw was `fraction`."""
        if self._only_first_attempts and attempt > self._only_first_attempts:
            return NO_FAULT
        place = bisect_right(self._edges, fraction)
        return self._names[place] if place < len(self._names) else NO_FAULT
