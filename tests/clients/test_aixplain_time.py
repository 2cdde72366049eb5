"""Runs in virtual time: what every HTTP status comes to, retries within the limits, one deadline, what is reserved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from aixplain_platform import KEY, SUCCESS

from engine import CapacityExceeded
from engine.clients.aixplain import LLM, Function, Model, ModelResponse
from engine.testing import ProviderReply, Request, ScriptedProvider, in_virtual_time, scripted_engine

ADDRESS = "https://models.aixplain.com/api/v1/data/1"
TIMED_OUT = "No response from the service."


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELS_RUN_URL", "BACKEND_URL", "AIXPLAIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEAM_API_KEY", KEY)


def says(body: object, status: int = 200, *, headers: Mapping[str, str] | None = None, after_s: float = 0.0) -> Any:
    return ProviderReply(status=status, headers=headers or {}, body=msgspec.json.encode(body), delay_s=after_s)


GOOD = says(SUCCESS)
PROMISE = {"status": "IN_PROGRESS", "data": ADDRESS, "completed": True}


def refuses(status: int, **headers: str) -> ProviderReply:
    reply: ProviderReply = says({"error": "because", "error_code": "AX-1"}, status, headers=headers)
    return reply


# --- every status -----------------------------------------------------------------------------------------------------

SUBSCRIPTION = "Subscription-related error: Please ensure that your subscription is active and has not expired."
BILLING = "Billing-related error: Please ensure you have enough credits to run this asset."
SUPPLIER = (
    "Supplier-related error: Please ensure that the selected supplier provides the asset you are trying to access."
)
VALIDATION = "Validation-related error: Please verify the request payload and ensure it is correct."

STATUSES: list[tuple[int, str, int]] = [
    (460, SUBSCRIPTION, 1),
    (469, SUBSCRIPTION, 1),
    (470, BILLING, 1),
    (479, BILLING, 1),
    (480, SUPPLIER, 1),
    (489, SUPPLIER, 1),
    (490, VALIDATION, 1),
    (499, VALIDATION, 1),
    (408, "Unspecified Client Error (Status 408)", 4),
    (409, "Unspecified Client Error (Status 409)", 4),
    (422, "Unspecified Client Error (Status 422)", 1),
    (429, "Rate limit exceeded: Please try again later.", 4),
    (500, "Internal server error: Please try again later.", 4),
    (501, "Unspecified Server Error (Status 501)", 1),
    (502, "Unspecified Server Error (Status 502)", 4),
    (503, "Service unavailable: Please try again later.", 4),
    (504, "Gateway timeout: Please try again later.", 4),
]
"""Each status, its sentence, and how often the request is sent before that is the outcome."""


def assert_refused(response: ModelResponse, status: int, sentence: str, *, completed: bool = True) -> None:
    assert (response.status, response.completed, response.status_code) == ("FAILED", completed, status)
    assert response.error_message == f"{sentence} Details: because"
    assert response.data == ""


@pytest.mark.parametrize("attempts", [None, 1])
@pytest.mark.parametrize(("status", "sentence", "usual"), STATUSES)
@in_virtual_time
async def test_what_every_status_of_a_run_comes_to(
    status: int, sentence: str, usual: int, attempts: int | None
) -> None:
    provider = ScriptedProvider(refuses(status))
    model = Model("m-1", supports_streaming=True, settings={"max_attempts": attempts} if attempts else None)
    async with scripted_engine(provider):
        for ask in (model.run, model.run_async):
            provider.requests.clear()
            response = await ask("hello", timeout=None) if ask == model.run else await ask("hello")
            assert_refused(response, status, sentence)
            assert response.error_code == "AX-1"
            assert len(provider.requests) == (attempts or usual)
        provider.requests.clear()
        pieces = [piece async for piece in model.run_stream("hello")]
        assert_refused(pieces[-1], status, sentence)
        assert (len(pieces), len(provider.requests)) == (1, attempts or usual)


@pytest.mark.parametrize(("status", "sentence", "usual"), STATUSES)
@in_virtual_time
async def test_what_every_status_of_a_poll_comes_to(status: int, sentence: str, usual: int) -> None:
    """A poll costs nothing and the run behind it does: what is tried again, is so five times."""
    provider = ScriptedProvider(refuses(status))
    tried = 1 if usual == 1 else 6
    async with scripted_engine(provider):
        assert_refused(await Model("m-1").poll(ADDRESS), status, sentence, completed=False)
        assert len(provider.requests) == tried
        provider.requests.clear()
        assert_refused(await Model("m-1").sync_poll(ADDRESS, timeout=None), status, sentence)
        assert len(provider.requests) == tried
        provider.follow(lambda request: says(PROMISE, 201) if request.method == "POST" else refuses(status))
        assert_refused(await Model("m-1").run("hello", timeout=None), status, sentence)


# --- retries within the limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("how", ["run", "run_async", "run_stream"])
@in_virtual_time
async def test_each_retry_goes_through_the_limits(status: int, how: str) -> None:
    """An attempt is a request, and two a minute are two a minute."""
    provider = ScriptedProvider([refuses(status), refuses(status), refuses(status), GOOD], delay_s=0.0)
    model = Model("m-1", supports_streaming=True, settings={"limit_requests": 2, "interval": 60})
    async with scripted_engine(provider):
        begun = trio.current_time()
        if how == "run_stream":
            response = [piece async for piece in model.run_stream("hello")][-1]
        else:
            response = await (model.run("hello", timeout=None) if how == "run" else model.run_async("hello"))
        assert response.status == "SUCCESS"
        assert trio.current_time() - begun >= 60
    assert len(provider.requests) == 4
    assert provider.fullest(60) == 2


@in_virtual_time
async def test_the_wait_that_is_asked_for_is_waited_for() -> None:
    provider = ScriptedProvider([refuses(429, **{"retry-after": "17"}), refuses(503, **{"retry-after": "9"}), GOOD])
    async with scripted_engine(provider):
        assert (await Model("m-1").run("hello")).data == "hi"
    first, second, third = provider.times
    assert (second - first >= 17, third - second >= 9) == (True, True)


# --- one deadline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Model, LLM])
@in_virtual_time
async def test_one_deadline_covers_a_slow_request_and_its_polls(kind: type[Model]) -> None:
    """Six seconds of the ten are the request's; four are left for the polls, and not ten."""

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return says(PROMISE, 201, after_s=6.0)  # type: ignore[no-any-return]  # a reply
        return says({"completed": False})  # type: ignore[no-any-return]

    provider = ScriptedProvider(decide)
    async with scripted_engine(provider):
        begun = trio.current_time()
        response = await kind("m-1", "N", function=Function.TEXT_GENERATION).run("hello", timeout=10)
        assert trio.current_time() - begun == pytest.approx(10, abs=0.05)
    assert (response.status, response.completed, response.error_message) == ("FAILED", False, TIMED_OUT)
    polls = [request.at_s - begun for request in provider.requests if request.method == "GET"]
    assert polls
    assert all(6 <= at <= 10 for at in polls)


@in_virtual_time
async def test_the_deadline_covers_the_wait_for_a_turn_too() -> None:
    provider = ScriptedProvider(lambda request: says(SUCCESS, after_s=8.0))
    model = Model("m-1", settings={"concurrency_limit": 1})
    async with scripted_engine(provider), trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(model.run, "first")
        await trio.sleep(0.1)
        assert (await model.run("second", timeout=10)).error_message == TIMED_OUT
        assert trio.current_time() - begun == pytest.approx(10.1, abs=0.05)


# --- what is reserved, and settled ------------------------------------------------------------------------------------

SHORT = {**SUCCESS, "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}}


def an_llm(**settings: Any) -> LLM:
    return LLM("m-1", "N", function=Function.TEXT_GENERATION, settings={"interval": 60, **settings})


async def times_of(provider: ScriptedProvider, *asked: Callable[[], Any]) -> list[float]:
    """When each of these was sent, begun together, in seconds from then."""
    async with scripted_engine(provider):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for ask in asked:
                nursery.start_soon(ask)
                await trio.lowlevel.checkpoint()
    return [at - begun for at in provider.times]


@pytest.mark.parametrize("given", [{"max_tokens": 150}, {"parameters": {"max_tokens": 150}}])
@in_virtual_time
async def test_what_may_be_produced_is_reserved(given: dict[str, Any]) -> None:
    """Two that may produce 150 do not go together into 200, two that may produce 50 do."""
    llm = an_llm(limit_tokens=200)
    slow = says(SHORT, after_s=10.0)
    first, second = await times_of(ScriptedProvider(slow), *[lambda: llm.run("hello", **given)] * 2)
    assert (first < 1, 10 <= second < 11) == (True, True)
    small = an_llm(limit_tokens=200)
    both = await times_of(ScriptedProvider(slow), *[lambda: small.run("hello", max_tokens=50)] * 2)
    assert max(both) < 1


@in_virtual_time
async def test_a_submission_reserves_as_a_run_does() -> None:
    """What it will use is not known when it is taken, so that its reservation stays until the window has passed."""
    llm = an_llm(limit_tokens=200)
    provider = ScriptedProvider(says(PROMISE, 201))
    first, second = await times_of(provider, *[lambda: llm.run_async("hello", max_tokens=150)] * 2)
    assert (first < 1, 60 <= second < 62) == (True, True)


@in_virtual_time
async def test_a_reservation_without_usage_is_kept() -> None:
    llm = an_llm(limit_tokens=200)
    first, second = await times_of(ScriptedProvider(GOOD), *[lambda: llm.run("hello", max_tokens=150)] * 2)
    assert (first < 1, 60 <= second < 62) == (True, True)


@pytest.mark.parametrize("how", ["run", "run_async"])
@in_virtual_time
async def test_a_counter_of_ones_own_counts_what_goes_in(how: str) -> None:
    llm = an_llm(limit_tokens=900, count_tokens=lambda _: 1_000)
    provider = ScriptedProvider(GOOD)
    async with scripted_engine(provider):
        with pytest.raises(CapacityExceeded):
            await getattr(llm, how)("hello")
    assert provider.requests == []
