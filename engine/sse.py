"""Server-sent events and NDJSON: bytes in, events out, however the bytes were cut on their way.

The rules are WHATWG's, read on bytes: a line ends with LF, CR or CRLF and with nothing else, so U+2028 and U+0085
inside JSON are text. Two things differ. An event whose data is empty is not one, because providers send those to keep
a connection alive. The last event is delivered although its blank line never came: whether it is whole is for the
reader of its JSON to say.

What is nearly always there, whole events of one ``data: `` line each, is cut apart by a few calls into C however many
arrive at once. Comments, `id` and `retry` make no event: when bytes arrive and `feed` returns nothing, they are no
sign of progress. Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

_BOM = b"\xef\xbb\xbf"


class TooLong(Exception):  # a signal from a reader to the connection above it, never seen by a caller
    """One event is larger than its cap. The events before it have been handed out; nothing behind it will be."""


class Named(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event with a name of its own (``event: error``). It crosses a channel as it is, beside plain bytes."""

    name: bytes
    data: bytes


Event: TypeAlias = bytes | Named
"""Only the data where the event has no name, or the default one (``message``)."""


class _Pieces:
    """What both readers share: the mark at the beginning, the unfinished end, and the cap on it."""

    __slots__ = ("_cap_bytes", "_fresh", "_held_bytes", "_pieces", "_spoilt")

    def __init__(self, *, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._fresh = True
        self._spoilt = False

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished event has arrived."""
        return self._held_bytes

    def _begin(self, data: bytes) -> bytes:
        """The first bytes of all without a byte-order mark; nothing while they may still become one."""
        data = b"".join([*self._pieces, data])
        self._pieces.clear()
        self._held_bytes = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._fresh = False
        return data.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._held_bytes += len(piece)

    def _release(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces = []
        self._held_bytes = 0
        return found

    def _overdue(self) -> bool:
        """Whether what is held is too long already. A line end as its last byte may not be part of the event."""
        over = self._held_bytes - self._cap_bytes
        return over > 1 or (over == 1 and self._pieces[-1][-1:] != b"\n")

    def _stop(self, events: list[Event]) -> list[Event]:
        """Nothing more will be read: hands out what came before the event that is too long, or raises."""
        self._spoilt = True
        self._release()
        if not events:
            raise TooLong(f"one event of the stream is larger than {self._cap_bytes} bytes")
        return events


class EventReader(_Pieces):
    """Reads one stream of server-sent events. `cap_bytes` bounds what may stand between two blank lines."""

    __slots__ = ("_after_cr",)

    def __init__(self, *, cap_bytes: int) -> None:
        super().__init__(cap_bytes=cap_bytes)
        self._after_cr = False

    def feed(self, data: bytes) -> list[Event]:
        """The events these bytes complete, in order; often none.

        Raises:
          TooLong: an event is larger than the cap. Where the same bytes completed events before it, those are
            returned, and the next `feed` or `end` raises.
        """
        if self._spoilt:
            return self._stop([])
        if self._fresh:
            data = self._begin(data)
        if self._after_cr or b"\r" in data:
            data = self._only_lf(data)
        if self._pieces:
            if self._goes_on(data):
                self._hold(data)
                return self._stop([]) if self._overdue() else []
            self._hold(data)
            data = self._release()
        # The usual case first: nothing but whole events of one line each.
        if data[-2:] == b"\n\n" and data[:6] == b"data: " and len(data) <= self._cap_bytes:
            events: list[Event] = data[6:-2].split(b"\n\ndata: ")  # type: ignore[assignment]  # fresh, so not shared
            if data.count(b"\n") == 2 * len(events) and b"" not in events:
                return events
        # Next, one whole event with a name: of a stream that has them, what comes by itself.
        elif (
            data[:7] == b"event: " and data[-2:] == b"\n\n" and data.count(b"\n") == 3 and len(data) <= self._cap_bytes
        ):
            name, _, text = data[7:-2].partition(b"\ndata: ")
            if text and name not in (b"", b"message"):
                return [Named(name, text)]
        return self._cut(data)

    def end(self) -> list[Event]:
        """The event that was not followed by a blank line, if there is one. Nothing may be fed after this.

        Raises:
          TooLong: as `feed` does.
        """
        if self._spoilt:
            return self._stop([])
        self._fresh = False
        event = _event_of(self._release())
        return [] if event is None else [event]

    def _only_lf(self, data: bytes) -> bytes:
        """The same lines, all ended by LF. A CR ends its line at once; an LF that follows it later is dropped."""
        if not data:
            return data
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
            if not data:
                return data
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _goes_on(self, data: bytes) -> bool:
        """Whether the event held is still unfinished after this piece of it, which then need not be copied yet."""
        return b"\n\n" not in data and (data[:1] != b"\n" or self._pieces[-1][-1:] != b"\n")

    def _cut(self, data: bytes) -> list[Event]:
        """The events of whatever is no usual case; what is left of it is held."""
        events: list[Event] = []
        at = data.rfind(b"\n\n") + 2
        if at > 1:
            for block in data[: at - 2].split(b"\n\n"):
                if len(block) > self._cap_bytes and len(block.strip(b"\n")) > self._cap_bytes:
                    return self._stop(events)
                if block[:6] == b"data: " and b"\n" not in block:
                    if len(block) > 6:
                        events.append(block[6:])
                elif block and (event := _event_of(block)) is not None:
                    events.append(event)
            data = data[at:]
        # Blank lines before an event are nothing, and nor is a comment: a silent stream must not fill the memory.
        data = data.lstrip(b"\n")
        if data[:1] != b":" or data[-1:] != b"\n" or data.count(b"\n") > 1:
            self._hold(data)
        return self._stop(events) if self._overdue() else events


class LineReader(_Pieces):
    """Reads one stream of JSON lines (NDJSON): each line that is not blank is an event. `cap_bytes` bounds a line."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[Event]:
        """The lines these bytes complete, in order, without their ends. Raises `TooLong` as `EventReader.feed` does."""
        if self._spoilt:
            return self._stop([])
        if self._fresh:
            data = self._begin(data)
        self._hold(data)
        if b"\n" not in data:
            return self._stop([]) if self._held_bytes > self._cap_bytes else []
        lines = self._release().split(b"\n")
        self._hold(lines.pop())
        events: list[Event] = []
        for line in lines:
            if len(line) > self._cap_bytes:
                return self._stop(events)
            if found := line.strip():
                events.append(found)
        return self._stop(events) if self._held_bytes > self._cap_bytes else events

    def end(self) -> list[Event]:
        """The last line, if it was not ended. Raises `TooLong` as `feed` does. Nothing may be fed after this."""
        if self._spoilt:
            return self._stop([])
        self._fresh = False
        line = self._release().strip()
        return [line] if line else []


def _event_of(block: bytes) -> Event | None:
    """The event that the lines of a block make; None for comments alone, unknown fields, or no data."""
    name = b""
    data = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value[1:] if value[:1] == b" " else value)
        elif field == b"event":
            name = value[1:] if value[:1] == b" " else value
    whole = b"\n".join(data)
    if not whole:
        return None
    return whole if name in (b"", b"message") else Named(name, whole)
