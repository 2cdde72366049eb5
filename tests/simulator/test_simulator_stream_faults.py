"""Every fault of a stream as a client sees it on a real socket, each once, what it is charged, and how it is logged."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from simulator_client import Streamed, connect, until, with_simulator
from trio.testing import MockClock

from engine.simulator import (
    STREAM_FAULTS,
    ConstantLatency,
    FaultRates,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
    StreamShape,
)
from engine.simulator.chunks import COMMENT, ERROR, GARBAGE

AT = 3
LIMIT = ProviderLimit("total_tokens", 1_000, 3600.0, charge="usage")


def faulty(fault: str, **more: object) -> SimulatorConfig:
    """A provider all of whose streams fail before event 3; a drawn output, so that a settlement would show."""
    options = {"stream_at": AT, "stall_s": 1.0, "comment_s": 0.3, fault: 1.0, **more}
    shape = StreamShape(interval=ConstantLatency(0.01), deltas=4)
    return SimulatorConfig(faults=FaultRates(**options), limits=(LIMIT,), output="drawn", seed=1, stream=shape)  # type: ignore[arg-type]


def apart(answer: Streamed, left: bytes, right: bytes) -> bool:
    """Whether what ends with `left` came in another `recv` than `right`, which follows."""
    place = [write.endswith(left) for write in answer.writes].index(True)
    first, second = answer.writes[place : place + 2]
    together = b"".join(b"%x\r\n%b\r\n" % (len(write), write) for write in (first, second))
    return second.startswith(right) and not any(together in read for read in answer.reads)


def reads_crlf(answer: Streamed) -> bool:
    return b"\n" not in answer.body.replace(b"\r\n", b"") and apart(answer, b"}\r", b"\n\r\n")


SEEN: dict[str, tuple[str, str, int, Callable[[Streamed], object]]] = {
    # fault: how the client sees the end, how it is logged, whole events, and what else is to be seen
    "stream_cut": ("cut", "cut", AT, lambda answer: answer.body.endswith(b"\n\n")),
    "stream_reset": ("reset", "reset", AT, lambda answer: answer.body.endswith(b"\n\n")),
    "stream_error": ("done", "error", AT, lambda answer: answer.writes[AT:] == [ERROR]),
    "stream_stall": ("reset", "reset", AT, lambda answer: len(answer.writes) == AT),
    "stream_keep_alive": ("reset", "reset", AT, lambda answer: answer.writes[AT:] == [COMMENT] * 3),
    "stream_garbage": ("done", "done", 8, lambda answer: answer.writes[AT] == GARBAGE),
    "stream_comments": ("done", "done", 8, lambda answer: answer.writes[::2] == [COMMENT] * 8),
    "stream_split": (
        "done",
        "done",
        11,
        lambda answer: apart(answer, b'":"\xe2', b"\x98") and apart(answer, rb"\ud", b"83d"),
    ),
    "stream_crlf": ("done", "done", 8, reads_crlf),
    "stream_no_done": ("done", "done", 7, lambda answer: answer.events[-1]["usage"]),
    "truncated": (
        "cut",
        "cut",
        AT,
        lambda answer: answer.writes[AT].startswith(b"data: {") and len(answer.writes) == 4,
    ),
    "malformed_json": ("done", "done", 8, lambda answer: not is_json(answer.writes[AT][6:])),
    "null_usage": (
        "done",
        "done",
        7,
        lambda answer: all(event == "[DONE]" or event["choices"] for event in answer.events),
    ),
    "wrong_types": ("done", "done", 8, lambda answer: isinstance(answer.events[-2]["usage"]["prompt_tokens"], str)),
}
TELLS_NO_USAGE = {fault for fault, (_, ending, *_) in SEEN.items() if ending != "done"} | {"null_usage"}
IN_ONE_PIECE = {
    "server_error": 500,
    "unavailable": 503,
    "bare_error": 500,
    "html": 200,
    "empty": 200,
    "rate_limited": 429,
}


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_every_fault_of_streams_is_in_the_table() -> None:
    assert set(SEEN) >= STREAM_FAULTS


@pytest.mark.parametrize("fault", SEEN)
async def test_a_stream_with_a_fault(fault: str, autojump_clock: MockClock) -> None:
    seen, ending, events, telling = SEEN[fault]

    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.streamed("one", max_tokens=400, stream_options={"include_usage": True})
        assert (answer.status, answer.end) == (200, seen)
        assert telling(answer)
        [arrival], [end] = simulator.log(), simulator.ends()
        assert (arrival.fault, arrival.status, arrival.accepted) == (fault, 200, True)
        assert (end.call, end.attempt, end.fault, end.ending, end.events) == ("one", 1, fault, ending, events)
        assert (end.events == end.planned) == (ending == "done")
        # Only a usage that its client could read gives anything back.
        assert (arrival.output_tokens < 400) == (fault not in TELLS_NO_USAGE)
        async with connect(simulator.port) as client:
            charged = (await client.chat("one", stream=False, max_tokens=1)).headers["x-ratelimit-remaining-tokens"]
        assert int(charged) == 1_000 - 6 - arrival.output_tokens - 7
        statistics = simulator.statistics()
        assert statistics.faults[fault] >= 1
        assert statistics.streams.ended == {ending: 1}
        assert statistics.in_flight == 0
        await until(lambda: simulator.statistics().connections == 0)

    await with_simulator(faulty(fault, only_first_attempts=1), body)


@pytest.mark.parametrize("fault", IN_ONE_PIECE)
async def test_a_fault_before_a_stream_has_begun(fault: str, autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat("one", stream=True)
        assert (answer.status, answer.cut) == (IN_ONE_PIECE[fault], False)
        assert "transfer-encoding" not in answer.headers
        assert (simulator.log()[0].fault, simulator.ends(), simulator.statistics().in_flight) == (fault, [], 0)

    await with_simulator(faulty(fault), body)


@pytest.mark.parametrize("fault", ["stream_stall", "stream_keep_alive"])
async def test_a_stalled_stream_ends_when_its_client_leaves(fault: str, autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.ask()
            received = b""
            while received.count(b"\n\n") < (AT if fault == "stream_stall" else AT + 2):
                received += await client.stream.receive_some()
            assert simulator.statistics().in_flight == 1
        await until(lambda: simulator.statistics().in_flight == 0)
        [end] = simulator.ends()
        assert (end.ending, end.events, end.fault) == ("left", AT, fault)

    await with_simulator(faulty(fault, stall_s=600.0), body)


async def test_two_runs_fail_at_the_same_events(autojump_clock: MockClock) -> None:
    runs: list[list[tuple[str, int, str]]] = []

    async def body(simulator: Simulator) -> None:
        for place in range(12):
            async with connect(simulator.port) as client:
                await client.streamed(f"call-{place}")
        runs.append([(end.call, end.events, end.fault) for end in simulator.ends()])

    for seed in (1, 1, 2):
        rates = FaultRates(stream_cut=0.5, stream_error=0.5)
        await with_simulator(SimulatorConfig(seed=seed, faults=rates), body)
    assert runs[0] == runs[1] != runs[2]
    assert len({events for _, events, _ in runs[0]}) > 4
    assert {fault for _, _, fault in runs[0]} == {"stream_cut", "stream_error"}
