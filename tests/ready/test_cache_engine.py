"""The response cache in an engine: what its users' calls become, and how many requests reach the provider."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from cached_calls import KEY, MESSAGES, POST, a_model, ask, at_once, behind, cached_engine, counts, in_virtual_time

from engine import Call, HookRegistry, Rejected, Vetoed, iModel, open_engine
from engine.ready.call_metrics import CallMetrics
from engine.ready.response_cache import ResponseCache
from engine.simulator import SimulatorConfig, serve
from engine.testing import ScriptedProvider, assert_quiet, error_reply

# --- one request ---


@in_virtual_time
async def test_a_hundred_identical_calls_are_one_request() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes")
    model = a_model(cache)
    async with cached_engine(provider):
        calls = await at_once(100, model)
        assert [(call.status, call.text) for call in calls] == [("completed", "yes")] * 100
        assert sorted(call.attempts for call in calls) == [0] * 99 + [1]
        assert len(provider.requests) == 1
        later = await model.invoke(messages=MESSAGES)
        assert (later.status, later.text, later.attempts) == ("completed", "yes", 0)
        assert later.usage == calls[0].usage
    assert len(provider.requests) == 1
    assert counts(cache) == (1, 99, 1)


@in_virtual_time
async def test_a_map_of_identical_calls_is_one_request() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes")
    model = a_model(cache)
    async with cached_engine(provider) as engine:
        calls = (model.create_api_calling(messages=MESSAGES) for _ in range(300))
        async with engine.map(calls, buffer=50) as done:
            assert [call.text async for call in done] == ["yes"] * 300
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_cache_of_the_engine_serves_all_its_models() -> None:
    provider = ScriptedProvider("yes")
    async with cached_engine(provider, HookRegistry().use(ResponseCache())):
        first, second = a_model(lane="one"), a_model(lane="two")
        await first.invoke(messages=MESSAGES)
        call = await second.invoke(messages=MESSAGES)
    assert (call.text, call.attempts, call.owner.lane_name, len(provider.requests)) == ("yes", 0, "two", 1)


@pytest.mark.parametrize(
    "other",
    [
        {"api_key": "sk-another"},
        {"model": "gpt-4o-mini"},
        {"base_url": "http://127.0.0.1:9/v1"},
        {"default_headers": {"x-tenant": "b"}},
        {"temperature": 0.5},
    ],
    ids=lambda other: next(iter(other)),
)
@in_virtual_time
async def test_what_makes_a_call_another(other: dict[str, Any]) -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes")
    async with cached_engine(provider):
        for model in (a_model(cache), a_model(cache, **other)):
            await at_once(3, model)
    assert len(provider.requests) == 2
    assert counts(cache) == (0, 4, 2)


@in_virtual_time
async def test_what_is_said_to_the_engine_alone_makes_no_difference() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes")
    model = a_model(cache)
    async with cached_engine(provider):
        await model.invoke(messages=MESSAGES)
        call = await model.invoke(
            messages=MESSAGES, priority=3, flow="a", deadline_s=9, timeout_s=8, metadata={"line": 7}
        )
    assert (call.text, call.attempts, call.metadata) == ("yes", 0, {"line": 7})
    assert len(provider.requests) == 1


@in_virtual_time
async def test_only_what_may_be_cached_is() -> None:
    cache = ResponseCache(only=lambda call: call.payload.get("temperature") == 0)
    provider = ScriptedProvider("yes")
    async with cached_engine(provider):
        model = a_model(cache)
        await at_once(3, model, temperature=0)
        await at_once(3, model, temperature=1)
    assert len(provider.requests) == 4
    assert counts(cache) == (0, 2, 1)


# --- streams ---


@in_virtual_time
async def test_a_stream_is_answered_from_the_cache_as_a_stream() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("hello world")
    model = a_model(cache)
    async with cached_engine(provider):
        texts = []
        for _ in range(3):
            async with model.stream(messages=MESSAGES) as chunks:
                texts.append("".join([str(chunk) async for chunk in chunks]))
                assert chunks.call.text == "hello world"
        assert texts == ["hello world"] * 3
        collected = await model.invoke(messages=MESSAGES, stream=True)
        assert (collected.text, collected.attempts) == ("hello world", 0)
        await model.invoke(messages=MESSAGES)
    assert len(provider.requests) == 2


@in_virtual_time
async def test_a_stream_that_its_reader_leaves_does_not_cost_the_others() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("hello world", delay_s=5)
    model, calls = a_model(cache), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            async with model.stream(messages=MESSAGES) as chunks:
                nursery.start_soon(lambda: ask(model, calls, stream=True))
                nursery.start_soon(lambda: ask(model, calls, stream=True))
                async for _ in chunks:
                    raise AssertionError("nothing comes so early")
    assert [call.text for call in calls] == ["hello world"] * 2
    assert len(provider.requests) == 2


# --- the call that leads ends otherwise ---


@in_virtual_time
async def test_a_call_that_fails_fails_for_all_and_is_not_kept() -> None:
    cache, provider = ResponseCache(), ScriptedProvider([error_reply(400), "yes"], delay_s=1)
    model = a_model(cache)
    async with cached_engine(provider):
        calls = await at_once(10, model)
        assert [type(call.error) for call in calls] == [Rejected] * 10
        assert len({str(call.error) for call in calls}) == 1
        assert len(provider.requests) == 1
        assert (await model.invoke(messages=MESSAGES)).text == "yes"
    assert cache.statistics().calls == 1


@pytest.mark.parametrize("after_s", [0.0, 0.5])
@pytest.mark.parametrize("how", ["call", "task"])
@in_virtual_time
async def test_when_the_call_that_leads_is_cancelled_one_other_takes_its_place(how: str, after_s: float) -> None:
    """Whether it is in its handlers still or in flight."""
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=1)
    model, calls = a_model(cache), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        leader = model.create_api_calling(messages=MESSAGES)
        scope = trio.CancelScope()

        async def lead() -> None:
            with scope:
                await model.invoke(leader)

        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked() if after_s else await trio.lowlevel.checkpoint()
        for _ in range(20):
            nursery.start_soon(lambda: ask(model, calls))
        if after_s:
            await trio.sleep(after_s)
        leader.cancel() if how == "call" else scope.cancel()
    assert leader.status in ("cancelled", "pending")
    assert [(call.status, call.text) for call in calls] == [("completed", "yes")] * 20
    assert len(provider.requests) <= 2
    assert sum(call.attempts for call in calls) == 1


@pytest.mark.parametrize("when_s", [0.5, 1.5, 2.5, 3.5])
@in_virtual_time
async def test_the_call_that_leads_may_be_taken_back_at_any_stage(when_s: float) -> None:
    """In a handler behind the cache, in line for a place, queued, in flight."""
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=1)

    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(1)

    model = a_model(
        hooks=behind(cache, pre_invoke=slow), limit_requests=1, interval=1, queue_capacity=1, concurrency_limit=1
    )
    calls: list[Call] = []
    async with cached_engine(provider), trio.open_nursery() as nursery:
        with trio.move_on_after(when_s):
            for number in range(2):
                nursery.start_soon(lambda n=number: ask(model, [], messages=[{"role": "user", "content": str(n)}]))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(_follow_later, model, calls)
            await model.invoke(messages=MESSAGES)
    assert [(call.status, call.text) for call in calls] == [("completed", "yes")] * 5


async def _follow_later(model: iModel, calls: list[Call]) -> None:
    await trio.sleep(0.1)
    calls.extend(await at_once(5, model))


@in_virtual_time
async def test_a_veto_of_one_call_is_not_the_others() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=1)

    async def refuse(event: Call, **kw: Any) -> None:
        await trio.sleep(1)
        if event.metadata.get("tenant") == "a":
            raise ValueError("tenant a has spent its budget")

    model, calls = a_model(hooks=behind(cache, pre_invoke=refuse)), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(model, calls, metadata={"tenant": "a"}))
        await trio.sleep(0.5)
        for _ in range(5):
            nursery.start_soon(lambda: ask(model, calls, metadata={"tenant": "b"}))
    assert isinstance(calls[0].error, Vetoed)
    assert [call.text for call in calls[1:]] == ["yes"] * 5
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_deadline_is_its_own_calls_alone() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=10)
    model, calls = a_model(cache), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(model, calls, deadline_s=5))
        await trio.sleep(1)
        nursery.start_soon(lambda: ask(model, calls))
        nursery.start_soon(lambda: ask(model, calls, deadline_s=2))
    assert [(call.status, call.text) for call in calls] == [("failed", None), ("failed", None), ("completed", "yes")]
    assert len(provider.requests) == 2


@in_virtual_time
async def test_a_call_that_is_refused_after_its_handlers_holds_up_nobody() -> None:
    """Its handler made it larger than the limit; that is known only once the followers are there."""
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=1)

    async def enlarge(event: Call, **kw: Any) -> Call | None:
        await trio.sleep(1)
        if event.metadata.get("large"):
            return model.create_api_calling(messages=MESSAGES, max_tokens=5000)
        return None

    model = a_model(hooks=behind(cache, pre_invoke=enlarge), limit_tokens=1000)
    async with cached_engine(provider) as engine, trio.open_nursery() as nursery:
        large = engine.submit_nowait(model.create_api_calling(messages=MESSAGES, max_tokens=9, metadata={"large": 1}))
        await trio.sleep(0.5)
        calls: list[Call] = []
        for _ in range(5):
            nursery.start_soon(lambda: ask(model, calls, max_tokens=9))
    assert large.status == "skipped"
    assert [call.text for call in calls] == ["yes"] * 5
    assert len(provider.requests) == 1


@in_virtual_time
async def test_an_answer_belongs_to_the_request_that_was_sent() -> None:
    """A handler behind the cache asks something else for one tenant: nobody else gets that answer, now or later."""
    cache = ResponseCache()
    provider = ScriptedProvider(lambda request: request.prompt, delay_s=1)

    async def rewrite(event: Call, **kw: Any) -> Call | None:
        if (tenant := event.metadata.get("tenant")) is None:
            return None
        return model.create_api_calling(messages=[{"role": "user", "content": f"hello {tenant}"}])

    model, calls = a_model(hooks=behind(cache, pre_invoke=rewrite)), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        for tenant in ("a", "b", None):
            metadata = {"tenant": tenant} if tenant else None
            nursery.start_soon(lambda metadata=metadata: ask(model, calls, metadata=metadata))
            await trio.sleep(0.1)
    said = {call.metadata.get("tenant"): call.text for call in calls}
    assert said == {"a": "hello a", "b": "hello b", None: "hello"}


@pytest.mark.parametrize("queue", ["finish", "discard"])
@in_virtual_time
async def test_a_drain_ends_the_calls_that_follow(queue: Any) -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=100)
    async with cached_engine(provider) as engine:
        model = a_model(cache)
        calls = [engine.submit_nowait(model.create_api_calling(messages=MESSAGES)) for _ in range(5)]
        await trio.sleep(1)
        await engine.drain(queue=queue, deadline_s=5)
        assert all(call.over for call in calls)
    assert {call.status for call in calls} <= {"failed", "aborted"}


@in_virtual_time
async def test_a_handler_after_the_call_that_hangs_does_not_hold_the_others_up_for_ever() -> None:
    """The deadline ends the handlers before the cache has heard of the outcome."""
    cache, provider = ResponseCache(), ScriptedProvider("yes", delay_s=1)

    async def hangs(event: Call, **kw: Any) -> None:
        if event.options.deadline_s is not None:
            await trio.sleep_forever()

    model, calls = a_model(cache, HookRegistry({POST: hangs})), list[Call]()
    async with cached_engine(provider), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(model, calls, deadline_s=5))
        await trio.sleep(0.5)
        nursery.start_soon(lambda: ask(model, calls))
    assert [call.text for call in calls] == ["yes"] * 2
    assert len(provider.requests) == 1


# --- what is kept ---


@in_virtual_time
async def test_an_answer_is_kept_for_its_time() -> None:
    cache, provider = ResponseCache(ttl_s=60), ScriptedProvider(["one", "two"], delay_s=1)
    model = a_model(cache)
    async with cached_engine(provider):
        texts = []
        for pause_s in (0, 30, 29, 2):
            await trio.sleep(pause_s)
            texts.append((await model.invoke(messages=MESSAGES)).text)
    assert texts == ["one", "one", "one", "two"]


@pytest.mark.parametrize("again_s", [0.0, 2.0])
@in_virtual_time
async def test_what_was_asked_before_it_was_cleared_answers_only_those_who_asked(again_s: float) -> None:
    cache, provider = ResponseCache(), ScriptedProvider(["one", "two", "three"], delay_s=1)
    model, calls = a_model(cache), list[Call]()
    async with cached_engine(provider):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ask(model, calls))
            nursery.start_soon(lambda: ask(model, calls))
            await trio.sleep(0.5)
            cache.clear()
            await trio.sleep(again_s)
            nursery.start_soon(lambda: ask(model, calls))
        assert [call.text for call in calls] == ["one", "one", "two"]
        assert (await model.invoke(messages=MESSAGES)).text == "two"


def test_another_run_begins_with_an_empty_cache() -> None:
    cache, provider = ResponseCache(ttl_s=float("inf")), ScriptedProvider("yes")
    model = a_model(cache)

    @in_virtual_time
    async def one_run() -> None:
        async with cached_engine(provider):
            await model.invoke(messages=MESSAGES)

    one_run()
    one_run()
    assert len(provider.requests) == 2


@in_virtual_time
async def test_no_key_shows() -> None:
    cache, provider = ResponseCache(), ScriptedProvider("yes")
    async with cached_engine(provider):
        await a_model(cache).invoke(messages=MESSAGES)
    assert KEY not in repr(cache) + repr(cache.statistics()) + repr(vars(cache))


# --- events over a socket: the scripted provider answers in one piece ---


async def test_the_events_of_a_stream_are_kept_and_shared_whole() -> None:
    """What one reader has read as it came, the others get when it is whole, and later ones from what is kept."""
    cache, metrics = ResponseCache(), CallMetrics()
    model: iModel
    texts: list[str] = []
    calls: list[Call] = []

    async def read() -> None:
        async with model.stream(messages=MESSAGES, max_tokens=50) as chunks:
            texts.append("".join([str(chunk) async for chunk in chunks]))
        calls.append(chunks.call)

    async with trio.open_nursery() as nursery:
        simulator = await nursery.start(serve, SimulatorConfig())
        hooks = HookRegistry().use(cache, metrics)
        model = a_model(hooks=hooks, model="simulated-1", base_url=simulator.base_url)
        async with open_engine() as engine:
            async with trio.open_nursery() as readers:
                for _ in range(5):
                    readers.start_soon(read)
            await read()
            assert_quiet(engine)
        assert len(simulator.log()) == 1
        nursery.cancel_scope.cancel()
    assert len(set(texts)) == 1
    assert len(texts[0]) > 20
    assert {call.text for call in calls} == set(texts)
    assert len({str(call.response) for call in calls}) == 1
    assert counts(cache) == (1, 4, 1)
    (row,) = metrics.statistics().models
    assert (row.reused, row.first_chunk_s.count) == (5, 1)
