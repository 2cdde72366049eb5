"""Inferneo's server on real sockets, as recorded: what it answers, what it refuses and in which words, how it streams,
what it says of its load; and what its documentation says it does instead."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from format_client import HELLO, events_of, post, stream
from simulator_client import Response, connect, until, with_simulator

from engine.simulator import ConstantLatency, FaultRates, ProviderLimit, Simulator, SimulatorConfig

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PROMPT = {"model": "m", "prompt": "p"}
PLAIN = SimulatorConfig()


async def ask(
    simulator: Simulator, method: str, path: str, body: object = None, *, key: str = "", provider: str = "inferneo"
) -> Response:
    """One request below the server's address; a body of bytes is sent as it is."""
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    base = simulator.address(provider).partition(str(simulator.port))[2]
    async with connect(simulator.port) as client:
        return await client.request(method, base + path, sent, {"authorization": f"Bearer {key}"} if key else {})


async def test_a_completion_as_recorded() -> None:
    async def body(simulator: Simulator) -> None:
        asked = {"model": "any-name", "prompt": ["hello world", "never read"], "max_tokens": 3, "n": 2, "echo": True}
        told = (await ask(simulator, "POST", TEXT, asked)).json()
        assert told.keys() == {"id", "object", "created", "model", "choices", "usage"}
        assert (told["object"], told["model"], told["id"][:5]) == ("text_completion", "any-name", "cmpl-")
        (choice,) = told["choices"]
        assert choice.keys() == {"index", "text", "finish_reason"}
        assert (len(choice["text"].split()), choice["finish_reason"]) == (3, "length")
        # Four, and the eleven bytes of the first prompt in fours.
        assert told["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

    await with_simulator(PLAIN, body)


async def test_a_chat_as_recorded() -> None:
    async def body(simulator: Simulator) -> None:
        asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "max_tokens": 2}
        told = (await ask(simulator, "POST", CHAT, {"model": "m", "logprobs": 2, **asked})).json()
        assert (told["object"], told["id"][:9]) == ("chat.completion", "chatcmpl-")
        (choice,) = told["choices"]
        assert choice.keys() == {"index", "message", "finish_reason"}
        assert choice["message"].keys() == {"role", "content"}
        assert len(choice["message"]["content"].split()) == 2
        assert told["usage"]["prompt_tokens"] == 6

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(
    ("asked", "output", "tokens", "reason"),
    [
        ({}, "cap", 128, "length"),
        ({"max_tokens": None}, "cap", 128, "length"),
        ({"max_tokens": "7"}, "cap", 7, "length"),
        ({}, "short", 16, "stop"),
        ({"max_tokens": 16}, "short", 16, "length"),
    ],
    ids=str,
)
async def test_how_long_an_answer_is(asked: dict[str, Any], output: Any, tokens: int, reason: str) -> None:
    async def body(simulator: Simulator) -> None:
        told = (await ask(simulator, "POST", TEXT, PROMPT | asked)).json()
        assert told["usage"]["completion_tokens"] == tokens == simulator.log()[0].output_tokens
        assert told["choices"][0]["finish_reason"] == reason

    await with_simulator(SimulatorConfig(output=output), body)


@pytest.mark.parametrize("stop", [" ", ["\n", " "], [" ", "no such word"]], ids=repr)
async def test_a_stop_trims_an_answer_and_ends_nothing(stop: object) -> None:
    """The words after it were made and are paid for; a stream has them all."""

    async def body(simulator: Simulator) -> None:
        told = (await post(simulator, "inferneo completions", max_tokens=9, stop=stop)).json()
        assert len(told["choices"][0]["text"].split()) == 1
        assert told["choices"][0]["finish_reason"] == "stop"
        assert told["usage"]["completion_tokens"] == 9
        events = events_of(await stream(simulator, "inferneo completions", max_tokens=9, stop=stop))
        assert len("".join(event["choices"][0]["text"] for event in events).split()) == 9
        assert events[-1]["choices"][0]["finish_reason"] == "length"

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize("model", ["a", "b/c", ""])
async def test_any_model_is_served(model: str) -> None:
    async def body(simulator: Simulator) -> None:
        told = await post(simulator, "inferneo chat", model=model)
        assert (told.status, told.json()["model"]) == (200, model)

    await with_simulator(PLAIN, body)


async def test_a_stream_of_a_completion_as_recorded() -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, "inferneo completions", max_tokens=2, stream_options={"include_usage": True})
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert streamed.body.endswith(b"\n\ndata: [DONE]\n\n")
        events = events_of(streamed)
        assert {tuple(event) for event in events} == {("id", "object", "created", "model", "choices")}
        assert len({(event["id"], event["created"]) for event in events}) == 1
        assert {event["object"] for event in events} == {"text_completion"}
        choices = [event["choices"][0] for event in events]
        assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]
        assert [choice.keys() for choice in choices] == [{"index", "text", "finish_reason"}] * 3
        assert choices[-1]["text"] == ""

    await with_simulator(PLAIN, body)


async def test_a_stream_of_a_chat_as_recorded() -> None:
    async def body(simulator: Simulator) -> None:
        events = events_of(await stream(simulator, "inferneo chat", max_tokens=2))
        assert {event["object"] for event in events} == {"chat.completion.chunk"}
        choices = [event["choices"][0] for event in events]
        assert choices[0] == {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}
        assert [choice["delta"]["role"] for choice in choices[1:]] == [None, None, None]
        assert [len((choice["delta"]["content"] or "").split()) for choice in choices] == [0, 1, 1, 0]
        assert choices[-1] == {"index": 0, "delta": {"role": None, "content": None}, "finish_reason": "length"}

    await with_simulator(PLAIN, body)


def told(kind: str, loc: list[str | int], words: str, given: object, **ctx: object) -> dict[str, Any]:
    """One fault of a list of them."""
    return {"type": kind, "loc": loc, "msg": f"Input should be {words}", "input": given} | ({"ctx": ctx} if ctx else {})


NUMBER, WHOLE, STRING = "a valid number", "a valid integer", "a valid string"
AT_LEAST, AT_MOST, UNREAD = "greater than or equal to", "less than or equal to", "unable to parse string as"
WRONG: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    # The words are those of pydantic 2.14.
    ({"temperature": -1}, [told("greater_than_equal", ["temperature"], f"{AT_LEAST} 0", -1, ge=0.0)]),
    ({"temperature": "hot"}, [told("float_parsing", ["temperature"], f"{NUMBER}, {UNREAD} a number", "hot")]),
    ({"temperature": None}, [told("float_type", ["temperature"], NUMBER, None)]),
    ({"top_p": 0}, [told("greater_than", ["top_p"], "greater than 0", 0, gt=0.0)]),
    ({"top_p": 9}, [told("less_than_equal", ["top_p"], f"{AT_MOST} 1", 9, le=1.0)]),
    ({"top_p": None}, [told("float_type", ["top_p"], NUMBER, None)]),
    ({"top_k": -2}, [told("greater_than_equal", ["top_k"], f"{AT_LEAST} -1", -2, ge=-1)]),
    ({"top_k": 1.5}, [told("int_from_float", ["top_k"], f"{WHOLE}, got a number with a fractional part", 1.5)]),
    ({"top_k": None}, [told("int_type", ["top_k"], WHOLE, None)]),
    ({"min_p": 2}, [told("less_than_equal", ["min_p"], f"{AT_MOST} 1", 2, le=1.0)]),
    ({"max_tokens": 0}, [told("greater_than_equal", ["max_tokens"], f"{AT_LEAST} 1", 0, ge=1)]),
    ({"max_tokens": "x"}, [told("int_parsing", ["max_tokens"], f"{WHOLE}, {UNREAD} an integer", "x")]),
    ({"presence_penalty": 9}, [told("less_than_equal", ["presence_penalty"], f"{AT_MOST} 2", 9, le=2.0)]),
    ({"frequency_penalty": None}, [told("float_type", ["frequency_penalty"], NUMBER, None)]),
    ({"repetition_penalty": 0}, [told("greater_than", ["repetition_penalty"], "greater than 0", 0, gt=0.0)]),
    ({"logprobs": -1}, [told("greater_than_equal", ["logprobs"], f"{AT_LEAST} 0", -1, ge=0)]),
    ({"stream": None}, [told("bool_type", ["stream"], "a valid boolean", None)]),
    ({"stream": "x"}, [told("bool_parsing", ["stream"], "a valid boolean, unable to interpret input", "x")]),
    ({"model": None}, [told("string_type", ["model"], STRING, None)]),
    (
        {"stop": 3},
        [told("string_type", ["stop", "str"], STRING, 3), told("list_type", ["stop", "list[str]"], "a valid list", 3)],
    ),
    (
        {"prompt": ["a", 2]},
        [
            told("string_type", ["prompt", "str"], STRING, ["a", 2]),
            told("string_type", ["prompt", "list[str]", 1], STRING, 2),
        ],
    ),
    (
        {"top_p": 9, "stream": None, "prompt": None},
        [
            told("less_than_equal", ["top_p"], f"{AT_MOST} 1", 9, le=1.0),
            told("bool_type", ["stream"], "a valid boolean", None),
            told("string_type", ["prompt", "str"], STRING, None),
            told("list_type", ["prompt", "list[str]"], "a valid list", None),
        ],
    ),
]


@pytest.mark.parametrize(("wrong", "faults"), WRONG, ids=[str(wrong) for wrong, _ in WRONG])
async def test_what_is_wrong_is_listed(wrong: dict[str, Any], faults: list[dict[str, Any]]) -> None:
    expected = [item | {"loc": ["body", *item["loc"]]} for item in faults]

    async def body(simulator: Simulator) -> None:
        answer = await ask(simulator, "POST", TEXT, PROMPT | wrong)
        assert (answer.status, answer.json()) == (422, {"detail": expected})
        assert simulator.log()[0].refused_by == "invalid"

    await with_simulator(PLAIN, body)


async def test_what_is_missing_or_no_object_is_listed() -> None:
    required = [
        {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": {}} for name in ("model", "prompt")
    ]
    zero = {"type": "value_error", "loc": ["body", "top_k"], "input": 0, "ctx": {"error": {}}}
    rows: list[tuple[object, list[dict[str, Any]]]] = [
        ({}, required),
        (b"", [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]),
        (
            b'{"model": }',
            [
                {
                    "type": "json_invalid",
                    "loc": ["body", 10],
                    "msg": "JSON decode error",
                    "input": {},
                    "ctx": {"error": "Expecting value"},
                }
            ],
        ),
        (PROMPT | {"top_k": 0}, [zero | {"msg": "Value error, top_k must be -1 (disabled) or >= 1"}]),
    ]

    async def body(simulator: Simulator) -> None:
        for sent, faults in rows:
            answer = await ask(simulator, "POST", TEXT, sent)
            assert (answer.status, answer.json()) == (422, {"detail": faults})
        assert (await ask(simulator, "POST", TEXT, [1])).json()["detail"][0]["type"] == "model_attributes_type"

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(
    ("messages", "places"),
    [
        (None, [["messages"]]),
        ([3], [["messages", 0]]),
        ([{}], [["messages", 0, "role"], ["messages", 0, "content"]]),
        ([{"role": 1, "content": "x"}], [["messages", 0, "role"]]),
        (
            [*HELLO, {"role": "user", "content": None}],
            [["messages", 1, "content", "str"], ["messages", 1, "content", "list[dict[str,any]]"]],
        ),
        (
            [{"role": "user", "content": [3]}],
            [["messages", 0, "content", "str"], ["messages", 0, "content", "list[dict[str,any]]", 0]],
        ),
    ],
    ids=str,
)
async def test_where_messages_are_wrong(messages: object, places: list[list[str | int]]) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await ask(simulator, "POST", CHAT, {"model": "m", "messages": messages})
        assert answer.status == 422
        assert [item["loc"][1:] for item in answer.json()["detail"]] == places

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_prompt_too_long_is_told_before_a_stream_begins(streams: bool) -> None:
    async def body(simulator: Simulator) -> None:
        asked = {"model": "m", "prompt": "x" * 224, "stream": streams}
        answer = await ask(simulator, "POST", TEXT, asked)
        assert (answer.status, answer.json()) == (400, {"detail": "prompt is 60 tokens; max_model_len is 50"})
        assert (await ask(simulator, "POST", TEXT, asked | {"prompt": "x" * 184})).status == 200
        assert (await post(simulator, "openai chat", messages=[{"role": "user", "content": "x" * 224}])).json()[
            "error"
        ]["code"] == "context_length_exceeded"

    await with_simulator(SimulatorConfig(max_input_tokens=50), body)


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, 501, "vision"),
        ({"type": "input_audio", "input_audio": {}}, 501, "speech"),
        ({"type": "video"}, 400, "unknown content part type: 'video'"),
    ],
    ids=str,
)
async def test_what_a_text_model_does_not_take(part: dict[str, Any], status: int, said: str) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, "inferneo chat", messages=[{"role": "user", "content": [part]}])
        assert answer.status == status
        assert said in answer.json()["detail"]

    await with_simulator(PLAIN, body)


NOT_FOUND, NOT_ALLOWED = {"detail": "Not Found"}, {"detail": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/models/tiny", 404, NOT_FOUND),
        ("GET", "/info", 404, NOT_FOUND),
        ("POST", "/v1/embeddings", 404, NOT_FOUND),
        ("POST", "/v1/completions/batch", 404, NOT_FOUND),
        ("GET", TEXT, 405, NOT_ALLOWED),
        ("POST", "/v1/models", 405, NOT_ALLOWED),
        ("DELETE", "/health", 405, NOT_ALLOWED),
    ],
)
async def test_what_is_not_there(method: str, path: str, status: int, said: object) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await ask(simulator, method, path)
        assert (answer.status, answer.json()) == (status, said)
        allowed = None if status == 404 else "POST" if path == TEXT else "GET"
        assert answer.headers.get("allow") == allowed

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(("method", "path"), [("POST", TEXT), ("POST", CHAT), ("GET", "/v1/models")])
async def test_a_slash_too_many_is_sent_elsewhere(method: str, path: str) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await ask(simulator, method, f"{path}/", PROMPT)
        assert (answer.status, answer.body) == (307, b"")
        assert answer.headers["location"] == f"http://simulator/inferneo{path}"
        assert simulator.log() == []

    await with_simulator(PLAIN, body)


async def test_what_else_it_tells() -> None:
    async def body(simulator: Simulator) -> None:
        assert (await ask(simulator, "GET", "/health")).json() == {"status": "ok"}
        models = (await ask(simulator, "GET", "/v1/models")).json()
        assert models["object"] == "list"
        (model,) = models["data"]
        assert model.pop("created") >= simulator._provider._unix_s
        assert model == {"id": "tiny", "object": "model", "owned_by": "inferneo"}
        schema = (await ask(simulator, "GET", "/openapi.json")).json()
        assert schema["info"] == {"title": "inferneo", "version": "0.1.0"}
        assert len(schema["paths"]) == 7
        assert (await ask(simulator, "GET", "/dashboard")).headers["content-type"] == "text/html; charset=utf-8"
        assert [aside.path.removeprefix("/inferneo") for aside in simulator.asides()][:2] == ["/health", "/v1/models"]
        assert simulator.log() == []

    await with_simulator(SimulatorConfig(models=("tiny", "other")), body)


async def test_its_load_is_told_while_calls_run_and_after() -> None:
    async def body(simulator: Simulator) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(ask, simulator, "POST", TEXT, PROMPT | {"max_tokens": 3, "seed": number})
            await until(lambda: simulator.statistics().in_flight == 2)
            stats = (await ask(simulator, "GET", "/stats")).json()
            assert (stats["running"], stats["waiting"], stats["totals"]["finished_requests"]) == (2, 0, 0)
            assert stats["kv_cache_usage"] > 0
            assert stats["uptime_s"] > 0
        stats = (await ask(simulator, "GET", "/stats")).json()
        assert (stats["running"], stats["kv_cache_usage"]) == (0, 0)
        finished = {"prompt_tokens": 10, "generation_tokens": 6, "finished_requests": 2, "preemptions": 0, "steps": 6}
        assert stats["totals"] == finished
        assert stats["gpu"]["mem_used_bytes"] < stats["gpu"]["mem_total_bytes"]
        assert stats["ttft_ms"].keys() == {"p50", "p99"}
        answer = await ask(simulator, "GET", "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        series = dict(re.findall(r"^(inferneo_\w+) (\S+)$", answer.body.decode(), re.MULTILINE))
        assert series["inferneo_generation_tokens_total"] == "6"
        assert series["inferneo_finished_requests_total"] == "2"
        assert series["inferneo_running_requests"] == series["inferneo_waiting_requests"] == "0"
        assert "# TYPE inferneo_kv_cache_usage_ratio gauge" in answer.body.decode().splitlines()

    await with_simulator(SimulatorConfig(latency=ConstantLatency(0.3)), body)


async def test_a_crash_is_plain_text_and_drops_the_connection() -> None:
    async def body(simulator: Simulator) -> None:
        answer = await ask(simulator, "POST", TEXT, PROMPT)
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["connection"] == "close"
        assert (await ask(simulator, "GET", "/health")).json() == {"status": "ok"}

    await with_simulator(SimulatorConfig(faults=FaultRates(server_error=1.0)), body)
    await with_simulator(PLAIN, _no_prompt_crashes)


async def test_an_engine_that_crashed_answers_nobody_until_a_restart() -> None:
    async def body(simulator: Simulator) -> None:
        assert (await ask(simulator, "POST", TEXT, PROMPT)).status == 200
        assert (await ask(simulator, "POST", TEXT, {**PROMPT, "model": "crash", "top_k": 0})).status == 422
        assert (await ask(simulator, "POST", TEXT, PROMPT)).status == 200
        for path, wanted in [
            (TEXT, {**PROMPT, "model": "crash"}),
            (TEXT, PROMPT),
            (CHAT, {"model": "m", "messages": HELLO}),
            (CHAT, {"model": "m", "messages": HELLO, "stream": True}),
        ]:
            answer = await ask(simulator, "POST", path, wanted)
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["connection"] == "close"
            assert (await ask(simulator, "GET", "/health")).json() == {"status": "ok"}
        documented = await ask(simulator, "POST", TEXT, {**PROMPT, "model": "crash"}, provider="inferneo_documented")
        assert documented.status == 200, "another server"
        assert [arrival.status for arrival in simulator.log()] == [200, 422, 200, 500, 500, 500, 500, 200]

    for _ in range(2):  # a restart mends it
        await with_simulator(PLAIN, body)


async def _no_prompt_crashes(simulator: Simulator) -> None:
    assert (await ask(simulator, "POST", TEXT, PROMPT | {"prompt": []})).body == b"Internal Server Error"


@pytest.mark.parametrize("fault", ["stream_error", "error_in_200", "stream_cut"])
async def test_a_failing_stream_is_cut_off_without_a_word(fault: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, "inferneo chat", max_tokens=9)
        assert (streamed.status, streamed.end) == (200, "cut")
        assert len(events_of(streamed)) == 3
        assert (b"error" in streamed.body, b"[DONE]" in streamed.body) == (False, False)
        assert simulator.ends()[0].ending == "cut"

    await with_simulator(SimulatorConfig(faults=FaultRates(**{fault: 1.0}, stream_at=3)), body)


async def test_a_key_matters_only_if_one_is_demanded() -> None:
    async def ignored(simulator: Simulator) -> None:
        assert (await ask(simulator, "POST", TEXT, PROMPT, key="whatever")).status == 200

    async def demanded(simulator: Simulator) -> None:
        answer = await ask(simulator, "POST", TEXT, PROMPT, key="wrong")
        assert (answer.status, answer.json()["error"].keys()) == (401, {"message", "type", "param", "code"})
        assert b"sesame" not in answer.body
        assert (await ask(simulator, "GET", "/v1/models")).json()["error"]["code"] == "invalid_api_key"
        assert (await ask(simulator, "GET", "/health")).status == 200
        for method, path in (("POST", TEXT), ("GET", "/v1/models"), ("GET", "/stats")):
            assert (await ask(simulator, method, path, PROMPT, key="sesame")).status == 200

    await with_simulator(PLAIN, ignored)
    await with_simulator(SimulatorConfig(key="sesame"), demanded)


LIMITED = SimulatorConfig(models=("a/b", "c"), limits=(ProviderLimit("requests", 2, 60.0),))


async def test_its_limits_are_told_as_documented() -> None:
    async def body(simulator: Simulator) -> None:
        answers = [await ask(simulator, "POST", TEXT, PROMPT, provider="inferneo_documented") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["2", "2", "2"]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
        assert 0 < int(answers[0].headers["x-ratelimit-reset"]) - simulator._provider._unix_s <= 80
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"

    await with_simulator(LIMITED, body)


async def test_the_server_itself_tells_of_no_limits() -> None:
    async def body(simulator: Simulator) -> None:
        answers = [await ask(simulator, "POST", TEXT, PROMPT) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert not any("ratelimit" in name for answer in answers for name in answer.headers)
        assert "Rate limit reached" in answers[2].json()["detail"]

    await with_simulator(LIMITED, body)


async def test_the_records_of_models_as_documented() -> None:
    async def body(simulator: Simulator) -> None:
        async def record(path: str) -> Response:
            return await ask(simulator, "GET", path, provider="inferneo_documented")

        assert [model["id"] for model in (await record("/v1/models")).json()["data"]] == ["a/b", "c"]
        for path in ("/v1/models/a/b", "/v1/models/a%2Fb"):
            model = (await record(path)).json()
            assert (model["id"], model["root"], model["parent"], model["permission"]) == ("a/b", "a/b", None, [])
        lost = await record("/v1/models/d")
        assert (lost.status, lost.json()["error"]["code"]) == (404, "model_not_found")
        assert (await record("/info")).json()["error"]["code"] == "unknown_url"

    await with_simulator(LIMITED, body)


async def test_answers_and_streams_as_documented() -> None:
    async def body(simulator: Simulator) -> None:
        whole = (await post(simulator, "inferneo_documented completions")).json()
        assert (whole["choices"][0]["logprobs"], whole["usage"]["completion_tokens"]) == (None, 16)
        events = events_of(await stream(simulator, "inferneo_documented chat", max_tokens=2))
        assert {event["object"] for event in events} == {"chat.completion"}
        assert not any("model" in event for event in events)
        crashed = await ask(simulator, "POST", TEXT, PROMPT | {"prompt": []}, provider="inferneo_documented")
        assert (crashed.status, crashed.json()["error"]["code"]) == (500, "server_error")

    await with_simulator(PLAIN, body)
