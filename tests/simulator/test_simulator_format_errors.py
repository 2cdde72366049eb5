"""What each simulated provider refuses, and in which words: wrong requests, keys, limits, overload, errors in a 200,
and the faults that spoil a stream."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from format_client import ENDPOINTS, HELLO, STREAMING, events_of, fixture, missing, post, stream, text_of
from simulator_client import Response, connect, with_simulator

from engine.simulator import FaultRates, ProviderLimit, Simulator, SimulatorConfig

PLAIN = SimulatorConfig(output_tokens=6)
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    # Whose, what is wrong, the status, and a part of what is said of it.
    ("openai chat", {"model": "gpt-5-mini", "max_tokens": 5}, 400, "'max_tokens' is not supported with this model"),
    ("openai chat", {"model": "o3", "temperature": 0.2}, 400, "Only the default \\(1\\) value"),
    ("openai responses", {"messages": HELLO}, 400, "this parameter is 'input'"),
    ("openai responses", {"max_tokens": 5}, 400, "this parameter is 'max_output_tokens'"),
    ("openai responses", {"stream_options": {"include_usage": True}}, 400, "stream_options.include_usage"),
    ("openai responses", {"input": None}, 400, "'input'"),
    ("openai embed", {"input": ["a", ""]}, 400, "'input'"),
    ("openai embed", {"input": ["a"] * 2_049}, 400, "2048"),
    ("openai embed", {"encoding_format": "int8"}, 400, "encoding_format"),
    ("ollama embed", {"input": [""]}, 400, "'input'"),
    ("nvidia_nim embed", {"input_type": None}, 422, "input_type"),
    ("nvidia_nim chat", {"messages": None}, 422, "messages"),
    ("anthropic chat", {"max_tokens": None}, 400, "max_tokens: Field required"),
    ("anthropic chat", {"messages": [{"role": "system", "content": "x"}, *HELLO]}, 400, 'Unexpected role "system"'),
    ("anthropic chat", {"seed": 1}, 400, "seed: Extra inputs are not permitted"),
    ("anthropic chat", {"temperature": 1.5}, 400, "temperature"),
    ("anthropic chat", {"thinking": {"type": "enabled", "budget_tokens": 5}}, 400, "1024"),
    ("gemini chat", {"frequency_penalty": 0}, 400, 'Unknown name "frequency_penalty"'),
    ("gemini chat", {"seed": 1}, 400, 'Unknown name "seed"'),
    ("groq chat", {"logit_bias": {}}, 400, "logit_bias"),
    ("groq chat", {"n": 2}, 400, "'n'"),
    ("groq chat", {"messages": [{**HELLO[0], "name": "a"}]}, 400, "name"),
    ("ollama chat", {"model": None}, 400, "model is required"),
    ("ollama compat", {"messages": None}, 400, "messages"),
    ("deepseek chat", {"max_tokens": 0}, 400, "max_tokens"),
    ("perplexity chat", {"model": None}, 400, "model"),
    ("openrouter chat", {"messages": []}, 400, "messages"),
    ("exa search", {"query": None}, 400, "query"),
    ("exa search", {"numResults": 101}, 400, "numResults"),
    ("tavily search", {"topic": "sport"}, 400, "Invalid topic. Must be 'general' or 'news'"),
    ("tavily search", {"max_results": 21}, 400, "20"),
    ("tavily extract", {"urls": ["https://example.org/"] * 21}, 400, "20"),
    ("firecrawl scrape", {"only_main_content": True}, 400, "Unrecognized key in body.*only_main_content"),
    ("firecrawl scrape", {"formats": ["extract"]}, 400, "formats"),
    ("firecrawl map", {"url": "no address"}, 400, "Invalid URL"),
    ("inferneo chat", {"temperature": -1}, 422, "greater than or equal to 0"),
    ("inferneo completions", {"prompt": None}, 422, '"missing", "loc": ..body", "prompt"'),
    ("inferneo_documented chat", {"top_p": 9}, 400, '"param": "top_p"'),
    ("inferneo_documented completions", {"model": None}, 400, "Field required"),
]
SHAPES = {
    "openai chat": "openai_chat/error_401.json",
    "openai responses": "openai_chat/error_401.json",
    "openai embed": "openai_chat/error_401.json",
    "anthropic chat": "anthropic_messages/error_400.json",
    "gemini chat": "gemini_chat/error_400_unknown_field.json",
    "ollama chat": "ollama_native/error_404.json",
    "ollama compat": "ollama_compat/error_404.json",
    "ollama embed": "ollama_compat/error_404.json",
    "groq chat": "groq_chat/error_429.json",
    "deepseek chat": "deepseek_chat/error_429.json",
    "perplexity chat": "perplexity_chat/error_429.json",
    "openrouter chat": "openrouter_chat/error_402.json",
    "nvidia_nim chat": "nvidia_nim_chat/error_422.json",
    "nvidia_nim embed": "nvidia_nim_chat/error_422.json",
    "exa search": "exa_search/error_429.json",
    "tavily search": "tavily_search/error_400.json",
    "tavily extract": "tavily_search/error_400.json",
    "firecrawl scrape": "firecrawl_scrape/error_402.json",
    "firecrawl map": "firecrawl_scrape/error_402.json",
    "inferneo chat": "inferneo_chat/error_422.json",
    "inferneo completions": "inferneo_chat/error_422.json",
    "inferneo_documented chat": "inferneo_chat/error_429_documented.json",
    "inferneo_documented completions": "inferneo_chat/error_429_documented.json",
}


def shape(name: str, told: Any) -> list[str]:
    """Where a refusal is not of its provider's shape; Groq leaves out a code that it has not, and Inferneo lists
    nothing but what is wrong in a request."""
    expected = fixture(SHAPES[name])
    if ENDPOINTS[name].provider == "inferneo":
        expected = expected if isinstance(told.get("detail"), list) else fixture("inferneo_chat/error_400.json")
    if name == "groq chat" and "code" not in told["error"]:
        del expected["error"]["code"]
    return missing(expected, told)


def test_every_endpoint_refuses_something_here() -> None:
    assert {name for name, *_ in REFUSED} == set(SHAPES) == set(ENDPOINTS)


@pytest.mark.parametrize(("name", "wrong", "status", "said"), REFUSED)
async def test_what_the_real_one_refuses_is_refused_in_its_words(
    name: str, wrong: dict[str, Any], status: int, said: str
) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, name, **wrong)
        told = answer.json()
        assert (answer.status, shape(name, told)) == (status, [])
        assert re.search(said, json.dumps(told).replace('\\"', '"'))
        assert [(arrival.refused_by, arrival.status) for arrival in simulator.log()] == [("invalid", status)]

    await with_simulator(PLAIN, body)


async def test_anthropics_versions_differ() -> None:
    """Without a version nothing is served; the one of 2026 has no parameters of sampling, the one before it has."""

    async def body(simulator: Simulator) -> None:
        path = simulator.address("anthropic").partition(str(simulator.port))[2] + "/v1/messages"
        sent = json.dumps({**ENDPOINTS["anthropic chat"].body, "temperature": 1}).encode()
        statuses = {}
        for version in ("", "2023-06-01", "2026-10-21"):
            async with connect(simulator.port) as client:
                headers = {"anthropic-version": version} if version else {}
                statuses[version] = (await client.request("POST", path, sent, headers)).status
        assert statuses == {"": 400, "2023-06-01": 200, "2026-10-21": 400}

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(("name", "null"), [("gemini chat", True), ("openai chat", False)])
async def test_null_is_an_error_at_gemini_alone(name: str, null: bool) -> None:
    async def body(simulator: Simulator) -> None:
        sent = json.dumps({**ENDPOINTS[name].body, "temperature": None}).encode()
        path = f"{simulator.address(name.split()[0]).partition(str(simulator.port))[2]}/chat/completions"
        async with connect(simulator.port) as client:
            assert (await client.request("POST", path, sent)).status == (400 if null else 200)

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_the_key_is_demanded_where_the_real_one_has_it(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        refused = [await post(simulator, name), await post(simulator, name, {"authorization": "Bearer wrong"})]
        expected = 400 if name == "gemini chat" else 401
        assert [answer.status for answer in refused] == [expected, expected]
        assert [b"sesame" in answer.body for answer in refused] == [False, False]
        assert (await post(simulator, name, {"authorization": "Bearer sesame"})).status == 200
        other = (await post(simulator, name, {"x-api-key": "sesame"})).status
        assert other == (200 if name in ("anthropic chat", "exa search") else expected)
        assert simulator.log()[0].refused_by == "key"

    await with_simulator(SimulatorConfig(key="sesame"), body)


LIMITED = SimulatorConfig(
    limits=(
        ProviderLimit("requests", 1, 60.0),
        ProviderLimit("input_tokens", 1_000, 60.0),
        ProviderLimit("output_tokens", 2_000, 60.0),
    )
)
TOLD: dict[str, set[str]] = {
    # The headers with which a provider tells of its limits when they are reached; those that are not here have none.
    "openai": {
        *(f"x-ratelimit-{part}-{what}" for part in ("limit", "remaining", "reset") for what in ("requests", "tokens")),
        "retry-after",
        "retry-after-ms",
    },
    "anthropic": {
        *(
            f"anthropic-ratelimit-{what}-{part}"
            for part in ("limit", "remaining", "reset")
            for what in ("requests", "input-tokens", "output-tokens")
        ),
        "retry-after",
    },
    "groq": {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "retry-after"},
    "openrouter": {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"},
    "exa": {"retry-after"},
    "inferneo": {"retry-after"},
    "inferneo_documented": {
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
    },
}
OVER = {
    "openai": "openai_chat/error_429_rate.json",
    "anthropic": "anthropic_messages/error_429.json",
    "gemini": "gemini_chat/error_429_array.json",
    "groq": "groq_chat/error_429.json",
    "deepseek": "deepseek_chat/error_429.json",
    "perplexity": "perplexity_chat/error_429.json",
    "openrouter": "openrouter_chat/error_429.json",
    "nvidia_nim": "nvidia_nim_chat/error_429.json",
    "exa": "exa_search/error_429.json",
    "tavily": "tavily_search/error_429.json",
    "firecrawl": "firecrawl_scrape/error_429.json",
    "ollama": "ollama_native/error_404.json",
    "inferneo": "inferneo_chat/error_400.json",
    "inferneo_documented": "inferneo_chat/error_429_documented.json",
}


def limit_words(answer: Response) -> set[str]:
    """The headers of an answer that tell of limits."""
    return {name for name in answer.headers if "ratelimit" in name or name.startswith("retry-after")}


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name not in ("ollama compat", "ollama embed")])
async def test_over_a_limit_the_answer_is_the_providers_429(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        provider = ENDPOINTS[name].provider
        first, second = await post(simulator, name), await post(simulator, name)
        assert (first.status, second.status) == (200, 429)
        assert missing(fixture(OVER[provider]), second.json()) == []
        assert limit_words(second) == TOLD.get(provider, set())
        waits = TOLD.get(provider, set()) if provider != "openrouter" else set()
        assert limit_words(first) == {word for word in waits if not word.startswith("retry-after")}
        assert simulator.log()[1].refused_by == "requests"

    await with_simulator(LIMITED, body)


async def test_when_to_come_back_in_every_form() -> None:
    """Durations, times of the calendar, milliseconds, a field of the body, a text: all of them within the minute."""

    async def body(simulator: Simulator) -> None:
        said = {name: await post(simulator, name) for name in ENDPOINTS for _ in range(2)}
        at_s = simulator._provider._unix_s
        assert re.fullmatch(r"59(\.\d+)?s|1m0s", said["openai chat"].headers["x-ratelimit-reset-requests"])
        reset = datetime.fromisoformat(said["anthropic chat"].headers["anthropic-ratelimit-requests-reset"])
        assert 0 < reset.timestamp() - at_s <= 80
        for name in ("openai chat", "anthropic chat", "exa search"):
            assert 0 < int(said[name].headers["retry-after"]) <= 60
        milliseconds = said["openrouter chat"].headers["x-ratelimit-reset"]
        assert 0 < int(milliseconds) / 1000 - at_s <= 80
        repeated = said["openrouter chat"].json()["error"]["metadata"]["headers"]
        assert repeated["X-RateLimit-Reset"] == milliseconds
        (gemini,) = said["gemini chat"].json()
        (retry,) = [item for item in gemini["error"]["details"] if item["@type"].endswith("RetryInfo")]
        assert 0 < float(retry["retryDelay"].removesuffix("s")) <= 60
        assert f"retry in {retry['retryDelay']}" in gemini["error"]["message"]
        wait = re.search(r"retry after (\d+)s, resets at \w{3} \w{3} \d\d \d{4}", said["firecrawl map"].json()["error"])
        assert wait is not None
        assert 0 < int(wait[1]) <= 60

    await with_simulator(LIMITED, body)


async def test_groq_tells_of_a_days_requests_and_a_minutes_tokens_alone() -> None:
    limits = (
        ProviderLimit("requests", 30, 60.0),
        ProviderLimit("requests", 14_400, 86_400.0),
        ProviderLimit("total_tokens", 6_000, 60.0),
        ProviderLimit("total_tokens", 5_000, 86_400.0),
    )

    async def body(simulator: Simulator) -> None:
        told = (await post(simulator, "groq chat")).headers
        assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-limit-tokens"]) == ("14400", "6000")

    await with_simulator(SimulatorConfig(limits=limits), body)


@pytest.mark.parametrize(("name", "status"), [("openai chat", 429), ("groq chat", 413), ("anthropic chat", 429)])
async def test_what_can_never_fit_has_no_time_to_come_back(name: str, status: int) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, name)
        assert (answer.status, "retry-after" in answer.headers) == (status, False)

    await with_simulator(SimulatorConfig(limits=(ProviderLimit("input_tokens", 5, 60.0),)), body)


OVERLOADED = {"anthropic": 529, "openrouter": 529}
IN_200: dict[str, str] = {
    # What stands for the error in a 200; the others have their own error's first field.
    "openai responses": '"status":"failed"',
    "ollama chat": '"error":"an error was encountered while running the model"',
    "openrouter chat": '"error":{"code":502',
    "anthropic chat": '"type":"error"',
    "firecrawl scrape": '"success":false',
    "firecrawl map": '"success":false',
    "tavily search": '"detail":{"error"',
    "tavily extract": '"detail":{"error"',
    "nvidia_nim chat": '"title":"Internal Server Error"',
    "nvidia_nim embed": '"title":"Internal Server Error"',
    "inferneo chat": '"detail":',
    "inferneo completions": '"detail":',
}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_an_error_in_a_200_has_the_providers_form(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, name)
        assert answer.status == 200
        assert IN_200.get(name, '"error":') in answer.body.decode()
        assert simulator.statistics().faults == {"error_in_200": 1}

    await with_simulator(SimulatorConfig(faults=FaultRates(error_in_200=1.0)), body)


STREAM_ERRORS = {
    "openai chat": b'data: {"error":{"message":"The server had an error',
    "openai responses": b'event: response.failed\ndata: {"type":"response.failed"',
    "anthropic chat": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"',
    "gemini chat": b'data: {"error":{"code":503',
    "ollama chat": b'{"error":"an error was encountered while running the model"}\n',
    "ollama compat": b'data: {"error":{"message":',
    "groq chat": b'"error":"over capacity"}}\n\n',
    "deepseek chat": b'data: {"error":{"message":',
    "perplexity chat": b'event: error\r\ndata: {"error":{"message":',
    "openrouter chat": b'"finish_reason":"error"}]}\n\ndata: [DONE]\n\n',
    "nvidia_nim chat": b'data: {"error":{"message":',
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
async def test_a_stream_fails_in_the_providers_form(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, name)
        assert (streamed.status, streamed.end) == (200, "done")
        assert STREAM_ERRORS[name] in streamed.body
        assert simulator.ends()[0].ending == "error"
        assert simulator.ends()[0].events == 3

    await with_simulator(SimulatorConfig(output_tokens=9, faults=FaultRates(error_in_200=1.0, stream_at=3)), body)


@pytest.mark.parametrize(("fault", "status"), [("server_error", 500), ("unavailable", 503), ("rate_limited", 429)])
@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_failure_by_chance_is_told_in_the_providers_shape(name: str, fault: str, status: int) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, name)
        expected = OVERLOADED.get(ENDPOINTS[name].provider, status) if fault == "unavailable" else status
        assert answer.status == expected == simulator.log()[0].status
        if name.startswith("nvidia_nim"):
            assert answer.json()["status"] == status
        elif name.startswith("inferneo ") and fault == "server_error":
            assert answer.body == b"Internal Server Error"
        elif name != "gemini chat":
            assert shape(name, answer.json()) == []
        else:
            assert answer.json()[0]["error"]["code"] == status

    await with_simulator(SimulatorConfig(faults=FaultRates(**{fault: 1.0})), body)


@pytest.mark.parametrize("name", STREAMING)
async def test_split_characters_arrive_whole_in_every_format(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, name)
        events = events_of(streamed)
        said = "".join(text_of(name, event) for event in events).encode("utf-16", "surrogatepass").decode("utf-16")
        assert "☕😀" in said
        if name == "openai responses":
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert events[-1]["response"]["output"][-1]["content"][0]["text"] == said
        if name == "anthropic chat":
            kinds = [event["type"] for event in events]
            assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert simulator.ends()[0].events == len(events) + streamed.body.count(b"[DONE]")

    await with_simulator(SimulatorConfig(output_tokens=5, faults=FaultRates(stream_split=1.0)), body)


@pytest.mark.parametrize("name", STREAMING)
async def test_a_stream_without_its_end_lacks_what_ends_it(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, name)
        ends = (b"[DONE]", b"message_stop", b"response.completed", b'"done":true')
        assert not any(end in streamed.body for end in ends)
        assert "".join(text_of(name, event) for event in events_of(streamed))

    await with_simulator(SimulatorConfig(output_tokens=5, faults=FaultRates(stream_no_done=1.0)), body)


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("fault", ["malformed_json", "truncated"])
async def test_one_event_of_a_stream_is_spoiled(name: str, fault: str) -> None:
    async def body(simulator: Simulator) -> None:
        streamed = await stream(simulator, name)
        assert streamed.end == ("cut" if fault == "truncated" else "done")
        lines = [line.removeprefix(b"data: ") for line in streamed.body.replace(b"\r\n", b"\n").splitlines()]
        assert sum(_is_spoiled(line) for line in lines if line.startswith(b"{")) == 1

    faults = FaultRates(**{fault: 1.0}, stream_at=2)
    await with_simulator(SimulatorConfig(output_tokens=5, faults=faults), body)


def _is_spoiled(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_no_usage_and_wrong_types_are_possible_everywhere(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        assert (await post(simulator, name)).status == 200
        if name in STREAMING:
            assert (await stream(simulator, name)).end == "done"

    for fault in ("null_usage", "wrong_types"):
        await with_simulator(SimulatorConfig(output_tokens=3, faults=FaultRates(**{fault: 1.0})), body)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/anthropic/v1/complete", {"type", "error", "request_id"}),
        ("/exa/findSimilar", {"requestId", "error", "tag"}),
        ("/nobody/v1/x", {"error"}),
    ],
)
async def test_an_unknown_path_is_refused_by_whose_prefix_it_has(path: str, fields: set[str]) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            answer = await client.request("POST", path, b"{}")
        assert (answer.status, answer.json().keys()) == (404, fields)
        assert simulator.statistics().not_found == 1

    await with_simulator(PLAIN, body)
