"""What the formats of search and scraping share: how their calls are written, and how what they found is read.

They count requests, not input or output; they answer in one piece; and none of their answers says a usage in our
terms. A format adds its schema, what marks an answer, and the view. `closed` says whether arguments outside the schema
are refused here, because the provider refuses them, or passed on.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.estimate import CountText, estimate_text
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.json_format import NO_USAGE, JsonFormat
from engine.providers.wire import Encoded, Usage, text_or_none


class SearchFormat(JsonFormat):
    """The writing half of these formats.

    `gone` maps arguments that the provider took once, or takes elsewhere, to what to pass instead. `plain` decodes an
    answer without an error in it, and no other, as little of it as tells it to be one.
    """

    options: type[msgspec.Struct]
    provider: str
    closed: bool
    gone: Mapping[str, str] = {}
    plain: msgspec.json.Decoder[Any]

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body, in the provider's spelling. They are not changed.

        Raises:
          InvalidCall: one is missing, of the wrong type, out of its range, or refused by this provider.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        if given.pop("stream", False):
            raise invalid("stream", f"{self.provider} is asked for answers in one piece here; leave it out")
        for name in given:
            if name in self.gone:
                raise invalid(name, self.gone[name])
        payload = checked(self.translated(given), self.options, provider=self.provider, closed=self.closed)
        return Encoded(to_json(payload), 0, 0, False)

    def translated(self, given: dict[str, object]) -> dict[str, object]:
        """The arguments with former spellings in today's. May be changed in place: it is a copy."""
        return given

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """`NO_USAGE`, where the answer is as documented; what was found is not read."""
        try:
            self.plain.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return NO_USAGE

    def usage_of(self, payload: object) -> Usage | None:
        """None: what they charge is credits, which stand in the raw answer."""
        return None


class PlainResults(msgspec.Struct, gc=False):
    """An answer with a list of results, none of which is read."""

    results: list[msgspec.Raw]
    error: None = None


plain_results = msgspec.json.Decoder(PlainResults)


def entries(value: object) -> list[Mapping[str, object]]:
    """The objects in a list; none if it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def first_text(found: Mapping[str, object], *names: str) -> str | None:
    """The first of these fields that holds a text, or a list that begins with one (page metadata may be both)."""
    for name in names:
        value = found.get(name)
        if text := text_or_none(value[0] if isinstance(value, list) and value else value):
            return text
    return None


def score_of(value: object) -> float | None:
    """A score, if it is a number that can be compared."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        score = float(value)
    except OverflowError:
        return None
    return score if math.isfinite(score) else None


def as_text(value: object) -> str | None:
    """A text as it is, a structured answer as its JSON text; None where there is nothing."""
    if not isinstance(value, (dict, list)) or not value:
        return text_or_none(value)
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
