"""A plugin of pytest: ``pytest_plugins = ["engine.testing.fixtures"]`` in the topmost `conftest.py`.

    async def test_the_answer_is_used(virtual_engine, scripted_provider):
        scripted_provider.follow(["Paris"])
        assert await ask("What is the capital of France?") == "Paris"

Tests that use `virtual_engine` are run by pytest-trio, in virtual time; they need neither a mark nor its ``trio_mode``.
`run_virtual` and `in_virtual_time` do without plugins. This is the one file of the package that imports pytest, and
nothing but pytest imports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.testing import MockClock

from engine.runtime import Engine
from engine.testing.provider import ScriptedProvider
from engine.testing.virtual import PATIENCE_S, same_order, scripted_engine

T = TypeVar("T")


@pytest.fixture
def scripted_provider() -> ScriptedProvider:
    """The provider behind `virtual_engine`, which says "hi" to everything until ``scripted_provider.follow(...)``.

    A fixture of this name in a project's own `conftest.py` takes its place: with limits, latency, another seed.
    """
    return ScriptedProvider()


@pytest.fixture
async def virtual_engine(scripted_provider: ScriptedProvider) -> AsyncIterator[Engine]:
    """An open engine over `scripted_provider`, in virtual time that starts at 0; the test's models find it themselves.

    When the test is over, what it submitted runs to its end, and `scripted_engine` makes its checks. Tasks that are
    ready together run in the same order in every run. Not for tests under ``@given``, whose examples would share one
    engine: put `in_virtual_time` below it.

    Raises:
      trio.TooSlowError: the test was not over after `PATIENCE_S` virtual seconds, and was cancelled.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        pytest.fail("virtual_engine works in virtual time only; under @given, put @in_virtual_time below it instead")
    with trio.fail_after(PATIENCE_S):
        async with scripted_engine(scripted_provider) as engine:
            yield engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that use `virtual_engine` run in virtual time: pytest-trio takes a clock only from the test's own
    arguments, but lets a mark say how a test is run."""
    for item in items:
        if "virtual_engine" in getattr(item, "fixturenames", ()):
            # Before the mark that pytest-trio puts there in its own mode: the first one that says how counts.
            item.add_marker(pytest.mark.trio(run=_run), append=False)


def _run(main: Callable[[], Awaitable[T]], *, clock: Clock | None = None, instruments: Sequence[Instrument] = ()) -> T:
    """In place of `trio.run`; a clock that the test brings along counts."""
    with same_order():
        return trio.run(main, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)
