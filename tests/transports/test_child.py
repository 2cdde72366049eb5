"""The process itself: whom its signals reach, and when it is silent. The rest is tested with the runs."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from stub_program import SCRIPT, alive_with, do, run, say, stub

from engine.transports import child as child_module
from engine.transports.child import Child
from engine.transports.sweep import is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="processes are found in /proc, and there is none here")

DONE = say(done="done")
READY = say(text="ready")


@pytest.fixture(autouse=True)
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Whatever a test did: no process of its runs is left, and no private directory. Grace is short."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Child, "GRACE_S", 0.3)
    monkeypatch.setattr(Child, "ORPHANS_S", 0.3)
    name = f"tag-{secrets.token_hex(8)}"
    yield name
    assert alive_with(name) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("penstock-")] == []


@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "no pidfd"])
async def test_no_signal_goes_to_a_number_that_is_free(pidfd: bool, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its group is ended only as long as its number is taken."""
    signalled: list[bool] = []
    killpg = os.killpg

    def tell(number: int, sent: int) -> None:
        signalled.append(Path(f"/proc/{number}").exists())
        killpg(number, sent)

    monkeypatch.setattr(os, "killpg", tell)
    if not pidfd:
        monkeypatch.setattr(child_module, "_pidfd", lambda pid: None)
    await run(stub(), READY, DONE, do("exit", code=0), tag=tag)
    assert signalled == ([True] if pidfd else [])
    await run(stub(), do("ignore", names=["TERM"]), READY, DONE, do("hang"), tag=tag)
    assert signalled[-1:] == [True]


async def test_what_comes_as_its_time_is_up_came_in_time(tag: str) -> None:
    """A first line in the very moment in which nobody would wait for it any longer."""
    arguments = [sys.executable, str(SCRIPT), "silent", tag]
    child = await Child.start(arguments, env={}, cwd="", stop_signal="TERM", first_within_s=60.0)
    try:
        async with trio.open_nursery() as nursery:

            async def arrive() -> None:
                await trio.testing.wait_all_tasks_blocked()
                child._waiting.cancel()
                child._ahead.append(b"x")
                child._ahead_bytes += 1

            nursery.start_soon(arrive)
            assert await child.read() == b"x"
            assert not child.silent
    finally:
        await child.stop()
