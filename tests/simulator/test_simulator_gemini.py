"""Gemini's own API on real sockets: what it takes, what it answers in one piece and as a stream, what it refuses, and
what spoils a stream of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from format_client import events_of, send
from simulator_client import Response, Streamed, connect, with_simulator

from engine.simulator import FaultRates, ProviderLimit, Simulator, SimulatorConfig, StreamShape

BASE = "/gemini/v1beta/models/"
HELLO = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
TOOLS = [{"functionDeclarations": [{"name": "glob"}, {"name": "read_file", "parametersJsonSchema": {}}]}]
PLAIN = SimulatorConfig(output_tokens=6)
THINKING = SimulatorConfig(output_tokens=6, stream=StreamShape(reasoning=2))


async def post(
    simulator: Simulator, *, model: str = "m-1", method: str = "generateContent", key: str = "", **arguments: object
) -> Response:
    """An answer in one piece."""
    headers = {"x-goog-api-key": key} if key else {}
    async with connect(simulator.port) as client:
        body = json.dumps({**HELLO, **arguments}).encode()
        return await client.request("POST", f"{BASE}{model}:{method}", body, headers)


async def stream(simulator: Simulator, *, model: str = "m-1", **arguments: object) -> Streamed:
    """A stream, asked for as Gemini CLI asks."""
    body = json.dumps({**HELLO, **arguments}).encode()
    head = [("host", "simulator"), ("content-length", str(len(body)))]
    async with connect(simulator.port) as client:
        await send(client, f"{BASE}{model}:streamGenerateContent?alt=sse", head, body)
        return await client.listen()


def parts_of(answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parts of an answer, or of the events of one."""
    return [part for answer in answers for part in answer["candidates"][0]["content"]["parts"]]


def text_of(parts: Iterable[Mapping[str, Any]], *, thought: bool = False) -> str:
    """What is said, or thought."""
    return "".join(part.get("text", "") for part in parts if part.get("thought", False) is thought)


async def test_an_answer_in_one_piece() -> None:
    async def body(simulator: Simulator) -> None:
        assert simulator.address("gemini_native") == f"http://127.0.0.1:{simulator.port}/gemini"
        answer = await post(simulator, model="gemini-2.5%2Dpro")
        told = answer.json()
        (candidate,) = told["candidates"]
        thought, text = candidate["content"]["parts"]
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert (candidate["content"]["role"], candidate["finishReason"], candidate["index"]) == ("model", "STOP", 0)
        assert (thought["thought"], len(thought["text"].split()), len(text["text"].split())) == (True, 2, 6)
        assert told["modelVersion"] == "gemini-2.5-pro"
        assert told["usageMetadata"] == {
            "promptTokenCount": 6,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 2,
            "totalTokenCount": 12,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}],
        }

    await with_simulator(THINKING, body)


async def test_a_stream_says_so_in_events_that_count_along() -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator)
        events = events_of(streamed)
        assert (streamed.status, streamed.end) == (200, "done")
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.body.startswith(b'data: {"candidates":')
        assert streamed.body.endswith(b"}\r\n\r\n")
        parts = parts_of(events)
        assert [part.get("thought", False) for part in parts] == [True] * 2 + [False] * 7
        assert len(text_of(parts).split()) == 6
        assert [event["candidates"][0].get("finishReason") for event in events] == [None] * 8 + ["STOP"]
        counted = [event["usageMetadata"] for event in events]
        assert [usage["totalTokenCount"] for usage in counted] == [7, 8, 9, 10, 11, 12, 12, 12, 12]
        assert (counted[-1]["candidatesTokenCount"], counted[-1]["thoughtsTokenCount"]) == (4, 2)
        assert simulator.ends()[0].events == simulator.ends()[0].planned == 9
        assert (simulator.log()[0].input_tokens, simulator.log()[0].output_tokens) == (6, 6)

    await with_simulator(THINKING, body)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({}, "glob"),
    ({"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["x", "read_file"]}}}, "read_file"),
    ({"tool_config": {"functionCallingConfig": {"mode": "NONE"}}}, ""),
    ({"tools": [{"googleSearch": {}}]}, ""),
    ({"tools": [{"function_declarations": [{"name": 3}, {"name": "grep"}]}]}, "grep"),
]


@pytest.mark.parametrize(("more", "called"), CONFIGS, ids=[called or "none" for _, called in CONFIGS])
async def test_a_function_is_called_whole(more: dict[str, Any], called: str) -> None:
    async def body(simulator: Simulator) -> None:
        asked = {"tools": TOOLS, **more}
        whole = parts_of([(await post(simulator, **asked)).json()])
        streamed = parts_of(events_of(await stream(simulator, **asked)))
        for parts in (whole, streamed):
            calls = [part["functionCall"] for part in parts if "functionCall" in part]
            assert [call["name"] for call in calls] == ([called] if called else [])
            assert all(len(call["args"]["text"].split()) == 6 for call in calls)
            assert bool(text_of(parts)) is not bool(called)

    await with_simulator(PLAIN, body)


CALL = 'simulate: call read_file {"file_path": "a.txt", "lines": [1, 2]}'


async def test_a_line_of_the_prompt_asks_for_one_call_and_for_a_text() -> None:
    prompt = f"Do it.\n{CALL}\nsimulate: say Done."
    contents: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": "The setting."}, {"text": prompt}]}]
    call = {"name": "read_file", "args": {"file_path": "a.txt", "lines": [1, 2]}}

    async def body(simulator: Simulator) -> None:
        asked = {"tools": TOOLS, "contents": contents}
        assert parts_of([(await post(simulator, **asked)).json()]) == [{"functionCall": call}]
        assert parts_of(events_of(await stream(simulator, **asked)))[:-1] == [{"functionCall": call}]
        result = {"functionResponse": {"name": "read_file", "response": {"output": "a"}}}
        after = [*contents, {"role": "model", "parts": [{"functionCall": call}]}, {"role": "user", "parts": [result]}]
        assert text_of(parts_of([(await post(simulator, tools=TOOLS, contents=after)).json()])) == "Done."
        assert text_of(parts_of(events_of(await stream(simulator, tools=TOOLS, contents=after)))) == "Done."

    await with_simulator(PLAIN, body)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, 'Unknown name "messages"'),
    ({"contents": None}, "contents is not specified"),
    ({"contents": []}, "contents is not specified"),
    ({"contents": ["hello"]}, "contents[0].parts"),
    ({"contents": [{"role": "user", "parts": []}]}, "parts must not be empty"),
    ({"contents": [{"role": "user", "parts": ["x"]}]}, "parts must not be empty"),
    ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "valid role"),
    ({"generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
    ({"contents": [{"parts": [{"text": "simulate: call read_file {"}]}]}, "simulate: call"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=[said for _, said in REFUSED])
async def test_what_is_refused(wrong: dict[str, Any], said: str) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, tools=TOOLS, **wrong)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
        assert said in error["message"]
        assert simulator.statistics().refused == {"invalid": 1}

    await with_simulator(PLAIN, body)


async def test_a_cap_and_a_system_instruction_are_counted() -> None:
    async def body(simulator: Simulator) -> None:
        system = {"parts": [{"text": "Be brief, please."}]}
        await post(simulator, system_instruction=system, generation_config={"maxOutputTokens": 3})
        assert [(arrival.input_tokens, arrival.output_tokens) for arrival in simulator.log()] == [(15, 3)]

    await with_simulator(PLAIN, body)


async def test_a_wrong_key_is_a_wrong_request() -> None:
    async def body(simulator: Simulator) -> None:
        assert (await post(simulator, key="sesame")).status == 200
        for key in ("", "wrong"):
            answer = await post(simulator, key=key)
            error = answer.json()["error"]
            assert (answer.status, error["details"][0]["reason"]) == (400, "API_KEY_INVALID")
        assert simulator.statistics().refused == {"key": 2}

    await with_simulator(SimulatorConfig(key="sesame"), body)


async def test_over_a_limit_it_says_when_to_come_back() -> None:
    async def body(simulator: Simulator) -> None:
        assert (await post(simulator)).status == 200
        answer = await post(simulator)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["status"]) == (429, 429, "RESOURCE_EXHAUSTED")
        (retry,) = [detail for detail in error["details"] if detail["@type"].endswith("RetryInfo")]
        assert f"retry in {retry['retryDelay']}" in error["message"]

    await with_simulator(SimulatorConfig(limits=(ProviderLimit("requests", 1, 60.0),)), body)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("server_error", 500, "INTERNAL"),
        ("unavailable", 503, "UNAVAILABLE"),
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_a_failure_by_chance(fault: str, status: int, said: str) -> None:
    async def body(simulator: Simulator) -> None:
        for method in ("generateContent", "streamGenerateContent?alt=sse"):
            answer = await post(simulator, method=method)
            error = answer.json()["error"]
            assert (answer.status, error["code"], error["status"]) == (status, status, said)

    await with_simulator(SimulatorConfig(faults=FaultRates(**{fault: 1.0})), body)


@pytest.mark.parametrize(
    ("fault", "end", "finished"),
    [("stream_cut", "cut", False), ("stream_reset", "reset", False), ("stream_no_done", "done", False),
     ("stream_comments", "done", True), ("stream_split", "done", True), ("stream_error", "done", False)],
)  # fmt: skip
async def test_a_stream_that_is_spoiled(fault: str, end: str, finished: bool) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator)
        assert (streamed.status, streamed.end) == (200, end)
        assert (b'"finishReason":"STOP"' in streamed.body) is finished
        assert b": keep-alive" not in streamed.body
        assert (b'data: {"error":{"code":503' in streamed.body) is (fault == "stream_error")
        if fault == "stream_split":
            said = text_of(parts_of(events_of(streamed)))
            assert "☕😀" in said.encode("utf-16", "surrogatepass").decode("utf-16")

    await with_simulator(SimulatorConfig(output_tokens=6, faults=FaultRates(**{fault: 1.0}, stream_at=3)), body)


@pytest.mark.parametrize("fault", ["null_usage", "wrong_types", "error_in_200"])
async def test_an_answer_that_is_spoiled(fault: str) -> None:
    async def body(simulator: Simulator) -> None:
        told = (await post(simulator)).json()
        if fault == "error_in_200":
            assert told["error"]["status"] == "INTERNAL"
            return
        events = events_of(await stream(simulator))
        for answer in (told, *events):
            usage = answer.get("usageMetadata", {})
            assert all(isinstance(count, str) for name, count in usage.items() if name.endswith("Count"))
            assert bool(usage) is (fault == "wrong_types")

    await with_simulator(SimulatorConfig(output_tokens=3, faults=FaultRates(**{fault: 1.0})), body)


async def test_other_methods_and_paths_are_not_served() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            assert (await client.request("GET", f"{BASE}m:generateContent")).status == 405
            for path in (f"{BASE}m:countTokens", f"{BASE}a/b:generateContent", f"{BASE}:generateContent"):
                assert (await client.request("POST", path, b"{}")).status == 404

    await with_simulator(PLAIN, body)
