"""Perplexity's SDK and our client at Perplexity."""

from __future__ import annotations

from typing import Any

import pytest
from openai_shapes import told_by, told_by_chunks
from two_sides import FAILING, FAILING_STREAM, HELLO, KEY, LIMITED, MODEL, Told, alone, both, said_by

perplexity = pytest.importorskip("perplexity", reason="needs the extra test-sdks")

ASKED: dict[str, Any] = {"model": MODEL, "messages": HELLO}


def client(address: str, name: str, key: str = KEY) -> Any:
    return perplexity.Perplexity(
        api_key=key,
        base_url=address,
        max_retries=0,
        default_headers={"x-penstock-call": name},
        _strict_response_validation=True,
    )


def with_sources(told: Told, chunk: Any) -> Told:
    told.results = [(result.url, result.title, result.snippet) for result in chunk.search_results or []]
    return told


def asking(key: str = KEY) -> Any:
    def ask(address: str, name: str) -> Told:
        with client(address, name, key) as sdk:
            completion = sdk.chat.completions.create(**ASKED)
            return with_sources(told_by(completion), completion)

    return ask


def listen(address: str, name: str) -> Told:
    with client(address, name) as sdk, sdk.chat.completions.create(**ASKED, stream=True) as stream:
        chunks = list(stream)
    return with_sources(told_by_chunks(chunks), chunks[-1])


def ours(call: Any) -> Told:
    """What our client says, with the sources that the answer rests on."""
    said = said_by(call)
    said.results = [(source.url, source.title, source.text) for source in call.view.citations]
    return said


async def test_both_get_the_same_answer() -> None:
    call, theirs = await both("perplexity", "chat", ASKED, asking())
    assert theirs.text
    assert theirs.results
    assert ours(call) == theirs


async def test_both_get_the_same_stream() -> None:
    call, theirs = await both("perplexity", "chat", ASKED, listen, streamed=True)
    assert theirs.text
    assert theirs.results
    assert ours(call) == theirs


async def test_both_hear_the_same_error_in_a_stream() -> None:
    def fail(address: str, name: str) -> str:
        with pytest.raises(perplexity.APIError) as caught:
            listen(address, name)
        return str(caught.value.body["error"]["message"])

    call, message = await both("perplexity", "chat", ASKED, fail, FAILING_STREAM, streamed=True)
    assert call.status == "failed"
    assert message in str(call.error)


async def test_an_error_in_an_answer_is_an_error_to_both() -> None:
    def fail(address: str, name: str) -> None:
        with pytest.raises(perplexity.APIResponseValidationError):
            asking()(address, name)

    call, _ = await both("perplexity", "chat", ASKED, fail, FAILING)
    assert call.status == "failed"


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(perplexity.AuthenticationError):
        await alone("perplexity", asking("wrong"), LIMITED)


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        asking()(address, name)
        asking()(address, name)

    with pytest.raises(perplexity.RateLimitError):
        await alone("perplexity", twice, LIMITED)
