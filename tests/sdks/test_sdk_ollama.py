"""Ollama's SDK and our client at Ollama's own chat. It has neither keys nor limits of its own: an error is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from two_sides import FAILING, FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, TOOLS, Told, alone, both, said_by

ollama = pytest.importorskip("ollama", reason="needs the extra test-sdks")

ASKED: dict[str, Any] = {"model": MODEL, "messages": HELLO}
WITH_TOOL = {**ASKED, "tools": TOOLS}


def client(address: str, name: str, key: str = KEY) -> Any:
    headers = {"x-penstock-call": name, "authorization": f"Bearer {key}"}
    return ollama.Client(host=address, headers=headers)


def told_by(answers: list[Any]) -> Told:
    """The answer of these lines; one is an answer in one piece."""
    last = answers[-1]
    calls = [call.function for answer in answers for call in answer.message.tool_calls or []]
    return Told(
        text="".join(answer.message.content or "" for answer in answers) or None,
        reasoning="".join(answer.message.thinking or "" for answer in answers) or None,
        finish="tool_calls" if calls else last.done_reason,
        calls=[("", call.name, call.arguments) for call in calls],
        usage=(last.prompt_eval_count, last.eval_count, None),
        model=last.model,
    )


def ours(call: Any) -> Told:
    """What our client says, which names the calls; the arguments as the objects that this SDK makes of them."""
    said = said_by(call)
    assert all(identity for identity, _, _ in said.calls)
    said.calls = [("", name, json.loads(arguments)) for _, name, arguments in said.calls]
    return said


def asking(arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            return told_by([sdk.chat(**arguments)])

    return ask


def listening(arguments: dict[str, Any]) -> Any:
    def listen(address: str, name: str) -> Told:
        with client(address, name) as sdk:
            return told_by(list(sdk.chat(**arguments, stream=True)))

    return listen


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_answer(arguments: dict[str, Any]) -> None:
    call, theirs = await both("ollama", "native", arguments, asking(arguments))
    assert theirs.text or theirs.calls
    assert ours(call) == theirs


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_stream(arguments: dict[str, Any]) -> None:
    call, theirs = await both("ollama", "native", arguments, listening(arguments), streamed=True)
    assert theirs.text or theirs.calls
    assert ours(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def listen(address: str, name: str) -> str:
        with pytest.raises(ollama.ResponseError) as caught:
            listening(ASKED)(address, name)
        return str(caught.value.error)

    call, message = await both("ollama", "native", ASKED, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_an_error_in_an_answer_is_no_message_to_either() -> None:
    """This SDK does not look for an error there; what it makes of it breaks at the first look."""

    def ask(address: str, name: str) -> None:
        with pytest.raises(ValueError, match="message"):
            asking(ASKED)(address, name)

    call, _ = await both("ollama", "native", ASKED, ask, FAILING)
    assert call.status == "failed"


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        await alone("ollama", asking(ASKED, "wrong"), LIMITED)
    assert caught.value.status_code == 401


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        asking(ASKED)(address, name)
        asking(ASKED)(address, name)

    with pytest.raises(ollama.ResponseError) as caught:
        await alone("ollama", twice, LIMITED)
    assert caught.value.status_code == 429
