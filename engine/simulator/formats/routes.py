"""Paths of which a part is left open, and methods other than POST: who serves them.

A template has ``{}`` for one part of the path, ``{...}`` for one part or more; it may have neither. A `Manner` takes
calls, bound to the part that was open (`Manner.at`); a `Desk` answers what is no call. The first template that fits
counts, so the more exact stands first.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from engine.simulator.formats.desk import Desk
from engine.simulator.formats.manner import Manner

Served: TypeAlias = Manner | Desk


class Found(NamedTuple):
    """Who serves a request, and the open part of its path, unquoted."""

    served: Served
    name: str


class Routes:
    """A table of (method, template, who serves it)."""

    def __init__(self, rows: Iterable[tuple[str, str, Served]]) -> None:
        self._rows = [(method.encode(), _pattern(template), served) for method, template, served in rows]

    def find(self, method: bytes, path: bytes) -> Found | None:
        """Who serves this method at this path, if anybody does."""
        for known, pattern, served in self._rows:
            if known == method and (match := pattern.fullmatch(path)):
                return Found(served, "".join(unquote(part.decode("latin-1")) for part in match.groups()))
        return None

    def methods(self, path: bytes) -> list[bytes]:
        """The methods this path answers to, in the order of the table."""
        return list(dict.fromkeys(known for known, pattern, _ in self._rows if pattern.fullmatch(path)))


def _pattern(template: str) -> re.Pattern[bytes]:
    text = re.escape(template).replace(re.escape("{...}"), "(.+)").replace(re.escape("{}"), "([^/]+)")
    return re.compile(text.encode())
