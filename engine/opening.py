"""`open_engine`: the nursery an engine lives in, and how it is left; and `gather`, trio's missing convenience.

Rules: leaving normally drains, leaving by an exception stops at once; the block's own exception leaves unchanged; no
exception group with a single cause leaves here. Which engine is open is a context variable, so tasks inherit it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import trio

from engine.config import EngineConfig, parse_config
from engine.errors import EngineNotRunning, UsageError
from engine.hooks import HookRegistry, registry_of
from engine.log import debugging, log
from engine.runtime import Engine
from engine.transports.files import read_text
from engine.usual_transports import TransportFactory, usual_transports

T = TypeVar("T")
Self = TypeVar("Self", bound="Alone")

_current: ContextVar[Engine | None] = ContextVar("penstock_engine", default=None)


def current_engine() -> Engine:
    """The innermost open engine of this context.

    Raises:
      EngineNotRunning: there is none.
    """
    engine = _current.get()
    if engine is None:
        how = "" if trio.lowlevel.in_trio_run() else ", under trio (trio.run(main); engine.portal is for all others)"
        raise EngineNotRunning(
            f"no engine is open here. Open one around the code, `async with open_engine():`{how}. A model, or a client "
            "that is a context manager, opens its own: `async with iModel(...) as model:`"
        )
    return engine


def make_current(engine: Engine) -> None:
    """Make this the open engine of the context, for good: for a context made to run somebody's work beside it."""
    _current.set(engine)


def is_engine_open() -> bool:
    """Whether an engine is open in this context."""
    return _current.get() is not None


@contextlib.asynccontextmanager
async def open_engine(
    config: str | os.PathLike[str] | EngineConfig | None = None,
    *,
    journal: object = None,
    hooks: HookRegistry | Mapping[Any, Any] | None = None,
    transport: TransportFactory | None = None,
) -> AsyncIterator[Engine]:
    """Open an engine for the block: ``async with open_engine() as engine``.

    `config` is the path of a TOML file, a parsed `EngineConfig`, or None. `hooks` are handlers of all its calls, around
    those of their models: a `HookRegistry`, or a dict of them. `transport` makes the transports of provider
    accounts instead of HTTP, for tests and for other ways to reach a provider.

    Leaving the block normally drains: what was accepted runs to its end. Leaving it by an exception or by cancellation
    stops at once, and every call that has not ended ends. The block's own exception leaves unchanged.

    Raises:
      UsageError: the configuration is wrong, or asks for what this version does not have.
      InternalError: the engine itself failed.
    """
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise UsageError("penstock runs under trio: use trio.run(main), not asyncio.run") from None
    if journal is not None:
        raise UsageError("journal= is not supported by this version; leave it out")
    registry = registry_of(hooks)
    if config is None:
        config = EngineConfig()
    elif not isinstance(config, EngineConfig):
        path = _path_of(config)
        config = parse_config(await read_text(path), path)
    engine: Engine | None = None
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            engine = Engine(config, nursery, transport or usual_transports(config.engine), registry)
            before = _current.set(engine)
            try:
                yield engine
                await engine.drain()
                await engine.stop()
            except BaseException as error:  # noqa: BLE001  # kept, and raised below as it is
                raised = error
                nursery.cancel_scope.cancel()
            finally:
                _current.reset(before)
    except BaseExceptionGroup as group:
        cause = only_cause(group)
        if raised is None or _is_cancellation(raised):
            raised = cause
    finally:
        if engine is not None:
            engine.end()
            _log_end(raised)
    failure = engine.failure if engine is not None else None
    if failure is not None and (raised is None or _is_cancellation(raised)):
        raise failure
    if raised is not None:
        raise raised


def _log_end(raised: BaseException | None) -> None:
    if debugging():
        log.debug("engine closed", **({"error": type(raised).__name__} if raised is not None else {}))


def _path_of(config: object) -> str:
    path = os.fspath(config) if isinstance(config, str | os.PathLike) else None
    if not isinstance(path, str):
        raise UsageError(f"config is the path of a TOML file, an EngineConfig or None, not {type(config).__name__}")
    return path


class Alone:
    """What uses the engine it was given, else the open one, and in an ``async with`` of its own, where there is none,
    one that is opened for the block."""

    _engine: Engine | None = None
    _own_engine: contextlib.AbstractAsyncContextManager[Engine] | None = None
    _opened_by: trio.lowlevel.Task | None = None
    _entered = 0

    @property
    def engine(self) -> Engine:
        """The engine its calls run in now.

        Raises:
          EngineNotRunning: none was given and none is open here.
        """
        return self._engine if self._engine is not None else current_engine()

    def _stand_alone(self, other: Alone) -> None:
        """Be without what `other`, of which this is a copy, has opened for itself."""
        self._engine = other._engine if other._own_engine is None else None
        self._own_engine, self._opened_by, self._entered = None, None, 0

    async def __aenter__(self: Self) -> Self:
        """Use it: in the engine there is, else in one of its own until the block is left."""
        if self._engine is None and not is_engine_open():
            own = open_engine()
            self._engine = await own.__aenter__()
            self._own_engine = own
            self._opened_by = trio.lowlevel.current_task()
        elif self._own_engine is not None and trio.lowlevel.current_task() is not self._opened_by:
            raise UsageError("the model is in use by another task's `async with`; open an engine around both tasks")
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._own_engine is not None and not self._entered:
            own, self._own_engine = self._own_engine, None
            self._engine = None
            await own.__aexit__(kind, error, traceback)


def only_cause(group: BaseExceptionGroup[Any]) -> BaseException:
    """A group's one cause, or the group if it has several. Cancellation is no cause beside another."""
    causes = list(_leaves(group))
    real = [cause for cause in causes if not isinstance(cause, trio.Cancelled)]
    if not real:
        return causes[0]
    return real[0] if len(real) == 1 else group


def _is_cancellation(error: BaseException) -> bool:
    """Whether there is nothing in it but cancellation."""
    if isinstance(error, BaseExceptionGroup):
        error = only_cause(error)
    return isinstance(error, trio.Cancelled)


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def gather(*awaitables: Awaitable[T]) -> list[T]:
    """Await all of them at once and return their results in their order.

    The first exception cancels the others and is raised as it is; several at once are raised as a group.
    """
    results: list[Any] = [None] * len(awaitables)
    failure: BaseException | None = None

    async def run(index: int, awaitable: Awaitable[T]) -> None:
        results[index] = await awaitable

    try:
        async with trio.open_nursery() as nursery:
            for index, awaitable in enumerate(awaitables):
                nursery.start_soon(run, index, awaitable)
    except BaseExceptionGroup as group:
        failure = only_cause(group)
    if failure is not None:
        raise failure
    return results
