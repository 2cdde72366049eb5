"""How the answers of this client's services are read: JSON of any shape, as everywhere in `engine.clients`.

Two things are this client's own. Its events show the headers of an answer, so all are kept but cookies, not only those
that the engine itself makes use of. And an answer may be empty: one to a DELETE usually is.

Must not know a call or an executor.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.errors import one_line
from engine.providers.documents import JsonDocuments
from engine.providers.json_format import NO_USAGE
from engine.providers.wire import Reading, Usage

_COOKIES = ("set-cookie", "set-cookie2")
_MOST_HEADERS = 100
_HEADER_CHARS = 1_000


class Documents(JsonDocuments):
    """`JsonDocuments` whose answers keep their headers, and may be empty. Immutable."""

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """Nothing is wrong with a success that says nothing."""
        return None if len(body) else NO_USAGE

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means; see `WireFormat.read`."""
        reading = super().read(status, headers, body, now_s=now_s)
        kept = [pair for pair in headers.items() if pair[0] not in _COOKIES][:_MOST_HEADERS]
        shown = tuple((one_line(name, _HEADER_CHARS), one_line(value, _HEADER_CHARS)) for name, value in kept)
        return msgspec.structs.replace(reading, headers=shown)


DOCUMENTS = Documents()
