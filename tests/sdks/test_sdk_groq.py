"""Groq's SDK and our client at Groq."""

from __future__ import annotations

from typing import Any

import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import FAILING, FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, TOOLS, Told, alone, both, said_by

groq = pytest.importorskip("groq", reason="needs the extra test-sdks")

ASKED: dict[str, Any] = {"model": MODEL, "messages": HELLO}
WITH_TOOL = {**ASKED, "tools": TOOLS}


def client(address: str, name: str, key: str = KEY) -> Any:
    return groq.Groq(
        api_key=key,
        base_url=address.removesuffix("/openai/v1"),
        max_retries=0,
        default_headers={"x-penstock-call": name},
        _strict_response_validation=True,
    )


def asking(arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            return told_by(sdk.chat.completions.create(**arguments))

    return ask


def listening(arguments: dict[str, Any]) -> Any:
    def listen(address: str, name: str) -> Told:
        with client(address, name) as sdk, sdk.chat.completions.create(**arguments, stream=True) as chunks:
            return told_by_chunks(chunks)

    return listen


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_answer(arguments: dict[str, Any]) -> None:
    call, theirs = await both("groq", "chat", arguments, asking(arguments))
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_stream(arguments: dict[str, Any]) -> None:
    call, theirs = await both("groq", "chat", arguments, listening(arguments), streamed=True)
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def listen(address: str, name: str) -> str:
        with client(address, name) as sdk, sdk.chat.completions.create(**ASKED, stream=True) as chunks:
            told = [chunk.x_groq.error for chunk in chunks if chunk.x_groq is not None and chunk.x_groq.error]
        assert told
        return str(told[0])

    call, message = await both("groq", "chat", ASKED, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_an_error_in_an_answer_is_an_error_to_both() -> None:
    def ask(address: str, name: str) -> None:
        with pytest.raises(groq.APIResponseValidationError):
            asking(ASKED)(address, name)

    call, _ = await both("groq", "chat", ASKED, ask, FAILING)
    assert call.status == "failed"


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(groq.AuthenticationError):
        await alone("groq", asking(ASKED, "wrong"), LIMITED)


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        asking(ASKED)(address, name)
        asking(ASKED)(address, name)

    with pytest.raises(groq.RateLimitError):
        await alone("groq", twice, LIMITED)
