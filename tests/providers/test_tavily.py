"""Tavily's search and extraction: what is sent, what was found, what could not be had, and its own ways of refusing.

The recorded bodies are what tavily-python 0.8.5 sends (2026-11-20).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_answers import fixture
from hypothesis import given
from hypothesis import strategies as st
from search_answers import ANYTHING, body_of, check_reading, check_view, damaged, problem_of, read, recorded, view

from engine.providers.search import SearchFormat
from engine.providers.tavily import TavilyExtract, TavilySearch
from engine.providers.view import Found
from engine.providers.wire import WireFormat

SEARCH = TavilySearch()
EXTRACT = TavilyExtract()
FORMATS: tuple[WireFormat, ...] = (SEARCH, EXTRACT)


@pytest.mark.parametrize("wire", FORMATS)
def test_the_requests_of_the_vendors_own_client_are_sent_as_it_sends_them(wire: WireFormat) -> None:
    expected = recorded(f"{wire.name}/recorded_request.json")
    assert json.loads(fixture(f"{wire.name}/recorded_request.json"))["path"] == wire.path
    assert body_of(wire, **expected) == expected


def test_arguments_that_are_not_known_here_are_passed_on_and_none_is_not() -> None:
    sent = body_of(SEARCH, query="q", brand_new=[1], topic="a new topic", days=None, include_answer="advanced")
    assert sent == {"query": "q", "brand_new": [1], "topic": "a new topic", "include_answer": "advanced"}


def test_one_address_or_a_list_of_them_is_extracted() -> None:
    assert body_of(EXTRACT, urls="https://x")["urls"] == "https://x"
    assert body_of(EXTRACT, urls=("https://x",), timeout=1.5) == {"urls": ["https://x"], "timeout": 1.5}


@pytest.mark.parametrize(
    ("wire", "arguments", "argument", "says"),
    [
        (SEARCH, {}, "query", "missing"),
        (SEARCH, {"query": ""}, "query", "length >= 1"),
        (SEARCH, {"query": "q", "max_results": 21}, "max_results", "<= 20"),
        (SEARCH, {"query": "q", "max_results": -1}, "max_results", ">= 0"),
        (SEARCH, {"query": "q", "days": 0}, "days", ">= 1"),
        (SEARCH, {"query": "q", "include_answer": 1}, "include_answer", "Expected `bool | str"),
        (SEARCH, {"query": "q", "include_domains": "x.org"}, "include_domains", "Expected `array"),
        (SEARCH, {"query": "q", "stream": True}, "stream", "in one piece"),
        (SEARCH, {"query": "q", "api_key": "secret"}, "api_key", "never sent"),
        (EXTRACT, {}, "urls", "missing"),
        (EXTRACT, {"urls": []}, "urls", "length >= 1"),
        (EXTRACT, {"urls": ""}, "urls", "length >= 1"),
        (EXTRACT, {"urls": ["u"] * 21}, "urls", "length <= 20"),
        (EXTRACT, {"urls": ["u", 3]}, "urls[1]", "Expected `str`"),
        (EXTRACT, {"urls": "u", "timeout": 61}, "timeout", "<= 60"),
        (EXTRACT, {"urls": "u", "timeout": 0}, "timeout", ">= 1"),
        (EXTRACT, {"urls": "u", "stream": True}, "stream", "in one piece"),
    ],
)
def test_what_tavily_would_refuse_is_refused_before_anything_is_sent(
    wire: WireFormat, arguments: dict[str, Any], argument: str, says: str
) -> None:
    problem = problem_of(wire, arguments)
    assert problem.argument == argument
    assert says in problem.message
    assert "secret" not in problem.message


def test_the_results_of_a_search_in_the_common_terms() -> None:
    seen = view(SEARCH, "tavily_search/response.json")
    assert (seen.provider_id, seen.text) == ("123e4567-e89b-12d3-a456-426614174111", None)
    assert seen.results == (Found("https://x", "T", "...", 0.81),)


def test_an_answer_is_the_text_and_a_whole_page_comes_before_its_passage() -> None:
    entry = {"url": "u", "content": "passage", "raw_content": "page", "published_date": "2026-01-01"}
    seen = SEARCH.view({"answer": "forty-two", "results": [entry]})
    assert seen.text == "forty-two"
    assert seen.results == (Found("u", text="page", published="2026-01-01"),)


def test_the_pages_of_an_extraction_and_those_that_could_not_be_had() -> None:
    seen = view(EXTRACT, "tavily_extract/response.json")
    assert (seen.provider_id, seen.text) == ("123e", None)
    assert seen.results == (Found("https://x", text="# T"), Found("https://y", error="Could not fetch"))


def test_an_extraction_of_which_nothing_could_be_had_is_an_answer() -> None:
    body = {"results": [], "failed_results": [{"url": "https://y"}]}
    assert read(EXTRACT, body).fault is None
    assert EXTRACT.view(body).results == (Found("https://y", error="it could not be fetched"),)


def test_without_a_key_the_seconds_to_wait_are_in_the_body() -> None:
    advice = read(SEARCH, fixture("tavily_search/error_429_keyless.json"), 429).advice
    assert (advice.kind, advice.barrier, advice.hint_us) == ("RateLimited", True, 3_600_000_000)


@pytest.mark.parametrize("wait", ["soon", -3, None, [], True, 1e-9])
def test_a_wait_that_is_none_says_nothing(wait: object) -> None:
    assert read(SEARCH, {"error": {"message": "m", "retry_after_seconds": wait}}, 429).advice.hint_us is None


def test_a_validation_list_in_the_detail_is_a_sentence() -> None:
    fault = read(SEARCH, {"detail": [{"msg": "field required", "loc": ["body", "query"]}]}, 422).fault
    assert fault is not None
    assert (fault.kind, fault.message.endswith("field required")) == ("Rejected", True)


FIXTURES = (
    *(f"tavily_search/error_{name}.json" for name in ("400", "401", "429", "429_keyless", "432", "433")),
    "tavily_search/response.json",
    "tavily_extract/response.json",
)
WIRES = st.sampled_from([SEARCH, EXTRACT])
STATUS = st.sampled_from([200, 400, 429, 432, 500])


@given(WIRES, st.binary(max_size=60), STATUS)
def test_any_bytes_are_read(wire: SearchFormat, body: bytes, status: int) -> None:
    check_reading(wire, body, status)


@given(WIRES, damaged(*FIXTURES), STATUS)
def test_a_damaged_answer_is_read(wire: SearchFormat, body: object, status: int) -> None:
    check_reading(wire, json.dumps(body).encode(), status)


@given(WIRES, ANYTHING | st.fixed_dictionaries({}, optional={"results": ANYTHING, "failed_results": ANYTHING}))
def test_anything_has_a_view(wire: SearchFormat, response: object) -> None:
    check_view(wire, response)
