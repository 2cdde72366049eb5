"""Agents through the portal: sessions, handlers, what is collected, what is left behind. Programs replay recorded runs,
or stop in the middle of one and wait to be ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from portal_server import Provider, ask
from replayed import TRANSCRIPTS, Replayed, session_of

from engine import HandlerFailed, InvalidCall, Rejected, StreamChunk, agent_runs, iModel
from engine.portal import BlockingModel, open_portal
from engine.providers.agents import AGENTS
from engine.transports.child import Child

TOLD = ["on_system", "on_tool_use", "on_tool_result", "on_text", "on_final"]
"""The handlers that the run of `claude__tool` tells something, in the order of their first time."""


@pytest.fixture(autouse=True)
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program and no key but those of the test; one that takes no notice of a signal is killed soon."""
    monkeypatch.setattr(Child, "GRACE_S", 0.3)
    for row in AGENTS:
        for variable in row.key_env:
            monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


class Stuck(Replayed):
    """A program that says the first part of a run, up to the first text, then nothing, and does not end when told."""

    def __init__(self, folder: Path, program: str, transcript: str) -> None:
        super().__init__(folder, program, transcript)
        lines = (TRANSCRIPTS / f"{transcript}.stdout.jsonl").read_text("utf-8").splitlines()
        until = next(number for number, line in enumerate(lines) if '"text"' in line and '"assistant"' in line)
        said = folder / "said"
        said.write_text("\n".join(lines[: until + 1]) + "\n", "utf-8")
        self._pid = folder / "pid"
        self._pid.unlink(missing_ok=True)
        self.told = folder / "told"
        # The prompt is read first. The shell stays, and has a child, so that there is more than one process to end.
        self.path.write_text(
            f"#!/bin/sh\ncat > /dev/null\necho $$ > {self._pid}.new\nmv {self._pid}.new {self._pid}\ncat {said}\n"
            f"trap 'touch {self.told}' INT TERM\nwhile true; do sleep 1000 & wait; done\n",
            "utf-8",
        )

    def wait_begun(self) -> None:
        """Until it has begun."""
        wait_for(self._pid)

    @property
    def pid(self) -> int:
        self.wait_begun()
        return int(self._pid.read_text("utf-8"))

    @property
    def alive(self) -> bool:
        return os.path.exists(f"/proc/{self.pid}")


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def resumed(program: Replayed) -> list[bool]:
    return ["--resume" in json.dumps(run["argv"]) for run in program.runs]


def handlers_of(note: Callable[[str], None], *, later: Callable[[], Any]) -> dict[str, Any]:
    """Handlers that note their names: plain ones, and an async one, which waits for `later` first."""

    def handler(name: str) -> Callable[[Any], Any]:
        async def on_tool_use(_: Any) -> None:
            await later()
            note(name)

        return on_tool_use if name == "on_tool_use" else lambda _: note(name)

    return {name: handler(name) for name in TOLD}


def in_order(names: list[str]) -> list[str]:
    """Names without what comes again."""
    return list(dict.fromkeys(names))


# --- sessions ---


def test_threads_go_on_with_the_session(bin_folder: Path) -> None:
    """Whichever way the runs are made, by the model or by the engine; a run that is made to be sent begins its own."""
    program = Replayed(bin_folder, "claude", "claude__plain")
    with open_portal() as engine:
        model = engine.model(provider="claude_code", model="sonnet")
        assert model.invoke(prompt="one").status == "completed"
        assert model.provider_session_id == session_of("claude__plain")
        assert model.run_and_collect(prompt="two")
        assert "".join(map(str, model.stream(prompt="three"))) == model.invoke(prompt="four").text
        engine.invoke(model, prompt="five")
        list(engine.stream(model, prompt="six"))
        engine.invoke(model.create_api_calling(prompt="seven"))
        model.copy().invoke(prompt="eight")
        model.copy(share_session=True).invoke(prompt="nine")
    assert resumed(program) == [False, True, True, True, True, True, False, False, True]
    assert session_of("claude__plain") in json.dumps(program.runs[1]["argv"])


def test_tasks_go_on_with_the_session(bin_folder: Path) -> None:
    """As in threads."""
    program = Replayed(bin_folder, "claude", "claude__plain")

    async def main() -> None:
        async with open_portal() as engine:
            model = engine.model(provider="claude_code", model="sonnet")
            assert (await model.invoke(prompt="one")).status == "completed"
            assert await model.run_and_collect(prompt="two")
            assert [chunk async for chunk in model.stream(prompt="three")]
            await engine.invoke(model, prompt="four")
            assert [chunk async for chunk in engine.stream(model, prompt="five")]
            await engine.invoke(model.create_api_calling(prompt="six"))

    asyncio.run(main())
    assert resumed(program) == [False, True, True, True, True, False]


def test_plain_model_that_is_given_to_an_engine_goes_on_too(bin_folder: Path) -> None:
    """Its session is its own, whoever runs it."""
    program = Replayed(bin_folder, "claude", "claude__plain")
    model = iModel(provider="claude_code")
    with open_portal() as engine:
        engine.invoke(model, prompt="one")
        assert model.provider_session_id == session_of("claude__plain")
        list(engine.stream(model, prompt="two"))

    async def main() -> None:
        async with open_portal() as engine:
            await engine.invoke(model, prompt="three")

    asyncio.run(main())
    assert resumed(program) == [False, True, True]


# --- handlers ---


@pytest.mark.parametrize("given", ["model", "call", "grouped"])
@pytest.mark.parametrize("way", ["invoke", "stream", "run_and_collect", "engine.invoke", "engine.stream"])
def test_handlers_are_called_in_the_readers_thread(bin_folder: Path, given: str, way: str) -> None:
    """Async ones in the engine's loop, as a `streaming_process_func` is."""
    Replayed(bin_folder, "claude", "claude__tool")
    noted: list[tuple[str, int]] = []
    handlers = handlers_of(lambda name: noted.append((name, threading.get_ident())), later=trio.lowlevel.checkpoint)
    of_call: dict[str, Any] = {"call": handlers, "grouped": {"claude_handlers": handlers}}.get(given, {})
    with open_portal() as engine:
        model = engine.model(provider="claude_code", **(handlers if given == "model" else {}))
        run = getattr(model, way) if "." not in way else getattr(engine, way.partition(".")[2])
        answer = run(*([model] if "." in way else []), prompt="go", **of_call)
        if way.endswith("stream"):
            list(answer)
    assert in_order([name for name, _ in noted]) == TOLD
    assert {thread for name, thread in noted if name != "on_tool_use"} == {threading.get_ident()}
    assert {thread for name, thread in noted if name == "on_tool_use"} != {threading.get_ident()}


@pytest.mark.parametrize("given", ["model", "call"])
@pytest.mark.parametrize("way", ["invoke", "stream", "run_and_collect", "engine.invoke", "engine.stream"])
def test_handlers_are_called_in_the_readers_task(bin_folder: Path, given: str, way: str) -> None:
    """Of asyncio, sync and async ones."""
    Replayed(bin_folder, "claude", "claude__tool")
    noted: list[str] = []

    async def main() -> None:
        task = asyncio.current_task()

        def note(name: str) -> None:
            assert asyncio.current_task() is task
            noted.append(name)

        handlers = handlers_of(note, later=lambda: asyncio.sleep(0))
        async with open_portal() as engine:
            model = engine.model(provider="claude_code", **(handlers if given == "model" else {}))
            run = getattr(model, way) if "." not in way else getattr(engine, way.partition(".")[2])
            answer = run(*([model] if "." in way else []), prompt="go", **(handlers if given == "call" else {}))
            if way.endswith("stream"):
                assert [chunk async for chunk in answer]
            else:
                await answer

    asyncio.run(main())
    assert in_order(noted) == TOLD


def test_handlers_are_told_what_the_reader_comes_to(bin_folder: Path) -> None:
    """Before he has it, though the loop has read far ahead; then the `streaming_process_func` sees it."""
    Replayed(bin_folder, "claude", "claude__tool")
    seen: list[str] = []

    def process(chunk: StreamChunk) -> None:
        seen.append(f"process {chunk.type}")

    with open_portal() as engine:
        model = engine.model(
            provider="claude_code",
            streaming_process_func=process,
            on_tool_use=lambda tool: seen.append(f"told {tool['name']}"),
            on_final=lambda final: seen.append(f"told {final['result']}"),
        )
        with model.stream(prompt="go") as chunks:
            for chunk in chunks:
                if chunk.type == "tool_use":
                    break
            assert [one for one in seen if "system" not in one] == ["told Bash", "process tool_use"]
            list(chunks)
    assert seen[-2:] == ["told Tool finished.", "process result"]


def test_handler_that_raises_loses_nothing_unless_it_is_to(bin_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Else the run is given up, and nothing of its program is left."""
    Replayed(bin_folder, "claude", "claude__plain")

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    async def fail_later(_: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def main() -> None:
        async with open_portal() as engine:
            assert (await engine.model(provider="claude_code", on_text=fail_later).invoke(prompt="x")).text
            with pytest.raises(HandlerFailed) as caught:
                await engine.model(provider="claude_code", on_text=fail_later, exit_hook=True).invoke(prompt="x")
            assert isinstance(caught.value.__cause__, ZeroDivisionError)

    asyncio.run(main())
    with open_portal() as engine:
        assert engine.model(provider="claude_code").run_and_collect(prompt="x", on_text=fail, on_final=fail)
        program = Stuck(bin_folder, "claude", "claude__plain")
        with pytest.raises(HandlerFailed):
            engine.model(provider="claude_code", exit_hook=True).invoke(prompt="x", on_text=fail)
        assert not program.alive


def test_handler_that_does_not_end_loses_nothing(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An async one, in either loop."""
    Replayed(bin_folder, "claude", "claude__tool")
    monkeypatch.setattr(agent_runs, "HANDLER_S", 0.01)
    with open_portal() as engine:
        endless: dict[str, Any] = {"on_tool_use": lambda _: trio.Event().wait()}
        assert engine.model(provider="claude_code", **endless).run_and_collect(prompt="x") == "Tool finished."
        with pytest.raises(HandlerFailed):
            engine.model(provider="claude_code", exit_hook=True).invoke(prompt="x", **endless)

    async def main() -> None:
        async with open_portal() as engine:
            model = engine.model(provider="claude_code", on_tool_use=lambda _: asyncio.Event().wait())
            assert await model.run_and_collect(prompt="x") == "Tool finished."

    asyncio.run(main())


@pytest.mark.parametrize("bad", [{"on_text": 3}, {"claude_handlers": {"on_error": print}}], ids=["text", "name"])
def test_what_is_no_handler_is_refused(bad: dict[str, Any]) -> None:
    """At once, before anything is read."""
    with open_portal() as engine:
        model = engine.model(provider="claude_code")
        for run in (model.invoke, model.stream, model.run_and_collect):
            with pytest.raises(InvalidCall, match=next(iter(bad))):
                run(prompt="x", **bad)
        with pytest.raises(InvalidCall, match=next(iter(bad))):
            engine.model(provider="claude_code", **bad)


# --- what is collected ---


def test_all_that_was_said_is_collected(bin_folder: Path, provider: Provider) -> None:
    """Of an agent and of any model, in a thread and in asyncio; a failure is raised."""
    Replayed(bin_folder, "claude", "claude__tool")
    Replayed(bin_folder, "codex", "codex__401")
    http: dict[str, Any] = {"model": "openai/m", "api_key": "none", "base_url": provider.url}
    with open_portal() as engine:
        assert engine.model(provider="claude_code").run_and_collect(prompt="go") == "Tool finished."
        assert engine.model(**http).run_and_collect(**ask("abc")) == "cba"
        with pytest.raises(Rejected):
            engine.model(provider="codex").run_and_collect(prompt="go")
        with pytest.raises(Rejected):
            engine.model(**http).run_and_collect(**ask("refuse"))

    async def main() -> None:
        async with open_portal() as engine:
            assert await engine.model(provider="claude_code").run_and_collect(prompt="go") == "Tool finished."
            assert await engine.model(**http).run_and_collect(**ask("abc")) == "cba"
            with pytest.raises(Rejected):
                await engine.model(provider="codex").run_and_collect(prompt="go")

    asyncio.run(main())


def test_failure_of_a_run_is_on_its_call(bin_folder: Path) -> None:
    """It is not raised by `invoke`."""
    Replayed(bin_folder, "codex", "codex__401")
    with open_portal() as engine:
        assert isinstance(engine.model(provider="codex").invoke(prompt="x").error, Rejected)
        assert isinstance(engine.model(provider="codex").invoke(prompt="x", on_final=print).error, Rejected)
        assert isinstance(engine.invoke(iModel(provider="codex"), prompt="x").error, Rejected)


def test_run_that_was_made_before_is_sent(bin_folder: Path) -> None:
    """By `invoke` and `run_and_collect`; one that has ended is looked at again."""
    program = Replayed(bin_folder, "claude", "claude__plain")
    with open_portal() as engine:
        model = engine.model(provider="claude_code")
        call = model.create_api_calling(prompt="x")
        assert model.invoke(call) is call
        assert model.invoke(call) is call
        assert model.run_and_collect(call) == call.text
        assert model.provider_session_id == session_of("claude__plain")
        with pytest.raises(InvalidCall):
            model.invoke(model.create_api_calling(prompt="x"), prompt="y")
    assert len(program.runs) == 1


def test_chat_of_ag2_is_read_as_a_stream_alone() -> None:
    """`invoke` refuses it before anything starts."""
    refused = r"stream-only.*run_and_collect.*Nothing was sent"
    chat: dict[str, Any] = {"prompt": "x", "agents": [{"name": "a"}]}
    with open_portal() as engine:
        for run in (engine.model(provider="ag2", model="m").invoke, BlockingModel(provider="ag2", model="m").invoke):
            with pytest.raises(InvalidCall, match=refused):
                run(**chat)
        with pytest.raises(InvalidCall, match=refused):
            engine.invoke(iModel(provider="ag2", model="m"), **chat)

    async def main() -> None:
        async with open_portal() as engine:
            with pytest.raises(InvalidCall, match=refused):
                await engine.model(provider="ag2", model="m").invoke(**chat)
            with pytest.raises(InvalidCall, match=refused):
                await engine.invoke(iModel(provider="ag2", model="m"), **chat)

    asyncio.run(main())


# --- left early ---


def test_stream_left_early_ends_its_program(bin_folder: Path) -> None:
    """It is gone when the block is left; the next run goes on with what was begun."""
    program = Stuck(bin_folder, "claude", "claude__plain")
    with open_portal() as engine:
        model = engine.model(provider="claude_code")
        with model.stream(prompt="x", on_text=print) as chunks:
            text = next(chunk for chunk in chunks if chunk.type == "text")
            assert program.alive
        assert not program.alive
        assert (chunks.call.status, chunks.call.text) == ("cancelled", str(text))
        assert model.provider_session_id == session_of("claude__plain")

    program = Stuck(bin_folder, "claude", "claude__plain")

    async def main() -> None:
        async with open_portal() as engine:
            async with engine.model(provider="claude_code").stream(prompt="x") as chunks:
                async for chunk in chunks:
                    if chunk.type == "text":
                        assert program.alive
                        break
            assert not program.alive
            assert chunks.call.status == "cancelled"

    asyncio.run(main())


def test_interrupt_ends_the_program_and_a_second_one_does_not_wait(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in `invoke`."""
    monkeypatch.setattr(Child, "GRACE_S", 30.0)  # for as long as the second one would be waited for
    program = Stuck(bin_folder, "claude", "claude__plain")

    def interrupt() -> None:
        program.wait_begun()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        wait_for(program.told)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with open_portal() as engine:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            engine.model(provider="claude_code").invoke(prompt="x")
        assert program.told.exists()
        assert program.alive
        os.kill(program.pid, signal.SIGKILL)


@pytest.mark.parametrize("way", ["invoke", "run_and_collect", "told", "in a handler"])
def test_cancelled_task_ends_its_program(bin_folder: Path, way: str) -> None:
    """Before the task goes on, wherever it was: waiting for the run, or in a handler of its own."""
    program = Stuck(bin_folder, "claude", "claude__plain")

    async def main() -> None:
        async with open_portal() as engine:
            model = engine.model(provider="claude_code")
            heard = asyncio.Event()

            async def on_text(_: str) -> None:
                heard.set()
                await asyncio.sleep(1000 if way == "in a handler" else 0)

            handlers = {"on_text": on_text} if way in ("told", "in a handler") else {}
            run = model.run_and_collect if way == "run_and_collect" else model.invoke
            task = asyncio.create_task(run(prompt="x", **handlers))  # type: ignore[arg-type]  # of either kind
            await asyncio.to_thread(program.wait_begun)
            if handlers:
                await heard.wait()
            assert program.alive
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not program.alive
            assert not any((await engine.statistics()).live.values())

    asyncio.run(main())
