"""Exa's search: the manner of ``/search``.

Made-up pages (`pages`), as many as asked for; what ``contents`` does not ask for they do not have. The key comes as
``x-api-key``, or as a bearer key. Errors have a tag. Shapes from the SDK 2.27.0 and exa.ai/docs, as of 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.simulator.chat import ChatRequest, read_object
from engine.simulator.chunks import Wording
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.anthropic import bearer
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment, retry_after
from engine.simulator.formats.pages import Page, pages_for
from engine.simulator.formats.words import body, names
from engine.simulator.reply import Headers

MOST: Final = 100
DEFAULT: Final = 10
_TYPES: Final = names("auto keyword lite fast instant neural deep-lite deep deep-reasoning")
_TAGS: Final = {
    "invalid": "INVALID_REQUEST_BODY", "key": "INVALID_API_KEY", "server_error": "INTERNAL_ERROR",
    "unavailable": "SERVICE_OVERLOADED", "not_found": "NOT_FOUND", "too_large": "INVALID_REQUEST_BODY",
}  # fmt: skip


class Exa(Manner):
    """``/search``."""

    spends = "nothing"
    id_header = b"x-request-id"

    def credential(self, headers: HeadersSeen) -> bytes:
        return bearer(headers)

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        query, count, kind = arguments.get("query"), arguments.get("numResults", DEFAULT), arguments.get("type", "auto")
        if not isinstance(query, str) or not query:
            return invalid("Invalid request body: query: Required", param="query")
        if type(count) is not int or not 1 <= count <= MOST:
            return invalid(f"Invalid request body: numResults must be from 1 to {MOST}", param="numResults")
        if kind not in _TYPES:
            return invalid(f"Invalid request body: type must be one of {', '.join(sorted(_TYPES))}", param="type")
        return ChatRequest(arguments, "search", 1, None)

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        asked = said.asked.arguments
        contents, count = asked.get("contents"), asked.get("numResults", DEFAULT)
        assert isinstance(count, int)
        wanted = contents if isinstance(contents, dict) else {}
        pages = pages_for(said, str(asked["query"]), count)
        return body(
            said,
            {
                "requestId": said.done.identity,
                "resolvedSearchType": "neural",
                "results": [_result(page, wanted) for page in pages],
                "searchTime": 12.5,
                "costDollars": {"total": 0.005, "search": {"neural": 0.005}},
            },
        )

    def error(self, failure: Failure, now: Moment) -> object:
        message, tag = failure.message, _TAGS.get(failure.why, "RATE_LIMIT_EXCEEDED")
        if failure.refusal is not None:
            rule = failure.refusal.rule
            period = "second" if rule.period_s == 1 else f"{rule.period_s:g} seconds"
            message = f"You've exceeded your Exa rate limit of {rule.limit} {rule.dimension} per {period}."
        return {"requestId": failure.identity, "error": message, "tag": tag}

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return retry_after(failure)


def _result(page: Page, wanted: Mapping[str, Any]) -> dict[str, object]:
    result: dict[str, object] = {
        "id": page.url,
        "title": page.title,
        "url": page.url,
        "publishedDate": page.published,
        "author": "Simulated",
        "score": page.score,
        "image": None,
        "favicon": "https://example.org/favicon.ico",
    }
    text = wanted.get("text")
    if text:
        most = text.get("maxCharacters") if isinstance(text, dict) else None
        result["text"] = page.text[:most] if isinstance(most, int) else page.text
    if wanted.get("highlights"):
        result |= {"highlights": [page.text[:40]], "highlightScores": [page.score]}
    if wanted.get("summary"):
        result["summary"] = page.text[:80]
    return result
