"""A run of a program from its first line to its last: what it says, how it ends, and what comes of it."""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from stub_program import Listener, StubbornStub, alive_with, calling, do, kept, run, say, stub

from actors.messages import APICalling
from actors.transport import TooLate
from engine.agents.chunks import Error, Notice, Raw, Result, Session, Text
from engine.providers.view import Usage
from engine.transports import process as process_module
from engine.transports.child import Child
from engine.transports.running import MOST_NOTICES
from engine.transports.target import CAP_BYTES

DONE = say(done="done")
linux = pytest.mark.skipif(sys.platform != "linux", reason="a pipe that holds more is Linux's")


@pytest.fixture(autouse=True)
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Whatever a test did: no process of its runs is left, and no private directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = f"tag-{secrets.token_hex(8)}"
    yield name
    assert alive_with(name) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("penstock-")] == []


async def test_a_run(tag: str) -> None:
    """Its chunks as they came, their end, what it cost, and what is kept."""
    learned: list[tuple[int, Usage]] = []
    ear = Listener()
    transport = stub(on_usage=lambda call, usage: learned.append((call.call_id, usage)))
    usage = {"input_tokens": 10, "output_tokens": 5, "cached_tokens": 4}
    steps = [say(session="s-1"), say(text="hello"), say(other=1), say(done="bye", usage=usage)]
    answer = await run(transport, *steps, ear=ear, tag=tag)
    assert [type(chunk) for chunk in ear.chunks] == [Session, Text, Raw, Result]
    result = ear.chunks[-1]
    assert isinstance(result, Result)
    assert (result.text, result.session_id) == ("bye", "s-1")
    assert ear.told == ["begin", "sent"]
    assert (answer.verdict, answer.charge, answer.keep) == ("done", "usage", True)
    assert (answer.input_tokens, answer.output_tokens, answer.reply.status) == (10, 5, 200)
    assert (answer.reply.fault, answer.reply.streamed) == (None, True)
    assert [type(chunk) for chunk in kept(answer)] == [Session, Text, Raw, Result]
    assert learned == [(1, Usage(10, 5, 15, 4, None))]


async def test_one_connection_serves_one_run_after_the_other(tag: str) -> None:
    connection = await stub().connect()
    for number in range(3):
        assert connection.usable()
        ear = Listener()
        await connection.exchange(calling(say(text=f"{number}"), DONE, tag=tag), ear)
        assert ear.texts == [f"{number}"]
    await connection.aclose()
    await connection.aclose()
    assert repr(connection) == "<ProcessConnection stub, 3 exchanges>"


ENDS: dict[str, tuple[list[dict[str, object]], str, str, str, str]] = {
    "exit code": ([do("errors", text="a\nit broke\n"), do("exit", code=3)], "failed", "AgentError", "failed", "3"),
    "exit code 0": ([do("exit", code=0)], "failed", "AgentError", "protocol", "0"),
    "killed": ([say(text="hi"), do("kill")], "failed", "AgentError", "interrupted", "-9"),
    "refused": ([say(error="rejected", message="no"), do("exit", code=1)], "failed", "Rejected", "rejected", ""),
    "overloaded": ([say(error="server", message="later")], "retry", "ProviderUnavailable", "server", ""),
    "overloaded too late": (
        [say(text="hi"), say(error="server", message="later")], "failed", "ProviderUnavailable", "server", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_ends_that_are_failures(name: str, tag: str) -> None:
    """Each is a verdict, a class of error, and a last chunk; nobody has heard of a run that may be tried again."""
    steps, verdict, kind, category, code = ENDS[name]
    ear = Listener()
    answer = await run(stub(), *steps, ear=ear, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert (answer.verdict, fault.kind) == (verdict, kind)
    if kind == "AgentError":
        assert fault.code == code
    last = kept(answer)[-1]
    assert isinstance(last, Error)
    assert last.category == category
    assert ear.chunks == ([] if verdict == "retry" else kept_whole(ear, last))
    if name == "exit code":
        assert "it broke" in fault.message
        assert "it broke" in fault.detail


def kept_whole(ear: Listener, last: Error) -> list[object]:
    assert ear.chunks[-1] == last
    return list(ear.chunks)


async def test_a_bad_exit_code_after_success_is_a_doubt(tag: str) -> None:
    ear = Listener()
    answer = await run(stub(), DONE, do("exit", code=7), ear=ear, tag=tag)
    assert answer.verdict == "done"
    assert "exit code 7" in str(ear.chunks[0])
    assert isinstance(ear.chunks[-1], Result)


async def test_lines_that_are_no_json(tag: str) -> None:
    """They are told as notices, blank ones not at all; a last line without an end is read, too."""
    ear = Listener()
    last = '{"text": "half a line"}'
    text = "Warning: hot\n\n  \r\n\xff\xfe broken\n{not json\n" + "long" * 5000 + '\n{"text": "caf\\ud83d"}\n'
    bad = do("write", text=text, encoding="latin-1")
    answer = await run(stub(), say(text="a"), bad, DONE, do("write", text=last), ear=ear, tag=tag)
    notices = [chunk.text for chunk in ear.chunks if isinstance(chunk, Notice)]
    assert notices[0] == "Warning: hot"
    assert notices[1].endswith("broken")
    assert notices[2] == "{not json"
    assert len(notices) == 4
    assert len(notices[3]) == 500
    assert ear.texts == ["a", "caf\ufffd", "half a line"]
    assert answer.verdict == "done"


async def test_json_that_is_no_object_and_a_parser_with_a_bug(tag: str) -> None:
    """Nothing else is lost to either."""
    ear = Listener()
    lines = '[1]\n3\n"x"\nnull\n' + '{"a": ' * 3000 + "1" + "}" * 3000 + '\n{"bug": 1}\n'
    await run(stub(), say(text="a"), do("write", text=lines), say(text="b"), DONE, ear=ear, tag=tag)
    assert ear.texts == ["a", "b"]
    raws = [chunk.raw for chunk in ear.chunks if isinstance(chunk, Raw)]
    assert raws == [[1], 3, "x", None, {"bug": 1}]
    assert isinstance(ear.chunks[-1], Result)


@pytest.mark.parametrize("chars", [5_000_000, 20_000_000])
async def test_long_lines(chars: int, tag: str) -> None:
    ear = Listener()
    answer = await run(stub(), do("big", chars=chars), say(text="after"), DONE, ear=ear, tag=tag)
    assert [len(text) for text in ear.texts] == [chars, 5]
    assert answer.verdict == "done"


async def test_the_events_of_long_lines_are_not_passed_on_besides(tag: str) -> None:
    """What the chunks say of them stands; of one that means nothing here, its kind and size."""
    ear = Listener()
    long = {"type": "odd", "value": "x" * 300_000}
    steps = [say(text="short"), do("big", chars=300_000), say(**long), say(done="y" * 300_000)]
    answer = await run(stub(), *steps, ear=ear, tag=tag)
    short, text, odd, result = ear.chunks
    assert isinstance(short, Text)
    assert short.raw == {"text": "short"}
    assert isinstance(text, Text)
    assert (len(text.text), text.raw) == (300_000, None)
    assert isinstance(odd, Raw)
    assert odd.raw["type"] == "odd"
    assert "300,0" in odd.raw["left_out"]
    assert isinstance(result, Result)
    assert (len(result.text), answer.verdict) == (300_000, "done")


async def test_a_line_of_very_many_parts_is_read_in_part(tag: str) -> None:
    """Others go on meanwhile, and the run is not lost."""
    ear = Listener()
    line = '{"text": "here", "more": [' + ",".join(['{"a":[]}'] * 400_000) + "]}\n"
    await run(stub(), do("write", text=line), DONE, ear=ear, tag=tag)
    assert ear.texts == ["here"]
    assert isinstance(ear.chunks[-1], Result)


async def test_a_long_line_is_read_in_a_thread(tag: str) -> None:
    threads: dict[int, set[bool]] = {}

    class Told(StubbornStub):
        def parser(self, options: Any, before: Any) -> Any:
            parser = super().parser(options, before)
            read = parser.read

            def tell(event: Any) -> Any:
                on_main = threading.current_thread() is threading.main_thread()
                threads.setdefault(len(event.get("text", "")), set()).add(on_main)
                return read(event)

            parser.read = tell  # type: ignore[method-assign]
            return parser

    await run(stub(Told), say(text="short"), do("big", chars=300_000), DONE, tag=tag)
    assert threads == {5: {True}, 300_000: {False}, 0: {True}}


async def test_not_every_line_that_is_no_json_is_told(tag: str) -> None:
    """After many it is said once that there are more; nothing else is lost to them."""
    ear = Listener()
    steps = [say(text="a"), do("write", text="no JSON\n" * 3_000), say(text="b"), DONE]
    await run(stub(), *steps, ear=ear, tag=tag)
    notices = [chunk.text for chunk in ear.chunks if isinstance(chunk, Notice)]
    assert len(notices) == MOST_NOTICES + 1
    assert "left out" in notices[-1]
    assert ear.texts == ["a", "b"]


async def test_a_line_over_the_cap_ends_the_run(tag: str) -> None:
    """What came before it is told; the program is stopped in the middle of it."""
    ear = Listener()
    steps = [say(text="a"), do("big", chars=50_000_000), DONE, do("hang")]
    answer = await run(stub(cap_bytes=100_000), *steps, ear=ear, tag=tag)
    assert ear.texts == ["a"]
    last = ear.chunks[-1]
    assert isinstance(last, Error)
    assert (last.category, answer.verdict, answer.charge) == ("protocol", "failed", "kept")
    assert "100,000 bytes" in last.message


async def test_much_on_stderr_is_read_and_its_end_is_kept(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    stop = Child.stop

    async def stop_and_tell(self: Child) -> None:
        await stop(self)
        held.append(len(self._tail))

    monkeypatch.setattr(Child, "stop", stop_and_tell)
    line = "n" * 99 + "\n"
    steps = [do("errors", text=line, count=100_000), do("errors", text="the end\n"), do("exit", code=1)]
    answer = await run(stub(), *steps, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert fault.detail.endswith(f"{'n' * 99} the end")
    assert len(fault.detail) <= 2_000
    assert held[0] <= 200_000


async def test_a_program_that_does_not_read_its_prompt(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that ends without reading five megabytes nor one that closes its input is waited for."""
    monkeypatch.setattr(Child, "GRACE_S", 0.2)
    for mode in ("deaf", "closed"):
        ear = Listener()
        answer = await run(stub(), prompt="x" * 5_000_000, ear=ear, mode=mode, tag=tag)
        assert (answer.verdict, len(ear.texts)) == ("done", 1)


async def test_a_prompt_of_five_megabytes_arrives(tag: str) -> None:
    ear = Listener()
    await run(stub(), say(text="z" * 5_000_000), DONE, ear=ear, tag=tag)
    assert [len(text) for text in ear.texts] == [5_000_000]


@pytest.mark.parametrize(
    ("count", "cap_bytes"),
    [(30_000, CAP_BYTES), pytest.param(5_000, 20_000, marks=linux)],
    ids=["more than its pipe holds", "what its pipe holds"],
)
async def test_a_program_can_end_while_its_reader_is_slow(count: int, cap_bytes: int, tag: str) -> None:
    """One that does not wait for its pipe, as Node's do not, would lose the rest."""
    ear = Listener()
    ear.room = trio.Event()

    async def look() -> None:
        await ear.until(Text)
        while alive_with(tag):  # noqa: ASYNC110  # a process is no event
            await trio.sleep(0.01)
        assert len(ear.pieces) == 1
        ear.room.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        steps = [do("many", count=count, chars=100), DONE]
        answer = await run(stub(cap_bytes=cap_bytes), *steps, ear=ear, tag=tag)
    assert (answer.verdict, len(ear.texts)) == ("done", count)
    assert ear.texts[-1].startswith(f"{count - 1}:")


async def test_no_more_than_its_cap_is_read_ahead_of_a_slow_reader(tag: str) -> None:
    """Then the program waits with its pipe full, and nothing of what it says is lost, also not after its exit."""
    ear = Listener()
    ear.room = trio.Event()
    told: list[int] = []

    async def look() -> None:
        await ear.until(Text)
        await trio.testing.wait_all_tasks_blocked(0.3)
        told.append(len(ear.pieces))
        assert alive_with(tag)
        ear.room.set()

    steps = [do("many", count=30_000, chars=100), DONE]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        answer = await run(stub(cap_bytes=20_000), *steps, ear=ear, tag=tag)
    assert told == [1]
    assert len(ear.texts) == 30_000
    assert (answer.verdict, ear.texts[-1][:6]) == ("done", "29999:")


async def test_silence_at_the_start_is_bounded(tag: str) -> None:
    """By start_s, until the first line; not any more after it."""
    ear = Listener()
    answer = await run(stub(), ear=ear, mode="silent", prompt="x", start_s=0.2, tag=tag)
    last = kept(answer)[-1]
    assert isinstance(last, Error)
    assert (answer.verdict, answer.charge, last.category) == ("failed", "kept", "failed")
    assert "start_s=0.2" in last.message


async def test_first_lines_are_not_heard_before_the_agent_began(tag: str) -> None:
    """So that a bound on the first byte is one on the model's; then every line counts."""
    ear = Listener()
    heard: list[int] = []
    ear.on_chunks = lambda: heard.append(ear.parts_heard)
    await run(stub(), say(session="s"), say(other=1), say(text="hi"), say(other=2), DONE, ear=ear, tag=tag)
    assert heard[0] >= 1
    silent = Listener()
    await run(stub(), say(session="s"), say(other=1), DONE, ear=silent, tag=tag)
    assert silent.parts_heard == 0


async def test_a_session_is_counted(tag: str) -> None:
    """What it had cost is known from its last run, forgotten while another goes on, and bounded."""
    transport = stub(StubbornStub)
    total = {"input_tokens": 7, "output_tokens": 3}
    before = [say(before=1)]

    async def told(*more: dict[str, object], **options: Any) -> str:
        ear = Listener()
        await run(transport, *before, *more, ear=ear, tag=tag, **options)
        return ear.texts[0]

    new = "Spent(input_tokens=0, output_tokens=0, cached_tokens=0, reasoning_tokens=0, cost_usd=None)"
    assert await told(say(session="a"), say(done="", total=total)) == new
    assert "input_tokens=7, output_tokens=3" in await told(do("exit", code=1), resume="a")
    assert await told(DONE, resume="a") == "None"
    assert await told(DONE, resume="b") == "None"


async def test_sessions_are_forgotten_the_oldest_first(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "MOST_SESSIONS", 2)
    transport = stub(StubbornStub)
    for name in "abc":
        await run(transport, say(session=name), say(done="", total={"input_tokens": 1}), tag=tag)
    found = []
    for name in "abc":
        ear = Listener()
        await run(transport, say(before=1), DONE, ear=ear, tag=tag, resume=name)
        found.append(ear.texts[0].partition("(")[0])
    assert found == ["None", "Spent", "Spent"]


async def test_too_late_starts_nothing(tag: str) -> None:
    ear = Listener(late=True)
    with pytest.raises(TooLate):
        await run(stub(), say(text="hi"), DONE, ear=ear, tag=tag)
    assert (ear.told, ear.chunks) == (["begin"], [])


async def test_options_that_are_none(tag: str) -> None:
    connection = await stub().connect()
    answer = await connection.exchange(APICalling(1, 1, 1, 0, body=b'{"prompt": 3}'), Listener())
    fault = answer.reply.fault
    assert fault is not None
    assert (fault.kind, answer.charge, answer.keep) == ("UsageError", "nothing", True)


async def test_a_line_nested_beyond_reading_is_a_notice(tag: str) -> None:
    """And the run goes on: nothing of it is lost, nor is the endpoint."""
    line = '{"a":' * 100_001 + "1" + "}" * 100_001
    answer = await run(stub(), do("write", text=f"{line}\n"), say(text="fine"), say(done="bye"), tag=tag)
    assert answer.verdict == "done"
    assert [chunk.text for chunk in kept(answer) if isinstance(chunk, Text)] == ["fine"]
    assert any(isinstance(chunk, Notice) for chunk in kept(answer))
