"""`AsyncInferneoClient`: the client of Inferneo's document, for trio.

Its calls run in the innermost open engine of the task that makes them, or in the one it is given; used in an ``async
with`` where none is open, it opens its own. Any number of calls may run at once: `engine.gather` takes them.
Cancellation cancels the call, and closes its connection if it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack

from engine.clients.inferneo.errors import translated
from engine.clients.inferneo.methods import Chat, Completions, Models
from engine.clients.inferneo.responses import (
    ChatCompletionChunk,
    ChatCompletionResponse,
    CompletionChunk,
    CompletionResponse,
    Model,
    ModelList,
    ServerInfo,
)
from engine.clients.inferneo.service import EngineSettings, Service, Steps
from engine.clients.inferneo.streams import ChunkStream
from engine.runtime import Engine

T = TypeVar("T")
C = TypeVar("C")
Later: TypeAlias = Coroutine[Any, Any, T]


class AsyncInferneoClient:
    """`InferneoClient` for trio: the same arguments and methods, awaited.

        async with AsyncInferneoClient("http://localhost:8000") as client:
            tasks = [client.completions.create(model="m", prompt=prompt) for prompt in prompts]
            responses = await gather(*tasks)

    `engine` is the one to use, in place of the innermost open one.

    Raises:
      InferneoError: an argument is out of its range; it is named, and no key is shown.
    And each method, besides what it says itself:
      EngineNotRunning: no engine is open here: use the client in an ``async with``. It is no `InferneoError`.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        headers: Mapping[str, str] | None = None,
        *,
        engine: Engine | None = None,
        **settings: Unpack[EngineSettings],
    ) -> None:
        self._service = service = Service(base_url, api_key, timeout, max_retries, headers, settings, engine)
        face = _Awaited(service)
        self._face = face
        self.completions: Completions[Later[CompletionResponse], Later[ChunkStream[CompletionChunk]]] = Completions(
            service, face
        )
        """Text completions."""
        self.chat: Chat[Later[ChatCompletionResponse], Later[ChunkStream[ChatCompletionChunk]]] = Chat(service, face)
        """Chat: its `completions`."""
        self.models: Models[Later[ModelList], Later[Model]] = Models(service, face)
        """The server's models."""

    @property
    def engine(self) -> Engine:
        """The engine its calls run in now.

        Raises:
          EngineNotRunning: none was given and none is open here.
        """
        return self._service.chat.engine

    async def info(self) -> ServerInfo:
        """What is known of the server; see `InferneoClient.info`."""
        return await self._face.run(self._service.info())

    async def health(self) -> Any:
        """What the server has at ``/health``."""
        return await self._face.run(self._service.document("/health"))

    async def stats(self) -> Any:
        """What the server has at ``/stats``."""
        return await self._face.run(self._service.document("/stats"))

    async def close(self) -> None:
        """Be done with it. Connections belong to the engine, so nothing has to be given back; it can be used again."""
        await self._service.chat.close()

    async def __aenter__(self) -> Self:
        """Use the client: in the engine there is, else in one of its own until the block is left."""
        await self._service.chat.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._service.chat.__aexit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<AsyncInferneoClient at {self._service.base_url}>"


class _Awaited:
    """`Face` of trio."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run(self, steps: Steps[T]) -> T:
        """Send the calls of an operation, one after the other; what it comes to."""
        try:
            call = next(steps)
            while True:
                with translated():
                    await self._service.chat.engine.invoke(call)
                call = steps.send(call)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # which is what the generator returns

    async def begin(self, make: Callable[[], ChunkStream[C]]) -> ChunkStream[C]:
        """A stream whose call is queued."""
        return await make().begin()
