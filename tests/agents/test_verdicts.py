"""What the end of a run means: which class of error, whether it may be tried again, what it is charged."""

from __future__ import annotations

import pytest

from engine.agents.chunks import Category, Error, Result, Spent
from engine.agents.verdicts import reading_of
from engine.errors import AgentError, RateLimited, error_of
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
    "spent", [None, Spent(), Spent(output_tokens=3), Spent(cost_usd=1.0)], ids=["none", "empty", "half", "cost"]
)
def test_a_success_that_nobody_counted_keeps_what_was_reserved(spent: Spent | None) -> None:
    assert read(Result(usage=spent)).advice.charge == "kept"


# category, class, another attempt is made before anything was said or done
FAILURES: list[tuple[Category, str, bool]] = [
    ("auth", "Rejected", False),
    ("rejected", "Rejected", False),
    ("quota", "QuotaExhausted", False),
    ("rate_limit", "RateLimited", True),
    ("server", "ProviderUnavailable", True),
    ("network", "ProviderUnavailable", True),
    ("session_not_found", "AgentError", False),
    ("interrupted", "AgentError", False),
    ("limit", "AgentError", False),
    ("protocol", "AgentError", False),
    ("failed", "AgentError", False),
]


@pytest.mark.parametrize(("category", "kind", "again"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failure_is_tried_again_only_if_it_passes_and_nothing_was_done(
    category: Category, kind: str, again: bool
) -> None:
    early = read(Error(category=category, message="why", status=429), began=False)
    late = read(Error(category=category, message="why", status=429, usage=SPENT))
    assert early.fault is not None
    assert early.fault.kind == kind
    assert (early.advice.verdict, early.advice.charge) == ("retry" if again else "failed", "requests_kept")
    assert (late.advice.verdict, late.advice.charge) == ("failed", "usage")
    assert read(Error(category=category, message="why")).advice.charge == "kept"
    assert early.advice.barrier == late.advice.barrier == (category == "rate_limit")
    assert early.advice.exempt == (category == "rate_limit")


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
