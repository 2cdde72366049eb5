"""A thousand calls whose handlers do the worst they can, beside calls that have none: none is lost, none is delayed.

The first is in virtual time, where "not delayed" is exact; handlers that block threads need real time and have one of
their own, in which nothing is timed.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hooked import MESSAGES, a_model, hooked_engine, in_virtual_time

from engine import Call, HookEventTypes, HookRegistry, iModel
from engine.testing import ScriptedProvider

Handler = Callable[..., Awaitable[Any]]
PRE_CREATE, PRE, POST = HookEventTypes
CALLS = 1000


class Foreign(BaseException):
    """As another library's cancellation."""


def misbehaviours(other: iModel, chance: random.Random) -> list[Handler]:
    """Handlers that raise, hang, cancel and use the engine."""

    async def passes(event: Call, **kw: Any) -> None: ...

    async def raises(event: Call, **kw: Any) -> None:
        await trio.sleep(chance.random())
        raise ValueError("boom")

    async def raises_foreign(event: Call, **kw: Any) -> None:
        raise Foreign

    async def hangs(event: Call, **kw: Any) -> None:
        await trio.sleep_forever()

    async def clings(event: Call, **kw: Any) -> None:
        """Told to stop, it takes its time, and then fails."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            raise ValueError("boom, late")

    async def cancels_the_call(event: Call, **kw: Any) -> None:
        event.cancel()
        await trio.sleep(chance.random())

    async def cancels_itself(event: Call, **kw: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()

    async def asks_another(event: Call, **kw: Any) -> None:
        assert (await other.invoke(messages=MESSAGES)).status == "completed"

    async def asks_its_own(event: Call, **kw: Any) -> None:
        model = event.owner
        assert isinstance(model, iModel)
        await model.invoke(messages=MESSAGES, deadline_s=100)

    async def sends_it_again(event: Call, **kw: Any) -> None:
        model = event.owner
        assert isinstance(model, iModel)
        await model.invoke(event)

    async def waits_for_it(event: Call, **kw: Any) -> None:
        await event.wait()

    async def answers_with_itself(event: Call, **kw: Any) -> Call:
        return event

    async def answers_with_another(event: Call, **kw: Any) -> Call:
        return other.create_api_calling(messages=MESSAGES)

    return [
        passes,
        raises,
        raises_foreign,
        hangs,
        clings,
        cancels_the_call,
        cancels_itself,
        asks_another,
        asks_its_own,
        sends_it_again,
        waits_for_it,
        answers_with_itself,
        answers_with_another,
    ]


@in_virtual_time
async def test_no_response_is_lost_and_no_other_call_delayed() -> None:
    chance = random.Random(7)
    provider = ScriptedProvider("yes", delay_s=1.0)
    plain, other = a_model(lane="plain"), a_model(lane="other")
    kinds = misbehaviours(other, chance)
    ended: Counter[int] = Counter()
    async with hooked_engine(provider) as engine:
        calls = []
        for _ in range(CALLS):
            hooks = HookRegistry({phase: chance.choice(kinds) for phase in HookEventTypes if chance.random() < 0.6})
            model = a_model(hooks, lane="wild", exit_hook=chance.random() < 0.2)
            calls.append(model.create_api_calling(messages=MESSAGES))
        started = trio.current_time()
        for call in calls:
            engine.submit_nowait(call)
            call.call_at_end(lambda slot: ended.update([slot.id]))  # type: ignore[attr-defined]  # it is the call
        beside = [engine.submit_nowait(plain.create_api_calling(messages=MESSAGES)) for _ in range(100)]
        for one in beside:
            await one.wait()
        assert trio.current_time() - started == 1.0, "they take the provider's second and nothing else"
        assert {one.status for one in beside} == {"completed"}
        for call in calls:
            await call.wait()
        assert {call.id for call in calls} == set(ended)
        assert set(ended.values()) == {1}
        statuses = Counter(call.status for call in calls)
        assert set(statuses) == {"completed", "aborted", "cancelled", "failed"}
        for call in calls:
            if call.status == "completed":
                assert call.text == "yes"
            if call.status == "failed":
                assert call.text == "yes", "only the exit policy fails a call here, and its answer stays"
        await engine.wait_quiet()
        assert not any(engine.statistics().live.values())


async def test_threads_that_block_delay_nobody() -> None:
    """Two hundred functions that never return by themselves, in every phase, and a hundred calls beside them."""
    release = threading.Event()

    def blocks(event: Call, **kw: Any) -> None:
        release.wait()

    plain = a_model(lane="plain")
    options = {phase: {"timeout_s": 0.3} for phase in HookEventTypes}
    try:
        async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
            calls = [
                engine.submit_nowait(
                    a_model({HookEventTypes(phase): blocks}, lane="wild").create_api_calling(
                        messages=MESSAGES, hook_options=options
                    )
                )
                for phase in HookEventTypes
                for _ in range(70)
            ]
            async with engine.map(plain.create_api_calling(messages=MESSAGES) for _ in range(100)) as done:
                assert [call.status async for call in done] == ["completed"] * 100
            assert any(not call.over for call in calls), "the hundred did not wait for them"
            for call in calls:
                await call.wait()
            assert [call.status for call in calls] == ["completed"] * 70 + ["aborted"] * 70 + ["completed"] * 70
            assert {call.text for call in calls if call.status == "completed"} == {"yes"}
    finally:
        release.set()
