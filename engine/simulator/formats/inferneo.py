"""Inferneo's server: the manners of ``/v1/completions`` and ``/v1/chat/completions``, as it is and as it is documented.

As it is: any model is served; the first prompt of a list alone; `stop` trims the text of a finished answer, and no
stream; streams have no usage, and a failing one is cut off; a crash is plain text. The model ``crash`` crashes the
engine, so that nobody is answered any more, while its health is told to be good. Recordings of the server at
omkar-droid/inferneo 3492952, as of 2026-11-20. It has no keys and no limits: a refusal for want of a key, or by a
limit, is what something in front of it would say. As documented (deepdik/inferneo-docs, rest-api.md 657ad502):
errors in OpenAI's envelope, ``X-RateLimit-*`` with a reset in Unix seconds, and chunks without a model.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from engine.simulator.chat import CRASH_FAULT, MAX_OUTPUT, ChatRequest, StreamRequest
from engine.simulator.chunks import DONE, Wording
from engine.simulator.events import Block, Composed, Event, Events, Script
from engine.simulator.failure import Failure
from engine.simulator.formats.inferneo_checks import Detail, fault, messages_of, model_of, prompt_of, read_fields
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment, retry_after
from engine.simulator.formats.words import body, spoiled, text_pieces, usage
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Answer, Headers, encode, usage_of

CRASHING: Final = "crash"
"""The model of which a request crashes the engine for good."""
_CRASHED: Final = b"Internal Server Error"
_PLAIN: Final[Headers] = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
_NO_IMAGES: Final = "this model has no vision tower; it is a text model, which takes no images"
_NO_AUDIO: Final = "audio input needs a speech model, which is not loaded"
_DOCUMENTED_CAP: Final = 16
"""What the documentation says an output is capped at if the request does not say."""
_TOLD: Final = {"not_found": "Not Found", "method": "Method Not Allowed"}


class Inferneo(Manner):
    """What both endpoints have in common."""

    engine = "inferneo"
    documented = False
    """Whether it speaks as its documentation says, in place of as it does."""
    prefix: str
    whole_kind: str
    chunk_kind: str

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = _decoded(body)
        if isinstance(arguments, Failure):
            return arguments
        faults: list[Detail] = []
        fields = read_fields(arguments, faults)
        model = model_of(arguments, faults)
        messages = self.messages(arguments, faults)
        if faults:
            return _refused(faults)
        wrong = self.unserved(messages)
        if wrong is not None:
            return wrong
        cap = min(MAX_OUTPUT, fields["max_tokens"])
        if self.documented and arguments.get("max_tokens") is None:
            cap = _DOCUMENTED_CAP
        stream = StreamRequest() if fields["stream"] else None
        crashes = CRASH_FAULT if model == CRASHING and self.engine else ""
        return ChatRequest({**arguments, "messages": messages}, model, 1, cap, stream, fault=crashes)

    @abstractmethod
    def messages(self, arguments: Mapping[str, Any], faults: list[Detail]) -> list[dict[str, Any]]:
        """The prompt as messages, so that it is counted as those are."""

    def unserved(self, messages: list[dict[str, Any]]) -> Failure | None:
        """What is well formed and still not served."""
        return None

    @abstractmethod
    def choice(self, said: Wording, text: str) -> dict[str, object]:
        """What the choice of an answer in one piece says."""

    @abstractmethod
    def opening(self, said: Wording) -> list[Event]:
        """What comes before the first piece of a stream."""

    @abstractmethod
    def piece(self, text: str | None) -> dict[str, object]:
        """What the choice of a chunk says; None is the last."""

    def too_long(self, counted: int, most: int) -> Failure:
        return Failure("invalid", 400, f"prompt is {counted} tokens; max_model_len is {most}")

    def whole(self, said: Wording) -> bytes:
        text, reason = _trimmed(said)
        choice = {"index": 0, **self.choice(said, text), **self._logprobs(), "finish_reason": reason}
        told = self._envelope(said, self.whole_kind) | {"choices": [choice]}
        return body(said, told | {"usage": usage(said, usage_of(said.done.cost))})

    def chunk(self, said: Wording, told: Mapping[str, object], reason: str | None = None) -> Event:
        """One chunk of a stream."""
        envelope = self._envelope(said, self.whole_kind if self.documented else self.chunk_kind)
        if self.documented:
            del envelope["model"]
        return envelope | {"choices": [{"index": 0, **told, **self._logprobs(), "finish_reason": reason}]}

    def events(self, said: Wording) -> Events:
        def frame(_: int, event: Event) -> bytes:
            return b"data: %b\n\n" % encode(spoiled(said, event))

        def delta(text: str, _: int = 0) -> Event:
            return self.chunk(said, self.piece(text))

        last = self.chunk(said, self.piece(None), _reason(said))
        tail: list[Event | bytes] = [last, *([] if said.fault == "stream_no_done" else [DONE])]
        script = Script(self.opening(said), [Block(text_pieces(said), delta)], tail, delta)
        return Composed(script, frame, error=b"")  # it has no word for it: the connection ends

    def status(self, failure: Failure) -> int:
        return 400 if self.documented and failure.why == "invalid" else failure.status

    def error(self, failure: Failure, now: Moment) -> object:
        if self.documented or failure.why == "key":
            return _enveloped(failure)
        if failure.details:
            return {"detail": failure.details}
        return {"detail": _TOLD.get(failure.why, failure.message)}

    def fail(self, failure: Failure, now: Moment) -> Answer:
        if failure.why == "server_error" and not self.documented:
            return Answer(500, list(_PLAIN), _CRASHED)
        return super().fail(failure, now)

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return retry_after(failure)

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        standing = limits.standing(now.at_us, "requests") if self.documented else None
        if standing is None:
            return []
        reset_s = -(-(now.unix_us + standing.reset_us) // 1_000_000)
        return [
            (b"x-ratelimit-limit", b"%d" % standing.limit),
            (b"x-ratelimit-remaining", b"%d" % max(0, standing.remaining)),
            (b"x-ratelimit-reset", b"%d" % reset_s),
        ]

    def _envelope(self, said: Wording, kind: str) -> dict[str, object]:
        done = said.done
        identity = f"{self.prefix}-{done.identity}"
        return {"id": identity, "object": kind, "created": done.created_s, "model": done.model}

    def _logprobs(self) -> dict[str, object]:
        return {"logprobs": None} if self.documented else {}


class InferneoCompletions(Inferneo):
    """``/v1/completions``."""

    prefix = "cmpl"
    whole_kind = chunk_kind = "text_completion"

    def messages(self, arguments: Mapping[str, Any], faults: list[Detail]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text} for text in prompt_of(arguments, faults)[:1]]

    def unserved(self, messages: list[dict[str, Any]]) -> Failure | None:
        if messages:
            return None
        return Failure("server_error", 500, "The list of prompts is empty.")

    def choice(self, said: Wording, text: str) -> dict[str, object]:
        return {"text": text}

    def opening(self, said: Wording) -> list[Event]:
        return []

    def piece(self, text: str | None) -> dict[str, object]:
        return {"text": text or ""}


class InferneoChat(Inferneo):
    """``/v1/chat/completions``."""

    prefix = "chatcmpl"
    whole_kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def messages(self, arguments: Mapping[str, Any], faults: list[Detail]) -> list[dict[str, Any]]:
        return messages_of(arguments, faults)

    def unserved(self, messages: list[dict[str, Any]]) -> Failure | None:
        for message in messages:
            for part in message["content"] if isinstance(message["content"], list) else ():
                kind = part.get("type")
                if kind in ("image_url", "input_audio", "audio_url"):
                    return Failure("invalid", 501, _NO_IMAGES if kind == "image_url" else _NO_AUDIO)
                if kind != "text":
                    return Failure("invalid", 400, f"unknown content part type: {kind!r}")
        return None

    def choice(self, said: Wording, text: str) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": text}}

    def opening(self, said: Wording) -> list[Event]:
        return [self.chunk(said, {"delta": {"role": "assistant", "content": None}})]

    def piece(self, text: str | None) -> dict[str, object]:
        return {"delta": {"role": None, "content": text}}


class DocumentedCompletions(InferneoCompletions):
    """``/v1/completions`` as documented."""

    engine = ""
    documented = True


class DocumentedChat(InferneoChat):
    """``/v1/chat/completions`` as documented."""

    engine = ""
    documented = True


def _decoded(body: bytes | bytearray) -> dict[str, Any] | Failure:
    """The body, an object."""
    try:
        arguments = json.loads(body) if body else None
    except json.JSONDecodeError as error:
        return _refused([fault("json_invalid", (error.pos,), "JSON decode error", {}, {"error": error.msg})])
    except (UnicodeDecodeError, RecursionError):
        return Failure("invalid", 400, "There was an error parsing the body")
    if arguments is None:
        return _refused([fault("missing", (), "Field required", None)])
    if not isinstance(arguments, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        return _refused([fault("model_attributes_type", (), text, arguments)])
    return arguments


def _refused(faults: list[Detail]) -> Failure:
    return Failure("invalid", 422, "The request is wrong.", details=faults)


def _trimmed(said: Wording) -> tuple[str, str]:
    """The text up to the first string that ends it, and why it ends."""
    text, reason = said.done.text, _reason(said)
    assert said.asked is not None
    stops = said.asked.arguments.get("stop") or []
    assert isinstance(stops, (str, list))
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop in text:
            text, reason = text.partition(stop)[0] if stop else "", "stop"
    return text, reason


def _reason(said: Wording) -> str:
    """Why the words end."""
    assert said.asked is not None
    return "length" if said.done.cost.output_tokens == said.asked.output_cap else "stop"


def _enveloped(failure: Failure) -> object:
    """A failure as the documentation has it."""
    kind, code = "invalid_request_error", failure.code or "invalid_request_error"
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = code = "rate_limit_exceeded"
    elif failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = code = "server_error"
    message, param = failure.message, failure.param
    if failure.details:
        first = failure.details[0]
        message = first["msg"]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
