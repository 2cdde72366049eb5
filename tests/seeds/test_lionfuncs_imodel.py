"""Every code block of lionfuncs' page about iModel, run against the simulated provider.

The address is the simulator's, which demands the page's key. The program of the page calls `trio.run` itself, so it
runs in a thread, beside the simulator's loop.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import trio
from seed_blocks import DOCUMENTS, REWRITES, Block, fenced

from engine.clients.lionfuncs import EndpointConfig, Executor, NetworkRequestEvent, RequestStatus, iModel
from engine.endpoints import EndpointConfig as TheOneConfig
from engine.simulator import Simulator, SimulatorConfig, serve

PAGE = "lionfuncs-imodel.md"
KEY = "your-api-key"
NAMES = (
    "class",
    "constructor signature",
    "constructor",
    "acompletion signature",
    "acompletion",
    "close_session signature",
    "close_session",
    "context",
    "program",
)
BLOCKS = dict(zip(NAMES, fenced(PAGE), strict=True))
"""Every block of the page. A signature is compiled with an empty body, and compared with ours."""

IMPORTS = {
    "import asyncio": "import trio",
    **{f"from lionfuncs.network.{module} import": "from engine.clients.lionfuncs import"
       for module in ("executor", "imodel", "primitives", "events")},
}  # fmt: skip
WAITED = "# Wait for completion and check the result"
"""What the page says, and what its code leaves out."""


class Stage(NamedTuple):
    """Where blocks run: their names, what they printed, and the simulator with the rewrites that lead to it."""

    simulator: Simulator
    names: dict[str, Any]
    printed: list[str]

    @property
    def rewrites(self) -> dict[str, str]:
        here = {"https://api.openai.com/v1": self.simulator.address("openai")}
        return {**REWRITES, **IMPORTS, **here, WAITED: f"{WAITED}\nawait event.wait()"}

    async def run(self, *blocks: str) -> list[Any]:
        """Run blocks one after another; what the last one assigned."""
        assigned: list[Any] = []
        for block in blocks:
            assigned = await BLOCKS[block].run(self.names, self.rewrites)
        return assigned

    @property
    def sent(self) -> int:
        """How many requests arrived, each of which was answered well."""
        arrivals = self.simulator.log()
        assert {arrival.status for arrival in arrivals} <= {200}
        return len(arrivals)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> AsyncIterator[Stage]:
    simulator = await nursery.start(serve, SimulatorConfig(key=KEY))
    printed: list[str] = []
    names = {"print": lambda *things: printed.append(" ".join(map(str, things))), "RequestStatus": RequestStatus}
    yield Stage(simulator, names, printed)
    nursery.cancel_scope.cancel()


# --- the page ---


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_python(name: str) -> None:
    text = BLOCKS[name].text({})
    assert ast.parse(f"{text}: ..." if is_signature(name) else text)


def is_signature(name: str) -> bool:
    return name == "class" or name.endswith("signature")


def test_no_line_of_code_is_left_out() -> None:
    """What stands outside the blocks is prose, with code in its sentences."""
    lines = (DOCUMENTS / PAGE).read_text("utf-8").splitlines()
    inside = {line for block in BLOCKS.values() for line in range(block.first, block.last + 1)}
    code = re.compile(r"\s*(import |from |async |await |\w+ += |\w+\.\w+\(|print\(|\)$|@|def )")
    outside = [text for number, text in enumerate(lines, 1) if number not in inside and code.match(text)]
    assert outside == []


def test_fences_are_found_in_pairs() -> None:
    assert [block.first for block in BLOCKS.values()] == [14, 22, 40, 69, 96, 114, 121, 129, 159]
    assert all(isinstance(block, Block) and block.first <= block.last for block in BLOCKS.values())
    assert fenced("lionagi-imodel.md") == []


@pytest.mark.parametrize(
    ("block", "ours"),
    [
        ("constructor signature", iModel.__init__),
        ("acompletion signature", iModel.acompletion),
        ("close_session signature", iModel.close_session),
    ],
)
def test_signatures_are_the_pages(block: str, ours: Any) -> None:
    (theirs,) = ast.parse(f"{BLOCKS[block].text({})}: ...").body
    assert isinstance(theirs, ast.FunctionDef | ast.AsyncFunctionDef)
    assert isinstance(theirs, ast.AsyncFunctionDef) is inspect.iscoroutinefunction(ours)
    parameters = [one for one in inspect.signature(ours).parameters.values() if one.name != "self"]
    said = [one for one in theirs.args.args if one.arg != "self"]
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [one.arg for one in said]
    assert [one.default for one in parameters if one.default is not one.empty] == [
        ast.literal_eval(default) for default in theirs.args.defaults
    ]
    assert any(one.kind is one.VAR_KEYWORD for one in parameters) is (theirs.args.kwarg is not None)


def test_the_config_is_the_projects_one() -> None:
    assert EndpointConfig is TheOneConfig


# --- the blocks ---


async def test_the_constructor(stage: Stage) -> None:
    """Outside any loop's engine; it is used as it stands once its executor runs."""
    executor, config, model = await stage.run("constructor")
    assert (type(executor), type(config), type(model)) == (Executor, EndpointConfig, iModel)
    async with executor:
        event = await (await model.acompletion("Hello, world!")).wait()
    assert event.status is RequestStatus.COMPLETED
    assert event.metadata == {"model_name": "gpt-3.5-turbo"}
    assert event.response_body["model"] == "gpt-3.5-turbo"


async def test_acompletion(stage: Stage) -> None:
    executor, *_ = await stage.run("constructor")
    async with executor:
        (event,) = await stage.run("acompletion")
    assert isinstance(event, NetworkRequestEvent)
    assert stage.printed == [f"Completion: {event.response_body}"]
    assert event.num_api_tokens_needed == 150
    assert stage.sent == 1


async def test_acompletion_that_fails(stage: Stage) -> None:
    executor, config, _ = await stage.run("constructor")
    stage.names["model"] = iModel(executor, EndpointConfig(base_url=config.base_url, endpoint="completions"))
    async with executor:
        (event,) = await stage.run("acompletion")
    assert (event.status, event.response_status_code) == (RequestStatus.FAILED, 401)
    assert stage.printed == [f"Error: {event.error_message}"]


async def test_close_session(stage: Stage) -> None:
    executor, *_ = await stage.run("constructor")
    async with executor:
        await stage.run("acompletion", "close_session", "close_session", "acompletion")
    assert stage.sent == 2


async def test_the_context_manager(stage: Stage) -> None:
    executor, *_ = await stage.run("constructor")
    async with executor:
        await stage.run("context")
        assert stage.names["event"].status is not RequestStatus.PENDING
    assert stage.names["event"].status is RequestStatus.COMPLETED
    assert stage.sent == 1


async def test_the_program(stage: Stage) -> None:
    """Its loop of polling ends, and it prints the three completions."""
    code = compile(BLOCKS["program"].text(stage.rewrites), PAGE, "exec")
    with trio.fail_after(60):
        await trio.to_thread.run_sync(exec, code, stage.names)
    prompts = [
        "Write a short poem about AI",
        "Explain quantum computing in simple terms",
        "List 5 benefits of exercise",
    ]
    assert stage.printed[:3] == [f"Submitted request for prompt: {prompt[:20]}..." for prompt in prompts]
    assert stage.printed[3::2] == [f"\nPrompt: {prompt}" for prompt in prompts]
    for line in stage.printed[4::2]:
        assert re.fullmatch(r"Completion: \w+( \w+){149}", line)  # of `max_tokens`
    assert stage.sent == 3
