"""What the end of an agent's run means for the schedule: done, failed, or worth another attempt; and what it cost.

A run that failed before the agent said or did anything may be tried again, if its failure is one that passes. After
that nothing may: a tool may have changed the world. Nor may, by itself, a run whose provider's answer broke off: it may
be billed, so that another attempt is the caller's to allow. What the provider said to the program becomes the class of
error that it would be from the provider itself; all else is an `AgentError`.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from actors.messages import Charge, Fault
from engine.agents.chunks import Category, Error, Result, Spent
from engine.errors import one_line
from engine.providers.view import Usage
from engine.providers.wire import Reading
from engine.retry import Advice, Kind

_STDERR_CHARS = 2_000

_KINDS: dict[Category, Kind] = {
    "auth": "Rejected",
    "rejected": "Rejected",
    "quota": "QuotaExhausted",
    "rate_limit": "RateLimited",
    "server": "ProviderUnavailable",
    "network": "ProviderUnavailable",
    "cut": "ProviderUnavailable",
}
_PASSING: frozenset[Category] = frozenset(("rate_limit", "server", "network", "session_busy"))
_NOTHING_MADE: frozenset[Category] = frozenset(
    ("auth", "rate_limit", "quota", "rejected", "session_not_found", "session_busy", "network")
)
"""What fails before anything is generated: what the provider refused, and what never reached it."""


def usage_of(spent: Spent | None) -> Usage | None:
    """What a run cost, in the terms of every provider; None where nobody counted."""
    if spent is None or (spent.input_tokens is None and spent.output_tokens is None):
        return None
    given, made = spent.input_tokens, spent.output_tokens
    total = given + made if given is not None and made is not None else None
    return Usage(given, made, total, spent.cached_tokens, spent.reasoning_tokens)


def is_unknown(terminal: Result | Error, *, began: bool) -> bool:
    """Whether nobody can say what came of the run: its answer broke off before the agent said or did anything. Then the
    verdict is ``unknown``, after which only the caller's ``on_unknown`` may allow another attempt."""
    return isinstance(terminal, Error) and terminal.category == "cut" and not began


def reading_of(
    terminal: Result | Error,
    *,
    name: str,
    began: bool,
    exit_code: int | None = None,
    stderr_tail: str = "",
    free_cached: bool = False,
) -> Reading:
    """What a run's last chunk means. `name` is the agent's, `began` whether it said or did anything for its task.

    `exit_code` and `stderr_tail` are for the error: the code is negative for a signal, None if it never ran. Where
    `is_unknown` holds the advice is ``failed`` and the fault an `OutcomeUnknown`; the verdict is for the transport.
    """
    usage = usage_of(terminal.usage)
    counts = (usage.input_tokens, usage.output_tokens) if usage is not None else (None, None)
    known = None not in counts and any(counts)  # zeros are what a program writes where nobody counted
    free_tokens = (usage.cached_tokens or 0) if usage is not None and free_cached else 0
    if isinstance(terminal, Result):
        return Reading(usage, None, Advice("done", "usage" if known else "kept"), free_tokens=free_tokens)
    free = terminal.category in _NOTHING_MADE and not began
    charge: Charge = "usage" if known else "requests_kept" if free else "kept"
    again = terminal.category in _PASSING and not began
    limited = terminal.category == "rate_limit"
    kind: Kind = "" if is_unknown(terminal, began=began) else _KINDS.get(terminal.category, "")
    advice = Advice("retry" if again else "failed", charge, limited, None, limited and again, kind)
    return Reading(usage, _fault(terminal, kind, name, began, exit_code, stderr_tail), advice, free_tokens=free_tokens)


def _fault(error: Error, kind: Kind, name: str, began: bool, exit_code: int | None, stderr_tail: str) -> Fault:
    spent = "What it had done by then is kept, and was probably billed" if began else "It had not begun with its task"
    if is_unknown(error, began=began):
        spent = "Its provider may have answered, and billed it; on_unknown='retry' would have tried again"
    said = one_line(error.message, 500) or error.category
    message = f"{name} failed ({error.category}): {said.rstrip('.')}. {spent}."
    if is_unknown(error, began=began):
        return Fault("OutcomeUnknown", message, detail="closed", status=error.status, sent=True)
    if kind:
        return Fault(kind, message, status=error.status, code=error.category, sent=True)
    tail = one_line(stderr_tail[-_STDERR_CHARS:], _STDERR_CHARS)
    return Fault("AgentError", message, detail=tail, code="" if exit_code is None else str(exit_code), sent=True)
