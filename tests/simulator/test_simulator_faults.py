"""Every fault as a client sees it on a real socket, what it is charged, and that two runs have the same ones."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from random import Random

import pytest
import trio
from simulator_client import connect, until, with_simulator

from engine.simulator import (
    FAULTS,
    STREAM_FAULTS,
    ConstantLatency,
    FaultRates,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
)

LIMIT = ProviderLimit("total_tokens", 1_000, 3600.0, charge="usage")


def always(fault: str, **more: object) -> SimulatorConfig:
    """A provider that fails every attempt the same way; a drawn output, so that a settlement would show."""
    return SimulatorConfig(faults=FaultRates(**{fault: 1.0}, **more), limits=(LIMIT,), output="drawn", seed=1)


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


ANSWERS = {
    "rate_limited": lambda answer: answer.status == 429 and answer.json()["error"]["code"] == "rate_limit_exceeded",
    "server_error": lambda answer: answer.status == 500 and answer.json()["error"]["type"] == "server_error",
    "unavailable": lambda answer: answer.status == 503 and answer.json()["error"]["code"] == "server_is_overloaded",
    "bare_error": lambda answer: answer.status == 500 and isinstance(answer.json()["error"], str),
    "malformed_json": lambda answer: answer.status == 200 and answer.body and not is_json(answer.body),
    "html": lambda answer: answer.status == 200 and answer.headers["content-type"].startswith("text/html"),
    "empty": lambda answer: (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0"),
    "truncated": lambda answer: answer.cut and answer.body and int(answer.headers["content-length"]) > len(answer.body),
    "wrong_types": lambda answer: isinstance(answer.json()["usage"]["prompt_tokens"], str),
    "null_usage": lambda answer: answer.json()["usage"] is None and answer.json()["choices"],
    "error_in_200": lambda answer: (answer.status, list(answer.json())) == (200, ["error"]),
}
DROPPED = ("reset_before", "reset_after", "stall")


def test_every_fault_is_in_a_table() -> None:
    assert {*ANSWERS, *DROPPED, *STREAM_FAULTS} == set(FAULTS)


@pytest.mark.parametrize("fault", sorted(STREAM_FAULTS))
async def test_an_answer_in_one_piece_is_spared_the_faults_of_streams(fault: str) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert (await client.chat("one", max_tokens=100)).json()["usage"]
        assert simulator.log()[0].fault == ""
        assert simulator.statistics().faults == {}

    await with_simulator(always(fault), body)


@pytest.mark.parametrize("fault", ANSWERS)
async def test_a_fault_that_answers(fault: str) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat("one", max_tokens=100)
            assert ANSWERS[fault](answer)
            assert answer.cut == (fault == "truncated")
            if fault != "truncated":
                again = await client.chat("one", max_tokens=100)
                assert again.headers["x-request-id"] != answer.headers["x-request-id"]
                spent = 0 if fault == "rate_limited" else 2 * (6 + 100)
                if fault == "wrong_types":
                    spent -= 100 - simulator.log()[0].output_tokens
                assert again.headers["x-ratelimit-remaining-tokens"] == str(1_000 - spent)
        first = simulator.log()[0]
        accepted = fault != "rate_limited"
        assert (first.fault, first.status, first.accepted) == (fault, answer.status, accepted)
        # Only a usage that a client could read gives anything back.
        assert first.output_cap == (100 if accepted else 0)
        assert (first.output_tokens < first.output_cap) == (fault == "wrong_types")
        assert simulator.statistics().faults[fault] == len(simulator.log())
        assert simulator.statistics().in_flight == 0

    await with_simulator(always(fault), body)


@pytest.mark.parametrize(
    ("retry_after_s", "headers"), [(2.0, ("2", "2000")), (0.25, ("1", "250")), (None, (None, None))]
)
async def test_an_injected_refusal_asks_for_the_wait_it_was_told(retry_after_s: object, headers: object) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat()
        assert (answer.headers.get("retry-after"), answer.headers.get("retry-after-ms")) == headers
        assert answer.headers["x-ratelimit-remaining-tokens"] == "1000"
        assert simulator.statistics().refused == {"injected": 1}

    await with_simulator(always("rate_limited", retry_after_s=retry_after_s), body)


@pytest.mark.parametrize("name", ["one", ""])
@pytest.mark.parametrize("fault", DROPPED)
async def test_a_fault_that_drops_the_call(fault: str, name: str) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.chat(name, max_tokens=100)
        [logged] = simulator.log()
        charged = fault != "reset_before"
        assert (logged.fault, logged.status, logged.accepted) == (fault, 0, charged)
        assert logged.refused_by == ("" if charged else "cut")
        assert simulator.statistics().worst_windows[0].worst == (106 if charged else 0)
        await until(lambda: simulator.statistics().connections == 0)

    await with_simulator(always(fault, stall_s=0.002), body)


async def test_a_named_call_is_cut_before_its_body_was_sent() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.stream.send_all(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-penstock-call: one\r\ncontent-length: 99\r\n\r\n"
            )
            with pytest.raises(trio.BrokenResourceError):
                await client.stream.receive_some()

    await with_simulator(always("reset_before"), body)


async def test_a_stall_ends_when_the_client_leaves() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.chat)
                    await until(lambda: simulator.statistics().in_flight == 1)
                    scope.cancel()
        await until(lambda: simulator.statistics().in_flight == 0)

    await with_simulator(always("stall", stall_s=600.0), body)


async def test_a_client_that_leaves_while_its_answer_is_made_disturbs_nobody() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            with trio.move_on_after(0.002):
                await client.chat("gone")
        async with connect(simulator.port) as client:
            assert (await client.chat("here")).status == 200
        await until(lambda: simulator.statistics().in_flight == simulator.statistics().connections == 0)

    await with_simulator(SimulatorConfig(latency=ConstantLatency(0.01)), body)


async def test_two_runs_have_the_same_faults_whatever_the_order() -> None:
    runs: list[tuple[dict[tuple[str, int], str], dict[str, bytes]]] = []
    rates = FaultRates(**dict.fromkeys(FAULTS, 1 / len(FAULTS)), stall_s=0.001)

    async def body(simulator: Simulator) -> None:
        calls = [f"call-{place}" for place in range(60)] * 2
        Random(len(runs)).shuffle(calls)
        texts: dict[str, bytes] = {}

        async def one(call: str) -> None:
            async with connect(simulator.port) as client:
                with suppress(trio.BrokenResourceError, EOFError):  # the log says which fault it was
                    answer = await client.chat(call)
                    texts[answer.headers["x-request-id"]] = re.sub(rb'"created":"?[0-9]+', b"", answer.body)

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(one, call)
        instants = [arrival.at_us for arrival in simulator.log()]
        assert instants == sorted(instants)
        runs.append(({(arrival.call, arrival.attempt): arrival.fault for arrival in simulator.log()}, texts))

    for seed in (4, 4, 5):
        await with_simulator(SimulatorConfig(seed=seed, faults=rates), body)
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert len(runs[0][0]) == 120
    assert len(set(runs[0][0].values())) > (len(FAULTS) - len(STREAM_FAULTS)) // 2
