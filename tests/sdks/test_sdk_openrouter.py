"""OpenRouter's SDK and our client at OpenRouter."""

from __future__ import annotations

from typing import Any

import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import FAILING, FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, TOOLS, Told, alone, both, said_by

openrouter = pytest.importorskip("openrouter", reason="needs the extra test-sdks")

from openrouter import errors  # noqa: E402  # only if it is there

ASKED: dict[str, Any] = {"model": MODEL, "messages": HELLO}
WITH_TOOL = {**ASKED, "tools": TOOLS}


def client(address: str, key: str = KEY) -> Any:
    """Without a configuration of retries there is none."""
    return openrouter.OpenRouter(api_key=key, server_url=address, retry_config=None)


def asking(arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, key) as sdk:
            return told_by(sdk.chat.send(**arguments, http_headers={"x-penstock-call": name}))

    return ask


def listening(arguments: dict[str, Any]) -> Any:
    def listen(address: str, name: str) -> Told:
        with client(address) as sdk:
            headers = {"x-penstock-call": name}
            with sdk.chat.send(**arguments, stream=True, http_headers=headers) as chunks:
                return told_by_chunks(chunks)

    return listen


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_answer(arguments: dict[str, Any]) -> None:
    call, theirs = await both("openrouter", "chat", arguments, asking(arguments))
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_stream(arguments: dict[str, Any]) -> None:
    call, theirs = await both("openrouter", "chat", arguments, listening(arguments), streamed=True)
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def listen(address: str, name: str) -> str:
        with client(address) as sdk:
            headers = {"x-penstock-call": name}
            with sdk.chat.send(**ASKED, stream=True, http_headers=headers) as chunks:
                told = [chunk.error.message for chunk in chunks if chunk.error]
        assert told
        return str(told[0])

    call, message = await both("openrouter", "chat", ASKED, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_an_error_in_an_answer_is_an_error_to_both() -> None:
    def ask(address: str, name: str) -> None:
        with pytest.raises(errors.ResponseValidationError):
            asking(ASKED)(address, name)

    call, _ = await both("openrouter", "chat", ASKED, ask, FAILING)
    assert call.status == "failed"


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(errors.UnauthorizedResponseError):
        await alone("openrouter", asking(ASKED, "wrong"), LIMITED)


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        asking(ASKED)(address, name)
        asking(ASKED)(address, name)

    with pytest.raises(errors.TooManyRequestsResponseError):
        await alone("openrouter", twice, LIMITED)
