"""`InferneoClient`: the client of Inferneo's document, for synchronous code in any number of threads.

It runs in the process-wide portal, or in the one it is given. Every method blocks its own thread alone; Ctrl-C in one
cancels what it waits for. Limits, retries and connections are the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from engine.clients.inferneo.errors import InferneoError, translated
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
from engine.portal import BlockingEngine, BlockingIterator, Portal, default_portal

T = TypeVar("T")
C = TypeVar("C")


class InferneoClient:
    """A client of one Inferneo server, or of any other that speaks OpenAI's formats.

        client = InferneoClient("http://localhost:8000", limit_requests=60)
        print(client.completions.create(model="m", prompt="Hello").choices[0].text)

    Args:
      base_url: the server's address, with or without ``/v1``.
      api_key: sent as ``Authorization: Bearer``; else INFERNEO_API_KEY is looked at, and without either none is sent.
      timeout: seconds for a request once it is sent: until the whole answer is there, and of a stream until it begins
        and for each silence after that. Waiting in our own queue is not counted; a call's `deadline_s` bounds that too.
      max_retries: how often a request is tried again after connection errors, 429 and 5xx; each goes through the limits
        and waits as long as the server asked. All requests of a client have one budget of retries together, after 429
        excepted: 10 at first, and one more for every five that succeed. Once it is spent, the first failure is final.
      headers: headers of every request, over our own (``User-Agent``). An ``Authorization`` takes the place of any key.
      engine: a `BlockingEngine` or a `Portal`, in place of the process-wide one.
      **settings: limits and the like, as `iModel` takes them: `limit_requests`, `limit_tokens`, `concurrency_limit`,
        `hook_registry`, ... They hold for everything the client sends, together; `max_connections` for each of its
        three accounts: completions, chat, and whatever the server tells of itself.

    Raises:
      InferneoError: an argument is out of its range; it is named, and no key is shown.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        headers: Mapping[str, str] | None = None,
        *,
        engine: BlockingEngine | Portal | None = None,
        **settings: Unpack[EngineSettings],
    ) -> None:
        given: object = engine if engine is not None else default_portal()
        blocking = given.blocking if isinstance(given, Portal) else given
        if not isinstance(blocking, BlockingEngine):
            kind = type(engine).__name__
            raise InferneoError(f"engine is what open_portal gives in a plain with, not {kind}", argument="engine")
        self._service = service = Service(base_url, api_key, timeout, max_retries, headers, settings)
        self.engine = blocking
        """The engine its calls run in: `statistics`, `wait_quiet`, `call`, ..."""
        face = _Blocking(blocking)
        self._face = face
        self.completions: Completions[CompletionResponse, BlockingIterator[CompletionChunk]] = Completions(
            service, face
        )
        """Text completions."""
        self.chat: Chat[ChatCompletionResponse, BlockingIterator[ChatCompletionChunk]] = Chat(service, face)
        """Chat: its `completions`."""
        self.models: Models[ModelList, Model] = Models(service, face)
        """The server's models."""

    def info(self) -> ServerInfo:
        """What is known of the server: its models (``/v1/models``), its memory and uptime (``/stats``; what
        is not told there is missing). No server tells its version, which is then ``"unknown"``. Raises what
        `models.list` raises."""
        return self._face.run(self._service.info())

    def health(self) -> Any:
        """What the server has at ``/health``. Raises what `models.list` raises."""
        return self._face.run(self._service.document("/health"))

    def stats(self) -> Any:
        """What the server has at ``/stats``: how many requests run and wait, its memory. Raises what `models.list`
        raises."""
        return self._face.run(self._service.document("/stats"))

    def close(self) -> None:
        """Be done with it. Connections belong to the engine, so nothing has to be given back; it can be used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<InferneoClient at {self._service.base_url}>"


class _Blocking:
    """`Face` of synchronous code."""

    def __init__(self, engine: BlockingEngine) -> None:
        self._engine = engine

    def run(self, steps: Steps[T]) -> T:
        """Send the calls of an operation, one after the other; what it comes to."""
        try:
            call = next(steps)
            while True:
                with translated():
                    self._engine.invoke(call)
                call = steps.send(call)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # which is what the generator returns

    def begin(self, make: Callable[[], ChunkStream[C]]) -> BlockingIterator[C]:
        """A stream whose call is queued when it is first read."""
        return self._engine.iterate(make())
