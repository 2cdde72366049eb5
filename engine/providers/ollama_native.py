"""Ollama's own chat format, ``/api/chat``: context size, thinking and images as the server has them.

One difference to everybody else's rules the rest: it streams unless told not to, so `stream` is always sent. How a
call is written is in `engine.providers.ollama_arguments`, how its stream of JSON lines is read in
`engine.providers.ollama_stream`, and what an answer says in `engine.providers.ollama_view`.

Pure: no trio, no httpx, no I/O. Fields: docs.ollama.com/api/chat (2026-11-20). That counts of zero are left out: the
server's api/types.go, at commit 00a4cb2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from engine.estimate import PER_MEDIUM, CountText, estimate_chat, estimate_text, with_margin
from engine.providers.answers import kept_headers
from engine.providers.arguments import checked, to_json
from engine.providers.json_format import JsonFormat
from engine.providers.ollama_arguments import ChatArguments, to_native
from engine.providers.ollama_stream import OllamaAssembler, OllamaMonitor, lines_of, whole_answer
from engine.providers.ollama_view import view_of
from engine.providers.wire import Encoded, Reading, Usage, View, count, decode_json, mapping
from engine.retry import advise


class OllamaChat(JsonFormat):
    """`StreamFormat` of Ollama's own chat path. Immutable; holds no key and no address."""

    __slots__ = ()
    name = "ollama_native"
    path = "/api/chat"
    options = ChatArguments

    def __repr__(self) -> str:
        return "OllamaChat()"

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        Arguments under OpenAI's names are sent under Ollama's; what Ollama does not know it ignores, so it is sent.

        Raises:
          InvalidCall: one is missing, out of its range, contradicts another, or cannot be written as JSON.
        """
        payload = checked(arguments, ChatArguments, provider="ollama", closed=False)
        to_native(payload)
        cap = payload.get("options", {}).get("num_predict")
        output_cap = cap if cap is not None and cap >= 0 else None  # below zero there is no cap
        return Encoded(to_json(payload), _estimate(payload, count_text), output_cap, payload["stream"])

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means. Never raises; a success that cannot be read is a `MalformedReply`, its bytes kept.

        A stream that came although none was asked for, or without saying that it is one, is read as a stream.
        """
        usage = _plain_usage(body) if 200 <= status <= 299 else None
        if usage is not None:
            advice = advise(status, headers, None, now_s, charge_usage=True)
            return Reading(usage, None, advice, kept_headers(headers))
        reading = super().read(status, headers, body, now_s=now_s)
        if reading.fault is not None and reading.fault.kind == "MalformedReply":
            monitor = self.monitor()
            monitor.heard(lines_of(body))
            if monitor.is_stream:
                return monitor.reading(status, headers, now_s=now_s)
        return reading

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded."""
        return view_of(response)

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently (`engine.providers.wire.decode_json`); a stream's as one answer.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        try:
            return decode_json(body)
        except msgspec.DecodeError:
            answer = whole_answer(body)
            if not answer:
                raise
            return answer

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""
        return whole_answer(body)

    def monitor(self) -> OllamaMonitor:
        """What the worker hears one attempt's stream with."""
        return OllamaMonitor(self)

    def assembler(self) -> OllamaAssembler:
        """What makes one stream's chunks and its answer."""
        return OllamaAssembler()

    def usage_of(self, payload: object) -> Usage | None:
        """The usage; None where nothing of it is a number.

        The server leaves out what is zero, so an answer that is done and counts its input has no output without a
        count. An input without a count may have been read from its cache, and is not known.
        """
        body = mapping(payload)
        given, made = count(body.get("prompt_eval_count")), count(body.get("eval_count"))
        if given is not None and body.get("eval_count") is None and body.get("done") is True:
            made = 0
        if given is None and made is None:
            return None
        return Usage(given, made, given + made if given is not None and made is not None else None)

    def is_answer(self, payload: object) -> bool:
        """Whether a success without an error in it holds an answer: one that is done, be it that a model was loaded."""
        body = mapping(payload)
        return body.get("done") is True or ("done" not in body and isinstance(body.get("message"), dict))


def _estimate(payload: Mapping[str, object], count_text: CountText) -> int:
    """The input of a call, with its margin: messages and tools. `format` steers the sampler and is not read."""
    messages = payload["messages"]
    texts: list[Mapping[str, object]] = []
    images = 0
    for message in messages if isinstance(messages, list) else ():
        shown = message.get("images", ())
        images += len(shown)
        texts.append({name: value for name, value in message.items() if name != "images"} if shown else message)
    return estimate_chat({"messages": texts, "tools": payload.get("tools")}, count_text) + with_margin(
        images * PER_MEDIUM
    )


# --- reading ----------------------------------------------------------------------------------------------------------


_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _Plain(msgspec.Struct, gc=False):
    """An answer as the documentation shows it, of which only the counts are read."""

    done: bool
    prompt_eval_count: _Count
    eval_count: _Count
    error: None = None


_plain = msgspec.json.Decoder(_Plain)


def _plain_usage(body: bytes | memoryview) -> Usage | None:
    """The usage of an answer that is whole and ordinary, for a fraction of what reading it in full takes.

    None: it has to be read in full.
    """
    try:
        found = _plain.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not found.done:
        return None
    return Usage(found.prompt_eval_count, found.eval_count, found.prompt_eval_count + found.eval_count)
