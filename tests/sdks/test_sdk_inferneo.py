"""OpenAI's SDK at Inferneo's server, which it is known to work against, beside our models and our Inferneo clients.

Chat, text completions, the streams of both, the models, the errors: what is sent, and what is made of the answer. What
a decision makes different stands in `DIFFERENCES`.

The server has neither keys nor limits of its own; what is here of them is as documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import (
    FAILING_STREAM,
    HELLO,
    KEY,
    LIMITED,
    MODEL,
    PLAIN,
    Told,
    alone,
    both,
    in_thread,
    said_by,
    with_simulators,
)

from engine.clients.inferneo import AsyncInferneoClient, InferneoAPIError, InferneoClient, InferneoError
from engine.portal import open_portal
from engine.simulator import FaultRates, Simulator, SimulatorConfig, count_input

openai = pytest.importorskip("openai", reason="needs the extra test-sdks")

PROVIDERS = ["inferneo", "inferneo_documented"]
CHAT: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0.5, "stop": ["never said"]}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "Say hello.", "max_tokens": 12, "top_p": 0.5, "seed": 7}

bodies: list[dict[str, object]] = []
"""What the simulators were sent, in the order in which it came."""


def note(arguments: Mapping[str, object]) -> int:
    """Counts the input of a request, and keeps its body. A prompt is counted as messages, which were not sent."""
    bodies.append({name: value for name, value in arguments.items() if name != "messages" or "prompt" not in arguments})
    return count_input(arguments)


NOTING = msgspec.structs.replace(PLAIN, count_input=f"{__name__}:note")


@pytest.fixture(autouse=True)
def no_bodies() -> None:
    bodies.clear()


def client(address: str, name: str, key: str = KEY) -> Any:
    return openai.OpenAI(
        api_key=key, base_url=f"{address}/v1", max_retries=0, default_headers={"x-penstock-call": name}
    )


def told_by_text(completions: Iterable[Any]) -> Told:
    """The answer of these completions: one is an answer in one piece, several are a stream."""
    told = Told()
    for completion in completions:
        (choice,) = completion.choices
        told.identity, told.model = completion.id, completion.model
        told.text = (told.text or "") + choice.text
        told.finish = choice.finish_reason or told.finish
        if completion.usage is not None:
            told.usage = (completion.usage.prompt_tokens, completion.usage.completion_tokens, None)
    return told


def chat(sdk: Any, arguments: dict[str, Any]) -> Told:
    return told_by(sdk.chat.completions.create(**arguments))


def chat_stream(sdk: Any, arguments: dict[str, Any]) -> Told:
    with sdk.chat.completions.create(**arguments, stream=True) as chunks:
        return told_by_chunks(chunks)


def text(sdk: Any, arguments: dict[str, Any]) -> Told:
    return told_by_text([sdk.completions.create(**arguments)])


def text_stream(sdk: Any, arguments: dict[str, Any]) -> Told:
    with sdk.completions.create(**arguments, stream=True) as chunks:
        return told_by_text(chunks)


Ask = Callable[[Any, dict[str, Any]], Told]
WHOLE = [pytest.param("chat", CHAT, chat, id="chat"), pytest.param("completions", TEXT, text, id="text")]
STREAMED = [
    pytest.param("chat", CHAT, chat_stream, id="chat"),
    pytest.param("completions", TEXT, text_stream, id="text"),
]


def asking(ask: Ask, arguments: dict[str, Any], key: str = KEY) -> Callable[[str, str], Told]:
    """A call by the SDK."""

    def once(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            return ask(sdk, arguments)

    return once


@pytest.mark.parametrize(("endpoint", "arguments", "ask"), WHOLE)
async def test_both_send_the_same_and_get_the_same_answer(endpoint: str, arguments: dict[str, Any], ask: Ask) -> None:
    call, theirs = await both("inferneo", endpoint, arguments, asking(ask, arguments), NOTING)
    assert (theirs.finish, theirs.usage and theirs.usage[1]) == ("length", 12)
    assert said_by(call) == theirs
    assert bodies == [arguments, arguments]


@pytest.mark.parametrize(("endpoint", "arguments", "ask"), STREAMED)
async def test_both_send_the_same_and_get_the_same_stream(endpoint: str, arguments: dict[str, Any], ask: Ask) -> None:
    """A stream has no usage, whoever asks for it."""
    call, theirs = await both("inferneo", endpoint, arguments, asking(ask, arguments), NOTING, streamed=True)
    assert (theirs.finish, theirs.usage) == ("length", None)
    assert len((theirs.text or "").split()) == 12
    assert said_by(call) == theirs
    assert bodies == [{**arguments, "stream": True}] * 2


@pytest.mark.parametrize(("endpoint", "arguments", "ask"), [*WHOLE, *STREAMED])
async def test_the_sdk_reads_what_is_documented(endpoint: str, arguments: dict[str, Any], ask: Ask) -> None:
    """The documented chunks have no model, and the SDK does not mind."""
    theirs = await alone("inferneo_documented", asking(ask, arguments), PLAIN)
    assert (len((theirs.text or "").split()), theirs.finish) == (12, "length")
    assert theirs.model in (MODEL, None)


async def test_the_sdk_lists_the_models() -> None:
    def models(address: str, name: str) -> list[str]:
        with client(address, name) as sdk:
            assert {model.owned_by for model in sdk.models.list()} == {"inferneo"}
            return [model.id for model in sdk.models.list()]

    config = SimulatorConfig(key=KEY, models=("tiny", "a/b"))
    assert await alone("inferneo", models, config) == ["tiny"]
    assert await alone("inferneo_documented", models, config) == ["tiny", "a/b"]


async def test_the_sdk_finds_a_model_where_that_is_documented() -> None:
    def retrieve(address: str, name: str) -> str:
        with client(address, name) as sdk:
            return str(sdk.models.retrieve("a/b").id)

    config = SimulatorConfig(key=KEY, models=("a/b",))
    assert await alone("inferneo_documented", retrieve, config) == "a/b"
    with pytest.raises(openai.NotFoundError):
        await alone("inferneo", retrieve, config)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("endpoint", "arguments", "ask"), WHOLE)
async def test_a_wrong_key_and_a_limit_are_the_sdks_own_errors(
    provider: str, endpoint: str, arguments: dict[str, Any], ask: Ask
) -> None:
    def twice(address: str, name: str) -> None:
        asking(ask, arguments)(address, name)
        asking(ask, arguments)(address, name)

    with pytest.raises(openai.AuthenticationError):
        await alone(provider, asking(ask, arguments, "wrong"), LIMITED)
    with pytest.raises(openai.RateLimitError):
        await alone(provider, twice, LIMITED)


@pytest.mark.parametrize(("endpoint", "arguments", "ask"), WHOLE)
async def test_what_is_wrong_in_a_request_is_told_to_both(endpoint: str, arguments: dict[str, Any], ask: Ask) -> None:
    """The SDK does not know `top_k`, and ours does not know that 0 is refused."""
    wrong = {**arguments, "extra_body": {"top_k": 0}}

    def refused(address: str, name: str) -> str:
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            asking(ask, wrong)(address, name)
        return str(caught.value.body)

    call, said = await both("inferneo", endpoint, {**arguments, "top_k": 0}, refused)
    assert call.status == "failed"
    assert "top_k must be -1 (disabled) or >= 1" in said
    assert "top_k must be -1 (disabled) or >= 1" in str(call.error)


@pytest.mark.parametrize(("endpoint", "arguments", "ask"), STREAMED)
async def test_a_stream_that_is_cut_off_is_an_error_to_both(endpoint: str, arguments: dict[str, Any], ask: Ask) -> None:
    """The server has no word for a failure in a stream: the connection ends."""

    def cut(address: str, name: str) -> None:
        with pytest.raises(openai.APIConnectionError) as caught:
            asking(ask, arguments)(address, name)
        assert "incomplete chunked read" in str(caught.value.__cause__)

    call, _ = await both("inferneo", endpoint, arguments, cut, FAILING_STREAM, streamed=True)
    assert call.status == "failed"


async def sides(mine: Callable[[str], Any], theirs: Callable[[str, str], Any], config: SimulatorConfig) -> list[Any]:
    """What our client is told, and what the SDK is told that names its call as ours was named. Ours blocks a thread, or
    is awaited."""

    async def run(simulators: list[Simulator]) -> list[Any]:
        addresses = [simulator.address("inferneo") for simulator in simulators]
        found = await mine(addresses[0])
        arrivals = simulators[0].log()
        return [found, await in_thread(theirs, addresses[1], arrivals[0].call if arrivals else "none")]

    return await with_simulators(config, run)


def blocking(ask: Callable[[Any], Any], key: str = KEY, retries: int = 0) -> Callable[[str], Any]:
    """Our client for synchronous code, in a thread."""

    def once(address: str, _: str) -> Any:
        with open_portal() as engine, InferneoClient(address, key, max_retries=retries, engine=engine) as client:
            return ask(client)

    async def run(address: str) -> Any:
        return await in_thread(once, address, "")

    return run


def awaited(endpoint: str, arguments: dict[str, Any], *, streamed: bool) -> Callable[[str], Any]:
    """Our client for trio."""

    async def run(address: str) -> Told:
        async with AsyncInferneoClient(address, KEY, max_retries=0) as client:
            create: Any = client.chat.completions.create if endpoint == "chat" else client.completions.create
            if not streamed:
                answer = await create(**arguments)
                return told_by(answer) if endpoint == "chat" else told_by_text([answer])
            async with await create(**arguments, stream=True) as stream:
                chunks = [chunk async for chunk in stream]
            return told_by_chunks(chunks) if endpoint == "chat" else told_by_text(chunks)

    return run


@pytest.mark.parametrize("waits", ["blocking", "trio"])
@pytest.mark.parametrize(("endpoint", "arguments", "ask"), [*WHOLE, *STREAMED])
async def test_our_clients_send_what_the_sdk_sends_and_read_what_it_reads(
    endpoint: str, arguments: dict[str, Any], ask: Ask, waits: str
) -> None:
    """Their answers have the SDK's fields: the same functions read both. No body differs."""
    streamed = ask in (chat_stream, text_stream)
    trio_side = awaited(endpoint, arguments, streamed=streamed)
    mine = trio_side if waits == "trio" else blocking(lambda client: ask(client, arguments))
    told, theirs = await sides(mine, asking(ask, arguments), NOTING)
    assert told == theirs
    assert len((told.text or "").split()) == 12
    expected = {**arguments, "stream": True} if streamed else arguments
    assert bodies == [expected, expected]


async def test_our_clients_list_the_models_that_the_sdk_lists() -> None:
    def listed(client: Any) -> list[tuple[str, str, str]]:
        return [(model.id, model.object, model.owned_by) for model in client.models.list().data]

    def theirs(address: str, name: str) -> Any:
        with client(address, name) as sdk:
            return listed(sdk)

    told, others = await sides(blocking(listed), theirs, SimulatorConfig(key=KEY, models=("tiny",)))
    assert told == others == [("tiny", "model", "inferneo")]


IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
CRASHING = SimulatorConfig(faults=FaultRates(server_error=1.0))
FAILURES: list[tuple[str, int, str, SimulatorConfig, dict[str, Any]]] = [
    ("a wrong key", 401, "Incorrect API key", SimulatorConfig(key="another"), {}),
    ("an image", 501, "no vision tower", PLAIN, {"messages": IMAGE}),
    ("a prompt too long", 400, "max_model_len is 3", SimulatorConfig(max_input_tokens=3), {}),
    ("a stop that is none", 422, "valid string", PLAIN, {"stop": [3]}),
    ("a crash", 500, "Internal Server Error", CRASHING, {}),
    ("a limit", 429, "Rate limit reached", SimulatorConfig(faults=FaultRates(rate_limited=1.0)), {}),
]


@pytest.mark.parametrize(
    ("status", "said", "config", "wrong"), [row[1:] for row in FAILURES], ids=[r[0] for r in FAILURES]
)
@pytest.mark.parametrize("ask", [chat, chat_stream])
async def test_both_raise_the_servers_status_and_words(
    ask: Ask, status: int, said: str, config: SimulatorConfig, wrong: dict[str, Any]
) -> None:
    arguments = {**CHAT, **wrong}

    def mine(client: Any) -> tuple[int, str]:
        with pytest.raises(InferneoAPIError) as caught:
            ask(client, arguments)
        return caught.value.status_code, caught.value.message

    def theirs(address: str, name: str) -> tuple[int, str]:
        with pytest.raises(openai.APIStatusError) as caught:
            asking(ask, arguments)(address, name)
        return caught.value.status_code, f"{caught.value.message} {caught.value.response.text}"

    for code, words in await sides(blocking(mine), theirs, config):
        assert code == status
        assert said in words


@pytest.mark.parametrize("ask", [chat_stream, text_stream])
async def test_both_raise_when_a_stream_is_cut_off(ask: Ask) -> None:
    arguments = CHAT if ask is chat_stream else TEXT

    def mine(client: Any) -> None:
        with pytest.raises(InferneoError):
            ask(client, arguments)

    def theirs(address: str, name: str) -> None:
        with pytest.raises(openai.APIConnectionError):
            asking(ask, arguments)(address, name)

    await sides(blocking(mine), theirs, FAILING_STREAM)


async def test_both_try_once_more_if_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One retry is two requests, of which the second is answered."""
    monkeypatch.undo()  # of this folder's one attempt

    def theirs(address: str, name: str) -> Told:
        with client(address, name) as sdk:
            return chat(sdk.with_options(max_retries=1), CHAT)

    def mine(client: Any) -> Told:
        return chat(client, CHAT)

    faults = FaultRates(server_error=1.0, only_first_attempts=1)
    told, others = await sides(blocking(mine, retries=1), theirs, SimulatorConfig(output_tokens=12, faults=faults))
    assert told == others


Make = Callable[..., Any]
"""Makes a client, of these arguments in place of the usual ones."""


class Outcome(NamedTuple):
    """What came of a side's attempt, an exception as its class and its words; and how many calls arrived."""

    came: Any
    arrived: int


class Difference(NamedTuple):
    """One row: the `decision` in a few words; what the stock client does, and what comes of it; what ours does. A text
    that is expected may be a part of the one that comes."""

    decision: str
    theirs: Callable[[Make], Any]
    is_theirs: Outcome
    ours: Callable[[Make], Any]
    is_ours: Outcome
    config: SimulatorConfig = PLAIN


def same(
    decision: str, ask: Callable[[Make], Any], is_theirs: Outcome, is_ours: Outcome, config: SimulatorConfig = PLAIN
) -> Difference:
    """A row in which both do the same."""
    return Difference(decision, ask, is_theirs, ask, is_ours, config)


def asks(**arguments: Any) -> Callable[[Make], Any]:
    """A chat with these arguments; how many words came."""
    return lambda make: len(make().chat.completions.create(**{**CHAT, **arguments}).choices[0].message.content.split())


def read(make: Make) -> int:
    """A chat's stream, read to its end."""
    return len(told_by_chunks(make().chat.completions.create(**CHAT, stream=True)).text.split())


RANGE = "ranges in the document: checked before sending, naming the argument"
ERRORS = "errors: detail, error and plain text all parsed; the message is the server's own"
ARGUMENTS = "completions.create: top_k is an argument, and what else is given goes into the body"
TINY = msgspec.structs.replace(PLAIN, models=("tiny",))
UNENDED = msgspec.structs.replace(PLAIN, faults=FaultRates(stream_no_done=1.0))
BROKEN = SimulatorConfig(key=KEY, faults=FaultRates(server_error=1.0))
SLOW = SimulatorConfig(key=KEY, faults=FaultRates(stall=1.0))

DIFFERENCES = [
    Difference(
        "models.get: falls back to the list where the server has no record of one",
        lambda make: make().models.retrieve("tiny").id,
        Outcome("NotFoundError: Error code: 404", 0),
        lambda make: make().models.get("tiny").id,
        Outcome("tiny", 0),
        TINY,
    ),
    same(
        "models.list: a list, whose items are under data as well",
        lambda make: make().models.list()[0].id,
        Outcome("TypeError: 'SyncPage[Model]' object is not subscriptable", 0),
        Outcome("tiny", 0),
        TINY,
    ),
    same(
        "info: composed from /stats and /v1/models",
        lambda make: make().info().models,
        Outcome("AttributeError: 'OpenAI' object has no attribute 'info'", 0),
        Outcome(["tiny"], 0),
        TINY,
    ),
    same(RANGE, asks(temperature=2.5), Outcome(12, 1), Outcome("InferneoError: temperature: Expected", 0)),
    same(
        RANGE,
        asks(top_p=1.5),
        Outcome("UnprocessableEntityError: Error code: 422", 1),
        Outcome("InferneoError: top_p: Expected", 0),
    ),
    same(
        RANGE,
        asks(frequency_penalty=-2.5),
        Outcome("UnprocessableEntityError: Error code: 422", 1),
        Outcome("InferneoError: frequency_penalty: Expected", 0),
    ),
    same(
        "unset arguments: omitted, never sent as null",
        asks(temperature=None),
        Outcome("UnprocessableEntityError: Error code: 422", 1),
        Outcome(12, 1),
    ),
    same(ARGUMENTS, asks(top_k=5), Outcome("TypeError: ", 0), Outcome(12, 1)),
    same(ARGUMENTS, asks(min_p=0.1), Outcome("TypeError: ", 0), Outcome(12, 1)),
    same(
        ERRORS,
        asks(stop=[3]),
        Outcome("UnprocessableEntityError: Error code: 422", 1),
        Outcome("InferneoAPIError: stop", 1),
    ),
    same(
        ERRORS,
        asks(),
        Outcome("InternalServerError: Error code: 500", 1),
        Outcome("InferneoAPIError: Internal Server Error", 1),
        BROKEN,
    ),
    same(
        "a stream that ends without its terminator: an error, not a short answer",
        read,
        Outcome(12, 1),
        Outcome("InferneoError: the stream ended before its end", 1),
        UNENDED,
    ),
    same(
        "the address may end in /v1 or not",
        lambda make: make(bare=True).chat.completions.create(**CHAT).choices[0].finish_reason,
        Outcome("NotFoundError: Error code: 404", 0),
        Outcome("length", 1),
    ),
    same(
        "api_key: None where the server has none",
        lambda make: make(api_key=None).chat.completions.create(**CHAT).choices[0].finish_reason,
        Outcome("OpenAIError: ", 0),
        Outcome("length", 1),
        SimulatorConfig(),
    ),
    same(
        "max_retries=3: up to three retries, four requests",
        lambda make: make(max_retries=None).chat.completions.create(**CHAT),
        Outcome("InternalServerError: ", 3),
        Outcome("InferneoAPIError: Internal Server Error", 4),
        BROKEN,
    ),
    same(
        "timeout: one class for it, whatever was waited for",
        lambda make: make(timeout=0.2).chat.completions.create(**CHAT),
        Outcome("APITimeoutError: Request timed out.", 1),
        Outcome("InferneoTimeoutError: ", 1),
        SLOW,
    ),
]


def attempted(ask: Callable[[Make], Any], kind: Any, usual: dict[str, Any], address: str) -> Any:
    """What comes of a row's attempt by one side."""
    clients: list[Any] = []

    def make(*, bare: bool = False, **given: Any) -> Any:
        arguments = {"base_url": address if bare else f"{address}/v1", "api_key": KEY, "max_retries": 0, **usual}
        arguments |= given
        if arguments["max_retries"] is None:
            del arguments["max_retries"]
        clients.append(kind(**arguments))
        return clients[-1]

    try:
        return ask(make)
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is wanted
        return f"{type(error).__name__}: {error}"
    finally:
        for made in clients:
            made.close()


@pytest.mark.parametrize("row", DIFFERENCES, ids=[f"{place} {row.decision}" for place, row in enumerate(DIFFERENCES)])
async def test_what_a_decision_makes_different(row: Difference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of this folder's one attempt
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def mine(address: str, _: str) -> Any:
        with open_portal() as engine:
            return attempted(row.ours, InferneoClient, {"engine": engine}, address)

    async def run(simulators: list[Simulator]) -> list[Outcome]:
        theirs, ours = simulators
        told = await in_thread(
            lambda address, _: attempted(row.theirs, openai.OpenAI, {}, address), theirs.address("inferneo"), ""
        )
        found = await in_thread(mine, ours.address("inferneo"), "")
        return [Outcome(told, len(theirs.log())), Outcome(found, len(ours.log()))]

    theirs, ours = await with_simulators(row.config, run)
    for outcome, expected in ((theirs, row.is_theirs), (ours, row.is_ours)):
        assert outcome.arrived == expected.arrived, outcome
        if isinstance(expected.came, str):
            assert expected.came in outcome.came
        else:
            assert outcome.came == expected.came
    assert theirs != ours
