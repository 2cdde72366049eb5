"""Every provider of the catalogue on real sockets: its paths, its answers and its streams in the shapes of the real
one, and what they cost."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from struct import unpack
from typing import Any

import pytest
from format_client import (
    ELSEWHERE,
    ENDPOINTS,
    FIXTURES,
    FLAT_TOOLS,
    STREAMING,
    TOOLS,
    events_of,
    fixture,
    made_calls,
    missing,
    post,
    stream,
    streamed_calls,
    text_of,
    whole_text_of,
)
from simulator_client import connect, with_simulator

from engine.errors import UsageError
from engine.simulator import PROVIDERS, Simulator, SimulatorConfig, StreamShape

THINKING = SimulatorConfig(output_tokens=6, stream=StreamShape(reasoning=2))
PLAIN = SimulatorConfig(output_tokens=6)
CONTENTS = {"text": True, "highlights": True, "summary": True}
ASKED: dict[str, dict[str, Any]] = {
    "exa search": {"contents": CONTENTS},
    "firecrawl scrape": {"formats": ["markdown", "html", "links"]},
    "tavily extract": {"urls": ["https://example.org/a", "https://nowhere.invalid/"]},
}


def test_every_provider_has_an_endpoint_here() -> None:
    assert {endpoint.provider for endpoint in ENDPOINTS.values()} | ELSEWHERE == set(PROVIDERS)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_an_answer_has_the_fields_of_the_real_one(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        answer = await post(simulator, name, **ASKED.get(name, {}))
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        told = answer.json()
        if name == "openai chat":
            told["usage"] |= {"prompt_tokens_details": None, "completion_tokens_details": None}  # told in streams alone
        assert missing(fixture(f"{ENDPOINTS[name].fixture}/response.json"), told) == []

    await with_simulator(PLAIN if name == "anthropic chat" else THINKING, body)


async def test_anthropic_thinks_before_it_calls() -> None:
    async def body(simulator: Simulator) -> None:
        told = (await post(simulator, "anthropic chat", tools=FLAT_TOOLS)).json()
        expected = fixture("anthropic_messages/response_tool_use_thinking.json")
        expected["content"] = [block for block in expected["content"] if block["type"] != "text"]
        expected["content"][1]["input"] = {"text": ""}
        assert missing(expected, told) == []
        assert [missing(*pair) for pair in zip(expected["content"], told["content"], strict=True)] == [[], []]
        streamed = await stream(simulator, "anthropic chat", tools=FLAT_TOOLS)
        kinds = [event["delta"]["type"] for event in events_of(streamed) if event["type"] == "content_block_delta"]
        assert list(dict.fromkeys(kinds)) == ["thinking_delta", "signature_delta", "input_json_delta"]

    await with_simulator(THINKING, body)


@pytest.mark.parametrize("name", STREAMING)
async def test_a_stream_says_what_an_answer_in_one_piece_says(name: str) -> None:
    async def body(simulator: Simulator) -> None:
        whole = await post(simulator, name, headers={"x-penstock-call": "one"})
        streamed = await stream(simulator, name)
        events = events_of(streamed)
        assert (streamed.status, streamed.end) == (200, "done")
        pieces = [piece for piece in (text_of(name, event) for event in events) if piece]
        assert len(pieces) == len(whole_text_of(name, whole.json()).split()) > 3
        assert simulator.log()[0].output_tokens == simulator.log()[1].output_tokens == len(pieces)

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_the_same_call_gets_the_same_answer(name: str) -> None:
    said: list[bytes] = []

    async def body(simulator: Simulator) -> None:
        said.append((await post(simulator, name)).body)

    for _ in range(2):
        await with_simulator(PLAIN, body)
    first, second = (re.sub(rb"17\d{8}|20\d\d-\d\d-\d\dT[\d:.]+Z", b"", whole) for whole in said)
    assert first == second


STREAM_FIXTURES = {
    "openai chat": "openai_chat/stream.sse",
    "openai responses": "openai_responses/stream.sse",
    "anthropic chat": "anthropic_messages/stream.sse",
    "gemini chat": "gemini_chat/stream.sse",
    "ollama chat": "ollama_native/stream.ndjson",
    "groq chat": "groq_chat/stream.sse",
    "deepseek chat": "deepseek_chat/stream.sse",
    "perplexity chat": "perplexity_chat/stream.sse",
    "openrouter chat": "openrouter_chat/stream.sse",
    "inferneo chat": "inferneo_chat/stream.sse",
    "inferneo completions": "inferneo_completions/stream.sse",
}


@pytest.mark.parametrize("name", STREAM_FIXTURES)
async def test_the_events_of_a_stream_have_the_fields_of_the_real_ones(name: str) -> None:
    """The first event, each kind of event, and the last, of a stream that tells its usage and its reasoning."""
    text = (FIXTURES / STREAM_FIXTURES[name]).read_text()
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: {", "{"))]
    expected = [json.loads(line) for line in lines]
    options = {} if name in ("openai responses", "anthropic chat") else {"stream_options": {"include_usage": True}}
    config = PLAIN if name in ("anthropic chat", "openai chat") else THINKING

    async def body(simulator: Simulator) -> None:
        events = events_of(await stream(simulator, name, **options))
        if "type" in expected[0]:
            told = {event["type"]: event for event in events}
            wanted = {event["type"]: event for event in expected}
            pairs = [(wanted[kind], told.get(kind, {})) for kind in wanted]
        else:
            pairs = [(expected[0], events[0]), (expected[-1], events[-1]), (expected[-2], events[-2])]
        assert [words for pair in pairs if (words := missing(*pair))] == []

    await with_simulator(config, body)


SHAPES: dict[str, tuple[bytes, bytes]] = {
    "openai chat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "openai responses": (b"event: response.created\ndata: ", b"}\n\n"),
    "anthropic chat": (b"event: message_start\ndata: ", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    "gemini chat": (b'data: {"id":"', b"data: [DONE]\n\n"),
    "ollama chat": (b'{"model":"m",', b"}\n"),
    "ollama compat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "groq chat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "deepseek chat": (b": keep-alive\n\n: keep-alive\n\ndata: ", b"data: [DONE]\n\n"),
    "perplexity chat": (b'data: {"id":"', b"data: [DONE]\r\n\r\n"),
    "openrouter chat": (b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: ", b"data: [DONE]\n\n"),
    "nvidia_nim chat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "inferneo chat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "inferneo completions": (b'data: {"id":"cmpl-', b"data: [DONE]\n\n"),
    "inferneo_documented chat": (b'data: {"id":"chatcmpl-', b"data: [DONE]\n\n"),
    "inferneo_documented completions": (b'data: {"id":"cmpl-', b"data: [DONE]\n\n"),
}


@pytest.mark.parametrize("name", STREAMING)
async def test_a_stream_begins_and_ends_as_the_real_one(name: str) -> None:
    begins, ends = SHAPES[name]

    async def body(simulator: Simulator) -> None:
        said = (await stream(simulator, name)).body
        assert said.startswith(begins)
        assert said.endswith(ends)
        assert (b"[DONE]" in said) == (b"[DONE]" in ends)

    await with_simulator(PLAIN, body)


def usage_of(name: str, event: Any) -> tuple[int, int] | None:
    """The tokens in and out that an event of a stream tells of."""
    if name == "ollama chat":
        return (event["prompt_eval_count"], event["eval_count"]) if "eval_count" in event else None
    usage = event.get("usage") or event.get("x_groq", {}).get("usage") or (event.get("response") or {}).get("usage")
    if not usage:
        return None
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    return given, usage.get("completion_tokens", usage.get("output_tokens"))


TELLING = [name for name in STREAMING if not name.startswith("inferneo")]
"""Those whose streams tell of their usage, and that call tools: all but Inferneo's."""


@pytest.mark.parametrize("name", TELLING)
async def test_a_stream_tells_what_was_charged(name: str) -> None:
    asks = name in ("openai chat", "ollama compat", "deepseek chat", "nvidia_nim chat")
    options = {"stream_options": {"include_usage": True}} if asks else {}

    async def body(simulator: Simulator) -> None:
        used = [
            told for event in events_of(await stream(simulator, name, **options)) if (told := usage_of(name, event))
        ]
        arrival = simulator.log()[0]
        assert used[-1] == (arrival.input_tokens, arrival.output_tokens)
        assert arrival.input_tokens == 6
        counts = [output for _, output in used]
        assert counts == ([1, 2, 3, 4, 5, 6, 6] if name == "perplexity chat" else [arrival.output_tokens])

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize("name", [name for name in TELLING if name != "perplexity chat"])
async def test_tools_are_called_in_one_piece_and_in_a_stream(name: str) -> None:
    tools = FLAT_TOOLS if name in ("openai responses", "anthropic chat") else TOOLS

    async def body(simulator: Simulator) -> None:
        whole = made_calls(name, (await post(simulator, name, tools=tools)).json())
        streamed = streamed_calls(name, events_of(await stream(simulator, name, tools=tools)))
        for ((called, arguments),) in (whole, streamed):
            assert called == "get_weather"
            assert len(arguments["text"].split()) > 3

    await with_simulator(PLAIN, body)


async def test_what_search_and_scrape_find() -> None:
    async def body(simulator: Simulator) -> None:
        found = (await post(simulator, "exa search", numResults=3)).json()["results"]
        again = (await post(simulator, "exa search", numResults=2)).json()["results"]
        assert [page["url"] for page in found][:2] == [page["url"] for page in again]
        assert all(page["url"].startswith("https://example.org/") and "text" not in page for page in found)
        assert len((await post(simulator, "tavily search", max_results=7)).json()["results"]) == 7
        extracted = (
            await post(simulator, "tavily extract", urls=["https://a.invalid/", "https://example.org/"])
        ).json()
        assert [page["url"] for page in extracted["results"]] == ["https://example.org/"]
        assert [page["url"] for page in extracted["failed_results"]] == ["https://a.invalid/"]
        scraped = (await post(simulator, "firecrawl scrape", url="https://example.org/404")).json()
        assert (scraped["success"], scraped["data"]["metadata"]["statusCode"]) == (True, 404)
        lost = await post(simulator, "firecrawl scrape", url="https://a.invalid/")
        assert (lost.status, lost.json()["code"]) == (500, "SCRAPE_DNS_RESOLUTION_ERROR")
        assert len((await post(simulator, "firecrawl map", limit=4)).json()["links"]) == 4

    await with_simulator(PLAIN, body)


async def test_a_text_has_one_vector_in_both_encodings() -> None:
    async def body(simulator: Simulator) -> None:
        asked = {"input": ["weir", "sluice", "weir"], "dimensions": 5}
        plain = (await post(simulator, "openai embed", **asked)).json()["data"]
        packed = (await post(simulator, "openai embed", encoding_format="base64", **asked)).json()["data"]
        vectors = [tuple(item["embedding"]) for item in plain]
        assert [unpack("<5f", b64decode(item["embedding"])) for item in packed] == vectors
        assert vectors[0] == vectors[2] != vectors[1]
        assert sum(number * number for number in vectors[0]) == pytest.approx(1.0)
        counted = (await post(simulator, "openai embed", input=[[1, 2, 3], [4]])).json()["usage"]
        assert counted == {"prompt_tokens": 4, "total_tokens": 4}

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(
    ("name", "cost"),
    [("openai embed", (6, 0)), ("exa search", (0, 0)), ("anthropic chat", (6, 4)), ("openai responses", (6, 6))],
)
async def test_what_a_request_costs(name: str, cost: tuple[int, int]) -> None:
    async def body(simulator: Simulator) -> None:
        await post(simulator, name)
        assert [(arrival.input_tokens, arrival.output_tokens) for arrival in simulator.log()] == [cost]

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/responses", "openai responses"),
        ("/v1/embeddings", "openai embed"),
        ("/v1/messages", "anthropic chat"),
        ("/api/chat", "ollama chat"),
    ],
)
async def test_paths_without_a_prefix_are_their_owners(path: str, name: str) -> None:
    async def body(simulator: Simulator) -> None:
        endpoint = ENDPOINTS[name]
        async with connect(simulator.port) as client:
            bare = await client.request("POST", path, json.dumps(endpoint.body).encode(), endpoint.headers)
        assert bare.json().keys() == (await post(simulator, name)).json().keys()

    await with_simulator(PLAIN, body)


async def test_an_address_of_nobody_names_those_there_are() -> None:
    async def body(simulator: Simulator) -> None:
        assert simulator.address("groq") == f"http://127.0.0.1:{simulator.port}/groq/openai/v1"
        with pytest.raises(UsageError, match=r"no provider is called 'grok'.*groq"):
            simulator.address("grok")

    await with_simulator(PLAIN, body)


COMPLETION = {"model": "m", "prompt": "hello"}


@pytest.mark.parametrize("path", ["/v1/completions", "/openai/v1/completions"])
async def test_text_completions(path: str) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            for more, choices, tokens in (
                ({}, 1, 16),
                ({"max_tokens": 4}, 1, 4),
                ({"n": 2, "prompt": ["a", "b"]}, 4, 64),
                ({"prompt": [1, 2]}, 1, 16),
            ):
                sent = json.dumps({**COMPLETION, **more}).encode()
                told = (await client.request("POST", path, sent)).json()
                assert (told["object"], told["model"]) == ("text_completion", "m")
                assert told["usage"]["completion_tokens"] == tokens
                assert [choice["index"] for choice in told["choices"]] == list(range(choices))
                assert {len(choice["text"].split()) for choice in told["choices"]} == {tokens // choices}

    await with_simulator(PLAIN, body)


@pytest.mark.parametrize(
    ("more", "param"),
    [({"prompt": None}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": []}, "prompt"), ({"model": ""}, "model"),
     ({"n": 0}, "n"), ({"max_tokens": "4"}, "max_tokens"), ({"stream": True}, "stream")],
)  # fmt: skip
async def test_text_completions_that_are_refused(more: dict[str, Any], param: str) -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            refused = await client.request("POST", "/v1/completions", json.dumps({**COMPLETION, **more}).encode())
        assert (refused.status, refused.json()["error"]["param"]) == (400, param)

    await with_simulator(PLAIN, body)
