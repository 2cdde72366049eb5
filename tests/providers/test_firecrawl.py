"""Firecrawl's scrape and map: calls in both spellings, pages and links in the common terms, and its odd failures.

The recorded bodies are what firecrawl-py 4.53.2 sends (2026-11-20).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_answers import fixture
from hypothesis import given
from hypothesis import strategies as st
from search_answers import (
    ANYTHING,
    body_of,
    check_reading,
    check_view,
    damaged,
    problem_of,
    read,
    recorded,
    snake_case,
    view,
)

from engine.errors import InvalidCall
from engine.providers.firecrawl import FirecrawlMap, FirecrawlScrape
from engine.providers.search import SearchFormat
from engine.providers.view import Found
from engine.providers.wire import WireFormat

SCRAPE = FirecrawlScrape()
MAP = FirecrawlMap()
FORMATS: tuple[WireFormat, ...] = (SCRAPE, MAP)

# What the vendor's client sends and we do not, and why.
OF_THE_SDK = {
    "origin": "it tells Firecrawl which of its clients is calling; we are none of them",
}
BY_DEFAULT_OF_THE_SDK = {
    "skipTlsVerification": "the client sends true of itself, and a page's certificate is not checked then",
}


@pytest.mark.parametrize("wire", FORMATS)
def test_the_requests_of_the_vendors_own_client_are_sent_as_it_sends_them(wire: WireFormat) -> None:
    expected = recorded(f"{wire.name}/recorded_request.json", *OF_THE_SDK)
    assert json.loads(fixture(f"{wire.name}/recorded_request.json"))["path"] == wire.path
    assert body_of(wire, **expected) == expected
    assert body_of(wire, **snake_case(expected)) == expected


@pytest.mark.parametrize("wire", FORMATS)
def test_nothing_is_sent_that_was_not_asked_for(wire: WireFormat) -> None:
    assert body_of(wire, url="https://x", timeout=None, stream=False) == {"url": "https://x"}
    assert BY_DEFAULT_OF_THE_SDK.keys() & body_of(wire, url="https://x", location={"country": None}).keys() == set()


def test_python_spellings_inside_formats_and_others_are_sent_as_firecrawl_knows_them() -> None:
    sent = body_of(
        SCRAPE,
        url="https://x",
        formats=["markdown", {"type": "json", "schema": {"only_this": 1}}, {"type": "screenshot", "full_page": True}],
        parsers=[{"type": "pdf", "max_pages": 3}],
        actions=[{"type": "wait", "milliseconds": 5}, {"type": "screenshot", "full_page": True}],
        headers={"user_agent": "me"},
        redact_pii=True,
    )
    assert sent == {
        "url": "https://x",
        "formats": [
            "markdown",
            {"type": "json", "schema": {"only_this": 1}},  # the caller's own schema stays as it is
            {"type": "screenshot", "fullPage": True},
        ],
        "parsers": [{"type": "pdf", "maxPages": 3}],
        "actions": [{"type": "wait", "milliseconds": 5}, {"type": "screenshot", "fullPage": True}],
        "headers": {"user_agent": "me"},
        "redactPII": True,
    }


def test_version_1s_spellings_that_mean_the_same_are_translated() -> None:
    sent = body_of(SCRAPE, url="u", formats=["links", "screenshot@fullPage"])
    assert sent["formats"] == ["links", {"type": "screenshot", "fullPage": True}]
    for name in ("ignore_sitemap", "ignoreSitemap"):
        assert body_of(MAP, url="u", **{name: True}) == {"url": "u", "sitemap": "skip"}
        assert body_of(MAP, url="u", **{name: False}) == {"url": "u"}
    assert body_of(MAP, url="u", sitemap=None, ignore_sitemap=True) == {"url": "u", "sitemap": "skip"}
    assert body_of(MAP, url="u", sitemap_only=True) == {"url": "u", "sitemap": "only"}


@pytest.mark.parametrize(
    ("wire", "arguments", "argument", "says"),
    [
        (SCRAPE, {}, "url", "missing"),
        (SCRAPE, {"url": ""}, "url", "length >= 1"),
        (SCRAPE, {"url": "u", "formats": "markdown"}, "formats", "Expected `array"),
        (SCRAPE, {"url": "u", "formats": [{"prompt": "p"}]}, "formats[0].type", "missing"),
        (SCRAPE, {"url": "u", "formats": ["extract"]}, "formats", '"type": "json"'),
        (SCRAPE, {"url": "u", "extract": {"prompt": "p"}}, "extract", '"type": "json"'),
        (SCRAPE, {"url": "u", "wait_for": 60_001}, "wait_for", "<= 60000"),
        (SCRAPE, {"url": "u", "waitFor": -1}, "waitFor", ">= 0"),
        (SCRAPE, {"url": "u", "timeout": 30}, "timeout", ">= 1000"),
        (SCRAPE, {"url": "u", "timeout": 1500.5}, "timeout", "Expected `int"),
        (SCRAPE, {"url": "u", "only_main_contents": True}, "only_main_contents", "only_main_content"),
        (SCRAPE, {"url": "u", "max_age": 1, "maxAge": 1}, "maxAge", "twice"),
        (SCRAPE, {"url": "u", "stream": True}, "stream", "in one piece"),
        (SCRAPE, {"url": "u", "api_key": "fc-secret"}, "api_key", "never sent"),
        (
            SCRAPE,
            {"url": "u", "headers": {"Authorization": "bearer fc-secret0123456789ab"}},
            "headers",
            "sent to the page",
        ),
        (SCRAPE, {"url": "u", "headers": {"cookie": "k=fc-secret0123456789ab"}}, "headers", "sent to the page"),
        (SCRAPE, {"url": "u", "headers": {"x": 1}}, "headers[...]", "Expected `str`"),
        (MAP, {}, "url", "missing"),
        (MAP, {"url": "u", "limit": 0}, "limit", ">= 1"),
        (MAP, {"url": "u", "limit": 100_001}, "limit", "<= 100000"),
        (MAP, {"url": "u", "ignore_sitemap": True, "sitemap": "only"}, "ignore_sitemap", "sitemap="),
        (MAP, {"url": "u", "ignore_sitemap": "yes"}, "ignore_sitemap", "sitemap="),
        (MAP, {"url": "u", "formats": ["markdown"]}, "formats", "no such argument"),
        (MAP, {"url": "u", "stream": True}, "stream", "in one piece"),
    ],
)
def test_what_firecrawl_would_refuse_is_refused_before_anything_is_sent(
    wire: WireFormat, arguments: dict[str, Any], argument: str, says: str
) -> None:
    problem = problem_of(wire, arguments)
    assert problem.argument == argument
    assert says in problem.message
    assert "secret" not in problem.message


def test_a_page_in_the_common_terms() -> None:
    seen = view(SCRAPE, "firecrawl_scrape/response.json")
    assert (seen.text, seen.provider_id) == ("# T", "s1")
    assert seen.results == (Found("https://x/", "T", "# T"),)


def test_a_page_that_answers_404_is_a_success_that_says_so() -> None:
    seen = view(SCRAPE, "firecrawl_scrape/response_target_404.json")
    assert seen.text == "Not found"
    error = "the page answered 404: Not Found"
    assert seen.results == (Found("https://x/nope", text="Not found", error=error),)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ({"markdown": "m", "html": "h"}, "m"),
        ({"markdown": None, "html": "h", "rawHtml": "r"}, "h"),
        ({"rawHtml": "r"}, "r"),
        ({"summary": "s"}, "s"),
        ({"json": {"price": 3}}, '{"price":3}'),
        ({"links": ["u"]}, None),
    ],
)
def test_a_pages_text_is_the_first_form_there_is(page: dict[str, object], text: str | None) -> None:
    seen = SCRAPE.view({"success": True, "data": page})
    assert (seen.text, seen.results) == (text, (Found("", text=text),))


def test_metadata_may_be_lists_and_statuses_texts() -> None:
    metadata = {"title": ["T", "U"], "sourceURL": ["s"], "statusCode": "503", "publishedTime": ["2026-01-01"]}
    (found,) = SCRAPE.view({"data": {"metadata": metadata}}).results
    assert found == Found("s", "T", published="2026-01-01", error="the page answered 503")


def test_links_stand_at_the_top_as_objects_or_as_texts() -> None:
    seen = view(MAP, "firecrawl_map/response.json")
    assert seen.provider_id == "m1"
    assert seen.results == (Found("https://x", "T", "d"), Found("https://x/a"))
    older = view(MAP, "firecrawl_map/response_v1_strings.json")
    assert older.results == (Found("https://x"), Found("https://x/a"))


@pytest.mark.parametrize("wire", [SCRAPE, MAP])
@pytest.mark.parametrize(
    ("body", "kind", "verdict"),
    [
        ({"success": False, "error": "all engines failed"}, "ProviderUnavailable", "retry"),
        ({"success": False}, "ProviderUnavailable", "retry"),
        ({"success": False, "data": {"markdown": ""}, "links": []}, "ProviderUnavailable", "retry"),
        ({"success": False, "code": "SCRAPE_DNS_RESOLUTION_ERROR", "error": "no such host"}, "Rejected", "failed"),
        ({"success": True}, "MalformedReply", "failed"),
    ],
)
def test_without_success_a_200_is_a_failure(
    wire: SearchFormat, body: dict[str, object], kind: str, verdict: str
) -> None:
    reading = read(wire, body)
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == (kind, verdict, "kept")


def test_a_page_that_was_had_is_an_answer_whatever_stands_beside_it() -> None:
    body = {"success": True, "data": {"markdown": "m"}, "error": "an odd field", "warning": "w"}
    assert read(SCRAPE, body).fault is None
    assert SCRAPE.view(body).text == "m"
    failed = read(SCRAPE, body, 500).fault
    assert failed is not None
    assert failed.message.endswith("It says: an odd field")


@pytest.mark.parametrize("code", ["SCRAPE_DNS_RESOLUTION_ERROR", "SCRAPE_SSL_ERROR", "SCRAPE_UNSUPPORTED_FILE_ERROR"])
def test_what_is_wrong_with_the_page_is_not_tried_again_even_when_told_to(code: str) -> None:
    body = {"success": False, "code": code, "error": "m"}
    reading = read(SCRAPE, body, 500, **{"x-should-retry": "true"})
    assert reading.fault is not None
    assert (reading.fault.kind, reading.fault.code, reading.advice.verdict) == ("Rejected", code, "failed")


def test_a_refused_request_says_which_field_was_wrong() -> None:
    details = [{"code": "unrecognized_keys", "path": [], "message": "Unrecognized key: foo"}]
    fault = read(SCRAPE, {"success": False, "error": "Bad Request", "details": details}, 400).fault
    assert fault is not None
    assert fault.message.endswith("Bad Request (Unrecognized key: foo)")


FIXTURES = (
    *(f"firecrawl_scrape/error_{name}.json" for name in ("402", "408", "429", "500_dns")),
    "firecrawl_scrape/response.json",
    "firecrawl_scrape/response_target_404.json",
    "firecrawl_map/response.json",
    "firecrawl_map/response_v1_strings.json",
)
WIRES = st.sampled_from([SCRAPE, MAP])
STATUS = st.sampled_from([200, 400, 408, 429, 500])


@given(WIRES, st.binary(max_size=60), STATUS)
def test_any_bytes_are_read(wire: SearchFormat, body: bytes, status: int) -> None:
    check_reading(wire, body, status)


@given(WIRES, damaged(*FIXTURES), STATUS)
def test_a_damaged_answer_is_read(wire: SearchFormat, body: object, status: int) -> None:
    check_reading(wire, json.dumps(body).encode(), status)


@given(WIRES, ANYTHING | st.fixed_dictionaries({}, optional={"data": ANYTHING, "links": ANYTHING, "id": ANYTHING}))
def test_anything_has_a_view(wire: SearchFormat, response: object) -> None:
    check_view(wire, response)


@given(
    WIRES,
    st.dictionaries(st.sampled_from(["url", "formats", "headers", "ignore_sitemap", "location", "timeout"]), ANYTHING),
)
def test_any_call_is_sent_as_given_or_refused(wire: SearchFormat, arguments: dict[str, Any]) -> None:
    try:
        sent = body_of(wire, **arguments)
    except InvalidCall:
        problem_of(wire, arguments)
        return
    assert sent["url"] == arguments["url"]
