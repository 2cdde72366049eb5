"""The engine in asyncio: `await`, `async for`, cancellation, timeouts, context variables; each test runs asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from portal_server import Provider, ask

from engine import Call, HookEventTypes, InvalidCall, Rejected, UsageError, iModel
from engine.opening import current_engine
from engine.portal import AsyncioEngine, AsyncioModel, open_portal
from engine.testing import ScriptedProvider, fault

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


async def quiet(engine: AsyncioEngine) -> bool:
    return not any((await engine.statistics()).live.values())


async def until_hanging(provider: Provider) -> None:
    await asyncio.to_thread(provider.wait_hanging)


def test_calls_are_awaited(provider: Provider, model: iModel) -> None:
    """One, many at once, and what is wrong with them."""

    async def main() -> None:
        async with open_portal() as engine:
            assert (await engine.invoke(model, **ask("abc"))).text == "cba"
            calls = await asyncio.gather(*(engine.invoke(model, **ask(f"{n}-")) for n in range(40)))
            assert [call.text for call in calls] == [f"{n}-"[::-1] for n in range(40)]
            failed = await engine.invoke(model, **ask("refuse"))
            with pytest.raises(Rejected) as caught:
                failed.raise_for_status()
            assert caught.value is failed.error
            with pytest.raises(InvalidCall, match="priority"):
                await engine.invoke(model, **ask("x"), priority="high")
            submitted = await engine.submit(model, **ask("ab"))
            assert (await engine.wait(submitted)).text == "ba"
            now = await engine.submit_nowait(model, **ask("cd"))
            await engine.wait_quiet()
            assert now.text == "dc"
            assert await quiet(engine)
            await engine.drain()

    asyncio.run(main())


def test_cancelled_task_takes_its_call_along(provider: Provider, model: iModel) -> None:
    """The connection is dropped, and the task ends only when nothing of the call is left."""

    async def main() -> None:
        async with open_portal() as engine:
            call = model.create_api_calling(**ask("hang"))
            task = asyncio.create_task(engine.invoke(call))
            await until_hanging(provider)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.status == "cancelled"
            assert await quiet(engine)
            await asyncio.to_thread(provider.wait_dropped)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["timeout", "wait_for", "anyio", "handlers"])
def test_timeouts_of_asyncio_work(provider: Provider, model: iModel, way: str) -> None:
    """However the timeout is written: raised as the caller's own, the call cancelled, the next one unharmed."""

    async def main() -> None:
        hooks = {HookEventTypes.PreInvocation: lambda call, **_: None} if way == "handlers" else None
        async with open_portal(hooks=hooks) as engine:
            call = model.create_api_calling(**ask("hang"))
            with pytest.raises(TimeoutError):  # noqa: PT012  # one of three ways
                if way == "wait_for":
                    await asyncio.wait_for(engine.invoke(call), 0.05)
                elif way == "anyio":
                    with anyio.fail_after(0.05):
                        await engine.invoke(call)
                else:
                    async with asyncio.timeout(0.05):
                        await engine.invoke(call)
            assert call.status in ("cancelled", "pending")
            assert await quiet(engine)
            assert (await engine.invoke(model, **ask("ab"))).text == "ba"

    asyncio.run(main())


def test_cancelled_twice_still_waits_for_the_end() -> None:
    """Who cancels a second time does not make the task leave its call behind."""
    scripted = ScriptedProvider(fault("stall"), delay_s=0)
    arrived = threading.Event()
    scripted.follow(lambda request: arrived.set() or fault("stall"))

    async def main() -> None:
        async with open_portal(transport=scripted) as engine:
            call = engine.model(model="openai/s", api_key="none").create_api_calling(**ask("x"))
            task = asyncio.create_task(engine.invoke(call))
            await asyncio.to_thread(arrived.wait)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.over
            assert await quiet(engine)

    asyncio.run(main())


def test_wait_is_only_a_wait_and_cancel_is_the_engines(provider: Provider, model: iModel) -> None:
    """A cancelled `wait` leaves the call alone; `engine.cancel` ends it."""

    async def main() -> None:
        async with open_portal() as engine:
            call = await engine.submit(model, **ask("hang"))
            await until_hanging(provider)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.wait(call), 0.02)
            assert call.status in ("processing", "calling")
            with pytest.raises(UsageError, match=r"engine\.cancel\(call\)"):
                call.cancel()
            engine.cancel(call)
            assert (await engine.wait(call)).status == "cancelled"

    asyncio.run(main())


def test_context_variables_reach_handlers() -> None:
    """Each handler sees the variables of the task that made the call."""
    seen: list[tuple[Any, str]] = []

    async def look(call: Call, **_: Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append((call.metadata["number"], tenant.get()))

    async def main() -> None:
        async with open_portal(hooks={HookEventTypes.PostInvocation: look}, transport=scripted) as engine:
            model = engine.model(model="openai/s", api_key="none")

            async def work(number: int) -> None:
                tenant.set(f"t{number}")
                await model.invoke(**ask("x"), metadata={"number": number})

            await asyncio.gather(*(work(number) for number in range(5)))

    scripted = ScriptedProvider("yes", delay_s=0)
    asyncio.run(main())
    assert sorted(seen) == [(number, f"t{number}") for number in range(5)]


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_map_takes_generators_of_either_kind(kind: str) -> None:
    """Pulled in asyncio as there is room, never more than `buffer` ahead of what was read; closed at the end."""
    pulled = read = 0
    closed = asyncio.Event()

    async def main() -> None:
        async with open_portal(transport=ScriptedProvider("yes", delay_s=0)) as engine:
            model = engine.model(model="openai/s", api_key="none")

            def made(number: int) -> Call:
                nonlocal pulled
                pulled += 1
                return model.create_api_calling(**ask("x"), metadata={"number": number})

            def plain() -> Iterator[Call]:
                yield from map(made, range(100))

            async def asynchronous() -> AsyncIterator[Call]:
                try:
                    for number in range(100):
                        if number % 9 == 0:
                            await asyncio.sleep(0)
                        yield made(number)
                finally:
                    closed.set()

            nonlocal read
            numbers = []
            async with engine.map(asynchronous() if kind == "async" else plain(), ordered=True, buffer=6) as done:
                async for call in done:
                    read += 1
                    assert pulled <= read + 6
                    numbers.append(call.metadata["number"])
            assert numbers == list(range(100))
            assert await quiet(engine)

    asyncio.run(main())
    assert closed.is_set() == (kind == "async")


def test_map_goes_on_while_its_source_waits() -> None:
    """An async source may wait for a result before it makes the next call."""

    async def main() -> None:
        async with open_portal(transport=ScriptedProvider("yes", delay_s=0)) as engine:
            model = engine.model(model="openai/s", api_key="none")
            results: asyncio.Queue[Call] = asyncio.Queue()

            async def chain() -> AsyncIterator[Call]:
                for _ in range(5):
                    yield model.create_api_calling(**ask("x"))
                    await results.get()
                raise LookupError("mine")

            out = []
            with pytest.raises(LookupError, match="mine"):  # noqa: PT012  # what came before counts
                async for call in engine.map(chain()):
                    out.append(call.status)
                    results.put_nowait(call)
            assert out == ["completed"] * 5

    asyncio.run(main())


def test_map_left_early_ends_its_source_and_its_calls() -> None:
    """Leaving, or being cancelled while reading: nothing is in flight, the source is closed."""
    scripted = ScriptedProvider(["yes", fault("stall")], delay_s=0)

    async def main() -> None:
        closed = asyncio.Event()
        async with open_portal(transport=scripted) as engine:
            model = engine.model(model="openai/s", api_key="none")

            async def endless() -> AsyncIterator[Call]:
                try:
                    while True:
                        yield model.create_api_calling(**ask("x"))
                finally:
                    closed.set()

            async with engine.map(endless(), buffer=4) as done:
                assert (await anext(done)).status == "completed"
            assert closed.is_set()
            assert await quiet(engine)
            closed.clear()
            with pytest.raises(TimeoutError):  # noqa: PT012  # a loop that is cut short
                async with asyncio.timeout(0.05):
                    async for _ in engine.map(endless(), buffer=4):
                        pass
            assert closed.is_set()
            assert await quiet(engine)
            assert scripted.in_flight == 0

    asyncio.run(main())


def test_any_async_function_and_iterable(model: iModel) -> None:
    """`call` and `iterate` hand over results, errors and cancellation."""
    ended = threading.Event()

    async def main() -> None:
        async with open_portal() as engine:

            async def both(first: str, *, second: str) -> list[str | None]:
                await anyio.lowlevel.checkpoint()
                assert current_engine() is engine.loop.engine
                return [(await model.invoke(**ask(text))).text for text in (first, second)]

            async def forever() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    ended.set()

            async def numbers() -> AsyncIterator[int]:
                for number in range(200):
                    yield number
                raise LookupError("no more")

            assert await engine.call(both, "ab", second="cd") == ["ba", "dc"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.call(forever), 0.02)
            assert ended.is_set()
            got = []
            with pytest.raises(LookupError, match="no more"):  # noqa: PT012  # what came before counts
                async for number in engine.iterate(numbers()):
                    got.append(number)  # noqa: PERF401  # until it raises
            assert got == list(range(200))

    asyncio.run(main())


def test_seed_program_goes_on_with_another_import(provider: Provider) -> None:
    """`AsyncioModel as iModel`, no block: in one asyncio loop after another, and several models share one portal."""

    async def program() -> list[str | None]:
        first = AsyncioModel(model="openai/m", api_key="none", base_url=provider.url)
        async with AsyncioModel("openai", provider.url, api_key="none", model="m") as second:
            call = second.create_api_calling(**ask("cd"))
            calls = await asyncio.gather(first.invoke(**ask("ab")), second.invoke(call))
            assert first.engine.loop is second.engine.loop
            assert isinstance(first, iModel)
            chunks = [str(chunk) async for chunk in second.stream(**ask("x"))]
            assert "".join(chunks) == "0 1 2 3 4 "
            return [call.text for call in calls]

    for _ in range(2):
        assert asyncio.run(program()) == ["ba", "dc"]


def test_leaving_by_an_exception_drops_and_leaves_it_unchanged(provider: Provider, model: iModel) -> None:
    """The block's own exception; and cancelling the block hurries the drain."""

    async def raising() -> None:
        async with open_portal() as engine:
            await engine.submit(model, **ask("hang"))
            await until_hanging(provider)
            raise LookupError("mine")

    async def cancelled() -> None:
        async with open_portal() as engine:
            await engine.submit(model, **ask("hang"))
            await until_hanging(provider)

    async def cancel() -> None:
        task = asyncio.create_task(cancelled())
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done, "it drains"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(raising())
    provider.wait_dropped()
    asyncio.run(cancel())
    provider.wait_dropped()


def test_loop_that_is_closed_gives_its_calls_up(provider: Provider, model: iModel) -> None:
    """A task left behind by asyncio takes its call along: nobody is there to read it."""

    async def leave(engine: AsyncioEngine) -> None:
        task = asyncio.create_task(engine.invoke(model, **ask("hang")))
        await until_hanging(provider)
        del task  # asyncio.run cancels it

    portal = open_portal()
    with portal as engine:
        asyncio.run(leave(portal.asyncio))
        provider.wait_dropped()
        assert not any(engine.statistics().live.values())
