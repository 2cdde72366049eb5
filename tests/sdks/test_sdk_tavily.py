"""Tavily's SDK and our client at its search and its extract."""

from __future__ import annotations

from typing import Any

import pytest
from two_sides import FAILING, KEY, LIMITED, Told, alone, both, said_by

tavily = pytest.importorskip("tavily", reason="needs the extra test-sdks")

SEARCH: dict[str, Any] = {"query": "schedulers", "max_results": 3}
EXTRACT: dict[str, Any] = {"urls": ["https://example.org/a", "https://nobody.invalid/b", "https://example.org/c"]}
ENDPOINTS = {"search": SEARCH, "extract": EXTRACT}


def asking(endpoint: str, arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> dict[str, Any]:
        with tavily.TavilyClient(key, api_base_url=address) as sdk:
            sdk.session.headers["x-penstock-call"] = name
            found: dict[str, Any] = getattr(sdk, endpoint)(**arguments)
            return found

    return ask


def results_of(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What was found, then what was not."""
    results = [
        (page["url"], page.get("title"), page.get("raw_content") or page.get("content"), page.get("score"))
        for page in found["results"]
    ]
    return results + [(page["url"], None, None, None) for page in found.get("failed_results", [])]


@pytest.mark.parametrize(
    ("endpoint", "arguments"),
    [
        ("search", SEARCH),
        ("search", {**SEARCH, "include_raw_content": "markdown", "include_answer": True, "topic": "news"}),
        ("extract", EXTRACT),
        ("extract", {**EXTRACT, "format": "text", "extract_depth": "advanced"}),
    ],
)
async def test_both_find_the_same(endpoint: str, arguments: dict[str, Any]) -> None:
    call, found = await both("tavily", endpoint, arguments, asking(endpoint, arguments))
    assert len(results_of(found)) == 3
    assert said_by(call) == Told(text=found.get("answer"), results=results_of(found), identity=found["request_id"])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_wrong_key_is_the_sdks_own_error(endpoint: str) -> None:
    with pytest.raises(tavily.InvalidAPIKeyError, match="Unauthorized"):
        await alone("tavily", asking(endpoint, ENDPOINTS[endpoint], "wrong"), LIMITED)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_limit_is_the_sdks_own_error(endpoint: str) -> None:
    def twice(address: str, name: str) -> None:
        asking(endpoint, ENDPOINTS[endpoint])(address, name)
        asking(endpoint, ENDPOINTS[endpoint])(address, name)

    with pytest.raises(tavily.UsageLimitExceededError, match="excessive requests"):
        await alone("tavily", twice, LIMITED)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_error_in_an_answer_is_told_to_both(endpoint: str) -> None:
    """The SDK hands out what it got; our client says that it is an error."""
    call, found = await both("tavily", endpoint, ENDPOINTS[endpoint], asking(endpoint, ENDPOINTS[endpoint]), FAILING)
    assert call.status == "failed"
    assert found["detail"]["error"] in str(call.error)
