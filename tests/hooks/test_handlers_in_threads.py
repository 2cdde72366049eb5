"""Sync handlers that do their worst from their threads: they raise, cancel, block past their time and use the engine.

In real time, of which nothing is asserted. A thread that blocks is let go by an event, and none is left in the end.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from hooked import MESSAGES, a_model, hooked_engine

from engine import Call, HookEventTypes, HookRegistry, iModel
from engine.testing import ScriptedProvider

CALLS = 300


class Worst:
    """Handlers, and how often each has run."""

    def __init__(self, other: iModel) -> None:
        self.other = other
        self.release = threading.Event()
        self.runs: Counter[str] = Counter()
        self.inside = 0
        self._left = threading.Condition()

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        with self._left:
            self.runs[name] += 1
            self.inside += 1
        try:
            yield
        finally:
            with self._left:
                self.inside -= 1
                self._left.notify_all()

    def wait_empty(self) -> bool:
        """Let the threads go that block, and wait until none is in a handler any more."""
        self.release.set()
        with self._left:
            return self._left.wait_for(lambda: not self.inside, timeout=60)

    def raises(self, event: Call, **kw: Any) -> None:
        with self.noted("raises"):
            raise ValueError("boom")

    def blocks(self, event: Call, **kw: Any) -> None:
        with self.noted("blocks"):
            self.release.wait()

    def cancels(self, event: Call, **kw: Any) -> None:
        with self.noted("cancels"):
            trio.from_thread.run_sync(event.cancel)

    def asks_another(self, event: Call, **kw: Any) -> None:
        with self.noted("asks_another"):
            assert trio.from_thread.run(self._ask, self.other) == "yes"

    def asks_its_own(self, event: Call, **kw: Any) -> None:
        """The model has this very handler, which must not be run for the call it makes."""
        with self.noted("asks_its_own"):
            assert isinstance(event.owner, iModel)
            assert trio.from_thread.run(self._ask, event.owner) == "yes"

    async def _ask(self, model: iModel) -> str | None:
        return (await model.invoke(messages=MESSAGES)).text


@pytest.mark.parametrize("phase", HookEventTypes)
async def test_no_call_is_lost_to_a_thread(phase: HookEventTypes) -> None:
    chance = random.Random(phase.value)
    plain, worst = a_model(lane="plain"), Worst(a_model(lane="other"))
    kinds = [worst.raises, worst.cancels, worst.asks_another, worst.asks_its_own, worst.blocks]
    ended: Counter[int] = Counter()
    try:
        async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
            calls, wanted = [], []
            asked: Counter[str] = Counter()
            for _ in range(CALLS):
                kind = chance.choice(kinds)
                asked[kind.__name__] += 1
                model = a_model(HookRegistry({phase: kind}), lane="wild")
                # Only one that blocks is bounded: the others must not be too slow on a busy machine.
                options = {phase: {"timeout_s": 0.05 if kind == worst.blocks else 60.0}}
                call = model.create_api_calling(messages=MESSAGES, hook_options=options)
                engine.submit_nowait(call)
                call.call_at_end(lambda slot: ended.update([slot.id]))  # type: ignore[attr-defined]  # it is the call
                calls.append(call)
                wanted.append(_wanted(kind.__name__, phase))
            async with engine.map(plain.create_api_calling(messages=MESSAGES) for _ in range(100)) as done:
                assert [call.status async for call in done] == ["completed"] * 100
            for call in calls:
                await call.wait()
            assert [call.status for call in calls] == wanted
            assert {call.text for call in calls if call.status == "completed"} == {"yes"}
            await engine.wait_quiet()
            assert (len(ended), set(ended.values())) == (CALLS, {1})
            assert not any(engine.statistics().live.values())
        assert 0 < worst.runs.pop("blocks") <= asked.pop("blocks"), "some had no thread before their time was over"
        assert worst.runs == asked, "each once, and none for a call that a handler made"
    finally:
        assert await trio.to_thread.run_sync(worst.wait_empty)


def _wanted(kind: str, phase: HookEventTypes) -> str:
    if kind == "cancels" and phase is not HookEventTypes.PostInvocation:
        return "cancelled"
    return "aborted" if kind in ("raises", "blocks") and phase is HookEventTypes.PreInvocation else "completed"
