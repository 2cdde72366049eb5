"""The events of one stream, whatever its format: what `StreamPlan` must know to send them and to spoil them.

A format's stream is an `Events`. Those of OpenAI's chat are written by hand for speed (`engine.simulator.chunks`); the
others are put together from `Block`s (`Composed`): a head, blocks of pieces with what opens and closes them, a tail.
Events are made one at a time, as they are needed.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple, TypeAlias

COMMENT: Final = b": keep-alive\n\n"

_SPLIT: Final = (
    # What is said, and where it is cut: within a character, and within the escape of each half of a surrogate pair.
    ("☕".encode(), (1, 2)),
    (rb"\ud83d", (3,)),
    (rb"\ude00", (3,)),
)
SPLITS: Final = len(_SPLIT)
"""How many events are added to a stream to be cut in their middles."""
SPLIT_TEXT: Final = "☕😀"
"""What those events say together."""

Event: TypeAlias = Mapping[str, object]
Frame: TypeAlias = Callable[[int, Event], bytes]
"""Makes of an event's number and its data the bytes of it."""


class Events:
    """One stream. `total` is how many events it has; `tail_at` is the number of the first after the last delta,
    `usage_at` of the one with the usage, or None; `json_events` is how many, from the first, hold JSON. Deltas that
    are added have a number from `split_from` to `split_to`."""

    end: ClassVar[bytes] = b"\n\n"
    """What ends an event."""
    comment: bytes = COMMENT
    """What says nothing and keeps the connection alive; empty where there is no such thing."""
    preamble: bytes = b""
    """What is sent before the first event, as soon as the answer begins."""
    error: bytes = b""
    """What is sent in an event's place when the stream fails; an orderly end follows it. Empty where a stream that
    fails is cut off."""
    total: int
    tail_at: int
    usage_at: int | None
    json_events: int
    split_from: int
    split_to: int

    def events(self) -> Iterator[bytes]:
        """All of them, in order."""
        raise NotImplementedError

    def added(self, number: int, content: bytes) -> bytes:
        """One more delta, the `number`-th of those added, that says `content`: text as it stands in JSON."""
        raise NotImplementedError

    def split(self) -> Iterator[list[bytes]]:
        """Further deltas, each cut in its middle."""
        for number, (content, cuts) in enumerate(_SPLIT):
            event = self.added(number, content)
            start = event.rindex(content)
            edges = [0, *(start + cut for cut in cuts), len(event)]
            yield [event[left:right] for left, right in pairwise(edges)]


class Block(NamedTuple):
    """Deltas that belong together. `delta` makes one of a piece and its place among the pieces."""

    pieces: Sequence[str]
    delta: Callable[[str, int], Event]
    opening: Sequence[Event] = ()
    closing: Sequence[Event] = ()

    @property
    def size(self) -> int:
        """How many events it has."""
        return len(self.opening) + len(self.pieces) + len(self.closing)


class Script(NamedTuple):
    """A stream in parts. Bytes in the tail are sent as they are. `usage` is the place in the tail of the event with the
    usage, or None. `split` is the only number an added delta may have, or None for any within the deltas; it is made by
    `added`."""

    head: Sequence[Event]
    blocks: Sequence[Block]
    tail: Sequence[Event | bytes]
    added: Callable[[str], Event]
    usage: int | None = None
    split: int | None = None

    @property
    def size(self) -> int:
        """How many events it has."""
        return len(self.head) + sum(block.size for block in self.blocks) + len(self.tail)


_MARK: Final = "@split@"


class Composed(Events):
    """A stream put together from a `Script`. `splits` says that deltas will be added at the place for them, so that
    those that follow count on from there."""

    def __init__(
        self, script: Script, frame: Frame, *, error: bytes, preamble: bytes = b"", splits: bool = False
    ) -> None:
        self._script = script
        self._frame = frame
        self.error = error
        self.preamble = preamble
        self.total = script.size
        self.tail_at = script.size - len(script.tail)
        self.usage_at = None if script.usage is None else self.tail_at + script.usage
        self.json_events = self.total - sum(isinstance(event, bytes) for event in script.tail)
        self.split_from = len(script.head) if script.split is None else script.split
        self.split_to = self.tail_at if script.split is None else script.split
        self._later = SPLITS if splits else 0

    def events(self) -> Iterator[bytes]:
        frame = self._frame
        for number, event in enumerate(self._all()):
            if isinstance(event, bytes):
                yield event
            else:
                yield frame(number + self._later if number >= self.split_from else number, event)

    def added(self, number: int, content: bytes) -> bytes:
        event = self._frame(self.split_from + number, self._script.added(_MARK))
        return event.replace(_MARK.encode(), content)

    def _all(self) -> Iterator[Event | bytes]:
        script = self._script
        yield from script.head
        for block in script.blocks:
            yield from block.opening
            for place, piece in enumerate(block.pieces):
                yield block.delta(piece, place)
            yield from block.closing
        yield from script.tail


class LineEvents(Composed):
    """A stream of lines of JSON, which has no comments."""

    end = b"\n"
    comment = b""


class CrlfEvents(Composed):
    """A stream of events whose lines end with two bytes."""

    end = b"\r\n\r\n"
