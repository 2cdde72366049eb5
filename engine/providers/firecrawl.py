"""Firecrawl's scrape of one page, and its map of a site, version 2.

camelCase on the wire; callers may write snake_case, inside `formats` and `location` too. Firecrawl refuses names it
does not know, so they are refused here; those of version 1 are translated where that is the same thing. An answer whose
`success` is false is a failure whatever its status. A page that answers 404 is a success of Firecrawl's: its status is
in the metadata. Nothing is sent that the caller did not set, least of all `skipTlsVerification`.

Pure: no trio, no httpx, no I/O. Field names and ranges: docs.firecrawl.dev/api-reference, the schemas of its server and
firecrawl-py 4.53.2 (2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from engine.providers.answers import error_in
from engine.providers.arguments import invalid
from engine.providers.search import SearchFormat, as_text, first_text
from engine.providers.view import Found, View
from engine.providers.wire import count, mapping, text_or_none
from engine.retry import ErrorView

_NotNegative = Annotated[int, msgspec.Meta(ge=0)]
_Address = Annotated[str, msgspec.Meta(min_length=1)]


class Format(msgspec.Struct, rename="camel"):
    """A form to have the page in, with its settings. `schema` is a JSON schema and stays as it is."""

    type: str
    prompt: str | None = None
    schema: dict[str, Any] | None = None
    full_page: bool | None = None
    quality: int | None = None
    viewport: dict[str, Any] | None = None
    check_prompt_injection: bool | None = None


class Location(msgspec.Struct):
    """Where the page should be seen from. `country` is an ISO 3166 code."""

    country: str | None = None
    languages: list[str] | None = None


class Parser(msgspec.Struct, rename="camel"):
    """How a kind of file is read."""

    type: str
    mode: str | None = None
    max_pages: int | None = None
    pages: bool | None = None
    blocks: bool | None = None
    page_markers: bool | None = None


class Action(msgspec.Struct, rename="camel"):
    """A step to take on the page before it is read."""

    type: str
    full_page: bool | None = None


class Profile(msgspec.Struct, rename="camel"):
    """A browser profile that is kept."""

    name: str
    save_changes: bool | None = None


class FirecrawlScrapeOptions(msgspec.Struct, rename="camel"):
    """The arguments of a scrape. Times and ages are milliseconds; `headers` are sent to the page, and hold no key."""

    url: _Address
    formats: list[str | Format] | None = None
    only_main_content: bool | None = None
    only_clean_content: bool | None = None
    include_tags: list[str] | None = None
    exclude_tags: list[str] | None = None
    headers: dict[str, str] | None = None
    wait_for: Annotated[int, msgspec.Meta(ge=0, le=60_000)] | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1_000)] | None = None
    mobile: bool | None = None
    max_age: _NotNegative | None = None
    min_age: _NotNegative | None = None
    store_in_cache: bool | None = None
    block_ads: bool | None = None
    proxy: str | None = None
    location: Location | None = None
    actions: list[Action] | None = None
    parsers: list[str | Parser] | None = None
    skip_tls_verification: bool | None = None
    remove_base64_images: bool | None = None
    fast_mode: bool | None = None
    lockdown: bool | None = None
    safe_mode: bool | None = None
    redact_pii: bool | dict[str, Any] | None = msgspec.field(default=None, name="redactPII")
    zero_data_retention: bool | None = None
    profile: Profile | None = None
    threat_protection: dict[str, Any] | None = None
    audit_metadata: dict[str, Any] | None = None


class FirecrawlMapOptions(msgspec.Struct, rename="camel"):
    """The arguments of a map. `sitemap` is ``include``, ``skip`` or ``only``; `timeout` is milliseconds."""

    url: _Address
    search: str | None = None
    sitemap: str | None = None
    include_subdomains: bool | None = None
    ignore_query_parameters: bool | None = None
    ignore_cache: bool | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1)] | None = None
    location: Location | None = None
    headers: dict[str, str] | None = None
    threat_protection: dict[str, Any] | None = None
    audit_metadata: dict[str, Any] | None = None


_KEY = re.compile(r"\bfc-\w{16,}", re.IGNORECASE)


class _Firecrawl(SearchFormat):
    provider = "Firecrawl"
    closed = True

    def error_of(self, payload: object, *, failed: bool) -> ErrorView | None:
        """The error it holds. `success` decides: false is an error that need not say more, true an answer."""
        success = mapping(payload).get("success")
        if success is True and not failed and self.is_answer(payload):
            return None
        return error_in(payload, failed=failed or (success is not None and success is not True))

    def translated(self, given: dict[str, object]) -> dict[str, object]:
        """Refuses what would show the caller's key to the page that is scraped."""
        for value in mapping(given.get("headers")).values():
            if isinstance(value, str) and _KEY.search(value):
                raise invalid("headers", "they are sent to the page, and one holds a Firecrawl key; leave it out")
        return given


_JSON_FORMAT = 'pass formats=[{"type": "json", "prompt": "...", "schema": {...}}] instead'
_GONE = dict.fromkeys(
    ("extract", "json_options", "jsonOptions"), f"version 2 of Firecrawl knows it no more; {_JSON_FORMAT}"
)
_FULL_PAGE = {"type": "screenshot", "fullPage": True}
_SITEMAP = {"ignore_sitemap": "skip", "ignoreSitemap": "skip", "sitemap_only": "only", "sitemapOnly": "only"}


class _Success(msgspec.Struct, gc=False):
    """An answer that says it is one."""

    success: bool

    def __post_init__(self) -> None:
        if not self.success:
            raise ValueError("it says that it failed")  # which msgspec reports like any other mismatch


class _PlainPage(_Success, gc=False):
    """A success with a page, which is not read."""

    data: dict[str, msgspec.Raw]


class FirecrawlScrape(_Firecrawl):
    """`WireFormat` of POST /v2/scrape. Immutable; holds no key and no address."""

    name = "firecrawl_scrape"
    path = "/v2/scrape"
    options = FirecrawlScrapeOptions
    gone = _GONE
    plain = msgspec.json.Decoder(_PlainPage)

    def translated(self, given: dict[str, object]) -> dict[str, object]:
        """Version 1's texts for formats as version 2 takes them."""
        formats = given.get("formats")
        if isinstance(formats, (list, tuple)):
            if "extract" in formats:
                raise invalid("formats", f'version 2 of Firecrawl has no "extract"; {_JSON_FORMAT}')
            given["formats"] = [_FULL_PAGE if form == "screenshot@fullPage" else form for form in formats]
        return super().translated(given)

    def is_answer(self, payload: object) -> bool:
        """Whether it holds a page."""
        return isinstance(mapping(payload).get("data"), dict)

    def view(self, response: object) -> View:
        """The page, as the text and as the one result. Never raises, whatever was decoded.

        The text is the first there is of markdown, HTML, summary and the structured answer. A page whose own answer was
        an error says so in `Found.error`.
        """
        page = mapping(mapping(response).get("data"))
        if not page:
            return View()
        metadata = mapping(page.get("metadata"))
        text = first_text(page, "markdown", "html", "rawHtml", "summary") or as_text(page.get("json"))
        found = Found(
            url=first_text(metadata, "url", "sourceURL") or "",
            title=first_text(metadata, "title"),
            text=text,
            published=first_text(metadata, "publishedTime"),
            error=_page_error(metadata),
        )
        return View(text=text, provider_id=text_or_none(metadata.get("scrapeId")), results=(found,))


class _PlainLinks(_Success, gc=False):
    """A success with links, which are not read."""

    links: list[msgspec.Raw]


class FirecrawlMap(_Firecrawl):
    """`WireFormat` of POST /v2/map. Immutable; holds no key and no address."""

    name = "firecrawl_map"
    path = "/v2/map"
    options = FirecrawlMapOptions
    plain = msgspec.json.Decoder(_PlainLinks)

    def translated(self, given: dict[str, object]) -> dict[str, object]:
        """Version 1's two switches for the sitemap as the one word of version 2."""
        for name, word in _SITEMAP.items():
            switch = given.pop(name, None)
            if switch is None:
                continue
            if not isinstance(switch, bool) or "sitemap" in given:
                raise invalid(name, 'version 2 of Firecrawl knows it no more; pass sitemap="include", "skip" or "only"')
            if switch:
                given["sitemap"] = word
        return super().translated(given)

    def is_answer(self, payload: object) -> bool:
        """Whether it holds links."""
        return isinstance(mapping(payload).get("links"), list)

    def view(self, response: object) -> View:
        """The links, each a result whose text is its description. Never raises, whatever was decoded."""
        body = mapping(response)
        links = body.get("links")
        return View(
            provider_id=text_or_none(body.get("id")),
            results=tuple(
                Found(link)
                if isinstance(link, str)
                else Found(
                    first_text(mapping(link), "url") or "",
                    first_text(mapping(link), "title"),
                    first_text(mapping(link), "description"),
                )
                for link in (links if isinstance(links, list) else ())
                if isinstance(link, (str, dict))
            ),
        )


def _page_error(metadata: Mapping[str, object]) -> str | None:
    """What went wrong between Firecrawl and the page, or what the page itself answered."""
    status = count(metadata.get("statusCode"))
    error = first_text(metadata, "error")
    if status is not None and status >= 400:
        return f"the page answered {status}{f': {error}' if error else ''}"
    return error
