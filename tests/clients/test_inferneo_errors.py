"""What an Inferneo client raises: for wrong arguments, for every status, for connections and streams that break."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from inferneo_server import CHAT, DONE, PROMPT, Reply, Server, chat_event, completion_event, event, serving

from engine import ConnectFailed, ProviderError, Truncated, open_engine
from engine.clients.inferneo import (
    AsyncInferneoClient,
    InferneoAPIError,
    InferneoClient,
    InferneoError,
    InferneoTimeoutError,
)
from engine.portal import BlockingEngine, open_portal
from engine.simulator import FaultRates, SimulatorConfig, serve


@pytest.fixture(scope="module")
def engine() -> Iterator[BlockingEngine]:
    with open_portal() as opened:
        yield opened


@pytest.fixture
def client(server: Server, engine: BlockingEngine) -> InferneoClient:
    return InferneoClient(server.url, engine=engine, max_retries=0)


def test_the_classes() -> None:
    """Lines 69 and 70: one above the two, each with its message, and all of them survive a pickle."""
    for kind in (InferneoAPIError, InferneoTimeoutError):
        assert issubclass(kind, InferneoError)
        assert kind("what").message == str(kind("what")) == "what"
    error = InferneoAPIError("what", status_code=400, code="c", body={"a": 1}, retry_after=2.0)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert (again.message, again.status_code, again.code, again.body, again.retry_after) == (
        "what", 400, "c", {"a": 1}, 2.0,
    )  # fmt: skip


# --- before anything is sent ---

WRONG = [
    ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"), ("top_p", -0.1), ("top_p", 1.1),
    ("frequency_penalty", -2.1), ("frequency_penalty", 2.1), ("presence_penalty", -2.1), ("presence_penalty", 2.1),
    ("max_tokens", -1), ("max_tokens", 1.5), ("top_k", "few"), ("stop", 5), ("stream", "yes"), ("stream", None),
    ("model", ""), ("model", 5), ("min_p", 2), ("repetition_penalty", 0), ("priority", "high"), ("api_key", "k"),
    ("deadline_s", -1), ("flow", 5), ("timeout_s", 0), ("seed", object()), ("priority", 1 << 40),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_argument_is_named_and_nothing_is_sent(
    name: str, value: object, client: InferneoClient, server: Server
) -> None:
    for create, least in ((client.completions.create, PROMPT), (client.chat.completions.create, CHAT)):
        given: dict[str, Any] = {**least, name: value}
        if name == "stream" and value is None:
            given["stream"] = 0  # no bool either
        with pytest.raises(InferneoError, match=name) as caught:
            create(**given)
        assert caught.value.argument == name
        assert not isinstance(caught.value, InferneoAPIError)
    assert server.sent == []


@pytest.mark.parametrize("prompt", [None, 5, [], ["a", 1], {"a"}])
def test_a_wrong_prompt_is_named(prompt: Any, client: InferneoClient, server: Server) -> None:
    with pytest.raises(InferneoError, match="prompt") as caught:
        client.completions.create("m", prompt)
    assert caught.value.argument == "prompt"
    assert server.sent == []


@pytest.mark.parametrize("messages", [None, "hi", [], [5], [{"content": "no role"}], [{"role": "user", "content": 5}]])
def test_wrong_messages_are_named(messages: Any, client: InferneoClient, server: Server) -> None:
    with pytest.raises(InferneoError, match="messages") as caught:
        client.chat.completions.create("m", messages)
    assert caught.value.argument.startswith("messages")
    assert server.sent == []


ENDS = [("temperature", 0), ("temperature", 2), ("top_p", 0), ("top_p", 1), ("presence_penalty", -2)]


@pytest.mark.parametrize(("name", "value"), [*ENDS, ("frequency_penalty", 2)])
def test_the_ends_of_the_ranges_are_in_them(name: str, value: float, client: InferneoClient) -> None:
    given: dict[str, Any] = {**PROMPT, name: value}
    assert client.completions.create(**given).id


async def test_a_call_larger_than_its_limit_is_refused_at_once(server: Server) -> None:
    async with AsyncInferneoClient(server.url, limit_tokens=100) as client:
        with pytest.raises(InferneoError, match="100"):
            await client.completions.create(**PROMPT, max_tokens=1_000)
    assert server.sent == []


# --- what the server answers ---

LISTED = {"detail": [
    {"type": "a", "loc": ["body", "temperature"], "msg": "too hot"}, {"type": "b", "loc": ["body"], "msg": "and odd"},
]}  # fmt: skip
SENTENCES: list[tuple[object, str]] = [
    ({"error": {"message": "said in error.message", "type": "t", "code": "c"}}, "said in error.message"),
    ({"error": "said in error"}, "said in error"),
    ({"detail": "said in detail"}, "said in detail"),
    (LISTED, "temperature: too hot; and odd"),
    ({"detail": {"message": "said within"}}, "said within"),
    ({"message": "said beside"}, "said beside"),
    (b"Internal Server Error", "Internal Server Error"),
    (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
]


@pytest.mark.parametrize(("body", "message"), SENTENCES)
def test_the_message_is_found_wherever_it_stands(
    body: object, message: str, server: Server, client: InferneoClient
) -> None:
    """Line 71."""
    server.answers = [Reply(400, body)]
    with pytest.raises(InferneoAPIError) as caught:
        client.completions.create(**PROMPT)
    assert (caught.value.message, caught.value.status_code) == (message, 400)
    assert caught.value.body == (body.decode() if isinstance(body, bytes) else body)
    assert isinstance(caught.value.__cause__, ProviderError)


def test_an_empty_answer_has_a_message_all_the_same(server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(400, b"")]
    with pytest.raises(InferneoAPIError, match="400") as caught:
        client.completions.create(**PROMPT)
    assert caught.value.body is None


def test_code_type_and_wait_are_on_the_error(server: Server, client: InferneoClient) -> None:
    told = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}
    server.answers = [Reply(429, told, {"Retry-After": "7"})]
    with pytest.raises(InferneoAPIError) as caught:
        client.chat.completions.create(**CHAT)
    error = caught.value
    assert (error.code, error.type, error.retry_after) == ("rate_limit_exceeded", "rate_limit_error", 7.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 405, 422, 429, 500, 501, 502, 503, 504])
def test_every_status_is_an_api_error(status: int, stream: bool, server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(status, {"detail": "no"})]
    for create, least in ((client.completions.create, PROMPT), (client.chat.completions.create, CHAT)):
        with pytest.raises(InferneoAPIError, match=r"^no$") as caught:
            list(create(**least, stream=stream))  # type: ignore[call-overload]  # either
        assert caught.value.status_code == status
    assert len(server.sent) == 2


def test_a_success_that_is_an_error_or_cannot_be_read(server: Server, client: InferneoClient) -> None:
    for body, says in (({"error": {"message": "broken"}}, "broken"), (b"hello", "hello"), (b"[]", "not an answer")):
        server.answers = [Reply(200, body)]
        with pytest.raises(InferneoAPIError, match=says) as caught:
            client.completions.create(**PROMPT)
        assert caught.value.status_code == 200


# --- what breaks ---


def test_nobody_there_is_an_inferneo_error(engine: BlockingEngine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        client = InferneoClient(f"http://127.0.0.1:{taken.getsockname()[1]}", engine=engine, max_retries=0)
        for ask in (lambda: client.completions.create(**PROMPT), client.models.list):
            with pytest.raises(InferneoError) as caught:
                ask()
            assert type(caught.value) is InferneoError
            assert isinstance(caught.value.__cause__, ConnectFailed)


CUTS = {
    "before any text": [b""],
    "after a text": [completion_event("a")],
    "after the reason": [completion_event("a"), completion_event("", "stop")],
    "within an event": [completion_event("a"), completion_event("b")[:-9]],
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_without_its_terminator_raises_after_what_came(
    cut: str, server: Server, engine: BlockingEngine
) -> None:
    """Line 65: and it is asked for once, however often it might have been tried."""
    server.answers = [Reply(pieces=CUTS[cut])]
    read = []
    chunks = InferneoClient(server.url, engine=engine).completions.create(**PROMPT, stream=True)
    with pytest.raises(InferneoError) as caught:
        read.extend(chunk.choices[0].text for chunk in chunks)
    assert "".join(read) == ("" if cut == "before any text" else "a")
    assert type(caught.value) is InferneoError
    assert isinstance(caught.value.__cause__, Truncated)
    assert len(server.sent) == 1


@pytest.mark.parametrize("fault", ["stream_cut", "stream_reset", "stream_no_done"])
async def test_the_simulated_servers_broken_streams_raise(fault: str, nursery: trio.Nursery) -> None:
    config = SimulatorConfig(faults=FaultRates(**{fault: 1.0, "stream_at": 3}))
    simulator = await nursery.start(serve, config)
    async with open_engine():
        client = AsyncInferneoClient(simulator.address("inferneo"))
        for stream in (
            await client.completions.create(**PROMPT, max_tokens=9, stream=True),
            await client.chat.completions.create(**CHAT, max_tokens=9, stream=True),
        ):
            read = []
            with pytest.raises(InferneoError):  # noqa: PT012  # what came before it is wanted
                async for chunk in stream:
                    read.append(chunk)  # noqa: PERF401  # as above
            assert read
    assert simulator.statistics().arrivals == 2
    nursery.cancel_scope.cancel()


def test_an_error_inside_a_stream_raises_after_what_came(server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(pieces=[chat_event(content="a"), event({"error": {"message": "died"}}), DONE])]
    chunks = client.chat.completions.create(**CHAT, stream=True)
    assert next(chunks).choices[0].delta.content == "a"
    with pytest.raises(InferneoAPIError, match="died"):
        next(chunks)


def test_errors_are_ordinary_and_the_client_goes_on(server: Server, client: InferneoClient) -> None:
    """Line 77: no state is left behind."""
    server.answers = [Reply(500, b"no"), Reply(200, b"{"), Reply(pieces=[]), Reply(404, {})]
    for _ in range(4):
        with pytest.raises(InferneoError):
            client.completions.create(**PROMPT)
    with serving() as other:
        server.answers = []
        assert client.completions.create(**PROMPT).id == "cmpl-1"
        assert InferneoClient(other.url, engine=client.engine).completions.create(**PROMPT).id == "cmpl-1"
    client.engine.wait_quiet()


@pytest.mark.parametrize(
    "escaped", ["AbC\\u002BdEf/gHi\\u002bjKl==", "".join(f"\\u{ord(c):04x}" for c in "AbC+dEf/gHi+jKl==")]
)
def test_a_key_that_the_server_escapes_is_in_no_error(server: Server, engine: BlockingEngine, escaped: str) -> None:
    key = "AbC+dEf/gHi+jKl=="
    body = f'{{"error": {{"message": "bad key {escaped}", "code": "c"}}, "sent": ["{escaped}"]}}'
    server.answers = [Reply(401, body.encode())]
    client = InferneoClient(server.url, key, engine=engine, max_retries=0)
    with pytest.raises(InferneoAPIError) as caught:
        client.completions.create(**PROMPT)
    error = caught.value
    assert error.status_code == 401
    assert error.code == "c"
    assert key not in f"{error} {error!r} {error.body} {error.message}"


@pytest.mark.parametrize(
    "argument", [{"max_tokens": 2**62}, {"max_tokens": 2**70}, {"n": 2**63}, {"max_tokens": 10**400}]
)
def test_more_than_anybody_has_is_refused(client: InferneoClient, argument: dict[str, Any]) -> None:
    with pytest.raises(InferneoError, match="nothing was sent"):
        client.completions.create(**{**PROMPT, **argument})
