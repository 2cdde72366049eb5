"""`poll` and `sync_poll`, and the polls of `run`: what each answer means, the waits between them, and their end.

The waits are in virtual time, over a scripted provider; what goes over the wire is over real sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from aixplain_platform import KEY, SUCCESS, Platform, Reply

from engine import InvalidCall
from engine.clients.aixplain import Model, ModelResponse, ResponseStatus
from engine.providers.aixplain_answers import FAILED
from engine.testing import ProviderReply, Request, ScriptedProvider, error_reply, in_virtual_time, scripted_engine

ADDRESS = "https://models.aixplain.com/api/v1/data/1"
EARLY: dict[str, Any] = {"completed": False, "status": "IN_PROGRESS"}
TIMED_OUT = "No response from the service."


def says(body: object, delay_s: float = 0.0) -> ProviderReply:
    return ProviderReply(body=msgspec.json.encode(body), delay_s=delay_s)


def after(polls: int) -> Callable[[Request], ProviderReply]:
    """A script: a run is promised, and its poll of that number tells the answer."""
    asked: list[Request] = []

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return says({"status": "IN_PROGRESS", "data": ADDRESS, "completed": True})
        asked.append(request)
        return says(EARLY if len(asked) < polls else SUCCESS)

    return decide


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "service" not in request.fixturenames:
        for name in ("MODELS_RUN_URL", "BACKEND_URL", "AIXPLAIN_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TEAM_API_KEY", KEY)


def waits_of(provider: ScriptedProvider) -> list[float]:
    polls = [request.at_s for request in provider.requests if request.method == "GET"]
    return [later - before for before, later in pairwise(polls)]


# --- one poll ---------------------------------------------------------------------------------------------------------

TABLE: list[tuple[Reply, str, bool, str]] = [
    (Reply({"completed": False}), "IN_PROGRESS", False, ""),
    (Reply(EARLY), "IN_PROGRESS", False, ""),
    (Reply({"completed": False, "status": "PENDING"}), "IN_PROGRESS", False, ""),
    (Reply({"completed": True, "status": "SUCCESS", "data": "x"}), "SUCCESS", True, ""),
    (Reply({"completed": True, "error_message": "boom"}), "FAILED", True, "boom"),
    (Reply({"completed": True, "supplierError": "quota"}), "FAILED", True, " - quota"),
    (Reply({"completed": True, "status": "SUCCESS", "supplierError": "quota"}), "SUCCESS", True, " - quota"),
    (Reply({"completed": True, "status": "FAILED", "error_message": "boom"}), "FAILED", True, "boom"),
    (Reply({"what": "ever"}), "FAILED", False, FAILED),
    (Reply({"message": "gone"}, 404), "FAILED", False, "Resource not found: "),
    (Reply({"error": "who?"}, 401), "FAILED", False, "Unauthorized API key: "),
    (Reply(b"<html>"), "FAILED", False, FAILED),
]


@pytest.mark.parametrize(("reply", "status", "completed", "text"), TABLE)
async def test_one_poll_says_how_a_run_stands(
    service: Platform, reply: Reply, status: str, completed: bool, text: str
) -> None:
    service.answers("1", reply)
    response = await Model("m-1").poll(f"{service.url}/api/v1/data/1?a=b")
    assert (response.status, response.completed) == (status, completed)
    assert response.error_message.startswith(text)
    assert bool(response.error_message) == bool(text)
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.headers["x-api-key"]) == ("GET", "/api/v1/data/1?a=b", KEY)


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/api/v1/data/1",
        "http://models.aixplain.com/api/v1/data/1",
        "https://models.aixplain.com:444/api/v1/data/1",
        "https://x@models.aixplain.com/api/v1/data/1",
        "//elsewhere.example/api/v1/data/1",
        "ftp:nothing",
        "https://[broken",
    ],
)
@in_virtual_time
async def test_a_key_goes_to_no_other_address(url: str) -> None:
    provider = ScriptedProvider(says(SUCCESS))
    async with scripted_engine(provider):
        for response in (await Model("m-1").poll(url), await Model("m-1").sync_poll(url)):
            assert response.status is ResponseStatus.FAILED
            assert "no key is sent there. Nothing was sent." in response.error_message
    assert (provider.requests, provider.connects) == ([], 0)


@pytest.mark.parametrize(
    "url", [ADDRESS, "/api/v1/data/1", "https://platform-api.aixplain.com/sdk/runs/1", "HTTPS://MODELS.AIXPLAIN.COM/x"]
)
@in_virtual_time
async def test_both_configured_addresses_are_asked(url: str) -> None:
    async with scripted_engine(ScriptedProvider(says(SUCCESS))):
        assert (await Model("m-1").poll(url)).data == "hi"


@in_virtual_time
async def test_what_is_no_address_and_no_time_is_the_callers_mistake() -> None:
    async with scripted_engine(ScriptedProvider(says(SUCCESS))):
        for call in (Model("m-1").poll(""), Model("m-1").sync_poll(ADDRESS, wait_time=-1)):
            with pytest.raises(InvalidCall):
                await call


@in_virtual_time
async def test_a_poll_that_fails_for_now_is_tried_again_five_times() -> None:
    provider = ScriptedProvider([error_reply(503)] * 5 + [says(SUCCESS)], delay_s=0.0)
    async with scripted_engine(provider):
        assert (await Model("m-1").poll(ADDRESS)).data == "hi"
    assert len(provider.requests) == 6
    provider.follow(error_reply(503))
    async with scripted_engine(provider):
        response = await Model("m-1").poll(ADDRESS)
    assert (response.status, response.status_code, response.completed) == ("FAILED", 503, False)
    assert len(provider.requests) == 12


@in_virtual_time
async def test_a_poll_waits_as_long_as_it_is_told() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=30), says(SUCCESS)], delay_s=0.0)
    async with scripted_engine(provider):
        assert (await Model("m-1").sync_poll(ADDRESS)).data == "hi"
    assert waits_of(provider)[0] >= 30


# --- polling to the end -----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_sync_poll_asks_at_once_and_then_after_growing_waits() -> None:
    provider = ScriptedProvider(after(12), delay_s=0.0)
    async with scripted_engine(provider):
        begun = trio.current_time()
        response = await Model("m-1").sync_poll(ADDRESS)
    assert (response.status, response.data, response.completed) == ("SUCCESS", "hi", True)
    assert provider.requests[0].at_s - begun < 0.01
    for number, wait in enumerate(waits_of(provider)):
        assert 0.8 * 0.5 * 1.1**number - 0.01 <= wait <= 1.2 * 0.5 * 1.1**number + 0.01
    assert len({round(wait / 1.1**number, 4) for number, wait in enumerate(waits_of(provider))}) > 1  # some jitter


@in_virtual_time
async def test_waits_have_a_floor_and_a_ceiling() -> None:
    provider = ScriptedProvider(after(60), delay_s=0.0)
    async with scripted_engine(provider):
        await Model("m-1").sync_poll(ADDRESS, wait_time=0, timeout=None)
        waits = waits_of(provider)
        assert 0.16 <= min(waits) <= 0.25
        provider.requests.clear()
        provider.follow(after(6))
        await Model("m-1").sync_poll(ADDRESS, wait_time=55, timeout=1000)
    assert all(44 <= wait <= 72.1 for wait in waits_of(provider))


@in_virtual_time
async def test_sync_poll_ends_with_its_time_and_never_after_it() -> None:
    provider = ScriptedProvider(says(EARLY), delay_s=0.0)
    async with scripted_engine(provider):
        begun = trio.current_time()
        response = await Model("m-1").sync_poll(ADDRESS, timeout=2)
        assert trio.current_time() - begun == pytest.approx(2, abs=0.01)
        assert_timed_out(response)
        provider.follow(says(EARLY, delay_s=1_000.0))
        begun = trio.current_time()
        assert_timed_out(await Model("m-1").sync_poll(ADDRESS, timeout=7))
        assert trio.current_time() - begun <= 7.01


def assert_timed_out(response: ModelResponse) -> None:
    assert (response.status, response.completed, response.error_message) == ("FAILED", False, TIMED_OUT)


@pytest.mark.parametrize("reply", [error_reply(404), error_reply(401), says({"what": "ever"}), says([1])])
@in_virtual_time
async def test_what_cannot_be_polled_ends_it_at_once(reply: ProviderReply) -> None:
    provider = ScriptedProvider(reply, delay_s=0.0)
    async with scripted_engine(provider):
        begun = trio.current_time()
        response = await Model("m-1").sync_poll(ADDRESS)
        assert trio.current_time() - begun < 0.1
    assert (response.status, response.completed, len(provider.requests)) == ("FAILED", True, 1)
    assert response.error_message != TIMED_OUT


# --- the polls of a run -----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_one_time_bounds_a_run_and_its_polls() -> None:
    provider = ScriptedProvider(after(1000), delay_s=0.0)
    async with scripted_engine(provider):
        begun = trio.current_time()
        response = await Model("m-1").run("hello", timeout=10)
        assert trio.current_time() - begun == pytest.approx(10, abs=0.05)
        assert_timed_out(response)
        begun = trio.current_time()
        provider.follow(says(SUCCESS, delay_s=1_000.0))
        assert_timed_out(await Model("m-1").run("hello", timeout=5))
        assert trio.current_time() - begun == pytest.approx(5, abs=0.05)


@in_virtual_time
async def test_wait_time_is_the_first_wait_of_a_run() -> None:
    provider = ScriptedProvider(after(4), delay_s=0.0)
    async with scripted_engine(provider):
        assert (await Model("m-1").run("hello", wait_time=4)).data == "hi"
    assert all(3.2 <= wait <= 4.8 * 1.21 for wait in waits_of(provider))


@in_virtual_time
async def test_between_its_polls_a_run_holds_no_permit() -> None:
    provider = ScriptedProvider(after(8), delay_s=0.0)
    model = Model("m-1", settings={"concurrency_limit": 1})
    async with scripted_engine(provider), trio.open_nursery() as nursery:
        nursery.start_soon(model.run, "slow")
        await trio.sleep(1)
        with trio.fail_after(0.5):
            assert (await model.run_async("quick")).status == "IN_PROGRESS"


@in_virtual_time
async def test_many_runs_poll_within_the_small_quota_of_polls() -> None:
    provider = ScriptedProvider(says(EARLY), delay_s=0.0)
    model = Model("m-1")
    async with scripted_engine(provider), trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(lambda: model.sync_poll(ADDRESS, timeout=10))
    watch = ScriptedProvider()
    watch.requests = [request for request in provider.requests if request.method == "GET"]
    assert len(watch.requests) > 40
    assert watch.fullest(1.0) <= 10


@in_virtual_time
async def test_a_cancelled_run_asks_no_more() -> None:
    provider = ScriptedProvider(after(1000), delay_s=0.0)
    async with scripted_engine(provider):
        with trio.move_on_after(3):
            await Model("m-1").run("hello")
        count = len(provider.requests)
        await trio.sleep(100)
        assert len(provider.requests) == count


@in_virtual_time
async def test_a_short_failure_of_all_polls_loses_none() -> None:
    """Three times 503 for each of a dozen: they draw on no budget, for what they ask for is there to be had."""
    asked: dict[int, int] = {}

    def decide(request: Request) -> ProviderReply:
        asked[request.call_id] = asked.get(request.call_id, 0) + 1
        return error_reply(503) if asked[request.call_id] <= 3 else says(SUCCESS)

    told: list[str] = []

    async def ask() -> None:
        told.append((await Model("m-1").sync_poll(ADDRESS)).data)

    async with scripted_engine(ScriptedProvider(decide, delay_s=0.0)), trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(ask)
    assert told == ["hi"] * 12
