"""What both Inferneo clients stand on: two models and a caller that share one lane, and what is asked of them.

An operation is a generator: it yields a call, is sent the same call once it has ended, and returns the answer in the
document's terms. The clients only run it, one by blocking, the other by awaiting. Nothing here waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from actors.limits import Quota, is_count, is_number
from engine.accounts import MAX_CONNECTIONS
from engine.call import OPTION_NAMES, Call, CallOptions
from engine.clients.caller import Caller
from engine.clients.inferneo.errors import InferneoAPIError, InferneoError, failure_of, translated
from engine.clients.inferneo.responses import (
    ChatCompletionChunk,
    ChatCompletionResponse,
    CompletionChunk,
    CompletionResponse,
    Model,
    ModelList,
    ServerInfo,
    chat_chunk_of,
    chat_of,
    completion_chunk_of,
    completion_of,
    info_of,
    model_of,
    models_of,
)
from engine.clients.inferneo.streams import ChunkStream
from engine.hooks import HookRegistry, registry_of
from engine.imodel import iModel
from engine.imodel_arguments import counter_of
from engine.providers.documents import DOCUMENTS
from engine.runtime import Engine
from engine.secret import Secret
from engine.transports.client import HttpClient

T = TypeVar("T")
Steps: TypeAlias = Generator[Call, Call, T]
"""An operation: the calls to be sent, one after the other, and in the end what they come to."""

STREAM_S = 3_600.0
"""What bounds a whole stream, in seconds; its silences are bounded by the client's `timeout`."""

_CHAT_PATH = "/v1/chat/completions"
_ABSENT = (404, 405)


class EngineSettings(TypedDict, total=False):
    """What a client takes beside the document's arguments: limits and the like, as `iModel` does."""

    limit_requests: int | None
    limit_tokens: int | None
    interval: float | None
    capacity_refresh_time: float
    concurrency_limit: int | None
    queue_capacity: int | None
    quotas: Sequence[Quota]
    limits: Literal["learn"] | None
    weights: Mapping[str, int] | None
    ageing_s: float | None
    lane: str | None
    hook_registry: HookRegistry | Mapping[Any, Any] | None
    exit_hook: bool
    count_tokens: Callable[[str], int] | None
    http_client: HttpClient | None
    max_connections: int


class Service:
    """One server as one client sees it. `engine` is the one to use, in place of the innermost open one.

    Raises:
      InferneoError: an argument is out of its range; it is named, and no key is shown.
      TypeError: a setting that does not exist.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout: float,
        max_retries: int,
        headers: Mapping[str, str] | None,
        settings: EngineSettings,
        engine: Engine | None = None,
    ) -> None:
        for name in settings.keys() - EngineSettings.__annotations__.keys():
            raise TypeError(f"an Inferneo client takes no argument {name!r}")
        self._options = _options(timeout, max_retries)
        self._streaming = {**self._options, "timeout_s": max(STREAM_S, timeout), "first_byte_s": timeout}
        self._streaming["idle_s"] = timeout
        given: dict[str, Any] = {**settings, "base_url": base_url, "api_key": api_key, "engine": engine}
        given |= {"lane": settings.get("lane") or f"inferneo-{uuid.uuid4()}", "default_headers": headers}
        with translated():
            self._count_text = counter_of(settings.get("count_tokens"))
            given |= {"hook_registry": registry_of(settings.get("hook_registry"))}
            self.chat = iModel("inferneo", **given)
            self.completions = iModel("inferneo", endpoint="completions", **given)
        parts = urlsplit(self.chat.endpoint.spec.url)
        self._prefix = parts.path.removesuffix(_CHAT_PATH)
        self.base_url = parts._replace(path=self._prefix, query="").geturl()
        self._caller = Caller(
            msgspec.structs.replace(self.chat.endpoint.spec, format=DOCUMENTS, url=f"{self.base_url}/"),
            self.chat.lane,
            key=Secret(api_key) if api_key is not None else None,
            hook_registry=self.chat.hook_registry,
            max_connections=settings.get("max_connections", MAX_CONNECTIONS),
            http_client=settings.get("http_client"),
        )

    # --- calls ---

    def call(self, owner: iModel, arguments: Mapping[str, Any], stream: object, more: dict[str, Any]) -> Call:
        """A call made and not sent. `more` goes into its body, but for the names of `CallOptions`, which are the
        engine's; `priority` is both: the server's larger is served first, and so is ours, where that is smaller.

        Raises:
          InferneoError: an argument is missing or out of its range.
        """
        given = {name: more.pop(name) for name in (OPTION_NAMES - {"priority"}) & more.keys()}
        usual = self._streaming if stream is True else self._options
        body = {**arguments, **more, **({"stream": stream} if stream is not False else {})}
        with translated():
            request = owner.format.encode(body, count_text=self._count_text)
            if body.get("priority") is not None:
                given["priority"] = -body["priority"]
            return Call(owner, body["model"], request, CallOptions(**{**usual, **given}))

    def completion(self, call: Call) -> Steps[CompletionResponse]:
        """The answer to a prompt."""
        return completion_of(_answer((yield call)))

    def chat_completion(self, call: Call) -> Steps[ChatCompletionResponse]:
        """The answer to a conversation."""
        return chat_of(_answer((yield call)))

    def completion_stream(self, call: Call) -> ChunkStream[CompletionChunk]:
        """The answer to a prompt as it comes; nothing is sent yet."""
        return ChunkStream(call, lambda: self.chat.engine, completion_chunk_of)

    def chat_stream(self, call: Call) -> ChunkStream[ChatCompletionChunk]:
        """The answer to a conversation as it comes; nothing is sent yet."""
        return ChunkStream(call, lambda: self.chat.engine, chat_chunk_of)

    # --- what the server tells ---

    def list_models(self) -> Steps[ModelList]:
        """All models."""
        return models_of(_answer((yield self._get("/v1/models"))))

    def get_model(self, model_id: object) -> Steps[Model]:
        """One model: by its own address, or where there is none, from the list."""
        if not isinstance(model_id, str) or not model_id.strip() or model_id in (".", ".."):
            raise InferneoError("model_id must be the name of a model; nothing was sent", argument="model_id")
        ended = yield self._get(f"/v1/models/{quote(model_id, safe='')}")
        failure = failure_of(ended)
        if failure is None:
            return model_of(ended.response)
        if not isinstance(failure, InferneoAPIError) or failure.status_code not in _ABSENT:
            raise failure
        for model in (yield from self.list_models()):
            if model.id == model_id:
                return model
        raise InferneoAPIError(f"the server has no model {model_id!a:.200}", status_code=404) from failure

    def info(self) -> Steps[ServerInfo]:
        """What the statistics, where there are any, and the list of models tell."""
        ended = yield self._get("/stats")
        failure = failure_of(ended)
        if failure is not None and getattr(failure, "status_code", 0) not in _ABSENT:
            raise failure
        models = yield from self.list_models()
        return info_of(ended.response if failure is None else None, models)

    def document(self, path: str) -> Steps[Any]:
        """Whatever JSON the server has at a path."""
        return _answer((yield self._get(path)))

    def _get(self, path: str) -> Call:
        return self._caller.call("GET", self._prefix + path, options=CallOptions(**self._options))


def _answer(call: Call) -> Any:
    """What a call that has ended was answered. Raises why it was not."""
    failure = failure_of(call)
    if failure is not None:
        raise failure
    return call.response


def _options(timeout: Any, max_retries: Any) -> dict[str, Any]:
    """The document's two numbers as options of every call."""
    if not is_number(timeout) or not 0.001 <= timeout <= 366 * 86_400:
        raise InferneoError(f"timeout must be seconds, at least 0.001, not {timeout!a:.40}", argument="timeout")
    if not (is_count(max_retries) or (type(max_retries) is int and max_retries == 0)) or max_retries > 99:
        raise InferneoError(
            f"max_retries must be a whole number from 0 to 99, not {max_retries!a:.40}", argument="max_retries"
        )
    return {"timeout_s": float(timeout), "max_attempts": max_retries + 1}
