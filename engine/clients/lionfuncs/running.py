"""One run of an executor: an engine that is open in a task of its own, from a start to its stop.

A system task of trio's, so that an executor may be started and stopped by any task, in whatever scopes and nurseries.
Such a task must never raise: what the engine ended of is kept for who stops it. If nobody does, it is cancelled when
`trio.run` ends, and its calls end then.

Must not import the executor or the events.
"""

from __future__ import annotations

import trio

from engine.config import EngineConfig
from engine.opening import open_engine
from engine.runtime import Engine
from engine.usual_transports import TransportFactory


class Run:
    """Opens an engine at once. `opened` is set when `engine` is there, or when there will be none; `over` when it is
    closed. `closing`: it takes no more calls.

    `blocks` are scopes that are cancelled if the engine fails, so that nobody waits in them for what does not come.
    `error` is what it ended of.
    """

    def __init__(self, config: EngineConfig, transport: TransportFactory) -> None:
        self.engine: Engine | None = None
        self.error: BaseException | None = None
        self.closing = False
        self.opened = trio.Event()
        self.over = trio.Event()
        self.blocks: list[trio.CancelScope] = []
        self._leave = trio.Event()
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._live, config, transport, name="lionfuncs executor")

    async def _live(self, config: EngineConfig, transport: TransportFactory) -> None:
        try:
            with self._scope:
                async with open_engine(config, transport=transport) as engine:
                    self.engine = engine
                    self.opened.set()
                    await self._leave.wait()
        except trio.Cancelled:  # trio.run is at its end
            raise
        except BaseException as error:  # noqa: BLE001  # kept, for whoever stops it
            self.error = error
            for block in self.blocks:
                block.cancel()
        finally:
            # Of an engine that failed, its calls are to say so.
            self.closing = self.closing or not isinstance(self.error, Exception)
            self.opened.set()
            self.over.set()

    async def stop(self, *, graceful: bool) -> None:
        """Take no more calls and wait for the end: that of all calls, or at once. Cancelled, it ends all at once.

        Raises:
          BaseException: what the engine ended of, as it is.
        """
        self.closing = True
        try:
            if not graceful and self.engine is not None and not self.over.is_set():
                await self.engine.drain(queue="discard", deadline_s=0)
            self._leave.set()
            await self.over.wait()
        except BaseException:
            await self.abort()
            raise
        if self.error is not None:
            raise self.error

    async def abort(self) -> None:
        """End everything at once, and wait for that. Not to be cancelled."""
        self.closing = True
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self.over.wait()
