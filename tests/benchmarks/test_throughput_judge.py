"""What the throughput benchmark reads out of a provider's log: spent, refusals, the fullest window, and its cases."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import throughput_under_limits as throughput
from engine.simulator import Arrival

OPTIONS: dict[str, Any] = {
    "cases": "abcdf", "calls": None, "limit": None, "tokens": None, "per": 1.0, "kind": "sliding_window",
    "latency": 0.3, "sigma": 0.5, "size": 100,
}  # fmt: skip


def log(*at_s: float, refused: str = "", tokens: int = 0) -> list[Arrival]:
    """Arrivals at these seconds."""
    return [Arrival(round(at * 1e6), str(at), 1, refused, input_tokens=tokens) for at in at_s]


def test_perfect_client_spends_everything() -> None:
    """Two at once under two per second, then two more a second later."""
    judged = throughput.judge(log(5.0, 5.0, 6.0, 6.0), [("requests", 2, 1.0)])
    assert judged["spent"] == 1.0
    assert judged["worst"] == {"2 requests per 1 s": 1.0}
    assert judged["steps_us"] == [0, 0, 1_000_000, 0]


def test_slow_client_and_one_that_goes_over() -> None:
    """Half as fast spends half; twice as fast fills the window twice."""
    slow = throughput.judge(log(0.0, 0.0, 2.0, 2.0), [("requests", 2, 1.0)])
    assert slow["spent"] == 0.5
    over = throughput.judge(log(0.0, 0.0, 0.5, 0.5), [("requests", 2, 1.0)])
    assert over["spent"] == 2.0
    assert over["worst"] == {"2 requests per 1 s": 2.0}


def test_slow_start_is_seen_in_whole_windows_only() -> None:
    """The formula of `spent_share` takes the first requests as they came; the stricter one does not."""
    judged = throughput.judge(log(0.0, 0.5, 1.0, 1.5), [("requests", 2, 1.0)])
    assert judged["spent"] == 1.0
    assert judged["spent_of_windows"] == pytest.approx(1.0 / 1.5)


def test_refused_requests_are_counted_and_are_no_part_of_the_span() -> None:
    """A refusal after the last accepted request does not make the run longer."""
    judged = throughput.judge([*log(0.0, 0.0, 1.0), *log(9.0, refused="requests")], [("requests", 2, 1.0)])
    assert judged["refused"] == {"requests": 1}
    assert judged["span_us"] == 1_000_000


def test_tightest_limit_is_the_bound() -> None:
    """Of a loose limit on requests and a tight one on input and output, the tight one says what was possible."""
    limits: list[throughput.Limit] = [("requests", 100, 1.0), ("total_tokens", 10, 1.0)]
    judged = throughput.judge(log(0.0, 1.0, 2.0, tokens=10), limits)
    assert judged["spent"] == judged["spent_of_windows"] == 1.0
    assert judged["tokens"] == [10, 10, 10]


def test_mixed_calls_are_one_in_twenty_forty_times_larger() -> None:
    """The mix that is promised, and the same for the same seed."""
    settings = {"calls": 900, "mixed": True, "seed": 1, "size": 100}
    prompts = list(throughput._prompts(settings))
    large = [cap for _, cap in prompts if cap > 10 * throughput.SMALL_CAP]
    assert len(large) == 45
    assert set(large) == {40 * throughput.SMALL_CAP}
    assert prompts == list(throughput._prompts(settings))
    assert prompts != list(throughput._prompts({**settings, "seed": 2}))


@pytest.mark.parametrize(("given", "names"), [("a", ["a"]), ("b, d", ["b", "d"]), ("f", ["f", "f"])])
def test_cases_by_letter(given: str, names: list[str]) -> None:
    """Letters choose cases; f is two of them."""
    cases = throughput.cases({**OPTIONS, "cases": given}, 1)
    assert [case.name.partition(":")[0] for case in cases] == names


def test_unknown_letter_is_refused() -> None:
    """A mistyped case is not silently left out."""
    with pytest.raises(ValueError, match="the cases are a b c d e f"):
        throughput.cases({**OPTIONS, "cases": "az"}, 1)


def test_limits_of_ones_own_make_one_case() -> None:
    """Requests and tokens of the user's choice, over his period, enforced as he says."""
    own = throughput.cases({**OPTIONS, "limit": 5, "tokens": 900, "per": 2.0, "kind": "token_bucket"}, 7)
    assert [case.name for case in own] == ["own"]
    assert own[0].settings["limits"] == [("requests", 5, 2.0), ("total_tokens", 900, 2.0)]
    assert (own[0].settings["kind"], own[0].settings["seed"]) == ("token_bucket", 7)
