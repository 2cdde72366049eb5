"""`run(stream=True)` and `run_stream`: responses as they come, how they end, and what is never sent."""

from __future__ import annotations

import pytest
import trio
from aixplain_platform import SUCCESS, Platform, Reply, stream

from engine.clients.aixplain import Model, ModelResponse, ResponseStatus


def a_model(**arguments: object) -> Model:
    return Model("m-1", "N", supports_streaming=True, **arguments)  # type: ignore[arg-type]  # settings


async def read(service: Platform, *replies: Reply) -> list[ModelResponse]:
    """What a streamed run gives, to its end."""
    service.answers("m-1", *replies)
    streamer = a_model().run_stream("hello")
    assert streamer.status is ResponseStatus.IN_PROGRESS
    found = [response async for response in streamer]
    assert streamer.status is found[-1].status
    assert all(response.status is ResponseStatus.IN_PROGRESS for response in found[:-1])
    return found


DONE = "data: [DONE]"
MANNERS: list[tuple[Reply, list[str]]] = [
    (stream('data: {"data":"Hel"}', 'data: {"data":"lo"}', DONE), ["Hel", "lo"]),
    (stream('data: {"data":{"text":"!"}}', 'data: {"data":"[DONE]"}'), ["!"]),
    (stream('data: {"choices":[{"delta":{"content":"zz"}}]}', DONE), ["zz"]),
    (stream('data: {"choices":[{"delta":{"content":"zz"},"finish_reason":"stop"}]}'), ["zz"]),
    (stream('data: {"data":\ndata: "joined"}', DONE), ["joined"]),
    (stream(": ping", "event: message\nid: 1\nretry: 5\ndata: plain words", DONE, kind="text/plain"), ["plain words"]),
    (Reply(SUCCESS), ["hi"]),
]


@pytest.mark.parametrize(("reply", "texts"), MANNERS)
async def test_every_manner_is_read_and_ends_with_success(service: Platform, reply: Reply, texts: list[str]) -> None:
    found = await read(service, reply)
    assert [response.data for response in found] == [*texts, ""]
    assert (found[-1].status, found[-1].completed) == (ResponseStatus.SUCCESS, True)
    assert service.seen[0].body == {"data": "hello", "options": {"stream": True}}
    assert service.seen[0].path == "/api/v2/execute/m-1"


async def test_the_last_response_tells_what_it_cost(service: Platform) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    end = '{"status":"SUCCESS","usedCredits":0.5,"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
    last = (await read(service, stream('data: {"data":"a"}', f"data: {end}", DONE)))[-1]
    assert (last.used_credits, last.usage) == (0.5, usage)


FAILURES: list[tuple[Reply, list[str], str, int | None]] = [
    (stream('data: {"data":"Hel"}', 'data: {"error":{"message":"boom"}}'), ["Hel"], "boom", None),
    (stream('data: {"error":"boom"}'), [], "boom", None),
    (stream('data: {"status":"FAILED","errorMessage":"bad"}'), [], "bad", None),
    (stream('data: {"data":"Hel"}'), ["Hel"], "Model Run: An error", None),
    (stream('data: {"data":"Hel"}', cut=True), ["Hel"], "Model Run: An error", None),
    (Reply({"error": "no"}, 404), [], "Resource not found: ", 404),
    (Reply({"error": "no"}, 475), [], "Billing-related error: ", 475),
    (Reply({"status": "FAILED", "error_message": "broke"}), [], "broke", None),
    (Reply(b"<html>", kind="text/html"), [], "Model Run: An error", None),
]


@pytest.mark.parametrize(("reply", "texts", "says", "status"), FAILURES)
async def test_what_goes_wrong_is_the_last_response(
    service: Platform, reply: Reply, texts: list[str], says: str, status: int | None
) -> None:
    found = await read(service, reply)
    assert [response.data for response in found[:-1]] == texts
    last = found[-1]
    assert (last.status, last.data, last.status_code) == (ResponseStatus.FAILED, "", status)
    assert last.error_message.startswith(says)
    assert len(service.seen) == 1


async def test_a_refusal_that_may_pass_is_tried_again(service: Platform) -> None:
    slow = Reply({"error": "slow"}, 429, (("Retry-After", "0"),))
    assert [response.data for response in await read(service, slow, stream('data: {"data":"a"}', DONE))] == ["a", ""]


async def test_a_model_that_does_not_stream_says_so_and_nothing_is_sent(service: Platform) -> None:
    model = Model("m-1", "N")
    says = r"^Model 'N \(m-1\)' does not support streaming$"
    with pytest.raises(AssertionError, match=says):
        model.run_stream("hello")
    with pytest.raises(AssertionError, match=says):
        await model.run("hello", stream=True)
    with pytest.raises(AssertionError, match=r"^Model ' \(m-1\)' does not support streaming$"):
        Model("m-1").run_stream("hello")  # the text of the SDK, for a model without a name
    assert service.seen == []


async def test_run_with_stream_is_run_stream(service: Platform) -> None:
    service.answers("m-1", stream('data: {"data":"a"}', DONE))
    first = [response.data async for response in await a_model().run("hello", stream=True, parameters={"k": 1})]
    second = [response.data async for response in await a_model().run_stream("hello", {"k": 1})]
    assert first == second == ["a", ""]
    assert service.seen[0].raw == service.seen[1].raw


async def test_reasoning_and_tool_calls_stand_beside_the_text(service: Platform) -> None:
    thought = 'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}'
    tool = 'data: {"choices":[{"delta":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}'
    found = await read(service, stream(thought, tool, DONE))
    assert found[0]["reasoning"] == "hm"
    assert found[1]["tool_call"]["name"] == "f"
    assert [response.data for response in found] == ["", "", ""]


async def test_a_function_of_the_settings_sees_every_chunk(service: Platform) -> None:
    service.answers("m-1", stream('data: {"data":"a"}', DONE))
    seen: list[str] = []
    streamer = a_model(settings={"streaming_process_func": lambda chunk: seen.append(chunk.type)}).run_stream("hello")
    assert [response.data async for response in streamer] == ["a", ""]
    assert seen == ["text", "result"]


async def test_leaving_it_ends_the_run(service: Platform) -> None:
    service.answers("m-1", stream(*['data: {"data":"a"}'] * 50, DONE))
    with trio.fail_after(20):
        async with a_model(settings={"concurrency_limit": 1}).run_stream("hello") as streamer:
            assert (await anext(streamer)).data == "a"
        assert [response async for response in streamer] == []
    assert streamer.call.status in ("cancelled", "completed")
