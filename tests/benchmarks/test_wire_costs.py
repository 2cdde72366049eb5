"""`wire`: which cases a question needs, ratios within a round, a peer that is missing, and the server's small HTTP.

What the clients do is seen in `test_commands`, in real processes.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any, cast

import pytest

from benchmarks import wire, wire_clients
from benchmarks.harness import Measured, Settings
from benchmarks.wire_server import Answering, Counted, response

OPTIONS: Settings = {option.name.replace("-", "_"): option.default for option in wire.BENCHMARK.options}


def named(letters: str) -> list[str]:
    """The cases of these letters."""
    return [case.name for case in wire.cases({**OPTIONS, "cases": letters}, 1)]


def test_sides_of_a_ratio_stand_together_and_each_runs_once() -> None:
    """What two questions need is measured once."""
    assert named("a") == ["transport: 64", "aiohttp: 64", "bare sockets: 64"]
    assert named("b") == ["transport: 1,000 of 250-750 ms", "aiohttp: 1,000 of 250-750 ms"]
    assert named("d,e") == ["engine: 64", "aiohttp: 64", "engine: 2,000 of 250-750 ms"]
    assert named("f") == ["engine: 2,000 of 1 s, cold", "aiohttp: 2,000 of 1 s, cold"]
    assert len(named("abcdef")) == len(set(named("abcdef"))) == 11


@pytest.mark.parametrize("letters", ["", "g", "ab!"])
def test_letters_that_mean_nothing_are_refused(letters: str) -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match="the cases are a b c d e f"):
        named(letters)


def measured(client: str, situation: str, *calls_us: float, opened_s: float = 1.0) -> Measured:
    """One round of a case, with these stretches."""
    calls_s = [call_us / 1e6 for call_us in calls_us]
    side = {"client": client, "situation": situation, "in_flight": 64, "high": 2.0}
    return {**side, "call_s": calls_s, "system_s": calls_s, "pair_s": 5e-6, "opened_s": opened_s}


def test_ratios_are_made_within_a_round() -> None:
    """A machine that was slower in one round was so for both sides."""
    ours, theirs = ((10, 20, 900), (100,), (30,)), ((100,), (1000, 1, 9999), (60,))
    rounds = {
        "ours": [measured("transport", "now", *stretches) for stretches in ours],
        "theirs": [measured("aiohttp", "now", *stretches) for stretches in theirs],
    }
    first, *others = wire.figures(rounds)
    assert (first.case, first.name, first.goal) == ("ours", "processor time / aiohttp", "<= 0.45")
    # 20 / 100, 100 / 1000, 30 / 60: of each round's median stretches. The ratio of the medians would be 0.3.
    assert [first.value, first.low, first.high, first.met] == [pytest.approx(one) for one in (0.2, 0.1, 0.5, True)]
    cost = {(one.case, one.unit, one.name): one.value for one in others}
    assert cost["ours", "us", "a call"] == pytest.approx(30)
    assert cost["theirs", "pairs", "a call"] == pytest.approx(20)


def test_other_situation_of_the_same_client_is_named_in_full() -> None:
    """The engine against itself, and a cold start against the ideal, which is one call's time."""
    figures = wire.figures(
        {
            "engine: 64": [measured("engine", "now", 50)],
            "engine: 2,000": [measured("engine", "wide", 200)],
            "engine, cold": [measured("engine", "cold", opened_s=2.5)],
            "aiohttp, cold": [measured("aiohttp", "cold", opened_s=9.0)],
        }
    )
    found = {(one.case, one.name): (one.value, one.met) for one in figures}
    assert found["engine: 2,000", "processor time / engine: 64"] == (pytest.approx(4), False)
    assert found["engine, cold", "wall / ideal"] == (1.25, True)
    assert found["aiohttp, cold", "wall"] == (9.0, None)


def test_peer_that_is_not_installed_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cases say so, its ratios are left out, and the others stand."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    (case,) = [case for case in wire.cases({**OPTIONS, "cases": "a"}, 1) if case.settings["client"] == "aiohttp"]
    absent = wire.measure(case.settings)
    figures = wire.figures({"transport: 64": [measured("transport", "now", 20)], case.name: [absent]})
    assert [(one.case, one.value) for one in figures if one.name.startswith("calls made")] == [("aiohttp: 64", 0)]
    assert "aiohttp is not installed" in figures[-1].name
    assert not [one for one in figures if one.goal]
    assert [one.unit for one in figures if one.case == "transport: 64"] == ["us", "us", "pairs"]


def test_first_stretch_is_not_counted_and_all_are_in_flight_at_the_end() -> None:
    """A stretch has two calls for each in flight at least."""
    calls = wire_clients.Calls({"calls": 5, "in_flight": 4, "stretches": 3})
    numbers = list(calls.numbers)
    assert (calls.stretch, len(numbers)) == (8, 4 * 8 + 4)
    for _ in numbers:
        calls.ended()
    assert [len(one) for one in calls.each_s()] == [3, 3]


class Wire:
    """What a server writes to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing


REQUEST = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12\r\n\rGET / HTTP/1.1\r\nx: content-length: 9\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(REQUEST)])
def test_server_answers_each_request_once_however_it_arrives(size: int) -> None:
    """In pieces of any size, and not before all of it is there."""

    async def served() -> list[int]:
        seen, wire_ = Counted(), Wire()
        server = Answering(b"answer", None, (0.0, 0.0), seen)
        server.connection_made(cast("Any", wire_))
        answered = []
        for start in range(0, len(REQUEST), size):
            server.data_received(REQUEST[start : start + size])
            answered.append(len(wire_.written))
        server.connection_lost(None)
        assert (seen.requests, seen.most_open, seen.open) == (2, 1, 0)
        return answered

    answered = asyncio.run(served())
    assert answered[-1] == 2
    if size == 1:
        first = REQUEST.index(b"GET") - 1
        assert answered[first - 1 : first + 1] == [0, 1]
        assert answered[-2:] == [1, 2]


def test_server_answers_late_and_not_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the seconds that were drawn; whoever has gone by then is left alone."""

    async def served() -> None:
        seen, wire_, planned = Counted(), Wire(), []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *what: planned.append(what))
        server = Answering(b"answer", random.Random(1), (0.25, 0.75), seen)
        server.connection_made(cast("Any", wire_))
        server.data_received(REQUEST)
        assert all(0.25 <= delay_s <= 0.75 for delay_s, _ in planned)
        assert (wire_.written, seen.waiting) == ([], 2)
        (_, one), (_, other) = planned
        one()
        wire_.closing = True
        other()
        assert (wire_.written, seen.waiting, seen.most_waiting) == ([b"answer"], 0, 2)

    asyncio.run(served())


def test_answer_is_a_response_of_its_size() -> None:
    """Head and body agree."""
    head, _, body = response(600).partition(b"\r\n\r\n")
    assert len(body) == 600
    assert b"\r\nContent-Length: 600" in head
