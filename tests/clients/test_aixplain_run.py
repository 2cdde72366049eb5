"""`Model.run` and `run_async` over real sockets: what is sent, and what comes back, whatever the service does."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import trio
from aixplain_platform import KEY, SUCCESS, Platform, Reply

from engine import InvalidCall, open_engine
from engine.clients.aixplain import LLM, Function, Model, ModelResponse, ResponseStatus
from engine.errors import MissingKey
from engine.providers.aixplain_answers import FAILED


async def test_a_text_goes_to_v2_with_the_key(service: Platform) -> None:
    response = await Model("m-1").run("hello")
    assert (response.status, response.data) == (ResponseStatus.SUCCESS, "hi")
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/api/v2/execute/m-1", {"data": "hello"})
    assert (seen.headers["x-api-key"], seen.headers["content-type"]) == (KEY, "application/json")
    assert "authorization" not in seen.headers


BODIES: list[tuple[Any, dict[str, Any] | None, dict[str, Any]]] = [
    ("hello", None, {"data": "hello"}),
    ("hello", {"temperature": 0.5, "data": "override"}, {"data": "hello", "temperature": 0.5}),
    ({"text": "hello", "k": 1}, {"k": 2, "p": True}, {"text": "hello", "k": 2, "p": True}),
    ({"data": "q"}, {"data": "z"}, {"data": "z"}),
    ({}, {"z": 1}, {"z": 1}),
    (None, None, {"data": None}),
    (["a", "b"], None, {"data": ["a", "b"]}),
    ('{"a": 1}', None, {"data": '{"a": 1}'}),
    ('["a"]', None, {"data": '["a"]'}),
    ("3.50", None, {"data": "3.50"}),
    ("1e3", None, {"data": "1e3"}),
    ("true", None, {"data": "true"}),
    ("null", None, {"data": "null"}),
    ('"quoted"', None, {"data": '"quoted"'}),
    ("/etc/hostname", None, {"data": "/etc/hostname"}),
    ({"function": Function.SEARCH}, None, {"function": "search"}),
    ("x", {"priority": 3, "timeout_s": 1, "model": "other", "stream": True}, {
        "data": "x", "priority": 3, "timeout_s": 1, "model": "other", "stream": True
    }),
]  # fmt: skip


@pytest.mark.parametrize(("data", "parameters", "body"), BODIES)
async def test_data_and_parameters_make_the_body_and_stay_as_they_are(
    service: Platform, data: Any, parameters: dict[str, Any] | None, body: dict[str, Any]
) -> None:
    before = copy.deepcopy((data, parameters))
    model = Model("m-1")
    await model.run(data, parameters=parameters)
    await model.run_async(data, parameters=parameters)
    assert [seen.body for seen in service.seen] == [body, body]
    assert (data, parameters) == before


async def test_what_cannot_be_written_is_refused_and_nothing_is_sent(service: Platform) -> None:
    model = Model("m-1")
    for call in (model.run({"x": object()}), model.run("x", parameters=[1]), model.run("x", timeout="soon")):  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidCall):
            await call
    assert service.seen == []


async def test_every_field_of_an_answer_is_read(service: Platform) -> None:
    details = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    body = {
        **SUCCESS,
        "details": details,
        "usedCredits": 0.00012,
        "runTime": 0.9,
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        "asset": {"assetId": "a", "id": "a"},
        "error_code": None,
        "sessionId": "s1",
        "self": "odd",
    }
    service.answers("m-1", Reply(body))
    response = await Model("m-1").run("hello")
    assert (response.data, response.completed, response.error_message, response.url) == ("hi", True, "", None)
    assert (response.details, response.used_credits, response.run_time) == (details, 0.00012, 0.9)
    assert response.usage == body["usage"]
    assert response.asset == {"assetId": "a", "id": "a"}
    assert response.additional_fields == {"sessionId": "s1", "self": "odd"}
    assert (response["usedCredits"], response["runTime"], response["sessionId"]) == (0.00012, 0.9, "s1")
    assert (response["data"], response.get("nope", 7), "data" in response, "nope" in response) == ("hi", 7, True, False)


async def test_an_answer_in_openais_shape_has_its_text_in_data(service: Platform) -> None:
    service.answers("m-1", Reply({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}))
    assert (await Model("m-1").run("hello")).data == "hi"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply({"status": "IN_PROGRESS"}), FAILED),
        (Reply({"status": "IN_PROGRESS", "completed": False}), FAILED),
        (Reply(b"<html>"), FAILED),
        (Reply([1]), FAILED),
        (Reply(b"", 204), FAILED),
        (Reply({"status": "FAILED", "error_message": "boom"}), "boom"),
        (Reply({"status": "FAILED", "error_message": "boom", "supplierError": "quota"}), "boom - quota"),
        (Reply({"status": "FAILED", "supplierError": "quota"}), " - quota"),
        (Reply({"status": "FAILED", "error": "inner"}), "inner"),
        (Reply({"status": "UNHEARD_OF", "data": "x"}), FAILED),
        (Reply(SUCCESS, cut=True), FAILED),
    ],
)
async def test_what_is_no_answer_is_a_failed_response(service: Platform, reply: Reply, says: str) -> None:
    service.answers("m-1", reply)
    model = Model("m-1")
    for response in (await model.run("hello"), await model.run_async("hello")):
        assert isinstance(response, ModelResponse)
        assert (response.status, response.completed, response.data[:1]) == (
            ResponseStatus.FAILED,
            True,
            response.data[:1],
        )
        assert response.error_message.startswith(says)
    assert len(service.seen) == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 465, 475, 485, 495])
async def test_a_refusal_is_a_failed_response_that_says_its_status(service: Platform, status: int) -> None:
    service.answers("m-1", Reply({"error": "because", "error_code": "AX-1"}, status))
    model = Model("m-1")
    for response in (await model.run("hello"), await model.run_async("hello")):
        assert (response.status, response.completed, response.status_code) == (ResponseStatus.FAILED, True, status)
        assert response.error_message.endswith(" Details: because")
        assert response.error_code == "AX-1"
    assert len(service.seen) == 2


async def test_429_and_5xx_are_tried_again_through_the_engine(service: Platform) -> None:
    again = (("Retry-After", "0"),)
    service.answers("m-1", Reply({"error": "slow"}, 429, again), Reply({"error": "down"}, 503, again), Reply())
    assert (await Model("m-1").run("hello")).status == "SUCCESS"
    assert len(service.seen) == 3


async def test_a_wait_that_is_too_long_is_told(service: Platform) -> None:
    service.answers("m-1", Reply({"error": "slow"}, 429, (("Retry-After", "7200"),)))
    response = await Model("m-1").run("hello")
    assert (response.status, response.status_code, response.retry_after_s) == ("FAILED", 429, 7200.0)
    assert response.error_message == "Rate limit exceeded: Please try again later. Details: slow"
    assert response.to_dict()["retry_after_s"] == 7200.0


async def test_nobody_there_is_a_failed_response(service: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_RUN_URL", "http://127.0.0.1:1/api/v1/execute")
    response = await Model("m-1", settings={"limit_requests": 9}).run("hello", timeout=1.5)
    assert (response.status, response.data) == (ResponseStatus.FAILED, "")
    assert response.error_message.startswith((FAILED, "No response from the service."))


async def test_a_run_that_comes_later_is_polled_to_its_end(service: Platform) -> None:
    early = Reply({"completed": False, "status": "IN_PROGRESS"})
    done = Reply({"completed": True, "status": "SUCCESS", "data": "done", "usedCredits": 0.05, "extra": 1})
    service.promises("m-1", early, early, done)
    response = await Model("m-1").run("hello", wait_time=0.2)
    assert (response.status, response.data, response.completed) == (ResponseStatus.SUCCESS, "done", True)
    assert (response.used_credits, response.additional_fields) == (0.05, {"extra": 1})
    assert service.paths == ["POST /api/v2/execute/m-1", *["GET /api/v1/data/of-m-1"] * 3]
    assert {seen.headers["x-api-key"] for seen in service.seen} == {KEY}


async def test_without_a_status_an_address_is_a_promise(service: Platform) -> None:
    service.promises("m-1", Reply())
    service.answers("m-1", Reply({"data": f"{service.url}/api/v1/data/of-m-1"}, 201))
    assert (await Model("m-1").run("hello")).data == "hi"


@pytest.mark.parametrize(
    ("poll", "says", "status"),
    [
        (Reply({"message": "gone"}, 404), "Resource not found: ", 404),
        (Reply({"error": "who?"}, 401), "Unauthorized API key: ", 401),
        (Reply({"what": "ever"}), FAILED, None),
        (Reply(b"<html>"), FAILED, None),
        (Reply({"completed": True, "supplierError": "quota"}), " - quota", None),
    ],
)
async def test_a_poll_that_cannot_go_on_ends_the_run_with_its_reason(
    service: Platform, poll: Reply, says: str, status: int | None
) -> None:
    service.promises("m-1", poll)
    response = await Model("m-1").run("hello")
    assert (response.status, response.completed, response.status_code) == (ResponseStatus.FAILED, True, status)
    assert response.error_message.startswith(says)
    assert len(service.seen) == 2


async def test_an_address_elsewhere_is_not_asked(service: Platform) -> None:
    foreign = service.url.replace("127.0.0.1", "localhost")
    service.promises("m-1", Reply(), data=f"{foreign}/api/v1/data/of-m-1")
    response = await Model("m-1").run("hello")
    assert response.status == ResponseStatus.FAILED
    assert "another address" in response.error_message
    assert len(service.seen) == 1


async def test_the_backends_address_is_asked_too(service: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    other = service.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("BACKEND_URL", other)
    service.promises("m-1", Reply({"completed": False}), Reply(), data=f"{other}/api/v1/data/of-m-1")
    assert (await Model("m-1").run("hello", wait_time=0)).data == "hi"
    assert len(service.seen) == 3


async def test_run_async_goes_to_v1_and_says_where_to_poll(service: Platform) -> None:
    service.promises("m-1", Reply())
    response = await Model("m-1").run_async("hello")
    assert service.paths == ["POST /api/v1/execute/m-1"]
    assert (response.status, response.completed, response.data) == (ResponseStatus.IN_PROGRESS, False, "")
    assert (response.url, response.details) == (f"{service.url}/api/v1/data/of-m-1", {})
    assert response["requestId"] == "r1"
    assert (await Model("m-1").sync_poll(response.url)).data == "hi"


async def test_run_async_gives_an_answer_that_is_there(service: Platform) -> None:
    response = await Model("m-1").run_async("hello")
    assert (response.status, response.data, response.completed, response.url) == ("SUCCESS", "hi", True, None)


async def test_the_name_is_in_the_log_alone_and_neither_key_nor_text_is(
    service: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        service.promises("m-1", Reply())
        model = Model("m-1")
        url = (await model.run_async("a secret of mine", name="my-run")).url
        await model.poll(url, name="my-run")
        await model.sync_poll(url, name="my-run")
        await model.run("a secret of mine", name="my-run")
    assert caplog.text.count("my-run") == 4
    assert "a secret of mine" not in caplog.text
    assert KEY not in caplog.text
    assert all(b"my-run" not in seen.raw and "my-run" not in seen.path for seen in service.seen)


async def test_cancellation_passes_through(service: Platform) -> None:
    service.promises("m-1", Reply({"completed": False}))
    with trio.move_on_after(0.3) as scope:
        await Model("m-1").run("hello")
    assert scope.cancelled_caught


async def test_a_run_without_a_key_or_an_engine_says_so(service: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_API_KEY")
    monkeypatch.delenv("MODELS_RUN_URL")
    with pytest.raises(MissingKey, match="set TEAM_API_KEY or AIXPLAIN_API_KEY"):
        await Model("m-1").run("hello")


async def test_settings_limit_the_runs_and_name_an_engine(service: Platform) -> None:
    async with open_engine() as other:
        model = Model("m-1", settings={"engine": other, "limit_requests": 1, "interval": 60})
        await model.run("hello")
        assert len(other.statistics().endpoints) == 1
        response = await model.run("hello", timeout=0.1)
        assert (response.status, response.completed) == ("FAILED", False)
        assert response.error_message == "No response from the service."
    assert len(service.seen) == 1


async def test_a_submission_shares_the_limits_of_the_runs(service: Platform) -> None:
    model = LLM("m-1", "n", function=Function.TEXT_GENERATION, settings={"limit_requests": 1})
    await model.run_async("hello")
    assert (await model.run("hello", timeout=0.1)).error_message == "No response from the service."
    assert len(service.seen) == 1


async def test_an_answer_that_is_an_address_is_an_answer(service: Platform) -> None:
    """Of a run it would be where the answer will be; to a poll that says ``completed`` it is the answer."""
    link = "https://files.example/out.mp3"
    service.promises("m-1", Reply({"completed": False}), Reply({"completed": True, "data": link}))
    response = await Model("m-1").run("hello", wait_time=0.2)
    assert (response.status, response.completed, response.data) == (ResponseStatus.SUCCESS, True, link)
    assert [seen.method for seen in service.seen] == ["POST", "GET", "GET"]
