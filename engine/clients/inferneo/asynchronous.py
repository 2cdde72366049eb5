"""`AsyncInferneoClient`: the client of Inferneo's document, for trio.

Its calls run in the innermost open engine of the task that makes them, or in the one it is given; used in an ``async
with`` where none is open, it opens its own. Any number of calls may run at once: `engine.gather` takes them.
Cancellation cancels the call, and closes its connection if it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from engine.clients.inferneo.errors import translated
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


class AsyncInferneoClient:
    """`InferneoClient` for trio: the same arguments and methods, awaited.

        async with AsyncInferneoClient("http://localhost:8000") as client:
            tasks = [client.completions.create(model="m", prompt=prompt) for prompt in prompts]
            responses = await gather(*tasks)

    `engine` is the one to use, in place of the innermost open one.

    Raises:
      InferneoError: an argument is out of its range; it is named, and no key is shown.
    And each method, besides what it says itself:
      EngineNotRunning: no engine is open here.
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
        self._service = Service(base_url, api_key, timeout, max_retries, headers, settings, engine)
        self.completions = AsyncCompletions(self._service)
        """Text completions."""
        self.chat = AsyncChat(self._service)
        """Chat: its `completions`."""
        self.models = AsyncModels(self._service)
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
        return await _run(self._service.info(), self._service)

    async def health(self) -> Any:
        """What the server has at ``/health``."""
        return await _run(self._service.document("/health"), self._service)

    async def stats(self) -> Any:
        """What the server has at ``/stats``."""
        return await _run(self._service.document("/stats"), self._service)

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


class AsyncCompletions:
    """Text completions of a client: its `completions`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @overload
    async def create(
        self,
        model: str,
        prompt: str | Sequence[Any],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[False] = False,
        **kwargs: Any,
    ) -> CompletionResponse: ...

    @overload
    async def create(
        self,
        model: str,
        prompt: str | Sequence[Any],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        *,
        stream: Literal[True],
        **kwargs: Any,
    ) -> ChunkStream[CompletionChunk]: ...

    async def create(
        self,
        model: str,
        prompt: str | Sequence[Any],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        **kwargs: Any,
    ) -> CompletionResponse | ChunkStream[CompletionChunk]:
        """Complete a prompt: POST ``/v1/completions``.

        Arguments that are None are not sent. `kwargs` go into the body (`seed`, `min_p`, `repetition_penalty`,
        `ignore_eos`, ...), but for those of `CallOptions` (`flow`, `deadline_s`, `metadata`, ...), which are the
        engine's; `priority` is both, and the larger is served first.
        With `stream` a stream of chunks, best in an ``async with``; leaving or dropping it closes the connection.

        Raises:
          InferneoAPIError: the server refused, or failed more often than it is tried.
          InferneoTimeoutError: no whole answer within `timeout`.
          InferneoError: an argument is out of its range (nothing was sent), or no connection could be made.
        """
        arguments = {
            "model": model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
            "stop": stop,
        }
        call = self._service.call(self._service.completions, arguments, stream, kwargs)
        if stream:
            return await self._service.completion_stream(call).begin()
        return await _run(self._service.completion(call), self._service)


class AsyncChatCompletions:
    """Chat completions of a client: its `chat.completions`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @overload
    async def create(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[False] = False,
        **kwargs: Any,
    ) -> ChatCompletionResponse: ...

    @overload
    async def create(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        *,
        stream: Literal[True],
        **kwargs: Any,
    ) -> ChunkStream[ChatCompletionChunk]: ...

    async def create(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        **kwargs: Any,
    ) -> ChatCompletionResponse | ChunkStream[ChatCompletionChunk]:
        """Answer a conversation: POST ``/v1/chat/completions``.

        Arguments that are None are not sent. `kwargs` go into the body (`seed`, `min_p`, `repetition_penalty`,
        `ignore_eos`, ...), but for those of `CallOptions` (`flow`, `deadline_s`, `metadata`, ...), which are the
        engine's; `priority` is both, and the larger is served first.
        With `stream` a stream of chunks, best in an ``async with``; leaving or dropping it closes the connection.

        Raises:
          InferneoAPIError: the server refused, or failed more often than it is tried.
          InferneoTimeoutError: no whole answer within `timeout`.
          InferneoError: an argument is out of its range (nothing was sent), or no connection could be made.
        """
        arguments = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
            "stop": stop,
        }
        call = self._service.call(self._service.chat, arguments, stream, kwargs)
        if stream:
            return await self._service.chat_stream(call).begin()
        return await _run(self._service.chat_completion(call), self._service)


class AsyncChat:
    """The chat of a client."""

    def __init__(self, service: Service) -> None:
        self.completions = AsyncChatCompletions(service)
        """Chat completions."""


class AsyncModels:
    """The server's models, as a client sees them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list(self) -> ModelList:
        """All of them: GET ``/v1/models``. A list, which has them under `data` as well.

        Raises:
          InferneoAPIError, InferneoTimeoutError, InferneoError: as `completions.create`.
        """
        return await _run(self._service.list_models(), self._service)

    async def get(self, model_id: str) -> Model:
        """One of them: GET ``/v1/models/{id}``, or, at a server without that address, from the list.

        Raises:
          InferneoAPIError: with `status_code` 404: there is no such model. And what `list` raises.
        """
        return await _run(self._service.get_model(model_id), self._service)


async def _run(steps: Steps[T], service: Service) -> T:
    """Send the calls of an operation, one after the other; what it comes to."""
    try:
        call = next(steps)
        while True:
            with translated():
                await service.chat.engine.invoke(call)
            call = steps.send(call)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # which is what the generator returns
