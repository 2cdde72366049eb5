"""What Claude Code's results, errors and counts mean, and its last words where there is no result.

A result whose subtype is ``success`` may still be an error. What a run cost stands in `model_usage_since_last_result`;
`usage` leaves out subagents and what was interrupted, and `modelUsage` and `total_cost_usd` are those of the whole
session. For the stream of events see `engine.agents.claude_events`.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.agents.agent import LONGEST_MESSAGE, amount, category_in, field, last_line, text_at
from engine.agents.chunks import Category, Error, Result, Spent, sum_of
from engine.errors import one_line
from engine.providers.wire import count, mapping

_QUOTA = ("credit balance", "usage limit", "hit your")
_CUT = ("connection dropped", "connection to the api was lost", "connection lost mid-response")
_NAMED: dict[str, Category] = {
    "authentication_failed": "auth",
    "authentication_error": "auth",
    "permission_error": "auth",
    "oauth_org_not_allowed": "auth",
    "billing_error": "quota",
    "rate_limit": "rate_limit",
    "rate_limit_error": "rate_limit",
    "invalid_request": "rejected",
    "invalid_request_error": "rejected",
    "model_not_found": "rejected",
    "not_found_error": "rejected",
    "request_too_large": "rejected",
    "overloaded_error": "server",
    "server_error": "server",
    "api_error": "server",
}
_LIMITS = {
    "error_max_turns": "it reached max_turns",
    "error_max_budget_usd": "it reached max_budget_usd",
}
_NO_SESSION = ("No conversation found", "--resume requires")
_SIGNALLED = {129: "HUP", 130: "INT", 137: "KILL", 143: "TERM"}
_ROOT = (
    'it does not run for root with permission="full"; run it as another user, set IS_SANDBOX=1 in the environment '
    'if this is a sandbox, or pass permission="edit" with allowed_tools'
)


# --- results ----------------------------------------------------------------------------------------------------------


def result_of(event: Mapping[str, Any]) -> Result:
    """A result that is a success, without what it cost."""
    raw = {name: value for name, value in event.items() if name not in ("result", "structured_output")}
    return Result(
        text=text_at(event, "result"),
        stop_reason=text_at(event, "stop_reason"),
        session_id=text_at(event, "session_id"),
        structured=event.get("structured_output"),
        raw=raw,
    )


def failure_of(event: Mapping[str, Any], said: Error | None) -> Error | None:
    """What a result that is a failure failed of; None for a success. `said` is the provider's last error, if any."""
    kind = text_at(event, "subtype")
    if kind == "success" and not event.get("is_error"):
        return None
    errors = event.get("errors")
    told = "; ".join(text for text in errors if isinstance(text, str)) if isinstance(errors, list) else ""
    message = one_line(told or text_at(event, "result"), LONGEST_MESSAGE)
    session_id = text_at(event, "session_id")
    if text_at(event, "terminal_reason").startswith("aborted"):
        return Error(category="interrupted", message="it was interrupted", session_id=session_id, raw=event)
    if kind in _LIMITS:
        return Error(category="limit", message=message or _LIMITS[kind], session_id=session_id, raw=event)
    if any(words in told for words in _NO_SESSION):
        return Error(category="session_not_found", message=message, raw=event)
    if kind == "success":
        return said or provider_error(event, message)
    category = "failed" if kind == "error_max_structured_output_retries" else category_in(message)
    return Error(category=category, message=message or kind or "it failed", session_id=session_id, raw=event)


def provider_error(event: Mapping[str, Any], said: str) -> Error:
    """What the provider answered to the program: the error of an event that tells of it."""
    status = count(event.get("api_error_status")) or 0
    status = status if 400 <= status <= 599 else 0
    message = one_line(said, LONGEST_MESSAGE) or f"its provider answered with an error (HTTP {status or 'unknown'})"
    return Error(category=_category(event, said, status), message=message, status=status, raw=event)


def _category(event: Mapping[str, Any], said: str, status: int) -> Category:
    if any(words in said.lower() for words in _QUOTA):
        return "quota"
    if any(words in said.lower() for words in _CUT):
        return "cut"
    if text_at(event, "api_error") == "connection_failed":
        return "network"
    if status:
        return category_in(said, status)
    by_words = category_in(said)
    if by_words != "failed":
        return by_words
    return _NAMED.get(text_at(event, "error")) or _NAMED.get(text_at(event, "api_error_type")) or by_words


def judged(exit_code: int | None, stderr_tail: str) -> Error | None:
    """What it failed of when it said so on its standard error alone; None if its words are not known."""
    said = last_line(stderr_tail)
    if exit_code in _SIGNALLED:
        return Error(category="interrupted", message=said or f"it was ended by signal {_SIGNALLED[exit_code]}")
    if any(words in stderr_tail for words in _NO_SESSION):
        return Error(category="session_not_found", message=said)
    if "cannot be used with root" in stderr_tail:
        return Error(category="failed", message=_ROOT)
    return None


# --- counts -----------------------------------------------------------------------------------------------------------


def spent_of(event: Mapping[str, Any], *, resumed: bool) -> Spent | None:
    """What the turns of a result cost. Of an older program, which does not count this, `usage`; then the cost in money
    is known only if the session is not `resumed`."""
    since = event.get("model_usage_since_last_result")
    if isinstance(since, dict):
        return _of_models(since.values())
    spent = messages_usage(event.get("usage"))
    cost = None if resumed else amount(event.get("total_cost_usd"))
    if spent is None:
        return Spent(cost_usd=cost) if cost is not None else None
    return sum_of(spent, Spent(0, 0, 0, 0, cost)) if cost is not None else spent


def total_of(event: Mapping[str, Any]) -> Spent | None:
    """What the session has cost so far."""
    models = event.get("modelUsage")
    return _of_models(models.values()) if isinstance(models, dict) and models else None


def _of_models(models: Iterable[object]) -> Spent:
    total = Spent(0, 0, 0, 0, 0.0)
    for model in models:
        found = mapping(model)
        cached = count(found.get("cacheReadInputTokens")) or 0
        given = (count(found.get("inputTokens")) or 0) + (count(found.get("cacheCreationInputTokens")) or 0)
        made, thought = count(found.get("outputTokens")) or 0, count(found.get("thinkingTokens")) or 0
        total = sum_of(total, Spent(given + cached, made, cached, thought, amount(found.get("costUSD"))))
    return total


def messages_usage(usage: object) -> Spent | None:
    """The usage of a message as the Messages API counts it: its input is what was read from the cache, what was
    written to it, and the rest. None where nothing is counted."""
    found = mapping(usage)
    cached = count(found.get("cache_read_input_tokens"))
    rest, written = count(found.get("input_tokens")), count(found.get("cache_creation_input_tokens"))
    made = count(found.get("output_tokens"))
    if rest is None and made is None:
        return None
    given = None if rest is None else rest + (written or 0) + (cached or 0)
    return Spent(given, made, cached, count(field(found, "output_tokens_details", "thinking_tokens")))
