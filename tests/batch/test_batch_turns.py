"""Flows and priorities of a batch: what stands in a line reaches the schedule, and decides who is sent first."""

from __future__ import annotations

from collections import Counter

import pytest
from batch_runs import AT_HOME, as_bytes, plain, plan, run_batch

from engine.config import parse_config

WEIGHTS = parse_config("[lanes.batch.weights]\nheavy = 3", "c.toml")


def test_flow_and_priority_reach_the_schedule() -> None:
    """As the line says, and their defaults where it says nothing."""
    body = {"messages": [{"role": "user", "content": plan()}]}
    run = run_batch(as_bytes([plain(flow="a"), plain(priority=-3), {"body": body, "flow": "b", "priority": 2}]))
    assert sorted(run.turns) == [("", -3), ("a", 0), ("b", 2)]


def test_a_value_that_is_none_is_its_line_s_error() -> None:
    """The lines around it are sent, in their own turns."""
    wrong = [plain(priority="high"), plain(priority=0.5), plain(flow=7), plain(flow="x" * 201)]
    run = run_batch(as_bytes([plain(flow="a"), *wrong, plain(priority=1)]))
    codes = {row["id"]: row["error"] and row["error"]["code"] for row in run.rows}
    assert codes == {"line-1": None, "line-6": None, **{f"line-{number}": "invalid_call" for number in range(2, 6)}}
    assert sorted(run.turns) == [("", 1), ("a", 0)]
    assert (run.tally.failed, run.tally.unusable) == (4, 4)


@pytest.mark.parametrize("concurrency", [None, 30])
def test_flows_share_the_limit_by_the_weights_of_the_configuration(concurrency: int | None) -> None:
    """One flow's lines all stand before the other's, and both are served, three to one, up to one call of each."""
    mixed = [plain(flow=flow) for flow in ("light", "heavy") for _ in range(60)]
    settings = AT_HOME._replace(config=WEIGHTS, limit_requests=20, period_s=10.0, concurrency=concurrency)
    run = run_batch(as_bytes(mixed), settings)
    assert run.tally.completed == 120
    served = Counter(flow for flow, _ in run.turns[20:80])
    assert abs(served["heavy"] / 3 - served["light"]) <= 1 / 3 + 1


def test_the_more_urgent_lines_go_first_wherever_they_stand() -> None:
    mixed = [plain(priority=5) for _ in range(30)] + [plain(priority=-5) for _ in range(10)]
    run = run_batch(as_bytes(mixed), AT_HOME._replace(limit_requests=10, period_s=10.0))
    assert [priority for _, priority in run.turns[10:20]] == [-5] * 10
