"""A last word that is taken back: a further turn begins, or a request is tried again."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from stub_program import Listener, alive_with, cancelled_at, do, run, say, stub

from engine.agents.chunks import Notice, Result, ToolResult
from engine.transports.child import Child

DONE = say(done="done")
READY = say(text="ready")
AGAIN = say(again=1)
SECOND = say(tool="second turn")


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


class LookedAround:
    """Files that are there from the moment on in which a run's first last word was heeded, and the one after that."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first, self.second = (directory / name for name in ("first", "second"))
        look_around = Child.look_around

        async def look(child: Child) -> None:
            await look_around(child)
            (self.second if self.first.exists() else self.first).touch()

        monkeypatch.setattr(Child, "look_around", look)


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "one after the other"])
async def test_a_second_turn_after_the_last_word_has_its_time(
    together: bool, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the pipe was cut: it is not stopped in it, and the grace begins anew with its end."""
    looked = LookedAround(tmp_path, monkeypatch)
    ear, later = Listener(), tmp_path / "later"

    async def wait_longer_than_the_grace() -> None:
        await ear.until(ToolResult)
        await trio.sleep(3 * Child.GRACE_S)
        later.touch()

    if together:
        first = [do("write", text='{"done": "one"}\n{"again": 1}\n{"tool": "second turn"}\n')]
    else:
        first = [say(done="one"), do("await_file", path=str(looked.first)), AGAIN, SECOND]
    rest = [do("await_file", path=str(later)), say(text="two"), say(done="two"), do("hang")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_longer_than_the_grace)
        answer = await run(stub(), READY, *first, *rest, ear=ear, tag=tag)
    assert (answer.verdict, ear.texts) == ("done", ["ready", "two"])
    *_, notice, result = ear.chunks
    assert isinstance(notice, Notice)
    assert "was stopped" in notice.text
    assert isinstance(result, Result)
    assert result.text == "two"


async def test_a_last_word_that_is_taken_back_and_said_again_in_one_piece(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grace is that of the last one."""
    looked = LookedAround(tmp_path, monkeypatch)
    ends: list[float] = []
    expect_end = Child.expect_end

    def expect(child: Child, within_s: float, *more: float) -> None:
        expect_end(child, within_s, *more)
        ends.append(child._left_s)

    monkeypatch.setattr(Child, "GRACE_S", 30.0)
    monkeypatch.setattr(Child, "expect_end", expect)
    both = do("write", text='{"again": 1}\n{"done": "two"}\n')
    first, second = (do("await_file", path=str(path)) for path in (looked.first, looked.second))
    await run(stub(), READY, DONE, first, both, second, tag=tag)
    assert ends[:2] == [30.0, 30.0]


async def test_cancelled_in_a_second_turn(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut short, as the first one would be."""
    looked = LookedAround(tmp_path, monkeypatch)
    monkeypatch.setattr(Child, "GRACE_S", 30.0)
    ear = Listener()
    steps = [READY, DONE, do("await_file", path=str(looked.first)), AGAIN, SECOND, do("hang")]
    assert await cancelled_at(stub(), *steps, ear=ear, when=lambda: ear.until(ToolResult), tag=tag)


async def test_a_flood_of_another_turn_is_read(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last word is taken back."""
    monkeypatch.setattr(Child, "LAST_BYTES", 50_000)
    looked = LookedAround(tmp_path, monkeypatch)
    steps = [READY, DONE, do("await_file", path=str(looked.first)), AGAIN, do("many", count=15_000, chars=100), DONE]
    ear = Listener()
    assert (await run(stub(), *steps, ear=ear, tag=tag)).verdict == "done"
    assert len(ear.texts) == 15_001
