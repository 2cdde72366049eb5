"""The engine for synchronous code: `BlockingEngine` and `BlockingModel`, used from any number of threads.

Every method blocks its own thread alone. Ctrl-C in one of them cancels what it waits for, waits until that is gone, and
is raised. Nothing here runs in the loop's thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, cast

from engine.agent_runs import check_invoked, collected
from engine.agents.format import AgentFormat
from engine.call import Call
from engine.errors import PenstockError, UsageError
from engine.portal.asked import PortalModel, call_of, is_agent, stream_call_of
from engine.portal.blocking_iterators import BlockingIterator, BlockingMap, BlockingStream
from engine.portal.loop import PortalLoop
from engine.portal.pipe import AHEAD, Pipe
from engine.portal.told import noted
from engine.portal.waiting import Errand, Invocation, Request, wait_blocking
from engine.runtime import EngineStatistics
from engine.streaming import OnChunk

T = TypeVar("T")
P = ParamSpec("P")
Self = TypeVar("Self", bound="BlockingModel")


class BlockingEngine:
    """An open engine for synchronous code. Made by ``with open_portal() as engine``; any thread may use it.

    A call that it returns is an ordinary `Call`: look at it from any thread, but wait for it and cancel it by `wait`
    and `cancel` of the engine.

    Ctrl-C in a method cancels what it waits for, and is raised when that has ended.

    Raises, each method:
      EngineNotRunning: the portal is closed. UsageError: this is a forked child of its process.
      And what the same method of `Engine` raises.
    """

    def __init__(self, loop: PortalLoop) -> None:
        self.loop = loop

    # --- calls ---

    def invoke(self, call: Any, **kwargs: Any) -> Call:
        """Send a call and wait until it has ended. `call` is a `Call`, or a model and the arguments of one."""
        if is_agent(call):
            model: BlockingModel = BlockingModel.of(call, self)
            return model.invoke(**kwargs)
        return self._ask(Invocation(call_of(call, kwargs)))

    def submit(self, call: Any, **kwargs: Any) -> Call:
        """Queue a call, waiting for a place, and return it; it goes on by itself."""
        call = call_of(call, kwargs)
        return self.call(lambda: self.loop.engine.submit(call))

    def submit_nowait(self, call: Any, **kwargs: Any) -> Call:
        """Queue a call if its lane has a place for it now, else raise `Overloaded`."""
        call = call_of(call, kwargs)
        return self._ask(Request(lambda: self.loop.engine.submit_nowait(call)))

    def stream(self, call: Any, *, process: OnChunk = None, watch: OnChunk = None, **kwargs: Any) -> BlockingStream:
        """The answer to a call, made with ``stream=True`` or of a model's arguments, as it comes.

        `process` sees every chunk where it is read, and may return another; `watch` before that, in the engine's loop.
        """
        if is_agent(call):
            model: BlockingModel = BlockingModel.of(call, self)
            return model.stream(**kwargs)
        return BlockingStream(self.loop, *stream_call_of(call, kwargs, process), watch)

    def map(self, calls: Iterable[Call], *, ordered: bool = False, buffer: int = 1000) -> BlockingMap:
        """Send many calls and read them as they end, or in their own order: `Engine.map`, as a plain iterator.

        `calls` is pulled in this thread, while the results are read, and never more than `buffer` calls ahead of them.
        """
        return BlockingMap(self.loop, calls, ordered=ordered, buffer=buffer)

    def wait(self, call: Call) -> Call:
        """Wait until a call has ended, and return it. Ctrl-C ends only this wait."""
        return self.call(lambda: call.wait())

    def cancel(self, call: Call) -> None:
        """Give a call up, wherever it is. Does not wait: `wait` does."""
        self._start()
        self.loop.post(call.cancel)

    def model(self, *args: Any, **kwargs: Any) -> BlockingModel:
        """A model whose calls run in this engine; the arguments are those of `iModel`."""
        model: BlockingModel = BlockingModel(*args, engine=self, **kwargs)
        return model

    # --- the whole ---

    def drain(self, *, queue: Literal["finish", "discard"] = "finish", deadline_s: float | None = None) -> None:
        """Take no more calls and wait until none is live."""
        self.call(lambda: self.loop.engine.drain(queue=queue, deadline_s=deadline_s))

    def wait_quiet(self) -> None:
        """Wait until no call is queued, backing off or in flight."""
        self.call(lambda: self.loop.engine.wait_quiet())

    def statistics(self) -> EngineStatistics:
        """A frozen copy of everything that is counted, now."""
        return self._ask(Request(lambda: self.loop.engine.statistics()))

    # --- anything else ---

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run any async function in the portal's loop, with the engine open, and return or raise what it does."""
        return self._ask(Errand[T](lambda: function(*args, **kwargs)))

    def iterate(self, items: AsyncIterable[T], *, ahead: int = AHEAD) -> BlockingIterator[T]:
        """Any async iterable, iterated in the portal's loop, as a plain iterator that is read `ahead` items ahead."""

        async def open_source() -> AsyncIterator[T]:
            return aiter(items)

        return BlockingIterator(self.loop, Pipe(open_source, ahead=ahead))

    def _ask(self, request: Request[T]) -> T:
        self._start()
        return wait_blocking(self.loop, request)

    def _start(self) -> None:
        """The shared loop is started by its first user."""
        if not self.loop.running:
            self.loop.start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'open' if self.loop.running else 'closed'}>"


class BlockingModel(PortalModel[BlockingEngine]):
    """`iModel` for synchronous code, from any thread: ``BlockingModel(model="openai/gpt-4o-mini").invoke(...)``.

    Raises what `iModel` raises, and `UsageError` for an `engine` of another kind.
    """

    _engines = BlockingEngine

    def invoke(self, api_call: Call | None = None, **kwargs: Any) -> Call:  # type: ignore[override]  # it blocks
        """Send a call and wait until it has ended; see `iModel.invoke`. Ctrl-C cancels the call."""
        if self.is_cli:
            check_invoked(self)  # type: ignore[arg-type]  # which looks at its format alone
        return self._invoke(api_call, kwargs)

    def _invoke(self, api_call: Call | None, kwargs: dict[str, Any]) -> Call:  # type: ignore[override]  # as above
        asked = self._asked(api_call, kwargs)
        is_run = self.is_cli and (not isinstance(asked, Call) or isinstance(asked.owner.format, AgentFormat))
        if not is_run or (api_call is not None and api_call.over):
            return self.engine.invoke(asked, **kwargs)
        with self.stream(api_call, **kwargs) as chunks:
            try:
                for _ in chunks:
                    pass
            except PenstockError as error:  # what became of the run is on its call
                if error is not chunks.call.error:
                    raise
        return chunks.call

    def run_and_collect(self, api_call: Call | None = None, **kwargs: Any) -> str | None:  # type: ignore[override]
        """Send a call, and return all that was said in answer: `iModel.run_and_collect`. Ctrl-C cancels the call."""
        return collected(self._invoke(api_call, kwargs).raise_for_status())

    def stream(self, api_call: Call | None = None, **kwargs: Any) -> BlockingStream:  # type: ignore[override]  # as above
        """The answer as it comes: ``for chunk in model.stream(...)``; see `iModel.stream`."""
        return cast(BlockingStream, super().stream(api_call, **noted(kwargs)))

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: Self) -> Self:
        raise UsageError("a BlockingModel is used in a plain `with`; AsyncioModel is the one for asyncio")

    def close(self) -> None:  # type: ignore[override]  # it blocks
        """Be done with the model. Connections belong to the engine, so nothing has to be given back here."""
