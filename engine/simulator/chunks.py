"""The events of one stream, as bytes: OpenAI's chat completion chunks, one after another.

Everything that is the same in all events of a stream is encoded once; an event is then put together from three pieces,
without an encoder. They are made one at a time, as they are needed, so a long stream takes no more memory than a short
one. The shapes are those of the reference and the official client's types (platform.openai.com, read on 2026-11-20).

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from engine.simulator.chat import ChatRequest, StreamRequest
from engine.simulator.config import StreamShape
from engine.simulator.events import COMMENT, Events
from engine.simulator.reply import Completion, encode, usage_of

__all__ = ["COMMENT", "DONE", "ERROR", "GARBAGE", "Chunks", "Wording"]

DONE: Final = b"data: [DONE]\n\n"
ERROR: Final = b"data: %b\n\n" % encode(
    {
        "error": {
            "message": "The server had an error while processing your request. (injected)",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)
GARBAGE: Final = b"\x16\x03\x01 \xff\xfe\x00 no field\r\n" + b"data: \xc3\x28 {no JSON\n\n"


class Wording(NamedTuple):
    """What is said in an answer, in a stream as `pieces` of text, of which the `length` from `start` on are used, round
    and round. `fault` may be ``wrong_types``, ``null_usage``, ``stream_no_done`` or ``stream_split``; any other is no
    matter of the words. `asked` is what was asked for. `spoken` is the text, in pieces, where a directive gave it."""

    done: Completion
    request: StreamRequest
    shape: StreamShape
    pieces: Sequence[bytes]
    start: int
    length: int
    fault: str = ""
    asked: ChatRequest | None = None
    spoken: Sequence[str] = ()


class Chunks(Events):
    """The events of one stream of OpenAI's chat."""

    error = ERROR

    def __init__(self, said: Wording) -> None:
        self._said = said
        done, wrong = said.done, said.fault == "wrong_types"
        created = str(done.created_s) if wrong else done.created_s
        fixed = {
            "id": f"chatcmpl-{done.identity}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": done.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
        self._head = b"data: " + encode(fixed)[:-1] + b',"choices":['
        padding = b',"obfuscation":"%b"' % done.identity[:5].encode() if said.request.obfuscation else b""
        self._rest = (b',"usage":null' if said.request.usage else b"") + padding + b"}\n\n"
        self._usage = b'],"usage":%b%b}\n\n' % (encode(usage_of(done.cost, wrong=wrong, details=True)), padding)
        number = b'"%d"' if wrong else b"%d"
        self._openings = [self._head + b'{"index":' + number % place + b',"delta":' for place in range(done.choices)]
        self._close = b',"logprobs":null,"finish_reason":null}]' + self._rest
        wanted = said.asked.directed if said.asked is not None else None
        self._wanted = () if wanted is None else wanted.calls
        automatic = said.shape.tool_calls if said.request.tool and wanted is None else 0
        self.calls = len(self._wanted) or automatic
        body = len(said.spoken) or said.length
        if self.calls:
            fragments = automatic * said.length + sum(len(call.fragments) for call in self._wanted)
            body = fragments + self.calls - (not said.shape.reasoning)
        self.tail_at = done.choices * (1 + said.shape.reasoning + body)
        self.usage_at = None
        if said.request.usage and said.fault != "null_usage":
            self.usage_at = self.tail_at + done.choices
        self.json_events = self.tail_at + done.choices + (self.usage_at is not None)
        self.total = self.json_events + (said.fault != "stream_no_done")
        # Added deltas are of the first choice: after its role, and before its finish.
        self.split_from, self.split_to = 1, self.tail_at

    def events(self) -> Iterator[bytes]:
        """All of them, in order."""
        openings, close = self._openings, self._close
        for delta in self._deltas():
            for opening in openings:
                yield b"%b%b%b" % (opening, delta, close)
        reason = b"tool_calls" if self.calls else b"stop"
        for opening in openings:
            yield b'%b{},"logprobs":null,"finish_reason":"%b"}]%b' % (opening, reason, self._rest)
        if self.usage_at is not None:
            yield self._head + self._usage
        if self._said.fault != "stream_no_done":
            yield DONE

    def added(self, number: int, content: bytes) -> bytes:
        return b'%b{"content":"%b"}%b' % (self._openings[0], content, self._close)

    def _deltas(self) -> Iterator[bytes]:
        said = self._said
        together = self.calls and not said.shape.reasoning
        if together:
            yield b'{"role":"assistant","content":null,%b' % self._call(0)[1:]
        elif self.calls:
            yield b'{"role":"assistant","content":null}'
        else:
            yield b'{"role":"assistant","content":"","refusal":null}'
        if said.shape.reasoning:
            yield from self._text(said.shape.reasoning_field.encode(), said.shape.reasoning)
        if not self.calls and said.spoken:
            yield from (b'{"content":%b}' % encode(piece) for piece in said.spoken)
        elif not self.calls:
            yield from self._text(b"content", said.length)
        for call in range(self.calls):
            if call or not together:
                yield self._call(call)
            yield from self._arguments(call)

    def _text(self, field: bytes, count: int) -> Iterator[bytes]:
        pieces, start = self._said.pieces, self._said.start
        yield b'{"%b":"%b"}' % (field, pieces[start].lstrip())
        many = len(pieces)
        for place in range(start + 1, start + count):
            yield b'{"%b":"%b"}' % (field, pieces[place % many])

    def _call(self, call: int) -> bytes:
        name = encode(self._wanted[call].name if self._wanted else self._said.request.tool)
        identity = self._said.done.identity.encode()
        function = b'"id":"call_%b_%d","type":"function","function":{"name":%b,"arguments":""}' % (identity, call, name)
        return b'{"tool_calls":[{"index":%d,%b}]}' % (call, function)

    def _arguments(self, call: int) -> Iterator[bytes]:
        """The arguments ``{"text": "..."}``, or those of a directive, in fragments."""
        said, many = self._said, len(self._said.pieces)
        if self._wanted:
            for text in self._wanted[call].fragments:
                yield b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (call, encode(text))
            return
        for place in range(said.length):
            fragment = said.pieces[(said.start + place) % many]
            if not place:
                fragment = rb"{\"text\":\"" + fragment.lstrip()
            if place == said.length - 1:
                fragment += rb"\"}"
            yield b'{"tool_calls":[{"index":%d,"function":{"arguments":"%b"}}]}' % (call, fragment)
