"""A stream ended from outside: by its reader, at each of his steps, and by everything else, at each of the loop.

A scenario is run again and again, in virtual time, and ended at its n-th step, until it is over before that. After each
run every gauge is zero, the permit is free, the engine's table of streams is empty and the provider serves nobody.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
import trio
import trio.testing
from scripted_server import CancelAt
from stream_bodies import ASK, END, a_model, answer, at_rest, error_event, read, text
from virtual_streams import BREAK, JSON, Step, StreamProvider, streaming_engine

from engine import Engine, PenstockError, ShuttingDown, open_engine
from engine.providers.wire import StreamChunk
from engine.streaming import ReplyStream
from engine.testing import run_virtual

HELLO: list[Step] = [0.5, text("Hel"), 0.5, text("lo"), 0.5, END]
MUCH: list[Step] = [*[text("x" * 30_000)] * 12, 0.5, END]
ENDED = ("completed", "failed", "cancelled", "aborted", "skipped")

# --- the reader, at each of his steps ---------------------------------------------------------------------------------

Reader = Callable[[ReplyStream], Awaitable[None]]


async def by_itself(stream: ReplyStream) -> None:
    try:
        async for _ in stream:
            pass
    finally:
        await let_go(stream)


async def awaited(stream: ReplyStream) -> None:
    try:
        async for _ in await stream:
            pass
    finally:
        await let_go(stream)


async def let_go(stream: ReplyStream) -> None:
    """Without a block the reader's cancellation is enough, and must not need this: nothing more is waited for."""
    assert stream._source.over or stream.call.mail is not None


async def in_a_block(stream: ReplyStream) -> None:
    async with stream:
        async for _ in stream:
            pass


async def slowly(stream: ReplyStream) -> None:
    async with stream:
        async for _ in stream:
            await trio.sleep(1)


async def leaving_early(stream: ReplyStream) -> None:
    async with stream:
        async for _ in stream:
            break


async def sleeps(chunk: StreamChunk) -> None:
    await trio.sleep(0.1)


class Scenario(NamedTuple):
    """Who reads what of which model."""

    reader: Reader
    scripts: tuple[list[Step], ...] = (HELLO,)
    model: Mapping[str, object] = MappingProxyType({})
    ahead: int = 0


CROWDED = {"queue_capacity": 1, "concurrency_limit": 1}
SCENARIOS = {
    "by itself": Scenario(by_itself),
    "awaited": Scenario(awaited),
    "in a block": Scenario(in_a_block),
    "leaving early": Scenario(leaving_early),
    "slowly": Scenario(slowly, (MUCH,)),
    "with a deadline": Scenario(in_a_block, model={"deadline_s": 100}),
    "by itself with a deadline": Scenario(by_itself, model={"deadline_s": 100}),
    "with a process": Scenario(by_itself, model={"streaming_process_func": sleeps}),
    "after a refusal": Scenario(by_itself, ([error_event()], HELLO)),
    "an answer in one piece": Scenario(by_itself, ([0.5, JSON, answer()],)),
    "cut": Scenario(by_itself, ([text("a"), 0.5, BREAK],)),
    "after waiting for a place": Scenario(by_itself, model=CROWDED, ahead=2),
    "after waiting for a place, with a deadline": Scenario(in_a_block, model={**CROWDED, "deadline_s": 100}, ahead=2),
}


def run_and_cancel(scenario: Scenario, step: int) -> bool:
    """Run it and cancel the reader at his n-th step; whether he got that far."""
    provider = StreamProvider(*scenario.scripts)
    struck = False

    async def main() -> None:
        nonlocal struck
        async with streaming_engine(provider) as engine:
            model = a_model(**scenario.model)
            for _ in range(scenario.ahead):
                await engine.submit(model.create_api_calling(**ASK))
                await trio.testing.wait_all_tasks_blocked()
            stream = model.stream(**ASK)
            call = stream.call
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await scenario.reader(stream)
                except PenstockError as error:
                    if error is not call.error:
                        raise
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            struck = scope.cancel_called
            del stream
            began = trio.current_time()
            await engine.wait_quiet()
            if scope.cancelled_caught and not scenario.ahead:
                assert trio.current_time() == began, "the call went on without its reader"
            at_rest(engine)
            assert provider.busy == 0
            if call.status == "pending":
                assert scope.cancelled_caught
                again = await read(model.stream(call))
                assert (again.error, again.text) == ("", "Hello"), "what was not queued can be streamed again"
            assert call.status in ENDED

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_virtual(main, seed=None)
    return struck


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_reader_cancelled_at_any_of_his_steps_leaves_nothing(name: str) -> None:
    step = next(step for step in range(1, 1000) if not run_and_cancel(SCENARIOS[name], step))
    assert step > 2, "he never gave way"


# --- everything else, at each step of the loop ------------------------------------------------------------------------


class Countdown(trio.abc.Instrument):
    """Acts once, right after the n-th step of any task since it was set."""

    def __init__(self, nth: int, act: Callable[[], object]) -> None:
        self.left = nth
        self._act = act

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._act()


class Stage(NamedTuple):
    """What there is to be ended."""

    engine: Engine
    stream: ReplyStream
    tasks: trio.Nursery
    block: trio.CancelScope
    reader: trio.CancelScope


async def drains(engine: Engine) -> None:
    await engine.drain(queue="discard", deadline_s=0)


ENDS: dict[str, Callable[[Stage], object]] = {
    "the call": lambda stage: stage.stream.call.cancel(),
    "the stream": lambda stage: stage.tasks.start_soon(stage.stream.aclose),
    "the reader": lambda stage: stage.reader.cancel(),
    "the engine's block": lambda stage: stage.block.cancel(),
    "the engine by a drain": lambda stage: stage.tasks.start_soon(drains, stage.engine),
}


def run_and_end(end: Callable[[Stage], object], script: list[Step], nth: int) -> bool:
    """A reader outside the engine's block reads; at the n-th step of any task something is ended."""
    provider = StreamProvider([error_event()], script)
    countdown = Countdown(nth, lambda: None)
    ended: list[str] = []

    async def reads(stream: ReplyStream, scope: trio.CancelScope) -> None:
        with scope:
            try:
                got = await read(stream)
                # A stream closed before it was waited for is empty.
                assert got.status in ENDED or (got.status, got.chunks, got.error) == ("pending", [], "")
                assert not got.error or stream.call.error is not None
            except ShuttingDown:
                assert stream.call.status in ("pending", "skipped")
        ended.append(stream.call.status)

    async def main() -> None:
        block, scope = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as outside:
            with block:
                async with open_engine(transport=provider) as engine:
                    stream = a_model(engine=engine).stream(**ASK)
                    stage = Stage(engine, stream, outside, block, scope)
                    countdown._act = lambda: end(stage)
                    trio.lowlevel.add_instrument(countdown)
                    outside.start_soon(reads, stream, scope)
                    while not ended:  # noqa: ASYNC110  # the reader ends in many ways
                        await trio.sleep(0.5)
                    await engine.wait_quiet()
            trio.lowlevel.remove_instrument(countdown)
        assert len(ended) == 1, "the reader waits"
        at_rest(engine)
        assert (provider.busy, provider.open) == (0, 0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_virtual(main, seed=None)
    if countdown.left > 0:
        assert ended == ["completed"]
    return countdown.left <= 0


@pytest.mark.parametrize("script", [HELLO, MUCH], ids=["little", "much"])
@pytest.mark.parametrize("name", ENDS)
def test_what_ends_at_any_step_of_the_loop_leaves_no_reader_waiting(name: str, script: list[Step]) -> None:
    nth = next(nth for nth in range(1, 5000) if not run_and_end(ENDS[name], script, nth))
    assert nth > 25, "the scenario has become too short to say anything"
