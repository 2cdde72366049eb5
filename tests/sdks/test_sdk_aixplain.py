"""aiXplain's SDK and our client at one platform: the same requests, and the same answers in the same words.

The SDK (0.2.48) reads its addresses and its key when it is imported, so each list of calls is made in an interpreter of
its own. Left out is what is better here and said in `docs/aixplain.md`: texts that it rewrites, polls that it repeats.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

import pytest
import trio
from aixplain_platform import SUCCESS, Platform, Reply, Seen, serving

from engine import open_engine
from engine.clients.aixplain import LLM, Function, Model, ModelResponse

pytestmark = pytest.mark.skipif(importlib.util.find_spec("aixplain") is None, reason="needs aixplain 0.2.48")

SDK = """
import json, sys, warnings
warnings.simplefilter("ignore")
from aixplain.enums import Function
from aixplain.modules.model import Model
from aixplain.modules.model.llm_model import LLM

for kind, method, args, kwargs in json.load(sys.stdin):
    function = {"function": Function.TEXT_GENERATION} if kind == "LLM" else {}
    model = {"Model": Model, "LLM": LLM}[kind]("m-1", "N", api_key=sys.argv[1], **function)
    told = getattr(model, method)(*args, **kwargs)
    told = told.to_dict() if hasattr(told, "to_dict") else told
    print("TOLD " + json.dumps(told, default=str))
"""

Step = tuple[str, str, list[Any], dict[str, Any]]


async def by_the_sdk(steps: list[Step], key: str) -> list[Any]:
    """What the SDK returns, call by call."""
    ended = await trio.run_process(
        [sys.executable, "-c", SDK, key],
        stdin=json.dumps(steps).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "AIXPLAIN_ALLOW_INSECURE_URLS": "1", "LOG_LEVEL": "CRITICAL"},
    )
    assert ended.returncode == 0, ended.stderr.decode()[-2_000:]
    lines = [line for line in ended.stdout.decode().splitlines() if line.startswith("TOLD ")]
    return [json.loads(line.removeprefix("TOLD ")) for line in lines]


async def by_us(steps: list[Step]) -> list[Any]:
    """What ours returns."""
    told: list[Any] = []
    async with open_engine():
        for kind, method, args, kwargs in steps:
            if kind == "LLM":
                model: Model = LLM("m-1", "N", function=Function.TEXT_GENERATION, compat="0.2.48")
            else:
                model = Model("m-1", "N")
            found = await getattr(model, method)(*args, **kwargs)
            told.append(json.loads(json.dumps(found.to_dict())) if isinstance(found, ModelResponse) else found)
    return told


def asked(seen: list[Seen]) -> list[tuple[Any, ...]]:
    """What matters of requests."""
    keys = ("x-api-key", "authorization")
    return [
        (one.method, one.path, json.loads(one.raw or b"null"), [one.headers.get(name) for name in keys]) for one in seen
    ]


class Both:
    """The platform that both sides ask, one after the other."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    async def ask(self, steps: list[Step], *replies: Reply) -> tuple[list[Any], list[Any]]:
        """What each side returns; they have asked the same."""
        told, seen = [], []
        for side in (lambda: by_the_sdk(steps, os.environ["TEAM_API_KEY"]), lambda: by_us(steps)):
            self.platform.seen.clear()
            if replies:
                self.platform.answers("m-1", *replies)
            told.append(await side())
            seen.append(asked(self.platform.seen))
        assert seen[0] == seen[1]
        assert len(seen[0]) >= len(steps)
        return told[0], told[1]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Any:
    with serving(monkeypatch) as platform:
        yield Both(platform)


def runs(kind: str, *calls: tuple[list[Any], dict[str, Any]]) -> list[Step]:
    """Each call as a run and as a submission."""
    return [(kind, method, args, kwargs) for args, kwargs in calls for method in ("run", "run_async")]


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


async def test_both_send_the_same_bodies(both: Both) -> None:
    model = runs(
        "Model",
        (["hello"], {}),
        (["hello"], {"parameters": {"temperature": 0.5, "data": "override"}}),
        ([{"text": "hello", "k": 1}], {"parameters": {"k": 2, "p": True}}),
        ([{}], {"parameters": {"z": 1}}),
        ([{"data": "q"}], {"parameters": {"data": "z"}}),
    )
    llm = runs(
        "LLM",
        (["hello"], {}),
        (
            ["hello"],
            {"context": "C", "prompt": "P", "history": TURNS, "temperature": 0.3, "max_tokens": 9, "top_p": 0.9},
        ),
        (["hello"], {"temperature": 0.3, "parameters": {"temperature": 0.9, "max_tokens": 5, "foo": "bar"}}),
        ([{"data": "D", "context": "x", "max_tokens": 9}], {"context": "kw", "parameters": {"max_tokens": 3}}),
    )
    theirs, ours = await both.ask(model + llm)
    assert theirs == ours


@pytest.mark.parametrize(
    "body",
    [
        {**SUCCESS, "details": [{"index": 0}], "usedCredits": 0.1, "runTime": 0.9, "usage": {"prompt_tokens": 1}},
        {**SUCCESS, "asset": {"assetId": "a", "id": "a"}, "sessionId": "s1"},
        {"status": "FAILED", "completed": True, "error_message": "boom"},
        {"status": "FAILED", "completed": True, "error": "boom", "supplierError": "quota"},
    ],
)
async def test_both_read_an_answer_alike(both: Both, body: dict[str, Any]) -> None:
    theirs, ours = await both.ask([("Model", "run", ["hello"], {})], Reply(body))
    for name in ("status", "data", "details", "completed", "used_credits", "run_time", "usage", "asset", "sessionId"):
        assert theirs[0].get(name) == ours[0].get(name), name
    assert theirs[0]["error_message"] == ours[0]["error_message"]


CODES = (400, 401, 402, 403, 404, 465, 475, 485, 495, 422)


async def test_both_say_the_same_of_a_refusal(both: Both) -> None:
    replies = [Reply({"error": "because"}, status) for status in CODES]
    theirs, ours = await both.ask([("Model", "run", ["hello"], {})] * len(CODES), *replies)
    for one, other, status in zip(theirs, ours, CODES, strict=True):
        assert (one["status"], one["completed"], one["error_message"]) == (
            other["status"],
            other["completed"],
            other["error_message"],
        )
        assert other["status_code"] == status


async def test_both_poll_to_the_end(both: Both) -> None:
    both.platform.promises("m-1", Reply({**SUCCESS, "data": "done", "usedCredits": 0.05, "extra": 1}))
    url = f"{both.platform.url}/api/v1/data/of-m-1"
    steps: list[Step] = [
        ("Model", "run", ["hello"], {}),
        ("Model", "poll", [url], {}),
        ("Model", "sync_poll", [url], {}),
        ("LLM", "run", ["hello"], {}),
    ]
    theirs, ours = await both.ask(steps)
    for one, other in zip(theirs, ours, strict=True):
        assert (one["status"], one["data"], one["completed"], one["used_credits"], one["extra"]) == (
            other["status"],
            other["data"],
            other["completed"],
            other["used_credits"],
            other["extra"],
        )


async def test_both_begin_a_run_alike(both: Both) -> None:
    both.platform.promises("m-1")
    theirs, ours = await both.ask([("Model", "run_async", ["hello"], {}), ("LLM", "run_async", ["hello"], {})])
    for one, other in zip(theirs, ours, strict=True):
        assert one["url"] == other["url"] == f"{both.platform.url}/api/v1/data/of-m-1"
        assert (one["status"], one["data"], one["completed"]) == (other["status"], other["data"], other["completed"])


@pytest.mark.parametrize("reply", [Reply({"completed": False}), Reply({"completed": True, "supplierError": "quota"})])
async def test_both_read_a_poll_alike(both: Both, reply: Reply) -> None:
    url = f"{both.platform.url}/api/v1/data/m-1"
    theirs, ours = await both.ask([("Model", "poll", [url], {})], reply)
    assert [theirs[0][name] for name in ("status", "completed", "error_message")] == [
        ours[0][name] for name in ("status", "completed", "error_message")
    ]


async def test_both_ask_the_platform_alike(both: Both) -> None:
    logs = [{"epoch": 1.0, "trainLoss": 0.5, "evalLoss": 0.6}, {"epoch": 2.0, "trainLoss": 0.3, "evalLoss": 0.4}]
    both.platform.answers("ml-logs", Reply({"finetuneStatus": "training", "modelStatus": "training", "logs": logs}))
    steps: list[Step] = [("Model", "check_finetune_status", [], {}), ("Model", "delete", [], {})]
    theirs, ours = await both.ask(steps)
    assert theirs[0]["epoch"] == ours[0].epoch == 2.0
    assert (theirs[0]["training_loss"], theirs[0]["validation_loss"]) == (
        ours[0].training_loss,
        ours[0].validation_loss,
    )
    assert theirs[1] is ours[1] is None
