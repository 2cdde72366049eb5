"""Embeddings as OpenAI, NVIDIA NIM and most others serve them: ``/embeddings``, texts in, vectors out.

What differs between them is data, in an `EmbedDialect`. Vectors travel as base64 where that is known to be safe, a
quarter of the size of decimal numbers, and are numbers in the view whichever way they came. An odd item never costs
the others: its vector is empty, so that the rest keep the places of their inputs.

Pure: no trio, no httpx, no I/O. Fields: platform.openai.com/docs/api-reference/embeddings and openai 3.52.0;
docs.nvidia.com/nim/nemo-retriever/text-embedding, the API reference (2026-11-20).
"""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from engine.estimate import CountText, estimate_text, with_margin
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.json_format import JsonFormat
from engine.providers.wire import Encoded, Usage, View, count, mapping, text_or_none

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Input = _Text | Annotated[list[_Text | int | list[int]], msgspec.Meta(min_length=1)]
_Texts = _Text | Annotated[list[_Text], msgspec.Meta(min_length=1)]
_Least1 = Annotated[int, msgspec.Meta(ge=1)]

_MOST_INPUTS = 100_000
"""No index beyond this is one."""


class EmbedArguments(msgspec.Struct, kw_only=True):
    """What OpenAI documents and most others take. `input` is one text or several, or the numbers of one or several
    that were cut into a model's vocabulary already."""

    model: _Text
    input: _Input
    dimensions: _Least1 | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class NimArguments(msgspec.Struct, kw_only=True):
    """What NVIDIA NIM documents. Models that embed questions and passages differently need `input_type`; what is too
    long is refused with `truncate` NONE, which is the default, and else cut at that end."""

    model: _Text
    input: _Texts
    input_type: Literal["query", "passage"] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    dimensions: _Least1 | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class EmbedDialect(msgspec.Struct, frozen=True):
    """How a provider's embeddings differ from the shared ones.

    `encoding` is what is asked for where the caller does not say (None: nothing, so the provider decides). `most` is
    how many inputs one call may have, where that is documented.
    """

    name: str
    arguments: type[msgspec.Struct] = EmbedArguments
    encoding: Literal["float", "base64"] | None = None
    most: int | None = None


OPENAI = EmbedDialect("openai", encoding="base64", most=2_048)
"""base64 is what OpenAI's own client asks for unless told otherwise."""

NVIDIA_NIM = EmbedDialect("nvidia_nim", NimArguments, encoding="float")
"""Numbers are its documented default, and what its recorded requests ask for by name."""

GENERIC = EmbedDialect("generic")
"""Whoever speaks OpenAI's format. Ollama's ``/v1/embeddings`` does."""


class Embeddings(JsonFormat):
    """`WireFormat` of embeddings, in one provider's dialect. Immutable; holds no key and no address."""

    __slots__ = ("dialect", "name", "options")
    path = "/embeddings"

    def __init__(self, dialect: EmbedDialect) -> None:
        self.dialect = dialect
        self.name = f"embeddings/{dialect.name}"
        self.options = dialect.arguments

    def __repr__(self) -> str:
        return f"Embeddings({self.dialect.name!r})"

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        Vocabulary numbers are counted exactly, texts by `count_text` with the margin; there is no output to pay for.

        Raises:
          InvalidCall: an argument is missing, empty, out of its range, or cannot be written as JSON.
        """
        if "messages" in arguments or "prompt" in arguments:
            raise invalid("input", "an embedding has no messages and no prompt; pass input=, a text or a list of them")
        payload = checked(arguments, self.dialect.arguments, provider=self.dialect.name, closed=False)
        if payload.pop("stream", False):
            raise invalid("stream", "embeddings come in one piece; leave it out")
        input_tokens = _input_of(payload["input"], self.dialect, count_text)
        if self.dialect.encoding is not None:
            payload.setdefault("encoding_format", self.dialect.encoding)
        return Encoded(to_json(payload), input_tokens, 0, streaming=False)

    def view(self, response: object) -> View:
        """The vectors of a decoded answer, in the order of the inputs. Never raises, whatever was decoded."""
        body = mapping(response)
        return View(model=text_or_none(body.get("model")), embeddings=_vectors(body.get("data")))

    def usage_of(self, payload: object) -> Usage | None:
        """The usage; None where nothing of it is a number. All of it is input."""
        found = mapping(mapping(payload).get("usage"))
        given, total = count(found.get("prompt_tokens")), count(found.get("total_tokens"))
        if given is None:
            given = total
        return None if given is None else Usage(given, 0, given if total is None else total)

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """The usage, where the answer is as documented; its vectors are not read."""
        try:
            found = _plain.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if bytes(memoryview(found.data)[:1]) != b"[":
            return None
        return Usage(found.usage.prompt_tokens, 0, found.usage.total_tokens)

    def is_answer(self, payload: object) -> bool:
        """Whether a success without an error in it holds a list of vectors."""
        return isinstance(mapping(payload).get("data"), list)


# --- writing ----------------------------------------------------------------------------------------------------------


def _input_of(given: object, dialect: EmbedDialect, count_text: CountText) -> int:
    """What the input will count as; the margin is on the texts alone.

    Raises:
      InvalidCall: texts and numbers are mixed, there are too many of them, or one is empty.
    """
    if isinstance(given, str):
        return with_margin(count_text(given))
    if not isinstance(given, (list, tuple)):
        raise invalid("input", "it has no order, so that nobody could tell whose vector is whose; pass a list")
    if all(isinstance(one, int) for one in given):
        return len(given)
    if dialect.most is not None and len(given) > dialect.most:
        problem = f"{len(given)} inputs are more than {dialect.name} takes in one call; pass at most {dialect.most}"
        raise invalid("input", problem)
    if all(isinstance(one, str) for one in given):
        return with_margin(sum(map(count_text, given)))
    if any(isinstance(one, (str, int)) for one in given):
        raise invalid("input", "it mixes texts and numbers; pass texts, or the numbers of one input, or lists of them")
    sizes = [len(one) for one in given]
    if 0 in sizes:
        raise invalid(f"input[{sizes.index(0)}]", "it is empty; leave it out")
    return sum(sizes)


# --- reading ----------------------------------------------------------------------------------------------------------


_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    total_tokens: _Count


class _Plain(msgspec.Struct, gc=False):
    """An answer as the documentation shows it, of which the vectors are not read."""

    data: msgspec.Raw
    usage: _PlainUsage
    error: None = None


_plain = msgspec.json.Decoder(_Plain)


def _vectors(data: object) -> tuple[Sequence[float], ...]:
    """The vectors by their index, with an empty one for each input that has none; where the indices are nonsense, in
    the order in which they came."""
    items = [mapping(item) for item in data] if isinstance(data, list) else []
    vectors = [_vector(item.get("embedding")) for item in items]
    indices = [count(item.get("index")) for item in items]
    known = [index for index in indices if index is not None]
    if len(set(known)) < len(items) or max(known, default=0) >= _MOST_INPUTS:
        return tuple(vectors)
    placed: list[Sequence[float]] = [()] * (max(known, default=-1) + 1)
    for index, vector in zip(known, vectors, strict=True):
        placed[index] = vector
    return tuple(placed)


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"


def _vector(embedding: object) -> Sequence[float]:
    """A vector from JSON numbers, or from base64 of little-endian float32; empty where it is neither."""
    try:
        if isinstance(embedding, list):
            return array("d", embedding)
        if isinstance(embedding, str):
            numbers = array("f", binascii.a2b_base64(embedding, strict_mode=True))
            if _BIG_ENDIAN:
                numbers.byteswap()
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    return ()
