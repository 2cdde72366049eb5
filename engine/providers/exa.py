"""Exa's search: pages found by meaning, with their contents where asked for, and an answer made from them.

camelCase on the wire; callers may write snake_case, inside `contents` too. Exa answers 400 INVALID_REQUEST_BODY to what
it does not know, so unknown arguments are refused here. Words such as `type` and `category` are left for Exa to judge:
its lists of them grow. Errors are ``{"requestId", "error", "tag"}``, and the tag is the code.

Pure: no trio, no httpx, no I/O. Field names and ranges: exa.ai/docs/reference/search and exa-py 2.27.0 (2026-11-20).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from engine.providers.search import SearchFormat, as_text, entries, first_text, plain_results, score_of
from engine.providers.view import Citation, Found, View
from engine.providers.wire import mapping, text_or_none

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Query = Annotated[str, msgspec.Meta(min_length=1)]


class Text(msgspec.Struct, rename="camel"):
    """How much of a page's text, and whether with its HTML tags."""

    max_characters: _Positive | None = None
    include_html_tags: bool | None = None
    verbosity: str | None = None
    include_sections: list[str] | None = None
    exclude_sections: list[str] | None = None


class Highlights(msgspec.Struct, rename="camel"):
    """Which passages of a page, and how many."""

    query: str | None = None
    max_characters: _Positive | None = None
    num_sentences: _Positive | None = None
    highlights_per_url: _Positive | None = None


class Summary(msgspec.Struct, rename="camel"):
    """What a page's summary should be about. `schema` is a JSON schema, and the summary then JSON text."""

    query: str | None = None
    schema: dict[str, Any] | None = None


class Extras(msgspec.Struct, rename="camel"):
    """How many links to return from each page."""

    links: int | None = None
    image_links: int | None = None


class Contents(msgspec.Struct, rename="camel"):
    """What to return of each page. `livecrawl` is a word of Exa's, the ages are hours, its timeout milliseconds."""

    text: bool | Text | None = None
    highlights: bool | Highlights | None = None
    summary: bool | Summary | None = None
    livecrawl: str | None = None
    livecrawl_timeout: _Positive | None = None
    max_age_hours: int | None = None
    subpages: int | None = None
    subpage_target: str | list[str] | None = None
    extras: Extras | None = None
    context: bool | dict[str, Any] | None = None


class ExaOptions(msgspec.Struct, rename="camel"):
    """The arguments of a search. Dates are ISO 8601 texts; Exa returns 10 results if not told how many."""

    query: _Query
    num_results: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    type: str | None = None
    category: str | None = None
    include_domains: list[str] | None = None
    exclude_domains: list[str] | None = None
    start_published_date: str | None = None
    end_published_date: str | None = None
    start_crawl_date: str | None = None
    end_crawl_date: str | None = None
    include_text: list[str] | None = None
    exclude_text: list[str] | None = None
    user_location: str | None = None
    moderation: bool | None = None
    additional_queries: list[str] | None = None
    contents: Contents | None = None
    output_schema: dict[str, Any] | None = None
    system_prompt: str | None = None
    compliance: str | None = None


_OF_CONTENTS = ("text", "highlights", "summary", "livecrawl", "subpages", "extras")
_GONE = {
    **dict.fromkeys(
        ("use_autoprompt", "useAutoprompt"), 'Exa knows it no more; leave it out, type="auto" has taken its place'
    ),
    **{name: f'Exa takes it inside contents; pass contents={{"{name}": ...}}' for name in _OF_CONTENTS},
}


class ExaSearch(SearchFormat):
    """`WireFormat` of POST /search. Immutable; holds no key and no address."""

    name = "exa_search"
    path = "/search"
    options = ExaOptions
    provider = "Exa"
    closed = True
    gone = _GONE
    plain = plain_results

    def is_answer(self, payload: object) -> bool:
        """Whether it holds results, or the answer that was made from them."""
        body = mapping(payload)
        return isinstance(body.get("results"), list) or bool(body.get("output"))

    def view(self, response: object) -> View:
        """The results, and as text the answer that a deep search writes. Never raises, whatever was decoded.

        A result's text is the page's, else its summary, else its highlights.
        """
        body = mapping(response)
        output = body.get("output")
        grounding = entries(mapping(output).get("grounding"))
        sources = [source for ground in grounding for source in entries(ground.get("citations"))]
        return View(
            text=as_text(mapping(output).get("content", output)),
            provider_id=text_or_none(body.get("requestId")),
            citations=tuple(
                Citation(url, text_or_none(source.get("title")))
                for source in sources
                if (url := text_or_none(source.get("url")))
            ),
            results=tuple(
                Found(
                    url=first_text(entry, "url", "id") or "",
                    title=text_or_none(entry.get("title")),
                    text=first_text(entry, "text", "summary") or _joined(entry.get("highlights")),
                    score=score_of(entry.get("score")),
                    published=text_or_none(entry.get("publishedDate")),
                )
                for entry in entries(body.get("results"))
            ),
        )


def _joined(highlights: object) -> str | None:
    passages = highlights if isinstance(highlights, list) else [highlights]
    return "\n".join(passage for passage in passages if isinstance(passage, str)) or None
