"""What a model does for an agent beyond a call: it goes on with its session, and calls the caller's handlers as the run
goes on.

A session is a conversation, one run after the other: `invoke`, `stream` and `run_and_collect` go on with the one the
model had last. Calls made by `create_api_calling`, which may be sent many at once, each begin a session of their own
unless they say `resume`. Handlers are functions of one argument, called in the reader's task, in the order of the
chunks; one that raises loses nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from engine.agents.format import HANDLERS, AgentFormat
from engine.call import Call
from engine.errors import HandlerFailed, InvalidCall, PenstockError
from engine.handling import log_failure
from engine.providers.wire import StreamChunk, WireFormat, mapping
from engine.runtime import Engine
from engine.streaming import ReplyStream

RunHandler: TypeAlias = Callable[[Any], Any]

_GROUPED = ("handlers", "claude_handlers", "codex_handlers", "gemini_handlers", "pi_handlers", "ag2_handlers")
"""Names under which lionagi takes handlers together, as a dict."""


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


def taken_handlers(kwargs: dict[str, Any], usual: RunHandlers = NO_HANDLERS) -> RunHandlers:
    """Take the handlers out of a call's or a model's arguments; those it does not name are the usual ones.

    Raises:
      InvalidCall: one is no function, or no handler of an agent's.
    """
    given: dict[str, Any] = {}
    for group in _GROUPED:
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


def note_session(model: AgentModel, session_id: object, payload: object) -> None:
    """The session that the model's next run goes on with; one that its program forgets is none."""
    if isinstance(session_id, str) and session_id and mapping(payload).get("ephemeral") is not True:
        model.provider_metadata["session_id"] = session_id


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


class _Watch:
    """Sees the chunks of one run first: notes its session, and tells the handlers."""

    def __init__(self, model: AgentModel, call: Call, handlers: RunHandlers) -> None:
        self._model = model
        self._call = call
        self._handlers = handlers
        self._payload = call.payload

    async def __call__(self, chunk: StreamChunk) -> None:
        note_session(self._model, chunk.metadata.get("session_id"), self._payload)
        told = _told(self._handlers, chunk)
        if told is None:
            return
        handler, news = told
        try:
            awaited = handler(news)
            if inspect.isawaitable(awaited):
                await awaited
        except Exception as error:
            log_failure(self._call, "agent", handler, error)
            if self._model.exit_hook:
                raise HandlerFailed(
                    "a handler of the run failed, and it was given up", call_id=self._call.id
                ) from error


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


class AgentRuns:
    """The runs of one model: `handlers` are its own, `said` the names of its own arguments."""

    def __init__(self, handlers: RunHandlers, said: Collection[str]) -> None:
        self._handlers = handlers
        self._chooses = any(name in said for name in _SESSIONS)

    async def invoke(self, model: AgentModel, kwargs: dict[str, Any]) -> Call:
        """See `iModel.invoke`. With handlers the run is read as a stream, for their sake."""
        handlers = taken_handlers(kwargs, self._handlers)
        if handlers:
            return await _read_out(self._stream(model, kwargs, handlers))
        call = model.create_api_calling(**self._continued(model, kwargs))
        await model.engine.invoke(call)
        note_session(model, call.view.provider_id, call.payload)
        return call

    def stream(self, model: AgentModel, kwargs: dict[str, Any]) -> ReplyStream:
        """See `iModel.stream`."""
        return self._stream(model, kwargs, taken_handlers(kwargs, self._handlers))

    def _stream(self, model: AgentModel, kwargs: dict[str, Any], handlers: RunHandlers) -> ReplyStream:
        call = model.create_api_calling(**self._continued(model, kwargs))
        watch = _Watch(model, call, handlers)
        return model.engine.stream(call, process=model.streaming_process_func, watch=watch)

    def _continued(self, model: AgentModel, kwargs: dict[str, Any]) -> dict[str, Any]:
        """A run's arguments, with the session to go on with where nothing is said of one."""
        wire, session_id = model.format, model.provider_session_id
        chooses = self._chooses or any(name in kwargs for name in _SESSIONS)
        if session_id and not chooses and isinstance(wire, AgentFormat) and wire.agent.resumes:
            return {**kwargs, "resume": session_id}
        return kwargs


_SESSIONS = ("resume", "session_id")
"""Arguments that say of a run which session it is of."""


async def _read_out(stream: ReplyStream) -> Call:
    """Read a run to its end. What became of it is on the call, and not raised.

    Raises:
      What `Engine.submit` raises, and `HandlerFailed`. Cancellation cancels the call.
    """
    async with stream:
        try:
            async for _ in stream:
                pass
        except PenstockError as error:
            if error is not stream.call.error:
                raise
    return stream.call


def collected(call: Call) -> str | None:
    """All that the agent said in a run, its messages joined by blank lines; None if it said nothing."""
    messages = mapping(call.response).get("messages")
    said = [text for text in messages if isinstance(text, str)] if isinstance(messages, list) else []
    return "\n\n".join(said) or call.text
