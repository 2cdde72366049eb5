"""What a user registers to be asked before a call and told after it: handlers, and how each run of them is bounded.

A handler is ``fn(event, **kw)``, async, or sync and then run in a thread; `event` is the `Call`. `HookRegistry` holds
handlers by phase, several for each, in order, and those of streams by the kind of chunk. How they are run, and what
their results mean, is in `engine.handling`; nothing here waits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from actors.limits import is_number
from engine.errors import InvalidCall, UsageError

Handler: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Handler)


class HookEventTypes(enum.StrEnum):
    """The phases of a call that handlers can be registered for."""

    PreEventCreate = "pre_event_create"
    """First: the call is made and may be replaced. A handler that raises is passed over, unless its exit policy says
    otherwise."""
    PreInvocation = "pre_invocation"
    """Before it is queued: it may be replaced, and a handler that raises vetoes it."""
    PostInvocation = "post_invocation"
    """After it has ended, before whoever waits is told. A handler that raises loses nothing."""


class HookOptions(msgspec.Struct, frozen=True):
    """How the handlers of one phase are run for a call. None is "not said".

    `exit`: whether a handler that raises, or takes too long, fails the call. `timeout_s` bounds each handler, in
    seconds. `params` are passed to each handler by name, beside ``exit``.

    Raises:
      InvalidCall: a value is out of range or of the wrong type; the message names it.
    """

    exit: bool | None = None
    timeout_s: float | None = None
    params: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        exit_policy: object = self.exit
        if not isinstance(exit_policy, bool | None):
            raise InvalidCall(f"a hook's exit must be True, False or None, not {exit_policy!a:.60}", argument="exit")
        if self.timeout_s is not None and not (is_number(self.timeout_s) and self.timeout_s > 0):
            raise InvalidCall(f"a hook's timeout must be seconds, more than 0, not {self.timeout_s!a:.60}")
        params: object = self.params
        if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
            raise InvalidCall("a hook's params must be a dict of arguments by name")


DEFAULT_TIMEOUTS_S = {
    HookEventTypes.PreEventCreate: 10.0,
    HookEventTypes.PreInvocation: 30.0,
    HookEventTypes.PostInvocation: 30.0,
}

_PHASES = {
    **{phase.value: phase for phase in HookEventTypes},
    **{phase.name: phase for phase in HookEventTypes},
    "pre_event_create_hook": HookEventTypes.PreEventCreate,
    "pre_invoke": HookEventTypes.PreInvocation,
    "post_invoke": HookEventTypes.PostInvocation,
}

SEED_OPTIONS = {
    f"{prefix}_{suffix}": (phase, field)
    for prefix, phase in (
        ("create_event", HookEventTypes.PreEventCreate),
        ("pre_invoke_event", HookEventTypes.PreInvocation),
        ("post_invoke_event", HookEventTypes.PostInvocation),
    )
    for suffix, field in (("exit_hook", "exit"), ("hook_timeout", "timeout_s"), ("hook_params", "params"))
}
"""The seed's names of a call's options for hooks, with the phase and the field of `HookOptions` each stands for."""


def phase_of(name: object) -> HookEventTypes:
    """The phase of that name, or itself. Raises `UsageError` for what is none."""
    phase = _PHASES.get(name) if isinstance(name, str) else None
    if phase is None:
        raise UsageError(f"there is no phase {name!a:.60}; there are {', '.join(_PHASES)}")
    return phase


class Extension(Protocol):
    """Handlers that belong together, made ready to be used: a cache, metrics, a log."""

    def handlers(self) -> Mapping[HookEventTypes, Handler]:
        """Its handler for each phase it takes part in."""

    def statistics(self) -> object:
        """A frozen copy of what it counts; `Engine.statistics` shows it."""


class HookRegistry:
    """Handlers by phase, in the order they were added, and handlers of streams by the kind of chunk.

    Args:
      hooks: for each phase (a `HookEventTypes` or its name) a handler, or several.
      stream_handlers: for each kind of chunk (its class, its class's name, or its `type` like ``"text"``) a handler, or
        several: ``fn(event, chunk_type, chunk, **kw)``. What one returns takes the chunk's place, unless it is None.

    Handlers may be added at any time; a call that is under way keeps those it was submitted with.

    Raises:
      UsageError: no such phase, or a handler that is no function.
    """

    def __init__(
        self,
        hooks: Mapping[Any, Handler | Iterable[Handler]] | None = None,
        stream_handlers: Mapping[Any, Handler | Iterable[Handler]] | None = None,
    ) -> None:
        self._handlers: dict[HookEventTypes, tuple[Handler, ...]] = dict.fromkeys(HookEventTypes, ())
        self._stream_handlers: dict[type | str, tuple[Handler, ...]] = {}
        self.extensions: tuple[Extension, ...] = ()
        self.empty = True
        self.before: tuple[tuple[HookEventTypes, Handler], ...] = ()
        """The handlers before a call, each with its phase, in the order in which they are run."""
        for phase, handlers in _mapping("hooks", hooks).items():
            for handler in _several(handlers):
                self.add(phase, handler)
        for chunk_type, handlers in _mapping("stream_handlers", stream_handlers).items():
            for handler in _several(handlers):
                self.add_stream_handler(chunk_type, handler)

    def add(self, phase: HookEventTypes | str, handler: Handler) -> None:
        """Add a handler behind those there are."""
        phase = phase_of(phase)
        self._handlers[phase] = (*self._handlers[phase], _function(handler))
        before = (HookEventTypes.PreEventCreate, HookEventTypes.PreInvocation)
        self.before = tuple((phase, handler) for phase in before for handler in self._handlers[phase])
        self.empty = False

    def add_stream_handler(self, chunk_type: type | str, handler: Handler) -> None:
        """Add a handler for one kind of chunk behind those there are."""
        key: object = chunk_type
        if not isinstance(key, type | str) or not key:
            raise UsageError(f"a stream handler stands under a class or its name, not under {key!a:.60}")
        self._stream_handlers[chunk_type] = (*self._stream_handlers.get(chunk_type, ()), _function(handler))

    def use(self, *extensions: Extension) -> HookRegistry:
        """Add the handlers of extensions, in order, and return the registry."""
        for extension in extensions:
            for phase, handler in extension.handlers().items():
                self.add(phase, handler)
            self.extensions = (*self.extensions, extension)
        return self

    def handlers(self, phase: HookEventTypes) -> tuple[Handler, ...]:
        """The handlers of a phase, in order."""
        return self._handlers[phase]

    @property
    def streams(self) -> bool:
        """Whether there is any handler of chunks."""
        return bool(self._stream_handlers)

    def handlers_of_chunk(self, chunk: object) -> tuple[type | str, tuple[Handler, ...]] | None:
        """The handlers of this chunk and what they stand under: its class, its class's name, or its `type`; the first
        of these that has any."""
        for key in (type(chunk), type(chunk).__name__, getattr(chunk, "type", None)):
            if key is not None and (handlers := self._stream_handlers.get(key)):
                return key, handlers
        return None

    # --- decorators ---

    def pre_event_create_hook(self, handler: F) -> F:
        """Add the decorated function to `PreEventCreate`."""
        self.add(HookEventTypes.PreEventCreate, handler)
        return handler

    def pre_invoke(self, handler: F) -> F:
        """Add the decorated function to `PreInvocation`."""
        self.add(HookEventTypes.PreInvocation, handler)
        return handler

    def post_invoke(self, handler: F) -> F:
        """Add the decorated function to `PostInvocation`."""
        self.add(HookEventTypes.PostInvocation, handler)
        return handler

    def stream_handler(self, chunk_type: type | str) -> Callable[[F], F]:
        """Add the decorated function for one kind of chunk: ``@hooks.stream_handler("text")``."""

        def add(handler: F) -> F:
            self.add_stream_handler(chunk_type, handler)
            return handler

        return add

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(handlers)} {phase.value}" for phase, handlers in self._handlers.items() if handlers)
        streams = f"{len(self._stream_handlers)} kinds of chunk" if self._stream_handlers else ""
        return f"<HookRegistry: {', '.join(filter(None, (counts, streams))) or 'no handlers'}>"


def registry_of(hooks: object) -> HookRegistry:
    """A registry from what a user gives: one, None, a dict by phase, or a dict of `HookRegistry`'s arguments.

    Raises:
      UsageError: it is none of these.
    """
    if hooks is None:
        return HookRegistry()
    if isinstance(hooks, HookRegistry):
        return hooks
    if not isinstance(hooks, Mapping):
        raise UsageError(f"hooks are a HookRegistry or a dict of handlers, not {type(hooks).__name__}")
    if hooks.keys() <= {"hooks", "stream_handlers"}:
        return HookRegistry(**hooks)
    return HookRegistry(hooks)


def hook_options_of(given: object) -> Mapping[HookEventTypes, HookOptions]:
    """A call's options for hooks, from what a user gives: for each phase a `HookOptions` or a dict of its fields.

    Raises:
      InvalidCall: a phase or a field that there is none of, or a value out of range.
    """
    if not isinstance(given, Mapping):
        raise InvalidCall(f"hook_options must be a dict by phase, not {type(given).__name__}", argument="hook_options")
    options = {}
    for name, value in given.items():
        try:
            phase = phase_of(name)
        except UsageError as error:
            raise InvalidCall(str(error), argument="hook_options") from None
        if isinstance(value, HookOptions):
            options[phase] = value
        elif isinstance(value, Mapping) and value.keys() <= set(HookOptions.__struct_fields__):
            options[phase] = HookOptions(**value)
        else:
            raise InvalidCall(f"the options of a hook are {', '.join(HookOptions.__struct_fields__)}, by name")
    return options


def _mapping(name: str, given: object) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{name} must be a dict, not {type(given).__name__}")
    return given


def _several(handlers: Handler | Iterable[Handler]) -> Iterable[Handler]:
    return handlers if isinstance(handlers, list | tuple) else (handlers,)


def _function(handler: Handler) -> Handler:
    if not callable(handler):
        raise UsageError(f"a handler is a function, not {type(handler).__name__}")
    return handler
