"""What a model does for an agent beyond a call: it goes on with its session, and calls the caller's handlers as the run
goes on.

A session is a conversation, one run after the other, in one working directory: `invoke`, `stream` and
`run_and_collect` go on with the one the model had last. Calls made by `create_api_calling`, which may be sent many at
once, each begin a session of their own unless they say `resume`. A run is always read as a stream, so that of one that
is given up is known what came. Handlers are functions of one argument, called in the reader's task, in the order of
the chunks; one that raises loses nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
import trio

from engine.agents.format import HANDLERS, AgentFormat
from engine.agents.options import is_session_id
from engine.call import Call
from engine.errors import HandlerFailed, InvalidCall, PenstockError
from engine.handling import log_failure, name_of
from engine.hooks import DEFAULT_TIMEOUTS_S, HookEventTypes
from engine.providers.wire import StreamChunk, WireFormat, mapping
from engine.runtime import Engine
from engine.streaming import ReplyStream

RunHandler: TypeAlias = Callable[[Any], Any]

SESSION_ID, SESSION_CWD = "session_id", "session_cwd"
"""Where a model's metadata say which session its runs go on with, and in which working directory it was."""


class AgentModel(Protocol):
    """What is needed of a model."""

    provider_metadata: dict[str, Any]
    exit_hook: bool
    streaming_process_func: Callable[[StreamChunk], Any] | None

    @property
    def provider_session_id(self) -> str | None:
        """The session that its runs go on with."""

    @property
    def format(self) -> WireFormat:
        """Its agent's."""

    @property
    def engine(self) -> Engine:
        """Where its runs are made."""

    def create_api_calling(self, **kwargs: Any) -> Call:
        """A run that is not sent yet."""


class RunHandlers(msgspec.Struct, frozen=True):
    """Functions that are told what a run says as it says it, each sync or async.

    `on_text` and `on_thinking` are given the text, a fragment of it where the program tells fragments; `on_tool_use` a
    dict of ``id name input``, `on_tool_result` one of ``tool_use_id content is_error``, `on_system` what the program
    says of itself (``kind`` and its fields), `on_final` how the run ended (``result is_error session_id usage ...``).
    """

    on_text: RunHandler | None = None
    on_thinking: RunHandler | None = None
    on_tool_use: RunHandler | None = None
    on_tool_result: RunHandler | None = None
    on_system: RunHandler | None = None
    on_final: RunHandler | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__struct_fields__)


NO_HANDLERS = RunHandlers()


def taken_handlers(kwargs: dict[str, Any], provider: str, usual: RunHandlers = NO_HANDLERS) -> RunHandlers:
    """Take the handlers out of a call's or a model's arguments; those it does not name are the usual ones.

    They stand there by their names, or together as a dict: ``handlers``, or as lionagi calls it ``claude_handlers``,
    with the first word of the provider's name.

    Raises:
      InvalidCall: one is no function, or no handler of an agent's.
    """
    given: dict[str, Any] = {}
    for group in ("handlers", f"{provider.partition('_')[0]}_handlers"):
        together = kwargs.pop(group, None)
        if together is None:
            continue
        if not isinstance(together, Mapping) or not together.keys() <= set(HANDLERS):
            raise InvalidCall(f"{group} is a dict of handlers by their names: {', '.join(HANDLERS)}", argument=group)
        given |= together
    given |= {name: kwargs.pop(name) for name in HANDLERS if name in kwargs}
    for name, handler in given.items():
        if handler is not None and not callable(handler):
            raise InvalidCall(f"{name} is a function, not {type(handler).__name__}", argument=name)
    return msgspec.structs.replace(usual, **given) if given else usual


class AgentRuns:
    """The runs of one model: `handlers` are its own, `usual` the arguments of all its calls."""

    def __init__(self, handlers: RunHandlers, usual: Mapping[str, Any]) -> None:
        self._handlers = handlers
        self._usual = usual

    async def invoke(self, model: AgentModel, api_call: Call | None, kwargs: dict[str, Any]) -> Call:
        """A run to its end; see `iModel.invoke`. What became of it is on the call, and not raised.

        Raises:
          What `Engine.submit` raises, and `HandlerFailed`. Cancellation cancels the call.
        """
        stream = self.stream(model, api_call, kwargs)
        async with stream:
            try:
                async for _ in stream:
                    pass
            except PenstockError as error:
                if error is not stream.call.error:
                    raise
        return stream.call

    def stream(self, model: AgentModel, api_call: Call | None, kwargs: dict[str, Any]) -> ReplyStream:
        """A run as it comes; see `iModel.stream`."""
        handlers = taken_handlers(kwargs, model.format.name, self._handlers)
        if api_call is None:
            api_call = model.create_api_calling(**self._continued(model, kwargs))
        watch = _Watch(api_call, handlers, exit_hook=model.exit_hook)
        return model.engine.stream(api_call, process=model.streaming_process_func, watch=watch)

    def _continued(self, model: AgentModel, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A run's arguments, with the session to go on with where nothing is said of one."""
        wire, session_id = model.format, model.provider_session_id
        if not session_id or not isinstance(wire, AgentFormat) or not wire.agent.resumes:
            return kwargs
        said = {**self._usual, **kwargs}
        own = kwargs.get("session_id") is None and said.get("session_id") == session_id
        if said.get("resume") is not None or (said.get("session_id") is not None and not own):
            return kwargs
        if said.get("ephemeral") or model.provider_metadata.get(SESSION_CWD, said.get("cwd")) != said.get("cwd"):
            return kwargs
        return {**kwargs, "resume": session_id, **({"session_id": None} if own else {})}


def check_invoked(model: AgentModel) -> None:
    """Refuse `iModel.invoke` for what is only to be read as a stream.

    Raises:
      InvalidCall: the model's agent is such.
    """
    if isinstance(model.format, AgentFormat) and model.format.agent.streams_only:
        raise InvalidCall(
            f"{model.format.name} is stream-only: read it with stream(...), or to its end with run_and_collect(...). "
            "Nothing was sent."
        )


def note_failure(call: Call, handler: RunHandler, failure: Exception, *, exit_hook: bool) -> None:
    """Say that a handler of a run failed, which goes on unless it is to be lost to that.

    Raises:
      HandlerFailed: it is.
    """
    log_failure(call, "agent", handler, failure)
    if exit_hook:
        said = f"the handler {name_of(handler)} failed ({type(failure).__name__}); the run was given up"
        raise HandlerFailed(said, call_id=call.id) from failure


class _Watch:
    """Sees the chunks of one run first: notes its session, and tells the handlers."""

    def __init__(self, call: Call, handlers: RunHandlers, *, exit_hook: bool) -> None:
        self._call = call
        self._handlers = handlers
        self._exit_hook = exit_hook
        self._session_id = ""
        self._is_noted = False

    async def __call__(self, chunk: StreamChunk) -> None:
        self._note(chunk)
        told = _told(self._handlers, chunk)
        if told is None:
            return
        handler, news = told
        failure: Exception
        try:
            awaited = handler(news)
            if not inspect.isawaitable(awaited):
                return
            with trio.move_on_after(HANDLER_S) as scope:
                await awaited
            if not scope.cancelled_caught:
                return
            failure = TimeoutError(f"it took longer than {HANDLER_S:g} s")
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, the run is not lost to it
            failure = error
        note_failure(self._call, handler, failure, exit_hook=self._exit_hook)

    def _note(self, chunk: StreamChunk) -> None:
        """Of a run that has begun its session is noted: its program may know nothing of one that was refused."""
        known = chunk.metadata.get("session_id")
        if is_session_id(known):
            self._session_id = known
        if chunk.type == "error" and chunk.metadata.get("category") == "session_not_found":
            self._forget()
        elif self._session_id and chunk.type in _OF_THE_TASK and (not self._is_noted or chunk.type == "result"):
            self._is_noted = True
            self._remember()

    def _remember(self) -> None:
        """The owner is whose call it has become: a handler may have answered with another model's."""
        owner, payload = self._call.owner, mapping(self._call.payload)
        metadata = getattr(owner, "provider_metadata", None)
        if isinstance(metadata, dict) and isinstance(owner.format, AgentFormat) and not payload.get("ephemeral"):
            metadata[SESSION_ID], metadata[SESSION_CWD] = self._session_id, payload.get("cwd")

    def _forget(self) -> None:
        """There is no such session any more: the next run begins one."""
        metadata = getattr(self._call.owner, "provider_metadata", None)
        asked = mapping(self._call.payload).get("resume")
        if isinstance(metadata, dict) and asked and metadata.get(SESSION_ID) == asked:
            del metadata[SESSION_ID]


HANDLER_S = DEFAULT_TIMEOUTS_S[HookEventTypes.PostInvocation]
"""How long a handler may be awaited."""
_OF_THE_TASK = ("text", "thinking", "tool_use", "tool_result", "result")


def _told(handlers: RunHandlers, chunk: StreamChunk) -> tuple[RunHandler, Any] | None:
    """Which handler a chunk is for, and what it is told; None if for none."""
    handler: RunHandler | None
    news: Any
    match chunk.type:
        case "text":
            handler, news = handlers.on_text, chunk.content
        case "thinking":
            handler, news = handlers.on_thinking, chunk.content
        case "tool_use":
            handler = handlers.on_tool_use
            news = {"id": chunk.tool_id, "name": chunk.tool_name, "input": chunk.tool_input}
        case "tool_result":
            handler = handlers.on_tool_result
            news = {"tool_use_id": chunk.tool_id, "content": chunk.tool_output, "is_error": chunk.is_error}
        case "system":
            handler, news = handlers.on_system, dict(chunk.metadata)
        case _:
            handler = handlers.on_final
            news = {**chunk.metadata, "result": chunk.content, "is_error": chunk.is_error}
    return (handler, news) if handler is not None else None


def collected(call: Call) -> str | None:
    """All that the agent said in a run, its messages joined by blank lines; None if it said nothing."""
    messages = mapping(call.response).get("messages")
    said = [text for text in messages if isinstance(text, str)] if isinstance(messages, list) else []
    return "\n\n".join(said) or call.text
