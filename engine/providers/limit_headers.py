"""Limit headers: what a provider says of its limits beside an answer, as quantities the scheduler can hold its own to.

A rule names three headers and what they count. Where a provider documents the period it stands in the rule; where
requests per minute and per day share one header, the headers themselves must tell: `reset` is the time until nothing is
used any more, so a bucket's period is reset * limit / used. What tells no period is not reported: a limit taken for
that of another period would be kept in the wrong place. A limit of zero or less is unknown (Azure).

Names and meanings: platform.openai.com/docs/guides/rate-limits, console.groq.com/docs/rate-limits,
docs.anthropic.com/en/api/rate-limits, openrouter.ai/docs/limits, deepdik/inferneo-docs, all read 2026-11-20.

Pure: no trio, no I/O, no clock. Never raises, whatever a provider sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from actors.messages import Dimension, Observed
from engine.retry import instant_s, wait_s

MINUTE_S = 60.0
DAY_S = 86_400.0

_MOST_DIGITS = 15
_INSTANT_CHARS = 10
"""No instant is written shorter."""
_LATE = 1.5
"""A reset this many periods away belongs to another period."""
_HOUR_S = 3_600.0
_LONGEST_S = 366 * DAY_S


class _Rule(NamedTuple):
    """Three headers about one limit. `period_s` is 0 where a minute and a day are told apart by what they say, and None
    where only the lane that asks can know its length. No `reset`: nothing can be learned from it."""

    dimension: Dimension
    limit: str
    remaining: str
    reset: str
    period_s: float | None


def _openai_names(what: str, dimension: Dimension, period_s: float | None) -> _Rule:
    tail = f"-{what}" if what else ""
    return _Rule(
        dimension, f"x-ratelimit-limit{tail}", f"x-ratelimit-remaining{tail}", f"x-ratelimit-reset{tail}", period_s
    )


def _anthropic_names(what: str, dimension: Dimension) -> _Rule:
    head = f"anthropic-ratelimit-{what}"
    return _Rule(dimension, f"{head}-limit", f"{head}-remaining", "", MINUTE_S)


_ANYBODY = (
    _openai_names("requests", "requests", None),
    _openai_names("tokens", "total_tokens", None),
    _openai_names("", "requests", None),
)
_RULES: dict[str, tuple[_Rule, ...]] = {
    # On the tiers where the limit per day binds, its numbers stand in the header for requests.
    "openai": (
        _openai_names("requests", "requests", 0.0),
        _openai_names("tokens", "total_tokens", MINUTE_S),
    ),
    "groq": (
        _openai_names("requests", "requests", DAY_S),
        _openai_names("tokens", "total_tokens", MINUTE_S),
    ),
    "anthropic": (
        _anthropic_names("requests", "requests"),
        _anthropic_names("tokens", "total_tokens"),
        _anthropic_names("input-tokens", "input_tokens"),
        _anthropic_names("output-tokens", "output_tokens"),
    ),
    # Of its free models: 20 a minute, and so many a day until midnight UTC.
    "openrouter": (_openai_names("", "requests", 0.0),),
    # Documented, with 60 a minute; the server itself sends none. What resets later than that is of its day.
    "inferneo": (_openai_names("", "requests", MINUTE_S),),
}


def read_limits(provider: str, headers: Mapping[str, str], now_s: float) -> tuple[Observed, ...]:
    """What the headers (lower-case names) of an answer say of the limits; nothing of what they do not say clearly.

    A provider without rules of its own is taken to use OpenAI's names. `now_s` is Unix time; resets that are instants
    are counted from the answer's own date.
    """
    rules = _RULES.get(provider, _ANYBODY)
    if not any(rule.limit in headers or rule.remaining in headers for rule in rules):
        return ()
    found = [_observed(rule, headers, now_s) for rule in rules]
    return tuple([one for one in found if one is not None])


def _observed(rule: _Rule, headers: Mapping[str, str], now_s: float) -> Observed | None:
    limit = _count(headers.get(rule.limit, ""))
    remaining = _count(headers.get(rule.remaining, ""))
    if limit == 0 or (limit < 0 and headers.get(rule.limit)):
        return None  # "unknown", and so is what is left of it
    if limit < 0 and remaining < 0:
        return None
    reset = headers.get(rule.reset, "") if rule.reset else ""
    reset_s = _reset_s(reset, headers, now_s) if reset else None
    period_s = _period_s(rule.period_s, limit, remaining, reset_s, at_midnight=_is_midnight(reset))
    if period_s is None:
        return None
    reset_us = -1 if reset_s is None else round(min(reset_s, _LONGEST_S) * 1e6)
    return Observed(rule.dimension, limit, remaining, reset_us, round(period_s * 1e6))


def _reset_s(reset: str, headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds until a reset. One that is an instant counts from the answer's own date."""
    if len(reset) >= _INSTANT_CHARS:
        told_s = instant_s(headers.get("date", ""))
        now_s = now_s if told_s is None else told_s
    return wait_s(reset, now_s)


def _period_s(
    documented_s: float | None, limit: int, remaining: int, reset_s: float | None, *, at_midnight: bool
) -> float | None:
    """The period these numbers are about, 0 if it is for the lane to recognise, None if nobody can say."""
    if documented_s:
        return None if reset_s is not None and reset_s > _LATE * documented_s else documented_s
    if reset_s is None or not 0 <= remaining < limit:
        return None  # nothing used, or nothing said of it: a full day looks like a full minute
    implied_s = reset_s * limit / (limit - remaining)
    if documented_s is None:
        return DAY_S if reset_s > _LATE * _HOUR_S or _is_about(implied_s, DAY_S) else 0.0
    if at_midnight:
        return None if reset_s <= _LATE * MINUTE_S else DAY_S  # the last minute of a day ends there, too
    return DAY_S if reset_s > _LATE * MINUTE_S or implied_s > _HOUR_S else MINUTE_S


def _is_about(value_s: float, period_s: float) -> bool:
    return 0.9 * period_s <= value_s <= 1.1 * period_s


def _is_midnight(text: str) -> bool:
    """Whether a reset is an instant (epoch milliseconds) at which a day begins in UTC."""
    return len(text) == 13 and text.isascii() and text.isdigit() and int(text) % 86_400_000 == 0


def _count(text: str) -> int:
    """A whole number that is not negative, else -1."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else -1
