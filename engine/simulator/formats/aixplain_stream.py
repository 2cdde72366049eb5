"""The streams of aiXplain's models, which have no common form: envelopes, OpenAI's chunks, and each its own end.

``envelope`` has its words as ``data`` and ends with a bare ``[DONE]``, ``done`` with one in an envelope, ``status``
with a status and nothing else; ``text`` has its words a level deeper, ``split`` its JSON over several ``data`` lines,
``openai`` OpenAI's chunks with a usage in the last; ``plain`` has its words as data that is no JSON, ``bare`` as lines
that are no data either, ``html`` a page. A stream that fails says so in ``error``, a ``failed`` one in its ``status``.
From the SDK's own tests of its streams (0.2.48) and from runs of it, as of 2026-11-27.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from typing import Final

from engine.simulator.chunks import DONE, Wording
from engine.simulator.events import Block, Composed, Event, Events, Script
from engine.simulator.formats.aixplain_ids import Behaviour
from engine.simulator.formats.words import pieces, spoiled, text_pieces
from engine.simulator.reply import encode, usage_of

_TEXT: Final = "The model has failed in its stream. (simulated)"
_FAILED: Final = {"status": "FAILED", "errorMessage": _TEXT}
_THOUGHTS: Final = 2
_WORDS: Final = ("plain", "bare")
_FIELDS: Final = b"event: message\nid: %d\nretry: 1000\n"
_PAGE: Final[list[Event | bytes]] = [
    b"<!DOCTYPE html>\n<html><body>\n",
    b"<h1>502 Bad Gateway</h1>\n",
    b"</body></html>\n",
]


def stream_of(said: Wording, behaviour: Behaviour) -> Events:
    """The events of an answer in one of the forms."""
    kind = behaviour.stream or "envelope"
    failed = encode(_FAILED if kind == "failed" else {"error": {"message": _TEXT}})

    def frame(number: int, event: Event) -> bytes:
        if kind in _WORDS:
            words = str(event["data"]).encode()
            return b"%b\n\n" % words if kind == "bare" else b"data: %b\n\n" % words
        data = encode(spoiled(said, event))
        if kind == "split":
            data = data.replace(b":", b":\ndata: ", 1)
        return b"%bdata: %b\n\n" % (_FIELDS % number if behaviour.fields else b"", data)

    if kind == "html":
        script = Script([], [], _PAGE, lambda piece: {"data": piece})
    else:
        script = _chunks(said, behaviour.reasoning) if kind == "openai" else _envelopes(said, kind)
    events = Composed(script, frame, error=b"data: %b\n\n" % failed)
    if kind in _WORDS:
        events.json_events = 0  # so that no JSON is spoilt
    return events


def _envelopes(said: Wording, kind: str) -> Script:
    def envelope(piece: str, _: int = 0) -> Event:
        return {"data": {"text": piece} if kind == "text" else piece}

    ends: dict[str, Event | bytes] = {"done": {"data": "[DONE]"}, "status": {"data": "", "status": "SUCCESS"}}
    tail = [] if said.fault == "stream_no_done" else [ends.get(kind, DONE)]
    return Script([], [Block(text_pieces(said), envelope)], tail, envelope)


def _chunks(said: Wording, field: str) -> Script:
    """OpenAI's chunks. By its model's word a stream reasons under a `field`, however much, else as is configured."""
    thought = pieces(said, said.shape.reasoning or (_THOUGHTS if field else 0))
    field = field or said.shape.reasoning_field

    def thinks(piece: str, _: int = 0) -> Event:
        told = [{"type": "reasoning.text", "text": piece}] if field == "reasoning_details" else piece
        return chunk({field: told})

    def chunk(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    told = said.request.usage and said.fault != "null_usage"
    last = chunk({}, "stop") | ({"usage": usage_of(said.done.cost)} if told else {})
    tail: list[Event | bytes] = [last] if said.fault == "stream_no_done" else [last, DONE]
    return Script(
        [],
        [
            Block(thought, thinks),
            Block(text_pieces(said), lambda piece, _: chunk({"content": piece})),
        ],
        tail,
        lambda piece: chunk({"content": piece}),
        0 if told else None,
    )
