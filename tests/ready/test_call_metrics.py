"""The counters and histograms of calls: what a user reads in them after calls that ended in every way."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import trio
from cached_calls import MESSAGES, PRE, a_model, at_once, cached_engine, in_virtual_time
from hypothesis import given
from hypothesis import strategies as st

from engine import Call, HookRegistry, UsageError
from engine.ready.call_metrics import BUCKETS_S, CallMetrics, Histogram, ModelMetrics
from engine.ready.response_cache import ResponseCache
from engine.testing import ScriptedProvider, chat_reply, error_reply, run_virtual


def with_metrics(metrics: CallMetrics, *others: Any, **arguments: Any) -> Any:
    return a_model(hooks=HookRegistry().use(*others, metrics), **arguments)


def only_row(metrics: CallMetrics) -> ModelMetrics:
    (row,) = metrics.statistics().models
    return row


def put_into(histogram: Histogram, *spans_s: float) -> list[int]:
    """Where these spans belong, counted the slow way."""
    counts = [0] * (len(histogram.bounds_s) + 1)
    for span_s in spans_s:
        counts[sum(bound_s < span_s for bound_s in histogram.bounds_s)] += 1
    return counts


@in_virtual_time
async def test_what_calls_cost_and_took() -> None:
    metrics = CallMetrics()
    replies = [chat_reply("a", input_tokens=9, output_tokens=3), error_reply(500), "b", error_reply(400)]
    model = with_metrics(metrics, limit_requests=100)
    async with cached_engine(ScriptedProvider(replies, delay_s=0.5)):
        calls = [await model.invoke(messages=MESSAGES) for _ in range(3)]
    row = only_row(metrics)
    assert (row.model, row.endpoint) == ("gpt-4o", model.endpoint_name)
    assert (row.begun, row.ended, row.errors) == (3, {"completed": 2, "failed": 1}, {"Rejected": 1})
    assert (row.attempts, row.reused) == (4, 0)
    usages = [call.usage for call in calls if call.usage is not None]
    assert row.input_tokens == sum(usage.input_tokens or 0 for usage in usages) >= 9
    assert row.output_tokens == sum(usage.output_tokens or 0 for usage in usages) >= 3
    totals = [call.timings.total_s for call in calls if call.timings is not None]
    assert list(row.total_s.counts) == put_into(row.total_s, *totals)
    assert row.total_s.count == 3
    assert row.total_s.sum_s == pytest.approx(sum(totals))
    assert row.total_s.max_s == pytest.approx(max(totals))
    assert row.answering_s.max_s == pytest.approx(0.5)
    assert row.first_chunk_s.count == 0


@pytest.mark.parametrize("first", [True, False])
@in_virtual_time
async def test_what_a_cache_answered_is_not_paid_for_twice(first: bool) -> None:
    """Wherever the cache stands."""
    metrics, cache = CallMetrics(), ResponseCache()
    registry = HookRegistry().use(*((cache, metrics) if first else (metrics, cache)))
    async with cached_engine(ScriptedProvider(chat_reply("a", input_tokens=9, output_tokens=3))):
        model = a_model(hooks=registry)
        await at_once(5, model)
        await model.invoke(messages=MESSAGES)
    row = only_row(metrics)
    assert (row.begun, row.ended, row.reused, row.attempts) == (6, {"completed": 6}, 5, 1)
    assert (row.input_tokens, row.output_tokens) == (9, 3)
    assert (row.total_s.count, row.answering_s.count) == (6, 1)


@in_virtual_time
async def test_a_call_has_begun_once_though_its_handlers_ran_twice() -> None:
    metrics = CallMetrics()
    async with cached_engine(ScriptedProvider("yes", delay_s=1)) as engine:
        model = with_metrics(metrics, ResponseCache())
        calls = [engine.submit_nowait(model.create_api_calling(messages=MESSAGES)) for _ in range(3)]
        await trio.sleep(0.5)
        calls[0].cancel()
        for call in calls:
            await call.wait()
    row = only_row(metrics)
    assert (row.begun, row.ended.get("completed"), row.errors.get("CallCancelled", 1)) == (3, 2, 1)


@in_virtual_time
async def test_what_its_handlers_refused_has_begun_and_was_not_sent() -> None:
    async def refuse(event: Call, **kw: Any) -> None:
        raise ValueError("no")

    metrics = CallMetrics()
    async with cached_engine(ScriptedProvider("yes")):
        await a_model(hooks=HookRegistry({PRE: refuse}).use(metrics)).invoke(messages=MESSAGES)
    row = only_row(metrics)
    assert (row.begun, row.ended, row.attempts) == (1, {}, 0)


@in_virtual_time
async def test_models_are_told_apart_up_to_a_bound() -> None:
    metrics = CallMetrics(max_models=2)
    async with cached_engine(ScriptedProvider("yes"), HookRegistry().use(metrics)):
        for number in (0, 1, 2, 3, 1):
            await a_model(model=f"gpt-{number}").invoke(messages=MESSAGES)
        await a_model(model="gpt-0", base_url="http://127.0.0.1:9/v1").invoke(messages=MESSAGES)
    rows = metrics.statistics().models
    assert [(row.model, row.begun, row.ended) for row in rows] == [
        ("gpt-0", 1, {"completed": 1}),
        ("gpt-1", 2, {"completed": 2}),
        ("others", 3, {"completed": 3}),
    ]
    assert rows[-1].endpoint == "others"


@given(
    st.lists(st.floats(0.001, 20), min_size=1, max_size=5, unique=True).map(sorted),
    st.lists(st.floats(0.001, 30), max_size=8),
)
def test_a_histogram_counts_what_a_naive_one_does(bounds_s: list[float], delays_s: list[float]) -> None:
    metrics = CallMetrics(bounds_s)
    seen: list[float] = []

    async def main() -> None:
        model = with_metrics(metrics)
        async with cached_engine(ScriptedProvider([chat_reply("a", delay_s=delay_s) for delay_s in delays_s or [1.0]])):
            for _ in delays_s:
                timings = (await model.invoke(messages=MESSAGES)).timings
                assert timings is not None
                assert timings.answering_s is not None
                seen.append(timings.answering_s)

    run_virtual(main)
    for row in metrics.statistics().models:
        assert list(row.answering_s.counts) == put_into(row.answering_s, *seen)
        assert row.answering_s.bounds_s == tuple(bounds_s)


@in_virtual_time
async def test_statistics_are_a_copy() -> None:
    metrics = CallMetrics()
    async with cached_engine(ScriptedProvider("yes")):
        model = with_metrics(metrics)
        await model.invoke(messages=MESSAGES)
        before = metrics.statistics()
        await model.invoke(messages=MESSAGES)
    assert before.models[0].ended == {"completed": 1}
    assert only_row(metrics).ended == {"completed": 2}
    assert repr(metrics) == "<CallMetrics: 2 calls begun, 2 ended, 1 models>"


@in_virtual_time
async def test_the_text_for_prometheus() -> None:
    metrics = CallMetrics([0.25, 1.0])
    async with cached_engine(ScriptedProvider(chat_reply('"\\\n', input_tokens=9, output_tokens=3), delay_s=0.5)):
        await with_metrics(metrics, model='a"b\\c\nd').invoke(messages=MESSAGES)
    lines = metrics.prometheus().splitlines()
    labels = 'model="a\\"b\\\\c\\nd",endpoint="openai https://api.openai.com/v1/chat/completions"'
    for line in (
        f"penstock_calls_begun_total{{{labels}}} 1",
        f'penstock_calls_ended_total{{{labels},status="completed"}} 1',
        f"penstock_calls_input_tokens_total{{{labels}}} 9",
        f'penstock_call_answering_seconds_bucket{{{labels},le="0.25"}} 0',
        f'penstock_call_answering_seconds_bucket{{{labels},le="1.0"}} 1',
        f'penstock_call_answering_seconds_bucket{{{labels},le="+Inf"}} 1',
        f"penstock_call_answering_seconds_count{{{labels}}} 1",
    ):
        assert line in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == 12
    assert CallMetrics().prometheus().count("# TYPE") == 12


@pytest.mark.parametrize(
    "arguments",
    [{"buckets_s": value} for value in ([], [0.0], [-1.0], [1.0, 1.0], [2.0, 1.0], [math.inf], [math.nan], ["a"])]
    + [{"max_models": value} for value in (0, 1.5, True)],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CallMetrics(**arguments)


def test_the_default_bounds_are_exponential() -> None:
    assert BUCKETS_S[0] == 0.001
    assert all(bound == pytest.approx(2 * before) for before, bound in itertools.pairwise(BUCKETS_S))
