"""Limit headers, read: whose, of what, per what period, and when nothing can be concluded.

One table of what providers send; the recorded sets among the fixtures; and no header that raises anything.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Observed
from engine.providers.limit_headers import read_limits

FIXTURES = Path(__file__).parent / "fixtures"
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
NOON = "Thu, 21 Aug 2025 12:00:00 GMT"
NOON_S = 1_755_777_600.0


def recorded(folder: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((FIXTURES / folder / "ratelimit_headers.json").read_bytes())
    return found


def openai(what: str, limit: object, remaining: object, reset: str) -> dict[str, str]:
    """One family of OpenAI's headers."""
    tail = f"-{what}" if what else ""
    return {
        f"x-ratelimit-limit{tail}": str(limit),
        f"x-ratelimit-remaining{tail}": str(remaining),
        f"x-ratelimit-reset{tail}": reset,
    }


def test_openai_recorded() -> None:
    """12 ms for one of 5,000 requests is a minute. Six minutes for a limit per minute is of another: nothing said."""
    assert read_limits("openai", recorded("openai_chat"), 0.0) == (
        Observed("requests", 5_000, 4_999, 12_000, MINUTE_US),
    )


def test_groq_recorded() -> None:
    """Requests are per day, tokens per minute."""
    assert read_limits("groq", recorded("groq_chat"), 0.0) == (
        Observed("requests", 14_400, 14_370, 179_560_000, DAY_US),
        Observed("total_tokens", 18_000, 17_997, 7_660_000, MINUTE_US),
    )


def test_anthropic_recorded() -> None:
    """All four families, each of a minute; when they are full again matters to nobody."""
    assert read_limits("anthropic", recorded("anthropic_messages"), 0.0) == (
        Observed("requests", 1_000, 999, -1, MINUTE_US),
        Observed("total_tokens", 96_000, 96_000, -1, MINUTE_US),
        Observed("input_tokens", 80_000, 80_000, -1, MINUTE_US),
        Observed("output_tokens", 16_000, 16_000, -1, MINUTE_US),
    )


# fmt: off
SAID: tuple[tuple[str, str, dict[str, str], tuple[Observed, ...]], ...] = (
    ("a day's requests at openai", "openai", openai("requests", 10_000, 9_999, "8.64s"),
     (Observed("requests", 10_000, 9_999, 8_640_000, DAY_US),)),
    ("a day nearly used up", "openai", openai("requests", 10_000, 100, "23h45m36s"),
     (Observed("requests", 10_000, 100, 85_536_000_000, DAY_US),)),
    ("a minute nearly used up", "openai", openai("requests", 500, 1, "59.88s"),
     (Observed("requests", 500, 1, 59_880_000, MINUTE_US),)),
    ("nothing used: a day or a minute", "openai", openai("requests", 500, 500, "0s"), ()),
    ("tokens are per minute though nothing is used", "openai", openai("tokens", 30_000, 30_000, "0s"),
     (Observed("total_tokens", 30_000, 30_000, -1, MINUTE_US),)),
    ("azure does not know", "openai", openai("requests", -1, -1, "0"), ()),
    ("azure does not know either", "openai", openai("tokens", 0, 0, "0"), ()),
    ("azure's whole seconds", "openai", openai("requests", 60, 57, "3"),
     (Observed("requests", 60, 57, 3_000_000, MINUTE_US),)),
    ("openrouter's minute", "openrouter", openai("", 20, 0, "1755777630000"),
     (Observed("requests", 20, 0, 30_000_000, MINUTE_US),)),
    ("openrouter's day", "openrouter", openai("", 50, 0, "1755820800000"),
     (Observed("requests", 50, 0, 43_200_000_000, DAY_US),)),
    ("somebody's window, for the lane to recognise", "own", openai("requests", 100, 60, "1.5s"),
     (Observed("requests", 100, 60, 1_500_000, 0),)),
    ("somebody's day", "own", openai("requests", 1_440, 1_439, "1m0s"),
     (Observed("requests", 1_440, 1_439, 60_000_000, DAY_US),)),
    ("somebody's day, fixed", "own", openai("tokens", 1_000, 10, "5h0m0s"),
     (Observed("total_tokens", 1_000, 10, 18_000_000_000, DAY_US),)),
    ("more left than there is", "own", openai("requests", 10, 11, "1s"), ()),
    ("no reset", "own", openai("requests", 10, 5, ""), ()),
    ("only what is left of a documented period", "groq", {"x-ratelimit-remaining-tokens": "7"},
     (Observed("total_tokens", -1, 7, -1, MINUTE_US),)),
    ("inferneo's minute, until an instant", "inferneo", openai("", 60, 59, "1755777630"),
     (Observed("requests", 60, 59, 30_000_000, MINUTE_US),)),
    ("inferneo's minute, in seconds", "inferneo", openai("", 60, 0, "12"),
     (Observed("requests", 60, 0, 12_000_000, MINUTE_US),)),
    ("inferneo's minute, of which nothing is used", "inferneo", openai("", 60, 60, "0"),
     (Observed("requests", 60, 60, 0, MINUTE_US),)),
    ("inferneo's day", "inferneo", openai("", 3_500, 3_000, "1755820800"), ()),
    ("none", "openai", {"x-request-id": "req"}, ()),
)
# fmt: on


@pytest.mark.parametrize(("provider", "headers", "said"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_what_is_said(provider: str, headers: dict[str, str], said: tuple[Observed, ...]) -> None:
    """Each of these means this and no more."""
    assert read_limits(provider, {**headers, "date": NOON}, NOON_S + 999) == said


def test_the_last_minute_before_midnight_is_nobodys() -> None:
    """A minute and a day both end at midnight: until then nothing tells them apart."""
    headers = openai("", 20, 0, "1755820800000")
    assert read_limits("openrouter", {**headers, "date": "Thu, 21 Aug 2025 23:59:30 GMT"}, 0.0) == ()


NAMES = sorted({*SAID[0][2], *recorded("openai_chat"), *recorded("anthropic_messages"), *SAID[8][2], "date"})


@given(
    st.sampled_from(["openai", "groq", "anthropic", "openrouter", "inferneo", "own"]),
    st.dictionaries(
        st.sampled_from(NAMES),
        st.text(max_size=20) | st.integers(-5, 10**40).map(str) | st.floats().map(str) | st.just("9" * 400 + "h"),
    ),
)
def test_no_header_raises(provider: str, headers: dict[str, str]) -> None:
    """Whatever stands in them; and what comes out can be sent on."""
    for said in read_limits(provider, headers, 0.0):
        assert said.limit != 0
        assert max(said.limit, said.remaining, said.reset_us, said.period_us) < 1 << 53
