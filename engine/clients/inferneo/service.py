"""What both Inferneo clients stand on: two models and a caller that share one lane, and what is asked of them.

An operation is a generator: it yields a call, is sent the same call once it has ended, and returns the answer in the
document's terms. The clients only run it, one by blocking, the other by awaiting. Nothing here waits.

Each of the three is an account of the engine's, with connections of its own: what reads its answers is part of it.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from actors.limits import Quota, is_count, is_number, is_text
from engine.accounts import MAX_CONNECTIONS
from engine.call import OPTION_NAMES, Call, CallOptions
from engine.clients.caller import Caller
from engine.clients.inferneo.errors import InferneoAPIError, InferneoError, failure_of, translated
from engine.clients.inferneo.events import ChatEvents, CompletionEvents
from engine.clients.inferneo.responses import Model, ModelList, ServerInfo, info_of, model_of, models_of
from engine.clients.inferneo.streams import ChunkStream
from engine.endpoints import Endpoint
from engine.hooks import HookRegistry, registry_of
from engine.imodel import iModel
from engine.imodel_arguments import check_text, counter_of
from engine.providers.documents import DOCUMENTS
from engine.providers.openai_chat import Dialect, OpenAIChat
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
_KEY_REFUSED = (401, 403)


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


_NAMES = ("base_url", "api_key", "timeout", "max_retries", "headers", "engine", *EngineSettings.__annotations__)


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
            raise TypeError(f"an Inferneo client takes no argument {name!r}{_meant(name)}")
        self._options = _options(timeout, max_retries)
        self._streaming = {**self._options, "timeout_s": max(STREAM_S, timeout), "first_byte_s": timeout}
        self._streaming["idle_s"] = timeout
        given: dict[str, Any] = {**settings, "engine": engine}
        given |= {"lane": settings.get("lane") or f"inferneo-{uuid.uuid4()}"}
        with translated():
            check_text(base_url=base_url, api_key=api_key)
            self._count_text = counter_of(settings.get("count_tokens"))
            given |= {"hook_registry": registry_of(settings.get("hook_registry"))}
            said = {"base_url": base_url, "api_key": api_key, "default_headers": {} if headers is None else headers}
            self.chat = iModel(endpoint=_endpoint("chat", ChatEvents, said), **given)
            self.completions = iModel(endpoint=_endpoint("completions", CompletionEvents, said), **given)
        parts = urlsplit(self.chat.endpoint.spec.url)
        self._prefix = parts.path.removesuffix(_CHAT_PATH)
        self.base_url = parts._replace(path=self._prefix, query="").geturl()
        self._caller = Caller(
            msgspec.structs.replace(self.chat.endpoint.spec, format=DOCUMENTS, url=f"{self.base_url}/"),
            self.chat.lane,
            key=Secret(api_key) if api_key is not None else None,
            hook_registry=self.chat.hook_registry,
            exit_hook=settings.get("exit_hook", False),
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

    def answer(self, make: Callable[[], Call], read: Callable[[object], T]) -> Steps[T]:
        """What a call is answered, in the document's terms; it is made when it is to be sent."""
        return read(_answer((yield make())))

    def stream(self, make: Callable[[], Call], read: Callable[[object], T]) -> ChunkStream[T]:
        """The answer to a call as it comes; the call is made, and nothing is sent yet."""
        return ChunkStream(make(), lambda: self.chat.engine, read)

    # --- what the server tells ---

    def list_models(self) -> Steps[ModelList]:
        """All models."""
        return models_of(_answer((yield self._get("/v1/models"))))

    def get_model(self, model_id: object) -> Steps[Model]:
        """One model: by its own address, or where there is none, from the list."""
        if not isinstance(model_id, str) or not is_text(model_id) or not model_id.strip() or model_id in (".", ".."):
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
        """What the statistics, where the server answers with any, and the list of models tell."""
        ended = yield self._get("/stats")
        failure = failure_of(ended)
        if failure is not None and (not isinstance(failure, InferneoAPIError) or failure.status_code in _KEY_REFUSED):
            raise failure
        models = yield from self.list_models()
        return info_of(ended.response if failure is None else None, models)

    def document(self, path: str) -> Steps[Any]:
        """Whatever JSON the server has at a path."""
        return _answer((yield self._get(path)))

    def _get(self, path: str) -> Call:
        before = quote(self._prefix, safe="/%:@!$&'()*+,;=~")
        return self._caller.call("GET", before + path, options=CallOptions(**self._options))


def _endpoint(name: str, events: Callable[[Dialect], OpenAIChat], said: dict[str, Any]) -> Endpoint:
    """One of the server's two endpoints, whose streams tell every event. An ``Authorization`` of the user's own takes
    the place of the account's, wherever that would come from.

    Raises:
      UsageError: an argument is out of its range, or no address.
    """
    found = Endpoint(provider="inferneo", endpoint=name, **said)
    wire = found.spec.format
    assert isinstance(wire, OpenAIChat)
    spec = msgspec.structs.replace(found.spec, format=events(wire.dialect))
    if any(header == "authorization" for header, _ in spec.headers):
        spec = msgspec.structs.replace(spec, auth="none", key_env=())
    found.spec = spec
    return found


def _meant(name: str) -> str:
    """The argument that a misspelt one may have been meant for."""
    near = difflib.get_close_matches(name, _NAMES, 1, 0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


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
