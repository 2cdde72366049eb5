"""Tavily's search and extract: the manners of ``/search`` and ``/extract``.

Made-up pages (`pages`). Extract tells of an address that cannot be reached under ``failed_results``, with status 200.
An error is a text in ``detail.error``, without a header. Shapes from docs.tavily.com and the SDK 0.8.5, as of
2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.simulator.chat import ChatRequest, read_object
from engine.simulator.chunks import Wording
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.formats.pages import is_address, page_at, pages_for, unreachable
from engine.simulator.formats.words import body, usage

MOST_RESULTS: Final = 20
RESULTS: Final = 5
MOST_URLS: Final = 20
_FAVICON: Final = "https://example.org/favicon.ico"
_CHOICES: Final = {
    "search_depth": ("basic", "advanced", "fast", "ultra-fast"),
    "topic": ("general", "news", "finance"),
    "extract_depth": ("basic", "advanced"),
    "format": ("markdown", "text"),
}


def _wrong_choice(arguments: Mapping[str, Any], *names: str) -> Failure | None:
    for name in names:
        allowed = _CHOICES[name]
        if name in arguments and arguments[name] not in allowed:
            told = " or ".join(f"'{word}'" for word in allowed)
            return invalid(f"Invalid {name.replace('_', ' ')}. Must be {told}.", param=name)
    return None


class Tavily(Manner):
    """What both endpoints have in common."""

    spends = "nothing"

    def error(self, failure: Failure, now: Moment) -> object:
        message = failure.message
        if failure.why == "key":
            message = "Unauthorized: missing or invalid API key."
        elif failure.status == 429:
            message = "Your request has been blocked due to excessive requests."
        return {"detail": {"error": message}}


class TavilySearch(Tavily):
    """``/search``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        query, most = arguments.get("query"), arguments.get("max_results", RESULTS)
        if not isinstance(query, str) or not query:
            return invalid("Query is missing.", param="query")
        if type(most) is not int or not 0 <= most <= MOST_RESULTS:
            return invalid(f"Max results must be from 0 to {MOST_RESULTS}.", param="max_results")
        return _wrong_choice(arguments, "search_depth", "topic") or ChatRequest(arguments, "search", 1, None)

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        asked = said.asked.arguments
        query, most = str(asked["query"]), asked.get("max_results", RESULTS)
        assert isinstance(most, int)
        pages = pages_for(said, query, most)
        results = [
            {
                "url": page.url,
                "title": page.title,
                "content": page.text[:120],
                "score": page.score,
                "raw_content": page.text if asked.get("include_raw_content") else None,
                "favicon": _FAVICON,
            }
            for page in pages
        ]
        cost = 2 if asked.get("search_depth") == "advanced" else 1
        return body(
            said,
            {
                "query": query,
                "follow_up_questions": None,
                "answer": pages_for(said, query, 1)[0].text if asked.get("include_answer") else None,
                "images": [f"{page.url}.png" for page in pages] if asked.get("include_images") else [],
                "results": results,
                "response_time": 0.02,
                "usage": usage(said, {"credits": cost}),
                "request_id": said.done.identity,
            },
        )


class TavilyExtract(Tavily):
    """``/extract``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        urls = _urls(arguments)
        if not urls or not all(isinstance(url, str) and url for url in urls):
            return invalid("No URLs provided.", param="urls")
        if len(urls) > MOST_URLS:
            return invalid(f"Max {MOST_URLS} URLs are allowed.", param="urls")
        return _wrong_choice(arguments, "extract_depth", "format") or ChatRequest(arguments, "extract", 1, None)

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        asked = said.asked.arguments
        results, failed = [], []
        for url in _urls(asked):
            if not is_address(url) or unreachable(url):
                failed.append({"url": url, "error": "Could not fetch"})
                continue
            page = page_at(said, url)
            text = f"# {page.title}\n\n{page.text}" if asked.get("format", "markdown") == "markdown" else page.text
            results.append({"url": url, "raw_content": text, "images": [], "favicon": None})
        each = 2 if asked.get("extract_depth") == "advanced" else 1
        told = {"results": results, "failed_results": failed, "response_time": 0.02}
        used = usage(said, {"credits": -(-len(results) // 5) * each})
        return body(said, {**told, "usage": used, "request_id": said.done.identity})


def _urls(arguments: Mapping[str, Any]) -> list[Any]:
    """The addresses, be they one or several."""
    urls = arguments.get("urls")
    return [urls] if isinstance(urls, str) else urls if isinstance(urls, list) else []
