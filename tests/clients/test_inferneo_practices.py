"""The seven best practices of Inferneo's document, each as something the client does, and its other two recipes.

Connection pooling, error handling, streaming, batching, monitoring, caching and rate limiting; the retry decorator and
the logging of requests.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from inferneo_server import CHAT, COMPLETION, DONE, KEY, PROMPT, Hold, Reply, Server, completion_event

from engine import CallMetrics, HookRegistry, Quota, ResponseCache, gather, open_engine
from engine.clients.inferneo import (
    AsyncInferneoClient,
    InferneoAPIError,
    InferneoClient,
    InferneoError,
    InferneoTimeoutError,
)
from engine.portal import BlockingEngine, open_portal
from engine.simulator import ProviderLimit, SimulatorConfig, serve, simulated_provider, tally, worst_window


@pytest.fixture
def engine() -> Iterator[BlockingEngine]:
    with open_portal() as opened:
        yield opened


# --- 1. connection pooling ---


def test_connections_are_reused(server: Server, engine: BlockingEngine) -> None:
    """Line 75: twenty calls one after the other take one connection."""
    client = InferneoClient(server.url, engine=engine)
    for _ in range(20):
        client.completions.create(**PROMPT)
    assert (len(server.sent), server.connections) == (20, 1)


async def test_many_at_once_hold_no_more_connections_than_they_may(server: Server) -> None:
    async with AsyncInferneoClient(server.url, concurrency_limit=4) as client:
        await gather(*[client.completions.create(**PROMPT) for _ in range(40)])
    assert len(server.sent) == 40
    assert server.connections <= 5  # the fourth permit and the one that is opened ahead


# --- 2. error handling ---


def test_every_failure_is_caught_by_one_of_the_three(server: Server, engine: BlockingEngine) -> None:
    """The chain of the document, from the special to the general."""
    server.answers = [
        Reply(404, {"detail": "no such model"}),
        Reply(pieces=[]),
        Reply(pieces=[Hold(threading.Event())]),
    ]
    client = InferneoClient(server.url, timeout=0.2, max_retries=0, engine=engine)
    met = []
    for _ in range(3):
        try:
            list(client.completions.create(**PROMPT, stream=True))
        except InferneoAPIError as error:
            met.append(("api", error.status_code))
        except InferneoTimeoutError:
            met.append(("timeout", 0))
        except InferneoError:
            met.append(("general", 0))
    assert met == [("api", 404), ("general", 0), ("timeout", 0)]


# --- 3. streaming ---


def test_the_first_chunk_is_there_before_the_last_is_written(server: Server, engine: BlockingEngine) -> None:
    go_on = threading.Event()
    server.answers = [Reply(pieces=[completion_event("first"), Hold(go_on), completion_event("last", "stop"), DONE])]
    with InferneoClient(server.url, engine=engine).completions.create(**PROMPT, stream=True) as chunks:
        assert next(chunks).choices[0].text == "first"  # and the server waits for us
        go_on.set()
        assert [chunk.choices[0].text for chunk in chunks] == ["last"]


# --- 4. batching ---


async def test_a_batch_runs_together_and_comes_back_in_its_order(nursery: trio.Nursery) -> None:
    """Line 74: hundreds at once, as many in flight as the limit says, all answered."""
    simulator = await nursery.start(serve, SimulatorConfig(output_tokens=3, max_concurrency=8))
    async with AsyncInferneoClient(simulator.address("inferneo"), concurrency_limit=8, max_retries=0) as client:
        prompts = [f"prompt {number}" for number in range(200)]
        tasks = [client.completions.create(model="m", prompt=prompt, max_tokens=3) for prompt in prompts]
        answers = await gather(*tasks)
        again = [await client.completions.create(model="m", prompt=prompt, max_tokens=3) for prompt in prompts[:3]]
    assert len({answer.id for answer in answers}) == 200
    assert [answer.model for answer in again] == ["m"] * 3
    assert simulator.statistics().refused == {}
    nursery.cancel_scope.cancel()


def test_threads_share_a_client(server: Server, engine: BlockingEngine) -> None:
    client = InferneoClient(server.url, engine=engine, concurrency_limit=3)
    answered: list[str] = []
    threads = [
        threading.Thread(target=lambda: answered.append(client.completions.create(**PROMPT).id)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answered == ["cmpl-1"] * 12


# --- 5. monitoring ---


def test_times_and_failures_are_counted(server: Server, engine: BlockingEngine) -> None:
    metrics = CallMetrics()
    client = InferneoClient(server.url, engine=engine, max_retries=0, hook_registry=HookRegistry().use(metrics))
    server.answers = [Reply(body=COMPLETION), Reply(500, b"no"), Reply(body=COMPLETION)]
    client.completions.create(**PROMPT)
    with pytest.raises(InferneoAPIError):
        client.chat.completions.create(**CHAT)
    client.completions.create(**PROMPT)
    counted = {row.endpoint.rpartition("/v1/")[2]: row for row in metrics.statistics().models}
    assert counted["completions"].ended == {"completed": 2}
    assert (counted["completions"].input_tokens, counted["completions"].output_tokens) == (4, 6)
    assert counted["completions"].total_s.count == 2
    assert counted["chat/completions"].errors == {"ProviderUnavailable": 1}
    assert len(engine.statistics().endpoints) == 2


# --- 6. caching ---


def test_equal_calls_are_answered_once(server: Server, engine: BlockingEngine) -> None:
    cache = ResponseCache()
    client = InferneoClient(server.url, engine=engine, hook_registry=HookRegistry().use(cache))
    answers = [client.completions.create(**PROMPT) for _ in range(5)]
    client.completions.create(model="m", prompt="another")
    assert len({answer.id for answer in answers}) == 1
    assert len(server.sent) == 2
    assert cache.statistics().hits == 4


def test_how_things_stand_is_asked_each_time(server: Server, engine: BlockingEngine) -> None:
    """What the server tells of itself is not kept."""
    client = InferneoClient(server.url, engine=engine, hook_registry=HookRegistry().use(ResponseCache()))
    card = {"id": "a"}
    server.answers = [Reply(body={"uptime_s": 5}), *[Reply(body={"data": [card]}), Reply(body=card)] * 2]
    info = client.info()
    assert (info.uptime, info.models) == (5, ["a"])
    assert client.models.get("a").id == "a"
    assert [model.id for model in client.models.list()] == ["a"]
    assert [sent.path for sent in server.sent] == ["/stats", "/v1/models", "/v1/models/a", "/v1/models"]


# --- 7. rate limiting ---


async def test_the_limit_is_spent_and_never_passed() -> None:
    """As the provider counts, which refuses what is over it: over both endpoints together."""
    limit = ProviderLimit("requests", 20, 0.2)
    config = SimulatorConfig(output_tokens=2, limits=(limit,))
    async with simulated_provider(config) as provider:
        ours = Quota("requests", 20, 0.3)  # longer than the provider's: other processes may hold the loop up
        async with AsyncInferneoClient(provider.address("inferneo"), quotas=[ours], max_retries=0) as client:
            asked: list[Any] = [client.completions.create(**PROMPT, max_tokens=2) for _ in range(30)]
            await gather(*asked, *[client.chat.completions.create(**CHAT, max_tokens=2) for _ in range(30)])
        arrivals = await provider.log()
    assert tally(arrivals).accepted == len(arrivals) == 60
    assert worst_window(arrivals, round(ours.period_s * 1_000_000)).amount >= 20
    assert worst_window(arrivals, limit.period_us).amount <= 20


# --- retrying, logging ---


def test_it_works_under_a_retry_decorator(server: Server, engine: BlockingEngine) -> None:
    """Line 77, with tenacity and another's waits."""
    tenacity = pytest.importorskip("tenacity", reason="needs tenacity, of the extra test")
    server.answers = [Reply(400, {"detail": "no"}), Reply(400, {"detail": "no"}), Reply(body=COMPLETION)]
    client = InferneoClient(server.url, engine=engine)

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    def ask() -> Any:
        return client.completions.create(**PROMPT)

    assert ask().id == "cmpl-1"
    assert len(server.sent) == 3


async def test_debug_logging_shows_requests_and_no_key(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Line 76: by nothing but the standard library's own switch."""
    with caplog.at_level(logging.DEBUG):
        async with open_engine():
            client = AsyncInferneoClient(server.url, KEY, headers={"X-Secret": KEY})
            await client.chat.completions.create(**CHAT)
            with pytest.raises(InferneoAPIError):
                await client.models.list()
    lines = [record.getMessage() for record in caplog.records if record.name == "penstock"]
    assert any("request" in line for line in lines)
    assert any("200" in line for line in lines)
    assert KEY not in caplog.text
