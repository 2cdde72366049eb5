"""From events to an answer: what a parser's bug costs, what can be learnt, what a log has of a run."""

from __future__ import annotations

import pytest
from scripted_server import Ear
from stub_program import Stub, StubParser, kept

from actors.messages import APICalling, Fault
from engine.agents.chunks import Chunk, Error, Notice, Raw, Result, Spent, Text
from engine.providers.view import Usage
from engine.transports.transcript import Transcript, not_started, note_end, note_start

KEY = "sk-fake-0123/456789"
DONE = {"done": "bye", "usage": {"input_tokens": 10, "output_tokens": 5}}
FAILED = {"error": "server", "message": f"no {KEY}", "usage": {"input_tokens": 10, "output_tokens": 5}}


class BrokenAtTheEnd(StubParser):
    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        raise KeyError(KEY)


def transcript(ear: Ear, parser: type[StubParser] = StubParser) -> Transcript:
    return Transcript(Stub(), parser(None), ear, secrets=[KEY])


async def test_a_run_that_is_complete() -> None:
    ear = Ear()
    run = transcript(ear)
    for event in ({"text": "hi"}, DONE):
        await run.tell(run.read(event))
    ended = await run.end(before=[Notice(text="late")])
    assert [type(chunk) for chunk in kept(ended.answer)] == [Text, Notice, Result]
    assert ended.terminal == Result(text="bye", usage=Spent(10, 5))
    assert (ended.answer.verdict, ended.answer.charge, ended.answer.reply.status) == ("done", "usage", 200)
    assert ended.complete_usage == ended.reading.usage == Usage(10, 5, 15, None, None)


async def test_nothing_is_learnt_from_a_run_that_failed() -> None:
    """What it has used is charged all the same."""
    run = transcript(Ear())
    await run.tell([*run.read({"text": "hi"}), *run.read(FAILED)])
    ended = await run.end()
    assert (ended.complete_usage, ended.answer.charge, ended.answer.input_tokens) == (None, "usage", 10)
    assert KEY not in repr(ended.answer)


async def test_a_key_that_is_a_word_leaves_words_whole() -> None:
    run = Transcript(Stub(), StubParser(None), Ear(), secrets=["e"])
    await run.tell(run.read({"error": "server", "message": "the provider failed"}))
    fault = (await run.end()).answer.reply.fault
    assert fault is not None
    assert "the provider failed" in fault.message


@pytest.mark.parametrize("began", [False, True])
async def test_an_answer_that_broke_off(began: bool) -> None:
    """Before the agent began nobody knows what came of it: another attempt may follow, so nobody has read of this one.
    After that it has failed."""
    ear = Ear()
    run = transcript(ear)
    await run.tell([*run.read({"session": "s"}), *(run.read({"text": "hi"}) if began else [])])
    await run.tell(run.read({"error": "cut", "message": "broke off"}))
    ended = await run.end()
    fault = ended.answer.reply.fault
    assert fault is not None
    assert ended.answer.verdict == ("failed" if began else "unknown")
    assert (fault.kind == "OutcomeUnknown") is not began
    assert (ended.answer.charge, ended.answer.keep) == ("kept", True)
    assert bool(ear.pieces) is began
    assert isinstance(kept(ended.answer)[-1], Error)


async def test_a_bug_of_a_parsers_costs_one_event(caplog: pytest.LogCaptureFixture) -> None:
    """It is passed on as it is, and said once."""
    run = transcript(Ear())
    for event in ({"text": "hi"}, {"bug": 1}, {"bug": 2}, DONE):
        await run.tell(run.read(event))
    ended = await run.end()
    assert [chunk.raw for chunk in kept(ended.answer) if isinstance(chunk, Raw)] == [{"bug": 1}, {"bug": 2}]
    assert isinstance(ended.terminal, Result)
    assert len(caplog.records) == 1
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("trouble", [None, Error(category="limit", message="of ours")], ids=["its own", "ours"])
async def test_a_bug_of_a_parsers_at_the_end(trouble: Error | None) -> None:
    """The run has failed, and what went wrong on our side is still what is said of it."""
    run = transcript(Ear(), BrokenAtTheEnd)
    await run.tell(run.read({"text": "hi"}))
    ended = await run.end(trouble=trouble)
    assert isinstance(ended.terminal, Error)
    assert ended.terminal.category == ("protocol" if trouble is None else "limit")
    assert ("please report it" in ended.terminal.message) == (trouble is None)
    assert KEY not in repr(ended)


async def test_the_lines_of_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """One at the start and one at the end; who turns the log on in between has neither half."""
    calling = APICalling(7, 1, 1, 0, body=b"the prompt")
    answer = not_started(Fault("UsageError", "no"))
    assert (answer.verdict, answer.charge, answer.keep) == ("failed", "nothing", True)
    begun_us = note_start(calling, "it")
    caplog.set_level("DEBUG", logger="penstock")
    note_end(calling, "it", answer, begun_us)
    assert caplog.records == []
    note_end(calling, "it", answer, note_start(calling, "it"))
    first, last = (record.getMessage() for record in caplog.records)
    assert "event='request'" in first
    assert "body_bytes=10" in first
    assert "verdict='failed'" in last
    assert "the prompt" not in caplog.text
