"""`iModel`: one provider's model with its limits, the object most users hold.

Built anywhere, without a running loop. Its calls run in the engine it was given, else in the innermost open one of the
task that makes them; each engine keeps its limits for itself. Used alone, in an ``async with``, it opens an engine of
its own. The constructor is that of lionagi's iModel; an argument whose feature this version lacks raises a clear error.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, TypeVar

import msgspec
import trio

from actors.limits import Quota, is_text
from engine.accounts import MAX_CONNECTIONS, Account, LaneDescription
from engine.call import OPTION_NAMES, Call, CallOptions
from engine.endpoints import Endpoint, EndpointConfig
from engine.errors import InvalidCall, UsageError
from engine.estimate import estimate_text, own_counter
from engine.hooks import HookRegistry, registry_of
from engine.lane_arguments import check_count, lane_of, learn_s_of, quotas_of
from engine.opening import current_engine, is_engine_open, open_engine
from engine.providers.arguments import names_of
from engine.providers.lookup import api_key, split_model
from engine.providers.wire import WireFormat
from engine.runtime import Engine
from engine.secret import Secret
from engine.streaming import ReplyStream
from engine.transports.client import HttpClient, checked_client

Self = TypeVar("Self", bound="iModel")


class iModel:  # noqa: N801  # the name its users know
    """A model of one provider, with limits.

    Args:
      provider: ``"openai"``, ``"groq"``, ... Inferred from `model` (``"groq/llama-3.3"``), else openai. Any other name
        is taken for a service that speaks OpenAI's formats at `base_url`.
      base_url: the service's address, in place of the provider's own.
      endpoint: ``"chat"``, ``"embed"``, ``"response"``, ``"search"``, ... as the provider has it, or an `Endpoint`,
        which brings its provider, address, headers and key along.
      api_key: the key; else the provider's environment variables are looked at, when the first call is submitted.
      limit_requests, limit_tokens: at most so many requests, and input plus output tokens, in any window of `interval`
        seconds (default `capacity_refresh_time`, 60). Calls wait for their turn and complete.
      queue_capacity: how many calls may wait (10,000); `submit` waits for a place.
      concurrency_limit: how many may be in flight.
      quotas: further limits, as `Quota`.
      limits: ``"learn"`` finds the limits from what the provider says and refuses; those you state hold as well.
      lane: the name of a lane to share; models of one lane share its limits. Default: a lane of its own.
      weights: the weights of flows in its lane, like ``{"tenant-a": 3}``; a flow not named weighs 1. Flows that
        wait at the same time share what the limits admit by their weights.
      ageing_s: how many seconds of waiting one step of `priority` is worth (60).
      streaming_process_func: called with every chunk of its streams; what it returns, or awaits to, takes the chunk's
        place unless it is None.
      hook_registry: handlers of its calls: a `HookRegistry`, or a dict of them.
      exit_hook: whether a handler that raises, or takes too long, fails its call; a call may say otherwise.
      engine: the engine to use, in place of the innermost open one.
      count_tokens: your own counter, from a text to how much it counts as; else texts are estimated by their length.
      default_headers: headers of every request, over the provider's own (``{"anthropic-beta": "..."}``).
      http_client: an `httpx.AsyncClient` of your own that the calls go through; the engine never closes it.
      max_connections: how many connections the provider account may hold; the first model of an account decides.
      **kwargs: `model` and everything else is sent with every call, unless the call says otherwise. Names of
        `CallOptions` (`timeout_s`, `on_unknown`, ...) are defaults of its calls and are not sent.

    An engine keeps the lane of every model it has met until it closes: make models once, not for each request.

    Raises:
      UsageError: an argument is out of range or not supported by this version; the message names it.
      UnknownEndpoint: no such provider, and no address given.
    """

    _own_engine: AbstractAsyncContextManager[Engine] | None = None
    _opened_by: trio.lowlevel.Task | None = None
    _entered = 0

    def __init__(
        self,
        provider: str | None = None,
        base_url: str | None = None,
        endpoint: str | Endpoint = "chat",
        api_key: str | None = None,
        queue_capacity: int | None = None,
        capacity_refresh_time: float = 60,
        interval: float | None = None,
        limit_requests: int | None = None,
        limit_tokens: int | None = None,
        concurrency_limit: int | None = None,
        streaming_process_func: Callable[..., Any] | None = None,
        provider_metadata: Mapping[str, Any] | None = None,
        hook_registry: HookRegistry | Mapping[Any, Any] | None = None,
        exit_hook: bool = False,
        *,
        engine: Engine | None = None,
        lane: str | None = None,
        quotas: Iterable[Quota] = (),
        limits: Literal["learn"] | None = None,
        weights: Mapping[str, int] | None = None,
        ageing_s: float | None = None,
        count_tokens: Callable[[str], int] | None = None,
        http_client: HttpClient | None = None,
        default_headers: Mapping[str, str] | None = None,
        max_connections: int = MAX_CONNECTIONS,
        **kwargs: Any,
    ) -> None:
        _refuse_later(provider_metadata=provider_metadata)
        _check_text(provider=provider, base_url=base_url, api_key=api_key, lane=lane)
        _check_kinds(engine, streaming_process_func=streaming_process_func, count_tokens=count_tokens)
        self._count_text = estimate_text if count_tokens is None else own_counter(count_tokens)
        self.id = str(uuid.uuid4())
        self.created_at = time.time()
        self.streaming_process_func = streaming_process_func
        self.hook_registry, self.exit_hook = registry_of(hook_registry), exit_hook
        model = _model_name(kwargs.pop("model", ""))
        self._endpoint, self._model = _chosen(endpoint, model, provider, base_url, api_key, default_headers)
        config, self._spec = self._endpoint.config, self._endpoint.spec
        self._documented = names_of(self._spec.format.options)
        _refuse_ours(config.kwargs.keys() - self._documented)
        given = _options_among(kwargs, self._documented)
        self._defaults = {**config.kwargs, **kwargs, **({"model": self._model} if self._model else {})}
        self._given_options = {"timeout_s": config.timeout or self._spec.defaults.timeout_s, **given}
        self._options = CallOptions(**self._given_options)
        self._max_connections = check_count("max_connections", max_connections)
        self._http_client = checked_client(http_client)
        self._engine = engine
        self._lane = lane_of(
            lane,
            f"imodel-{self.id}",
            quotas_of(limit_requests, limit_tokens, interval, capacity_refresh_time, quotas),
            self._spec.defaults,
            queue_capacity=queue_capacity,
            concurrency_limit=concurrency_limit,
            ageing_s=ageing_s,
            weights=weights,
            learn_s=learn_s_of(limits, interval if interval is not None else capacity_refresh_time),
        )

    # --- what it is ---

    @property
    def model_name(self) -> str:
        """The model's name, without its provider; empty if none was given."""
        return self._model

    @property
    def request_options(self) -> type[msgspec.Struct] | None:
        """The arguments its endpoint documents, with types and ranges; None where it documents none."""
        return self._spec.format.options

    @property
    def lane(self) -> LaneDescription:
        """The lane its calls go through."""
        return self._lane

    @property
    def lane_name(self) -> str:
        """What that lane is called in errors and statistics."""
        return self._lane.name

    @property
    def endpoint_name(self) -> str:
        """What the provider account is called in errors and statistics: the provider and its address."""
        return f"{self._spec.provider} {self._spec.url}"

    @property
    def format(self) -> WireFormat:
        """The wire format of its provider."""
        return self._spec.format

    def account(self) -> Account:
        """The provider account, key included.

        Raises:
          MissingKey: the provider wants a key, none was given, and its variables are not set.
        """
        explicit = self._endpoint.config.api_key
        key = api_key(self._spec, explicit.reveal() if explicit is not None else None, os.environ)
        secret = Secret(key) if key is not None else None
        return Account(self._spec, secret, self._max_connections, self._http_client)

    def __repr__(self) -> str:
        return f"<iModel {self._spec.provider}/{self._model} at {self._spec.url}>"

    # --- calls ---

    def create_api_calling(self, **kwargs: Any) -> Call:
        """Make a call without sending it. Its arguments are copied; what is wrong with them is raised by `submit`.

        `priority`, `flow`, `deadline_s`, `timeout_s`, `metadata` and `on_unknown` are for the engine (see
        `CallOptions`); everything else goes to the provider, over what the constructor was given.
        """
        given = {name: kwargs.pop(name) for name in OPTION_NAMES & kwargs.keys()}
        arguments = {**self._defaults, **kwargs}
        problem = next(filter(None, map(_near_miss, kwargs.keys() - self._documented)), "")
        model = arguments.get("model")
        name = model if isinstance(model, str) else self._model
        if problem:
            return Call(self, name, InvalidCall(f"{problem}; nothing was sent"))
        try:
            options = CallOptions(**{**self._given_options, **given}) if given else self._options
            return Call(self, name, self._spec.format.encode(arguments, count_text=self._count_text), options)
        except InvalidCall as error:
            return Call(self, name, error)

    async def invoke(self, api_call: Call | None = None, **kwargs: Any) -> Call:
        """Send a call and wait until it has ended: `api_call`, or one made of `kwargs`.

        What became of it is on the call; a provider's failure is not raised. Cancellation cancels the call.

        Raises:
          EngineNotRunning: no engine is open here.
          UsageError, NotAdmitted: what is known before the call is queued; see `Engine.submit`.
        """
        if api_call is None:
            api_call = self.create_api_calling(**kwargs)
        elif kwargs:
            raise InvalidCall("invoke takes a call or the arguments of one, not both", argument=next(iter(kwargs)))
        elif not isinstance(api_call, Call):
            raise InvalidCall(f"invoke takes a call made by create_api_calling, not {type(api_call).__name__}")
        if api_call.mail is not None:
            return api_call
        return await self.engine.invoke(api_call)

    def stream(self, api_call: Call | None = None, **kwargs: Any) -> ReplyStream:
        """The answer as it comes: `api_call`, made with ``stream=True``, or a call made of `kwargs`.

            async with model.stream(messages=[...]) as chunks:
                async for chunk in chunks:
                    print(chunk, end="")

        ``async for chunk in model.stream(...)`` and ``in await model.stream(...)`` work too. The call is queued when
        the stream is first waited for. A chunk's text is ``str(chunk)``; the finished call is the stream's `call`.
        Leaving the block, or being cancelled, ends the call at once.

        Raises:
          EngineNotRunning: no engine is open here.
          UsageError: what is known to be wrong with the call. Further errors come as it is read: see `ReplyStream`.
        """
        if api_call is None:
            api_call = self.create_api_calling(**{**kwargs, "stream": True})
        elif kwargs:
            raise InvalidCall("stream takes a call or the arguments of one, not both", argument=next(iter(kwargs)))
        return self.engine.stream(api_call, process=self.streaming_process_func)

    @property
    def engine(self) -> Engine:
        """The engine its calls run in now.

        Raises:
          EngineNotRunning: none was given and none is open here.
        """
        return self._engine if self._engine is not None else current_engine()

    # --- alone ---

    async def __aenter__(self: Self) -> Self:
        """Use the model: in the engine there is, else in one of its own until the block is left."""
        if self._engine is None and not is_engine_open():
            own = open_engine()
            self._engine = await own.__aenter__()
            self._own_engine = own
            self._opened_by = trio.lowlevel.current_task()
        elif self._own_engine is not None and trio.lowlevel.current_task() is not self._opened_by:
            raise UsageError("the model is in use by another task's `async with`; open an engine around both tasks")
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._own_engine is not None and not self._entered:
            own, self._own_engine = self._own_engine, None
            self._engine = None
            await own.__aexit__(kind, error, traceback)

    async def close(self) -> None:
        """Be done with the model. It can be used again afterwards, and is still limited.

        Connections belong to the engine, which closes idle ones itself; so nothing has to be given back here.
        """
        await trio.lowlevel.checkpoint()


def _refuse_later(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise UsageError(f"{name}= is not supported by this version of penstock; leave it out")


_GUESSES = {
    "per": "interval",
    "period": "interval",
    "period_s": "interval",
    "rpm": "limit_requests",
    "tpm": "limit_tokens",
    "timeout": "timeout_s",
    "deadline": "deadline_s",
}


@functools.lru_cache(1024)
def _near_miss(name: str) -> str:
    """What is wrong with an argument's name, if it was meant for us: a limit misspelt is a limit not kept."""
    if name in OPTION_NAMES or name in _OWN_NAMES:
        return ""
    meant = _GUESSES.get(name) or next(iter(difflib.get_close_matches(name, _OWN_NAMES | OPTION_NAMES, 1, 0.85)), "")
    return (
        f"{name}= is no argument of iModel, and would be sent to the provider; did you mean {meant}=?" if meant else ""
    )


def _refuse_ours(names: AbstractSet[str]) -> None:
    """Arguments of an endpoint that were meant for the model, where they would be kept."""
    for name in names:
        if name in OPTION_NAMES or name in _OWN_NAMES:
            raise UsageError(f"{name}= is an argument of iModel, not of an endpoint; give it there")
        if problem := _near_miss(name):
            raise UsageError(problem)


def _options_among(kwargs: dict[str, Any], documented: frozenset[str]) -> dict[str, Any]:
    """Take the defaults of the engine's own options out of the arguments; what is left is for the provider."""
    for name in kwargs.keys() - documented:
        if problem := _near_miss(name):
            raise UsageError(problem)
    options = {name: kwargs.pop(name) for name in OPTION_NAMES & kwargs.keys()}
    CallOptions(**options)
    return options


def _check_kinds(engine: object, **functions: object) -> None:
    if engine is not None and not isinstance(engine, Engine):
        raise UsageError(f"engine is what open_engine gives, not {type(engine).__name__}")
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise UsageError(f"{name} is a function, not {type(value).__name__}")


def _chosen(
    endpoint: object,
    model: str,
    provider: str | None,
    base_url: str | None,
    api_key: str | None,
    default_headers: Mapping[str, str] | None,
) -> tuple[Endpoint, str]:
    """The endpoint that is given or named, and the model's name without its provider's."""
    said = {"base_url": base_url, "api_key": api_key, "default_headers": default_headers}
    if isinstance(endpoint, Endpoint):
        for argument, value in {"provider": provider, **said}.items():
            if value is not None:
                raise UsageError(f"{argument}= belongs to the endpoint that is given; say it there instead")
        return endpoint, model or _model_name(endpoint.config.kwargs.get("model", ""))
    if not isinstance(endpoint, str) or not endpoint.strip():
        hint = "; call the class to make one" if isinstance(endpoint, type) else ""
        raise UsageError(f"endpoint must be a name like 'chat', or an Endpoint, not {endpoint!a:.80}{hint}")
    provider, model = split_model(model, provider)
    fields: dict[str, Any] = {argument: value for argument, value in said.items() if value is not None}
    return Endpoint(EndpointConfig(provider=provider, endpoint=endpoint, **fields)), model


def _model_name(model: object) -> str:
    if isinstance(model, str):
        return model
    raise UsageError(f"model must be the model's name, not {type(model).__name__}")


def _check_text(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None and (not is_text(value) or not value):
            shown = "something else" if name == "api_key" else ascii(value)[:80]
            raise UsageError(f"{name} must be a text that is not empty, not {shown}")


_OWN_NAMES = frozenset(inspect.signature(iModel.__init__).parameters) - {"self", "kwargs", "model"}
