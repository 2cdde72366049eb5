"""`penstock call`: the answer on stdout, the provider's failure on stderr, misuse before anything is sent."""

from __future__ import annotations

import json

import pytest
from call_provider import provider
from command_line import Penstock, Typed

from engine.simulator import FaultRates


async def test_the_answer_is_all_that_stdout_has(penstock: Penstock) -> None:
    async with provider() as served:
        ran = await penstock("call", "hello", "--model", "simulated-1", "--base-url", served.base_url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()
    assert not ran.out.startswith("{")


async def test_the_whole_response_as_json(penstock: Penstock) -> None:
    """What was asked for arrived at the provider, whose answer is printed as it came."""
    async with provider() as served:
        ran = await penstock(
            *("call", "hello", "--model", "any/model-7", "--base-url", served.base_url, "--json"),
            *("--system", "Be brief.", "--max-tokens", "5", "--temperature", "0"),
        )
        arrivals = served.log()
    assert (ran.code, ran.err) == (0, "")
    response = json.loads(ran.out)
    assert response["object"] == "chat.completion"
    assert response["model"] == "model-7"
    assert response["usage"]["completion_tokens"] == 5
    assert [(arrival.status, arrival.output_cap) for arrival in arrivals] == [(200, 5)]


async def test_the_prompt_can_come_from_stdin(penstock: Penstock) -> None:
    """As many input tokens are counted as for the same prompt given as an argument."""
    prompt = "Tell me about weirs and locks, please. " * 5
    async with provider() as served:
        options = ("--model", "m", "--base-url", served.base_url)
        piped = await penstock("call", "-", *options, stdin=prompt.encode())
        given = await penstock("call", prompt, *options)
        counts = {arrival.input_tokens for arrival in served.log()}
    assert (piped.code, given.code) == (0, 0)
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "sk-right-8f2h"}, ["Incorrect API key"]),
        ({"faults": FaultRates(malformed_json=1.0)}, []),
        ({"faults": FaultRates(reset_after=1.0)}, []),
    ],
)
async def test_a_failure_is_one_line_and_code_1(
    penstock: Penstock, changes: dict[str, object], words: list[str]
) -> None:
    """The provider's own words where it had any; never the key."""
    async with provider(**changes) as served:
        ran = await penstock(
            *("call", "hello", "--provider", "acme", "--model", "m", "--base-url", served.base_url),
            environment={"ACME_API_KEY": "sk-wrong-3k9Q"},
        )
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert [word for word in words if word not in ran.err] == []
    assert "sk-wrong" not in ran.err


async def test_nobody_at_the_address_is_told(penstock: Penstock) -> None:
    """Nothing could be sent, which is the network's failure and not the user's: code 1."""
    async with provider() as served:
        address = served.base_url
    ran = await penstock("call", "hello", "--model", "m", "--base-url", address)
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["hello"], ["--model"]),
        (["--model", "gpt-4o"], ["PROMPT"]),
        (["hello", "--model", "gpt-4o"], ["OPENAI_API_KEY"]),
        (["hello", "--model", "groq/llama-3.3"], ["GROQ_API_KEY"]),
        (["hello", "--model", "m", "--provider", "acme"], ["acme", "base_url"]),
        (["hello", "--model", "m", "--base-url", "127.0.0.1:80"], ["base_url", "http://"]),
        (
            ["hello", "--model", "m", "--base-url", "http://127.0.0.1", "--max-tokens", "0"],
            ["--max-tokens", "at least 1"],
        ),
        (["hello", "--model", "m", "--base-url", "http://127.0.0.1", "--temperature", "9"], ["temperature"]),
        (["hello", "--model", "m", "--temperature", "-1"], ["--temperature"]),
        (["hello", "--model", "m", "--streem"], ["Unknown option: --streem", "--stream"]),
        (["--stream", "--model", "m"], ["PROMPT"]),
        (["--verbose", "--model", "m"], ["unknown option --verbose", "standard input"]),
        (["", "--model", "m"], ["prompt is empty"]),
        (["-", "--model", "m"], ["prompt is empty"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_misuse_is_one_line_and_nothing_is_sent(typed_here: Typed, typed: list[str], words: list[str]) -> None:
    """Code 2, and a line that names what is missing or wrong."""
    ran = typed_here("call", *typed)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert [word for word in words if word not in ran.err] == []
