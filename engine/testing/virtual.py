"""Virtual time: a clock that stands still while anything happens, and jumps when everybody waits.

`run_virtual` runs an async function under such a clock, `in_virtual_time` makes a test of one, `scripted_engine` opens
an engine over a scripted provider and checks, when it is left, that nothing of it is left.

A rule for what runs here: it must wait for nothing but trio. A thread or a socket that somebody waits for does not hold
the clock, which jumps to the next deadline, so that the timeouts of the program strike. No pytest here.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import ParamSpec, TypeVar, overload

import trio
import trio._core._run as trio_run  # what pytest-trio, too, has to know of trio to make it repeat itself
from trio.testing import MockClock

from engine.config import EngineConfig
from engine.opening import open_engine
from engine.runtime import Engine
from engine.testing.provider import ScriptedProvider

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 1_000_000.0
"""Virtual seconds after which a program is taken to hang: more than eleven days."""


def run_virtual(
    main: Callable[..., Awaitable[T]], *args: object, seed: int | None = 0, patience_s: float = PATIENCE_S
) -> T:
    """Run ``main(*args)`` in virtual time and return what it returns: `trio.run` for tests.

    The clock starts at 0. Call it from ordinary, synchronous code: a test, or what `hypothesis.given` decorates.

    `seed` fixes the order in which trio runs tasks that are ready together: the same seed, the same run, and another
    seed, often, another order that is just as possible. None leaves it to chance, as trio does.

    Raises:
      trio.TooSlowError: `main` was not over after `patience_s` virtual seconds, and was cancelled. It waited for
        something that does not come.
      Exception: whatever `main` raises, as it is.
    """

    async def bounded() -> T:
        with trio.move_on_after(patience_s):
            return await main(*args)
        raise trio.TooSlowError(f"not over after {patience_s:g} virtual seconds: it waits for what does not come")

    with same_order(seed):
        return trio.run(bounded, clock=MockClock(autojump_threshold=0))


@overload
def in_virtual_time(test: Callable[P, Awaitable[None]], /) -> Callable[P, None]: ...


@overload
def in_virtual_time(
    *, seed: int | None = 0, patience_s: float = PATIENCE_S
) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]: ...


def in_virtual_time(
    test: Callable[P, Awaitable[None]] | None = None, /, *, seed: int | None = 0, patience_s: float = PATIENCE_S
) -> Callable[P, None] | Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]:
    """Make an async test a synchronous one that runs in virtual time: ``@in_virtual_time``, with or without arguments.

    It is run by any pytest, with or without pytest-trio, and under ``@given``, each example with a clock of its own.
    It may use fixtures, parametrised or not, but no async ones. The arguments are those of `run_virtual`.
    """

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            run_virtual(functools.partial(test, *args, **kwargs), seed=seed, patience_s=patience_s)

        return run

    return decorate if test is None else decorate(test)


@contextlib.asynccontextmanager
async def scripted_engine(
    provider: ScriptedProvider, config: str | os.PathLike[str] | EngineConfig | None = None
) -> AsyncIterator[Engine]:
    """Open an engine over `provider` for the block: ``async with scripted_engine(provider) as engine``.

    It is `open_engine`, and left like one; then it is checked that the engine is quiet and every connection closed,
    also when the block raised. The engine's backoff is drawn from the provider's seed. A provider may serve one engine
    after another, not several at once; `provider.failure` is of the last one.

    Raises:
      AssertionError: something is left: a live gauge above zero, an open connection, a request in flight.
      Exception: what the script raised, if it did; then what `open_engine` and the block raise, as it is.
      BaseException: a cancellation and whatever else is no `Exception`, as it is; what the script raised is a note.
    """
    engine: Engine | None = None
    provider.failure = None
    try:
        async with open_engine(config, transport=provider) as engine:
            # The jitter of the engine's backoff has no other door.
            engine._switchboard._random.seed(provider.seed)
            yield engine
    except BaseException as error:
        _check_left(engine, provider, error)
        raise
    _check_left(engine, provider, None)


def _check_left(engine: Engine | None, provider: ScriptedProvider, error: BaseException | None) -> None:
    """Raise what the script raised, else `AssertionError` if something is left. `error` is what leaves the block."""
    if provider.failure is not None:
        if error is None or isinstance(error, Exception):
            raise provider.failure
        # A cancelled scope waits for this very exception: another in its place would fly past it.
        error.add_note(f"the script of the ScriptedProvider raised {provider.failure!r}")
    elif engine is not None:
        assert_quiet(engine)
        if provider.open_now or provider.in_flight:
            raise AssertionError(f"the engine is over, and its provider is not at rest: {provider!r}")


def assert_quiet(engine: Engine) -> None:
    """Check that nothing is live in an engine, open or left: no call, no place, no permit, no reservation.

    In an open engine, ``await engine.wait_quiet()`` comes first.

    Raises:
      AssertionError: naming the gauges of ``engine.statistics().live`` that are above zero.
    """
    live = {name: value for name, value in engine.statistics().live.items() if value}
    if live:
        raise AssertionError(f"the engine is not quiet: {', '.join(f'{name} {value}' for name, value in live.items())}")


@contextlib.contextmanager
def same_order(seed: int | None = 0) -> Iterator[None]:
    """Within the block, `trio.run` runs tasks that are ready together in an order drawn from `seed`, and from nothing
    else; None changes nothing. `run_virtual` does this by itself."""
    if seed is None:
        yield
        return
    before, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # final for everybody but tests
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]  # as above
        trio_run._r.setstate(state)
