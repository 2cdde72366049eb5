"""Nothing of a run survives it: what ignores signals, what left its session, what a cancellation came upon."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import resource
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from stub_program import SCRIPT, Listener, StubbornStub, alive_with, calling, cancelled_at, do, kept, run, say, stub

from engine.agents.chunks import Error, Notice, Result, Text, ToolResult
from engine.transports import child as child_module
from engine.transports import sweep as sweep_module
from engine.transports.child import Child
from engine.transports.running import MOST_LATE_LINES
from engine.transports.sweep import Family, is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="processes are found in /proc, and there is none here")

DONE = say(done="done")
READY = say(text="ready")


@pytest.fixture(autouse=True)
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Whatever a test did: no process of its runs is left, and no private directory. Grace is short."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Child, "GRACE_S", 0.3)
    monkeypatch.setattr(Child, "ORPHANS_S", 0.3)
    before = descriptors()
    name = f"tag-{secrets.token_hex(8)}"
    yield name
    assert alive_with(name) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("penstock-")] == []
    assert descriptors() == before


def descriptors() -> int:
    return len([name for name in os.listdir("/proc/self/fd") if is_pipe_or_process(name)])


def is_pipe_or_process(name: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{name}").startswith(("pipe:", "anon_inode:[pidfd]"))
    return False


ORPHANED = "an emptied child in a session of its own"
LEFT: Mapping[str, list[dict[str, object]]] = {
    "a child": [do("start", mode="obedient", session=False)],
    "a child in a session of its own": [do("start", mode="stubborn")],
    "a child with an emptied environment": [do("start", mode="stubborn", empty=True, session=False)],
    "an emptied child in a group of its own": [
        do("start", mode="stubborn", empty=True, session=False, process_group=0)
    ],
    ORPHANED: [do("start", mode="stubborn", empty=True)],
    "an emptied grandchild": [do("start", mode="parent of emptied")],
    "ten of them": [do("start", mode="parent of emptied")] * 10,
}
ENDS: Mapping[str, list[dict[str, object]]] = {
    "done": [DONE],
    "done and stays": [DONE, do("hang")],
    "done and ignores signals": [do("ignore", names=["INT", "TERM"]), DONE, do("hang")],
    "an error": [say(error="rejected", message="no")],
    "an exit without a word": [do("exit", code=1)],
    "too long a line": [do("big", chars=2_000_000), do("hang")],
}


STAYS = ("done and stays", "done and ignores signals", "too long a line")
# Whose parent ends at once, without marker and session, is nobody's.
PAIRS = [(left, end) for left in LEFT for end in ENDS if left != ORPHANED or end in STAYS]


@pytest.mark.parametrize(("left", "end"), PAIRS)
async def test_nothing_survives_a_run(left: str, end: str, tag: str) -> None:
    """Whatever it has started, and however it ends."""
    seen: list[set[str]] = []
    ear = Listener()
    ear.on_chunks = lambda: seen.append({line.partition(" ")[0] for line in alive_with(tag)})
    answer = await run(stub(cap_bytes=1_000_000), *LEFT[left], READY, *ENDS[end], ear=ear, tag=tag)
    started = [chunk.text for chunk in ear.chunks if isinstance(chunk, Notice) and chunk.text.isdecimal()]
    assert len(started) == len(LEFT[left])
    assert seen[0] >= set(started)
    assert (answer.verdict == "done") == end.startswith("done")


async def test_who_has_no_marker_and_no_session_is_known_from_the_last_word(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent exits as soon as it was seen, by itself: nothing leads to it any more."""
    seen = tmp_path / "seen"
    look_around = Child.look_around

    async def look(self: Child) -> None:
        await look_around(self)
        seen.touch()

    monkeypatch.setattr(Child, "look_around", look)
    monkeypatch.setattr(Child, "GRACE_S", 60.0)
    steps = [*LEFT[ORPHANED], READY, DONE, do("await_file", path=str(seen)), do("exit", code=0)]
    answer = await run(stub(), *steps, tag=tag)
    assert answer.verdict == "done"


@pytest.mark.parametrize("step", range(1, 40))
async def test_nothing_survives_a_cancellation(step: int, tag: str) -> None:
    """At whichever step of the exchange it comes; each step of the task that runs it is tried."""
    steps = [do("start", mode="parent of emptied"), READY, DONE, do("hang")]
    connection = await stub().connect()
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await connection.exchange(calling(*steps, tag=tag), Listener())
        finally:
            trio.lowlevel.remove_instrument(instrument)
    assert scope.cancel_called or step > 8


class CancelAtStep(trio.abc.Instrument):
    """Cancels right before the task that made it is to go on for the `step`-th time."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._left = step
        self._task = trio.lowlevel.current_task()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@pytest.mark.parametrize("program", [None, StubbornStub], ids=["TERM", "INT"])
@pytest.mark.parametrize("signals", [[], ["INT", "TERM"]], ids=["heeds signals", "ignores signals"])
async def test_cancelled_while_it_works(program: type[StubbornStub] | None, signals: list[str], tag: str) -> None:
    transport = stub(program) if program else stub()
    steps = [do("ignore", names=signals), do("start", mode="parent of emptied"), READY, do("hang")]
    ear = Listener()
    assert await cancelled_at(transport, *steps, ear=ear, when=lambda: ear.until(Text), tag=tag)
    assert ear.texts == ["ready"]


async def test_cancelled_while_the_prompt_is_written(tag: str) -> None:
    """To a program that does not read it."""
    ear = Listener()
    prompt = "x" * 5_000_000
    mode = "deaf and waiting"
    assert await cancelled_at(stub(), prompt=prompt, mode=mode, ear=ear, when=lambda: ear.until(Text), tag=tag)
    assert ear.told == ["begin"]


async def test_cancelled_before_it_has_started(tag: str) -> None:
    """Nothing is begun."""
    ear = Listener()
    connection = await stub().connect()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.exchange(calling(READY, DONE, tag=tag), ear)
    assert scope.cancelled_caught
    assert ear.told == []


async def test_cancelled_while_the_reader_is_slow(tag: str) -> None:
    """One who has left is not waited for, also not after the program's last word."""
    for steps in ([READY, do("hang")], [READY, DONE]):
        ear = Listener()
        ear.room = trio.Event()
        assert await cancelled_at(stub(), *steps, ear=ear, when=lambda ear=ear: ear.until(Text), tag=tag)


async def test_cancelled_after_its_last_word(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is answered all the same: it was paid for."""
    looked = trio.Event()
    look_around = Child.look_around

    async def look(self: Child) -> None:
        looked.set()
        await look_around(self)

    monkeypatch.setattr(Child, "look_around", look)
    ear = Listener()
    steps = [do("start", mode="stubborn"), READY, DONE, do("hang")]
    assert not await cancelled_at(stub(), *steps, ear=ear, when=looked.wait, tag=tag)
    assert isinstance(ear.chunks[-1], Result)


async def test_cancelled_during_the_sweep(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    killing = trio.Event()
    token = trio.lowlevel.current_trio_token()
    kill = Family.kill

    def tell(self: Family) -> int:
        token.run_sync_soon(killing.set)
        return kill(self)

    monkeypatch.setattr(Family, "kill", tell)
    ear = Listener()
    steps = [do("start", mode="parent of emptied"), READY, DONE]
    assert not await cancelled_at(stub(), *steps, ear=ear, when=killing.wait, tag=tag)


async def test_what_it_says_while_it_is_stopped_does_not_hold_it_up(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is read, so that it comes to its exit by itself."""
    codes: list[int | None] = []
    stop = Child.stop

    async def stop_and_tell(self: Child) -> None:
        await stop(self)
        codes.append(self.exit_code)

    monkeypatch.setattr(Child, "stop", stop_and_tell)
    monkeypatch.setattr(Child, "GRACE_S", 30.0)
    ear = Listener()
    steps = [do("on_term", chars=5_000_000), READY, do("hang")]
    assert await cancelled_at(stub(), *steps, ear=ear, when=lambda: ear.until(Text), tag=tag)
    assert codes == [3]


async def test_a_reader_who_has_left_is_not_waited_for_after_the_last_word(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still comes then is handed over like everything else: the run may be cancelled while it is."""
    ear, seen = Listener(), tmp_path / "seen"
    look_around = Child.look_around

    async def look(self: Child) -> None:
        await look_around(self)
        ear.room = trio.Event()
        seen.touch()

    waited: list[bool] = []

    async def come_back() -> None:
        await trio.sleep(30)
        waited.append(True)
        ear.room.set()

    monkeypatch.setattr(Child, "look_around", look)
    monkeypatch.setattr(Child, "GRACE_S", 5.0)
    steps = [READY, DONE, do("await_file", path=str(seen)), say(tool="more"), do("hang")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        assert await cancelled_at(stub(), *steps, ear=ear, when=lambda: ear.until(ToolResult), tag=tag)
        nursery.cancel_scope.cancel()
    assert waited == []


async def test_an_orphan_that_holds_the_output_is_not_waited_for(tag: str) -> None:
    ear = Listener()
    answer = await run(stub(), do("start_with_stdout"), READY, say(session="s"), do("exit", code=4), ear=ear, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert (ear.texts, answer.verdict, fault.code) == (["ready"], "failed", "4")


async def test_an_orphan_that_goes_on_writing_is_not_listened_to(tag: str) -> None:
    """A little at a time, for ever: what the program itself had written is read, and no more than a moment of this."""
    ear = Listener()
    answer = await run(stub(), do("start_with_stdout", mode="dripping"), READY, do("exit", code=4), ear=ear, tag=tag)
    assert (ear.texts[0], answer.verdict) == ("ready", "failed")


async def test_a_program_that_closes_its_output_and_stays(tag: str) -> None:
    answer = await run(stub(), READY, do("close_stdout"), do("hang"), tag=tag)
    last = kept(answer)[-1]
    assert isinstance(last, Error)
    assert last.category == "protocol"


async def test_a_program_that_stays_after_its_success_is_told_of(tag: str) -> None:
    """It was we who ended it: its exit code says nothing against it."""
    ear = Listener()
    answer = await run(stub(), READY, DONE, do("hang"), ear=ear, tag=tag)
    assert answer.verdict == "done"
    notices = [chunk.text for chunk in ear.chunks if isinstance(chunk, Notice)]
    assert len(notices) == 1
    assert "was stopped" in notices[0]


async def test_a_directory_that_cannot_be_written_to_is_removed(tag: str) -> None:
    await run(stub(), do("lock"), READY, DONE, tag=tag)


async def test_without_a_view_of_exits(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no pidfd, the process is reaped as it exits; nothing survives either."""
    monkeypatch.setattr(child_module, "_pidfd", lambda pid: None)
    for end in (DONE, do("hang")):
        ear = Listener()
        steps = [do("start", mode="parent of emptied"), READY, end]
        await cancelled_at(stub(), *steps, ear=ear, when=lambda ear=ear: ear.until(Text), tag=tag)


async def test_without_a_view_of_processes_its_group_is_ended(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc: all that did not leave the session it was started in."""
    monkeypatch.setattr(sweep_module, "_seen", lambda pid: None)
    ear = Listener()
    steps = [do("start", mode="obedient", session=False), do("start", mode="stubborn", session=False), READY]
    assert (await run(stub(), *steps, DONE, tag=tag)).verdict == "done"
    await gone(tag)
    assert await cancelled_at(stub(), *steps, do("hang"), ear=ear, when=lambda: ear.until(Text), tag=tag)
    await gone(tag)


async def gone(tag: str) -> None:
    """Until what was killed has ended, where nobody could see to that."""
    with trio.fail_after(60):
        while alive_with(tag):  # noqa: ASYNC110  # a process is no event
            await trio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
async def test_orphans_that_become_ours_are_reaped(tag: str) -> None:
    """As they do for the first process of a container: none of them stays as a zombie."""
    set_subreaper = functools.partial(ctypes.CDLL(None).prctl, 36)
    assert set_subreaper(1) == 0
    try:
        await run(stub(), *LEFT["ten of them"], READY, DONE, tag=tag)
        everyone = [seen for number in sweep_module._numbers() if (seen := sweep_module._seen(number)) is not None]
        assert [seen for seen in everyone if seen.parent == os.getpid()] == []
    finally:
        set_subreaper(0)


async def test_nothing_survives_a_bug(tag: str) -> None:
    """It comes out as it is, when nothing is left."""

    def fail() -> None:
        raise ZeroDivisionError

    ear = Listener()
    ear.on_chunks = fail
    with pytest.raises(ExceptionGroup) as raised:
        await run(stub(), do("start", mode="parent of emptied"), READY, do("hang"), ear=ear, tag=tag)
    assert raised.group_contains(ZeroDivisionError)


async def test_nothing_survives_when_all_threads_are_taken(tag: str) -> None:
    """Whoever takes them: a stop waits for nobody."""
    limiter = trio.to_thread.current_default_thread_limiter()
    before = limiter.total_tokens
    ear = Listener()

    async def take() -> None:
        await ear.until(Text)
        limiter.total_tokens = 1
        await limiter.acquire_on_behalf_of(tag)

    try:
        steps = [do("start", mode="parent of emptied"), READY, do("hang")]
        assert await cancelled_at(stub(), *steps, ear=ear, when=take, tag=tag)
    finally:
        limiter.release_on_behalf_of(tag)
        limiter.total_tokens = before


async def test_processes_of_others_are_left_alone(tag: str) -> None:
    """Not this process, not its other children, and not those of a run beside it."""
    ear, other = Listener(), Listener()
    connection = await stub().connect()
    async with trio.open_nursery() as nursery:
        steps = [do("start", mode="obedient"), READY, do("hang")]
        nursery.start_soon(connection.exchange, calling(*steps, tag=tag), other)
        await other.until(Text)
        before = alive_with(tag)
        assert len(before) == 2
        await run(stub(), do("start", mode="stubborn"), READY, DONE, ear=ear, tag=tag)
        assert alive_with(tag) == before
        nursery.cancel_scope.cancel()


async def test_a_run_within_a_run_is_found_by_both(tag: str) -> None:
    """An agent that runs an agent hands its own marker on."""
    environ = {**stub()._environ, "PENSTOCK_RUN": "outer"}
    ear = Listener()
    await run(stub(environ=environ), do("env"), DONE, ear=ear, tag=tag)
    assert '"PENSTOCK_RUN": "outer:' in ear.texts[0]


@pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.01])
async def test_who_is_somebody_else_all_the_time_is_ended(wait_s: float, tag: str, tmp_path: Path) -> None:
    """Each lives for a moment, in a session of his own, and his parent has gone. Only the marker is kept."""
    mark = tmp_path / "mark"
    await run(
        stub(),
        do("start", mode="moving"),
        do("await_file", path=str(mark)),
        READY,
        DONE,
        tag=tag,
        variables={"MOVING": f"{mark}|{wait_s}"},
    )
    last = mark.read_text()
    for _ in range(20):
        await trio.sleep(0.01)
        assert alive_with(tag) == []
    assert mark.read_text() == last


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened by this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def a_child(tag: str, *steps: Mapping[str, object]) -> Child:
    """One that has done all its steps but the last."""
    child = await Child.start(
        [sys.executable, str(SCRIPT), "read", tag], env={}, cwd="", stop_signal="TERM", first_within_s=60.0
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.listen, 1_000_000)
        await child.write(msgspec.json.encode([*steps, READY, do("hang")]), lambda: None)
        said = b""
        while b"ready" not in said:
            said += await child.read()
        nursery.cancel_scope.cancel()
    return child


async def test_without_descriptors_a_program_is_ended(
    tag: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And its group; what left that cannot be looked for, and the log says so. Nothing is raised."""
    monkeypatch.setattr(child_module, "_LOOKS", 2)
    monkeypatch.setattr(child_module, "_ROUNDS", 2)
    child = await a_child(tag, do("start", mode="stubborn", session=False))
    caplog.set_level("WARNING", logger="penstock")
    with no_descriptors():
        await child.stop()
    assert (child.exit_code, child.was_stopped, alive_with(tag)) == (-15, True, [])
    told = [record.getMessage() for record in caplog.records]
    assert [("no file descriptors" in line, "looked for" in line) for line in told] == [(True, True), (False, True)]


async def test_descriptors_that_come_free_during_a_stop_are_enough(tag: str) -> None:
    """What left the group, and emptied its environment, is still found."""
    child = await a_child(tag, do("ignore", names=["TERM"]), do("start", mode="parent of emptied"))
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await child.stop()
            nursery.cancel_scope.cancel()

        with no_descriptors():
            nursery.start_soon(stop)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.1)
    assert child.exit_code == -9


async def test_what_could_not_be_ended_is_not_started(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first process cannot be looked at: it is ended at once, and the start may be tried again."""
    opened = trio.lowlevel.open_process
    limits = contextlib.ExitStack()

    async def open_process(*arguments: Any, **options: Any) -> trio.Process:
        process: trio.Process = await opened(*arguments, **options)
        limits.enter_context(no_descriptors())
        return process

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    with limits, pytest.raises(OSError) as raised:
        await Child.start(
            [sys.executable, str(SCRIPT), "silent", tag], env={}, cwd="", stop_signal="TERM", first_within_s=60.0
        )
    assert raised.value.errno == errno.EMFILE


async def no_grace(child: Child) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("chars", [1, 30_000], ids=["of lines", "of bytes"])
async def test_a_flood_after_the_last_word_has_an_end(chars: int, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no time in which anybody would wait for it: what is read of it is bounded."""
    monkeypatch.setattr(Child, "GRACE_S", 60.0)
    monkeypatch.setattr(Child, "LAST_BYTES", 1_000_000)
    monkeypatch.setattr(Child, "grace", no_grace)
    ear = Listener()
    answer = await run(stub(), READY, DONE, do("flood", chars=chars), ear=ear, tag=tag)
    assert answer.verdict == "done"
    assert len(ear.chunks) < (100 if chars > 1 else 2 * MOST_LATE_LINES)
