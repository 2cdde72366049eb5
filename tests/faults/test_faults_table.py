"""Phase by way: a call is brought to a phase of its life, something goes wrong, and exactly one thing becomes of it.

Each cell says what the caller sees: the call's status, its error, whether that says a byte was sent, and how many
attempts were counted. In every cell nobody is left waiting, every live gauge is zero and the reservations add up. A
real engine with a scripted provider, in virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
import trio
from engine_checks import assert_nothing_is_left, crash_endpoint, crash_hook_bus, crash_scheduler, in_virtual_time
from scripted_provider import STAGES, ScriptedProvider, call_of, scripted_model
from trio.testing import wait_all_tasks_blocked

from engine import Call, CallCancelled, Engine, InternalError, OutcomeUnknown, PenstockError, ShuttingDown, open_engine

PHASES = ("waiting for a place", "queued", "backing off", "connecting", *STAGES)
SENT = ("sending", "awaiting", "reading")


class BlockError(Exception):
    """What the user's own code raises in the engine's block."""


class Scene:
    """An engine held open by one task, the call in question invoked by another, other calls in its way."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.provider = ScriptedProvider()
        limits: dict[str, object] = {}
        if phase in ("waiting for a place", "queued"):
            limits["concurrency_limit"] = 1
        if phase == "waiting for a place":
            limits["queue_capacity"] = 1
        self.model = scripted_model(**limits)
        self.call = call_of(self.model, "retry" if phase == "backing off" else "answer")
        self.others: list[Call] = []
        self.engine: Engine
        self.opened = trio.Event()
        self.leave = trio.Event()
        self.block_scope = trio.CancelScope()
        self.caller_scope = trio.CancelScope()
        self.block_error: BaseException | None = None
        self.to_raise: BlockError | None = None
        self.raised: PenstockError | None = None
        self.returned: Call | None = None
        self.told = trio.Event()

    async def hold(self) -> None:
        try:
            with self.block_scope:
                async with open_engine(transport=lambda account, on_usage: self.provider) as self.engine:
                    self.opened.set()
                    await self.leave.wait()
                    if self.to_raise is not None:
                        raise self.to_raise
        except (BlockError, PenstockError) as error:
            self.block_error = error

    async def invoke(self) -> None:
        with self.caller_scope:
            try:
                self.returned = await self.engine.invoke(self.call)
            except PenstockError as error:
                self.raised = error
        self.told.set()

    async def reach_the_phase(self, nursery: trio.Nursery) -> None:
        """Start the call, and wait until it is where the cell wants it."""
        await self.opened.wait()
        crowd = {"waiting for a place": 2, "queued": 1}.get(self.phase, 0)
        for _ in range(crowd):
            other = call_of(self.model)
            self.others.append(other)
            await self.engine.submit(other)
            if other is self.others[0]:
                await self.provider.entered[other.id, "awaiting"].wait()
        nursery.start_soon(self.invoke)
        if self.phase == "connecting":
            await self.provider.connecting.wait()
        elif self.phase == "backing off":
            while not self.engine.statistics().live["backing_off"]:  # noqa: ASYNC110  # a gauge sets no event
                await trio.sleep(0.1)
        elif self.phase in STAGES:
            await self.provider.entered[self.call.id, self.phase].wait()
        await wait_all_tasks_blocked()
        status = {"waiting for a place": "pending", "granted": "processing", "sending": "processing"}
        expected = "calling" if self.phase in ("awaiting", "reading") else status.get(self.phase, "queued")
        assert self.call.status == expected


Way = Callable[[Scene], Awaitable[None]]


async def caller_cancelled(scene: Scene) -> None:
    scene.caller_scope.cancel()


async def call_cancelled(scene: Scene) -> None:
    scene.call.cancel()


async def connection_cut(scene: Scene) -> None:
    scene.provider.make_trouble("cut")


async def transport_bug(scene: Scene) -> None:
    scene.provider.make_trouble("bug")


async def endpoint_crash(scene: Scene) -> None:
    crash_endpoint(scene.engine)


async def endpoint_down(scene: Scene) -> None:
    for _ in range(4):
        crash_endpoint(scene.engine)
        await wait_all_tasks_blocked()


async def scheduler_crash(scene: Scene) -> None:
    crash_scheduler(scene.engine)


async def hook_bus_crash(scene: Scene) -> None:
    crash_hook_bus(scene.engine)


async def block_raises(scene: Scene) -> None:
    scene.to_raise = BlockError("the user's own")
    scene.leave.set()


async def block_cancelled(scene: Scene) -> None:
    scene.block_scope.cancel()


async def drain_discard(scene: Scene) -> None:
    await scene.engine.drain(queue="discard", deadline_s=1000)


async def drain_at_once(scene: Scene) -> None:
    await scene.engine.drain(queue="discard", deadline_s=0)


class Fate(NamedTuple):
    """What the caller sees. `error` is a class's name; `detail` is `reason`, `sent` or `gave_up`, as that class has it.

    `raised`: by `invoke`, the call itself stays pending. `attempts` None: not asked.
    """

    status: str
    error: str = ""
    detail: object = None
    attempts: int | None = None
    raised: bool = False


def by_phase(waiting: Fate, queued: Fate, backing_off: Fate, connecting: Fate, granted: Fate, sent: Fate) -> list[Fate]:
    return [waiting, queued, backing_off, connecting, granted, sent, sent, sent]


COMPLETED, COMPLETED_2 = Fate("completed", attempts=1), Fate("completed", attempts=2)
ABORTED = Fate("aborted", "ShuttingDown", attempts=0)
REFUSED = Fate("pending", "ShuttingDown", raised=True)
DOWN = Fate("skipped", "InternalError")
FAILED_HERE = Fate("failed", "InternalError")
LAST_ERROR = Fate("failed", "ProviderUnavailable", "shutdown", attempts=1)


def cancelled(*, sent: bool) -> Fate:
    return Fate("cancelled", "CallCancelled", sent)


def lost(reason: str) -> Fate:
    return Fate("failed", "OutcomeUnknown", reason, attempts=1)


ENDED = by_phase(REFUSED, ABORTED, LAST_ERROR, ABORTED, ABORTED, lost("shutdown"))
BROKEN = by_phase(Fate("pending", "InternalError", raised=True), *[FAILED_HERE] * 5)
UNSENT_CANCELLED = cancelled(sent=False)
TABLE: dict[Way, list[Fate]] = {
    caller_cancelled: by_phase(
        Fate("pending"),
        UNSENT_CANCELLED,
        cancelled(sent=True),
        UNSENT_CANCELLED,
        UNSENT_CANCELLED,
        cancelled(sent=True),
    ),
    call_cancelled: by_phase(
        UNSENT_CANCELLED,
        UNSENT_CANCELLED,
        cancelled(sent=True),
        UNSENT_CANCELLED,
        UNSENT_CANCELLED,
        cancelled(sent=True),
    ),
    connection_cut: by_phase(COMPLETED, COMPLETED, COMPLETED_2, COMPLETED_2, Fate("completed"), lost("closed")),
    transport_bug: by_phase(COMPLETED, COMPLETED, COMPLETED_2, COMPLETED, COMPLETED, lost("crashed")),
    endpoint_crash: by_phase(COMPLETED, COMPLETED, COMPLETED_2, COMPLETED, COMPLETED, lost("crashed")),
    endpoint_down: by_phase(
        DOWN,
        FAILED_HERE,
        Fate("failed", "ProviderUnavailable", attempts=1),
        FAILED_HERE,
        FAILED_HERE,
        lost("crashed"),
    ),
    scheduler_crash: BROKEN,
    hook_bus_crash: BROKEN,
    block_raises: ENDED,
    block_cancelled: ENDED,
    drain_discard: by_phase(REFUSED, ABORTED, LAST_ERROR, ABORTED, COMPLETED, COMPLETED),
    drain_at_once: ENDED,
}
CELLS = [
    pytest.param(phase, way, fate, id=f"{way.__name__}-{phase}")
    for way, fates in TABLE.items()
    for phase, fate in zip(PHASES, fates, strict=True)
]


@pytest.mark.parametrize(("phase", "way", "fate"), CELLS)
@in_virtual_time
async def test_whatever_happens_in_whichever_phase_one_thing_becomes_of_the_call(
    phase: str, way: Way, fate: Fate
) -> None:
    scene = Scene(phase)
    with trio.fail_after(2000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.hold)
            await scene.reach_the_phase(nursery)
            await way(scene)
            await scene.told.wait()
            scene.leave.set()
    check(scene, fate)
    check_the_block(scene, way)
    assert all(other.ended for other in scene.others), "the calls in the way ended, too"
    assert scene.provider.open == 0
    assert_nothing_is_left(scene.engine, after_a_bug_in_the_schedule=way is scheduler_crash)


def check(scene: Scene, fate: Fate) -> None:
    """The call's fate, as its caller and its provider saw it."""
    call = scene.call
    # A call that gets its place as the engine or its endpoint ends is refused by the scheduler instead, or just not.
    assert call.status == fate.status or (fate, call.status) in ((REFUSED, "skipped"), (DOWN, "failed"))
    if fate.raised:
        assert scene.returned is None
        error = scene.raised
    else:
        assert scene.raised is None
        assert scene.returned is (None if scene.caller_scope.cancelled_caught else call)
        error = call.error
    assert (type(error).__name__ if error is not None else "") == fate.error
    if isinstance(error, OutcomeUnknown):
        assert error.reason == fate.detail
    elif isinstance(error, CallCancelled):
        assert error.sent is fate.detail
        assert error.sent is (scene.provider.begun[call.id] > 0)
    elif isinstance(error, ShuttingDown):
        assert error.call is call
        assert scene.provider.begun[call.id] == 0, "nothing was ever sent"
    elif fate.detail is not None:
        assert error is not None
        assert error.gave_up == fate.detail
    if fate.attempts is not None:
        assert call.attempts == fate.attempts
    begun = scene.provider.begun[call.id]
    assert begun <= call.attempts or call.ended is None or fate.error == "InternalError", "sent no oftener than counted"
    assert begun >= (fate.status == "completed")


def check_the_block(scene: Scene, way: Way) -> None:
    """How the engine's block was left."""
    if way in (scheduler_crash, hook_bus_crash):
        assert isinstance(scene.block_error, InternalError)
        assert scene.block_error.__cause__ is not None
    elif way is block_raises:
        assert scene.block_error is scene.to_raise
    else:
        assert scene.block_error is None
    assert scene.block_scope.cancelled_caught is (way is block_cancelled)
