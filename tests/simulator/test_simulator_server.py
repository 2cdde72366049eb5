"""The simulator on real loopback sockets: what it answers, refuses and logs.

Periods are an hour long, so that no clock matters.
"""

from __future__ import annotations

import json
import time

import pytest
import trio
from simulator_client import CHAT, connect, until, with_simulator

from actors.errors import UsageError
from engine.simulator import (
    ConstantLatency,
    FaultRates,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
    count_input,
    read_log,
    serve,
)
from engine.simulator.reply import go_duration

HOUR_S = 3600.0


async def test_a_completion_has_openais_shape() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat("one", max_tokens=3, n=2)
        done = answer.json()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert (done["object"], done["model"]) == ("chat.completion", "m")
        assert done["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}
        assert [choice["index"] for choice in done["choices"]] == [0, 1]
        assert len(done["choices"][0]["message"]["content"].split()) == 3
        assert done["choices"][0]["finish_reason"] == "stop"
        [logged] = simulator.log()
        assert (logged.call, logged.attempt, logged.status, logged.accepted) == ("one", 1, 200, True)
        assert (logged.input_tokens, logged.output_cap, logged.output_tokens) == (6, 6, 6)

    await with_simulator(SimulatorConfig(), body)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{nonsense", 400, None),
        ("POST", "/v1/chat/completions", b"[1]", 400, None),
        ("POST", "/v1/chat/completions", b'{"model": "m"}', 400, "missing_required_parameter"),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": []}', 400, "missing_required_parameter"),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": ["x"]}', 400, "missing_required_parameter"),
        ("POST", "/v1/chat/completions", b'{"messages": [{}]}', 400, "missing_required_parameter"),
        ("POST", "/v1/chat/completions", json.dumps({**CHAT, "max_tokens": 0}).encode(), 400, "invalid_value"),
        ("POST", "/v1/chat/completions", json.dumps({**CHAT, "n": "2"}).encode(), 400, "invalid_value"),
        ("POST", "/v1/chat/completions", json.dumps({**CHAT, "n": 99}).encode(), 400, "invalid_value"),
        ("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": "yes"}).encode(), 400, "invalid_type"),
        ("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream_options": {}}).encode(), 400, None),
        (
            "POST",
            "/v1/chat/completions",
            json.dumps({**CHAT, "stream": True, "stream_options": {"include_usage": 1}}).encode(),
            400,
            "invalid_type",
        ),
        (
            "POST",
            "/v1/chat/completions",
            json.dumps({**CHAT, "stream": True, "stream_options": []}).encode(),
            400,
            "invalid_type",
        ),
        ("POST", "/v1/chat/completions", b" " * 2001, 413, "request_too_large"),
        ("POST", "/v1/models", b" " * 2001, 413, "request_too_large"),
        ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("POST", "/statistics", b"", 405, "method_not_allowed"),
        ("GET", "/v2/models", b"", 404, "unknown_url"),
        ("POST", "/v1/edits", b"{}", 404, "unknown_url"),
    ],
)
async def test_a_wrong_request_gets_an_error_and_the_next_one_its_answer(
    method: str, path: str, sent: bytes, status: int, code: str | None
) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.request(method, path, sent)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["type"]) == (status, code, "invalid_request_error")
        assert error["message"]
        async with connect(simulator.port) as client:
            assert (await client.chat()).status == 200
        statistics = simulator.statistics()
        assert statistics.accepted == 1
        kind = {400: "invalid", 413: "too_large"}.get(status)
        assert statistics.refused == ({kind: 1} if kind and path.endswith("completions") else {})
        assert statistics.not_found == (status == 404)

    await with_simulator(SimulatorConfig(max_body_bytes=2000), body)


async def test_a_body_that_announces_too_much_is_refused_unread() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.stream.send_all(b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2001\r\n\r\n")
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 413")

    await with_simulator(SimulatorConfig(max_body_bytes=2000), body)


@pytest.mark.parametrize(("key", "status"), [("", 401), ("sk-wrong", 401), ("sk-right", 200)])
async def test_a_key_is_demanded_if_one_is_set(key: str, status: int) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat(key=key)
        assert answer.status == status
        assert b"sk-" not in answer.body
        if status == 401:
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert simulator.statistics().refused == {"key": 1}

    await with_simulator(SimulatorConfig(key="sk-right"), body)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 70_000,
        b"HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"CONNECT /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        b"",
    ],
)
async def test_nonsense_ends_its_own_connection_and_nothing_else(sent: bytes) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.stream.send_all(sent)
            await client.stream.send_eof()
            try:
                while await client.stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass  # a reset is a fair answer to garbage
        async with connect(simulator.port) as client:
            assert (await client.chat()).status == 200
        await until(lambda: simulator.statistics().connections == 0)

    await with_simulator(SimulatorConfig(), body)


async def test_paths_that_are_read() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert (await client.request("POST", "/chat/completions", json.dumps(CHAT).encode())).status == 200
            models = (await client.request("GET", "/v1/models")).json()
            assert [model["id"] for model in models["data"]] == ["a", "b"]
            assert (await client.request("GET", "/healthz?verbose=1")).json() == {"status": "ok"}
            assert (await client.request("GET", "/statistics")).json()["accepted"] == 1
            # So strict a guard finds the loop late, as a busy machine makes it: that stands in the log as well.
            records = read_log((await client.request("GET", "/log")).body)
            assert [arrival.status for arrival in records.arrivals] == [200]
            assert (records.ends, records.asides) == ([], [])
        assert simulator.base_url == f"http://127.0.0.1:{simulator.port}/v1"

    await with_simulator(SimulatorConfig(models=("a", "b"), lateness_guard_s=1e-6), body)


async def test_chunked_bodies_continuations_and_pipelines_are_http_too() -> None:
    async def body(simulator: Simulator) -> None:
        sent = json.dumps(CHAT).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        whole = head + b"content-length: %d\r\n\r\n" % len(sent) + sent
        chunked = head + b"transfer-encoding: chunked\r\n\r\n5\r\n" + sent[:5] + b"\r\n"
        async with connect(simulator.port) as client:
            await client.stream.send_all(whole + whole)
            received = b""
            while received.count(b"chat.completion") < 2:
                received += await client.stream.receive_some()
            await client.stream.send_all(chunked)
            await client.stream.send_all(b"%x\r\n" % (len(sent) - 5) + sent[5:] + b"\r\n0\r\n\r\n")
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 200")
            await client.stream.send_all(head + b"content-length: %d\r\nexpect: 100-continue\r\n\r\n" % len(sent))
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 100")
            await client.stream.send_all(sent)
            assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 200")
        log = simulator.log()
        assert [arrival.attempt for arrival in log] == [1, 2, 3, 4], "one body, one identity"
        assert [arrival.at_us for arrival in log] == sorted(arrival.at_us for arrival in log)

    await with_simulator(SimulatorConfig(), body)


@pytest.mark.parametrize("kind", ["fixed_window", "sliding_window", "token_bucket"])
@pytest.mark.parametrize("charge", ["arrival", "usage"])
@pytest.mark.parametrize(
    ("dimension", "limit", "by_arrival", "by_usage", "family"),
    [
        ("requests", 3, 3, 3, "requests"),
        ("input_tokens", 20, 3, 3, "tokens"),  # 6 each
        ("output_tokens", 250, 2, None, "tokens"),  # a cap of 100 each
        ("total_tokens", 250, 2, None, "tokens"),
    ],
)
async def test_a_limit_admits_what_it_says_and_then_refuses(
    kind: str, charge: str, dimension: str, limit: int, by_arrival: int, by_usage: int | None, family: str
) -> None:
    async def body(simulator: Simulator) -> None:
        answers = []
        async with connect(simulator.port) as client:
            while len(answers) < 20 and (not answers or answers[-1].status == 200):
                answers.append(await client.chat(f"call-{len(answers)}", max_tokens=100))
        *good, refused = answers
        log = simulator.log()
        left = limit
        for arrival, answer in zip(log, good, strict=False):
            cost = arrival.charged(dimension, "arrival")  # type: ignore[arg-type]
            assert cost <= left, "it was admitted without room"
            assert int(answer.headers[f"x-ratelimit-remaining-{family}"]) == left - cost
            left -= arrival.charged(dimension, charge)  # type: ignore[arg-type]
        expected = by_arrival if charge == "arrival" else by_usage
        if expected is None:
            assert len(good) > by_arrival, "nothing was given back"
        else:
            assert len(good) == expected
        error = refused.json()["error"]
        assert (refused.status, error["code"], error["type"]) == (429, "rate_limit_exceeded", family)
        assert int(refused.headers["retry-after"]) >= 1
        exact_ms, whole_s = int(refused.headers["retry-after-ms"]), int(refused.headers["retry-after"])
        assert (whole_s - 1) * 1000 < exact_ms <= whole_s * 1000
        assert refused.headers[f"x-ratelimit-limit-{family}"] == str(limit)
        assert refused.headers[f"x-ratelimit-reset-{family}"].endswith("s")
        statistics = simulator.statistics()
        assert statistics.refused == {dimension: 1}
        assert statistics.worst_windows[0].worst == limit - left <= limit

    rule = ProviderLimit(dimension, limit, HOUR_S, kind, charge)  # type: ignore[arg-type]
    await with_simulator(SimulatorConfig(limits=(rule,), output="drawn", seed=5), body)


async def test_what_can_never_be_served_says_so() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.chat(max_completion_tokens=200)
        assert answer.status == 429
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert "too large" in answer.json()["error"]["message"]

    await with_simulator(SimulatorConfig(limits=(ProviderLimit("output_tokens", 100, HOUR_S),)), body)


@pytest.mark.parametrize("status", [429, 503])
async def test_over_the_concurrency_limit_is_refused_until_a_place_is_free(status: int) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as first, connect(simulator.port) as second:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.chat, "slow")
                await until(lambda: simulator.statistics().in_flight == 1)
                answer = await second.chat("quick")
                assert (answer.status, answer.headers["retry-after"]) == (status, "1")
                nursery.cancel_scope.cancel()
            await first.stream.aclose()
            await until(lambda: simulator.statistics().in_flight == 0)
            assert (await second.chat("quick")).status == 200
        assert simulator.statistics().refused == {"concurrency": 1}

    faults = FaultRates(stall=1.0, stall_s=600.0, only_first_attempts=1)
    config = SimulatorConfig(max_concurrency=1, concurrency_status=status, faults=faults)  # type: ignore[arg-type]
    await with_simulator(config, body)


async def test_no_answer_comes_before_its_latency() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.chat()
        assert time.monotonic_ns() // 1000 - simulator.log()[0].at_us >= 4_000

    await with_simulator(SimulatorConfig(latency=ConstantLatency(0.004)), body)


async def test_replies_come_from_the_seed() -> None:
    texts: list[list[str]] = []

    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answers = [await client.chat(f"{place}") for place in range(5)]
        texts.append([answer.json()["choices"][0]["message"]["content"] for answer in answers])

    for seed in (1, 1, 2):
        await with_simulator(SimulatorConfig(seed=seed), body)
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 5


async def test_idle_connections_are_closed_when_asked() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert await client.stream.receive_some() == b""

    await with_simulator(SimulatorConfig(keep_alive_s=0.02), body)


async def test_a_loop_that_ran_late_marks_the_run() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.chat()
        time.sleep(0.006)  # noqa: ASYNC251  # the loop is to be held up
        await until(lambda: simulator.statistics().loop.late)
        assert simulator.statistics().loop.max_late_us == max(late.late_us for late in simulator.lates())

    await with_simulator(SimulatorConfig(lateness_guard_s=0.002), body)


def ten_each(arguments: object) -> int:
    """A counter a configuration can name."""
    return 10


def confused(arguments: object) -> int:
    """A counter with a bug."""
    raise KeyError("content")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (SimulatorConfig(count_input="test_simulator_server:ten_each"), {}),
        (SimulatorConfig(), {"count_input": ten_each}),
    ],
)
async def test_the_input_can_be_counted_by_anothers_rule(config: SimulatorConfig, options: dict) -> None:  # type: ignore[type-arg]
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert (await client.chat()).json()["usage"]["prompt_tokens"] == 10

    await with_simulator(config, body, **options)


async def test_a_counter_that_fails_costs_one_request_and_not_the_server() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert (await client.chat()).status == 400
            assert (await client.request("GET", "/healthz")).status == 200

    await with_simulator(SimulatorConfig(), body, count_input=confused)


@pytest.mark.parametrize(
    ("messages", "count"),
    [
        ([{"content": "hello"}], 6),
        ([{"content": ""}], 4),
        ([{"content": None}, {}], 8),
        ([{"content": "four"}, {"content": "five5"}], 11),
        ([{"content": "żółw"}], 6),
        ([{"content": [{"type": "text", "text": "abc"}, {"type": "image_url"}, {"text": "de"}]}], 6),
        ("nothing", 0),
    ],
)
def test_the_plain_rule_of_counting(messages: object, count: int) -> None:
    assert count_input({"messages": messages}) == count


@pytest.mark.parametrize(
    ("duration_us", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (12_000, "12ms"),
        (999_001, "1s"),
        (1_000_000, "1s"),
        (7_660_000, "7.66s"),
        (360_000_000, "6m0s"),
        (252_172_000, "4m12.172s"),
        (3_600_000_000, "1h0m0s"),
        (83_909_144_000, "23h18m29.144s"),
    ],
)
def test_durations_are_written_as_go_writes_them(duration_us: int, text: str) -> None:
    assert go_duration(duration_us) == text


async def test_what_cannot_be_had_is_said_at_the_start(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async def body(simulator: Simulator) -> None:
        for config, named in (
            (SimulatorConfig(port=simulator.port), f"port {simulator.port}"),
            (SimulatorConfig(log_path=str(tmp_path / "no" / "log")), "cannot write the log"),
            (SimulatorConfig(count_input="no_such_module:f"), "cannot be found"),
            (SimulatorConfig(count_input="engine.simulator:FAULTS"), "no function"),
        ):
            with pytest.raises(UsageError, match=named):
                await serve(config)

    await with_simulator(SimulatorConfig(), body)
