"""`iModel`: lionfuncs' client of one endpoint. Its requests are calls of its executor's engine, in its executor's lane.

What is sent is made here: the body or the query, the address, the headers. An answer is JSON of any shape; its fields
are the caller's business. Connections belong to the executor's engine, which opens them as they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import trio

from engine.call_options import CallOptions
from engine.clients.caller import Caller
from engine.clients.lionfuncs.documents import DOCUMENTS
from engine.clients.lionfuncs.events import NetworkRequestEvent, NotedCall, shown_headers
from engine.clients.lionfuncs.executor import Executor, tokens_of
from engine.endpoints import EndpointConfig
from engine.errors import InvalidCall, UsageError
from engine.providers.documents import json_body
from engine.providers.lookup import EndpointSpec, checked_address, is_local

Self = TypeVar("Self", bound="iModel")

_BODILESS = ("GET", "DELETE")
_TIMEOUT_S = 300.0
_FIELDS = EndpointConfig.__struct_fields__


class _Unsaid(int):
    """A default, told apart from the same number where the caller says it."""


_MAX_TOKENS: Final = _Unsaid(150)
_TEMPERATURE: Final = float("0.7")  # an object of its own, likewise


class _Caller(Caller):
    call_type = NotedCall


class iModel:  # noqa: N801  # the name its users know
    """A client of one endpoint, whose calls go through an executor: its queue, its limits.

    Args:
      executor: the `Executor`; any number of models may share it, and share its limits then.
      model_endpoint_config: an `EndpointConfig`, or a dict of its fields. `base_url` has to be said, and `endpoint`,
        which follows it, is ``"completions"`` in a dict that does not say it. `timeout` bounds each attempt, in seconds
        (300). The key is sent as ``Authorization: Bearer``, unless `auth_type` or `default_headers` say otherwise; no
        variable of the environment is looked at.

    Raises:
      TypeError: `model_endpoint_config` is neither.
      UsageError: an entry is unknown or out of range; the message names it and shows no value that may be a key.
      UnknownEndpoint: `base_url` is none.
    """

    def __init__(self, executor: Executor, model_endpoint_config: Mapping[str, Any] | EndpointConfig) -> None:
        if not isinstance(executor, Executor):
            raise UsageError(f"executor is an Executor, not {type(executor).__name__}")
        self.executor = executor
        self.config = config = _config_of(model_endpoint_config)
        self._url, self._path = _address(config)
        self._options = CallOptions(**{"timeout_s": _TIMEOUT_S, **config.options()})
        sent = {"content-type": config.content_type, **{name.lower(): v for name, v in config.default_headers.items()}}
        auth = config.auth_type or "bearer"
        if ("x-api-key" if auth == "x-api-key" else "authorization") in sent:
            auth = "none"
        key = config.api_key or None
        self._shown = {"Content-Type": config.content_type}
        if key is not None and auth != "none":
            self._shown |= {"x-api-key": "***"} if auth == "x-api-key" else {"Authorization": f"{auth.title()} ***"}
        said = {name.lower() for name in config.default_headers}
        self._shown = {name: value for name, value in self._shown.items() if name.lower() not in said}
        self._shown |= shown_headers(config.default_headers)
        spec = EndpointSpec(
            provider=config.provider,
            endpoint=config.endpoint,
            format=DOCUMENTS,
            url=self._url,
            auth=auth,
            key_env=(),
            key_required=False,
            local=is_local(checked_address(self._url).hostname or ""),
            headers=tuple(sent.items()),
        )
        self._caller = _Caller(spec, executor.lane, key=key, max_connections=executor.max_connections)

    @property
    def model_name(self) -> str:
        """The model of its calls, where the config names one; else ``"unknown"``."""
        return self.config.model_name or str(self.config.kwargs.get("model") or "unknown")

    async def acompletion(
        self,
        prompt: Any,
        max_tokens: int | None = _MAX_TOKENS,
        temperature: float | None = _TEMPERATURE,
        num_tokens_to_consume: int = 0,
        **kwargs: Any,
    ) -> NetworkRequestEvent:
        """Submit a request, and return its event before it is over: ``await event.wait()`` waits for that.

        What is sent: `model` (the config's `model_name`), `prompt`, `max_tokens` and `temperature`, over these the
        config's `kwargs`, and over all what is said here; nothing that is None. It is the JSON body, or the query of a
        GET or DELETE. `num_tokens_to_consume` is what the call takes of the executor's API tokens.

        Waits while the executor's queue is full; a checkpoint. Cancellation before it is queued sends nothing. What is
        wrong with the call, or larger than the executor's limits, is on the event, which is FAILED.

        Raises:
          EngineNotRunning: the executor does not run. It is a `RuntimeError`.
        """
        self.executor.engine  # noqa: B018  # raises if there is none, before anything else is looked at
        said = {"prompt": prompt, **kwargs}
        if max_tokens is not _MAX_TOKENS:
            said["max_tokens"] = max_tokens
        if temperature is not _TEMPERATURE:
            said["temperature"] = temperature
        usual = {"model": self.config.model_name, "max_tokens": int(_MAX_TOKENS), "temperature": _TEMPERATURE}
        payload = {n: value for n, value in {**usual, **self.config.kwargs, **said}.items() if value is not None}
        model = payload.get("model")
        call = self._call(payload, model if isinstance(model, str) else "", num_tokens_to_consume)
        event = NetworkRequestEvent(
            call,
            endpoint_url=self._url,
            method=self.config.method,
            headers=self._shown,
            payload=payload,
            num_api_tokens_needed=num_tokens_to_consume,
            metadata={"model_name": model or "unknown"},
        )
        await self.executor.submit(call)
        return event

    def _call(self, payload: dict[str, Any], model: str, tokens: object) -> NotedCall:
        """The call, whatever is wrong with it."""
        path, body = self._path, None
        try:
            if self.config.method in _BODILESS:
                path += ("&" if "?" in path else "?") + _query(payload)
            else:
                body = payload
            call = self._caller.call(
                self.config.method, path, body, model=model, tokens=tokens_of(tokens), options=self._options
            )
        except InvalidCall as error:
            return NotedCall(self._caller, model, error, self._options)
        assert isinstance(call, NotedCall), "the caller makes such calls"
        return call

    async def close_session(self) -> None:
        """Be done with the model for now; may be called twice. The next call opens again what it needs.

        Connections belong to the executor, which closes idle ones itself: what is under way goes on.
        """
        await trio.lowlevel.checkpoint()

    async def __aenter__(self: Self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close_session()

    def __repr__(self) -> str:
        return f"<iModel {self.config.method} {self._url}>"


def _config_of(given: object) -> EndpointConfig:
    if isinstance(given, EndpointConfig):
        return given
    if not isinstance(given, Mapping):
        raise TypeError("model_endpoint_config must be a dict or EndpointConfig")
    for name in given:
        if name not in _FIELDS:
            raise UsageError(f"model_endpoint_config has no entry {name!a:.40}; there are {', '.join(_FIELDS)}")
    return EndpointConfig(**{"endpoint": "completions", **given})


def _address(config: EndpointConfig) -> tuple[str, str]:
    """The whole address of a request, and the part of it that is asked for: its path and query."""
    if config.base_url is None:
        raise UsageError("base_url is missing; the address of the service, as https://host.example/v1")
    base = checked_address(config.base_url)
    endpoint, params = config.endpoint.strip(), config.params
    names = config.endpoint_params or []
    if params.keys() != set(names):
        raise UsageError("params has a value for each name in endpoint_params, and no other")
    for name in names:
        if f"{{{name}}}" not in endpoint:
            raise UsageError(f"endpoint_params names {name!r}, which does not stand in braces in the endpoint")
        endpoint = endpoint.replace(f"{{{name}}}", quote(str(params[name]), safe=""))
    path, _, query = endpoint.partition("?")
    queries = "&".join(part for part in (base.query, query) if part)
    whole = base._replace(path=f"{base.path.rstrip('/')}/{path.lstrip('/')}", query=queries).geturl()
    if not whole.isascii() or "#" in whole or "{" in whole:
        raise UsageError("base_url or endpoint holds a character that no address has; percent-encode it")
    parts = checked_address(whole)
    return whole, parts.path + (f"?{parts.query}" if parts.query else "")


def _query(payload: Mapping[str, Any]) -> str:
    """Arguments as a query: texts as they are, lists of them one by one, all else as JSON."""
    pairs = []
    for name, value in payload.items():
        pairs += [(name, one) for one in (value if isinstance(value, list | tuple) else [value])]
    return urlencode([(name, one if isinstance(one, str) else json_body(one).decode()) for name, one in pairs])
