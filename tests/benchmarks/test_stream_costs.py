"""`streams`: which cases a question needs, the ideal, ratios within a round, and the server's schedule.

What the clients do is seen in `test_commands`, in real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from benchmarks import streams, streams_clients
from benchmarks.harness import Measured, Settings
from benchmarks.streams_server import Plan, Sent, Streaming, plan
from benchmarks.wire_server import Gate
from engine.providers.lookup import resolve
from engine.sse import EventReader
from engine.transports.http1 import ResponseReader

OPTIONS: Settings = {option.name.replace("-", "_"): option.default for option in streams.BENCHMARK.options}
TOLD: Settings = {"streams": 2, "events": 5, "interval": 0.5, "burst": 1, "size": 3, "gather": 0, "idle": 0}


def named(letters: str, **options: object) -> list[str]:
    """The cases of these letters."""
    return [case.name for case in streams.cases({**OPTIONS, **options, "cases": letters}, 1)]


# --- cases ---


def test_sides_of_a_ratio_stand_together_and_each_runs_once() -> None:
    """What two questions need is measured once."""
    one, many = "200 of 200, 1 every 10 ms", "200 of 200, 50 every 500 ms"
    assert named("a") == [f"engine: {one}, cold", f"aiohttp: {one}, cold"]
    assert named("b")[:2] == [f"engine: {one}", f"aiohttp: {one}"]
    assert named("b, C")[:3] == [f"engine: {one}", f"aiohttp: {one}", f"engine: {many}"]
    assert named("d") == ["engine: 1,000 idle", "aiohttp: 1,000 idle"]
    assert len(named("abcd")) == len(set(named("abcd"))) == 11
    assert named("d", gc=5_000)[0] == "engine: 1,000 idle, gc 5,000"


@pytest.mark.parametrize("letters", ["", "e", "ab!"])
def test_letters_that_mean_nothing_are_refused(letters: str) -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match=r"the cases are a b c d$"):
        named(letters)


@pytest.mark.parametrize("option", ["streams", "events", "burst", "idle", "size"])
def test_none_of_anything_is_refused(option: str) -> None:
    """Nothing could be divided by it."""
    with pytest.raises(ValueError, match=f"--{option} must be at least 1"):
        named("a", **{option: 0})


def test_connections_are_open_before_what_is_to_be_compared() -> None:
    """And not before what is counted from cold."""
    for case in streams.cases(OPTIONS, 1):
        situation = case.settings["situation"]
        assert case.settings["gather"] == (200 if situation in ("warm", "bursts") else 0)
        assert bool(case.settings["idle"]) == (situation == "idle")
        assert case.settings["burst"] == (50 if situation == "bursts" else 1)


@pytest.mark.parametrize(
    ("events", "burst", "expected_s"), [(200, 1, 1.99), (200, 50, 1.5), (101, 50, 1.0), (50, 50, 0.0), (1, 1, 0.0)]
)
def test_ideal_is_the_schedule_without_its_first_write(events: int, burst: int, expected_s: float) -> None:
    """A last burst that is not full is a write, too."""
    settings = {**TOLD, "events": events, "burst": burst, "interval": 0.01}
    assert streams.ideal_s(settings) == pytest.approx(expected_s)
    assert len(plan(settings).writes) == pytest.approx(1 + expected_s / (0.01 * burst))


# --- figures ---


def measured(
    client: str, situation: str, event_us: float, number: int = 1, *, wall_s: float = 1.0, held: float = 0.0
) -> Measured:
    """One round of a case."""
    late_s = {"median": 0.001, "99 of 100": 0.002, "longest": 0.003}
    side: Measured = {
        "client": client,
        "situation": situation,
        "round": number,
        "wall_s": wall_s,
        "ideal_s": 0.5,
        "bytes_per_stream": held,
    }
    times = {"event_s": event_us / 1e6, "system_s": event_us / 2e6, "pair_s": 5e-6}
    return {**side, **times, "server": {"late_s": late_s}}


def test_ratios_are_made_within_a_round() -> None:
    """A machine that was slower in one round was so for both sides."""
    rounds = {
        "ours": [measured("engine", "warm", one, n) for n, one in enumerate((20, 100, 30))],
        "theirs": [measured("aiohttp", "warm", one, n) for n, one in enumerate((100, 1_000, 60))],
        "bursts": [measured("engine", "bursts", one, n) for n, one in enumerate((10, 20, 15))],
    }
    first, second, *others = streams.figures(rounds)
    assert (first.case, first.name, first.goal) == ("ours", "processor time / aiohttp", "<= 1.1")
    # 20 / 100, 100 / 1000, 30 / 60; the ratio of the medians would be 0.3.
    assert [first.value, first.low, first.high, first.met] == [pytest.approx(one) for one in (0.2, 0.1, 0.5, True)]
    assert (second.name, second.goal, second.met) == ("processor time / ours", "<= 0.35", False)
    assert [second.value, second.low, second.high] == [pytest.approx(one) for one in (0.5, 0.2, 0.5)]
    cost = {(one.case, one.unit, one.name): one.value for one in others}
    assert cost["ours", "us", "an event"] == pytest.approx(30)
    assert cost["ours", "us", "of it in the system"] == pytest.approx(15)
    assert cost["theirs", "pairs", "an event"] == pytest.approx(20)
    assert cost["ours", "ms", "the server late, 99 of 100"] == pytest.approx(2)
    assert not [one for one in others if one.goal]


def test_rounds_of_which_a_side_never_came_through_are_left_out() -> None:
    """What is left is paired by its number, though as many are left of either; the table says how many."""
    ours = [measured("engine", "warm", 20, 1), measured("engine", "warm", 90, 2)]
    theirs = [measured("aiohttp", "warm", 30, 2), measured("aiohttp", "warm", 10, 3)]
    ratio, compared, *_ = streams.figures({"ours": ours, "theirs": theirs})
    assert (ratio.value, ratio.low, ratio.high, ratio.met) == (pytest.approx(3), 3, 3, False)
    assert (compared.name, compared.value, compared.met) == ("rounds compared with aiohttp", 1, True)


def test_no_round_to_compare_is_a_goal_missed() -> None:
    """Not a question that nobody asked."""
    rounds = {"ours": [measured("engine", "warm", 20, 1)], "theirs": [measured("aiohttp", "warm", 30, 2)]}
    goals = [one for one in streams.figures(rounds) if one.goal]
    assert [(one.name, one.value, one.met) for one in goals] == [("rounds compared with aiohttp", 0, False)]


def test_goals_of_wall_and_memory_are_the_engines() -> None:
    """The peer stands beside it, without."""
    rounds = {
        "ours, cold": [measured("engine", "cold", 20, wall_s=0.51)],
        "theirs, cold": [measured("aiohttp", "cold", 20, wall_s=0.75)],
        "ours, idle": [measured("engine", "idle", 20, held=40_000)],
        "theirs, idle": [measured("aiohttp", "idle", 20, held=9_000)],
    }
    found = {(one.case, one.name): (one.value, one.met) for one in streams.figures(rounds)}
    assert found["ours, cold", "wall / ideal"] == (pytest.approx(1.02), True)
    assert found["theirs, cold", "wall / ideal"] == (pytest.approx(1.5), None)
    assert found["ours, idle", "memory per stream"] == (40_000, False)
    assert found["theirs, idle", "memory per stream"] == (9_000, None)


def test_peer_that_is_not_installed_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cases say so, its ratios are left out, and the others stand."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    for client in (streams_clients.AIOHTTP, streams_clients.AIOHTTP_JSON):
        (case,) = [one for one in streams.cases({**OPTIONS, "cases": "b"}, 1) if one.settings["client"] == client]
        absent = streams.measure(case.settings)
        figures = streams.figures({"ours": [measured("engine", "warm", 20)], case.name: [absent]})
        assert [(one.case, one.value) for one in figures if one.name.startswith("streams read")] == [(case.name, 0)]
        assert not [one for one in figures if one.goal]
        assert [one.name for one in figures if one.unit == "pairs"] == ["an event"]


def after(late_s: float, characters: int, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """What is measured of 2 streams of 5 events with 3 characters each, after such a run."""

    @contextlib.contextmanager
    def server(module: str, settings: Settings, names: tuple[str, ...]) -> Any:
        counted: Measured = {}
        yield 1, 2, counted
        counted["late_s"] = {"99 of 100": late_s}

    took = streams_clients.Took(wall_s=3.0, used_s=0.5, system_s=0.1, grown_bytes=600, characters=characters)
    monkeypatch.setattr(streams, "server", server)
    monkeypatch.setattr(streams, "run", lambda *_: took)
    settings = {**TOLD, "client": "engine", "situation": "warm", "round": 1, "gc": 0, "interval": 0.01}
    return streams.measure(settings)


def test_each_event_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processor time; each stream of memory."""
    found = after(0.001, 30, monkeypatch)
    shares = [found[name] for name in ("event_s", "system_s", "bytes_per_stream")]
    assert shares == [pytest.approx(one) for one in (0.05, 0.01, 300)]
    assert found["disturbed"] == ""


def test_late_server_is_a_disturbance_and_lost_text_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late is more than half an interval."""
    assert "late by 6.0 ms" in after(0.006, 30, monkeypatch)["disturbed"]
    assert after(0.004, 30, monkeypatch)["disturbed"] == ""
    with pytest.raises(RuntimeError, match="read 29 characters, not those of 10 events"):
        after(0.001, 29, monkeypatch)


def test_memory_is_looked_at_once_all_streams_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first text of the last one; what is no text does not count."""
    monkeypatch.setattr(streams_clients, "resident_bytes", lambda: 1_000)
    monkeypatch.setattr(streams_clients, "held_bytes", lambda: 1_700)
    text = streams_clients.Text(2, look=True)
    say = text.say()
    for one, grown in (("one", 0), ("", 0), ("two", 700)):
        say(one)
        assert text.grown_bytes == grown
    assert text.characters() == 6


# --- the server ---


def events_of(data: bytes) -> list[bytes]:
    """The events in a response that must be whole."""
    reader = ResponseReader(cap_bytes=len(data))
    reader.feed(data)
    assert reader.clean
    assert reader.status == 200
    body = b"".join(reader.parts)
    return [event for event in EventReader(cap_bytes=len(body)).feed(body) if isinstance(event, bytes)]


@pytest.mark.parametrize("burst", [1, 2, 5])
def test_stream_is_a_whole_response_of_its_events(burst: int) -> None:
    """So many deltas with such a text, the usage and the terminator; a chunk of HTTP's for each write."""
    planned = plan({**TOLD, "burst": burst})
    *deltas, stop, usage, done = events_of(b"".join(planned.writes))
    assert [json.loads(one)["choices"][0]["delta"]["content"] for one in deltas] == ["xxx"] * 5
    assert json.loads(stop)["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage)["usage"]["total_tokens"] == 203
    assert done == b"[DONE]"
    assert [write.count(b'"content"') for write in planned.writes] == {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[burst]
    assert planned.every_s == 0.5 * burst
    answer: Any = resolve("openai", "chat", "http://x/v1").format.decode(b"data: %b\n\n" % deltas[0])
    assert answer["choices"][0]["message"]["content"] == "xxx"


def test_idle_stream_says_one_event_and_its_end() -> None:
    """In two writes that make up a whole response; one without events is whole as well."""
    planned = plan({**TOLD, "idle": 1.0})
    assert len(planned.writes) == 2
    assert len(events_of(b"".join(planned.writes))) == 4
    assert len(events_of(planned.empty)) == 3


class Wire:
    """What a server writes to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


class Loop:
    """Time that passes only when it is told to, and calls nobody by itself."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, step: Callable[[], None]) -> None:
        self.planned.append((at_s, step))

    def call_later(self, after_s: float, step: Callable[[], None]) -> None:
        self.call_at(self.now_s + after_s, step)


WRITES = [b"first", b"second", b"third"]
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"


class Bench:
    """A server's connections over nothing."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop, self.sent = Loop(), Sent()
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self.loop)
        self._settings = settings
        self._gates = Gate(settings["gather"], print), Gate(settings["streams"], lambda _: None)

    def connect(self) -> tuple[Streaming, Wire]:
        """One more connection."""
        writes = WRITES[:2] if self._settings["idle"] else WRITES
        one, wire = Streaming(Plan(writes, 0.5, b"empty"), self._settings, self.sent, *self._gates), Wire()
        one.connection_made(cast("Any", wire))
        return one, wire


def test_schedule_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was late is counted, and moves none that follows."""
    bench = Bench(TOLD, monkeypatch)
    one, wire = bench.connect()
    one.data_received(REQUEST)
    assert wire.written == [b"first"]
    for late_s, due_s in ((0.3, 100.5), (0.1, 101.0)):
        ((at_s, step),) = bench.loop.planned
        assert at_s == pytest.approx(due_s)
        bench.loop.planned.clear()
        bench.loop.now_s = due_s + late_s
        step()
    assert wire.written == WRITES
    assert bench.loop.planned == []
    assert list(bench.sent.late_s) == [pytest.approx(0.3), pytest.approx(0.1)]
    one.data_received(REQUEST)
    assert wire.written[-1] == b"first"
    assert bench.loop.planned[0][0] == pytest.approx(101.1 + 0.5)


def test_first_requests_open_connections_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get empty streams once all are there; those after them get events."""
    bench = Bench({**TOLD, "gather": 2}, monkeypatch)
    (one, wire), (other, beside) = bench.connect(), bench.connect()
    one.data_received(REQUEST)
    assert wire.written == []
    other.data_received(REQUEST)
    assert wire.written == beside.written == [b"empty"]
    assert bench.loop.planned == []
    one.data_received(REQUEST)
    assert wire.written == [b"empty", b"first"]
    assert (bench.sent.requests, bench.sent.connections) == (3, 2)


def test_idle_streams_end_a_while_after_all_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written to who has left."""
    bench = Bench({**TOLD, "idle": 4.0}, monkeypatch)
    (one, wire), (other, beside) = bench.connect(), bench.connect()
    one.data_received(REQUEST)
    assert (wire.written, bench.loop.planned) == ([b"first"], [])
    bench.loop.now_s = 103.0
    other.data_received(REQUEST)
    assert [at_s for at_s, _ in bench.loop.planned] == [107.0, 107.0]
    beside.closing = True
    for _, step in bench.loop.planned:
        step()
    assert (wire.written, beside.written) == (WRITES[:2], [b"first"])
