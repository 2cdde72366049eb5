"""`iModel`: lionfuncs' client of one endpoint. Its requests are calls of its executor's engine, in its executor's lane.

What is sent is made here: the body or the query, the address, the headers. An answer is JSON of any shape; its fields
are the caller's business. Connections belong to the executor's engine, which opens them as they are needed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import trio

from engine.call_options import CallOptions
from engine.clients.caller import Caller
from engine.clients.lionfuncs.documents import DOCUMENTS
from engine.clients.lionfuncs.events import NetworkRequestEvent, NotedCall, shown_headers
from engine.clients.lionfuncs.executor import Executor, tokens_of
from engine.endpoints import EndpointConfig
from engine.errors import InvalidCall, UsageError
from engine.providers.documents import json_body
from engine.providers.lookup import EndpointSpec, checked_address, is_local, request_headers
from engine.providers.wire import Encoded

Self = TypeVar("Self", bound="iModel")

_BODILESS = ("GET", "DELETE")
_TIMEOUT_S = 300.0
_FIELDS = EndpointConfig.__struct_fields__


class _Unsaid:
    """A default, told apart from the same number where the caller says it."""


class _UnsaidCount(_Unsaid, int):
    """A whole one."""


class _UnsaidNumber(_Unsaid, float):
    """Any other."""


_MAX_TOKENS: Final = _UnsaidCount(150)
_TEMPERATURE: Final = _UnsaidNumber(0.7)


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
      UnknownEndpoint: `base_url` is no address.
    """

    def __init__(self, executor: Executor, model_endpoint_config: Mapping[str, Any] | EndpointConfig) -> None:
        if not isinstance(executor, Executor):
            raise UsageError(f"executor is an Executor, not {type(executor).__name__}")
        self.executor = executor
        self.config = config = _config_of(model_endpoint_config)
        self._url, self._path = _address(config)
        self._options = CallOptions(**{"timeout_s": _TIMEOUT_S, **config.options()})
        spec = _spec_of(config, self._url)
        key = config.api_key or None
        sent = request_headers(spec, "***" if key is not None else None)
        names = {name.lower(): name for name in ("Content-Type", "Authorization", *config.default_headers)}
        self._shown = shown_headers({names.get(name, name): value for name, value in sent.items()})
        self._caller = Caller(spec, executor.lane, key=key, max_connections=executor.max_connections)

    @property
    def model_name(self) -> str:
        """The model of its calls, where the config names one; else ``"unknown"``."""
        return str(self.config.kwargs.get("model", self.config.model_name) or "unknown")

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
        usual = {"model": self.config.model_name, "max_tokens": int(_MAX_TOKENS), "temperature": float(_TEMPERATURE)}
        numbers: dict[str, object] = {"max_tokens": max_tokens, "temperature": temperature}
        said = {name: value for name, value in numbers.items() if not isinstance(value, _Unsaid)}
        arguments = {**usual, **self.config.kwargs, "prompt": prompt, **said, **kwargs}
        payload: Any = {name: value for name, value in arguments.items() if value is not None}
        try:
            written = json_body(payload)
            payload = DOCUMENTS.decode(written)  # the caller may change what is his
            request: Encoded | InvalidCall = self._request(written, payload, num_tokens_to_consume)
        except InvalidCall as error:
            request = error
        model = payload.get("model")
        call = NotedCall(self._caller, model if isinstance(model, str) else "", request, self._options)
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

    def _request(self, written: bytes, payload: Mapping[str, Any], tokens: object) -> Encoded:
        """What is sent of these arguments, which are given as JSON, too."""
        method, path = self.config.method, self._path
        if method not in _BODILESS:
            return self._caller.request(method, path, msgspec.Raw(written), tokens=tokens_of(tokens))
        path += ("&" if "?" in path else "?") + _query(payload)
        return self._caller.request(method, path, tokens=tokens_of(tokens))

    async def close_session(self) -> None:
        """Be done with the model for now: its connections that no call is using are closed. May be called twice.

        What is under way goes on, and the next call opens again what it needs.
        """
        if self.executor.is_running:
            self.executor.engine.close_idle(self._caller)
        await trio.lowlevel.checkpoint()

    async def __aenter__(self: Self) -> Self:
        """Connections are opened as calls need them, and closed when the block is left."""
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close_session()

    def __repr__(self) -> str:
        return f"<iModel {self.config.method} {self._url}>"


def _spec_of(config: EndpointConfig, url: str) -> EndpointSpec:
    """Where its requests go, with the headers of the config over all others."""
    headers = {"content-type": config.content_type, **{name.lower(): v for name, v in config.default_headers.items()}}
    auth = config.auth_type or "bearer"
    if ("x-api-key" if auth == "x-api-key" else "authorization") in headers:
        auth = "none"
    return EndpointSpec(
        provider=config.provider,
        endpoint=config.endpoint,
        format=DOCUMENTS,
        url=url,
        auth=auth,
        key_env=(),
        key_required=False,
        local=is_local(checked_address(url).hostname or ""),
        headers=tuple(headers.items()),
    )


def _config_of(given: object) -> EndpointConfig:
    if isinstance(given, EndpointConfig):
        return given
    if not isinstance(given, Mapping):
        raise TypeError("model_endpoint_config must be a dict or EndpointConfig")
    for name in given:
        if name not in _FIELDS:
            meant = next(iter(difflib.get_close_matches(str(name), _FIELDS, 1)), "")
            raise UsageError(
                f"model_endpoint_config has no entry {name!a:.40}; "
                + (f"did you mean {meant}? " if meant else "")
                + f"There are {', '.join(_FIELDS)}"
            )
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
    pairs: list[tuple[str, Any]] = []
    for name, value in payload.items():
        pairs += [(name, one) for one in (value if isinstance(value, list | tuple) else [value])]
    return urlencode([(name, one if isinstance(one, str) else json_body(one).decode()) for name, one in pairs])
