"""Every code block of Inferneo's page about its Python client, run against the simulated server.

Blocks that only show a signature are compared with ours; all others are run as they stand there, with the simulator's
addresses and key. The page is synchronous, so its blocks run in a thread, through a portal; the one that awaits runs in
trio.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from seed_blocks import DOCUMENTS, REWRITES, fenced

from engine import EngineNotRunning, gather, open_engine
from engine.clients import inferneo
from engine.clients.inferneo import AsyncInferneoClient, InferneoClient, blocking
from engine.portal import open_portal
from engine.simulator import Simulator, SimulatorConfig, serve

PAGE = "inferneo-client.md"
KEY = "key-of-the-test-8d1f"
MODELS = ("meta-llama/Llama-2-7b-chat-hf", "another")


PYTHON = fenced(PAGE)
NAMES = (
    "quick_start", "signature_client", "configured", "signature_completions", "completion", "completion_stream",
    "signature_chat", "chat", "chat_stream", "signature_list", "models_list", "signature_get", "models_get",
    "signature_info", "info", "errors", "retry", "batch", "headers", "logging", "classes_completion", "classes_chat",
    "class_model", "class_info",
)  # fmt: skip
BLOCKS = dict(zip(NAMES, PYTHON, strict=True))
"""What each block shows, in the order of the page."""

SIGNATURES = [name for name in NAMES if name.startswith("signature")]
CLASSES = [name for name in NAMES if name.startswith("class")]
RUN = [name for name in NAMES if name not in (*SIGNATURES, *CLASSES)]


class Stage:
    """Where blocks run: their names, what they printed, and the simulator with the rewrites that lead to it."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.printed: list[str] = []
        self.names: dict[str, Any] = {"print": self._print, "gather": gather}
        self.rewrites = {
            **REWRITES,
            "from inferneo import": "from engine.clients.inferneo import",
            "import asyncio\n": "",
            "http://localhost:8000": simulator.address("inferneo"),
            "https://api.inferneo.ai": simulator.address("inferneo"),
            "your-api-key": KEY,
        }

    def _print(self, *things: object, end: str = "\n") -> None:
        self.printed.append(" ".join(map(str, things)) + end)

    def run_here(self, *blocks: str) -> None:
        """Run blocks as a program without a loop runs them."""
        for block in blocks:
            exec(compile(BLOCKS[block].text(self.rewrites), PAGE, "exec"), self.names)  # noqa: S102  # that is the test

    async def run(self, *blocks: str) -> None:
        """The same, in a thread."""
        with trio.fail_after(60):
            await trio.to_thread.run_sync(self.run_here, *blocks)


@pytest.fixture
async def stage(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.delenv("INFERNEO_API_KEY", raising=False)
    simulator = await nursery.start(serve, SimulatorConfig(output_tokens=5, models=MODELS))
    portal = open_portal()  # in the place of the process-wide one, which would keep its connections
    monkeypatch.setattr(blocking, "default_portal", lambda: portal)
    await trio.to_thread.run_sync(portal.__enter__)
    try:
        yield Stage(simulator)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(portal.__exit__, None, None, None)
        nursery.cancel_scope.cancel()


# --- the page ---


def test_the_page_was_read() -> None:
    assert len(fenced(PAGE, "bash")) == 1  # the installation
    assert (DOCUMENTS / PAGE).read_text("utf-8").count("```") == 2 * (len(PYTHON) + 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIGNATURES])
def test_every_block_is_python(name: str) -> None:
    assert BLOCKS[name].statements()


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_signature_is_ours(name: str) -> None:
    """A signature is no Python; its names, their order and their defaults are read from it."""
    text = BLOCKS[name].text({}).strip()
    called = re.match(r"[\w.]+", text)
    assert called is not None
    result = text.partition("->")[2].strip()
    parameters = re.findall(r"^    (\w+): .*?(?: = ([^,\n]+))?,?$", text, re.MULTILINE)
    if one_line := re.fullmatch(r"[\w.]+\((\w+): \w+\) -> \w+", text):
        parameters = [(one_line[1], "")]
    ours = SUBJECTS[called[0]]
    known = [one for one in inspect.signature(ours).parameters.values() if one.name not in ("self", "kwargs")]
    plain = [one for one in known if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [one.name for one in plain] == [parameter for parameter, _ in parameters]
    for one, (_, default) in zip(plain, parameters, strict=True):
        assert one.default == (ast.literal_eval(default) if default else inspect.Parameter.empty)
    if "**kwargs" in text:
        assert any(one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(ours).parameters.values())
    assert not result or hasattr(inferneo, result) or result == "List[Model]"


SUBJECTS: dict[str, Any] = {
    "InferneoClient": InferneoClient,
    "client.completions.create": InferneoClient().completions.create,
    "client.chat.completions.create": InferneoClient().chat.completions.create,
    "client.models.list": InferneoClient().models.list,
    "client.models.get": InferneoClient().models.get,
    "client.info": InferneoClient().info,
}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_the_fields_of_the_page(name: str) -> None:
    for statement in BLOCKS[name].statements():
        assert isinstance(statement, ast.ClassDef)
        ours = getattr(inferneo, statement.name)
        fields = [one.target.id for one in statement.body if isinstance(one, ast.AnnAssign)]  # type: ignore[union-attr]
        assert fields
        made = ours()
        assert [field for field in fields if not hasattr(made, field)] == []


# --- the blocks ---


async def test_quick_start(stage: Stage) -> None:
    await stage.run("quick_start")
    assert stage.names["response"].choices[0].message.content


async def test_the_configured_client(stage: Stage) -> None:
    await stage.run("quick_start", "configured")
    client = stage.names["client"]
    assert (client._service._options["timeout_s"], client._service._options["max_attempts"]) == (60.0, 6)


@pytest.mark.parametrize("block", ["completion", "chat"])
async def test_an_answer_is_printed(block: str, stage: Stage) -> None:
    await stage.run("quick_start", block)
    (text,) = stage.printed
    assert len(text.split()) > 10
    assert stage.names["response"].usage.completion_tokens == (100 if block == "completion" else 150)


@pytest.mark.parametrize("block", ["completion_stream", "chat_stream"])
async def test_a_stream_is_printed_piece_by_piece(block: str, stage: Stage) -> None:
    await stage.run("quick_start", block)
    assert len(stage.printed) > 10
    assert [end.ending for end in stage.simulator.ends()] == ["done"]


async def test_the_models(stage: Stage) -> None:
    """The server as it is has one model, no address for it, and tells neither parameters nor format."""
    await stage.run("quick_start", "models_list", "models_get")
    model = f"{MODELS[0]}\nParameters: None\nFormat: None\n"
    assert "".join(stage.printed) == f"Model: {model}Model ID: {model}"


async def test_the_models_as_documented(stage: Stage) -> None:
    stage.rewrites["http://localhost:8000"] = stage.simulator.address("inferneo_documented")
    await stage.run("quick_start", "models_list", "models_get")
    assert [line for line in stage.printed if line.startswith("Model: ")] == [f"Model: {name}\n" for name in MODELS]


async def test_the_servers_information(stage: Stage) -> None:
    await stage.run("quick_start", "info")
    version, models, memory = stage.printed
    assert version == "Server version: unknown\n"
    assert models == f"Models loaded: {[MODELS[0]]}\n"
    assert "total_bytes" in memory


async def test_error_handling(stage: Stage) -> None:
    """An invalid model is served by the real server, which checks none; so a server that refuses stands in."""
    await stage.run("quick_start", "errors")
    assert stage.printed == []
    stage.names["client"] = InferneoClient(stage.simulator.base_url + "/nothing", max_retries=0)
    await stage.run("errors")
    assert stage.printed[0].startswith("API Error: Unknown path")
    assert stage.printed[1] == "Status Code: 404\n"
    stage.printed.clear()
    stage.names["client"] = InferneoClient("http://127.0.0.1:9", max_retries=0)
    await stage.run("errors")
    assert stage.printed[0].startswith("General Error: ")


async def test_the_retry_recipe(stage: Stage) -> None:
    pytest.importorskip("tenacity", reason="needs tenacity, of the extra test")
    await stage.run("quick_start", "retry")
    make, client = stage.names["make_request_with_retry"], stage.names["client"]
    messages = [{"role": "user", "content": "Hello"}]
    answer = await trio.to_thread.run_sync(make, client, messages)
    assert answer.choices[0].message.content
    assert make.statistics["attempt_number"] == 1


async def test_batch_processing(stage: Stage) -> None:
    async with open_engine():
        await BLOCKS["batch"].run(stage.names, stage.rewrites)
    assert len(stage.names["responses"]) == 3
    assert all(one.choices[0].text for one in stage.names["responses"])
    assert stage.simulator.statistics().accepted == 3
    assert isinstance(stage.names["async_client"], AsyncInferneoClient)


async def test_batch_processing_without_an_engine_says_what_is_missing(stage: Stage) -> None:
    """Of each of the three calls, since they run at once."""
    with pytest.raises(ExceptionGroup) as caught:
        await BLOCKS["batch"].run(stage.names, stage.rewrites)
    assert [type(error) for error in caught.value.exceptions] == [EngineNotRunning] * 3


async def test_custom_headers(stage: Stage) -> None:
    await stage.run("quick_start", "headers")
    assert dict(stage.names["client"]._service.chat.endpoint.spec.headers) == {
        "user-agent": "MyApp/1.0",
        "x-custom-header": "custom-value",
    }


async def test_request_logging(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.run("quick_start")
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)  # which basicConfig does where no test has a handler there
    try:
        await stage.run("logging")
    finally:
        logging.getLogger().setLevel(level)
    lines = [record.getMessage() for record in caplog.records if record.name == "penstock"]
    assert any("request" in line for line in lines)
    assert KEY not in caplog.text


def test_every_block_that_can_run_is_run_above() -> None:
    source = inspect.getsource(inspect.getmodule(Stage))  # type: ignore[arg-type]  # this one
    tested = source.partition("# --- the blocks ---")[2]
    assert [name for name in RUN if f'"{name}"' not in tested] == []
