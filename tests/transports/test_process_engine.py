"""Programs behind a whole engine: whatever ends a call, a block or an engine, no process is left when it is over.

The wire format in front is that of chats, so the steps of the program stand in a message; what the chunks mean to a
reader is not asked here.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from stub_program import Stub, StubOptions, alive_with, do, environ, say

from engine import (
    AgentError,
    AgentNotInstalled,
    Call,
    CallCancelled,
    Engine,
    OutcomeUnknown,
    ProviderUnavailable,
    Rejected,
    iModel,
    open_engine,
)
from engine.accounts import Account
from engine.agents.agent import Launch, Setting
from engine.config import EngineConfig, EngineSection
from engine.transports.child import Child
from engine.transports.process import ProcessTransport
from engine.usual_transports import OnUsage

DONE = say(done="done", usage={"input_tokens": 20, "output_tokens": 7})
READY = say(text="ready")
LEFT = [do("ignore", names=["INT", "TERM"]), do("start", mode="parent of emptied"), do("start", mode="stubborn")]


class Asked(StubOptions, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The arguments of a chat, of which only the messages count."""


class TaggedStub(Stub):
    """Every process that it starts has the tag among its arguments."""

    options = Asked

    def __init__(self, tag: str) -> None:
        self._tag = tag

    def launch(self, options: StubOptions, setting: Setting) -> Launch:
        return super().launch(msgspec.structs.replace(options, tag=self._tag), setting)


class Programs:
    """The factory of an engine's transports."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def __call__(self, account: Account, on_usage: OnUsage) -> ProcessTransport:
        return ProcessTransport(TaggedStub(self.tag), key=account.key, on_usage=on_usage, environ=environ())

    @property
    def alive(self) -> list[str]:
        return alive_with(self.tag)

    async def until_alive(self, count: int) -> None:
        """Until so many processes of its runs are there."""
        while len(self.alive) < count:  # noqa: ASYNC110  # what another process does is no event of ours
            await trio.sleep(0.01)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Child, "GRACE_S", 0.3)
    monkeypatch.setattr(Child, "ORPHANS_S", 0.3)
    made = Programs(f"tag-{secrets.token_hex(8)}")
    yield made
    assert made.alive == []
    assert list(tmp_path.iterdir()) == []


@contextlib.asynccontextmanager
async def an_engine(programs: Programs, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    with trio.fail_after(120):
        async with open_engine(config, transport=programs) as engine:
            yield engine


def a_model(**options: Any) -> iModel:
    return iModel(**{"model": "gpt-4o", "api_key": "sk-fake-0123456789", **options})


def asked(*steps: Mapping[str, object]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": msgspec.json.encode(steps).decode()}]}


async def test_a_call_is_a_run(programs: Programs) -> None:
    async with an_engine(programs) as engine:
        call = await a_model().invoke(**asked(*LEFT, READY, DONE))
        assert engine.statistics().endpoints[0].transport == "process"
        assert programs.alive == []
    assert (call.status, call.attempts, call.error) == ("completed", 1, None)
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (20, 7)


async def test_many_at_once(programs: Programs) -> None:
    model = a_model(concurrency_limit=5)
    async with an_engine(programs) as engine:
        made = [model.create_api_calling(**asked(*LEFT[1:], READY, DONE)) for _ in range(10)]
        calls = [call async for call in engine.map(made)]
    assert [call.status for call in calls] == ["completed"] * 10


FAILURES: dict[str, tuple[list[dict[str, object]], type[Exception]]] = {
    "refused": ([say(error="rejected", message="no")], Rejected),
    "exit code": ([READY, do("exit", code=3)], AgentError),
    "overloaded for ever": ([say(error="server", message="later")], ProviderUnavailable),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_run_that_fails(name: str, programs: Programs) -> None:
    steps, kind = FAILURES[name]
    async with an_engine(programs):
        call = await a_model(max_attempts=2).invoke(**asked(*steps))
    assert (call.status, type(call.error)) == ("failed", kind)
    assert call.attempts == (2 if name == "overloaded for ever" else 1)
    if isinstance(call.error, AgentError):
        assert call.error.exit_code == 3


async def submitted(programs: Programs, *steps: Mapping[str, object], **options: Any) -> Call:
    """A call whose processes, three at least, are all there."""
    model = a_model(**options)
    call = await model.engine.submit(model.create_api_calling(**asked(*steps)))
    await programs.until_alive(4)
    return call


async def test_a_call_that_is_cancelled(programs: Programs) -> None:
    """It ends when nothing is left of it."""
    async with an_engine(programs):
        call = await submitted(programs, *LEFT, READY, do("hang"))
        call.cancel()
        await call.wait()
    assert isinstance(call.error, CallCancelled)


async def test_a_call_whose_time_is_over(programs: Programs) -> None:
    async with an_engine(programs):
        call = await a_model(max_attempts=1).invoke(**asked(*LEFT, READY, do("hang")), timeout_s=1.5)
    assert isinstance(call.error, OutcomeUnknown)
    assert "timeout_s" in str(call.error)


async def test_first_byte_is_that_of_the_agents_answer(programs: Programs) -> None:
    """What a program says while it starts is none."""
    async with an_engine(programs):
        steps = [say(session="s"), say(other=1), do("hang")]
        call = await a_model(max_attempts=1, first_byte_s=1.0).invoke(**asked(*steps))
    assert isinstance(call.error, OutcomeUnknown)
    assert "first_byte_s" in str(call.error)


async def test_an_engine_that_is_left_by_an_exception(programs: Programs) -> None:
    with pytest.raises(KeyError):  # noqa: PT012  # the block is what is left by it
        async with an_engine(programs):
            await submitted(programs, *LEFT, READY, do("hang"))
            raise KeyError
    assert programs.alive == []


async def test_an_engine_that_is_cancelled(programs: Programs) -> None:
    with trio.CancelScope() as scope:
        async with an_engine(programs):
            await submitted(programs, *LEFT, READY, do("hang"))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert programs.alive == []


async def test_an_engine_that_drains_waits_no_longer_than_it_said(programs: Programs) -> None:
    config = EngineConfig(engine=EngineSection(drain_deadline_s=0.2))
    async with an_engine(programs, config):
        call = await submitted(programs, *LEFT, READY, do("hang"))
    assert isinstance(call.error, OutcomeUnknown)
    assert programs.alive == []


async def test_a_reader_who_leaves(programs: Programs) -> None:
    """With the first chunk read, and with a program that goes on writing to nobody."""
    for more in (do("hang"), do("many", count=20_000, chars=100)):
        async with an_engine(programs):
            async with a_model().stream(**asked(*LEFT, READY, more, DONE)) as stream:
                chunk = await stream.__anext__()
                assert chunk.metadata["event"]
            await stream.call.wait()
            assert programs.alive == []


async def test_a_stream_to_its_end(programs: Programs) -> None:
    """Chunks in order, each once, however slowly they are read."""
    texts: list[str] = []
    steps = asked(do("many", count=5_000, chars=100), DONE)
    async with an_engine(programs), a_model().stream(**steps) as stream:
        async for chunk in stream:
            event: Any = chunk.metadata["event"]
            if isinstance(event, dict) and event.get("kind") == "text":
                texts.append(event["text"].partition(":")[0])
                if len(texts) % 1000 == 0:
                    await trio.sleep(0.01)
    assert texts == [str(number) for number in range(5_000)]


async def test_a_program_that_has_gone_costs_nothing(programs: Programs) -> None:
    """The call says so, and the endpoint goes on."""
    async with an_engine(programs):
        model = a_model()
        with pytest.raises(AgentNotInstalled):
            await model.invoke(**asked(DONE), program="/nowhere/stub")
        assert (await model.invoke(**asked(DONE))).status == "completed"


def noted(path: Path, name: str, *more: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The steps of a run that writes down when it begins and ends."""
    return [
        do("note", path=str(path), line=f"{name} begins"),
        READY,
        *more,
        do("note", path=str(path), line=f"{name} ends"),
        DONE,
    ]


async def test_runs_of_one_session_never_overlap(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those that resume it, and the one that began it; all of them complete."""
    path = tmp_path_factory.mktemp("noted") / "lines"
    model = a_model(concurrency_limit=4)
    gate = path.with_name("gate")
    first = noted(path, "a", say(session="s"), do("await_file", path=str(gate)))
    async with an_engine(programs) as engine:
        calls = [await engine.submit(model.create_api_calling(**asked(*first)))]
        while not path.exists():  # noqa: ASYNC110  # a file is no event
            await trio.sleep(0.01)
        for name in "bcd":
            request = model.create_api_calling(**asked(*noted(path, name, do("sleep", seconds=0.1))), resume="s")
            calls.append(await engine.submit(request))
        gate.touch()
        for call in calls:
            await call.wait()
    assert [call.status for call in calls] == ["completed"] * 4
    lines = path.read_text().splitlines()
    assert lines[:2] == ["a begins", "a ends"]
    assert len(lines) == 8
    assert all(end == begin.replace("begins", "ends") for begin, end in zip(lines[::2], lines[1::2], strict=True))


async def test_a_cancelled_run_is_gone_before_its_session_goes_on(
    programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However little notice it takes; and who is cancelled while it waits was never started."""
    path = tmp_path_factory.mktemp("noted") / "lines"
    model = a_model(concurrency_limit=4)
    hanging = asked(do("ignore", names=["TERM"]), READY, do("hang"))
    async with an_engine(programs) as engine:
        first = await engine.submit(model.create_api_calling(**hanging, resume="s"))
        await programs.until_alive(1)
        (one,) = programs.alive
        steps = [do("processes", path=str(path)), READY, DONE]
        waiting = await engine.submit(model.create_api_calling(**asked(*noted(path, "never")), resume="s"))
        second = await engine.submit(model.create_api_calling(**asked(*steps), resume="s"))
        await trio.sleep(0.2)
        assert programs.alive == [one]
        waiting.cancel()
        await waiting.wait()
        assert not path.exists()
        first.cancel()
        await second.wait()
        await first.wait()
    assert isinstance(waiting.error, CallCancelled)
    assert second.status == "completed"
    number = one.partition(" ")[0]
    assert number not in path.read_text().split()
    assert "never" not in path.read_text()
