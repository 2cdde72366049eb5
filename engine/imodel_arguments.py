"""What `iModel` makes of its arguments: checked one by one, sorted into ours and the provider's, its limits kept.

A name that was meant for us and is misspelt is refused, since a limit misspelt is a limit not kept. The seeds' nine
names of hook options become `CallOptions.hook_options` here. Nothing here knows a model.
"""

from __future__ import annotations

import difflib
import functools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from actors.limits import Quota, is_number, is_text
from engine.accounts import LaneDescription
from engine.call import OPTION_NAMES, CallOptions
from engine.config import fault_in
from engine.endpoints import Endpoint, EndpointConfig
from engine.errors import InvalidCall, MissingKey, UsageError, one_line
from engine.estimate import estimate_text, own_counter
from engine.hooks import SEED_OPTIONS, HookEventTypes, HookOptions, hook_options_of
from engine.lane_arguments import lane_of, learn_s_of, quotas_of
from engine.providers.catalogue import Defaults
from engine.providers.lookup import api_key, split_model
from engine.runtime import Engine
from engine.secret import Secret

# --- what it is -------------------------------------------------------------------------------------------------------


def check_text(**arguments: object) -> None:
    """Refuse what is no text, or an empty one. A key is never shown."""
    for name, value in arguments.items():
        if value is not None and (not is_text(value) or not value):
            shown = "something else" if name == "api_key" else ascii(value)[:80]
            raise UsageError(f"{name} must be a text that is not empty, not {shown}")


def check_kinds(engine: object, **functions: object) -> None:
    """Refuse what is no engine, or no function."""
    if engine is not None and not isinstance(engine, Engine):
        raise UsageError(f"engine is what open_engine gives, not {type(engine).__name__}")
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise UsageError(f"{name} is a function, not {type(value).__name__}")


def counter_of(count_tokens: Callable[[str], int] | None) -> Callable[[str], int]:
    """What says how much a text counts as."""
    return estimate_text if count_tokens is None else own_counter(count_tokens)


def id_of(given: object) -> str:
    """A model's id: a new one, or the one that is given, as text."""
    if given is None:
        return str(uuid.uuid4())
    if isinstance(given, uuid.UUID):
        return str(given)
    if not is_text(given) or not 0 < len(str(given)) <= 200:
        raise UsageError(f"id must be a UUID, or a text of at most 200 characters, not {given!a:.80}")
    return str(given)


def created_at_of(given: object) -> float:
    """When a model was made, in seconds since 1970: now, or what is given."""
    if given is None:
        return time.time()
    if not is_number(given) or fault_in(given, float):
        raise UsageError(
            f"created_at must be seconds since 1970, as time.time() gives them, not {one_line(ascii(given), 80)}"
        )
    return msgspec.convert(given, float)


def metadata_of(given: object) -> dict[str, Any]:
    """The provider's metadata, as a dict of the model's own."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise UsageError(f"provider_metadata is a dict with names that are texts, not {type(given).__name__}")
    return dict(given)


# --- where its calls go -----------------------------------------------------------------------------------------------


def chosen_endpoint(
    endpoint: object,
    model: object,
    provider: str | None,
    base_url: str | None,
    key: str | None,
    default_headers: Mapping[str, str] | None,
) -> tuple[Endpoint, str]:
    """The endpoint that is given or named, and the model's name without its provider's."""
    model = _model_name(model)
    said = {"base_url": base_url, "api_key": key, "default_headers": default_headers}
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


def key_of(endpoint: Endpoint, environ: Mapping[str, str] | None) -> Secret | None:
    """The key of its calls. `environ` is None where no key from the environment may be sent.

    Raises:
      MissingKey: the provider wants a key and there is none.
    """
    explicit, spec = endpoint.config.api_key, endpoint.spec
    if environ is None and spec.is_cli:
        raise MissingKey(
            f"the model was restored with an address that is not {spec.provider}'s own, where its program would log "
            "in; pass from_dict the base_url you trust. Nothing was started.",
            variables=spec.key_env,
        )
    if environ is None and explicit is None and spec.key_required:
        raise MissingKey(
            f"the model was restored with an address that is not {spec.provider}'s own, where no key from the "
            "environment is sent: pass from_dict the api_key, or the base_url you trust. Nothing was sent.",
            variables=spec.key_env,
        )
    key = api_key(spec, explicit.reveal() if explicit is not None else None, environ or {})
    return Secret(key) if key is not None else None


# --- whose an argument is ---------------------------------------------------------------------------------------------

_GUESSES = {
    "per": "interval",
    "period": "interval",
    "period_s": "interval",
    "rpm": "limit_requests",
    "tpm": "limit_tokens",
    "timeout": "timeout_s",
    "deadline": "deadline_s",
}

ENGINE_NAMES = OPTION_NAMES | SEED_OPTIONS.keys()
"""Arguments of a call that are for the engine: `CallOptions`, and the seeds' names of hook options."""


@functools.lru_cache(1024)
def near_miss(name: str, own_names: frozenset[str]) -> str:
    """What is wrong with an argument's name, if it was meant for us. `own_names` are the model's arguments."""
    known = own_names | ENGINE_NAMES
    if name in known:
        return ""
    meant = _GUESSES.get(name) or next(iter(difflib.get_close_matches(name, known, 1, 0.85)), "")
    return (
        f"{name}= is no argument of iModel, and would be sent to the provider; did you mean {meant}=?" if meant else ""
    )


def refuse_ours(names: AbstractSet[str], own_names: frozenset[str]) -> None:
    """Refuse arguments of an endpoint that were meant for the model, where they would be kept."""
    for name in names:
        if name in ENGINE_NAMES or name in own_names:
            raise UsageError(f"{name}= is an argument of iModel, not of an endpoint; give it there")
        if problem := near_miss(name, own_names):
            raise UsageError(problem)


def options_among(
    kwargs: dict[str, Any], documented: frozenset[str], own_names: frozenset[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Take the defaults of the engine's own options out of the arguments; what is left is for the provider.

    `defaults` are the endpoint's, which hold for what is not said.
    """
    for name in kwargs.keys() - documented:
        if problem := near_miss(name, own_names):
            raise UsageError(problem)
    options = {**defaults, **taken_options(kwargs, {})}
    CallOptions(**options)
    return options


def taken_options(kwargs: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is for the engine out of a call's arguments, as fields of `CallOptions`.

    What the seeds' names say of a phase's handlers stands over `hook_options`, the call's or else the model's.

    Raises:
      InvalidCall: hook options that are none.
    """
    given = {name: kwargs.pop(name) for name in ENGINE_NAMES & kwargs.keys()}
    seeds = {name: given.pop(name) for name in SEED_OPTIONS.keys() & given.keys()}
    if not seeds:
        return given
    said = given.get("hook_options", defaults.get("hook_options"))
    options: dict[HookEventTypes, HookOptions] = dict(hook_options_of(said)) if said is not None else {}
    for name, value in seeds.items():
        phase, field = SEED_OPTIONS[name]
        try:
            options[phase] = msgspec.structs.replace(options.get(phase, HookOptions()), **{field: _said(field, value)})
        except InvalidCall as error:
            raise InvalidCall(f"{name}: {error.message}", argument=name) from None
    return {**given, "hook_options": options}


def _said(field: str, value: object) -> object:
    """The seeds say "no parameters" by None."""
    return {} if field == "params" and value is None else value


# --- its limits -------------------------------------------------------------------------------------------------------


class LaneArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was told of its lane, as it was told; of which a lane is described, here and in a copy.

    `shares` is the name of another model's own lane, which a copy shares.
    """

    queue_capacity: int | None = None
    capacity_refresh_time: float = 60
    interval: float | None = None
    limit_requests: int | None = None
    limit_tokens: int | None = None
    concurrency_limit: int | None = None
    quotas: tuple[Quota, ...] = ()
    limits: str | None = None
    weights: Mapping[str, int] | None = None
    ageing_s: float | None = None
    lane: str | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        quotas: object = self.quotas
        if not isinstance(quotas, Iterable):
            raise UsageError(f"quotas= is a list of Quota objects, not {type(quotas).__name__}")
        msgspec.structs.force_setattr(self, "quotas", tuple(quotas))
        if isinstance(self.weights, Mapping):
            msgspec.structs.force_setattr(self, "weights", dict(self.weights))

    def description(self, own_name: str, defaults: Defaults, *, warn: bool = False) -> LaneDescription:
        """The lane, which is called `own_name` if it has no other name. `warn`: of what is often misunderstood.

        Raises:
          UsageError: an argument is out of range; the message names it.
        """
        described = lane_of(
            self.lane,
            own_name,
            quotas_of(
                self.limit_requests,
                self.limit_tokens,
                self.interval,
                self.capacity_refresh_time,
                self.quotas,
                warn=warn,
            ),
            defaults,
            queue_capacity=self.queue_capacity,
            concurrency_limit=self.concurrency_limit,
            ageing_s=self.ageing_s,
            weights=self.weights,
            learn_s=learn_s_of(self.limits, self.interval if self.interval is not None else self.capacity_refresh_time),
        )
        return msgspec.structs.replace(described, name=self.shares or described.name)

    def apart(self) -> LaneArguments:
        """The same limits for a lane of its own.

        Raises:
          UsageError: the lane was joined by its name, so that its limits are said elsewhere.
        """
        said = (self.limit_requests, self.limit_tokens, self.limits)
        if self.lane is not None and not self.quotas and all(one is None for one in said):
            raise UsageError(
                f"the limits of lane {self.lane!r} are not said by this model, so a copy with a lane of its own would "
                "have none. Share them, copy(share_limits=True), or make a model that says its limits"
            )
        return msgspec.structs.replace(self, lane=None, shares=None)
