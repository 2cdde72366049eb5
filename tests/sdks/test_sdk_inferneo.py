"""OpenAI's SDK and our client at Inferneo's server, which that SDK is known to work against: chat, text completions,
the streams of both, the models. It has neither keys nor limits of its own; what is here of them is as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, PLAIN, Told, alone, both, said_by

from engine.simulator import SimulatorConfig, count_input

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
