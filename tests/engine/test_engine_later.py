"""A provider that answers later: polls by themselves, in a lane of their own, under one deadline.

The provider is made up: it takes a call with 202 and an address, and answers `{"state": "running"}` there until the
answer is ready. The scripts count its polls; times are virtual.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
import trio
from virtual_provider import in_virtual_time, virtual_engine

from actors.limits import Quota
from actors.messages import Fault
from actors.retrying import next_poll_wait_us, poll_at_us
from engine import Call, iModel
from engine.estimate import CountText, estimate_text
from engine.providers.catalogue import EndpointRow, Provider
from engine.providers.json_format import JsonFormat, decoded_or_none
from engine.providers.lookup import register_provider
from engine.providers.view import Usage, View
from engine.providers.wire import Encoded, Reading, mapping
from engine.retry import Advice
from engine.testing import ProviderReply, Request, ScriptedProvider

ADDRESS = "https://later.example/work"
ANSWER = b'{"state": "done", "text": "hi", "input_tokens": 7, "output_tokens": 5}'
TAKEN = b'{"state": "taken", "at": "/answers/1?full=yes"}'
RUNNING = b'{"state": "running"}'


class Works(JsonFormat):
    """What the made-up provider speaks."""

    name = "works"
    path = ""
    polls = Quota("requests", 5, 1.0, guard_s=0.0)

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        return Encoded(json.dumps(dict(arguments)).encode(), 10, 20, streaming=False)

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        payload = mapping(decoded_or_none(body)) if status < 300 else {}
        if payload.get("state") not in ("taken", "running"):
            return super().read(status, headers, body, now_s=now_s)
        fault = Fault("OutcomeUnknown", "the provider took the call and did not answer", detail="later", sent=True)
        return Reading(None, fault, Advice("later", "kept"), poll=str(payload.get("at", "")))

    def is_answer(self, payload: object) -> bool:
        return "text" in mapping(payload)

    def usage_of(self, payload: object) -> Usage | None:
        found = mapping(payload)
        if "input_tokens" not in found:
            return None
        return Usage(int(str(found["input_tokens"])), int(str(found["output_tokens"])))

    def view(self, response: object) -> View:
        return View(text=str(mapping(response).get("text")))


register_provider(
    Provider(name="later", base_url=ADDRESS, key_required=False, endpoints=(EndpointRow(name="work", format=Works()),))
)


def reply(body: bytes, status: int = 200, **headers: str) -> ProviderReply:
    return ProviderReply(status=status, body=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


def after(polls: int, answer: ProviderReply | None = None) -> Callable[[Request], ProviderReply]:
    """A script: each call is answered by its poll of that number."""
    asked: dict[int, int] = {}

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return reply(TAKEN, 202)
        asked[request.call_id] = asked.get(request.call_id, 0) + 1
        return reply(RUNNING) if asked[request.call_id] < polls else answer or reply(ANSWER)

    return decide


def a_worker(**arguments: object) -> iModel:
    return iModel(provider="later", **arguments)  # type: ignore[arg-type]  # whatever a test gives


@in_virtual_time
async def test_a_call_is_polled_until_its_answer_is_there() -> None:
    provider = ScriptedProvider(after(4), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        call = await a_worker().invoke(prompt="go")
        assert (call.status, call.text, call.usage) == ("completed", "hi", Usage(7, 5, 12))
        assert call.attempts == 5
        assert call.timings is not None
        assert call.timings.waited_s == pytest.approx(0, abs=1e-5)  # until the attempt that was taken
        assert engine.statistics().scheduler.schedule.taken == 0
    polls = provider.requests[1:]
    assert {(poll.method, poll.path, len(poll.body)) for poll in polls} == {("GET", "/answers/1?full=yes", 0)}
    first, *waits = [after.at_s - before.at_s for before, after in zip(provider.requests, polls, strict=False)]
    assert first < 1e-3
    for number, wait in enumerate(waits):
        assert 0.8 * 0.5 * 1.1**number - 1e-3 <= wait <= 1.2 * 0.5 * 1.1**number + 1e-3


@in_virtual_time
async def test_between_polls_a_call_holds_no_permit_and_is_still_calling() -> None:
    provider = ScriptedProvider(after(100), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        model = a_worker(concurrency_limit=1)
        calls = [await engine.submit(model.create_api_calling(prompt=str(number))) for number in range(3)]
        await trio.sleep(3.0)
        live = engine.statistics().live
        assert [call.status for call in calls] == ["calling"] * 3
        assert (live["permits_held"], live["busy_connections"], live["taken"]) == (0, 0, 3)
        assert live["backing_off"] + live["queued"] == 3
        for call in calls:
            call.cancel()
            assert (await call.wait()).status == "cancelled"
            assert "may have been billed" in str(call.error)


@in_virtual_time
async def test_polls_have_a_quota_of_their_own_and_leave_that_of_the_calls_alone() -> None:
    provider = ScriptedProvider(after(6), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        model = a_worker(limit_requests=4, interval=1)
        calls = [model.create_api_calling(prompt=str(number), poll_s=0.2) for number in range(20)]
        async with engine.map(calls) as done:
            assert [call.status async for call in done] == ["completed"] * 20
    for method, most in (("POST", 4), ("GET", 5)):
        times = [request.at_s for request in provider.requests if request.method == method]
        assert max(sum(begin <= at < begin + 0.999 for at in times) for begin in times) == most
    posted = [request.at_s for request in provider.requests if request.method == "POST"]
    assert max(posted) - min(posted) < 5  # what polls wait for holds no call up


@in_virtual_time
async def test_usage_is_settled_against_the_attempt_that_was_taken() -> None:
    async with virtual_engine(ScriptedProvider(after(3), delay_s=0.0)) as engine:
        model = a_worker(quotas=[Quota("total_tokens", 1000, 60.0)], lane="tokens")
        call = await engine.submit(model.create_api_calling(prompt="go"))
        await trio.sleep(0.1)
        used = [quota for lane in engine.statistics().scheduler.schedule.lanes for quota in lane.quotas]
        assert [quota.occupied for quota in used if quota.name == "total_tokens"] == [30]  # as it was reserved
        await call.wait()
        used = [quota for lane in engine.statistics().scheduler.schedule.lanes for quota in lane.quotas]
        assert [quota.occupied for quota in used if quota.name == "total_tokens"] == [12]


@in_virtual_time
async def test_one_deadline_bounds_all_and_a_last_poll_comes_before_it() -> None:
    provider = ScriptedProvider(after(10**6), delay_s=0.0)
    async with virtual_engine(provider):
        begun = trio.current_time()
        call = await a_worker().invoke(prompt="go", deadline_s=20.0, poll_s=30.0)
        assert trio.current_time() - begun == pytest.approx(20.0, abs=1e-3)
        assert call.status == "failed"
        assert call.error is not None
        assert (type(call.error).__name__, call.error.gave_up) == ("OutcomeUnknown", "deadline")
        assert call.response == {"state": "running"}
        assert [round(at - begun, 2) for at in provider.times] == [0, 0, 19.0]


@in_virtual_time
@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.1, 0.15, 0.3, 0.9, 2.0])
async def test_cancelled_wherever_it_is_nothing_is_left(at_s: float) -> None:
    """Sending, being answered, polling, between polls: `virtual_engine` looks at every gauge."""
    provider = ScriptedProvider(after(100), delay_s=0.1)
    async with virtual_engine(provider):
        with trio.move_on_after(at_s):
            await a_worker().invoke(prompt="go")
        asked = len(provider.requests)
        await trio.sleep(200)
        assert len(provider.requests) <= asked + 1  # one may have been on its way


@in_virtual_time
@pytest.mark.parametrize(
    ("answer", "status", "error", "polls"),
    [
        (reply(b'{"error": {"message": "no such work"}}', 404), "failed", "Rejected", 1),
        (reply(b'{"error": {"message": "who are you"}}', 401), "failed", "Rejected", 1),
        (reply(b'{"what": "ever"}'), "failed", "MalformedReply", 1),
        (reply(b"", 503), "failed", "ProviderUnavailable", 6),
        (ProviderReply(fault="cut"), "failed", "OutcomeUnknown", 6),
    ],
)
async def test_how_a_poll_can_end(answer: ProviderReply, status: str, error: str, polls: int) -> None:
    """A poll that fails for now is tried again, up to six times in a row; what is final ends the call at once."""
    provider = ScriptedProvider(after(2, answer), delay_s=0.0)
    async with virtual_engine(provider):
        call = await a_worker().invoke(prompt="go")
        assert (call.status, type(call.error).__name__) == (status, error)
    assert len(provider.requests) == 1 + 1 + polls


@in_virtual_time
async def test_polls_that_fail_now_and_then_never_use_up_their_attempts() -> None:
    turns = iter(range(1, 100))

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return reply(TAKEN, 202)
        turn = next(turns)
        return reply(ANSWER) if turn == 40 else reply(b"", 503) if turn % 4 else reply(RUNNING)

    async with virtual_engine(ScriptedProvider(decide, delay_s=0.0)):
        assert (await a_worker().invoke(prompt="go")).status == "completed"


@in_virtual_time
async def test_too_many_polls_bar_polls_and_no_calls() -> None:
    asked: list[float] = []

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return reply(TAKEN, 202)
        asked.append(request.at_s)
        return reply(b"", 429, retry_after="30") if len(asked) == 1 else reply(ANSWER)

    provider = ScriptedProvider(decide, delay_s=0.0)
    async with virtual_engine(provider) as engine:
        model = a_worker()
        first = await engine.submit(model.create_api_calling(prompt="one"))
        await trio.sleep(1.0)
        second = await engine.submit(model.create_api_calling(prompt="two"))
        await trio.sleep(1.0)
        assert [request.method for request in provider.requests] == ["POST", "GET", "POST"]
        for call in (first, second):
            assert (await call.wait()).status == "completed"
        assert asked[1] - asked[0] >= 30


@in_virtual_time
async def test_a_wait_the_provider_wishes_for_is_kept() -> None:
    provider = ScriptedProvider(after(2), delay_s=0.0)

    class Patient(Works):
        name = "patient"

        def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
            reading = super().read(status, headers, body, now_s=now_s)
            if reading.advice.verdict != "later":
                return reading
            return Reading(None, reading.fault, Advice("later", "kept", hint_us=7_000_000), poll=reading.poll)

    rows = (EndpointRow(name="work", format=Patient()),)
    register_provider(Provider(name="patient", base_url=ADDRESS, key_required=False, endpoints=rows))
    async with virtual_engine(provider):
        assert (await iModel(provider="patient").invoke(prompt="go")).status == "completed"
        assert [round(at - provider.times[0], 3) for at in provider.times] == [0, 7, 14]


@in_virtual_time
@pytest.mark.parametrize(
    "at",
    [
        "https://elsewhere.example/a",
        "http://later.example/a",
        "//elsewhere.example",
        "https://later.example:8443/",
        "https://me:pw@later.example/a",
    ],
)
async def test_an_address_elsewhere_is_not_asked(at: str) -> None:
    provider = ScriptedProvider(lambda request: reply(json.dumps({"state": "taken", "at": at}).encode()), delay_s=0.0)
    async with virtual_engine(provider):
        call = await a_worker(api_key="sk-sentinel").invoke(prompt="go")
        assert (call.status, type(call.error).__name__) == ("failed", "MalformedReply")
        assert "another address" in str(call.error)
    assert len(provider.requests) == 1


@in_virtual_time
async def test_handlers_are_run_once_and_see_the_answer() -> None:
    seen: list[tuple[str, str | None]] = []
    model = a_worker()

    @model.hook_registry.pre_invoke
    async def before(event: Call, **kw: object) -> None:
        seen.append(("before", event.text))

    @model.hook_registry.post_invoke
    async def behind(event: Call, **kw: object) -> None:
        seen.append(("after", event.text))

    async with virtual_engine(ScriptedProvider(after(5), delay_s=0.0)):
        await model.invoke(prompt="go")
    assert seen == [("before", None), ("after", "hi")]


@in_virtual_time
@pytest.mark.parametrize("queue", ["finish", "discard"])
async def test_a_drain_waits_for_what_was_taken_or_says_what_became_of_it(queue: str) -> None:
    provider = ScriptedProvider(after(20), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        call = await engine.submit(a_worker().create_api_calling(prompt="go"))
        await trio.sleep(1.0)
        await engine.drain(queue=queue, deadline_s=5)  # type: ignore[arg-type]  # one of the two words
        if queue == "finish":
            assert call.status == "completed"
        else:
            assert (call.status, type(call.error).__name__) == ("failed", "OutcomeUnknown")
            assert call.error is not None
            assert call.error.gave_up == "shutdown"


@in_virtual_time
async def test_connections_that_fail_between_polls_do_not_say_that_nothing_was_sent() -> None:
    provider = ScriptedProvider(after(100), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        call = await engine.submit(a_worker().create_api_calling(prompt="go", poll_s=70.0))
        await trio.sleep(1.0)  # its connection is closed for being idle before the next poll
        provider.connect_failures = 1000
        await call.wait()
        assert (call.status, type(call.error).__name__) == ("failed", "OutcomeUnknown")
        provider.connect_failures = 0


@in_virtual_time
async def test_observers_are_told() -> None:
    names: list[str] = []
    async with virtual_engine(ScriptedProvider(after(2), delay_s=0.0)) as engine, engine.observe() as observer:
        await a_worker().invoke(prompt="go")
        await trio.testing.wait_all_tasks_blocked()
        while len(names) < 12:
            names.append((await anext(observer)).name)
            if names[-1] == "ended":
                break
    once = ["queued", "granted", "sent", "later"]
    assert names == [*once, *once, "queued", "granted", "sent", "ended"]


@in_virtual_time
async def test_what_an_answer_gives_back_lets_the_next_call_go_at_once() -> None:
    provider = ScriptedProvider(after(3), delay_s=0.0)
    async with virtual_engine(provider) as engine:
        model = a_worker(quotas=[Quota("total_tokens", 45, 60.0)])
        calls = [await engine.submit(model.create_api_calling(prompt=str(number))) for number in range(2)]
        first, second = [await call.wait() for call in calls]
        assert first.timings is not None
        assert second.timings is not None
        assert second.timings.waited_s == pytest.approx(first.timings.total_s, abs=1e-3)


@in_virtual_time
async def test_limits_are_learned_from_calls_that_are_taken() -> None:
    async with virtual_engine(ScriptedProvider(after(1), delay_s=0.0)) as engine:
        model = a_worker(limits="learn", lane="learning")
        async with engine.map([model.create_api_calling(prompt=str(number)) for number in range(60)]) as done:
            assert [call.status async for call in done] == ["completed"] * 60
        lanes = {lane.name: lane for lane in engine.statistics().scheduler.schedule.lanes}
        assert next(quota.limit for quota in lanes["learning"].quotas if quota.name.endswith("requests")) > 16


@in_virtual_time
async def test_each_key_has_a_lane_of_polls_and_its_models_share_it() -> None:
    async with virtual_engine(ScriptedProvider(after(2), delay_s=0.0)) as engine:
        models = [a_worker(api_key=key) for key in ("sk-sentinel-one", "sk-sentinel-two", "sk-sentinel-one")]
        for model in models:
            assert (await model.invoke(prompt="go")).status == "completed"
        names = [lane.name for lane in engine.statistics().scheduler.schedule.lanes]
        polls = "polls of later https://later.example"
        one, other = [name for name in names if name.startswith("polls")]
        assert one == polls
        assert other.startswith(f"{polls} (")


@in_virtual_time
async def test_calls_that_are_not_done_keep_no_newer_one_waiting() -> None:
    """A hundred that go on and on, and one whose answer is there at its first poll."""
    done: set[int] = set()

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return reply(TAKEN, 202)
        return reply(ANSWER) if request.call_id in done else reply(RUNNING)

    async with virtual_engine(ScriptedProvider(decide, delay_s=0.0)) as engine:
        model = a_worker()
        slow = [await engine.submit(model.create_api_calling(prompt=str(number))) for number in range(100)]
        await trio.sleep(100)
        begun = trio.current_time()
        quick = model.create_api_calling(prompt="quick")
        done.add(quick.id)
        assert (await engine.invoke(quick)).status == "completed"
        assert trio.current_time() - begun < 30  # five polls a second, a hundred and one ask
        for call in slow:
            call.cancel()


@in_virtual_time
async def test_limits_are_learned_while_answers_are_awaited() -> None:
    """Of a provider that refuses nothing, as much is asked as of one that answers at once."""
    asked: list[int] = []
    for polls in (1, 10**6):
        provider = ScriptedProvider(after(polls), delay_s=0.0)
        async with virtual_engine(provider) as engine:
            model = a_worker(limits="learn")
            calls = [await engine.submit(model.create_api_calling(prompt=str(number))) for number in range(600)]
            await trio.sleep(100)
            asked.append(sum(request.method == "POST" for request in provider.requests))
            for call in calls:
                call.cancel()
    at_once, later = asked
    assert later >= 0.9 * at_once


@in_virtual_time
async def test_a_drain_waits_for_what_was_in_flight_and_is_taken() -> None:
    provider = ScriptedProvider(after(40), delay_s=5.0)
    async with virtual_engine(provider) as engine:
        call = await engine.submit(a_worker().create_api_calling(prompt="go"))
        await trio.sleep(1.0)
        assert call.status == "calling"
        await engine.drain(deadline_s=6)
        assert call.status == "completed"


@in_virtual_time
async def test_without_a_deadline_a_day_is_the_end() -> None:
    async with virtual_engine(ScriptedProvider(after(10**6), delay_s=0.0)):
        begun = trio.current_time()
        call = await a_worker().invoke(prompt="go", poll_s=60.0)
        assert (type(call.error).__name__, call.status) == ("OutcomeUnknown", "failed")
        assert trio.current_time() - begun == pytest.approx(86_400, abs=1)
        assert dict(call.reply.headers)["location"] == "https://later.example/answers/1?full=yes"


@in_virtual_time
async def test_a_long_wait_that_a_poll_is_told_is_kept() -> None:
    asked: list[float] = []

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST":
            return reply(TAKEN, 202)
        asked.append(request.at_s)
        return reply(b"", 429, retry_after="600") if len(asked) == 1 else reply(ANSWER)

    async with virtual_engine(ScriptedProvider(decide, delay_s=0.0)):
        assert (await a_worker().invoke(prompt="go")).status == "completed"
        assert asked[1] - asked[0] >= 600


@in_virtual_time
async def test_a_poll_that_did_not_leave_says_nothing_of_the_work() -> None:
    def decide(request: Request) -> ProviderReply:
        return reply(TAKEN, 202) if request.method == "POST" else ProviderReply(begin_s=100.0)

    async with virtual_engine(ScriptedProvider(decide, delay_s=0.0)):
        call = await a_worker().invoke(prompt="go", deadline_s=3.0)
        assert (call.status, type(call.error).__name__) == ("failed", "OutcomeUnknown")
        assert "did not answer" in str(call.error)


@in_virtual_time
@pytest.mark.parametrize(
    "at", ["https://xn--/", "https://xn--a/", "https://[::1", "\r\n", "/\u00e9", "/\\elsewhere.example"]
)
async def test_no_address_harms_anybody_else(at: str) -> None:
    """One that cannot be read is refused, and one that can be is asked for; the endpoint goes on."""

    def decide(request: Request) -> ProviderReply:
        if request.method == "POST" and request.body["prompt"] == "odd":
            return reply(json.dumps({"state": "taken", "at": at}).encode())
        return reply(TAKEN, 202) if request.method == "POST" else reply(ANSWER)

    provider = ScriptedProvider(decide, delay_s=0.0)
    async with virtual_engine(provider) as engine:
        model = a_worker()
        for _ in range(6):
            odd = await model.invoke(prompt="odd")
            assert odd.status == "completed" or type(odd.error).__name__ == "MalformedReply"
        assert (await model.invoke(prompt="go")).status == "completed"
        assert engine.statistics().endpoints[0].opened < 5


def test_when_the_next_poll_is_due() -> None:
    """At once without a wait; a fifth more or less; not sooner than in 0.2 s nor later than in a minute; not before the
    provider's wish; and where the deadline comes first, a second before it, if that is still to come."""
    half, day = 1 << 31, 86_400_000_000
    for wait_us, jitter, hint_us, deadline_us, due_us in (
        (0, half, 0, day, 1_000),
        (0, half, 5_000_000, day, 5_001_000),
        (500_000, 0, 0, day, 401_000),
        (500_000, half, 0, day, 501_000),
        (500_000, (1 << 32) - 1, 0, day, 600_999),
        (200_000, 0, 0, day, 201_000),
        (60_000_000, (1 << 32) - 1, 0, day, 60_001_000),
        (60_000_000, half, 90_000_000, day, 90_001_000),
        (60_000_000, half, 0, 30_001_000, 29_001_000),
        (60_000_000, half, 0, 60_501_000, 59_501_000),
        (60_000_000, half, 29_500_000, 30_001_000, None),
        (60_000_000, half, 0, 901_000, None),
        (200_000, half, 0, 901_000, 201_000),
    ):
        assert poll_at_us(1_000, wait_us, jitter, hint_us, deadline_us) == due_us
    waits = [200_000]
    while waits[-1] < 60_000_000:
        waits.append(next_poll_wait_us(waits[-1]))
    assert waits[:4] == [200_000, 220_000, 242_000, 266_200]
    assert waits[-1] == next_poll_wait_us(waits[-1]) == 60_000_000
