"""What Inferneo's clients send and what they make of the answers: over real sockets, blocking and in trio."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from inferneo_server import (
    ANSWER,
    CHAT,
    COMPLETION,
    DONE,
    KEY,
    PROMPT,
    USAGE,
    Hold,
    Reply,
    Server,
    chat_event,
    completion_event,
    event,
)

from engine import EngineNotRunning, HookRegistry, gather, iModel, open_engine
from engine.clients.inferneo import (
    AsyncInferneoClient,
    ChatMessage,
    CompletionResponse,
    InferneoAPIError,
    InferneoClient,
    InferneoError,
    LogProbs,
    ModelList,
    Usage,
)
from engine.portal import BlockingEngine, default_portal, open_portal
from engine.simulator import SimulatorConfig, serve


@pytest.fixture(scope="module")
def engine() -> Iterator[BlockingEngine]:
    with open_portal() as opened:
        yield opened


@pytest.fixture
def client(server: Server, engine: BlockingEngine) -> InferneoClient:
    return InferneoClient(server.url, engine=engine)


# --- the client itself ---


def test_the_constructor_is_the_documents() -> None:
    """Line 57: its arguments, in their order and with their defaults; what is ours is by name alone."""
    for face in (InferneoClient, AsyncInferneoClient):
        parameters = list(inspect.signature(face).parameters.values())
        plain = [one for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert [(one.name, one.default) for one in plain] == [
            ("base_url", "http://localhost:8000"), ("api_key", None), ("timeout", 30.0), ("max_retries", 3),
            ("headers", None),
        ]  # fmt: skip
        assert all(one.kind in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in parameters[5:])


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/behind/a/proxy", "/behind/a/proxy/v1"])
def test_the_address_may_end_with_v1_or_not(path: str, server: Server, engine: BlockingEngine) -> None:
    """Line 81."""
    client = InferneoClient(server.url + path, engine=engine)
    client.completions.create(**PROMPT)
    client.chat.completions.create(**CHAT)
    with pytest.raises(InferneoAPIError):
        client.models.list()
    before = path.removesuffix("/").removesuffix("/v1")
    assert [(sent.method, sent.path) for sent in server.sent] == [
        ("POST", f"{before}/v1/completions"), ("POST", f"{before}/v1/chat/completions"), ("GET", f"{before}/v1/models"),
    ]  # fmt: skip


def test_a_key_is_a_bearer_key_and_without_one_there_is_no_header(server: Server, engine: BlockingEngine) -> None:
    """Line 58."""
    for key in (KEY, None):
        client = InferneoClient(server.url, key, engine=engine)
        client.completions.create(**PROMPT)
        client.chat.completions.create(**CHAT)
        with pytest.raises(InferneoAPIError):
            client.info()
    keys = [sent.headers.get("authorization") for sent in server.sent]
    assert keys == [f"Bearer {KEY}"] * 4 + [None] * 4


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("key", [None, KEY])
def test_an_authorization_of_the_users_own_takes_the_place_of_any_key(
    name: str, key: str | None, server: Server, engine: BlockingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one in the environment; and wherever it is sent."""
    monkeypatch.setenv("INFERNEO_API_KEY", "the environment's\n")
    client = InferneoClient(server.url, key, headers={name: "Bearer mine"}, engine=engine)
    client.completions.create(**PROMPT)
    client.chat.completions.create(**CHAT)
    for ask in (client.models.list, client.health):
        with pytest.raises(InferneoAPIError):
            ask()
    assert [sent.headers["authorization"] for sent in server.sent] == ["Bearer mine"] * 4


def test_headers_are_added_and_replace_ours(server: Server, engine: BlockingEngine) -> None:
    headers = {"User-Agent": "MyApp/1.0", "X-Custom-Header": "custom-value"}
    client = InferneoClient(server.url, headers=headers, engine=engine)
    client.completions.create(**PROMPT)
    client.chat.completions.create(**CHAT)
    with pytest.raises(InferneoAPIError):
        client.models.list()
    for sent in server.sent:
        assert (sent.headers["user-agent"], sent.headers["x-custom-header"]) == ("MyApp/1.0", "custom-value")


def test_it_is_used_in_a_with_and_afterwards(server: Server, engine: BlockingEngine) -> None:
    with InferneoClient(server.url, engine=engine) as client:
        assert client.completions.create(**PROMPT).choices[0].text == " w0 w1 w2"
    assert client.completions.create(**PROMPT).id == "cmpl-1"


def test_without_an_engine_it_takes_the_process_wide_portals() -> None:
    """Which `test_inferneo_page` uses, in processes of its own: it would keep connections beyond a test."""
    assert InferneoClient().engine.loop is default_portal().blocking.loop


def test_a_portal_is_as_good_as_its_engine(server: Server) -> None:
    portal = open_portal()
    with portal:
        assert InferneoClient(server.url, engine=portal).completions.create(**PROMPT).id == "cmpl-1"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": 8000}, "base_url"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": 5}, "api_key"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "30"}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"max_retries": 100}, "max_retries"),
        ({"headers": ["a"]}, "default_headers"),
        ({"headers": {"a": 1}}, "default_headers"),
        ({"limit_requests": 0}, "limit_requests"),
        ({"concurrency_limit": "many"}, "concurrency_limit"),
        ({"count_tokens": 3}, "count_tokens"),
        ({"hook_registry": 3}, "hook"),
        ({"engine": 3}, "engine"),
    ],
)
@pytest.mark.parametrize("face", [InferneoClient, AsyncInferneoClient])
def test_a_wrong_setting_is_named(face: Any, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InferneoError, match=named):
        face(**arguments)


@pytest.mark.parametrize("face", [InferneoClient, AsyncInferneoClient])
def test_a_setting_that_does_not_exist_is_a_type_error(face: Any) -> None:
    """It names one that is near."""
    for name, meant in (("limit_request", "limit_requests"), ("header", "headers"), ("max_retry", "max_retries")):
        with pytest.raises(TypeError, match=f"{name!r}; did you mean {meant!r}"):
            face(**{name: 5})
    with pytest.raises(TypeError, match=r"'proxy'$"):
        face(proxy=5)


def test_the_path_of_an_address_may_be_in_any_letters(server: Server, engine: BlockingEngine) -> None:
    client = InferneoClient(f"{server.url}/größe %41/v1".replace(" ", "-"), engine=engine)
    client.completions.create(**PROMPT)
    with pytest.raises(InferneoAPIError):
        client.health()
    assert [sent.path for sent in server.sent] == ["/gr%C3%B6%C3%9Fe-%41/v1/completions", "/gr%C3%B6%C3%9Fe-%41/health"]


@pytest.mark.parametrize("exit_hook", [True, False])
def test_a_handler_that_raises_ends_whatever_is_asked_where_that_is_said(
    exit_hook: bool, server: Server, engine: BlockingEngine
) -> None:
    """`exit_hook` holds for all calls of a client."""

    def fail(_event: object, **_: object) -> None:
        raise ValueError("not today")

    hooks = HookRegistry({"pre_event_create": fail})
    client = InferneoClient(server.url, engine=engine, hook_registry=hooks, exit_hook=exit_hook)
    server.answers = [Reply(body={**COMPLETION, "data": []})]
    asks: list[Callable[[], object]] = [
        lambda: client.completions.create(**PROMPT), client.models.list, lambda: client.models.get("a"), client.info,
        client.health, client.stats,
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(InferneoError, match="not today") if exit_hook else contextlib.nullcontext():
            ask()
    assert bool(server.sent) is not exit_hook


# --- calls ---


def test_a_completion(client: InferneoClient, server: Server) -> None:
    """Line 59."""
    response = client.completions.create(model="m", prompt="hello world", max_tokens=3)
    assert isinstance(response, CompletionResponse)
    assert (response.id, response.object, response.created, response.model) == (
        "cmpl-1", "text_completion", 1795205707, "m",
    )  # fmt: skip
    (choice,) = response.choices
    assert (choice.text, choice.index, choice.logprobs, choice.finish_reason) == (" w0 w1 w2", 0, None, "length")
    assert response.usage == Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5)
    assert server.sent[0].body == {"model": "m", "prompt": "hello world", "max_tokens": 3}


def test_a_chat_completion(client: InferneoClient, server: Server) -> None:
    """Line 60."""
    response = client.chat.completions.create(**CHAT)
    (choice,) = response.choices
    assert (choice.message.role, choice.message.content) == ("assistant", " w0")
    assert (choice.index, choice.finish_reason, response.object) == (0, "stop", "chat.completion")
    assert response.usage is not None
    assert server.sent[0].body == CHAT


OPTIONAL: dict[str, Any] = {
    "max_tokens": 9, "temperature": 0, "top_p": 1.0, "top_k": -1, "frequency_penalty": -2, "presence_penalty": 2,
    "stop": ["a", "b"],
}  # fmt: skip
OWN: dict[str, Any] = {"seed": 7, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True, "priority": 3}


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_argument_is_sent_where_it_is_given_and_left_out_where_it_is_not(
    name: str, client: InferneoClient, server: Server
) -> None:
    """Line 61: never as null."""
    nothing = dict.fromkeys(OPTIONAL)
    for create, least in ((client.completions.create, PROMPT), (client.chat.completions.create, CHAT)):
        given: dict[str, Any] = {**least, **nothing, name: OPTIONAL[name]}
        create(**given)
        assert server.sent[-1].body == {**least, name: OPTIONAL[name]}


def test_further_arguments_go_into_the_body_and_the_engines_do_not(client: InferneoClient, server: Server) -> None:
    """Line 62."""
    ours = {"flow": "tenant", "deadline_s": 20, "metadata": {"a": 1}, "timeout_s": 9, "max_attempts": 1}
    for create, least in ((client.completions.create, PROMPT), (client.chat.completions.create, CHAT)):
        create(**least, stop="x", **OWN, **ours)  # type: ignore[call-overload]  # spread
        assert server.sent[-1].body == {**least, "stop": "x", **OWN}


def test_content_parts_pass_through_and_a_501_is_an_api_error(server: Server, engine: BlockingEngine) -> None:
    """Line 82."""
    server.answers = [Reply(501, {"detail": "no vision tower"})]
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    with pytest.raises(InferneoAPIError, match="no vision tower") as caught:
        InferneoClient(server.url, engine=engine).chat.completions.create("m", [{"role": "user", "content": parts}])
    assert caught.value.status_code == 501
    assert [sent.body["messages"][0]["content"] for sent in server.sent] == [parts]


def test_what_a_server_adds_is_kept_and_what_is_odd_costs_nothing(server: Server, client: InferneoClient) -> None:
    tools = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    logged = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0], "more": 1}
    choices = [{"text": "a", "index": 0, "logprobs": logged}, 3]
    server.answers = [
        Reply(body={**COMPLETION, "choices": choices, "created": "x", "fp": 1}),
        Reply(body={"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": tools, "r": "t"}}]}),
        Reply(body={"choices": [], "usage": USAGE, "id": 5}),
    ]  # fmt: skip
    odd = client.completions.create(**PROMPT)
    assert (odd.created, odd.extra, odd.choices[1].text) == (0, {"fp": 1, "created": "x", "choices": choices}, "")
    assert odd.choices[0].logprobs == LogProbs(
        tokens=["a"], token_logprobs=[-0.5], text_offset=[0], extra={"more": 1}
    )  # fmt: skip
    message = client.chat.completions.create(**CHAT).choices[0].message
    assert message == ChatMessage(role="assistant", content=None, tool_calls=tools, extra={"r": "t"})
    assert client.chat.completions.create(**CHAT).choices == []


async def test_the_same_calls_work_at_any_server_of_openais_format(nursery: trio.Nursery) -> None:
    """Line 83: the simulated OpenAI, and the simulated Inferneo as it is documented."""
    simulator = await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=5, models=("one", "two")))
    async with open_engine():
        client = AsyncInferneoClient(simulator.base_url, KEY)
        assert (await client.chat.completions.create(**CHAT)).choices[0].message.content
        chunks = [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert [model.id for model in await client.models.list()] == ["one", "two"]
        documented = AsyncInferneoClient(simulator.address("inferneo_documented"), KEY)
        assert (await documented.completions.create(**PROMPT)).choices[0].text
        chunks = [chunk async for chunk in await documented.chat.completions.create(**CHAT, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert (await documented.models.get("two")).id == "two"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("provider", ["openai", "inferneo", "anybody"])
async def test_text_completions_of_any_model(provider: str, server: Server) -> None:
    """Below the client: `iModel(endpoint="completions")`, in one piece and streamed."""
    async with open_engine():
        model = iModel(provider, f"{server.url}/v1", "completions", KEY, model="m")
        call = await model.invoke(prompt="hello world")
        assert call.raise_for_status().text == " w0 w1 w2"
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.output_tokens) == (2, 3)
        async with model.stream(prompt="hello world") as chunks:
            assert "".join([str(chunk) async for chunk in chunks]) == " w0 w1"
        assert chunks.call.raise_for_status().text == " w0 w1"
    assert {sent.path for sent in server.sent} == {"/v1/completions"}


# --- streams ---


def test_a_streamed_completion(client: InferneoClient) -> None:
    """Line 63."""
    chunks = list(client.completions.create(**PROMPT, stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == [" w0", " w1", ""]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "length"]
    assert {(chunk.id, chunk.object, chunk.model, chunk.usage) for chunk in chunks} == {
        ("c", "text_completion", "m", None)
    }


def test_a_streamed_chat(client: InferneoClient, server: Server) -> None:
    """Line 63: content may be null. One chunk for each event, and no usage asked for."""
    chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == [None, " w0", " w1", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None, None]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert server.sent[0].body == {**CHAT, "stream": True}


def test_every_event_is_one_chunk_in_its_order(server: Server, client: InferneoClient) -> None:
    """Also where the last text tells why it ends, another choice speaks, and a usage comes behind."""
    other = {"id": "c", "choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]}
    usage = {"id": "c", "choices": [], "usage": USAGE}
    server.answers = [
        Reply(pieces=[chat_event(content="a"), event(other), b": a comment\n\n", chat_event("stop", content="b"),
                      event(usage), DONE])
    ]  # fmt: skip
    chunks = list(client.chat.completions.create(**CHAT, stream=True))
    said = [(choice.index, choice.delta.content) for chunk in chunks for choice in chunk.choices]
    assert said == [(0, "a"), (1, "x"), (0, "b"), (0, None)]
    assert [chunk.usage is None for chunk in chunks] == [True, True, True, False]


def test_an_event_that_says_two_things_is_one_chunk_and_the_usage_comes_last(
    server: Server, client: InferneoClient
) -> None:
    usage = {"id": "c", "choices": [], "usage": USAGE}
    both = chat_event(reasoning_content="hm", content="a")
    server.answers = [Reply(pieces=[chat_event(role="assistant"), both, chat_event("stop"), event(usage), DONE])]
    chunks = list(client.chat.completions.create(**CHAT, stream=True))
    assert [chunk.choices[0].delta == ChatMessage() for chunk in chunks] == [False, False, True, True]
    assert chunks[1].choices[0].delta == ChatMessage(content="a", extra={"reasoning_content": "hm"})
    assert chunks[2].choices[0].finish_reason == "stop"
    assert chunks[3].usage is not None


def test_a_stream_that_is_answered_in_one_piece_is_one_chunk(server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(body=ANSWER, headers={"Content-Type": "application/json"}), Reply(body=COMPLETION)]
    (chunk,) = list(client.chat.completions.create(**CHAT, stream=True))
    assert (chunk.choices[0].delta.content, chunk.choices[0].finish_reason) == (" w0", "stop")
    (piece,) = list(client.completions.create(**PROMPT, stream=True))
    assert piece.choices[0].text == " w0 w1 w2"


def endless() -> Reply:
    return Reply(pieces=[completion_event(" w0"), Hold(threading.Event()), completion_event(" never")])


def test_closing_a_stream_closes_the_connection(server: Server, client: InferneoClient) -> None:
    """Line 64, for threads."""
    server.answers = [endless()]
    with client.completions.create(**PROMPT, stream=True) as chunks:
        assert next(chunks).choices[0].text == " w0"
    server.wait_dropped()
    client.engine.wait_quiet()


@pytest.mark.filterwarnings("ignore:.*was dropped before its end")
def test_dropping_a_stream_closes_the_connection(server: Server, client: InferneoClient) -> None:
    """Line 64."""
    server.answers = [endless()]
    chunks = client.completions.create(**PROMPT, stream=True)
    assert next(chunks).choices[0].text == " w0"
    del chunks
    server.wait_dropped()
    client.engine.wait_quiet()


LEAVINGS: dict[str, Callable[[Any], Any]] = {
    "block": lambda stream: stream.__aexit__(None, None, None),
    "aclose": lambda stream: stream.aclose(),
}


@pytest.mark.parametrize("leaving", LEAVINGS)
async def test_leaving_a_stream_closes_the_connection(server: Server, leaving: str) -> None:
    """Line 64, in trio."""
    server.answers = [endless()]
    async with AsyncInferneoClient(server.url) as client:
        stream = await client.completions.create(**PROMPT, stream=True)
        assert (await anext(stream)).choices[0].text == " w0"
        await LEAVINGS[leaving](stream)
        await trio.to_thread.run_sync(server.wait_dropped)
        assert stream.call.status == "cancelled"
        assert client.engine.statistics().live["in_flight"] == 0


async def test_cancelling_a_reader_closes_the_connection(server: Server) -> None:
    """Line 64, by cancellation."""
    server.answers = [endless()]
    async with AsyncInferneoClient(server.url) as client:
        stream = await client.completions.create(**PROMPT, stream=True)
        await anext(stream)
        with trio.move_on_after(0.01):
            await anext(stream)
        await trio.to_thread.run_sync(server.wait_dropped)
        await client.engine.wait_quiet()


# --- what the server tells ---

STATS = {"uptime_s": 12.5, "running": 3, "gpu": {"mem_used_bytes": 4, "mem_total_bytes": 16}}
CARD = {"id": "a/b", "object": "model", "created": 5, "owned_by": "inferneo"}
LIST = {"object": "list", "data": [{"id": "x"}, CARD]}


def test_the_list_of_models(server: Server, client: InferneoClient) -> None:
    """Line 66."""
    full = {**CARD, "parameters": 7_000_000_000, "format": "gguf"}
    server.answers = [Reply(body={"object": "list", "data": [CARD, full]})]
    models = client.models.list()
    assert isinstance(models, ModelList)
    assert models.data is models
    assert [(one.id, one.object, one.created, one.parameters, one.format) for one in models] == [
        ("a/b", "model", 5, None, None), ("a/b", "model", 5, 7_000_000_000, "gguf"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [404, 405])
def test_a_model_is_found_with_and_without_an_address_of_its_own(
    status: int, server: Server, client: InferneoClient
) -> None:
    """Line 67."""
    server.answers = [
        Reply(body=CARD),
        Reply(status, {"detail": "Not Found"}),
        Reply(body={"data": [{"id": "x"}, CARD]}),
    ]
    assert client.models.get("a/b").owned_by == "inferneo"
    assert client.models.get("a/b").created == 5
    assert [sent.path for sent in server.sent] == ["/v1/models/a%2Fb", "/v1/models/a%2Fb", "/v1/models"]


def test_a_model_that_is_not_there_is_a_404(server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(404, {"detail": "Not Found"}), Reply(body={"data": [CARD]})]
    with pytest.raises(InferneoAPIError, match="no model 'nothing'") as caught:
        client.models.get("nothing")
    assert caught.value.status_code == 404


@pytest.mark.parametrize("model_id", ["", " ", "..", None, 5, "\ud800"])
def test_what_is_no_models_name_is_refused(model_id: Any, server: Server, client: InferneoClient) -> None:
    with pytest.raises(InferneoError, match="model_id") as caught:
        client.models.get(model_id)
    assert caught.value.argument == "model_id"
    assert server.sent == []


def test_info_is_put_together_from_what_there_is(server: Server, client: InferneoClient) -> None:
    """Line 68."""
    server.answers = [Reply(body=STATS), Reply(body={"data": [CARD]})]
    info = client.info()
    assert (info.version, info.models, info.uptime) == ("unknown", ["a/b"], 12.5)
    assert info.gpu_memory == {"used_bytes": 4.0, "total_bytes": 16.0}
    server.answers = [Reply(404, b"nothing"), Reply(body={"data": [CARD]})]
    info = client.info()
    assert (info.models, info.uptime, info.gpu_memory) == (["a/b"], None, {})


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>statistics</html>"), (500, b"no"), (501, b""), (200, [1])])
def test_info_does_without_statistics_that_are_none(
    status: int, body: object, server: Server, engine: BlockingEngine
) -> None:
    """The address is Inferneo's own; at another server anything may be there."""
    client = InferneoClient(server.url, engine=engine, max_retries=0)
    server.answers = [Reply(status, body), Reply(body={"data": [CARD]})]
    info = client.info()
    assert (info.models, info.uptime, info.gpu_memory) == (["a/b"], None, {})


@pytest.mark.parametrize("status", [401, 403])
def test_info_raises_where_the_key_is_refused(status: int, server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(status, {"detail": "no"}), Reply(body={"data": [CARD]})]
    with pytest.raises(InferneoAPIError) as caught:
        client.info()
    assert caught.value.status_code == status


def test_what_is_written_of_another_type_is_kept_beside(server: Server, client: InferneoClient) -> None:
    odd = {**CARD, "parameters": "7B", "format": ["gguf"], "created": None, "owned_by": ""}
    calls = [{"id": "1"}, "two"]
    server.answers = [
        Reply(body={"data": [odd]}),
        Reply(body={**COMPLETION, "model": 7, "usage": [5], "choices": [{"text": {"a": 1}, "index": "first"}]}),
        Reply(body={"choices": [{"message": {"role": 5, "tool_calls": calls}}, {"message": "hi"}]}),
    ]  # fmt: skip
    (model,) = client.models.list()
    assert (model.parameters, model.format, model.created) == (None, None, 0)
    assert model.extra == {"parameters": "7B", "format": ["gguf"]}
    response = client.completions.create(**PROMPT)
    assert (response.extra, response.choices[0].extra) == (
        {"model": 7, "usage": [5]}, {"text": {"a": 1}, "index": "first"},
    )  # fmt: skip
    first, second = client.chat.completions.create(**CHAT).choices
    assert first.message == ChatMessage(tool_calls=[{"id": "1"}], extra={"role": 5, "tool_calls": calls})
    assert (second.message, second.extra) == (ChatMessage(), {"message": "hi"})


async def test_what_the_simulated_server_tells(nursery: trio.Nursery) -> None:
    """Lines 66 to 68 and 80, at the simulated Inferneo."""
    simulator = await nursery.start(serve, SimulatorConfig(models=("tiny",)))
    async with AsyncInferneoClient(simulator.address("inferneo")) as client:
        assert [model.owned_by for model in await client.models.list()] == ["inferneo"]
        assert (await client.models.get("tiny")).id == "tiny"
        info = await client.info()
        assert info.models == ["tiny"]
        assert info.uptime is not None
        assert await client.health() == {"status": "ok"}
        assert {"running", "waiting", "kv_cache_usage"} <= (await client.stats()).keys()
    nursery.cancel_scope.cancel()


def test_health_and_load_can_be_read(server: Server, client: InferneoClient) -> None:
    """Line 80, for threads."""
    server.answers = [Reply(body={"status": "ok"}), Reply(body=STATS)]
    assert client.health() == {"status": "ok"}
    assert client.stats() == STATS
    assert [sent.path for sent in server.sent] == ["/health", "/stats"]


# --- in trio ---


async def test_the_methods_are_awaited_and_many_run_at_once(server: Server) -> None:
    """Line 74."""
    async with AsyncInferneoClient(server.url) as client:
        answers = await gather(*[client.completions.create(model="m", prompt=prompt) for prompt in "abc"])
        assert [answer.id for answer in answers] == ["cmpl-1"] * 3
        assert sorted(sent.body["prompt"] for sent in server.sent) == ["a", "b", "c"]
        await client.close()
        assert (await client.chat.completions.create(**CHAT)).id == "chatcmpl-1"


async def test_it_uses_the_engine_there_is_or_one_that_is_given(server: Server) -> None:
    client = AsyncInferneoClient(server.url)
    async with open_engine() as outer:
        async with client:
            assert client.engine is outer
            await client.completions.create(**PROMPT)
        assert len(outer.statistics().endpoints) == 1
        async with open_engine():
            given = AsyncInferneoClient(server.url, engine=outer)
            assert given.engine is outer
            await given.completions.create(**PROMPT)
        assert len(server.sent) == 2


async def test_without_an_engine_it_says_how_to_open_one(server: Server) -> None:
    client = AsyncInferneoClient(server.url)
    for ask in (
        lambda: client.completions.create(**PROMPT),
        lambda: client.chat.completions.create(**CHAT, stream=True),
        client.models.list,
        client.info,
    ):
        with pytest.raises(EngineNotRunning, match="open_engine"):
            await ask()
    assert server.sent == []


# --- no key ---


def test_no_key_is_shown_anywhere(server: Server, engine: BlockingEngine) -> None:
    """In no repr, and in no error, though the server repeats it."""
    server.answers = [
        Reply(401, {"error": {"message": f"the key {KEY} is wrong", "code": KEY}}),
        Reply(401, KEY.encode()),
    ]
    seen: list[object] = []
    client = InferneoClient(
        server.url, KEY, headers={"X-Secret": KEY}, engine=engine, hook_registry=HookRegistry(), max_retries=0
    )
    for ask in (lambda: client.completions.create(**PROMPT), client.models.list):
        with pytest.raises(InferneoAPIError) as caught:
            ask()
        error = caught.value
        seen += [repr(error), str(error), error.code, error.body, repr(error.__cause__)]
    seen += [repr(client), repr(client.completions), vars(client), repr(client.models._service._caller)]
    assert not [shown for shown in seen if KEY in repr(shown)]
