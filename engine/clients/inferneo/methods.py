"""What hangs on an Inferneo client, with the signatures of its document: `completions`, `chat.completions`, `models`.

Both clients have the same; what differs is what a method gives: the answer itself, or an awaitable of it. That is said
by the types a client names, and done by the client, its `Face`. Nothing here waits or sends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from engine.clients.inferneo.responses import chat_chunk_of, chat_of, completion_chunk_of, completion_of
from engine.clients.inferneo.service import Service, Steps
from engine.clients.inferneo.streams import ChunkStream

A = TypeVar("A")
"""What gives an answer."""
S = TypeVar("S")
"""What gives a stream."""
L = TypeVar("L")
"""What gives the list of models."""
M = TypeVar("M")
"""What gives a model."""


class Face(Protocol):
    """How a client waits."""

    def run(self, steps: Steps[Any]) -> Any:
        """What an operation comes to, or an awaitable of it."""

    def begin(self, make: Callable[[], ChunkStream[Any]]) -> Any:
        """A stream for its reader, or an awaitable of it."""


class Completions(Generic[A, S]):
    """Text completions of a client: its `completions`."""

    def __init__(self, service: Service, face: Face) -> None:
        self._service = service
        self._face = face

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
    ) -> A: ...

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
    ) -> S: ...

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
    ) -> Any:
        """Complete a prompt: POST ``/v1/completions``. Awaited in trio.

        Arguments that are None are not sent. `kwargs` go into the body (`seed`, `min_p`, `repetition_penalty`,
        `ignore_eos`, ...), but for those of `CallOptions` (`flow`, `deadline_s`, `metadata`, ...), which are the
        engine's; `priority` is both, and the larger is served first.
        With `stream` an iterator of chunks, best in a ``with`` (``async with await``); leaving, closing or dropping it
        closes the connection. A chunk always has a choice: an event of the server without one (a usage) has an empty.

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
        call = functools.partial(self._service.call, self._service.completions, arguments, stream, kwargs)
        if stream:
            return self._face.begin(lambda: self._service.stream(call, completion_chunk_of))
        return self._face.run(self._service.answer(call, completion_of))


class ChatCompletions(Generic[A, S]):
    """Chat completions of a client: its `chat.completions`."""

    def __init__(self, service: Service, face: Face) -> None:
        self._service = service
        self._face = face

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
    ) -> A: ...

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
    ) -> S: ...

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
    ) -> Any:
        """Answer a conversation: POST ``/v1/chat/completions``. Awaited in trio.

        Arguments, `kwargs` and `stream` are as in `completions.create`, and so is what it raises.
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
        call = functools.partial(self._service.call, self._service.chat, arguments, stream, kwargs)
        if stream:
            return self._face.begin(lambda: self._service.stream(call, chat_chunk_of))
        return self._face.run(self._service.answer(call, chat_of))


class Chat(Generic[A, S]):
    """The chat of a client."""

    def __init__(self, service: Service, face: Face) -> None:
        self.completions: ChatCompletions[A, S] = ChatCompletions(service, face)
        """Chat completions."""


class Models(Generic[L, M]):
    """The server's models, as a client sees them."""

    def __init__(self, service: Service, face: Face) -> None:
        self._service = service
        self._face = face

    def list(self) -> L:
        """All of them: GET ``/v1/models``. A list, which has them under `data` as well. Awaited in trio.

        Raises:
          InferneoAPIError, InferneoTimeoutError, InferneoError: as `completions.create`.
        """
        listed: L = self._face.run(self._service.list_models())
        return listed

    def get(self, model_id: str) -> M:
        """One of them: GET ``/v1/models/{id}``, or, at a server without that address, from the list. Awaited in trio.

        Raises:
          InferneoAPIError: with `status_code` 404: there is no such model. And what `list` raises.
        """
        found: M = self._face.run(self._service.get_model(model_id))
        return found
