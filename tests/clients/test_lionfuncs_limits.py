"""An executor's limits, exact, in virtual time: what lionfuncs promises and does not keep."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from lion_server import CONFIG, scripted

from actors.limits import Quota
from engine.clients.lionfuncs import Executor, NetworkRequestEvent, RequestStatus, iModel
from engine.clients.lionfuncs.rates import bucket
from engine.errors import CapacityExceeded, UsageError
from engine.testing import ScriptedProvider, error_reply, in_virtual_time

YEAR_S = 366 * 86_400


async def submit(model: iModel, count: int, **arguments: Any) -> list[NetworkRequestEvent]:
    return [await model.acompletion(f"prompt {number}", **arguments) for number in range(count)]


# --- requests ---


@in_virtual_time
async def test_thirty_calls_at_five_a_second_never_go_together() -> None:
    """lionfuncs lets 5 go, and then 25 at once: each waits for the same instant. (L1)"""
    provider = ScriptedProvider(delay_s=0.001)
    async with scripted(provider, requests_rate=5.0) as executor:
        events = await submit(iModel(executor, CONFIG), 30)
    assert {event.status for event in events} == {RequestStatus.COMPLETED}
    # The period is a hundredth longer, against jitter.
    assert provider.times == [0.0] * 5 + [round(number * 0.202, 3) for number in range(1, 26)]
    assert provider.times[-1] >= (30 - 5) / 5


@pytest.mark.parametrize(
    ("rate", "period_s", "capacity", "held"),
    [(5.0, 1.0, None, 5), (3.5, 1.0, 10, 10), (0.5, 1.0, None, 1), (2, 60, 1.9, 1)],
)
def test_a_rate_holds_after_its_burst(rate: float, period_s: float, capacity: float | None, held: int) -> None:
    @in_virtual_time
    async def run() -> None:
        provider = ScriptedProvider(delay_s=0.001)
        limits = {"requests_rate": rate, "requests_period": period_s, "requests_bucket_capacity": capacity}
        async with scripted(provider, **limits) as executor:
            await submit(iModel(executor, CONFIG), held + 12)
        assert provider.times[:held] == [0.0] * held
        longer_s = min(0.05, period_s / 100)
        for number, at_s in enumerate(provider.times[held:], 1):
            assert number * period_s / rate <= at_s <= number * (period_s + longer_s) / rate + 0.001

    run()


@in_virtual_time
async def test_ten_are_in_flight_by_default() -> None:
    """lionfuncs has five workers, and never reaches its `concurrency_limit` of ten."""
    provider = ScriptedProvider(delay_s=100)
    async with Executor(transport=provider, num_workers=1) as executor:
        events = await submit(iModel(executor, CONFIG), 25)
    assert provider.most_in_flight == 10
    assert {event.status for event in events} == {RequestStatus.COMPLETED}


@in_virtual_time
async def test_more_may_be_in_flight_and_queued_than_an_engine_usually_takes() -> None:
    provider = ScriptedProvider(delay_s=100)
    async with scripted(provider, concurrency_limit=1_200, queue_capacity=2_000_000) as executor:
        await submit(iModel(executor, CONFIG), 1_300)
        assert executor.engine._config.engine.max_queued == 2_000_000
    assert provider.most_in_flight == 1_200
    async with scripted(provider, queue_capacity=5) as executor:
        assert executor.engine._config.engine.max_queued == 1_000_000


@in_virtual_time
async def test_all_models_of_an_executor_share_its_limits() -> None:
    provider = ScriptedProvider(delay_s=1)
    async with scripted(provider, concurrency_limit=3, requests_rate=4.0) as executor:
        others = [{**CONFIG, "endpoint": "edits"}, {**CONFIG, "base_url": "https://other.example"}]
        for model in (iModel(executor, config) for config in (CONFIG, *others)):
            await submit(model, 4)
    assert len(provider.accounts) == 3
    assert provider.most_in_flight == 3
    assert len(provider.requests) == 12


# --- tokens ---


@in_virtual_time
async def test_tokens_are_admitted_as_calls_say_they_consume_them() -> None:
    provider = ScriptedProvider(delay_s=0.001)
    limits = {"api_tokens_rate": 1000.0, "api_tokens_period": 10.0}
    async with scripted(provider, **limits) as executor:
        events = await submit(iModel(executor, CONFIG), 6, num_tokens_to_consume=500)
    assert provider.times == [0.0, 0.0, 5.025, 10.05, 15.075, 20.1]
    assert [event.num_api_tokens_needed for event in events] == [500] * 6
    assert "500 API tokens" in events[-1].logs[2]


@in_virtual_time
async def test_without_a_rate_tokens_are_no_limit() -> None:
    provider = ScriptedProvider(delay_s=1)
    async with scripted(provider) as executor:
        await submit(iModel(executor, CONFIG), 20, num_tokens_to_consume=10**9)
    assert provider.times == [0.0] * 20


@in_virtual_time
async def test_more_tokens_than_the_bucket_holds_fail_at_once_and_stop_nobody() -> None:
    """lionfuncs waits for the deficit, then sends it all the same. (L2)"""
    provider = ScriptedProvider(delay_s=0.001)
    async with scripted(provider, api_tokens_rate=1000.0, api_tokens_bucket_capacity=300.0) as executor:
        model = iModel(executor, CONFIG)
        large = await model.acompletion("all", num_tokens_to_consume=301)
        assert (large.status, large.error_type) == (RequestStatus.FAILED, "CapacityExceeded")
        assert "needs 301 API tokens and the executor's bucket holds at most 300" in (large.error_message or "")
        assert "raise api_tokens_rate or api_tokens_bucket_capacity" in (large.error_message or "")
        assert isinstance(large.call.error, CapacityExceeded)
        assert (large.call.error.requested, large.call.error.capacity) == (301, 300)
        fits = await model.acompletion("some", num_tokens_to_consume=300)
    assert fits.status is RequestStatus.COMPLETED
    assert provider.times == [0.0]
    assert large.completed_at is not None
    assert large.response_status_code is None


# --- over a restart ---


@in_virtual_time
async def test_a_restart_does_not_refill_the_buckets() -> None:
    """The limits are the executor's, and not of one run of it."""
    provider = ScriptedProvider(delay_s=0.001)
    executor = scripted(provider, requests_rate=2.0)
    model = iModel(executor, CONFIG)
    for _ in range(3):
        async with executor:
            await submit(model, 2)
    assert provider.times == [0.0, 0.0, 1.01, 1.01, 2.02, 2.02]


@in_virtual_time
async def test_a_restart_waits_for_what_was_used_of_any_bucket() -> None:
    provider = ScriptedProvider(delay_s=0.001)
    executor = scripted(provider, requests_rate=5.0, api_tokens_rate=100.0, api_tokens_period=100.0)
    model = iModel(executor, CONFIG)
    async with executor:
        await submit(model, 2, num_tokens_to_consume=10)
        await trio.sleep(5)
    async with executor:
        assert trio.current_time() == pytest.approx(20.01, abs=0.001)
        await executor.submit_task(trio.lowlevel.checkpoint, num_api_tokens_needed=30)
    async with executor:
        assert trio.current_time() == pytest.approx(20.01 + 30 * 1.0005, abs=0.001)
    assert trio.current_time() < 51


@in_virtual_time
async def test_what_was_tried_again_counts_in_a_restart() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=0.001), "yes"], delay_s=0.001)
    executor = scripted(provider, requests_rate=2.0)
    async with executor:
        await submit(iModel(executor, CONFIG), 1)
    async with executor:
        assert trio.current_time() > 1


def test_another_run_of_trio_has_another_clock() -> None:
    provider = ScriptedProvider(delay_s=0.001)
    executor = scripted(provider, requests_rate=1.0)

    @in_virtual_time
    async def run() -> None:
        await trio.sleep(next(begin))
        for _ in range(2):
            async with executor:
                await submit(iModel(executor, CONFIG), 1)

    begin = iter((1_000, 0))
    for _ in range(2):
        run()
    assert provider.times == [1_000.0, 1_001.01, 0.0, 1.01]


# --- the queue ---


@in_virtual_time
async def test_a_full_queue_holds_submitters_back_and_loses_nobody() -> None:
    """lionfuncs tries for a tenth of a second, and then gives back an event that is QUEUED for ever. (L3)"""
    provider = ScriptedProvider(delay_s=10)
    async with scripted(provider, queue_capacity=2, concurrency_limit=1) as executor:
        model, events, at_s = iModel(executor, CONFIG), [], []
        for number in range(6):
            events.append(await model.acompletion(f"{number}"))
            at_s.append(trio.current_time())
    assert at_s == [0.0, 0.0, 0.0, 10.0, 20.0, 30.0]
    assert {event.status for event in events} == {RequestStatus.COMPLETED}
    assert provider.times == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]


# --- rates as quotas ---

RATES = st.one_of(
    st.integers(1, 10**9),
    st.floats(1e-6, 1e9),
    st.decimals("0.001", "10000", places=3).map(float),
    st.integers(1, 1000).map(lambda number: number / 3),
)


@example(rate=180143985.31835938, period_s=0.5, capacity=None)
@example(rate=1 << 53, period_s=1e-6, capacity=None)
@given(rate=RATES, period_s=st.one_of(st.integers(1, 86_400), st.floats(1e-3, 1e6)), capacity=st.none() | RATES)
def test_a_quota_is_never_more_than_the_rate(rate: float, period_s: float, capacity: float | None) -> None:
    capacity = None if capacity is None else max(1, capacity)
    exact = Fraction(repr(rate)) / Fraction(repr(period_s))
    try:
        quota = bucket("requests", "requests", rate, period_s, capacity)
    except UsageError:
        assert 1 / exact > YEAR_S
        return
    assert quota is not None
    spec = quota.spec(1)
    admitted = Fraction(spec.limit * 1_000_000, spec.period_us)
    assert exact * (1 - Fraction(2, spec.period_us)) <= admitted <= exact
    assert spec.burst == max(1, math.floor(rate if capacity is None else capacity))
    assert 0 < spec.guard_us <= math.ceil(spec.period_us / 100) + 1


@pytest.mark.parametrize(
    ("rate", "period_s", "limit", "whole_s"),
    [(10.0, 1.0, 10, 1.0), (3.5, 1.0, 7, 2.0), (0.1, 1.0, 1, 10.0), (10_000.0, 60.0, 10_000, 60.0), (0.3, 0.1, 3, 1.0)],
)
def test_a_rate_is_kept_exactly(rate: float, period_s: float, limit: int, whole_s: float) -> None:
    quota = bucket("requests", "requests", rate, period_s, None)
    assert isinstance(quota, Quota)
    assert (quota.limit, quota.period_s) == (limit, whole_s)


BAD = {
    "requests_rate": [0, -1.0, math.inf, math.nan, "10", True, 1 << 60],
    "requests_period": [0, -1, None, math.inf, "1", 1e-9, 1e10],
    "requests_bucket_capacity": [0, 0.5, -3, "5", math.nan],
    "api_tokens_rate": [0, -1.0, math.inf, "many"],
    "api_tokens_period": [0, None, []],
    "api_tokens_bucket_capacity": [0],
    "queue_capacity": [0, -1, 2.5, None, True, "10"],
    "concurrency_limit": [0, -1, 2.5, "10", True],
    "num_workers": [0, -1, 2.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_limit_out_of_range_is_refused_by_its_name(name: str, value: object) -> None:
    limits = {"api_tokens_rate": 5.0, name: value}
    with pytest.raises(UsageError, match=name):
        Executor(**limits)


class Fancy(float):
    """As numpy's float64: its repr is not that of a number."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"


class Whole(int):
    def __repr__(self) -> str:
        return f"<{int(self)}>"


def test_numbers_of_other_libraries_are_numbers() -> None:
    assert bucket("requests", "requests", Fancy(3.5), Whole(1), Fancy(4)) == bucket("requests", "requests", 3.5, 1, 4)
    assert Executor(requests_rate=Fancy(0.1)).lane == Executor(requests_rate=0.1).lane


def test_less_than_one_a_year_is_refused() -> None:
    with pytest.raises(UsageError, match=r"api_tokens_rate must be at least one a year"):
        Executor(api_tokens_rate=0.5, api_tokens_period=YEAR_S)
    assert Executor(api_tokens_rate=1.0, api_tokens_period=YEAR_S, api_tokens_bucket_capacity=5).lane.quotas


def test_the_constructor_is_lionfuncs() -> None:
    executor = Executor(1000, 10, 10.0, 1.0, None, None, 60.0, None, 5)
    assert executor.lane == Executor().lane
    (requests,) = Executor().lane.quotas or ()
    assert (requests.limit, requests.period_s, requests.burst) == (10, 1.0, 10)
    assert (executor.lane.queue_capacity, executor.lane.concurrency_limit) == (1000, 10)
