"""aiXplain's names for synchronous code: the same answers as in trio, from any thread, over one shared portal."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest
from aixplain_platform import KEY, SUCCESS, Platform, Reply, stream

from engine import MissingKey, ProviderError
from engine.clients import aixplain as in_trio
from engine.portal import aixplain, open_portal
from engine.portal.aixplain import LLM, Function, Model, ModelFactory, ModelResponse, ResponseStatus

EARLY = Reply({"completed": False, "status": "IN_PROGRESS"})
LOGS = {"finetuneStatus": "completed", "modelStatus": "onboarded", "logs": [{"epoch": 1, "trainLoss": 0.5}]}


def test_a_run_blocks_until_its_answer_is_there(platform: Platform) -> None:
    platform.promises("m-1", EARLY, Reply())
    response = Model("m-1").run("hello", wait_time=0.2, parameters={"k": 1})
    assert isinstance(response, ModelResponse)
    assert (response.status, response.data) == (ResponseStatus.SUCCESS, "hi")
    assert platform.seen[0].body == {"data": "hello", "k": 1}


def test_submitting_and_polling(platform: Platform) -> None:
    platform.promises("m-1", EARLY, EARLY, Reply())
    model = Model("m-1")
    url = model.run_async("hello").url
    assert url is not None
    assert model.poll(url).status == "IN_PROGRESS"
    assert model.sync_poll(url, wait_time=0.2).data == "hi"
    assert model.sync_poll("https://elsewhere.example/x").status == "FAILED"


def test_a_stream_is_a_plain_iterable(platform: Platform) -> None:
    platform.answers("m-1", stream('data: {"data":"Hel"}', 'data: {"data":"lo"}', "data: [DONE]"))
    model = Model("m-1", "N", supports_streaming=True)
    streamer = model.run("hello", stream=True)
    assert streamer.status is ResponseStatus.IN_PROGRESS
    assert [(response.status, response.data) for response in streamer] == [
        ("IN_PROGRESS", "Hel"), ("IN_PROGRESS", "lo"), ("SUCCESS", ""),
    ]  # fmt: skip
    assert streamer.status is ResponseStatus.SUCCESS
    with model.run_stream("hello") as streamer:
        assert next(streamer).data == "Hel"
    platform.answers("m-1", Reply({"error": "no"}, 404))
    assert [response.status for response in model.run_stream("hello")] == ["FAILED"]
    with pytest.raises(AssertionError, match="does not support streaming"):
        Model("m-1", "N").run_stream("hello")


def test_a_language_model(platform: Platform) -> None:
    llm = LLM("m-1", "N", function=Function.TEXT_GENERATION, compat="0.2.48", supports_streaming=True)
    assert llm.run("hello", "CTX", max_tokens=5).data == "hi"
    platform.promises("m-1", Reply())
    assert llm.run_async("hello", temperature=0.5).status == "IN_PROGRESS"
    first, second = (seen.body for seen in platform.seen)
    assert (first["context"], first["max_tokens"], second["temperature"]) == ("CTX", 5, 0.5)
    platform.answers("m-1", stream('data: {"data":"a"}', "data: [DONE]"))
    assert "".join(response.data for response in llm.run("hello", stream=True)) == "a"
    assert isinstance(llm, Model)


def test_the_records_of_the_platform(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.answers("ml-logs", Reply(LOGS))
    platform.answers("m-1", Reply({"id": "m-1", "name": "N", "function": {"id": "text-generation"}}))
    platform.answers("usage-limits", Reply([{"requestCountLimit": 3}]))
    llm = ModelFactory.get("m-1")
    assert (type(llm), llm.name) == (LLM, "N")
    assert llm.check_finetune_status().training_loss == 0.5
    llm.delete()
    assert ModelFactory.usage_limits()[0].requests_limit == 3
    platform.answers("m-1", Reply({"message": "no"}, 403))
    with pytest.raises(ProviderError):
        llm.delete()
    monkeypatch.delenv("TEAM_API_KEY")
    with pytest.raises(MissingKey):
        ModelFactory.get("m-1")


def test_many_threads_share_one_portal(platform: Platform) -> None:
    model = Model("m-1", settings={"concurrency_limit": 4})
    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(lambda number: model.run(f"{number}"), range(40)))
    assert {response.data for response in responses} == {SUCCESS["data"]}
    assert len(platform.seen) == 40


def test_a_portal_of_ones_own(platform: Platform) -> None:
    platform.answers("m-1", Reply({"id": "m-1"}), Reply())
    with open_portal() as engine:
        settings = {"engine": engine, "limit_requests": 1}
        model = ModelFactory.get("m-1", settings={"engine": engine})
        assert model.run("hello").data == "hi"
        limited = Model("m-1", settings=settings)
        assert limited.run("hello").data == "hi"
        assert limited.run("hello", timeout=0.1).error_message == "No response from the service."
        assert len(engine.statistics().endpoints) >= 2
    assert KEY not in repr(model)


def test_the_names_and_arguments_are_those_in_trio() -> None:
    assert set(aixplain.__all__) == set(in_trio.__all__)
    for kind in ("Model", "LLM", "ModelFactory"):
        ours, theirs = getattr(aixplain, kind), getattr(in_trio, kind)
        names = {name for name, value in inspect.getmembers(theirs, callable) if not name.startswith("_")}
        for name in names - {"models"}:
            mine = inspect.signature(getattr(ours, name)).parameters
            assert list(mine.items()) == list(inspect.signature(getattr(theirs, name)).parameters.items()), name
