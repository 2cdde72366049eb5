"""`InferneoClient`: the client of Inferneo's document, for synchronous code in any number of threads.

It runs in the process-wide portal, or in the one it is given. Every method blocks its own thread alone; Ctrl-C in one
cancels what it waits for. Limits, retries and connections are the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from engine.clients.inferneo.errors import InferneoError, translated
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
from engine.portal import BlockingEngine, BlockingIterator, Portal, default_portal

T = TypeVar("T")


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
        and waits as long as the server asked.
      headers: headers of every request, over our own (``User-Agent``).
      engine: a `BlockingEngine` or a `Portal`, in place of the process-wide one.
      **settings: limits and the like, as `iModel` takes them: `limit_requests`, `limit_tokens`, `concurrency_limit`,
        `hook_registry`, ... They hold for everything the client sends, together.

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
        self._service = Service(base_url, api_key, timeout, max_retries, headers, settings)
        self.engine = blocking
        """The engine its calls run in: `statistics`, `wait_quiet`, `call`, ..."""
        self.completions = Completions(self._service, self.engine)
        """Text completions."""
        self.chat = Chat(self._service, self.engine)
        """Chat: its `completions`."""
        self.models = Models(self._service, self.engine)
        """The server's models."""

    def info(self) -> ServerInfo:
        """What is known of the server: its models (``/v1/models``), its memory and uptime (``/stats``, where there is
        one). No server tells its version, which is then ``"unknown"``. Raises what `models.list` raises."""
        return _run(self._service.info(), self.engine)

    def health(self) -> Any:
        """What the server has at ``/health``. Raises what `models.list` raises."""
        return _run(self._service.document("/health"), self.engine)

    def stats(self) -> Any:
        """What the server has at ``/stats``: how many requests run and wait, its memory. Raises what `models.list`
        raises."""
        return _run(self._service.document("/stats"), self.engine)

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


class Completions:
    """Text completions of a client: its `completions`."""

    def __init__(self, service: Service, engine: BlockingEngine) -> None:
        self._service = service
        self._engine = engine

    @overload
    def create(
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
    def create(
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
    ) -> BlockingIterator[CompletionChunk]: ...

    def create(
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
    ) -> CompletionResponse | BlockingIterator[CompletionChunk]:
        """Complete a prompt: POST ``/v1/completions``.

        Arguments that are None are not sent. `kwargs` go into the body (`seed`, `min_p`, `repetition_penalty`,
        `ignore_eos`, ...), but for those of `CallOptions` (`flow`, `deadline_s`, `metadata`, ...), which are the
        engine's; `priority` is both, and the larger is served first.
        With `stream` an iterator of chunks, best in a ``with``; closing or dropping it closes the connection.

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
            return self._engine.iterate(self._service.completion_stream(call))
        return _run(self._service.completion(call), self._engine)


class ChatCompletions:
    """Chat completions of a client: its `chat.completions`."""

    def __init__(self, service: Service, engine: BlockingEngine) -> None:
        self._service = service
        self._engine = engine

    @overload
    def create(
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
    def create(
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
    ) -> BlockingIterator[ChatCompletionChunk]: ...

    def create(
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
    ) -> ChatCompletionResponse | BlockingIterator[ChatCompletionChunk]:
        """Answer a conversation: POST ``/v1/chat/completions``.

        Arguments that are None are not sent. `kwargs` go into the body (`seed`, `min_p`, `repetition_penalty`,
        `ignore_eos`, ...), but for those of `CallOptions` (`flow`, `deadline_s`, `metadata`, ...), which are the
        engine's; `priority` is both, and the larger is served first.
        With `stream` an iterator of chunks, best in a ``with``; closing or dropping it closes the connection.

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
            return self._engine.iterate(self._service.chat_stream(call))
        return _run(self._service.chat_completion(call), self._engine)


class Chat:
    """The chat of a client."""

    def __init__(self, service: Service, engine: BlockingEngine) -> None:
        self.completions = ChatCompletions(service, engine)
        """Chat completions."""


class Models:
    """The server's models, as a client sees them."""

    def __init__(self, service: Service, engine: BlockingEngine) -> None:
        self._service = service
        self._engine = engine

    def list(self) -> ModelList:
        """All of them: GET ``/v1/models``. A list, which has them under `data` as well.

        Raises:
          InferneoAPIError, InferneoTimeoutError, InferneoError: as `completions.create`.
        """
        return _run(self._service.list_models(), self._engine)

    def get(self, model_id: str) -> Model:
        """One of them: GET ``/v1/models/{id}``, or, at a server without that address, from the list.

        Raises:
          InferneoAPIError: with `status_code` 404: there is no such model. And what `list` raises.
        """
        return _run(self._service.get_model(model_id), self._engine)


def _run(steps: Steps[T], engine: BlockingEngine) -> T:
    """Send the calls of an operation, one after the other; what it comes to."""
    try:
        call = next(steps)
        while True:
            with translated():
                engine.invoke(call)
            call = steps.send(call)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # which is what the generator returns
