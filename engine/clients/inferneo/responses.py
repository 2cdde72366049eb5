"""What a server answers, as the objects of Inferneo's document, and the chunks of its streams.

Answers are read as leniently as possible: one odd field never costs an answer that was paid for. What a server adds to
the documented fields is in `extra`, and so is, under its name, what it wrote of another type than the document has.
`parameters`, `format` and `logprobs` are None where the server does not tell them, and so is `usage`. A chunk has a
choice always: an empty one where the server sent none.

Nothing here waits, and nothing raises, whatever a server sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from engine.providers.wire import count, mapping, text_or_none


class _Shape(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    extra: Mapping[str, Any] = {}
    """Whatever else the server said here, and what is of another type than the document's."""


class Usage(_Shape, frozen=True, kw_only=True):
    """What a call cost, as the server counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class LogProbs(_Shape, frozen=True, kw_only=True):
    """How likely the parts of a completion were."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


class CompletionChoice(_Shape, frozen=True, kw_only=True):
    """One answer to a prompt, or in a chunk a piece of one. `finish_reason` is ``stop``, ``length`` or ``abort``."""

    text: str = ""
    index: int = 0
    logprobs: LogProbs | None = None
    finish_reason: str | None = None


class CompletionResponse(_Shape, frozen=True, kw_only=True):
    """An answer to `completions.create`. `created` is Unix time in seconds."""

    id: str = ""
    object: str = "text_completion"
    created: int = 0
    model: str = ""
    choices: list[CompletionChoice] = []
    usage: Usage | None = None


class CompletionChunk(CompletionResponse, frozen=True, kw_only=True):
    """One step of a streamed completion: ``chunk.choices[0].text`` is the next piece of its text."""


class ChatMessage(_Shape, frozen=True, kw_only=True):
    """What the model says, or in a chunk (`delta`) a piece of it, where role and content may be None."""

    role: str | None = None
    content: Any = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatCompletionChoice(_Shape, frozen=True, kw_only=True):
    """One answer to a conversation."""

    message: ChatMessage = ChatMessage()
    index: int = 0
    finish_reason: str | None = None


class ChatCompletionResponse(_Shape, frozen=True, kw_only=True):
    """An answer to `chat.completions.create`. `created` is Unix time in seconds."""

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    choices: list[ChatCompletionChoice] = []
    usage: Usage | None = None


class ChatCompletionChunkChoice(_Shape, frozen=True, kw_only=True):
    """A piece of one answer to a conversation."""

    delta: ChatMessage = ChatMessage()
    index: int = 0
    finish_reason: str | None = None


class ChatCompletionChunk(_Shape, frozen=True, kw_only=True):
    """One step of a streamed conversation: ``chunk.choices[0].delta.content`` is the next piece of its text, or
    None."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str = ""
    choices: list[ChatCompletionChunkChoice] = []
    usage: Usage | None = None


class Model(_Shape, frozen=True, kw_only=True):
    """A model of the server. `created` is Unix time in seconds; `parameters` and `format` few servers tell."""

    id: str = ""
    object: str = "model"
    created: int = 0
    parameters: int | None = None
    format: str | None = None
    owned_by: str | None = None


class ModelList(list[Model]):
    """The server's models: a list, which has them under `data` as well."""

    object = "list"

    @property
    def data(self) -> list[Model]:
        """The models."""
        return self


class ServerInfo(_Shape, frozen=True, kw_only=True):
    """What is known of a server. `gpu_memory` is in bytes (``used_bytes``, ``total_bytes``), empty where it is not
    told; `uptime` in seconds, or None; `version` is ``"unknown"`` wherever no server tells one."""

    version: str = "unknown"
    models: list[str] = []
    gpu_memory: dict[str, float] = {}
    uptime: float | None = None


S = TypeVar("S", bound=_Shape)


def completion_of(payload: object) -> CompletionResponse:
    """The answer to a prompt."""
    return _envelope(CompletionResponse, payload, _completion_choice)


def completion_chunk_of(payload: object) -> CompletionChunk:
    """An event of a streamed completion."""
    return _envelope(CompletionChunk, payload, _completion_choice, least=1)


def chat_of(payload: object) -> ChatCompletionResponse:
    """The answer to a conversation."""
    return _envelope(ChatCompletionResponse, payload, _chat_choice)


def chat_chunk_of(payload: object) -> ChatCompletionChunk:
    """An event of a streamed conversation."""
    return _envelope(ChatCompletionChunk, payload, _delta_choice, least=1)


def model_of(payload: object) -> Model:
    """A model."""
    found = mapping(payload)
    parameters, kind = count(found.get("parameters")), text_or_none(found.get("format"))
    owner = text_or_none(found.get("owned_by"))
    return _made(Model, found, **_named(found), parameters=parameters, format=kind, owned_by=owner)


def models_of(payload: object) -> ModelList:
    """A list of models, as OpenAI writes it, or bare."""
    listed = mapping(payload).get("data", payload)
    return ModelList(model_of(item) for item in listed) if isinstance(listed, list) else ModelList()


def info_of(stats: object, models: ModelList) -> ServerInfo:
    """What the statistics and the models of a server say of it."""
    found = mapping(stats)
    gpu = mapping(found.get("gpu"))
    memory = {name: _number(gpu.get(f"mem_{name}")) for name in ("used_bytes", "total_bytes")}
    return ServerInfo(
        version=text_or_none(found.get("version")) or "unknown",
        models=[model.id for model in models],
        gpu_memory={name: number for name, number in memory.items() if number is not None},
        uptime=_number(found.get("uptime_s")),
        extra=found,
    )


# --- field by field ---------------------------------------------------------------------------------------------------


def _made(kind: type[S], found: Mapping[str, Any], *partly: str, **fields: Any) -> S:
    """An object with these fields, where they are not None, and everything else that was said, and what was read
    `partly`."""
    read = {name: value for name, value in fields.items() if value is not None}
    empty = {name for name in kind.__struct_fields__ if found.get(name) in (None, "")}
    taken = (read.keys() | empty) - set(partly)
    return kind(**read, extra={name: value for name, value in found.items() if name not in taken})


def _objects(value: object) -> bool:
    """Whether it is a list of objects, so that all of it can be read; or nothing."""
    return value is None or (isinstance(value, list) and all(isinstance(one, dict) for one in value))


def _named(found: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: text_or_none(found.get(name)) for name in ("id", "object")}
    return {**texts, "created": count(found.get("created"))}


def _envelope(kind: type[S], payload: object, choice_of: Any, *, least: int = 0) -> S:
    """An answer, or a chunk, which has at `least` one choice."""
    found = mapping(payload)
    choices = found.get("choices")
    listed = [choice_of(mapping(choice)) for choice in choices] if isinstance(choices, list) else []
    listed += [choice_of({}) for _ in range(least - len(listed))]
    partly = () if _objects(choices) else ("choices",)
    model, usage = text_or_none(found.get("model")), _usage(found.get("usage"))
    return _made(kind, found, *partly, **_named(found), model=model, choices=listed, usage=usage)


def _usage(payload: object) -> Usage | None:
    if not isinstance(payload, dict):
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return _made(Usage, payload, **{name: count(payload.get(name)) for name in names})


def _said(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": count(choice.get("index")), "finish_reason": text_or_none(choice.get("finish_reason"))}


def _completion_choice(choice: Mapping[str, Any]) -> CompletionChoice:
    logged = choice.get("logprobs")
    logprobs = None
    if isinstance(logged, dict):
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        lists = {name: logged[name] for name in names if isinstance(logged.get(name), list)}
        logprobs = _made(LogProbs, logged, **lists)
    return _made(CompletionChoice, choice, **_said(choice), text=text_or_none(choice.get("text")), logprobs=logprobs)


def _chat_choice(choice: Mapping[str, Any]) -> ChatCompletionChoice:
    return _made(ChatCompletionChoice, choice, **_said(choice), message=_message(choice.get("message")))


def _delta_choice(choice: Mapping[str, Any]) -> ChatCompletionChunkChoice:
    """Some answer whole although a stream was asked for."""
    said = choice.get("delta") or choice.get("message")
    return _made(ChatCompletionChunkChoice, choice, **_said(choice), delta=_message(said))


def _message(payload: object) -> ChatMessage | None:
    if not isinstance(payload, dict):
        return None
    calls = payload.get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else None
    partly = () if _objects(calls) else ("tool_calls",)
    role = text_or_none(payload.get("role"))
    return _made(ChatMessage, payload, *partly, role=role, content=payload.get("content"), tool_calls=listed)


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
