"""Embeddings: the manner of ``/v1/embeddings`` at OpenAI, at NVIDIA and at Ollama.

A text has the same vector wherever it stands, drawn from the text itself and of length one; the numbers are those of
32-bit floats, so that both encodings say the same. Shapes and limits (2,048 inputs, no empty one) from the SDK 3.52.0
and the references at platform.openai.com and docs.nvidia.com, read on 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from struct import pack, unpack
from typing import Any, Final

from engine.simulator.chat import ChatRequest, count_of, model_of, read_object
from engine.simulator.chunks import Wording
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.dialects import nim_error, nim_status, ollama_error
from engine.simulator.formats.manner import HeadersSeen, Moment
from engine.simulator.formats.openai_chat import OpenAI
from engine.simulator.formats.words import body, usage
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Headers
from engine.simulator.script import fractions

MAX_INPUTS: Final = 2_048
MAX_DIMENSIONS: Final = 16_384
DIMENSIONS: Final = 8
"""How many numbers a vector has if the request does not say; real models have hundreds."""


def vector(text: str, dimensions: int) -> tuple[float, ...]:
    """The vector of a text."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    drawn = [2 * chance - 1 for chance in islice(fractions(int.from_bytes(digest, "little")), dimensions)]
    length = math.sqrt(math.fsum(number * number for number in drawn)) or 1.0
    return unpack(f"<{dimensions}f", pack(f"<{dimensions}f", *(number / length for number in drawn)))


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def inputs_of(given: object) -> list[str | list[int]] | None:
    """The inputs one by one: texts, or lists of numbers that stand for them; None if they are neither."""
    items = [given] if isinstance(given, str) or _is_tokens(given) else given
    if not isinstance(items, list) or not items or len(items) > MAX_INPUTS:
        return None
    return items if all((isinstance(item, str) and item) or _is_tokens(item) for item in items) else None


class Embeddings(OpenAI):
    """``/v1/embeddings`` at OpenAI."""

    spends = "input"

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        model = model_of(arguments)
        if isinstance(model, Failure):
            return model
        inputs, dimensions = inputs_of(arguments.get("input")), count_of(arguments, "dimensions", MAX_DIMENSIONS)
        if inputs is None:
            text = f"'input' must be a text, or a list of 1 to {MAX_INPUTS} texts or lists of tokens, none empty."
            return invalid(f"Invalid {text}", param="input", code="invalid_value")
        if isinstance(dimensions, Failure):
            return dimensions
        if arguments.get("encoding_format") not in (None, "float", "base64"):
            text = "Invalid 'encoding_format': it must be 'float' or 'base64'."
            return invalid(text, param="encoding_format", code="invalid_value")
        wrong = self.refused(arguments)
        if wrong is not None:
            return wrong
        texts = [{"role": "user", "content": item} for item in inputs if isinstance(item, str)]
        known = sum(len(item) for item in inputs if not isinstance(item, str))
        return ChatRequest({**arguments, "messages": texts}, model, 1, None, known_input=known)

    def refused(self, arguments: Mapping[str, Any]) -> Failure | None:
        """What is refused besides."""
        return None

    def whole(self, said: Wording) -> bytes:
        assert said.asked is not None
        arguments, used = said.asked.arguments, said.done.cost.input_tokens
        dimensions = count_of(arguments, "dimensions", MAX_DIMENSIONS)
        size = dimensions if isinstance(dimensions, int) else DIMENSIONS
        data = []
        for place, item in enumerate(inputs_of(arguments.get("input")) or []):
            numbers = vector(item if isinstance(item, str) else repr(item), size)
            told: object = list(numbers)
            if arguments.get("encoding_format") == "base64":
                told = b64encode(pack(f"<{size}f", *numbers)).decode()
            data.append({"object": "embedding", "index": place, "embedding": told})
        counts: dict[str, object] = {"prompt_tokens": used, "total_tokens": used}
        return body(said, {"object": "list", "data": data, "model": said.done.model, "usage": usage(said, counts)})


class NimEmbeddings(Embeddings):
    """``/v1/embeddings`` at NVIDIA, whose models have one kind of vector for questions and one for passages."""

    id_header = b""

    def refused(self, arguments: Mapping[str, Any]) -> Failure | None:
        if arguments.get("input_type") not in ("query", "passage"):
            return invalid("'input_type' parameter is required: 'query' or 'passage'", param="input_type")
        if arguments.get("truncate") not in (None, "NONE", "START", "END"):
            return invalid("'truncate' must be one of NONE, START, END", param="truncate")
        return None

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        return []

    def status(self, failure: Failure) -> int:
        return nim_status(failure)

    def error(self, failure: Failure, now: Moment) -> object:
        return nim_error(failure)

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return []


class OllamaEmbeddings(Embeddings):
    """``/v1/embeddings`` at Ollama, which tells of no limits."""

    id_header = b""

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        return []

    def error(self, failure: Failure, now: Moment) -> object:
        return ollama_error(failure)

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return []
