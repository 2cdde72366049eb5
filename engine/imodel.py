"""`iModel`: one provider's model with its limits, the object most users hold.

Built anywhere, without a running loop. Its calls run in the engine it was given, else in the innermost open one of the
task that makes them; each engine keeps its limits for itself. Used alone, in an ``async with``, it opens an engine of
its own. The constructor is that of lionagi's iModel, and so are the methods. Its arguments are checked in
`imodel_arguments`, and written and read as data in `imodel_data`.
"""

from __future__ import annotations

import copy
import inspect
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec
import trio

from actors.limits import Quota
from engine.accounts import MAX_CONNECTIONS, Account, LaneDescription
from engine.agent_runs import SESSION_CWD, SESSION_ID, AgentRuns, check_invoked, collected, taken_handlers
from engine.agents.format import AgentFormat
from engine.call import OPTION_NAMES, Call, CallOptions
from engine.endpoints import Endpoint
from engine.errors import InvalidCall
from engine.hooks import HookRegistry, registry_of
from engine.imodel_arguments import (
    ENGINE_NAMES,
    LaneArguments,
    check_kinds,
    check_text,
    chosen_endpoint,
    counter_of,
    created_at_of,
    id_of,
    key_of,
    metadata_of,
    near_miss,
    options_among,
    refuse_ours,
    taken_options,
)
from engine.imodel_data import arguments_in, limits_data, limits_of, written
from engine.lane_arguments import check_count
from engine.opening import Alone, is_engine_open
from engine.providers.arguments import names_of
from engine.providers.lookup import is_own_address
from engine.providers.wire import WireFormat
from engine.runtime import Engine
from engine.streaming import ReplyStream
from engine.transports.client import HttpClient, checked_client

Self = TypeVar("Self", bound="iModel")


class iModel(Alone):  # noqa: N801  # the name its users know
    """A model of one provider, with limits.

    Args:
      provider: ``"openai"``, ``"groq"``, ... Inferred from `model` (``"groq/llama-3.3"``), else openai. Any other name
        is taken for a service that speaks OpenAI's formats at `base_url`. ``"claude_code"``, ``"codex"``,
        ``"gemini_code"``, ``"pi"`` and ``"ag2"`` run an agent on this machine; see `run_and_collect`.
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
      provider_metadata: what is known of the model at its provider, like the `session_id` of an agent; kept on it.
      hook_registry: handlers of its calls: a `HookRegistry`, or a dict of them.
      exit_hook: whether a handler that raises, or takes too long, fails its call; a call may say otherwise.
      id, created_at: of a model there was before; else a new UUID, and now (seconds since 1970).
      engine: the engine to use, in place of the innermost open one.
      count_tokens: your own counter, from a text to how much it counts as; else texts are estimated by their length.
      default_headers: headers of every request, over the provider's own (``{"anthropic-beta": "..."}``).
      http_client: an `httpx.AsyncClient` of your own that the calls go through; the engine never closes it.
      max_connections: how many connections the provider account may hold; the first model of an account decides.
      **kwargs: `model` and everything else is sent with every call, unless the call says otherwise. Names of
        `CallOptions` (`timeout_s`, `on_unknown`, ...) are defaults of its calls and are not sent. Of an agent also its
        handlers, `on_text` and so on (`engine.agent_runs.RunHandlers`).

    An engine keeps the lane of every model it has met until it closes: make models once, not for each request.

    Raises:
      UsageError: an argument is out of range or not supported by this version; the message names it.
      UnknownEndpoint: no such provider, and no address given.
    """

    _environment = True  # whether its key may come from there

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
        id: str | uuid.UUID | None = None,  # noqa: A002  # as the seed has it
        created_at: float | None = None,
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
        check_text(provider=provider, base_url=base_url, api_key=api_key, lane=lane)
        check_kinds(engine, streaming_process_func=streaming_process_func, count_tokens=count_tokens)
        self.id, self.created_at = id_of(id), created_at_of(created_at)
        self.provider_metadata = metadata_of(provider_metadata)
        self.streaming_process_func, self._count_text = streaming_process_func, counter_of(count_tokens)
        self.hook_registry, self.exit_hook = registry_of(hook_registry), exit_hook
        self._engine, self._http_client = engine, checked_client(http_client)
        self._max_connections = check_count("max_connections", max_connections)
        self._endpoint, self._model = chosen_endpoint(
            endpoint, kwargs.pop("model", ""), provider, base_url, api_key, default_headers
        )
        self._take(kwargs)
        self._limits = LaneArguments(
            queue_capacity=queue_capacity,
            capacity_refresh_time=capacity_refresh_time,
            interval=interval,
            limit_requests=limit_requests,
            limit_tokens=limit_tokens,
            concurrency_limit=concurrency_limit,
            quotas=quotas,  # type: ignore[arg-type]  # which makes a tuple of them
            limits=limits,
            weights=weights,
            ageing_s=ageing_s,
            lane=lane,
        )
        self._lane = self._limits.description(f"imodel-{self.id}", self._spec.defaults, warn=True)

    def _take(self, kwargs: dict[str, Any]) -> None:
        """Arguments and options of every call, from what the endpoint and the constructor were given."""
        config, self._spec = self._endpoint.config, self._endpoint.spec
        handlers = taken_handlers(kwargs, self._spec.provider) if self._spec.is_cli else None
        self._documented = names_of(self._spec.format.options)
        refuse_ours(config.kwargs.keys() - self._documented, _OWN_NAMES)
        usual = {"timeout_s": self._spec.defaults.timeout_s, **config.options()}
        self._given_options = options_among(kwargs, self._documented, _OWN_NAMES, usual)
        self._options = CallOptions(**self._given_options)
        self._defaults = {**config.kwargs, **kwargs, **({"model": self._model} if self._model else {})}
        self._runs = AgentRuns(handlers, self._defaults) if handlers is not None else None

    # --- what it is ---

    @property
    def model_name(self) -> str:
        """The model's name, without its provider; empty if none was given."""
        return self._model

    @property
    def endpoint(self) -> Endpoint:
        """Where its calls go, with what they have in common."""
        return self._endpoint

    @property
    def is_cli(self) -> bool:
        """Whether its calls run an agent's program on this machine, instead of asking a service."""
        return self._spec.is_cli

    @property
    def provider_session_id(self) -> str | None:
        """The session at the provider that its calls continue, None if there is none."""
        session_id = self.provider_metadata.get("session_id")
        return session_id if isinstance(session_id, str) else None

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
        return f"{self._spec.provider} {self._spec.url}".rstrip()

    @property
    def format(self) -> WireFormat:
        """The wire format of its provider."""
        return self._spec.format

    def account(self) -> Account:
        """The provider account, key included.

        Raises:
          MissingKey: the provider wants a key, none was given, and its variables are not set.
        """
        key = key_of(self._endpoint, os.environ if self._environment else None)
        return Account(self._spec, key, self._max_connections, self._http_client)

    def __repr__(self) -> str:
        return f"<iModel {self._spec.provider}/{self._model} at {self._spec.url}>"

    # --- calls ---

    def create_api_calling(self, **kwargs: Any) -> Call:
        """Make a call without sending it. Its arguments are copied; what is wrong with them is raised by `submit`.

        What `CallOptions` names (`priority`, `flow`, `deadline_s`, ...) is for the engine; so are the seed's names of
        hook options, like `pre_invoke_event_hook_timeout`. Everything else goes to the provider, over what the
        constructor was given.
        """
        given = {name: kwargs.pop(name) for name in ENGINE_NAMES & kwargs.keys()}
        arguments = {**self._defaults, **kwargs}
        problem = next(filter(None, (near_miss(name, _OWN_NAMES) for name in kwargs.keys() - self._documented)), "")
        model = arguments.get("model")
        name = model if isinstance(model, str) else self._model
        if problem:
            return Call(self, name, InvalidCall(f"{problem}; nothing was sent"))
        try:
            given = given if given.keys() <= OPTION_NAMES else taken_options(given, self._given_options)
            options = CallOptions(**{**self._given_options, **given}) if given else self._options
            return Call(self, name, self._spec.format.encode(arguments, count_text=self._count_text), options)
        except InvalidCall as error:
            return Call(self, name, error)

    async def invoke(self, api_call: Call | None = None, **kwargs: Any) -> Call:
        """Send a call and wait until it has ended: `api_call`, or one made of `kwargs`.

        What became of it is on the call; a provider's failure is not raised. Cancellation cancels the call.

        Raises:
          EngineNotRunning: no engine is open here.
          UsageError, NotAdmitted: what is known before the call is queued; see `Engine.submit`. So is that a chat of
            AG2 is read as a stream.
        """
        if self._runs is not None:
            check_invoked(self)
        return await self._invoke(api_call, kwargs)

    async def _invoke(self, api_call: Call | None, kwargs: dict[str, Any]) -> Call:
        if api_call is None and self._runs is not None:
            return await self._runs.invoke(self, None, kwargs)
        if api_call is None:
            api_call = self.create_api_calling(**kwargs)
        elif kwargs:
            raise InvalidCall("invoke takes a call or the arguments of one, not both", argument=next(iter(kwargs)))
        elif not isinstance(api_call, Call):
            raise InvalidCall(f"invoke takes a call made by create_api_calling, not {type(api_call).__name__}")
        if api_call.over:
            return api_call
        if self._runs is not None and isinstance(api_call.owner.format, AgentFormat):
            return await self._runs.invoke(self, api_call, {})
        return await self.engine.invoke(api_call)

    async def run_and_collect(self, api_call: Call | None = None, **kwargs: Any) -> str | None:
        """Send a call as `invoke` does, and return all that was said in answer as one text; None if nothing was.

        Of an agent's run these are all its messages, joined by blank lines, where `Call.text` is the last one.

        Raises:
          PenstockError: the call did not complete. And what `invoke` raises.
        """
        return collected((await self._invoke(api_call, kwargs)).raise_for_status())

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
        if self._runs is not None and (api_call is None or not kwargs):
            return self._runs.stream(self, api_call, kwargs)
        if api_call is None:
            api_call = self.create_api_calling(**{**kwargs, "stream": True})
        elif kwargs:
            raise InvalidCall("stream takes a call or the arguments of one, not both", argument=next(iter(kwargs)))
        return self.engine.stream(api_call, process=self.streaming_process_func)

    # --- again ---

    def copy(self: Self, share_session: bool = False, share_limits: bool = False) -> Self:
        """A model like this one with an id of its own, and a lane of its own with the same limits.

        `share_limits`: it shares this one's lane. `share_session`: it continues the session at the provider, too. The
        hooks, the functions and the client are the same objects.

        Raises:
          UsageError: this model joined a lane by its name, without saying its limits, and does not share it.
        """
        other = copy.copy(self)
        other.id, other.created_at = id_of(None), created_at_of(None)
        other._stand_alone(self)
        kept = self.provider_metadata.items()
        session = () if share_session else (SESSION_ID, SESSION_CWD)
        other.provider_metadata = {name: value for name, value in kept if name not in session}
        if share_limits:
            other._limits = msgspec.structs.replace(self._limits, shares=None if self._limits.lane else self._lane.name)
        else:
            other._limits = self._limits.apart()
            other._lane = other._limits.description(f"imodel-{other.id}", self._spec.defaults)
        return other

    def to_dict(self, include_request_options: bool = False, include_processor_config: bool = True) -> dict[str, Any]:
        """The model as data that JSON can hold: what it is, where its calls go, their arguments, its limits.

        Never in it: keys; headers, arguments and metadata that hold one by their name or their looks; a user or a key
        in the address. Nor functions, hooks with `exit_hook` and `hook_options`, the client and the engine, an agent's
        `program` and `pass_env`: give them to what is restored. `include_request_options` adds the JSON Schema of the
        arguments its endpoint documents.

        Raises:
          UsageError: an argument or something in the metadata cannot be written as JSON.
        """
        said = self._endpoint, self._defaults, self._given_options, self.provider_metadata
        data = {"id": self.id, "created_at": self.created_at, **written(*said, os.environ)}
        if include_request_options and self.request_options is not None:
            data["endpoint"]["config"]["request_options"] = msgspec.json.schema(self.request_options)
        if include_processor_config:
            data["processor_config"] = {**limits_data(self._limits), "max_connections": self._max_connections}
        return data

    @classmethod
    def from_dict(
        cls: type[Self], data: Mapping[str, Any], *, base_url: str | None = None, api_key: str | None = None
    ) -> Self:
        """The model that `to_dict` has written: the same id and time, address, arguments and limits.

        Within an engine it shares the lane of the model it was. What `to_dict` leaves out it lacks. `base_url` takes
        the place of the address in the data. A key from the environment, or an agent's login, is sent to the provider's
        own address, or to the one that is given here, never to another that only the data says.

        Raises:
          UsageError: the data is none of a model, or says what a model cannot be.
        """
        check_text(base_url=base_url, api_key=api_key)
        model, limits = cls(**arguments_in(data, base_url, api_key)), limits_of(data)
        model._limits = limits
        model._lane = limits.description(f"imodel-{model.id}", model._spec.defaults)
        model._environment = base_url is not None or is_own_address(model._spec)
        return model

    # --- alone ---

    async def close(self) -> None:
        """Be done with the model: connections of its account that no call is using are closed.

        It can be used again afterwards, and is still limited. May be called twice, and where no engine is open.
        """
        if self._engine is not None or is_engine_open():
            self.engine.close_idle(self)
        await trio.lowlevel.checkpoint()


_OWN_NAMES = frozenset(inspect.signature(iModel.__init__).parameters) - {"self", "kwargs", "model"}
