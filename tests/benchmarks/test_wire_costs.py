"""`wire`: which cases a question needs, ratios within a round, a peer that is missing, and the server's small HTTP.

What the clients do is seen in `test_commands`, in real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import sys
from typing import Any, cast

import pytest

from benchmarks import wire, wire_clients
from benchmarks.harness import Measured, Settings
from benchmarks.wire_server import Answering, Counted, Gate, response

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
    crowd = "10,000 of 1 s, warm"
    assert named("g") == [f"engine: {crowd}, gc 100,000", f"engine: {crowd}", f"aiohttp: {crowd}"]
    assert len(named("abcdefg")) == len(set(named("abcdefg"))) == 14


def test_tuning_stands_in_the_name_of_what_is_tuned() -> None:
    """A number for the collector holds for all cases but the one of the crowd that is there to be compared."""
    options = {**OPTIONS, "cases": "dg", "gc": 5_000}
    found = {case.name: case.settings["gc"] for case in wire.cases(options, 1)}
    assert found == {
        "engine: 64, gc 5,000": 5_000,
        "aiohttp: 64, gc 5,000": 5_000,
        "engine: 10,000 of 1 s, warm, gc 5,000": 5_000,
        "engine: 10,000 of 1 s, warm": 0,
        "aiohttp: 10,000 of 1 s, warm": 0,
    }


def test_crowd_comes_twice_after_all_of_it_is_there() -> None:
    """By what the client and the server are told; the other cases gather nothing."""
    for case in wire.cases(OPTIONS, 1):
        warm = case.settings["situation"] in ("warm", "tuned")
        told = [case.settings[name] for name in ("gather", "then", "stretches")]
        expected = [0, 0, 0 if case.settings["situation"] == "cold" else 5]
        assert told == ([10_000, 20_000, 0] if warm else expected)


@pytest.mark.parametrize("letters", ["", "h", "ab!"])
def test_letters_that_mean_nothing_are_refused(letters: str) -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match="the cases are a b c d e f g"):
        named(letters)


def measured(
    client: str, situation: str, *calls_us: float, wall_s: float = 1.0, bytes_per_call: float = 0.0
) -> Measured:
    """One round of a case, with these stretches."""
    calls_s = [call_us / 1e6 for call_us in calls_us]
    side = {"client": client, "situation": situation, "in_flight": 64, "wall_s": wall_s, "ideal_s": 2.0}
    return {**side, "call_s": calls_s, "system_s": calls_s, "pair_s": 5e-6, "bytes_per_call": bytes_per_call}


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
            "engine, cold": [measured("engine", "cold", wall_s=2.5)],
            "aiohttp, cold": [measured("aiohttp", "cold", wall_s=9.0)],
        }
    )
    found = {(one.case, one.name): (one.value, one.met) for one in figures}
    assert found["engine: 2,000", "processor time / engine: 64"] == (pytest.approx(4), False)
    assert found["engine, cold", "wall / ideal"] == (1.25, True)
    assert found["aiohttp, cold", "wall"] == (9.0, None)


@pytest.mark.parametrize(("situation", "wall_s", "ideal_s"), [("cold", 7.0, 1.0), ("warm", 3.0, 2.0)])
def test_opening_counts_where_it_is_cold_and_not_where_it_is_warm(
    situation: str, wall_s: float, ideal_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening took 7 s, the calls after it 3; memory is each connection's share."""
    ran = wire_clients.Took(opened_s=7.0, rest_s=3.0, grown_bytes=50_000)
    monkeypatch.setattr(wire, "run", lambda *_: ran)
    monkeypatch.setattr(wire, "server", lambda *told: contextlib.nullcontext((1, 2, {})))
    options = {**OPTIONS, "cases": "fg", "most": 50, "crowd": 50}
    settings = [case.settings for case in wire.cases(options, 1)]
    (chosen,) = [one for one in settings if (one["client"], one["situation"]) == ("engine", situation)]
    found = wire.measure(chosen)
    assert (found["wall_s"], found["ideal_s"], found["bytes_per_call"]) == (wall_s, ideal_s, 1_000)


def test_goals_of_the_crowd_are_those_of_the_tuned_process() -> None:
    """The others stand beside it, without."""
    figures = wire.figures(
        {
            "tuned": [measured("engine", "tuned", 120, wall_s=3.0, bytes_per_call=30_000)],
            "default": [measured("engine", "warm", 240, wall_s=5.0, bytes_per_call=12_000)],
            "peer": [measured("aiohttp", "warm", 360, wall_s=8.0, bytes_per_call=16_000)],
        }
    )
    found = {(one.case, one.name): (one.value, one.met) for one in figures if one.unit not in ("us", "pairs")}
    assert found == {
        ("tuned", "wall / ideal"): (1.5, True),
        ("tuned", "memory per call in flight"): (30_000, False),
        ("tuned", "wall"): (3.0, None),
        ("default", "wall / ideal"): (2.5, None),
        ("default", "memory per call in flight"): (12_000, None),
        ("default", "wall"): (5.0, None),
        ("peer", "wall / ideal"): (4.0, None),
        ("peer", "memory per call in flight"): (16_000, None),
        ("peer", "wall"): (8.0, None),
    }
    assert len([one for one in figures if one.unit == "pairs"]) == 3


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


def test_without_stretches_every_call_counts() -> None:
    """From the beginning, in one stretch; and where nothing comes after the first calls, in none."""
    calls = wire_clients.Calls({"calls": 5, "in_flight": 4, "stretches": 0, "then": 8})
    calls.begin()
    numbers = list(calls.numbers)
    for _ in numbers:
        calls.ended()
    assert (len(numbers), [len(one) for one in calls.each_s()]) == (8, [1, 1])
    none = wire_clients.Calls({"calls": 5, "in_flight": 4, "stretches": 0, "then": 0})
    none.begin()
    assert (list(none.numbers), none.each_s()) == ([], ([], []))


def test_gate_holds_answers_until_all_are_there_and_none_afterwards() -> None:
    """It says so once, before the first of them."""
    happened: list[object] = []
    gate = Gate(3, happened.append)
    for number in range(1, 3):
        gate.come(functools.partial(happened.append, number))
    assert happened == []
    for number in range(3, 6):
        gate.come(functools.partial(happened.append, number))
    assert happened == ["all", 1, 2, 3, 4, 5]
    open_ = Gate(0, happened.append)
    open_.come(functools.partial(happened.append, 6))
    assert happened[-1] == 6
    assert happened.count("all") == 1


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
        server = Answering(b"answer", None, (0.0, 0.0), seen, Gate(0, print))
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
        server = Answering(b"answer", random.Random(1), (0.25, 0.75), seen, Gate(0, print))
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
