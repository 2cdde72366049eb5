"""OpenAI's SDK and our client at every provider that speaks OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import FAILING, FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, TOOLS, Told, alone, both, said_by

openai = pytest.importorskip("openai", reason="needs the extra test-sdks")

PATHS = {
    "openai": "", "gemini": "", "deepseek": "", "perplexity": "", "openrouter": "", "nvidia_nim": "",
    "ollama": "/v1",
}  # fmt: skip
"""What follows the provider's address in what its SDK is told."""
WITH_TOOLS = [name for name in PATHS if name != "perplexity"]
CHAT: dict[str, Any] = {"model": MODEL, "messages": HELLO}


def client(provider: str, address: str, name: str, key: str = KEY) -> Any:
    return openai.OpenAI(
        api_key=key,
        base_url=address + PATHS[provider],
        max_retries=0,
        default_headers={"x-penstock-call": name},
        _strict_response_validation=provider == "openai",  # the others are not all as strict as their model
    )


def asking(provider: str, arguments: dict[str, Any], key: str = KEY) -> Any:
    """A call by the SDK, in one piece."""

    def ask(address: str, name: str) -> Told:
        with client(provider, address, name, key) as sdk:
            return told_by(sdk.chat.completions.create(**arguments))

    return ask


def listening(provider: str, arguments: dict[str, Any]) -> Any:
    """A call by the SDK, streamed."""

    def listen(address: str, name: str) -> Told:
        with client(provider, address, name) as sdk:
            options = {"stream": True, "stream_options": {"include_usage": True}}
            with sdk.chat.completions.create(**arguments, **options) as chunks:
                return told_by_chunks(chunks)

    return listen


@pytest.mark.parametrize("provider", PATHS)
async def test_both_get_the_same_answer(provider: str) -> None:
    call, theirs = await both(provider, "chat", CHAT, asking(provider, CHAT))
    assert theirs.text
    assert said_by(call) == theirs


@pytest.mark.parametrize("provider", PATHS)
async def test_both_get_the_same_stream(provider: str) -> None:
    call, theirs = await both(provider, "chat", CHAT, listening(provider, CHAT), streamed=True)
    assert theirs.text
    assert said_by(call) == theirs


@pytest.mark.parametrize("provider", WITH_TOOLS)
async def test_both_are_asked_for_the_same_tool(provider: str) -> None:
    asked = {**CHAT, "tools": TOOLS}
    call, theirs = await both(provider, "chat", asked, asking(provider, asked))
    assert [name for _, name, _ in theirs.calls] == ["get_weather"]
    assert said_by(call) == theirs


@pytest.mark.parametrize("provider", WITH_TOOLS)
async def test_both_are_asked_for_the_same_tool_in_a_stream(provider: str) -> None:
    asked = {**CHAT, "tools": TOOLS}
    call, theirs = await both(provider, "chat", asked, listening(provider, asked), streamed=True)
    assert [name for _, name, _ in theirs.calls] == ["get_weather"]
    assert said_by(call) == theirs


@pytest.mark.parametrize("provider", PATHS)
async def test_a_wrong_key_is_the_sdks_own_error(provider: str) -> None:
    expected = openai.BadRequestError if provider == "gemini" else openai.AuthenticationError
    with pytest.raises(expected):
        await alone(provider, asking(provider, CHAT, "wrong"), LIMITED)


@pytest.mark.parametrize("provider", PATHS)
async def test_a_limit_is_the_sdks_own_error(provider: str) -> None:
    def ask_twice(address: str, name: str) -> None:
        asking(provider, CHAT)(address, name)
        asking(provider, CHAT)(address, name)

    with pytest.raises(openai.RateLimitError):
        await alone(provider, ask_twice, LIMITED)


@pytest.mark.parametrize("provider", PATHS)
async def test_both_hear_the_same_error_in_a_stream(provider: str) -> None:
    def listen(address: str, name: str) -> str:
        with pytest.raises(openai.APIError) as caught:
            listening(provider, CHAT)(address, name)
        return caught.value.message

    call, message = await both(provider, "chat", CHAT, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


@pytest.mark.parametrize("provider", PATHS)
async def test_both_see_the_same_error_in_an_answer(provider: str) -> None:
    """OpenAI's SDK takes an error in a success for an answer without choices, unless it is to be strict."""

    def ask(address: str, name: str) -> str:
        with client(provider, address, name).with_options() as sdk:
            return sdk.chat.completions.with_raw_response.create(**CHAT).text

    call, body = await both(provider, "chat", CHAT, ask, FAILING)
    assert call.status == "failed"
    assert bytes(call.reply.body).decode() == body
