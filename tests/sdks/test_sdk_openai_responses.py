"""OpenAI's SDK and our client at its Responses and its embeddings, and at NVIDIA's embeddings."""

from __future__ import annotations

from typing import Any

import pytest
from two_sides import FAILING, FAILING_STREAM, FUNCTION, KEY, LIMITED, MODEL, Told, alone, both, said_by

openai = pytest.importorskip("openai", reason="needs the extra test-sdks")

ASKED: dict[str, Any] = {"model": MODEL, "input": "Say hello.", "max_output_tokens": 12}
WITH_TOOL = {**ASKED, "tools": [{"type": "function", "strict": False, **FUNCTION}]}
TEXTS: dict[str, Any] = {"model": MODEL, "input": ["one", "two", "three"], "encoding_format": "float"}
EMBEDS = {"openai": TEXTS, "nvidia_nim": {**TEXTS, "input_type": "query"}, "ollama": TEXTS}


def client(address: str, name: str, key: str = KEY, *, strict: bool = True) -> Any:
    return openai.OpenAI(
        api_key=key,
        base_url=address,
        max_retries=0,
        default_headers={"x-penstock-call": name},
        _strict_response_validation=strict,
    )


# --- responses --------------------------------------------------------------------------------------------------------


def told_by(response: Any) -> Told:
    parts = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
    calls = [item for item in response.output if item.type == "function_call"]
    usage = response.usage
    return Told(
        text=response.output_text or None,
        reasoning="".join(parts) or None,
        finish={"completed": "tool_calls" if calls else "stop"}[response.status],
        calls=[(call.call_id, call.name, call.arguments) for call in calls],
        usage=(usage.input_tokens, usage.output_tokens, usage.output_tokens_details.reasoning_tokens),
        identity=response.id,
        model=response.model,
    )


def asking(arguments: dict[str, Any], key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            return told_by(sdk.responses.create(**arguments))

    return ask


def listening(arguments: dict[str, Any]) -> Any:
    """Streamed, and put together by the SDK itself, which demands every event in its place."""

    def listen(address: str, name: str) -> Told:
        with client(address, name) as sdk, sdk.responses.stream(**arguments) as events:
            text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            told = told_by(events.get_final_response())
            assert text == (told.text or "")
            return told

    return listen


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_response(arguments: dict[str, Any]) -> None:
    call, theirs = await both("openai", "response", arguments, asking(arguments))
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


@pytest.mark.parametrize("arguments", [ASKED, WITH_TOOL], ids=["text", "tool"])
async def test_both_get_the_same_stream(arguments: dict[str, Any]) -> None:
    call, theirs = await both("openai", "response", arguments, listening(arguments), streamed=True)
    assert theirs.text or theirs.calls
    assert said_by(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def listen(address: str, name: str) -> str:
        with client(address, name) as sdk, sdk.responses.create(**ASKED, stream=True) as events:
            return next(event.message for event in events if event.type == "error")

    call, message = await both("openai", "response", ASKED, listen, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_both_see_the_same_failure_in_an_answer() -> None:
    def ask(address: str, name: str) -> str:
        with client(address, name) as sdk:
            response = sdk.responses.create(**ASKED)
            assert response.status == "failed"
            return str(response.error.message)

    call, message = await both("openai", "response", ASKED, ask, FAILING)
    assert call.status == "failed"
    assert message in str(call.error)


# --- embeddings -------------------------------------------------------------------------------------------------------


def embedding(arguments: dict[str, Any], key: str = KEY) -> Any:
    """The SDK's call. What it does not know by name goes as an extra; with no encoding it asks for base64 itself."""

    def embed(address: str, name: str) -> Told:
        known = {**arguments}
        extra = {"input_type": known.pop("input_type")} if "input_type" in known else None
        # Being strict, it refuses the base64 that it asked for itself and decodes only afterwards.
        strict = "encoding_format" in known
        with client(address + ("/v1" if "ollama" in address else ""), name, key, strict=strict) as sdk:
            found = sdk.embeddings.create(**known, extra_body=extra)
        vectors = [item.embedding for item in sorted(found.data, key=lambda item: item.index)]
        return Told(vectors=vectors, model=found.model, usage=(found.usage.prompt_tokens, found.usage.total_tokens))

    return embed


@pytest.mark.parametrize("encoding", ["float", "base64", None])
@pytest.mark.parametrize("provider", EMBEDS)
async def test_both_get_the_same_vectors(provider: str, encoding: str | None) -> None:
    arguments = {name: value for name, value in EMBEDS[provider].items() if name != "encoding_format"}
    ours = {**arguments, "encoding_format": encoding} if encoding else arguments
    theirs = {**arguments, "encoding_format": encoding} if encoding == "float" else arguments
    call, told = await both(provider, "embed", ours, embedding(theirs))
    said = said_by(call)
    assert len(told.vectors) == 3
    assert said.vectors == told.vectors
    assert said.model == told.model
    assert (said.usage or ())[0] == (told.usage or ())[0]


# --- refusals ---------------------------------------------------------------------------------------------------------

ENDPOINTS = {
    "response": (ASKED, asking),
    "embed": (TEXTS, embedding),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_wrong_key_is_the_sdks_own_error(endpoint: str) -> None:
    arguments, call = ENDPOINTS[endpoint]
    with pytest.raises(openai.AuthenticationError):
        await alone("openai", call(arguments, "wrong"), LIMITED)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_limit_is_the_sdks_own_error(endpoint: str) -> None:
    arguments, call = ENDPOINTS[endpoint]

    def twice(address: str, name: str) -> None:
        call(arguments)(address, name)
        call(arguments)(address, name)

    with pytest.raises(openai.RateLimitError):
        await alone("openai", twice, LIMITED)
