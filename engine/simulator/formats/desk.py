"""What a provider answers besides calls: records, lists, an answer asked for again, a deletion.

A `Desk` is one such place. What it is asked counts against no limit, is struck by no fault and takes no time; it is
kept in the log as an `Aside`. A desk holds no state: what changes from one asking to the next is how often it was asked
(`Asked.number`) and what the house tells (`House`).

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from engine.simulator.failure import Failure
from engine.simulator.formats.manner import HeadersSeen, Moment, header
from engine.simulator.limits import LimitSet
from engine.simulator.records import SimulatorStatistics
from engine.simulator.reply import Answer


class Asked(NamedTuple):
    """One request. `name` is the part of the path that its route leaves open, unquoted; `query` what follows the path,
    as it came; `number` how often this method was asked for this path so far, this time included."""

    method: str
    path: str
    name: str
    query: str
    headers: HeadersSeen
    body: bytes
    number: int


class House(NamedTuple):
    """What a desk may tell of: the models of the configuration, the limits and the totals as they stand, the seeded
    words (from where, how many), the time, and how long it has been there."""

    models: tuple[str, ...]
    limits: LimitSet
    statistics: Callable[[], SimulatorStatistics]
    text: Callable[[int, int], str]
    now: Moment
    up_us: int


class Desk(ABC):
    """One place that answers what is no call."""

    public: bool = False
    """Whether it asks for no key, whatever the configuration demands."""

    def credential(self, headers: HeadersSeen) -> bytes:
        """The key a request presents, as a bearer key."""
        return header(headers, b"authorization")

    @abstractmethod
    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        """The answer, or why there is none. Never raises."""

    def error(self, failure: Failure) -> object:
        """The body of a failure, to be encoded; None: in the words of whoever owns the path."""
        return None
