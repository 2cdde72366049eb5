"""What must hold of an engine when all is over, whatever happened to it; and how to break its actors.

An actor is broken from outside, by mail that none of its kind could have written: a message that cannot be decoded, or
one about an endpoint that does not exist. Nothing inside the actor is replaced.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import trio
from trio.abc import Instrument
from trio.testing import MockClock

from actors import messages as ms
from engine import Engine

P = ParamSpec("P")
STEPS = 200_000


class Patience(Instrument):
    """Cancels `scope` after so many steps of whatever tasks: a loop in which no time passes would never end."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.scope = trio.CancelScope()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


def run_virtually(main: Callable[[], Awaitable[None]], *, steps: int = STEPS) -> None:
    """Run `main` in virtual time, and fail if the loop takes more than `steps` steps."""
    patience = Patience(steps)

    async def bounded() -> None:
        with patience.scope:
            await main()

    trio.run(bounded, clock=MockClock(autojump_threshold=0), instruments=[patience])
    assert patience.left > 0, f"not over after {steps} steps: something goes round and round"


def in_virtual_time(test: Callable[P, Awaitable[None]], *, steps: int = STEPS) -> Callable[P, None]:
    """Run an async test in a loop of its own, so that a cancellation that escapes from the engine is seen as an error.

    Under pytest-trio it would be taken for the end of the test, which would pass.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtually(functools.partial(test, *args, **kwargs), steps=steps)

    return run


def assert_nothing_is_left(engine: Engine, *, after_a_bug_in_the_schedule: bool = False) -> None:
    """Every live gauge is zero and the reservations add up. A schedule with a bug in it counts no further."""
    statistics = engine.statistics()
    live = dict(statistics.live)
    schedule = statistics.scheduler.schedule
    if after_a_bug_in_the_schedule:
        live = {name: live[name] for name in ("waiters", "in_handlers", "busy_connections")}
    else:
        assert schedule.reservations_made == schedule.reservations_settled + schedule.reservations_given_back
        assert sum(schedule.ended.values()) == schedule.submitted
        assert all(lane.queued + lane.backing_off + lane.in_flight == 0 for lane in schedule.lanes)
    assert live == dict.fromkeys(live, 0)
    assert repr(engine).endswith("0 live calls>")


def crash_endpoint(engine: Engine, *, times: int = 1) -> None:
    """Give every endpoint actor, and those who come after it, something they cannot read. Not once they are to stop."""
    if "closed" in repr(engine):
        return
    for mailbox in list(engine._switchboard._mailboxes.values()) * times:
        mailbox.post(b"\xc1")


def crash_scheduler(engine: Engine) -> None:
    """Report to the scheduler of an endpoint that does not exist."""
    engine._scheduler.mailbox.post(ms.encode(ms.Ready(endpoint=1 << 40)))


def crash_hook_bus(engine: Engine) -> None:
    """Give the hook bus something it cannot read."""
    engine._hook_bus.mailbox.post(b"\xc1")
