"""What surrounds a chat of AG2, as far as it needs none; see `tests/agents/test_ag2_real.py` for chats."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from engine.providers.wire import decode_json
from engine.secret import Secret
from engine.transports.ag2 import _encoded
from engine.transports.ag2_logs import mask_logs

CYCLE: dict[str, Any] = {"type": "ToolResultEvent", "agent": "ann"}
CYCLE["output"] = {"itself": CYCLE, "more": [1]}
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


class Unshowable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


HARD: dict[str, Any] = {
    "a cycle": CYCLE["output"],
    "too deep": DEEP,
    "half a character": "\ud83d",
    "a key that is none": {(1, 2): 3},
    "an object": object(),
    "one that cannot be shown": Unshowable(),
    "one of those in a cycle": [CYCLE, Unshowable()],
}


@pytest.mark.parametrize("output", HARD.values(), ids=HARD)
def test_an_event_that_is_hard_to_write(output: object) -> None:
    """It is told; what it is and whose is not lost."""
    found = decode_json(_encoded({"type": "ToolResultEvent", "agent": "ann", "count": 3, "output": output}))
    assert (found["type"], found["agent"], found["count"]) == ("ToolResultEvent", "ann", 3)


def test_nothing_is_logged_until_logging_is_set_up(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not by a logger that is made later on; to whoever has set it up all comes, without a key."""
    key = Secret("ours.Zq81.never-to-be-seen")
    early, late = logging.getLogger("ag2.network.one"), "openai.late.one"
    monkeypatch.setattr(logging.root, "handlers", [])
    for _ in range(2):
        mask_logs()
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[method-assign]
    for name in (early.name, late):
        logging.getLogger(name).error("a turn failed: %s", key.reveal())
    assert capfd.readouterr() == ("", "")
    logging.root.addHandler(handler)
    early.error("a turn failed: %s", key.reveal())
    logging.getLogger("of.others").error("still said")
    assert [record.getMessage() for record in heard] == ["a turn failed: [key removed]", "still said"]
