"""What the end of a run means: which class of error, whether it may be tried again, what it is charged."""

from __future__ import annotations

import pytest

from engine.agents.chunks import Category, Error, Result, Spent
from engine.agents.verdicts import is_unknown, reading_of
from engine.errors import AgentError, OutcomeUnknown, ProviderUnavailable, RateLimited, error_of
from engine.providers.wire import Reading, Usage

SPENT = Spent(100, 20, 40, 5, 0.1)


def read(terminal: Result | Error, *, began: bool = True, **more: object) -> Reading:
    return reading_of(terminal, name="codex", began=began, **more)  # type: ignore[arg-type]  # by its names


def test_a_success_costs_what_it_says() -> None:
    reading = read(Result(text="x", usage=SPENT))
    assert reading.usage == Usage(100, 20, 120, 40, 5)
    assert (reading.advice.verdict, reading.advice.charge, reading.fault) == ("done", "usage", None)
    assert reading.free_tokens == 0
    assert read(Result(usage=SPENT), free_cached=True).free_tokens == 40


@pytest.mark.parametrize(
    "spent",
    [None, Spent(), Spent(output_tokens=3), Spent(cost_usd=1.0), Spent(0, 0)],
    ids=["none", "empty", "half", "cost", "zeros"],
)
def test_a_success_that_nobody_counted_keeps_what_was_reserved(spent: Spent | None) -> None:
    assert read(Result(usage=spent)).advice.charge == "kept"


# category, class, another attempt is made before anything was said or done, nothing was made if it failed then
FAILURES: list[tuple[Category, str, bool, bool]] = [
    ("auth", "Rejected", False, True),
    ("rejected", "Rejected", False, True),
    ("quota", "QuotaExhausted", False, True),
    ("rate_limit", "RateLimited", True, True),
    ("server", "ProviderUnavailable", True, False),
    ("network", "ProviderUnavailable", True, True),
    ("cut", "ProviderUnavailable", False, False),
    ("session_not_found", "AgentError", False, True),
    ("session_busy", "AgentError", True, True),
    ("interrupted", "AgentError", False, False),
    ("limit", "AgentError", False, False),
    ("protocol", "AgentError", False, False),
    ("failed", "AgentError", False, False),
]
each = pytest.mark.parametrize(("category", "kind", "again", "free"), FAILURES, ids=[row[0] for row in FAILURES])


def test_every_category_is_in_the_table() -> None:
    assert {row[0] for row in FAILURES} == set(Category.__args__)  # type: ignore[attr-defined]


@each
def test_a_failure_is_tried_again_only_if_it_passes_and_nothing_was_done(
    category: Category, kind: str, again: bool, free: bool
) -> None:
    early = read(Error(category=category, message="why", status=429), began=False)
    late = read(Error(category=category, message="why", status=429, usage=SPENT))
    assert early.fault is not None
    assert late.fault is not None
    assert early.fault.kind == ("OutcomeUnknown" if category == "cut" else kind)
    assert late.fault.kind == kind
    assert (early.advice.verdict, late.advice.verdict) == ("retry" if again else "failed", "failed")
    assert early.advice.barrier == late.advice.barrier == (category == "rate_limit")
    assert early.advice.exempt == (category == "rate_limit")


@each
def test_a_failure_is_charged_what_was_counted_else_what_may_have_been_made(
    category: Category, kind: str, again: bool, free: bool
) -> None:
    """Zeros are nobody's count, and half a count is none."""
    for began in (False, True):
        assert read(Error(category=category, message="why", usage=SPENT), began=began).advice.charge == "usage"
        for uncounted in (None, Spent(0, 0, 0, 0, 0.0), Spent(output_tokens=3), Spent(cost_usd=1.0)):
            charge = read(Error(category=category, message="why", usage=uncounted), began=began).advice.charge
            assert charge == ("requests_kept" if free and not began else "kept")


def test_an_answer_that_broke_off_before_anything_was_said_may_have_been_billed() -> None:
    """So nobody knows what came of it; once something was said, it has failed."""
    cut = Error(category="cut", message="stream disconnected before completion")
    assert is_unknown(cut, began=False)
    assert not is_unknown(cut, began=True)
    assert not is_unknown(Error(category="network", message="x"), began=False)
    assert not is_unknown(Result(), began=False)
    fault = read(cut, began=False).fault
    assert fault is not None
    assert fault.sent
    error = error_of(fault)
    assert isinstance(error, OutcomeUnknown)
    assert error.reason == "closed"
    assert "billed it; on_unknown" in error.message
    late = read(cut).fault
    assert late is not None
    assert isinstance(error_of(late), ProviderUnavailable)


def test_the_error_says_who_failed_of_what_and_whether_it_is_billed() -> None:
    early = read(Error(category="rate_limit", message="too many.", status=429), began=False).fault
    assert early is not None
    error = error_of(early)
    assert isinstance(error, RateLimited)
    assert (error.status, error.code) == (429, "rate_limit")
    assert error.message == "codex failed (rate_limit): too many. It had not begun with its task."
    late = read(Error(category="failed", message=""), exit_code=-9, stderr_tail="one\n\x1b[31mtwo").fault
    assert late is not None
    failed = error_of(late)
    assert isinstance(failed, AgentError)
    assert (failed.exit_code, failed.stderr_tail) == (-9, "one [31mtwo")
    assert "probably billed" in failed.message


def test_a_program_that_never_ran_has_no_exit_code() -> None:
    fault = read(Error(category="failed", message="not there"), began=False).fault
    assert fault is not None
    assert error_of(fault).exit_code is None  # type: ignore[attr-defined]


def test_a_key_in_its_words_is_masked_and_its_last_words_are_bounded() -> None:
    tail = "x" * 10_000 + " sk-live0123456789abcdef"
    fault = read(Error(category="failed", message="key sk-live0123456789abcdef"), stderr_tail=tail).fault
    assert fault is not None
    assert "sk-live" not in repr(fault)
    assert len(fault.detail) <= 2_000
