"""An event: its statuses in order, its times, its log, what it shows; and coroutines of the user's own."""

from __future__ import annotations

import asyncio
import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from lion_server import CONFIG, scripted

from engine.clients.lionfuncs import Executor, NetworkRequestEvent, RequestStatus, iModel
from engine.testing import ScriptedProvider, assert_quiet, chat_reply, error_reply, fault, in_virtual_time

IN_ORDER = ("created_at", "queued_at", "processing_started_at", "call_started_at", "completed_at", "updated_at")


def times(event: NetworkRequestEvent) -> list[float | None]:
    """When it was where, in seconds since it was made."""
    found = [getattr(event, name) for name in IN_ORDER]
    return [None if at is None else round((at - event.created_at).total_seconds(), 3) for at in found]


def test_the_names_of_statuses() -> None:
    names = ["PENDING", "QUEUED", "PROCESSING", "CALLING", "COMPLETED", "FAILED", "CANCELLED"]
    assert [(status.name, status.value, str(status)) for status in RequestStatus] == [(name,) * 3 for name in names]


@in_virtual_time
async def test_a_request_goes_through_every_status() -> None:
    provider = ScriptedProvider(["yes", chat_reply(write_s=3)], delay_s=2)
    async with scripted(provider, requests_rate=0.2) as executor:
        model = iModel(executor, CONFIG)
        await model.acompletion("first")
        event = await model.acompletion("second")
        seen = []
        for _ in range(12):
            seen.append(event.status)
            await trio.sleep(1)
    assert list(dict.fromkeys(seen)) == ["QUEUED", "PROCESSING", "CALLING", "COMPLETED"]
    assert times(event) == [0, 0, 5.05, 8.05, 10.05, 10.05]
    assert event.created_at.tzinfo is None
    assert abs(event.created_at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(hours=1)


@in_virtual_time
async def test_it_is_given_back_before_the_call_is_over() -> None:
    async with scripted(ScriptedProvider(delay_s=10)) as executor:
        event = await iModel(executor, CONFIG).acompletion("hello")
        assert (trio.current_time(), event.over) == (0, False)
        assert event.status is RequestStatus.QUEUED
        assert (event.response_body, event.response_headers, event.response_status_code) == (None, None, None)
        assert (event.error_type, event.error_message, event.error_details) == (None, None, None)
        assert times(event)[2:5] == [None, None, None]
        assert await event.wait() is event
        assert trio.current_time() == 10
        assert await event.wait() is event


@in_virtual_time
async def test_the_log_has_a_line_for_each_change_and_each_wait() -> None:
    async with scripted(ScriptedProvider(delay_s=2), requests_rate=0.5) as executor:
        model = iModel(executor, CONFIG)
        first = await model.acompletion("first")
        event = await model.acompletion("second", num_tokens_to_consume=7)
        await trio.sleep(1)
        event.add_log("a line of my own")
        assert event.updated_at - event.created_at == timedelta(seconds=1)
    assert not any("Waited" in line for line in first.logs)
    stamps, lines = zip(*(line.split(" - ", 1) for line in event.logs), strict=True)
    assert lines == (
        "Status changed from PENDING to QUEUED",
        "a line of my own",
        "Status changed from QUEUED to PROCESSING",
        "Waited 2.02s in the executor's queue (7 API tokens).",
        "Status changed from PROCESSING to CALLING",
        "Status changed from CALLING to COMPLETED",
        "Call completed with status code: 200",
    )
    assert sorted(stamps) == list(stamps)
    assert [datetime.fromisoformat(stamp) for stamp in stamps][2] == event.processing_started_at


@in_virtual_time
async def test_a_request_that_is_tried_again_is_queued_again_and_keeps_its_first_times() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=5), "yes"], delay_s=1)
    async with scripted(provider) as executor:
        event = await iModel(executor, CONFIG).acompletion("hello")
        await trio.sleep(2)
        assert event.status is RequestStatus.QUEUED
        await event.wait()
    assert (event.status, event.response_status_code, event.call.attempts) == ("COMPLETED", 200, 2)
    assert times(event)[:4] == [0, 0, 0, 0]
    assert provider.times == [0.0, 6.0]
    changes = [found[1] for line in event.logs if (found := re.search(r"to (\w+)$", line))]
    assert changes == ["QUEUED", "PROCESSING", "CALLING", "QUEUED", "PROCESSING", "CALLING", "COMPLETED"]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3), (None, 4)])
def test_retries_are_the_configs(retries: int | None, attempts: int) -> None:
    @in_virtual_time
    async def run() -> None:
        provider = ScriptedProvider(error_reply(503))
        async with scripted(provider) as executor:
            event = await iModel(executor, {**CONFIG, "max_retries": retries}).acompletion("hello")
        assert (event.status, event.error_type) == (RequestStatus.FAILED, "ProviderUnavailable")
        assert len(provider.requests) == event.call.attempts == attempts

    run()


@in_virtual_time
async def test_the_timeout_is_the_configs() -> None:
    async with scripted(ScriptedProvider(fault("stall"))) as executor:
        usual = await iModel(executor, CONFIG).acompletion("hello")
        short = await iModel(executor, {**CONFIG, "timeout": 7}).acompletion("hello")
    assert [(event.status, event.error_type) for event in (usual, short)] == [("FAILED", "OutcomeUnknown")] * 2
    assert (times(usual)[4], times(short)[4]) == (300, 7)


@in_virtual_time
async def test_what_an_event_is_made_of() -> None:
    async with scripted(ScriptedProvider()) as executor:
        event = await iModel(executor, CONFIG).acompletion("hello", num_tokens_to_consume=12, n=2)
        other = await iModel(executor, CONFIG).acompletion("hello")
    assert event.request_id != other.request_id
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event.request_id)
    assert (event.endpoint_url, event.method) == ("https://service.example/v1/completions", "POST")
    assert event.payload == {"model": "m-1", "max_tokens": 150, "temperature": 0.7, "prompt": "hello", "n": 2}
    assert event.num_api_tokens_needed == 12
    event.metadata["mine"] = 1
    assert (event.metadata, other.metadata) == ({"model_name": "m-1", "mine": 1}, {"model_name": "m-1"})
    shown = repr(event)
    assert shown == f"<NetworkRequestEvent {event.request_id} COMPLETED POST https://service.example/v1/completions>"


@in_virtual_time
async def test_the_pages_way_to_wait_ends() -> None:
    async with scripted(ScriptedProvider(["yes", error_reply(400)])) as executor:
        model = iModel(executor, CONFIG)
        events = [await model.acompletion(f"{number}") for number in range(2)]
        ends = [RequestStatus.COMPLETED, RequestStatus.FAILED]
        while any(event.status not in ends for event in events):  # noqa: ASYNC110  # as the page has it
            await trio.sleep(0.1)
    assert sorted(event.status for event in events) == ["COMPLETED", "FAILED"]


# --- coroutines ---


async def returns(value: Any, after_s: float = 1.0) -> Any:
    await trio.sleep(after_s)
    return value


async def raises(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


THING = object()


@pytest.mark.parametrize(
    ("returned", "status", "code", "body"),
    [
        (THING, "COMPLETED", 200, THING),
        ({"a": 1}, "COMPLETED", 200, {"a": 1}),
        (None, "COMPLETED", 200, None),
        ((1, 2), "COMPLETED", 200, (1, 2)),
        ([200, {}, "b"], "COMPLETED", 200, [200, {}, "b"]),
        ((201, {"x": "y"}, THING), "COMPLETED", 201, THING),
        ((429, {}, "no"), "FAILED", 429, "no"),
        ((500, {}, "no"), "FAILED", 500, "no"),
    ],
)
def test_what_a_coroutine_returns_is_on_its_event(returned: Any, status: str, code: int, body: Any) -> None:
    @in_virtual_time
    async def run() -> None:
        async with scripted(ScriptedProvider()) as executor:
            event = await executor.submit_task(functools.partial(returns, returned), "https://a.example", "GET")
            await event.wait()
        assert (event.status, event.response_status_code) == (status, code)
        assert event.response_body is body or event.response_body == body
        assert event.response_headers == (returned[1] if type(returned) is tuple and len(returned) == 3 else JSON)
        assert (event.error_type is None) is (status == "COMPLETED")
        assert times(event) == [0, 0, 0, 0, 1, 1]

    run()


JSON = {"Content-Type": "application/json"}


@in_virtual_time
async def test_what_a_coroutine_raises_is_on_its_event() -> None:
    async with scripted(ScriptedProvider()) as executor:
        failing = functools.partial(raises, ValueError("that is why; Bearer sk-1234567890abcd"))
        event = await (await executor.submit_task(failing)).wait()
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "ValueError")
    assert (event.error_message or "").startswith("that is why")
    assert "Traceback" in (event.error_details or "")
    assert "raises" in (event.error_details or "")
    assert "1234567890" not in repr((event.error_message, event.error_details, event.logs))
    assert event.call.attempts == 1


@in_virtual_time
async def test_a_coroutine_that_raises_no_exception_ends_nobody_else() -> None:
    """Code that came from asyncio raises `CancelledError`, which is a BaseException."""
    async with scripted(ScriptedProvider(delay_s=5)) as executor:
        other = await iModel(executor, CONFIG).acompletion("hello")
        failing = [asyncio.CancelledError("why"), BaseExceptionGroup("both", [asyncio.CancelledError(), ValueError()])]
        events = [await executor.submit_task(functools.partial(raises, error)) for error in failing]
        for event in events:
            await event.wait()
        assert not other.over
    assert [event.status for event in (*events, other)] == ["FAILED", "FAILED", "COMPLETED"]
    assert [event.error_type for event in events] == ["CancelledError", "BaseExceptionGroup"]
    assert events[0].error_message == "why"


@pytest.mark.parametrize("error", [SystemExit(3), BaseExceptionGroup("all", [ValueError(), SystemExit(3)])])
def test_what_ends_a_program_ends_it(error: BaseException) -> None:
    @in_virtual_time
    async def run() -> None:
        async with scripted(ScriptedProvider()) as executor:
            await executor.submit_task(functools.partial(raises, error))
            await trio.sleep_forever()

    with pytest.raises((SystemExit, BaseExceptionGroup)):
        run()


@in_virtual_time
async def test_a_coroutine_that_is_cancelled_and_fails_of_it_is_cancelled() -> None:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    async with scripted(ScriptedProvider()) as executor:
        other = await executor.submit_task(functools.partial(returns, 1, after_s=50))
        for _ in range(6):  # more often than an endpoint may fail
            event = await executor.submit_task(work)
            await trio.sleep(1)
            event.cancel()
            await event.wait()
            assert event.status is RequestStatus.CANCELLED
    assert other.status is RequestStatus.COMPLETED


@in_virtual_time
async def test_coroutines_and_requests_share_the_limits() -> None:
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running + provider.in_flight)
        await trio.sleep(1)
        running -= 1

    provider = ScriptedProvider(delay_s=1)
    limits = {"concurrency_limit": 3, "api_tokens_rate": 10.0, "api_tokens_period": 100.0}
    async with scripted(provider, **limits) as executor:
        model = iModel(executor, CONFIG)
        large = await executor.submit_task(work, num_api_tokens_needed=11)
        events = [await executor.submit_task(work, num_api_tokens_needed=1) for _ in range(4)]
        events += [await model.acompletion("hello", num_tokens_to_consume=1) for _ in range(6)]
        for event in events:
            await event.wait()
        late = await executor.submit_task(work, num_api_tokens_needed=1)
        await late.wait()
        await executor.engine.wait_quiet()
        assert_quiet(executor.engine)
    assert most == 3
    assert (large.status, large.error_type) == (RequestStatus.FAILED, "CapacityExceeded")
    assert trio.current_time() > 10


@in_virtual_time
async def test_a_coroutine_is_cancelled_with_its_event_and_by_a_hard_stop() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    async with scripted(ScriptedProvider()) as executor:
        first, second = [await executor.submit_task(functools.partial(work, name)) for name in ("first", "second")]
        await trio.sleep(1)
        first.cancel()
        await first.wait()
        assert ended == ["first"]
        await executor.stop(graceful=False)
    assert ended == ["first", "second"]
    assert [event.status for event in (first, second)] == [RequestStatus.CANCELLED] * 2


@in_virtual_time
async def test_a_coroutine_may_take_its_time() -> None:
    async with Executor(transport=ScriptedProvider()) as executor:
        event = await executor.submit_task(functools.partial(returns, 1, after_s=5_000))
    assert (event.status, event.response_body) == (RequestStatus.COMPLETED, 1)


@in_virtual_time
async def test_what_is_said_of_a_coroutine_is_on_its_event() -> None:
    async with scripted(ScriptedProvider()) as executor:
        headers = {"Authorization": "Bearer key-of-the-test-1234", "X-Team": "red"}
        event = await executor.submit_task(
            functools.partial(returns, 1), "https://a.example/x", "POST", headers, {"a": 1}, 3, {"model_name": "m"}
        )
        bare = await executor.submit_task(functools.partial(returns, 2))
    assert event.headers == {"Authorization": "Bearer ***", "X-Team": "red"}
    said = (event.endpoint_url, event.method, event.payload, event.num_api_tokens_needed, event.metadata)
    assert said == ("https://a.example/x", "POST", {"a": 1}, 3, {"model_name": "m"})
    assert (bare.endpoint_url, bare.method, bare.headers, bare.metadata) == (None, None, {}, {})


@pytest.mark.parametrize(("make", "tokens"), [(None, 0), ("work", 0), (trio.lowlevel.checkpoint, -1)])
async def test_what_cannot_be_run_has_failed(make: Any, tokens: int) -> None:
    async with Executor() as executor:
        event = await (await executor.submit_task(make, num_api_tokens_needed=tokens)).wait()
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "InvalidCall")


async def test_a_function_that_makes_no_coroutine_has_failed() -> None:
    async with Executor() as executor:
        event = await (await executor.submit_task(lambda: 5)).wait()  # type: ignore[arg-type,return-value]  # tested
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "TypeError")
