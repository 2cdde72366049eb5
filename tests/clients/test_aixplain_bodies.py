"""`LLM.run`, `run_async` and their streams: which fields go out, what wins over what, and what is reserved."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from aixplain_platform import Platform, stream

from engine.clients.aixplain import LLM, Function

OLDER = {
    "data": "hello", "context": None, "prompt": None, "history": None, "temperature": 0.001, "max_tokens": 128,
    "top_p": 1.0,
}  # fmt: skip
NEWER = {
    "data": "hello", "context": None, "prompt": None, "history": None, "max_tokens": 128, "response_format": None,
}  # fmt: skip
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def an_llm(compat: str = "0.2.34", **arguments: Any) -> LLM:
    return LLM("m-1", "N", function=Function.TEXT_GENERATION, compat=compat, **arguments)


async def sent(service: Platform, llm: LLM, *data: Any, **arguments: Any) -> Any:
    """The body of a run with these arguments; that of a submission is the same."""
    before = copy.deepcopy((data, arguments))
    await llm.run(*data, **arguments)
    await llm.run_async(*data, **arguments)
    first, second = service.seen[-2:]
    assert (first.path, second.path) == ("/api/v2/execute/m-1", "/api/v1/execute/m-1")
    assert first.raw == second.raw
    assert (data, arguments) == before
    return first.body


@pytest.mark.parametrize(("compat", "body"), [("0.2.34", OLDER), ("0.2.48", NEWER)])
async def test_the_body_is_the_recorded_one(service: Platform, compat: str, body: dict[str, Any]) -> None:
    told = await sent(service, an_llm(compat), "hello")
    assert told == body
    assert list(told) == list(body)


@pytest.mark.parametrize("compat", ["0.2.34", "0.2.48"])
async def test_every_field_is_sent_as_given(service: Platform, compat: str) -> None:
    given: dict[str, Any] = {
        "context": "CTX", "prompt": "PR", "history": TURNS, "temperature": 0.3, "max_tokens": 17, "top_p": 0.9,
        "response_format": {"type": "json_object"},
    }  # fmt: skip
    assert await sent(service, an_llm(compat), "hello", **given) == {"data": "hello", **given}


async def test_parameters_win_over_data_over_arguments_over_the_model(service: Platform) -> None:
    llm = an_llm("0.2.48", temperature=0.9)
    assert await sent(service, llm, "hello") == NEWER | {"temperature": 0.9}
    assert await sent(service, llm, "hello", temperature=0.0) == NEWER | {"temperature": 0.0}
    given = {"temperature": 0.8, "max_tokens": 5, "foo": "bar", "data": "lost"}
    assert await sent(service, llm, "hello", temperature=0.3, parameters=given) == (
        NEWER | {"temperature": 0.8, "max_tokens": 5, "foo": "bar"}
    )
    data = {"data": "D", "context": "from-data", "max_tokens": 9}
    assert await sent(service, llm, data, "kw", parameters={"max_tokens": 3}) == (
        NEWER | {"data": "D", "context": "from-data", "max_tokens": 3, "temperature": 0.9}
    )


async def test_a_prompt_that_looks_like_json_stays_a_prompt(service: Platform) -> None:
    assert (await sent(service, an_llm(), '{"a": 1}'))["data"] == '{"a": 1}'


async def test_the_newer_form_with_text_keeps_its_text(service: Platform) -> None:
    told = await sent(service, an_llm("0.2.48"), {"text": TURNS})
    assert (told["text"], "data" in told) == (TURNS, False)


async def test_positions_are_the_seeds(service: Platform) -> None:
    llm = an_llm()
    response = await llm.run("d", "c", "p", TURNS, 0.5, 9, 0.8, "a-name", 30, {"k": 1}, 0.2, False)
    assert response.data == "hi"
    await llm.run_async("d", "c", "p", TURNS, 0.5, 9, 0.8, "a-name", {"k": 1})
    wanted = {"data": "d", "context": "c", "prompt": "p", "history": TURNS, "temperature": 0.5, "max_tokens": 9}
    assert [seen.body for seen in service.seen] == [wanted | {"top_p": 0.8, "k": 1}] * 2


async def test_a_stream_has_all_the_fields(service: Platform) -> None:
    service.answers("m-1", stream('data: {"data":"a"}', "data: [DONE]"))
    llm = an_llm(supports_streaming=True)
    streamer = await llm.run("hello", context="CTX", stream=True, parameters={"options": {"raw": True}})
    assert "".join([response.data async for response in streamer]) == "a"
    assert service.seen[0].body == OLDER | {"context": "CTX", "options": {"raw": True, "stream": True}}
