"""Anthropic's SDK and our client at its Messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from two_sides import FAILING, FAILING_STREAM, FUNCTION, HELLO, KEY, LIMITED, MODEL, Told, alone, both, said_by

anthropic = pytest.importorskip("anthropic", reason="needs the extra test-sdks")

ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 12, "system": "Be brief.", "messages": HELLO}
TOOL = {"name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}
WITH_TOOL = {**ASKED, "tools": [TOOL]}


def client(address: str, name: str, key: str = KEY) -> Any:
    return anthropic.Anthropic(
        api_key=key,
        base_url=address,
        max_retries=0,
        default_headers={"x-penstock-call": name},
        _strict_response_validation=True,
    )


def told_by(message: Any) -> Told:
    blocks = message.content
    usage = message.usage
    return Told(
        text="".join(block.text for block in blocks if block.type == "text") or None,
        reasoning="".join(block.thinking for block in blocks if block.type == "thinking") or None,
        finish={"end_turn": "stop", "tool_use": "tool_calls"}[message.stop_reason],
        calls=[(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"],
        usage=(usage.input_tokens, usage.output_tokens, usage.output_tokens_details.thinking_tokens),
        identity=message.id,
        model=message.model,
    )


def ours(call: Any) -> Told:
    """What our client says; the arguments of tools as the objects that this SDK makes of them."""
    said = said_by(call)
    said.calls = [(identity, name, json.loads(arguments)) for identity, name, arguments in said.calls]
    return said


def asking(arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            return told_by(sdk.messages.create(**arguments))

    return ask


def listening(arguments: dict[str, Any]) -> Any:
    """Streamed, and put together by the SDK itself."""

    def listen(address: str, name: str) -> Told:
        with client(address, name) as sdk, sdk.messages.stream(**arguments) as events:
            text = "".join(events.text_stream)
            told = told_by(events.get_final_message())
            assert text == (told.text or "")
            return told

    return listen


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_message(arguments: dict[str, Any]) -> None:
    call, theirs = await both("anthropic", "chat", arguments, asking(arguments))
    assert theirs.text or theirs.calls
    assert ours(call) == theirs


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_stream(arguments: dict[str, Any]) -> None:
    call, theirs = await both("anthropic", "chat", arguments, listening(arguments), streamed=True)
    assert theirs.text or theirs.calls
    assert ours(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def listen(address: str, name: str) -> str:
        with pytest.raises(anthropic.APIStatusError) as caught:
            listening(ASKED)(address, name)
        return str(caught.value.body["error"]["message"])

    call, message = await both("anthropic", "chat", ASKED, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_an_error_in_an_answer_is_an_error_to_both() -> None:
    def ask(address: str, name: str) -> None:
        with pytest.raises(anthropic.APIResponseValidationError):
            asking(ASKED)(address, name)

    call, _ = await both("anthropic", "chat", ASKED, ask, FAILING)
    assert call.status == "failed"


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(anthropic.AuthenticationError):
        await alone("anthropic", asking(ASKED, "wrong"), LIMITED)


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        asking(ASKED)(address, name)
        asking(ASKED)(address, name)

    with pytest.raises(anthropic.RateLimitError):
        await alone("anthropic", twice, LIMITED)
