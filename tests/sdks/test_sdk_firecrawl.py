"""Firecrawl's SDK and our client at its scrape and its map."""

from __future__ import annotations

from typing import Any

import pytest
from two_sides import FAILING, KEY, LIMITED, alone, both, said_by

firecrawl = pytest.importorskip("firecrawl", reason="needs the extra test-sdks")

from firecrawl.v2.utils import error_handler as errors  # noqa: E402  # only if it is there

PAGE = "https://example.org/a"


def client(address: str, key: str = KEY) -> Any:
    """It cannot be told of a header, so the simulator knows the call by its body; pages are the same for everybody. And
    it leaves the path of an address out."""
    return firecrawl.Firecrawl(key, address.removesuffix("/firecrawl"), max_retries=1)


def scraping(arguments: dict[str, Any], key: str = KEY) -> Any:
    return lambda address, name: client(address, key).scrape(arguments["url"], formats=arguments.get("formats"))


def mapping(arguments: dict[str, Any], key: str = KEY) -> Any:
    return lambda address, name: client(address, key).map(arguments["url"], limit=arguments.get("limit"))


ENDPOINTS = {"scrape": (scraping, {"url": PAGE, "formats": ["markdown"]}), "map": (mapping, {"url": PAGE, "limit": 4})}


@pytest.mark.parametrize("formats", [["markdown"], ["html"], ["markdown", "links", "summary"]], ids=str)
async def test_both_read_the_same_page(formats: list[str]) -> None:
    asked = {"url": PAGE, "formats": formats}
    call, document = await both("firecrawl", "scrape", asked, scraping(asked), named=False)
    (found,) = said_by(call).results
    meta = document.metadata
    assert found == (meta.source_url, meta.title, document.markdown or document.html, None)
    assert call.response["data"].get("links") == document.links
    assert call.response["data"].get("summary") == document.summary


async def test_both_find_the_same_map() -> None:
    asked = {"url": PAGE, "limit": 4}
    call, found = await both("firecrawl", "map", asked, mapping(asked), named=False)
    links = [(link.url, link.title, link.description, None) for link in found.links]
    assert len(links) == 4
    assert said_by(call).results == links


async def test_a_page_that_is_not_there_is_an_answer_to_both() -> None:
    asked = {"url": "https://example.org/404", "formats": ["markdown"]}
    call, document = await both("firecrawl", "scrape", asked, scraping(asked), named=False)
    assert document.metadata.status_code == 404
    (page,) = call.raise_for_status().view.results
    assert page.error


async def test_a_page_that_nobody_serves_is_an_error_to_both() -> None:
    asked = {"url": "https://nobody.invalid/"}

    def scrape(address: str, name: str) -> str:
        with pytest.raises(errors.DNSResolutionError) as caught:
            scraping(asked)(address, name)
        return str(caught.value)

    call, message = await both("firecrawl", "scrape", asked, scrape, named=False)
    assert (call.status, type(call.error).__name__) == ("failed", "Rejected")
    assert "DNS resolution failed" in message


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_wrong_key_is_the_sdks_own_error(endpoint: str) -> None:
    ask, arguments = ENDPOINTS[endpoint]
    with pytest.raises(errors.UnauthorizedError):
        await alone("firecrawl", ask(arguments, "wrong"), LIMITED)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_limit_is_the_sdks_own_error(endpoint: str) -> None:
    ask, arguments = ENDPOINTS[endpoint]

    def twice(address: str, name: str) -> None:
        ask(arguments)(address, name)
        ask(arguments)(address, name)

    with pytest.raises(errors.RateLimitError):
        await alone("firecrawl", twice, LIMITED)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_error_in_an_answer_is_an_error_to_both(endpoint: str) -> None:
    ask, arguments = ENDPOINTS[endpoint]

    def fail(address: str, name: str) -> None:
        with pytest.raises(Exception, match=r"Failed|failed|Unknown"):
            ask(arguments)(address, name)

    call, _ = await both("firecrawl", endpoint, arguments, fail, FAILING, named=False)
    assert call.status == "failed"
