"""Exa's search: calls in both spellings, its results in the common terms, and what it refuses.

The recorded bodies are what exa-py 2.27.0 sends (2026-11-20).
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
from engine.providers.exa import ExaSearch
from engine.providers.view import Citation, Found
from engine.providers.wire import WireFormat

EXA = ExaSearch()
WIRE: WireFormat = EXA


@pytest.mark.parametrize("name", ["recorded_request", "recorded_request_min"])
def test_the_requests_of_the_vendors_own_client_are_sent_as_it_sends_them(name: str) -> None:
    expected = recorded(f"exa_search/{name}.json")
    assert json.loads(fixture(f"exa_search/{name}.json"))["path"] == EXA.path
    assert body_of(EXA, **expected) == expected
    assert body_of(EXA, **snake_case(expected)) == expected


def test_python_spellings_inside_contents_are_sent_as_exa_knows_them() -> None:
    contents = {
        "text": {"max_characters": 500, "include_html_tags": False},
        "highlights": {"highlights_per_url": 2, "numSentences": 1},
        "summary": {"query": "q", "schema": {"max_items": 3}},
        "subpage_target": ["about"],
        "extras": {"image_links": 1},
        "something_new": 1,
    }
    assert body_of(EXA, query="q", contents=contents)["contents"] == {
        "text": {"maxCharacters": 500, "includeHtmlTags": False},
        "highlights": {"highlightsPerUrl": 2, "numSentences": 1},
        "summary": {"query": "q", "schema": {"max_items": 3}},  # the caller's own schema stays as it is
        "subpageTarget": ["about"],
        "extras": {"imageLinks": 1},
        "something_new": 1,
    }


def test_none_is_not_sent_at_any_depth() -> None:
    sent = body_of(EXA, query="q", num_results=None, stream=False, contents={"text": None, "highlights": True})
    assert sent == {"query": "q", "contents": {"highlights": True}}
    assert body_of(EXA, query="q", use_autoprompt=None, text=None) == {"query": "q"}


@pytest.mark.parametrize(
    ("arguments", "argument", "says"),
    [
        ({}, "query", "missing"),
        ({"query": ""}, "query", "length >= 1"),
        ({"query": 3}, "query", "Expected `str`"),
        ({"query": "q", "num_results": 0}, "num_results", ">= 1"),
        ({"query": "q", "numResults": 101}, "numResults", "<= 100"),
        ({"query": "q", "num_results": True}, "num_results", "Expected `int"),
        ({"query": "q", "num_results": 3, "numResults": 3}, "numResults", "twice"),
        ({"query": "q", "include_domains": "arxiv.org"}, "include_domains", "Expected `array"),
        ({"query": "q", "contents": {"text": {"max_characters": 0}}}, "contents.text.maxCharacters", ">= 1"),
        ({"query": "q", "contents": {"text": "yes"}}, "contents.text", "Expected"),
        ({"query": "q", "contents": {"max_age_hours": 1, "maxAgeHours": 1}}, "contents.maxAgeHours", "twice"),
        ({"query": "q", "use_autoprompt": True}, "use_autoprompt", 'type="auto"'),
        ({"query": "q", "text": True}, "text", "inside contents"),
        ({"query": "q", "num_result": 3}, "num_result", "num_results"),
        ({"query": "q", "numberOf": 3}, "numberOf", "knows no such argument"),
        ({"query": "q", "stream": True}, "stream", "in one piece"),
        ({"query": "q", "api_key": "secret"}, "api_key", "never sent"),
        ({"query": "q", "headers": {"x": "y"}}, "headers", "never sent"),
        ({"query": "q", "category": object()}, "category", "Expected `str"),
    ],
)
def test_what_exa_would_refuse_is_refused_before_anything_is_sent(
    arguments: dict[str, Any], argument: str, says: str
) -> None:
    problem = problem_of(EXA, arguments)
    assert problem.argument == argument
    assert says in problem.message
    assert "secret" not in problem.message


def test_the_results_in_the_common_terms() -> None:
    seen = view(EXA, "exa_search/response.json")
    assert seen.provider_id == "b5947044c4b78efa9552a7c89b306d95"
    assert seen.text is None
    assert seen.results == (Found("https://arxiv.org/abs/1", "A", "...", 0.46, "2023-11-16T01:36:32.547Z"),)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": "t", "summary": "s", "highlights": ["h"]}, "t"),
        ({"summary": "s", "highlights": ["h"]}, "s"),
        ({"highlights": ["h", "i", None]}, "h\ni"),
        ({"highlights": []}, None),
        ({}, None),
    ],
)
def test_a_results_text_is_the_fullest_form_there_is(fields: dict[str, object], text: str | None) -> None:
    assert EXA.view({"results": [{"url": "u", **fields}]}).results == (Found("u", text=text),)


@pytest.mark.parametrize(
    ("score", "seen"),
    [(1, 1.0), (0.25, 0.25), (float("nan"), None), (float("inf"), None), (10**400, None), (True, None), ("0.5", None)],
)
def test_a_score_is_a_number_that_can_be_compared_or_none(score: object, seen: float | None) -> None:
    assert EXA.view({"results": [{"url": "u", "score": score}]}).results == (Found("u", score=seen),)


def test_the_answer_of_a_deep_search_is_the_text_and_its_sources_are_cited() -> None:
    grounding = [{"field": "content", "citations": [{"url": "u", "title": "T"}, {"title": "no address"}]}]
    seen = EXA.view({"results": [], "output": {"content": "an answer", "grounding": grounding}})
    assert (seen.text, seen.citations) == ("an answer", (Citation("u", "T"),))
    structured = EXA.view({"results": [], "output": {"content": {"year": 2026}}})
    assert structured.text == '{"year":2026}'


def test_an_answer_without_results_is_an_answer() -> None:
    assert read(EXA, {"requestId": "r", "output": {"content": "an answer"}}).fault is None
    assert read(EXA, {"requestId": "r"}).advice.kind == "MalformedReply"


@pytest.mark.parametrize("tag", ["NO_MORE_CREDITS", "API_KEY_BUDGET_EXCEEDED"])
@pytest.mark.parametrize("status", [402, 403, 429])
def test_spent_credit_is_never_waited_for_whatever_its_status(tag: str, status: int) -> None:
    reading = read(EXA, {"requestId": "r", "error": "no credit", "tag": tag}, status)
    assert reading.fault is not None
    assert (reading.fault.kind, reading.fault.code, reading.fault.request_id) == ("QuotaExhausted", tag, "r")
    assert reading.advice.verdict == "failed"


FIXTURES = ("exa_search/response.json", "exa_search/error_402.json", "exa_search/error_429.json")
STATUS = st.sampled_from([200, 400, 402, 429, 500])


@given(st.binary(max_size=60), STATUS)
def test_any_bytes_are_read(body: bytes, status: int) -> None:
    check_reading(EXA, body, status)


@given(damaged(*FIXTURES), STATUS)
def test_a_damaged_answer_is_read(body: object, status: int) -> None:
    check_reading(EXA, json.dumps(body).encode(), status)


@given(ANYTHING | st.fixed_dictionaries({}, optional={"results": ANYTHING, "output": ANYTHING, "requestId": ANYTHING}))
def test_anything_has_a_view(response: object) -> None:
    check_view(EXA, response)


@given(
    st.dictionaries(st.sampled_from(["query", "contents", "num_results", "type", "x", "stream"]) | st.text(), ANYTHING)
)
def test_any_call_is_sent_as_given_or_refused(arguments: dict[str, Any]) -> None:
    try:
        sent = body_of(EXA, **arguments)
    except InvalidCall:
        problem_of(EXA, arguments)
        return
    assert sent["query"] == arguments["query"]
