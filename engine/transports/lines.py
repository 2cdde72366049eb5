"""One line of a program's output as an event: without keys in it, and without what would stall everybody to read.

Keys are taken out of the bytes, before anything is cut short: what is left of one that was cut could not be recognised
any more. What a line has too many parts of is left out of its event, and the rest of it stands: Python makes an object
of each, which takes seconds and gigabytes for a line of some megabytes.

Knows no process and no agent. Pure in all but name: bytes in, objects out, in whatever thread.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from engine.errors import one_line
from engine.providers.wire import decode_json
from engine.secret import REMOVED, SHORTEST_MASKED, forms_of, masked

MOST_PARTS = 100_000
"""Objects and lists of one event. More are made to stall the reader, for tenths of a second and more."""

_NOTICE_CHARS = 500
_DEEPEST = 8
_REMOVED = REMOVED.encode()
_LINE_END = r"(?:\r?\n)?"


class Hidden:
    """Secrets, and texts without them: in whatever form JSON knows for them, and in plain text over two lines as well.

    One that comes in two events, or in another encoding, is not recognised.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= SHORTEST_MASKED}, key=len, reverse=True)
        forms = {form.encode("utf-8", "replace") for secret in found for form in _forms_of(secret)}
        self._forms = sorted(forms, key=len, reverse=True)  # the longest first: one may be a part of another
        self._found = found
        self._in_lines = re.compile("|".join(_LINE_END.join(map(re.escape, secret)) for secret in found))
        self._has_any = bool(found)

    def out_of(self, line: bytes) -> bytes:
        """A line of JSON, or of anything, without them."""
        for form in self._forms:
            if form in line:
                line = line.replace(form, _REMOVED)
        if self._has_any and b"\\u" in line:
            line = self._escaped.sub(_REMOVED, line)
        return line

    @functools.cached_property
    def _escaped(self) -> re.Pattern[bytes]:
        """Made only for whoever writes characters as their numbers: it takes long for a long secret."""
        return re.compile(b"|".join(map(_as_escaped, self._found)))

    def out_of_text(self, text: str) -> str:
        """A text of several lines without them, and without what is shaped like a key."""
        return masked(self._in_lines.sub(REMOVED, text) if self._has_any else text)


def event_of(line: bytes) -> object:
    """A line of JSON as Python objects.

    Raises:
      msgspec.DecodeError: it is none.
    """
    if _parts_of(line) <= MOST_PARTS:
        return decode_json(line)
    try:
        return _within(msgspec.Raw(line), MOST_PARTS, 0)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def notice_of(line: bytes) -> str:
    """What a line that is no event says, fit for a message."""
    return one_line(masked(line[: 8 * _NOTICE_CHARS].decode("utf-8", "replace")), _NOTICE_CHARS)


def _parts_of(found: bytes | memoryview) -> int:
    data = bytes(found)
    return data.count(b"{") + data.count(b"[")


def _within(found: msgspec.Raw, room: int, depth: int) -> Any:
    """An event of too many parts, and a text where some are left out. `room` is for each of what stands in it."""
    data = bytes(found)
    if data.lstrip()[:1] == b'"' or _parts_of(data) <= room:  # what brackets a text holds are no parts
        return decode_json(data)
    if depth < _DEEPEST and data.lstrip()[:1] == b"{":
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if len(fields) <= room:
            return {name: _within(value, room // len(fields), depth + 1) for name, value in fields.items()}
    return f"[{len(data):,} bytes of too many parts, left out]"


def _forms_of(secret: str) -> set[str]:
    whole = json.dumps(secret, ensure_ascii=False)[1:-1]
    return {*forms_of(secret), whole, whole.replace("/", "\\/")}


def _as_escaped(secret: str) -> bytes:
    """What matches a text in JSON, whichever of its characters are written as their numbers."""
    return b"".join(b"(?:" + b"|".join(_ways_of(char)) + b")" for char in secret)


def _ways_of(char: str) -> list[bytes]:
    plain = {char, json.dumps(char)[1:-1], f"\\{char}" if char == "/" else char}
    units = char.encode("utf-16-be", "surrogatepass")
    number = "".join(f"\\\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
    escaped = "".join(f"[{digit}{digit.upper()}]" if digit in "abcdef" else digit for digit in number)
    return [*(re.escape(way.encode("utf-8", "replace")) for way in sorted(plain)), escaped.encode()]
