"""How the vendors' SDKs read a reply and a stream: the step from the body, which has arrived, to their own objects.

Each reader is given the SDK's own code from there on, and nothing before it: no request is written, no connection
opened, and a response of the SDK's HTTP library stands there already, a new one for each reading, made outside the
time. A stream's response hands over the pieces as they are, so that the library's own buffering is left out too.

- openai, anthropic, groq, perplexityai: the public method is called once with the client's `request` replaced, to learn
  what it wants to have read; then `_process_response` reads it, and a stream is iterated.
- openrouter: `unmarshal_json_response` and `EventStream`, as `Chat.send` calls them.
- ollama, firecrawl-py: the method that reads, its HTTP client replaced by one that has the response.
- exa-py: `Exa.search`, whose `request` is replaced likewise. It writes the body it would send as well: the time it
  takes for an answer without results is subtracted.
- tavily-python: `response.json()` of requests, which is all that it does.

Nothing of an SDK is imported before its reader is made.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

HEADERS = {
    "date": "Fri, 20 Nov 2026 09:30:00 GMT",
    "content-type": "application/json",
    "openai-processing-ms": "1032",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-reset-tokens": "6m0s",
    "x-request-id": "req_deaa36",
}
"""Those of every response, for all readers."""

_MESSAGES = [{"role": "user", "content": "Hello"}]


class Reader(NamedTuple):
    """What reads with an SDK. `prepare` makes a response, untimed; `reply` and `stream` are what is timed.

    `around`, where there is one, is what `reply` does besides, to be subtracted.
    """

    prepare: Callable[[bytes], Any]
    reply: Callable[[Any], Any]
    prepare_stream: Callable[[Sequence[bytes]], Any] | None = None
    stream: Callable[[Any], Iterable[Any]] | None = None
    around: Callable[[], Any] | None = None


# --- responses of the three HTTP libraries ----------------------------------------------------------------------------


def _httpx_response(httpx: Any, body: bytes) -> Any:
    return httpx.Response(200, headers=HEADERS, content=body, request=httpx.Request("POST", "https://host.example/v1"))


def _httpx_stream(httpx: Any, pieces: Sequence[bytes]) -> Any:
    class Pieces(httpx.Response):  # type: ignore[misc]  # known when it runs
        def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
            return iter(pieces)

    headers = HEADERS | {"content-type": "text/event-stream"}
    return Pieces(200, headers=headers, content=b"", request=httpx.Request("POST", "https://host.example/v1"))


def _requests_response(body: bytes) -> Any:
    requests = importlib.import_module("requests")
    response = requests.Response()
    response.status_code = 200
    response.headers.update(HEADERS)
    response.encoding = "utf-8"  # what requests takes it to be where the type is JSON
    response._content = body
    return response


# --- the SDKs ---------------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """What a method of such an SDK asks its client for: the arguments of `request`."""

    cast_to: Any
    options: Any
    stream: bool
    stream_cls: Any


def _stainless(client: Any, httpx: Any, create: Callable[..., Any], *, streams: bool) -> Reader:
    """A reader for the SDKs that are generated alike."""
    asked: list[_Asked] = []

    def request(cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> None:
        asked.append(_Asked(cast_to, options, stream, stream_cls))

    client.request = request
    create()
    if streams:
        create(stream=True)

    def read(response: Any, wanted: _Asked) -> Any:
        return client._process_response(
            cast_to=wanted.cast_to,
            options=wanted.options,
            response=response,
            stream=wanted.stream,
            stream_cls=wanted.stream_cls,
        )

    return Reader(
        lambda body: _httpx_response(httpx, body),
        lambda response: read(response, asked[0]),
        lambda pieces: _httpx_stream(httpx, pieces),
        lambda response: read(response, asked[-1]),
    )


def _openai(endpoint: str, body: bytes) -> Reader:
    client = importlib.import_module("openai").OpenAI(api_key="none")
    httpx = importlib.import_module("httpx2")
    if endpoint == "embed":
        # Asked for floats it hands the list over; not asked, it asks for base64 and unpacks that.
        form = {} if b'"embedding":"' in body else {"encoding_format": "float"}
        return _stainless(client, httpx, lambda: client.embeddings.create(model="m", input="x", **form), streams=False)
    if endpoint == "response":
        create = client.responses.create
        return _stainless(client, httpx, lambda **more: create(model="m", input="x", **more), streams=True)
    chat = client.chat.completions.create
    return _stainless(client, httpx, lambda **more: chat(model="m", messages=_MESSAGES, **more), streams=True)


def _anthropic(endpoint: str, body: bytes) -> Reader:
    client = importlib.import_module("anthropic").Anthropic(api_key="none")
    create = client.messages.create
    return _stainless(
        client,
        importlib.import_module("httpx2"),
        lambda **more: create(model="m", max_tokens=9, messages=_MESSAGES, **more),
        streams=True,
    )


def _groq(endpoint: str, body: bytes) -> Reader:
    client = importlib.import_module("groq").Groq(api_key="none")
    chat = client.chat.completions.create
    httpx = importlib.import_module("httpx")
    return _stainless(client, httpx, lambda **more: chat(model="m", messages=_MESSAGES, **more), streams=True)


def _perplexity(endpoint: str, body: bytes) -> Reader:
    client = importlib.import_module("perplexity").Perplexity(api_key="none")
    chat = client.chat.completions.create
    httpx = importlib.import_module("httpx")
    return _stainless(client, httpx, lambda **more: chat(model="m", messages=_MESSAGES, **more), streams=True)


def _openrouter(endpoint: str, body: bytes) -> Reader:
    components = importlib.import_module("openrouter.components")
    utils = importlib.import_module("openrouter.utils")
    streaming = importlib.import_module("openrouter.utils.eventstreaming")
    unmarshal = importlib.import_module("openrouter.utils.unmarshal_json_response").unmarshal_json_response
    httpx = importlib.import_module("httpx")

    def stream(response: Any) -> Iterable[Any]:
        chunk = components.ChatStreamingResponse
        events: Iterable[Any] = streaming.EventStream(
            response, lambda raw: unmarshal(chunk, response, raw).data, sentinel="[DONE]"
        )
        return events

    return Reader(
        lambda body: _httpx_response(httpx, body),
        lambda response: unmarshal(components.ChatResult, response, utils.stream_to_text(response)),
        lambda pieces: _httpx_stream(httpx, pieces),
        stream,
    )


class _Has:
    """An HTTP client that has its response already."""

    def __init__(self) -> None:
        self.response: Any = None

    def request(self, *arguments: object, **more: object) -> Any:
        return self.response

    post = request

    @contextlib.contextmanager
    def stream(self, *arguments: object, **more: object) -> Iterator[Any]:
        yield self.response


def _ollama(endpoint: str, body: bytes) -> Reader:
    ollama, httpx, has = importlib.import_module("ollama"), importlib.import_module("httpx"), _Has()
    client = ollama.Client()
    client._client = has

    def read(response: Any, *, stream: bool = False) -> Any:
        has.response = response
        return client._request(ollama.ChatResponse, "POST", "/api/chat", stream=stream)

    return Reader(
        lambda body: _httpx_response(httpx, body),
        read,
        lambda pieces: _httpx_stream(httpx, pieces),
        lambda response: read(response, stream=True),
    )


def _exa(endpoint: str, body: bytes) -> Reader:
    api, has = importlib.import_module("exa_py.api"), _Has()
    client = api.Exa(api_key="none")

    def request(*arguments: object, **more: object) -> Any:
        return has.response if isinstance(has.response, dict) else api._decode_json_body(has.response)

    def read(response: Any) -> Any:
        has.response = response
        return client.search("x")

    client.request = request
    return Reader(_requests_response, read, around=lambda: read({"results": []}))


def _tavily(endpoint: str, body: bytes) -> Reader:
    importlib.import_module("tavily")
    return Reader(_requests_response, lambda response: response.json())


def _firecrawl(endpoint: str, body: bytes) -> Reader:
    method = getattr(importlib.import_module(f"firecrawl.v2.methods.{endpoint}"), endpoint)
    has = _Has()

    def read(response: Any) -> Any:
        has.response = response
        return method(has, "https://host.example")

    return Reader(_requests_response, read)


SDKS: Mapping[str, Callable[[str, bytes], Reader]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "groq": _groq,
    "perplexityai": _perplexity,
    "openrouter": _openrouter,
    "ollama": _ollama,
    "exa-py": _exa,
    "tavily-python": _tavily,
    "firecrawl-py": _firecrawl,
}
"""By the name of the package: what makes its reader for an endpoint, given a body such as it will read."""
