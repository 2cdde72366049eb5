"""Pages that do not exist, for those who search and scrape: the same words find the same pages.

All stand under ``https://example.org/`` (RFC 2606). An address whose host ends with ``.invalid`` cannot be reached, and
one whose path ends with ``/404`` is a page that is not found.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.simulator.chunks import Wording


class Page(NamedTuple):
    """One page: where it is, what it is called, what it says, how well it fits (from 0 to 1)."""

    url: str
    title: str
    text: str
    score: float
    published: str


def _number(*parts: str) -> int:
    return int.from_bytes(
        blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def _words(said: Wording, number: int, count: int) -> str:
    many = len(said.pieces)
    return b"".join(said.pieces[(number + place) % many] for place in range(count)).decode().lstrip()


def page_at(said: Wording, url: str) -> Page:
    """The page at an address."""
    number = _number(url)
    published = f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}T00:00:00.000Z"
    title = _words(said, number, 3).capitalize()
    return Page(url, title, _words(said, number >> 8, 40), 0.5, published)


def pages_for(said: Wording, query: str, count: int) -> list[Page]:
    """The pages that a search finds, the best first."""
    found = []
    for place in range(count):
        url = f"https://example.org/{_number(query, str(place)):016x}"
        found.append(page_at(said, url)._replace(score=round(0.9 / (1 + place), 6)))
    return found


def links_below(url: str, count: int) -> list[str]:
    """Addresses of pages below one."""
    return [url, *(f"{url.rstrip('/')}/{_number(url, str(place)):08x}"[: len(url) + 40] for place in range(1, count))]


def _split(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "", ""
    return (host or "", parts.path) if parts.scheme in ("http", "https") else ("", "")


def is_address(url: object) -> bool:
    """Whether it is the address of a page."""
    return isinstance(url, str) and _split(url)[0] != ""


def unreachable(url: str) -> bool:
    """Whether nobody answers there."""
    return _split(url)[0].endswith(".invalid")


def not_found(url: str) -> bool:
    """Whether the page is not there."""
    return _split(url)[1].endswith("/404")
