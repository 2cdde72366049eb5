"""Streams on real sockets: OpenAI's shape field by field, the limits, the end of a connection on either side.

Time is virtual, so an interval is as long as it says and takes no time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from simulator_client import CHAT, Client, connect, until, with_simulator
from trio.testing import MockClock

from engine.simulator import (
    ConstantLatency,
    FaultRates,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
    StreamShape,
    simulated_provider,
)
from engine.simulator.delivery import Pacer

FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "openai_chat"
WITH_USAGE = {"stream_options": {"include_usage": True}}
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}, {"type": "function", "function": {"name": "other"}}]
SLOW = StreamShape(interval=ConstantLatency(0.05))


def fixture(name: str) -> list[Any]:
    lines = (FIXTURES / name).read_text().splitlines()
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines if line]


def shape_of(value: object) -> object:
    """A value's names and types, in their order."""
    if isinstance(value, dict):
        return {name: shape_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape_of(inner) for inner in value]
    return value if isinstance(value, (bool, type(None))) else type(value).__name__


def same_shape(mine: Any, theirs: Any) -> None:
    assert json.dumps(shape_of(mine)) == json.dumps(shape_of(theirs))


async def ask(config: SimulatorConfig, **arguments: object) -> Any:
    """One stream of a simulator of its own."""
    answers = []

    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answers.append(await client.streamed(**arguments))

    await with_simulator(config, body)
    return answers[0]


async def test_a_stream_has_openais_shape(autojump_clock: MockClock) -> None:
    answer = await ask(SimulatorConfig(), max_tokens=2, **WITH_USAGE)
    assert (answer.status, answer.end) == (200, "done")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert answer.headers["x-request-id"]
    role, first, second, finish, usage, done = answer.events
    *theirs, _ = fixture("stream.sse")
    for mine, official in zip((role, first, second, finish, usage), theirs, strict=True):
        same_shape(mine, official)
    assert done == "[DONE]"
    assert len({event["id"] for event in answer.events[:-1]}) == 1
    assert {event["model"] for event in answer.events[:-1]} == {"m"}
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert finish["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert usage["choices"] == []
    assert [usage["usage"][f"{name}_tokens"] for name in ("prompt", "completion", "total")] == [6, 2, 8]


async def test_tool_calls_come_in_fragments_of_openais_shape(autojump_clock: MockClock) -> None:
    config = SimulatorConfig(stream=StreamShape(tool_calls=2))
    answer = await ask(config, max_tokens=2, tools=TOOLS, **WITH_USAGE)
    theirs = fixture("stream_tool_calls.sse")
    deltas = [event["choices"][0]["delta"] for event in answer.events[:-3]]
    assert len(deltas) == 6
    for place, official in ((0, 0), (1, 1), (2, 2), (3, 3), (6, 4), (7, 5)):
        same_shape(answer.events[place], theirs[official])
    fragments = [fragment for delta in deltas for fragment in delta["tool_calls"]]
    for index in (0, 1):
        named, *others = [fragment for fragment in fragments if fragment["index"] == index]
        assert (named["type"], named["function"]) == ("function", {"name": "get_weather", "arguments": ""})
        assert all(set(other) == {"index", "function"} and set(other["function"]) == {"arguments"} for other in others)
        text = json.loads("".join(other["function"]["arguments"] for other in others))["text"]
        assert len(text.split(" ")) == len(others) == 2
    assert len({fragment["id"] for fragment in fragments if "id" in fragment}) == 2
    assert answer.events[-3]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "other"),
        ({"tools": TOOLS, "tool_choice": "required"}, "get_weather"),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"tools": [{"type": "custom"}, 7]}, None),
        ({"tools": []}, None),
    ],
)
async def test_which_function_is_called(
    arguments: dict[str, object], name: str | None, autojump_clock: MockClock
) -> None:
    answer = await ask(SimulatorConfig(), **arguments)
    delta = answer.events[0]["choices"][0]["delta"]
    assert (delta["tool_calls"][0]["function"]["name"] if "tool_calls" in delta else None) == name


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("tools", [[], TOOLS])
async def test_reasoning_comes_before_what_was_asked(
    field: str, tools: list[object], autojump_clock: MockClock
) -> None:
    shape = StreamShape(reasoning=3, deltas=2, reasoning_field=field)  # type: ignore[arg-type]
    answer = await ask(SimulatorConfig(stream=shape), tools=tools)
    deltas = [set(event["choices"][0]["delta"]) for event in answer.events[:-2]]
    told = [{"tool_calls"}] * 3 if tools else [{"content"}] * 2
    assert deltas[1:] == [{field}] * 3 + told
    assert answer.events[0]["choices"][0]["delta"]["role"] == "assistant"


async def test_a_stream_says_what_an_answer_in_one_piece_says(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            whole = await client.chat("other", max_tokens=5, n=2)
            answer = await client.streamed("one", max_tokens=5, n=2)
        said = ["", ""]
        for event in answer.events[:-1]:
            [choice] = event["choices"]
            said[choice["index"]] += choice["delta"].get("content", "")
        texts.append((whole.json()["choices"][0]["message"]["content"], said))
        assert "usage" not in answer.events[0], "none was asked for"

    texts: list[tuple[str, list[str]]] = []
    await with_simulator(SimulatorConfig(), body)
    [(_, [first, second])] = texts
    assert first == second
    answer = await ask(SimulatorConfig(), call="other", max_tokens=5)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in answer.events[:-1]) == texts[0][0]


async def test_the_padding_can_be_declined(autojump_clock: MockClock) -> None:
    answer = await ask(SimulatorConfig(), stream_options={"include_obfuscation": False})
    assert all("obfuscation" not in event for event in answer.events[:-1])


@pytest.mark.parametrize("burst", [1, 4, 99])
async def test_a_burst_is_one_write(burst: int, autojump_clock: MockClock) -> None:
    answer = await ask(SimulatorConfig(stream=StreamShape(deltas=10, burst=burst)))
    assert [write.count(b"\n\n") for write in answer.writes] == [burst] * (13 // burst) + [13 % burst] * bool(
        13 % burst
    )


async def test_events_come_at_their_interval_and_the_next_answer_on_the_same_connection(
    autojump_clock: MockClock,
) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            for call in ("one", "two"):
                started = trio.current_time()
                answer = await client.streamed(call)
                # Two deltas, and the finish one interval after the second; an instant is met, or missed by a tick.
                assert trio.current_time() - started == pytest.approx(0.5 + 0.25 + 3 * 0.05, abs=0.02)
                assert answer.end == "done"
            assert (await client.chat("three")).status == 200

    shape = StreamShape(first=ConstantLatency(0.25), interval=ConstantLatency(0.05), deltas=2)
    await with_simulator(SimulatorConfig(stream=shape, latency=ConstantLatency(0.5)), body)


async def test_many_streams_keep_their_own_time(autojump_clock: MockClock) -> None:
    async def one(port: int, place: int) -> None:
        await trio.sleep(place / 1000)
        async with connect(port) as client:
            started = trio.current_time()
            assert len((await client.streamed(f"{place}")).events) == 23
            assert trio.current_time() - started == pytest.approx(21 * 0.010, abs=0.02)

    async def body(simulator: Simulator) -> None:
        async with trio.open_nursery() as nursery:
            for place in range(40):
                nursery.start_soon(one, simulator.port, place)
        assert simulator.statistics().streams.ended == {"done": 40}
        assert simulator.statistics().streams.events == 40 * 23

    await with_simulator(SimulatorConfig(stream=StreamShape(deltas=20, interval=ConstantLatency(0.010))), body)


async def test_a_stream_is_in_flight_to_its_end(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client, connect(simulator.port) as other:
            await client.ask()
            while b"content" not in await client.stream.receive_some():
                pass
            refused = await other.chat("other")
            assert (refused.status, simulator.statistics().in_flight) == (429, 1)
            assert simulator.statistics().streams.open == 1
            while b"[DONE]" not in await client.stream.receive_some():
                pass
            assert (await other.chat("other")).status == 200
        assert simulator.statistics().streams.open == simulator.statistics().in_flight == 0

    await with_simulator(SimulatorConfig(max_concurrency=1, stream=SLOW), body)


@pytest.mark.parametrize("usage", [True, False])
async def test_a_usage_that_arrives_gives_back_what_was_not_used(usage: bool, autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client, connect(simulator.port) as other:
            await client.ask(max_tokens=400, stream_options={"include_usage": usage})
            received = b""
            while b'"finish_reason":"stop"' not in received:
                received += await client.stream.receive_some()
            while b"[DONE]" not in received:
                received += await client.stream.receive_some()
            refused = await other.chat("other", max_tokens=600)
            [first, _] = simulator.log()
            assert (first.output_cap, first.output_tokens < 400) == (400, usage)
            left = 1_000 - 6 - first.output_tokens - (606 if usage else 0)
            assert (refused.status, refused.headers["x-ratelimit-remaining-tokens"]) == (
                200 if usage else 429,
                f"{left}",
            )

    limit = ProviderLimit("total_tokens", 1_000, 3600.0, charge="usage")
    await with_simulator(SimulatorConfig(limits=(limit,), output="drawn", seed=1), body)


async def test_a_usage_gives_back_when_it_is_sent_not_when_the_stream_ends(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client, connect(simulator.port) as other:
            await client.ask(max_tokens=400, **WITH_USAGE)
            received = b""
            while b'"prompt_tokens"' not in received:
                received += await client.stream.receive_some()
            assert simulator.statistics().in_flight == 1
            assert (await other.chat("other", max_tokens=600)).status == 200

    limit = ProviderLimit("total_tokens", 1_000, 3600.0, charge="usage")
    faults = FaultRates(stream_stall=1.0, stream_at=10_000, only_first_attempts=1)  # before [DONE]
    stream = StreamShape(deltas=3)
    config = SimulatorConfig(limits=(limit,), output="drawn", seed=1, faults=faults, stream=stream)
    await with_simulator(config, body)


async def test_what_was_late_does_not_delay_what_follows(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            started = trio.current_time()
            await client.ask(max_tokens=40)
            await hear_events(client, 1)
            autojump_clock.jump(1.0)
            await hear_events(client, 42)
            assert trio.current_time() - started == pytest.approx(41 * 0.05, abs=0.02)

    await with_simulator(SimulatorConfig(stream=SLOW), body)


async def test_nothing_is_written_to_whoever_has_the_place_of_a_client_that_left(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.ask()
            await hear_events(client, 1)
        await until(lambda: simulator.statistics().connections == 0)
        async with connect(simulator.port) as client:
            assert (await client.chat("next")).status == 200
            with trio.move_on_after(3.0):
                pytest.fail(f"unasked: {await client.stream.receive_some()!r}")

    await with_simulator(SimulatorConfig(stream=StreamShape(interval=ConstantLatency(1.0))), body)


async def test_a_refused_stream_is_refused_in_one_piece(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.streamed("one")
            refused = await client.chat("two", stream=True)
        assert (refused.status, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert simulator.statistics().streams.begun == 1

    await with_simulator(SimulatorConfig(limits=(ProviderLimit("requests", 1, 3600.0),)), body)


async def hear_events(client: Client, count: int) -> None:
    received = b""
    while received.count(b"data: ") < count:
        received += await client.stream.receive_some()


@pytest.mark.parametrize("way", ["close", "half", "reset"])
@pytest.mark.parametrize("heard", [0, 3])
async def test_a_client_that_leaves_is_seen_at_once(way: str, heard: int, autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.ask()
            await hear_events(client, heard)
            await until(lambda: simulator.statistics().in_flight == 1)
            await trio.sleep(0.01)  # the first event is out
            left_at = trio.current_time()
            if way == "half":
                await client.stream.send_eof()
            elif way == "reset":
                client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.stream.socket.close()
            else:
                await client.stream.aclose()
            await until(lambda: simulator.statistics().in_flight == 0)
            assert trio.current_time() - left_at < 0.02, "not only when something was to be written"
        [end] = simulator.ends()
        assert (end.ending, end.events, end.planned, end.call) == ("left", max(1, heard), 19, "one")
        await until(lambda: simulator.statistics().connections == 0)

    await with_simulator(SimulatorConfig(stream=StreamShape(interval=ConstantLatency(1.0))), body)


async def test_a_request_sent_ahead_waits_for_the_end_of_the_stream(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.ask(max_tokens=3)
            await hear_events(client, 1)
            sent = json.dumps(CHAT).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(sent)
            await client.stream.send_all(head + sent[:5])
            await trio.sleep(0.01)
            await client.stream.send_all(sent[5:])
            received = b""
            while b'"chat.completion"' not in received:
                received += await client.stream.receive_some()
            assert received.index(b"0\r\n\r\nHTTP/1.1 200") > received.index(b"[DONE]")
        assert simulator.statistics().streams.ended == {"done": 1}

    await with_simulator(SimulatorConfig(stream=SLOW), body)


async def test_who_does_not_read_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as lazy, connect(simulator.port) as client:
            await lazy.ask("lazy")
            await until(lambda: simulator.statistics().in_flight == 1)
            assert len((await client.streamed("quick", tools=TOOLS)).events) == 20_000 + 3
            assert simulator.statistics().streams.open == 1
            answer = await lazy.listen()
            assert (answer.end, len(answer.events)) == ("done", 20_000 + 3), "nothing was lost on the way"

    config = SimulatorConfig(stream=StreamShape(deltas=20_000, tool_calls=0, burst=7))
    await with_simulator(config, body)


async def test_http_1_0_has_no_chunks(autojump_clock: MockClock) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            sent = json.dumps({**CHAT, "stream": True}).encode()
            await client.stream.send_all(
                b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(sent), sent)
            )
            received = b""
            while data := await client.stream.receive_some():
                received += data
        head, _, events = received.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert events.startswith(b"data: {")
        assert events.endswith(b"data: [DONE]\n\n")

    await with_simulator(SimulatorConfig(), body)


async def test_a_server_that_stops_ends_its_streams(autojump_clock: MockClock) -> None:
    served: list[Simulator] = []
    clients: list[Client] = []

    async def body(simulator: Simulator) -> None:
        served.append(simulator)
        clients.append(Client(await trio.open_tcp_stream("127.0.0.1", simulator.port)))
        await clients[0].ask()
        await hear_events(clients[0], 2)

    await with_simulator(SimulatorConfig(stream=SLOW), body)
    await clients[0].stream.aclose()
    assert served[0].statistics().in_flight == 0
    assert [end.ending for end in served[0].ends()] == ["left"]


async def test_a_pacer_asked_for_what_is_due_earlier_wakes_earlier(autojump_clock: MockClock) -> None:
    class Once:
        def __init__(self, due_s: float) -> None:
            self.due_us = round((trio.current_time() + due_s) * 1e6)

        def step(self) -> bool:
            stepped.append(trio.current_time())
            return False

    stepped: list[float] = []
    pacer = Pacer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pacer.run)
        pacer.add(Once(100.0))  # type: ignore[arg-type]
        await trio.sleep(10)
        pacer.add(Once(5.0))  # type: ignore[arg-type]
        pacer.add(Once(-1.0))  # type: ignore[arg-type]
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert stepped == pytest.approx([10.0, 15.0, 100.0], abs=0.001)


async def test_the_ends_are_in_the_log_of_a_process(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    faults = FaultRates(stream_cut=1.0, stream_at=4, only_first_attempts=1)
    async with simulated_provider(SimulatorConfig(faults=faults, log_path=str(path))) as provider:
        async with connect(provider.port) as client:
            assert (await client.streamed("one")).end == "cut"
        async with connect(provider.port) as client:
            assert (await client.streamed("one")).end == "done"
        arrivals, _, ends, _ = await provider.records()
        assert [(end.attempt, end.events, end.ending, end.fault) for end in ends] == [
            (1, 4, "cut", "stream_cut"), (2, 19, "done", ""),
        ]  # fmt: skip
        assert [arrival.status for arrival in arrivals] == [200, 200]
        streams = (await provider.statistics()).streams
        assert (streams.begun, streams.open, streams.ended, streams.events) == (2, 0, {"cut": 1, "done": 1}, 23)
    assert path.read_bytes().count(b'"kind":"stream"') == 2
