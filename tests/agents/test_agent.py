"""What every parser goes by: what a failure is by its status and its words, and how numbers and texts are read."""

from __future__ import annotations

import pytest

from engine.agents.agent import amount, category_in, joined_texts, milliseconds, status_in
from engine.agents.chunks import Spent, sum_of

OPENAI_MINUTE = (
    "Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Visit "
    "https://platform.openai.com/account/billing to add credit."
)


@pytest.mark.parametrize(
    ("text", "status", "category"),
    [
        (OPENAI_MINUTE, 429, "rate_limit"),
        ("You exceeded your current quota, please check your plan and billing details.", 429, "rate_limit"),
        ('{"error": {"code": "insufficient_quota", "message": "x"}}', 429, "quota"),
        ("BILLING_HARD_LIMIT_REACHED", 429, "quota"),
        ("billing_hard_limit_reached", 500, "server"),
        ("x", 402, "quota"),
        ("x", 403, "auth"),
        ("x", 422, "rejected"),
        ("x", 529, "server"),
    ],
)  # fmt: skip
def test_that_credit_is_used_up_is_known_by_a_code(text: str, status: int, category: str) -> None:
    """Never by a sentence of billing, which comes with a limit by the minute, too."""
    assert category_in(text, status) == category


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("changelog invalid", "failed"),
        ("network policy file not found", "failed"),
        ("websocket settings are wrong", "failed"),
        ("unreadable socket directory", "failed"),
        ("disconnect timeout of the viewer", "failed"),
        ("the rate limiter is off", "failed"),
        ("sandbox timed out", "failed"),
        ("not in the catalog in use", "failed"),
        ("Please log in first", "auth"),
        ("Not logged in · Please run /login", "auth"),
        ("Invalid API key", "auth"),
        ("AuthenticationError: no", "auth"),
        ("connect ECONNREFUSED 127.0.0.1:80", "network"),
        ("Connection refused (os error 111)", "network"),
        ("getaddrinfo ENOTFOUND api.openai.com", "network"),
        ("read ECONNRESET", "cut"),
        ("socket hang up", "cut"),
        ("TypeError: fetch failed", "cut"),
        ("Request timed out.", "cut"),
        ("insufficient_quota", "quota"),
        ("rate_limit_exceeded", "rate_limit"),
        ("Overloaded", "server"),
    ],
)
def test_words_are_whole_phrases(text: str, category: str) -> None:
    """A word within another, or one that stands in many a message, means nothing."""
    assert category_in(text) == category


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Error: 503 x", 503),
        ("penstock API error (429): {}", 429),
        ("last status: 429 Too Many Requests", 429),
        ("status code: 404", 404),
        ('{"code" : 500}', 500),
        ("unexpected status 200", 0),
        ("I counted 429 sheep", 0),
        ("x" * 600 + " status 429", 0),
    ],
)
def test_a_status_is_found_where_a_message_tells_it(text: str, status: int) -> None:
    assert status_in(text) == status


def test_costs_add_up_and_a_count_of_one_is_kept() -> None:
    assert sum_of(None, Spent(1)) == Spent(1)
    assert sum_of(Spent(1, None, 3, None, 0.5), Spent(1, 2, None, None, 0.25)) == Spent(2, 2, 3, None, 0.75)


def test_texts_are_joined_where_there_is_nothing_else() -> None:
    image = [{"type": "text", "text": "a"}, {"type": "image", "data": "..."}]
    assert joined_texts([{"text": "a"}, {"text": "b"}]) == "a\nb"
    for other in (image, [], "a", None, [3]):
        assert joined_texts(other) is other


def test_numbers() -> None:
    assert (amount(0), amount(2), amount(1.5)) == (0.0, 2.0, 1.5)
    assert [amount(x) for x in (True, "1", -1, float("nan"), float("inf"), 10**400, 1e10)] == [None] * 7
    assert (milliseconds(1500), milliseconds(None)) == (1.5, None)
