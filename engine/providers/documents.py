"""Any service that answers with a JSON document: nothing is known of it but HTTP's own statuses.

What is read of an answer is the status, an error if it holds one in a usual shape, and the document. Nothing is counted
and no usage is read: a call costs what whoever made it said. Calls in this format are made by `engine.clients`, which
know their services' fields.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.limits import Quota
from engine.errors import InvalidCall
from engine.estimate import CountText, estimate_text
from engine.providers.json_format import JsonFormat
from engine.providers.view import Usage, View
from engine.providers.wire import Encoded

_encode = msgspec.json.Encoder().encode


def json_body(value: object) -> bytes:
    """A value as the JSON of a request's body.

    Raises:
      InvalidCall: it holds something that JSON cannot; the message says what kind of thing.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidCall(f"the request cannot be written as JSON: {str(error)[:200]}; nothing was sent") from None


class JsonDocuments(JsonFormat):
    """`WireFormat` of a service whose answers are JSON documents of any shape. Immutable. `polls` is the limit of calls
    that are polls."""

    name = "json"
    path = ""

    def __init__(self, polls: Quota | None = None) -> None:
        self.polls = polls

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """The arguments as the body, as they are; it counts as nothing."""
        return Encoded(json_body(dict(arguments)), 0, 0, streaming=False)

    def usage_of(self, payload: object) -> Usage | None:
        """None: what a field of it might mean is not known here."""
        return None

    def is_answer(self, payload: object) -> bool:
        """Whatever is JSON is one, but for null, which is what an empty body or none at all reads as."""
        return payload is not None

    def view(self, response: object) -> View:
        """Nothing is known of it."""
        return View()


DOCUMENTS = JsonDocuments()
