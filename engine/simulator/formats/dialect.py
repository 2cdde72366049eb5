"""OpenAI's chat as others speak it: `Dialect` is what Groq, DeepSeek and the rest have in common.

A dialect overrides what it says otherwise: the fields of an answer, its usage, its errors, its limit headers. It has
one choice whatever ``n`` says, and streams that are put together from blocks. The dialects themselves are in
`dialects` and `gateways`.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.simulator.chat import CAPS, ChatRequest, read_chat
from engine.simulator.chunks import DONE, Wording
from engine.simulator.events import Block, Composed, Event, Events, Script
from engine.simulator.failure import CRASH, Failure
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.formats.openai_chat import error_body, message_calls
from engine.simulator.formats.words import (
    Call,
    body,
    calls,
    reasoning_pieces,
    reasoning_tokens,
    spoiled,
    text_pieces,
    usage,
)
from engine.simulator.reply import encode, usage_of


class Dialect(Manner):
    """OpenAI's chat completions, as another provider speaks them."""

    caps: tuple[str, ...] = CAPS
    """The names under which it knows the cap of the output; it ignores others."""
    reasoning_field = "reasoning_content"
    further: Mapping[str, object] = {}
    """Fields of every answer and every chunk besides the common ones."""
    nothing: Mapping[str, object] = {}
    """The delta that says nothing more."""
    preamble = b""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        request = read_chat(body, self.caps)
        if isinstance(request, Failure):
            return request
        return self.refused(request.arguments) or request._replace(choices=1)

    def refused(self, arguments: Mapping[str, object]) -> Failure | None:
        """What it refuses besides."""
        return None

    def error(self, failure: Failure, now: Moment) -> object:
        return error_body(failure)

    def identity(self, said: Wording) -> str:
        """The identity of an answer."""
        return f"chatcmpl-{said.done.identity}"

    def envelope(self, said: Wording, kind: str) -> dict[str, object]:
        """What stands around the choices of an answer or a chunk."""
        done = said.done
        fixed = {"id": self.identity(said), "object": kind, "created": done.created_s, "model": done.model}
        return {**fixed, **self.further}

    def usage(self, said: Wording) -> dict[str, object]:
        """What an answer has cost."""
        details = {"completion_tokens_details": {"reasoning_tokens": reasoning_tokens(said)}}
        return usage_of(said.done.cost, details=True) | details

    def thoughts(self, said: Wording) -> list[str]:
        """The reasoning it tells of, in pieces."""
        return reasoning_pieces(said)

    def reasoned(self, piece: str) -> dict[str, object]:
        """The fields that hold reasoning, in a message or a delta."""
        return {self.reasoning_field: piece}

    def message(self, said: Wording) -> dict[str, object]:
        """The message of an answer in one piece."""
        message: dict[str, object] = {"role": "assistant"}
        if thoughts := self.thoughts(said):
            message |= self.reasoned("".join(thoughts))
        if made := calls(said):
            return message | {"content": None, "tool_calls": message_calls(made)}
        return message | {"content": said.done.text}

    def choice(self, said: Wording, message: dict[str, object]) -> dict[str, object]:
        """The choice of an answer in one piece."""
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reason(said)}

    def reason(self, said: Wording) -> str:
        """Why an answer ends."""
        return "tool_calls" if calls(said) else "stop"

    def answer(self, said: Wording) -> dict[str, object]:
        """An answer in one piece."""
        choices = [self.choice(said, self.message(said))]
        return self.envelope(said, "chat.completion") | {"choices": choices, "usage": usage(said, self.usage(said))}

    def whole(self, said: Wording) -> bytes:
        return body(said, self.answer(said))

    def chunk(self, said: Wording, delta: Mapping[str, object], reason: str | None = None) -> dict[str, object]:
        """One chunk of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self.envelope(said, "chat.completion.chunk") | {"choices": [choice]}

    def opening(self, said: Wording) -> list[Event]:
        """What comes before the first piece."""
        return [self.chunk(said, {"role": "assistant", "content": ""})]

    def delta(self, said: Wording, piece: str) -> dict[str, object]:
        """The delta of a piece of text."""
        return {"content": piece}

    def closing(self, said: Wording) -> tuple[list[Event], int | None]:
        """What comes after the last piece, but for ``[DONE]``, and which of it has the usage."""
        last: list[Event] = [self.chunk(said, self.nothing, self.reason(said))]
        if said.request.usage and said.fault != "null_usage":
            last.append(self.envelope(said, "chat.completion.chunk") | {"choices": [], "usage": self.usage(said)})
            return last, 1
        return last, None

    def blocks(self, said: Wording) -> list[Block]:
        """The pieces: the reasoning, then the text or the calls."""
        thought = Block(self.thoughts(said), lambda piece, _: self.chunk(said, self.reasoned(piece)))
        made = calls(said)
        if made:
            return [thought, *(self._call(said, number, call) for number, call in enumerate(made))]
        return [thought, Block(text_pieces(said), lambda piece, _: self.chunk(said, self.delta(said, piece)))]

    def _call(self, said: Wording, number: int, call: Call) -> Block:
        def fragment(text: str, _: int) -> Event:
            return self.chunk(said, {"tool_calls": [{"index": number, "function": {"arguments": text}}]})

        function = {"name": call.name, "arguments": ""}
        opened = {"index": number, "id": f"call_{call.identity}", "type": "function", "function": function}
        return Block(call.fragments, fragment, [self.chunk(said, {"tool_calls": [opened]})])

    def frame(self, said: Wording, event: Event) -> bytes:
        """The bytes of an event."""
        return b"data: %b\n\n" % encode(spoiled(said, event))

    def stream_error(self, said: Wording) -> bytes:
        """What comes in an event's place when a stream fails."""
        failure = CRASH._replace(identity=said.done.identity)
        return b"data: %b\n\n" % encode(self.error(failure, Moment(0, said.done.created_s * 1_000_000)))

    def script(self, said: Wording) -> Script:
        """The parts of a stream."""
        last, usage_at = self.closing(said)
        tail: list[Event | bytes] = [*last, *([] if said.fault == "stream_no_done" else [DONE])]
        return Script(
            self.opening(said),
            self.blocks(said),
            tail,
            lambda piece: self.chunk(said, self.delta(said, piece)),
            usage_at,
        )

    def events(self, said: Wording) -> Events:
        return Composed(
            self.script(said),
            lambda _, event: self.frame(said, event),
            error=self.stream_error(said),
            preamble=self.preamble,
        )
