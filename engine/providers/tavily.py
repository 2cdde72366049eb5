"""Tavily's search, and its extraction of pages.

snake_case on the wire. What Tavily does with arguments it does not know is documented nowhere, and its list of them
grows with every release; so they are passed on, and it may judge them. So are words such as `topic`. Errors are
``{"detail": {"error": "..."}}``; 432 and 433 are the plan's limits. Without a key the error names the seconds to wait.

Pure: no trio, no httpx, no I/O. Field names and ranges: docs.tavily.com and tavily-python 0.8.5 (2026-11-20).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.providers.search import SearchFormat, entries, first_text, plain_results, score_of
from engine.providers.view import Found, View
from engine.providers.wire import mapping, text_or_none

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class TavilySearchOptions(msgspec.Struct):
    """The arguments of a search. Dates are ``YYYY-MM-DD``; Tavily returns 5 results if not told how many."""

    query: _Filled
    search_depth: str | None = None
    topic: str | None = None
    time_range: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    days: _Positive | None = None
    max_results: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    chunks_per_source: _Positive | None = None
    include_answer: bool | str | None = None
    include_raw_content: bool | str | None = None
    include_images: bool | None = None
    include_image_descriptions: bool | None = None
    include_domains: list[str] | None = None
    exclude_domains: list[str] | None = None
    include_domains_mode: str | None = None
    country: str | None = None
    auto_parameters: bool | None = None
    include_favicon: bool | None = None
    include_usage: bool | None = None
    exact_match: bool | None = None


class TavilyExtractOptions(msgspec.Struct):
    """The arguments of an extraction: one address or up to 20. `timeout` is Tavily's own, in seconds."""

    urls: _Filled | Annotated[list[str], msgspec.Meta(min_length=1, max_length=20)]
    extract_depth: str | None = None
    format: str | None = None
    include_images: bool | None = None
    include_favicon: bool | None = None
    include_usage: bool | None = None
    query: str | None = None
    chunks_per_source: _Positive | None = None
    timeout: Annotated[float, msgspec.Meta(ge=1, le=60)] | None = None


class _Tavily(SearchFormat):
    provider = "Tavily"
    closed = False
    plain = plain_results

    def is_answer(self, payload: object) -> bool:
        """Whether it holds results; an extraction of which every page failed has an empty list."""
        return isinstance(mapping(payload).get("results"), list)


class TavilySearch(_Tavily):
    """`WireFormat` of POST /search. Immutable; holds no key and no address."""

    name = "tavily_search"
    path = "/search"
    options = TavilySearchOptions

    def view(self, response: object) -> View:
        """The results, and as text Tavily's answer, if it was asked for one. Never raises, whatever was decoded.

        A result's text is the page's where it was asked for, else the passage that matched.
        """
        body = mapping(response)
        return View(
            text=text_or_none(body.get("answer")),
            provider_id=text_or_none(body.get("request_id")),
            results=tuple(
                Found(
                    url=first_text(entry, "url") or "",
                    title=text_or_none(entry.get("title")),
                    text=first_text(entry, "raw_content", "content"),
                    score=score_of(entry.get("score")),
                    published=text_or_none(entry.get("published_date")),
                )
                for entry in entries(body.get("results"))
            ),
        )


class TavilyExtract(_Tavily):
    """`WireFormat` of POST /extract. Immutable; holds no key and no address."""

    name = "tavily_extract"
    path = "/extract"
    options = TavilyExtractOptions

    def view(self, response: object) -> View:
        """The pages, then those that could not be had, each with its error. Never raises, whatever was decoded."""
        body = mapping(response)
        pages = [
            Found(first_text(entry, "url") or "", first_text(entry, "title"), first_text(entry, "raw_content"))
            for entry in entries(body.get("results"))
        ]
        failed = [
            Found(first_text(entry, "url") or "", error=first_text(entry, "error") or "it could not be fetched")
            for entry in entries(body.get("failed_results"))
        ]
        return View(provider_id=text_or_none(body.get("request_id")), results=(*pages, *failed))
