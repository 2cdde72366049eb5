"""Firecrawl's scrape and map: the manners of ``/v2/scrape`` and ``/v2/map``.

Made-up pages (`pages`): one that is not found is an answer of 200 that says so within, one that cannot be reached an
error of 500 with a code. Unknown keys, such as those of version 1, are refused. When to come back stands in the text of
an error alone. Shapes from the SDK 4.53.2 and the open server's sources, as of 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from engine.simulator.chat import ChatRequest, read_object
from engine.simulator.chunks import Wording
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.formats.pages import Page, is_address, links_below, not_found, page_at, unreachable
from engine.simulator.formats.words import body, names
from engine.simulator.reply import encode

MOST_LINKS: Final = 100_000
LINKS: Final = 10
"""How many links a map has if the request does not limit them; real ones have up to thousands."""
_SCRAPE: Final = names("""
    url formats onlyMainContent includeTags excludeTags headers waitFor timeout mobile maxAge minAge storeInCache
    blockAds proxy location actions parsers skipTlsVerification removeBase64Images fastMode origin integration
    zeroDataRetention
""")
_MAP: Final = names("""
    url search sitemap includeSubdomains ignoreQueryParameters ignoreCache limit timeout location origin integration
""")
_FORMATS: Final = names("""
    markdown html rawHtml links summary images json screenshot changeTracking branding attributes
""")
_DNS: Final = "SCRAPE_DNS_RESOLUTION_ERROR"


def _wrong(arguments: Mapping[str, Any], known: frozenset[str]) -> Failure | None:
    unknown = sorted(arguments.keys() - known)
    if unknown:
        keys = ", ".join(unknown)
        return invalid(f"Unrecognized key in body -- please review the v2 API documentation: {keys}", param=unknown[0])
    if not is_address(arguments.get("url")):
        return invalid("Invalid URL", param="url")
    return None


class Firecrawl(Manner):
    """What both endpoints have in common."""

    spends = "nothing"

    def error(self, failure: Failure, now: Moment) -> object:
        told: dict[str, object] = {"success": False}
        if failure.code == _DNS:
            return told | {"code": _DNS, "error": failure.message}
        if failure.why == "key":
            return told | {"error": "Unauthorized: Invalid token"}
        if failure.why == "server_error":
            return told | {"code": "SCRAPE_ALL_ENGINES_FAILED", "error": "All scraping engines failed!"}
        if failure.why == "invalid":
            return told | {"error": failure.message, "details": [{"path": [failure.param], "message": failure.message}]}
        if failure.status == 429:
            return told | {"error": _too_many(failure, now)}
        return told | {"error": failure.message}


def _too_many(failure: Failure, now: Moment) -> str:
    """The text of a refusal, in which alone it says when to come back."""
    wait_us = failure.wait_us or 0
    used, left = 0, 0
    if failure.refusal is not None:
        used = failure.refusal.rule.limit - failure.refusal.remaining + failure.refusal.asked
        left = max(0, failure.refusal.remaining)
    reset = datetime.fromtimestamp((now.unix_us + wait_us) / 1_000_000, UTC).strftime("%a %b %d %Y %H:%M:%S GMT+0000")
    return (
        f"Rate limit exceeded. Consumed (req/min): {used}, Remaining (req/min): {left}. Upgrade your plan at "
        "https://firecrawl.dev/pricing for increased rate limits or please retry after "
        f"{-(-wait_us // 1_000_000)}s, resets at {reset} (Coordinated Universal Time)"
    )


class FirecrawlScrape(Firecrawl):
    """``/v2/scrape``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        wrong = _wrong(arguments, _SCRAPE)
        if wrong is not None:
            return wrong
        formats = arguments.get("formats", ["markdown"])
        if not isinstance(formats, list) or not all(_format(item) in _FORMATS for item in formats):
            return invalid("Invalid format in 'formats'", param="formats")
        if unreachable(str(arguments["url"])):
            return Failure("invalid", 500, "DNS resolution failed", code=_DNS)
        return ChatRequest(arguments, "scrape", 1, None)

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        asked = said.asked.arguments
        url, formats = str(asked["url"]), asked.get("formats", ["markdown"])
        assert isinstance(formats, list)
        page = page_at(said, url)
        told = {name: value for name, value in _content(page).items() if name in map(_format, formats)}
        missing = not_found(url)
        metadata = {
            "title": page.title,
            "description": page.text[:40],
            "language": "en",
            "sourceURL": url,
            "url": url,
            "statusCode": 404 if missing else 200,
            "contentType": "text/html",
            "proxyUsed": "basic",
            "cacheState": "miss",
            "creditsUsed": 1,
            "scrapeId": said.done.identity,
            "concurrencyLimited": False,
            **({"error": "Not Found"} if missing else {}),
        }
        return body(said, {"success": True, "data": {**told, "metadata": metadata, "warning": None}})

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        return encode({"success": False, "error": "All scraping engines failed!"})


def _format(item: object) -> object:
    """The name of a format, which may come with options."""
    name = item.get("type") if isinstance(item, dict) else item
    return name if isinstance(name, str) else None


def _content(page: Page) -> dict[str, object]:
    """All forms of a page."""
    html = f"<h1>{page.title}</h1><p>{page.text}</p>"
    return {
        "markdown": f"# {page.title}\n\n{page.text}",
        "html": html,
        "rawHtml": f"<html><body>{html}</body></html>",
        "links": links_below(page.url, 3),
        "summary": page.text[:80],
        "images": [],
        "json": {"title": page.title},
        "screenshot": f"{page.url}.png",
    }


class FirecrawlMap(Firecrawl):
    """``/v2/map``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        limit = arguments.get("limit", LINKS)
        if type(limit) is not int or not 1 <= limit <= MOST_LINKS:
            return invalid(f"'limit' must be from 1 to {MOST_LINKS}", param="limit")
        if arguments.get("sitemap", "include") not in ("include", "skip", "only"):
            return invalid("'sitemap' must be include, skip or only", param="sitemap")
        return _wrong(arguments, _MAP) or ChatRequest(arguments, "map", 1, None)

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        asked = said.asked.arguments
        limit = asked.get("limit", LINKS)
        assert isinstance(limit, int)
        pages = [page_at(said, url) for url in links_below(str(asked["url"]), min(limit, LINKS))]
        links = [{"url": page.url, "title": page.title, "description": page.text[:40]} for page in pages]
        return body(said, {"success": True, "id": said.done.identity, "links": links})

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        return encode({"success": False, "error": "Failed to map the website"})
