"""The engine from plain functions and many threads: the same calls, errors and limits, nothing left behind."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from portal_server import Provider, ask, in_threads

from engine import (
    Call,
    CapacityExceeded,
    EngineNotRunning,
    HookEventTypes,
    InvalidCall,
    MissingKey,
    Overloaded,
    Rejected,
    ShuttingDown,
    UsageError,
    iModel,
)
from engine.opening import current_engine
from engine.portal import BlockingEngine, BlockingModel, default_portal, open_portal
from engine.testing import ScriptedProvider, fault

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def quiet(engine: BlockingEngine) -> bool:
    return not any(engine.statistics().live.values())


def test_call_is_sent_and_answered(model: iModel) -> None:
    """A model and arguments, or a call that was made before; what comes back is an ordinary call."""
    with open_portal() as engine:
        call = engine.invoke(model, **ask("abc"))
        assert isinstance(call, Call)
        assert (call.status, call.text, call.usage and call.usage.total_tokens) == ("completed", "cba", 2)
        made = model.create_api_calling(**ask("de"))
        assert engine.invoke(made) is made
        assert made.text == "ed"
        assert engine.invoke(made) is made, "one that has ended is returned as it is"
        assert quiet(engine)


def test_eight_threads_share_one_engine(provider: Provider, model: iModel) -> None:
    """Every thread gets its own answers, and all of them are counted by one engine."""
    with open_portal() as engine:

        def work(number: int) -> list[str | None]:
            return [engine.invoke(model, **ask(f"{number}-{turn}")).text for turn in range(10)]

        answers = in_threads(8, work)
        assert answers == [[f"{number}-{turn}"[::-1] for turn in range(10)] for number in range(8)]
        statistics = engine.statistics()
    assert len(provider.prompts) == 80
    assert len(statistics.endpoints) == 1


def test_limit_holds_over_all_threads() -> None:
    """What eight threads have in flight together is what the model allows, since there is one engine."""
    scripted = ScriptedProvider("yes", delay_s=0.001)
    with open_portal(transport=scripted) as engine:
        model = engine.model(model="openai/scripted", api_key="none", concurrency_limit=2)
        in_threads(8, lambda number: [model.invoke(**ask("x")) for _ in range(5)])
    assert len(scripted.requests) == 40
    assert scripted.most_in_flight == 2


def test_failure_is_on_the_call_and_misuse_is_raised(model: iModel) -> None:
    """The classes are those of the engine, the objects the very same."""
    with open_portal() as engine:
        call = engine.invoke(model, **ask("refuse"))
        assert isinstance(call.error, Rejected)
        with pytest.raises(Rejected) as caught:
            call.raise_for_status()
        assert caught.value is call.error
        with pytest.raises(InvalidCall, match="priority"):
            engine.invoke(model, **ask("x"), priority="high")
        with pytest.raises(InvalidCall, match="not int"):
            engine.invoke(3)
        with pytest.raises(InvalidCall, match="a call, or a model and the arguments"):
            engine.invoke(call, temperature=1)
        small = iModel(model="openai/x", api_key="none", limit_tokens=1)
        with pytest.raises(CapacityExceeded):
            engine.submit(small, **ask("far more than one"))


def test_missing_key_is_raised_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised where the call is made, once for each call."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with open_portal() as engine:
        model = iModel(model="openai/gpt-4o-mini")
        for _ in range(2):
            with pytest.raises(MissingKey):
                engine.invoke(model, **ask("x"))


def test_submitted_call_goes_on_and_can_be_waited_for_and_cancelled(provider: Provider, model: iModel) -> None:
    """`wait` and `cancel` of the engine, from whichever thread; the call's own `cancel` says where to."""
    with open_portal() as engine:
        call = engine.submit(model, **ask("hang"))
        provider.wait_hanging()
        assert call.status in ("processing", "calling")
        with pytest.raises(UsageError, match=r"engine\.cancel\(call\)"):
            call.cancel()
        assert in_threads(1, lambda _: engine.cancel(call)) == [None]
        assert engine.wait(call).status == "cancelled"
        provider.wait_dropped()
        assert engine.invoke(model, **ask("ab")).text == "ba", "the engine goes on"
        assert engine.submit_nowait(model, **ask("cd")).status in ("queued", "processing", "calling", "completed")
        engine.wait_quiet()
        assert quiet(engine)


def test_full_queue_is_refused_or_waited_for() -> None:
    """`submit_nowait` raises `Overloaded`, with the call in it; `submit` waits until there is a place."""
    scripted = ScriptedProvider(fault("stall"))
    with open_portal(transport=scripted) as engine:
        model = engine.model(model="openai/s", api_key="none", queue_capacity=1, concurrency_limit=1)
        calls = [engine.submit(model, **ask("x")) for _ in range(2)]
        with pytest.raises(Overloaded) as caught:
            engine.submit_nowait(model, **ask("y"))
        assert caught.value.call is not None
        scripted.follow("yes")
        waiting = threading.Thread(target=lambda: calls.append(engine.invoke(model, **ask("z"))))
        waiting.start()
        engine.cancel(calls[0])
        waiting.join()
        assert [engine.wait(call).status for call in calls] == ["cancelled", "completed", "completed"]


def test_context_variables_reach_handlers() -> None:
    """A handler sees the variables of the thread that made the call, with and without a task for the call."""
    seen: list[str] = []

    async def look(call: Call, **_: Any) -> None:
        seen.append(tenant.get())

    scripted = ScriptedProvider("yes", delay_s=0)
    with open_portal(transport=scripted, hooks={HookEventTypes.PreInvocation: look}) as engine:
        model = engine.model(model="openai/s", api_key="none")

        def work(number: int) -> None:
            tenant.set(f"t{number}")
            model.invoke(**ask("x"))

        before = tenant.get()
        in_threads(4, work)
        assert sorted(seen) == ["t0", "t1", "t2", "t3"]
        assert tenant.get() == before


def test_map_takes_a_plain_generator_and_keeps_its_buffer() -> None:
    """Pulled in the reader's own thread, never more than `buffer` ahead of what was read."""
    scripted = ScriptedProvider("yes", delay_s=0)
    pulled = 0
    threads = set()
    with open_portal(transport=scripted) as engine:
        model = engine.model(model="openai/s", api_key="none")

        def pending() -> Iterator[Call]:
            nonlocal pulled
            for number in range(200):
                pulled += 1
                threads.add(threading.get_ident())
                yield model.create_api_calling(**ask(str(number)), metadata={"number": number})

        read = 0
        numbers = []
        with engine.map(pending(), ordered=True, buffer=7) as done:
            for call in done:
                read += 1
                assert pulled <= read + 7
                numbers.append(call.metadata["number"])
                assert call.text == "yes"
        assert numbers == list(range(200))
        assert threads == {threading.get_ident()}
        assert quiet(engine)


def test_map_tells_what_is_wrong_after_what_was_right(model: iModel) -> None:
    """One call's mistake is that call's; the iterable's own failure is raised at the end."""
    with open_portal() as engine:

        def pending() -> Iterator[Call]:
            yield model.create_api_calling(**ask("ab"))
            yield model.create_api_calling(**ask("cd"), priority="high")
            raise KeyError("mine")

        statuses = []
        with pytest.raises(KeyError, match="mine"):  # noqa: PT012  # what came before counts
            for call in engine.map(pending()):
                statuses.append(call.status)  # noqa: PERF401  # until it raises
        assert sorted(statuses) == ["completed", "skipped"]
        with pytest.raises(UsageError, match="buffer"):
            engine.map([], buffer=0)
        with pytest.raises(InvalidCall, match="not str"):
            list(engine.map(["a"]))  # type: ignore[list-item]  # on purpose


def test_map_dropped_early_cancels_what_is_under_way() -> None:
    """Leaving the block ends it: nothing is in flight any more, nothing more is pulled."""
    scripted = ScriptedProvider([fault("stall"), "yes"], delay_s=0)
    with open_portal(transport=scripted) as engine:
        model = engine.model(model="openai/s", api_key="none")
        calls = [model.create_api_calling(**ask("x")) for _ in range(20)]
        with engine.map(calls, buffer=10) as done:
            first = next(done)
            assert first.status == "completed"
        assert quiet(engine)
        assert scripted.in_flight == 0
        assert {call.status for call in calls} == {"completed", "cancelled", "pending"}
        assert list(done) == []


def test_map_of_a_draining_engine_skips_what_it_does_not_take() -> None:
    """What was pulled comes out, sent or not."""
    scripted = ScriptedProvider("yes", delay_s=0)
    with open_portal(transport=scripted) as engine:
        model = engine.model(model="openai/s", api_key="none")
        calls = [model.create_api_calling(**ask("x")) for _ in range(30)]
        done = engine.map(iter(calls), buffer=5)
        out = [next(done)]
        engine.drain()
        out += list(done)
        assert len(out) == len({call.id for call in out})
        assert {call.status for call in out} <= {"completed", "skipped"}
        assert all(isinstance(call.error, ShuttingDown) for call in out if call.status == "skipped")
        assert sum(call.status != "pending" for call in calls) == len(out)


def test_map_loses_no_call_that_was_pulled_and_had_no_place_yet() -> None:
    """The queue is full, and the engine is discarded: what was pulled and not queued comes out, too, as skipped."""
    pulled = threading.Semaphore(0)
    out: list[Call] = []
    with open_portal(transport=ScriptedProvider(fault("stall"))) as engine:
        model = engine.model(model="openai/s", api_key="none", queue_capacity=1, concurrency_limit=1)

        def pending() -> Iterator[Call]:
            for _ in range(20):
                pulled.release()
                yield model.create_api_calling(**ask("x"))

        reading = threading.Thread(target=lambda: out.extend(engine.map(pending(), buffer=8)))
        reading.start()
        for _ in range(8):
            pulled.acquire()
        engine.drain(queue="discard", deadline_s=0)
        reading.join()
    assert len(out) >= 7, "all that were pulled"
    assert {call.status for call in out} <= {"failed", "aborted", "skipped"}
    assert sum(isinstance(call.error, ShuttingDown) for call in out) >= len(out) - 1


def test_any_async_function_runs_with_the_engine_open(model: iModel) -> None:
    """`call` hands back what it returns and raises; trio and anyio work in it, and plain models find the engine."""
    with open_portal() as engine:

        async def both(first: str, *, second: str) -> tuple[str | None, str | None]:
            await anyio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert current_engine() is engine.loop.engine
            return (await model.invoke(**ask(first))).text, (await model.invoke(**ask(second))).text

        async def wrong() -> None:
            raise LookupError(tenant.get())

        assert engine.call(both, "ab", second="cd") == ("ba", "dc")
        tenant.set("caller")
        with pytest.raises(LookupError, match="caller"):
            engine.call(wrong)


def test_any_async_iterable_is_a_plain_iterator() -> None:
    """In order, with what it raises at its end, and closed when it is left."""
    closed = threading.Event()

    async def numbers(last: int) -> Any:
        try:
            for number in range(last):
                yield number
                if number % 10 == 0:
                    await trio.lowlevel.checkpoint()
            raise LookupError("no more")
        finally:
            closed.set()

    with open_portal() as engine:
        got = []
        with pytest.raises(LookupError, match="no more"):  # noqa: PT012  # what came before counts
            for number in engine.iterate(numbers(500)):
                got.append(number)  # noqa: PERF402  # until it raises
        assert got == list(range(500))
        closed.clear()
        with engine.iterate(numbers(10**9)) as items:
            assert [next(items) for _ in range(3)] == [0, 1, 2]
        assert closed.is_set()
        assert list(items) == []
        shared = engine.iterate(numbers(2000), ahead=3)
        together = in_threads(4, lambda _: [next(shared) for _ in range(500)])
        assert sorted(number for some in together for number in some) == list(range(2000))
        shared.close()


def test_its_own_loop_cannot_wait_for_itself(model: iModel) -> None:
    """Not a hang, but an error that says what to use instead."""
    with open_portal() as engine:

        async def wrong() -> None:
            engine.invoke(model, **ask("x"))

        with pytest.raises(UsageError, match="own loop"):
            engine.call(wrong)


def test_portal_is_opened_once_and_used_while_open(model: iModel) -> None:
    """Before and after it, everything is refused, and nothing hangs."""
    portal = open_portal()
    with pytest.raises(EngineNotRunning):
        portal._loop.post(lambda: None)
    with portal as engine:
        pass
    for use in (lambda: engine.invoke(model, **ask("x")), engine.statistics, lambda: next(engine.map([]))):
        with pytest.raises(EngineNotRunning):
            use()
    with pytest.raises(UsageError, match="opened once"), portal:
        pass


def test_wrong_configuration_is_raised_where_it_is_opened() -> None:
    """And no thread is left."""
    before = {thread for thread in threading.enumerate() if "penstock" in thread.name}
    with pytest.raises(UsageError, match="cannot be read"), open_portal("no/such/file.toml"):
        pass
    assert {thread for thread in threading.enumerate() if "penstock" in thread.name} <= before


def test_leaving_normally_finishes_and_by_an_exception_drops(provider: Provider, model: iModel) -> None:
    """The block's own exception leaves unchanged; a thread that still waits is told how its call ended."""
    with open_portal() as engine:
        call = engine.submit(model, **ask("ab"))
    assert call.text == "ba"
    outcomes: list[Call] = []
    with pytest.raises(LookupError, match="mine"), open_portal() as engine:  # noqa: PT012  # the whole block
        waiting = threading.Thread(target=lambda: outcomes.append(engine.invoke(model, **ask("hang"))))
        waiting.start()
        provider.wait_hanging()
        raise LookupError("mine")
    waiting.join()
    provider.wait_dropped()
    assert [outcome.status for outcome in outcomes] == ["failed"]


def test_blocked_function_is_told_when_the_portal_closes() -> None:
    """Whatever still runs when the block is left is cancelled, and its waiter gets an error."""
    begun = threading.Event()

    async def forever() -> None:
        begun.set()
        await trio.sleep_forever()

    results: list[Any] = []
    with open_portal() as engine:
        waiting = threading.Thread(target=lambda: results.extend(in_threads(1, lambda _: engine.call(forever))))
        waiting.start()
        begun.wait()
    waiting.join()
    assert [type(result) for result in results] == [ShuttingDown]


def test_models_may_be_of_the_portal_themselves(provider: Provider) -> None:
    """`BlockingModel`: the constructor of iModel, its attributes, and methods that block."""
    with (
        open_portal() as engine,
        BlockingModel("openai", provider.url, api_key="none", engine=engine, model="m") as model,
    ):
        assert model.invoke(**ask("ab")).text == "ba"
        assert model.invoke(model.create_api_calling(**ask("cd"))).text == "dc"
        assert "".join(map(str, model.stream(**ask("x")))) == "0 1 2 3 4 "
        assert (model.model_name, model.engine) == ("m", engine)
        assert engine.invoke(model, **ask("ef")).text == "fe"
    with pytest.raises(UsageError, match="BlockingEngine"):
        BlockingModel(model="openai/x", engine=object())


def test_handler_without_a_portal_model_uses_the_shared_one(provider: Provider) -> None:
    """No block anywhere: the process-wide portal is started by the first call, and shared."""
    models = [BlockingModel(model="openai/m", api_key="none", base_url=provider.url) for _ in range(2)]
    assert [call.text for call in in_threads(6, lambda n: models[n % 2].invoke(**ask("ab")))] == ["ba"] * 6
    assert default_portal().call(current_engine_name) == repr(models[0].engine.loop.engine)


async def current_engine_name() -> str:
    return repr(current_engine())
