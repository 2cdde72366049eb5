"""aiXplain's SDK at the simulated provider: it makes of it what it was recorded to make of such answers.

This certifies the simulator, which the tests of our own client rely on. The SDK runs in a process of its own
(`aixplain_side`) and is told everything at once where that is possible: each start takes a second.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio
from two_sides import KEY

from engine.simulator import FaultRates, ProviderLimit, Simulator, SimulatorConfig, serve

if find_spec("aixplain") is None:
    pytest.skip("needs the extra test-sdks", allow_module_level=True)

SIDE = Path(__file__).with_name("aixplain_side.py")
PLAIN = SimulatorConfig(key=KEY, output_tokens=6, models=("llm-a", "b"))

Order = dict[str, Any]


def order(action: str, model: str = "", **arguments: Any) -> Order:
    """Something the SDK is to do with a model."""
    return {"do": action, "model": model, "arguments": arguments}


def of_llm(action: str, model: str, **arguments: Any) -> Order:
    """The same with a language model."""
    return {**order(action, model, **arguments), "as": "LLM"}


async def theirs(
    tmp_path: Path,
    orders: list[Order] | Callable[[Simulator], list[Order]],
    config: SimulatorConfig = PLAIN,
    key: str = KEY,
) -> tuple[list[Any], Simulator]:
    """What the SDK makes of its orders at a simulator; the latter has ended, but can be asked."""
    found: list[Any] = []
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            simulator: Simulator = await nursery.start(serve, config)
            address = simulator.address("aixplain")
            process = await trio.run_process(
                [sys.executable, str(SIDE)],
                stdin=json.dumps(orders(simulator) if callable(orders) else orders).encode(),
                capture_stdout=True,
                capture_stderr=True,
                cwd=tmp_path,
                env={
                    **{name: value for name, value in os.environ.items() if not name.endswith("API_KEY")},
                    "BACKEND_URL": address,
                    "MODELS_RUN_URL": f"{address}/api/v1/execute",
                    "TEAM_API_KEY": key,
                    "AIXPLAIN_ALLOW_INSECURE_URLS": "1",
                    "HOME": str(tmp_path),
                    "LOG_LEVEL": "CRITICAL",
                },
            )
            found += json.loads(process.stdout)
            nursery.cancel_scope.cancel()
    return found, simulator


async def test_an_answer_at_once_has_every_field(tmp_path: Path) -> None:
    (llm, plain), simulator = await theirs(
        tmp_path, [of_llm("run", "llm-sync-1", data="hello"), order("run", "sync-1", data="hello")]
    )
    assert (llm["status"], llm["completed"], llm["error_message"]) == ("SUCCESS", True, "")
    assert llm["details"][0]["message"]["content"] == llm["data"]
    assert llm["used_credits"] > 0
    assert llm["run_time"] == 0.9
    assert llm["usage"]["total_tokens"] == llm["usage"]["prompt_tokens"] + llm["usage"]["completion_tokens"]
    assert llm["asset"]["id"] == "llm-sync-1"
    assert list(llm["more"]) == ["sessionId"]
    assert len(plain["data"].split()) == 6
    assert isinstance(plain["details"], dict)
    assert [arrival.output_cap for arrival in simulator.log()] == [128, 6]
    assert simulator.asides() == []


async def test_a_promise_is_polled_until_it_is_kept(tmp_path: Path) -> None:
    models = ("async-2-m", "no-status-async-2", "llm-async-2")
    results, simulator = await theirs(tmp_path, [order("run", model, data="hello", wait_time=0.2) for model in models])
    assert [(result["status"], result["completed"], len(result["data"].split())) for result in results] == [
        ("SUCCESS", True, 6)
    ] * 3
    polls: dict[str, list[int]] = {}
    for aside in simulator.asides():
        assert (aside.method, aside.status) == ("GET", 200)
        polls.setdefault(aside.path, []).append(aside.number)
    assert list(polls.values()) == [[1, 2, 3]] * 3


async def test_run_async_poll_and_sync_poll(tmp_path: Path) -> None:
    first, simulator = await theirs(tmp_path, [of_llm("run_async", "llm-async-1", data="hello")])
    (promised,) = first
    assert (promised["status"], promised["completed"]) == ("IN_PROGRESS", False)
    assert promised["url"].startswith(f"http://127.0.0.1:{simulator.port}/aixplain/api/v1/data/")
    job = promised["url"].rpartition("/")[2]

    def polls(simulator: Simulator) -> list[Order]:
        url = f"{simulator.address('aixplain')}/api/v1/data/{job}"
        kinds = ("poll", "poll", "sync_poll", "poll")
        gone = f"{simulator.address('aixplain')}/api/v1/data/nothing"
        return [*(order(kind, "m", poll_url=url) for kind in kinds), order("poll", "m", poll_url=gone)]

    results, _ = await theirs(tmp_path, polls)
    assert [(result["status"], result["completed"]) for result in results] == [
        ("IN_PROGRESS", False),
        ("SUCCESS", True),
        ("SUCCESS", True),
        ("SUCCESS", True),
        ("FAILED", False),
    ]
    assert len(results[1]["data"].split()) == 128
    assert results[4]["error_message"] == "'completed'"


async def test_run_async_takes_an_answer_that_is_there(tmp_path: Path) -> None:
    (result,), _ = await theirs(tmp_path, [order("run_async", "now-m", data="hello")])
    assert (result["status"], result["completed"]) == ("SUCCESS", True)
    assert {"usedCredits", "runTime"} <= result["more"].keys()


async def test_failures(tmp_path: Path) -> None:
    models = ("fail", "async-0-fail", "supplier", "async-0-supplier", "async-0-warn", "no-data", "html")
    results, _ = await theirs(tmp_path, [order("run", model, data="hello") for model in models])
    said = {model: (result["status"], result["completed"]) for model, result in zip(models, results, strict=True)}
    assert said == {model: ("SUCCESS" if "warn" in model else "FAILED", True) for model in models}
    messages = dict(zip(models, [result["error_message"] for result in results], strict=True))
    assert messages["fail"] == messages["async-0-fail"] == "The model has failed. (simulated)"
    assert messages["supplier"] == messages["async-0-supplier"] == messages["async-0-warn"] == " - quota"
    generic = "An error occurred while processing your request."
    assert generic in messages["no-data"]
    assert generic in messages["html"]


async def test_it_breaks_at_an_error_code(tmp_path: Path) -> None:
    """It hands the code on twice: a run raises, and a poll takes its own error for no answer and asks to the end."""
    orders = [order("run", "coded", data="hello"), order("run", "async-0-coded", data="hello", timeout=1)]
    (at_once, polled), _ = await theirs(tmp_path, orders)
    assert "multiple values for keyword argument 'error_code'" in at_once["raised"]
    assert polled["error_message"] == "No response from the service."


STATUSES = {
    400: "Bad request",
    401: "Unauthorized API key",
    402: "Payment required",
    403: "Forbidden access",
    404: "Resource not found",
    408: "Unspecified Client Error (Status 408)",
    429: "Rate limit exceeded",
    465: "Subscription-related error",
    475: "Billing-related error",
    485: "Supplier-related error",
    495: "Validation-related error",
    500: "Internal server error",
    501: "Unspecified Server Error (Status 501)",
    503: "Service unavailable",
    504: "Gateway timeout",
}


async def test_the_table_of_statuses(tmp_path: Path) -> None:
    orders = [order("run", f"status-{status}", data="hello") for status in STATUSES]
    results, simulator = await theirs(tmp_path, orders)
    for (status, says), result in zip(STATUSES.items(), results, strict=True):
        assert (result["status"], result["completed"]) == ("FAILED", True)
        assert result["error_message"].startswith(says)
        assert f"Details: The model answers {status}. (simulated)" in result["error_message"]
    assert len(simulator.log()) == len(STATUSES)


async def test_limits_and_injected_refusals_are_rate_limits_to_it(tmp_path: Path) -> None:
    orders = [order("run", "m", data="hello")] * 2
    limited = SimulatorConfig(key=KEY, limits=(ProviderLimit("requests", 1, 60.0),))
    for config in (limited, SimulatorConfig(key=KEY, faults=FaultRates(rate_limited=1.0))):
        results, _ = await theirs(tmp_path, orders, config)
        assert results[-1]["error_message"].startswith("Rate limit exceeded: Please try again later. Details: Rate")


async def test_a_wrong_key_is_refused_everywhere(tmp_path: Path) -> None:
    orders = [order("run", "m", data="hello"), order("delete", "m"), order("get", model_id="m"), order("limits")]
    results, _ = await theirs(tmp_path, [*orders, order("check_finetune_status", "m")], key="wrong")
    run, deleted, got, limits, training = results
    assert run["error_message"].startswith("Unauthorized API key")
    assert "Model Deletion Error" in deleted["raised"]
    assert "Status Code: 401" in got["raised"]
    assert "Failed to get usage" in limits["raised"]
    assert training is None


STREAMS = ("envelope", "done", "text", "split", "openai", "json", "cut", "error")


async def test_streams(tmp_path: Path) -> None:
    """Version 1 reads envelopes; of the other forms it makes the nonsense that it was recorded to make."""
    config = SimulatorConfig(key=KEY, output_tokens=6, faults=FaultRates(stream_at=2))
    orders = [order("run", f"stream-{kind}", data="hello", stream=True) for kind in STREAMS]
    results, _ = await theirs(tmp_path, orders, config)
    said = dict(zip(STREAMS, results, strict=True))
    words = {kind: [text for _, text in result["chunks"] if text] for kind, result in said.items()}
    assert [len(words[kind]) for kind in ("envelope", "done", "text")] == [6, 6, 6]
    assert {kind: result["status"] for kind, result in said.items()} == {
        kind: "IN_PROGRESS" if kind in ("json", "cut", "error") else "SUCCESS" for kind in STREAMS
    }
    assert words["openai"] == []
    assert len(words["json"][0].split()) == 6
    assert (words["cut"], said["cut"]["broken"]) == ([], "ChunkedEncodingError")
    assert len(words["error"]) == 2
    assert next(chunk for chunk in said["envelope"]["chunks"] if chunk[0] == "SUCCESS") == ["SUCCESS", ""]


async def test_version_2_reads_every_form_of_a_stream(tmp_path: Path) -> None:
    """A stream that is closed in order without an end has failed to it; of one cut within the body it raises."""
    config = SimulatorConfig(key=KEY, output_tokens=6, faults=FaultRates(stream_at=2))
    whole = ("envelope", "done", "status", "openai", "openai-no-done", "split", "json")
    broken = ("error", "failed", "envelope-no-done")
    orders = [order("stream version 2", f"stream-{kind}") for kind in (*whole, *broken, "cut")]
    (*results, cut), _ = await theirs(tmp_path, orders, config)
    said = dict(zip(whole + broken, results, strict=True))
    assert (cut["status"], cut["broken"]) == ("IN_PROGRESS", "ChunkedEncodingError")
    assert {kind: said[kind]["status"] for kind in whole} == dict.fromkeys(whole, "SUCCESS")
    assert {kind: said[kind]["status"] for kind in broken} == dict.fromkeys(broken, "FAILED")
    texts = {kind: "".join(text or "" for _, text in result["chunks"]).split() for kind, result in said.items()}
    counts = {kind: len(words) for kind, words in texts.items()}
    assert counts == dict.fromkeys(whole, 6) | {"error": 2, "failed": 2, "envelope-no-done": 6}


async def test_a_language_model_streams_with_all_its_fields(tmp_path: Path) -> None:
    (result,), simulator = await theirs(
        tmp_path, [of_llm("run", "llm-m", data="hello", stream=True, max_tokens=4, context="12345678")]
    )
    assert (result["status"], len([text for _, text in result["chunks"] if text])) == ("SUCCESS", 4)
    (arrival,) = simulator.log()
    assert (arrival.input_tokens, arrival.output_cap) == (12, 4)


async def test_records(tmp_path: Path) -> None:
    orders = [
        order("get", model_id="llm-a"),
        order("get", model_id="x/y"),
        order("get", name="stream-z"),
        order("get", model_id="missing-m"),
        order("list", query="a"),
        order("list", model_ids=["b", "llm-c"]),
    ]
    (llm, plain, named, missing, listed, several), simulator = await theirs(tmp_path, orders)
    assert llm == [["LLM", "llm-a", "llm-a", True, 0.7]]
    assert plain == [["Model", "x/y", "x/y", False, None]]
    assert named == [["Model", "stream-z", "stream-z", True, None]]
    assert "Failed to retrieve model missing-m. Status Code: 404" in missing["raised"]
    assert [row[1] for row in listed] == ["llm-a"]
    assert [row[:2] for row in several] == [["Model", "b"], ["LLM", "llm-c"]]
    assert simulator.log() == []


async def test_deletions(tmp_path: Path) -> None:
    results, _ = await theirs(tmp_path, [order("delete", model) for model in ("m", "missing", "kept")])
    text = "Exception: Model Deletion Error: Make sure the model exists and you are the owner."
    assert results == [None, {"raised": text}, {"raised": text}]


async def test_the_log_of_a_training(tmp_path: Path) -> None:
    orders = [
        order("check_finetune_status", "m"),
        order("check_finetune_status", "m", after_epoch=1),
        order("check_finetune_status", "m", after_epoch=9),
        order("check_finetune_status", "epochs-4", after_epoch=1),
        order("check_finetune_status", "epochs-0"),
        order("check_finetune_status", "missing"),
    ]
    results, _ = await theirs(tmp_path, orders)
    assert results == [
        ["in_progress", 2.0, 0.3, 0.4],
        ["in_progress", 2.0, 0.3, 0.4],
        ["in_progress", None, None, None],
        ["in_progress", 2.0, 0.5, 1.0],
        ["in_progress", None, None, None],
        None,
    ]


async def test_the_use_of_a_key(tmp_path: Path) -> None:
    config = SimulatorConfig(key=KEY, limits=(ProviderLimit("requests", 5, 60.0),), output_tokens=6)
    (_, (told,)), _ = await theirs(tmp_path, [order("run", "m", data="hello"), order("limits")], config)
    assert (told["daily_request_count"], told["daily_request_limit"]) == (1, 5)
    assert (told["daily_token_count"], told["daily_token_limit"]) == (12, None)


async def test_a_poll_at_another_host_is_sent_the_key(tmp_path: Path) -> None:
    """Version 1 polls wherever it is told to; the simulator shows that, and who does not."""
    (result,), simulator = await theirs(tmp_path, [order("run", "foreign-poll-async-0", data="hello")])
    assert result["status"] == "SUCCESS"
    assert len(simulator.asides()) == 1
