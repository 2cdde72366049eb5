"""What an agent tells: withheld until it began, recorded within a bound, and never with a key in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from scripted_server import Ear

from engine.agents.chunks import (
    Chunk,
    Error,
    Notice,
    Raw,
    Result,
    Retry,
    Session,
    Spent,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Used,
    decode_chunk,
)
from engine.transports import telling as module
from engine.transports.telling import Telling

KEY = "sk-fake-0123/456789"
FAILED = Error(category="server", message="overloaded")
DONE = Result(text="done", session_id="s")
FIRST = [Session(session_id="s"), Notice(text="warm"), Retry(attempt=1), Used(usage=Spent(1, 2)), Raw(raw={"a": 1})]


def handed(ear: Ear) -> list[Chunk]:
    decoder = msgspec.msgpack.Decoder(list[bytes])
    return [decode_chunk.decode(event) for piece in ear.pieces for event in decoder.decode(piece)]


def kept(telling: Telling) -> list[Chunk]:
    return [decode_chunk.decode(line) for line in telling.body().split(b"\n")]


@pytest.mark.parametrize(
    "substance",
    [
        Text(text="hi", message_id="1"),
        Thinking(text="hm", message_id="1"),
        ToolUse(tool_id="1", name="ls"),
        ToolResult(tool_id="1", output="file"),
    ],
    ids=lambda chunk: type(chunk).__name__,
)
async def test_nothing_is_told_before_the_agent_began(substance: Chunk) -> None:
    """The first of substance brings all that came before, in order; from then on each piece is told as it comes."""
    ear = Ear()
    telling = Telling(ear)
    for chunk in FIRST:
        await telling.tell([chunk])
    assert not telling.began
    assert (ear.pieces, ear.parts_heard) == ([], 0)
    await telling.tell([substance, Notice(text="both")])
    assert telling.began
    assert handed(ear) == [*FIRST, substance, Notice(text="both")]
    await telling.tell([Notice(text="more")])
    await telling.tell([])
    await telling.end(DONE, again=False)
    assert handed(ear)[-2:] == [Notice(text="more"), DONE]
    assert (len(ear.pieces), ear.parts_heard) == (3, 3)
    assert kept(telling) == handed(ear)


async def test_a_run_that_may_be_tried_again_was_never_told() -> None:
    """Its chunks are recorded only; one that is not tried again is told to its end."""
    for again in (True, False):
        ear = Ear()
        telling = Telling(ear)
        await telling.tell(FIRST)
        await telling.end(FAILED, again=again)
        assert handed(ear) == ([] if again else [*FIRST, FAILED])
        assert kept(telling) == [*FIRST, FAILED]


async def test_a_success_without_a_word_is_told() -> None:
    """Also a result before which nothing was said has its reader."""
    ear = Ear()
    telling = Telling(ear)
    await telling.tell(FIRST)
    await telling.end(DONE, again=False)
    assert handed(ear) == [*FIRST, DONE]


async def test_the_end_is_told_after_the_beginning_was() -> None:
    """Once something was told the run cannot be tried again, whoever may think so."""
    ear = Ear()
    telling = Telling(ear)
    await telling.tell([Text(text="hi", message_id="1")])
    await telling.end(FAILED, again=True)
    assert handed(ear)[-1] == FAILED


async def test_too_much_is_not_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that says much before it begins is not held in memory."""
    monkeypatch.setattr(module, "WITHHELD_BYTES", 100)
    ear = Ear()
    telling = Telling(ear)
    await telling.tell([Notice(text="x" * 60)])
    assert ear.pieces == []
    await telling.tell([Notice(text="y" * 60)])
    assert handed(ear) == [Notice(text="x" * 60), Notice(text="y" * 60)]
    assert (telling.began, ear.parts_heard) == (False, 0)


async def test_the_programs_events_are_kept_where_they_say_more() -> None:
    """The reader has every one; what is kept of a text is the text."""
    ear = Ear()
    telling = Telling(ear)
    said: list[Chunk] = [Session(session_id="s", raw={"e": 1}), Text(text="hi", message_id="1", raw={"e": 2})]
    await telling.tell(said)
    await telling.end(Result(text="hi", raw={"e": 3}), again=False)
    assert [chunk.raw for chunk in handed(ear)] == [{"e": 1}, {"e": 2}, {"e": 3}]
    assert [chunk.raw for chunk in kept(telling)] == [{"e": 1}, None, {"e": 3}]


async def test_what_is_kept_is_bounded() -> None:
    """Beyond the bound there is one notice and the end; the reader has it all."""
    ear = Ear()
    telling = Telling(ear, cap_bytes=200)
    said: list[Chunk] = [Text(text=str(number) * 40, message_id="1") for number in range(9)]
    for chunk in said:
        await telling.tell([chunk])
    await telling.end(DONE, again=False)
    assert handed(ear) == [*said, DONE]
    found = kept(telling)
    assert found[:2] == said[:2]
    assert isinstance(found[2], Notice)
    assert found[3:] == [DONE]


@pytest.mark.parametrize("wrong", [False, True], ids=["as it is", "with half a character beside it"])
async def test_no_key_is_told_or_kept(wrong: bool) -> None:
    """Wherever it stands, and however it is written in JSON."""
    ear = Ear()
    telling = Telling(ear, secrets=(KEY, "no"))
    beside = "\ud83d" if wrong else "no"
    raw: dict[str, Any] = {"env": f"KEY={KEY}", "beside": beside, KEY: 1}
    await telling.tell([ToolResult(tool_id="1", output=f"KEY={KEY}", raw=raw), Notice(text=KEY, raw=raw)])
    await telling.end(Error(category="auth", message=f"wrong key {KEY}", raw=raw), again=False)
    for text in (b"".join(ear.pieces), telling.body()):
        assert KEY.encode() not in text
        assert b"[key removed]" in text
    assert handed(ear)[2].raw["beside"] == ("\ufffd" if wrong else "no")


HARD = {"half": "\ud83d", "object": object(), "bytes": {1: b"\xff"}, "huge": 10**40, "nan": float("nan")}


@pytest.mark.parametrize("raw", HARD.values(), ids=HARD)
async def test_an_event_that_is_hard_to_write_costs_no_chunk(raw: object) -> None:
    """The chunk itself comes through."""
    ear = Ear()
    telling = Telling(ear)
    await telling.tell([Text(text="before", message_id="1", raw=raw)])
    await telling.end(Result(text="done", raw=raw), again=False)
    assert [chunk.text for chunk in handed(ear)] == ["before", "done"]
    assert [chunk.text for chunk in kept(telling)] == ["before", "done"]
