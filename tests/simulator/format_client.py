"""Requests that each simulated provider takes, and how to send them: for the tests of the simulator's formats.

`ENDPOINTS` has a row an endpoint of the catalogue: the path below the provider's address, and the smallest body it
takes. Shapes are compared with the fixtures of the real providers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h11
from simulator_client import Client, Response, Streamed, connect

from engine.simulator import Simulator

FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures"
HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
FLAT_TOOLS = [{"type": "function", "name": "get_weather", "parameters": {}}]
VERSION = {"anthropic-version": "2023-06-01"}


class Endpoint(NamedTuple):
    """One endpoint: whose, where below the provider's address, what it takes, what headers it wants."""

    provider: str
    path: str
    body: dict[str, Any]
    fixture: str
    headers: Mapping[str, str] = {}


def _chat(provider: str, path: str = "/chat/completions", fixture: str = "") -> Endpoint:
    return Endpoint(provider, path, {"model": "m", "messages": HELLO}, fixture or f"{provider}_chat")


_INPUT = {"model": "m", "input": "hello"}
_PROMPT = {"model": "m", "prompt": "hello"}
ENDPOINTS = {
    "openai chat": _chat("openai"),
    "openai responses": Endpoint("openai", "/responses", _INPUT, "openai_responses"),
    "openai embed": Endpoint("openai", "/embeddings", _INPUT, "openai_embed"),
    "anthropic chat": Endpoint(
        "anthropic", "/v1/messages", {"model": "m", "max_tokens": 4, "messages": HELLO}, "anthropic_messages", VERSION
    ),
    "gemini chat": _chat("gemini"),
    "ollama chat": Endpoint("ollama", "/api/chat", {"model": "m", "messages": HELLO, "stream": False}, "ollama_native"),
    "ollama compat": _chat("ollama", "/v1/chat/completions", "ollama_compat"),
    "ollama embed": Endpoint("ollama", "/v1/embeddings", _INPUT, "openai_embed"),
    "groq chat": _chat("groq"),
    "deepseek chat": _chat("deepseek"),
    "perplexity chat": _chat("perplexity"),
    "openrouter chat": _chat("openrouter"),
    "nvidia_nim chat": _chat("nvidia_nim"),
    "nvidia_nim embed": Endpoint("nvidia_nim", "/embeddings", {**_INPUT, "input_type": "query"}, "nvidia_nim_embed"),
    "exa search": Endpoint("exa", "/search", {"query": "schedulers"}, "exa_search"),
    "tavily search": Endpoint("tavily", "/search", {"query": "schedulers"}, "tavily_search"),
    "tavily extract": Endpoint("tavily", "/extract", {"urls": ["https://example.org/a"]}, "tavily_extract"),
    "firecrawl scrape": Endpoint("firecrawl", "/v2/scrape", {"url": "https://example.org/a"}, "firecrawl_scrape"),
    "firecrawl map": Endpoint("firecrawl", "/v2/map", {"url": "https://example.org/a"}, "firecrawl_map"),
    "inferneo chat": _chat("inferneo", "/v1/chat/completions"),
    "inferneo completions": Endpoint("inferneo", "/v1/completions", _PROMPT, "inferneo_completions"),
    "inferneo_documented chat": _chat("inferneo_documented", "/v1/chat/completions", "inferneo_chat"),
    "inferneo_documented completions": Endpoint(
        "inferneo_documented", "/v1/completions", _PROMPT, "inferneo_completions"
    ),
}
ELSEWHERE = {"aixplain", "gemini_native"}
"""Providers that name the model in the path, or do more than answer: they have files of tests of their own."""
STREAMING = [name for name in ENDPOINTS if name.endswith(("chat", "compat", "responses", "completions"))]


def path_of(simulator: Simulator, endpoint: Endpoint) -> str:
    """The whole path of an endpoint, by the address a client is given."""
    return simulator.address(endpoint.provider).partition(str(simulator.port))[2] + endpoint.path


async def post(
    simulator: Simulator, name: str, headers: Mapping[str, str] | None = None, **arguments: object
) -> Response:
    """One request to an endpoint, with `arguments` on top of the smallest body; None takes one away."""
    endpoint = ENDPOINTS[name]
    body = {key: value for key, value in {**endpoint.body, **arguments}.items() if value is not None}
    async with connect(simulator.port) as client:
        sent = {**endpoint.headers, **(headers or {})}
        return await client.request("POST", path_of(simulator, endpoint), json.dumps(body).encode(), sent)


async def stream(simulator: Simulator, name: str, **arguments: object) -> Streamed:
    """The same, as a stream."""
    endpoint = ENDPOINTS[name]
    body = json.dumps({**endpoint.body, "stream": True, **arguments}).encode()
    head = [("host", "simulator"), ("content-length", str(len(body))), *endpoint.headers.items()]
    async with connect(simulator.port) as client:
        await send(client, path_of(simulator, endpoint), head, body)
        return await client.listen()


async def send(client: Client, path: str, head: list[tuple[str, str]], body: bytes) -> None:
    """A request, without waiting for its answer."""
    http = client._http
    parts = [http.send(h11.Request(method="POST", target=path, headers=head)), http.send(h11.Data(data=body))]
    await client.stream.send_all(b"".join(part or b"" for part in [*parts, http.send(h11.EndOfMessage())]))


def events_of(streamed: Streamed) -> list[Any]:
    """The data of a stream's events, decoded, but for ``[DONE]``, of lines of JSON as of server-sent events."""
    lines = streamed.body.replace(b"\r\n", b"\n").splitlines()
    if streamed.headers["content-type"] == "application/x-ndjson":
        return [json.loads(line) for line in lines]
    data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    return [json.loads(line) for line in data if line != b"[DONE]"]


def text_of(name: str, event: Any) -> str:
    """The piece of text that an event brings, if it brings one."""
    if name == "ollama chat":
        return event["message"]["content"]
    if name == "anthropic chat":
        return event.get("delta", {}).get("text", "")
    if name == "openai responses":
        return event["delta"] if event["type"] == "response.output_text.delta" else ""
    if name.endswith(" completions"):
        return event["choices"][0]["text"]
    return (event["choices"][0]["delta"].get("content") or "") if event.get("choices") else ""


def whole_text_of(name: str, body: Any) -> str:
    """The text of an answer in one piece."""
    if name == "ollama chat":
        return body["message"]["content"]
    if name == "anthropic chat":
        return "".join(block["text"] for block in body["content"] if block["type"] == "text")
    if name == "openai responses":
        return "".join(part["text"] for item in body["output"] for part in item.get("content", []))
    if name.endswith(" completions"):
        return body["choices"][0]["text"]
    return body["choices"][0]["message"]["content"]


def made_calls(name: str, body: Any) -> list[tuple[str, Any]]:
    """The calls of functions in an answer in one piece, with their arguments decoded."""
    if name == "anthropic chat":
        return [(block["name"], block["input"]) for block in body["content"]]
    if name == "openai responses":
        return [(item["name"], json.loads(item["arguments"])) for item in body["output"]]
    message = body["message"] if name == "ollama chat" else body["choices"][0]["message"]
    functions = [call["function"] for call in message["tool_calls"]]
    return [
        (told["name"], json.loads(told["arguments"]) if isinstance(told["arguments"], str) else told["arguments"])
        for told in functions
    ]


def streamed_calls(name: str, events: list[Any]) -> list[tuple[str, Any]]:
    """The same of a stream, put together from its fragments."""
    if name == "ollama chat":
        return [made for event in events if event["message"].get("tool_calls") for made in made_calls(name, event)]
    names, fragments = [], ""
    for event in events:
        if name == "anthropic chat":
            names += [event["content_block"]["name"]] if event["type"] == "content_block_start" else []
            fragments += event.get("delta", {}).get("partial_json", "")
        elif name == "openai responses":
            names += [event["item"]["name"]] if event["type"] == "response.output_item.added" else []
            fragments += event["delta"] if event["type"].endswith("arguments.delta") else ""
        else:
            for choice in event["choices"]:
                for call in choice["delta"].get("tool_calls", []):
                    names += [call["function"]["name"]] if "id" in call else []
                    fragments += call["function"]["arguments"]
    return [(called, json.loads(fragments)) for called in names]


def fixture(path: str) -> Any:
    """A body of the real provider."""
    return json.loads((FIXTURES / path).read_bytes())


def missing(expected: Any, told: Any, at: str = "") -> list[str]:
    """Where `told` lacks a field that `expected` has, or has one of another type; null goes with everything."""
    if expected is None or told is None:
        return []
    if isinstance(expected, bool) or not isinstance(expected, (int, float)):
        if type(expected) is not type(told):
            return [f"{at}: {type(told).__name__} in place of {type(expected).__name__}"]
    elif isinstance(told, bool) or not isinstance(told, (int, float)):
        return [f"{at}: {told!r} is no number"]
    if isinstance(expected, dict):
        lacking = [f"{at}.{key} is missing" for key in expected if key not in told]
        inner = (missing(value, told[key], f"{at}.{key}") for key, value in expected.items() if key in told)
        return lacking + [word for words in inner for word in words]
    if isinstance(expected, list) and expected and told:
        return missing(expected[0], told[0], f"{at}[0]")
    return []
