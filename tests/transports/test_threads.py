"""Short work in a thread of its own, and where there is none to spare."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from engine.transports.threads import in_thread


def no_thread(*arguments: Any, **options: Any) -> None:
    raise RuntimeError("can't start new thread")


async def test_it_is_done_elsewhere() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


async def test_it_is_done_here_where_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio.to_thread.run_sync", no_thread)
    assert await in_thread(threading.get_ident) == threading.get_ident()


async def test_work_that_fails_is_done_once() -> None:
    done: list[str] = []

    def fail(what: str) -> None:
        done.append(what)
        raise RecursionError(what)

    with pytest.raises(RecursionError):
        await in_thread(fail, "once")
    assert done == ["once"]
