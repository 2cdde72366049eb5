"""aiXplain's page about LLM: every block is compiled and compared with our classes, every method is run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from aixplain_pages import Promised, ours, promises_of

from engine import open_engine
from engine.clients import aixplain as in_trio
from engine.clients.aixplain import LLM, Function, Model, ModelFactory, ResponseStatus
from engine.portal import aixplain as blocking
from engine.simulator import Simulator, SimulatorConfig, serve
from engine.testing import ProviderReply, ScriptedProvider, in_virtual_time, scripted_engine

PAGE = "aixplain-llm.md"
PROMISED = promises_of(PAGE)
KEY = "key-of-the-test"
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


@pytest.fixture
async def platform(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    simulator: Simulator = await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=6))
    monkeypatch.setenv("BACKEND_URL", simulator.address("aixplain"))
    monkeypatch.setenv("MODELS_RUN_URL", f"{simulator.address('aixplain')}/api/v1/execute")
    monkeypatch.setenv("TEAM_API_KEY", KEY)
    monkeypatch.delenv("AIXPLAIN_API_KEY", raising=False)
    async with open_engine():
        yield simulator


def an_llm(name: str = "llm-m", **arguments: object) -> LLM:
    return LLM(name, "An LLM", function=Function.TEXT_GENERATION, **arguments)  # type: ignore[arg-type]  # whatever


def test_the_page_is_read_whole() -> None:
    assert [promised.name for promised in PROMISED] == ["LLM", "__init__", "run", "run_async"]
    assert PROMISED[0].bases == ("Model",)


@pytest.mark.parametrize(("kind", "base"), [(LLM, Model), (blocking.LLM, blocking.Model)], ids=["trio", "blocking"])
@pytest.mark.parametrize("promised", PROMISED[1:], ids=lambda promised: promised.name)
def test_every_signature_is_the_pages(promised: Promised, kind: type[LLM], base: type[Model]) -> None:
    assert issubclass(kind, base)
    assert ours(kind, promised.name) == (promised.arguments, promised.rest)


def test_every_attribute_of_the_page_is_there() -> None:
    for name in ("id", "name", "description", "api_key", "url", "supplier", "version", "function", "backend_url",
                 "cost", "function_type", "additional_info"):  # fmt: skip
        assert hasattr(an_llm(), name), name
    assert an_llm(more=1).additional_info == {"more": 1}


@pytest.mark.parametrize("kind", [in_trio.LLM, blocking.LLM])
def test_another_function_is_refused(kind: type[LLM]) -> None:
    for function in (None, Function.TRANSLATION):
        with pytest.raises(AssertionError, match="LLM only supports large language models"):
            kind("m-1", "N", function=function)


async def test_run_generates_text(platform: Simulator) -> None:
    for name in ("llm-m", "llm-async-1-m"):
        response = await an_llm(name).run(
            "And now?", "You are brief.", "Answer: ", TURNS, 0.3, 64, 0.9, "a-name", 30, {"stop": ["\n"]}, 0.2
        )
        assert (response.status, response.completed, len(response.data.split())) == ("SUCCESS", True, 64)
        assert response.details[0]["message"]["content"] == response.data
        assert response.usage["completion_tokens"] == 64
    assert len((await an_llm().run("hello")).data.split()) == 128


async def test_run_with_stream(platform: Simulator) -> None:
    streamer = await an_llm(supports_streaming=True).run("hello", stream=True)
    responses = [response async for response in streamer]
    assert len("".join(response.data for response in responses).split()) == 128
    assert streamer.status is ResponseStatus.SUCCESS


async def test_run_async_and_the_polls_of_its_url(platform: Simulator) -> None:
    llm = an_llm("llm-async-1-m")
    begun = await llm.run_async("And now?", "You are brief.", "Answer: ", TURNS, 0.3, 64, 0.9, "a-name", {"k": 1})
    assert (begun.status, begun.completed, begun.data, begun.details) == (ResponseStatus.IN_PROGRESS, False, "", {})
    assert begun.error_message == ""
    assert (await llm.sync_poll(begun.url, wait_time=0.2)).status is ResponseStatus.SUCCESS


async def test_a_language_model_from_its_record(platform: Simulator) -> None:
    llm = await ModelFactory.get("llm-m")
    assert isinstance(llm, LLM)
    assert (llm.temperature, llm.supports_streaming) == (0.7, True)
    assert (await llm.run("hello")).status is ResponseStatus.SUCCESS


@in_virtual_time
async def test_limits_hold_for_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may produce 150 of the 200 of a minute and uses 10: the second goes at once, and the third, which does
    not fit beside what both have used, when the minute is over."""
    monkeypatch.setenv("TEAM_API_KEY", KEY)
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    answer = {"status": "SUCCESS", "completed": True, "data": "hi", "usage": usage}
    provider = ScriptedProvider(ProviderReply(body=msgspec.json.encode(answer), delay_s=0.0))
    llm = an_llm(settings={"limit_tokens": 200, "interval": 60})
    async with scripted_engine(provider):
        for cap in (150, 150, 190):
            assert (await llm.run("hello", max_tokens=cap)).status is ResponseStatus.SUCCESS
    first, second, third = provider.times
    assert second - first < 1
    assert 59 < third - first < 62
