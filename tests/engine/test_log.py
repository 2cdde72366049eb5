"""Silence by default, requests at DEBUG, and no key anywhere: not in a log line, a repr, an error, or a pickle.

The key is a sentinel that is looked for in everything that can be shown. The log lines are those of real requests over
a socket, httpx's and httpcore's own included.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import rich.pretty
import trio
import trio.testing
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import Call, Overloaded, PenstockError, ShuttingDown, UsageError, iModel, open_engine
from engine.simulator import FaultRates, Simulator, SimulatorConfig, serve
from engine.testing import ProviderReply, Says, ScriptedProvider, chat_reply, error_reply, fault

ROOT = Path(__file__).parents[2]
SECRET = KEY.removeprefix("sk-")


def assert_hidden(*things: object) -> None:
    """No thing's repr, text or pretty form holds the key."""
    for thing in things:
        for shown in (repr(thing), str(thing), f"{thing}", rich.pretty.pretty_repr(thing)):
            assert SECRET not in shown, f"a {type(thing).__name__} shows the key"


async def talk(config: SimulatorConfig, use: Callable[[iModel], object]) -> tuple[Call, Simulator]:
    """One call to a simulated provider in this very loop."""
    async with trio.open_nursery() as nursery:
        simulator = await nursery.start(serve, config)
        async with open_engine():
            model = a_model("simulated-1", provider="mine", base_url=simulator.base_url)
            use(model)
            call = await model.invoke(messages=MESSAGES)
        nursery.cancel_scope.cancel()
    return call, simulator


# --- logging ---

PROGRAM = """
import trio
from engine import iModel, open_engine
from engine.simulator import SimulatorConfig, simulated_provider
{configure}
async def main():
    async with simulated_provider(SimulatorConfig(key={key!r})) as provider, open_engine():
        model = iModel(provider="mine", model="simulated-1", base_url=provider.base_url, api_key={key!r})
        call = await model.invoke(messages=[{{"role": "user", "content": "a private question"}}])
        assert call.raise_for_status().text
        other = iModel(provider="mine", model="simulated-1", base_url=provider.base_url, api_key="sk-other-000000")
        assert (await other.invoke(messages=[{{"role": "user", "content": "x"}}])).status == "failed"
        nobody = iModel(provider="mine", model="simulated-1", base_url="http://127.0.0.1:1/v1", api_key="sk-other")
        assert (await nobody.invoke(messages=[{{"role": "user", "content": "x"}}], deadline_s=1)).status == "failed"
        async def handler(call, **_):
            raise RuntimeError("a handler's failure")
        handled = iModel(provider="mine", model="simulated-1", base_url=provider.base_url, api_key={key!r},
                         hook_registry={{"post_invocation": handler}})
        assert (await handled.invoke(messages=[{{"role": "user", "content": "x"}}])).status == "completed"
trio.run(main)
"""


def run_program(configure: str, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    return subprocess.run(  # noqa: S603  # this very interpreter
        [sys.executable, "-W", "error", "-c", PROGRAM.format(configure=configure, key=KEY)],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(ROOT), "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_it_is_silent_by_default_and_writes_no_file(tmp_path: Path) -> None:
    ran = run_program("", tmp_path)
    assert (ran.stdout, ran.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_requests_and_neither_key_nor_words(tmp_path: Path) -> None:
    ran = run_program("import logging; logging.basicConfig(level=logging.DEBUG)", tmp_path)
    assert ran.stdout == ""
    ours = [line for line in ran.stderr.splitlines() if line.startswith("DEBUG:penstock:")]
    assert len(ours) >= 2
    assert any("127.0.0.1" in line and "200" in line for line in ours)
    for event in ("engine opened", "connection opened", "request", "answer", "connection failed", "retrying", "ended"):
        assert any(f"event='{event}'" in line for line in ours), event
    assert any("draining" in line for line in ours)
    assert "engine closed" in ours[-1]
    assert any(line.startswith("WARNING:penstock:event='handler failed'") for line in ran.stderr.splitlines())
    assert SECRET not in ran.stderr
    assert "a private question" not in ran.stderr


def test_importing_configures_no_logging() -> None:
    check = (
        "import logging, engine; root = logging.getLogger(); ours = logging.getLogger('penstock');"
        "assert not root.handlers and root.level == logging.WARNING;"
        "assert [type(h) for h in ours.handlers] == [logging.NullHandler] and ours.level == 0 and ours.propagate"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(  # noqa: S603  # this very interpreter
        [sys.executable, "-c", check], env=environment, check=True, timeout=60
    )


@pytest.mark.parametrize(
    "faults",
    [FaultRates(), FaultRates(html=1.0), FaultRates(malformed_json=1.0), FaultRates(reset_after=1.0)],
    ids=["none", "html", "malformed_json", "reset_after"],
)
async def test_no_line_at_debug_holds_the_key(faults: FaultRates, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    call, _ = await talk(SimulatorConfig(key=KEY, faults=faults), assert_hidden)
    assert call.mail is not None
    assert_hidden(call, call.error, call.reply, call.response, call.view, call.payload)
    assert SECRET not in caplog.text
    for record in caplog.records:
        assert SECRET not in repr(record.args)
        assert SECRET not in record.getMessage()


async def test_a_refused_key_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    call, _ = await talk(SimulatorConfig(key="sk-another-key-0000"), assert_hidden)
    assert call.status == "failed"
    assert_hidden(call, call.error, call.reply)
    assert SECRET not in caplog.text


# --- everything that can be shown ---


@in_virtual_time
async def test_nothing_that_can_be_shown_holds_the_key() -> None:
    provider = ScriptedProvider([chat_reply(delay_s=5), fault("stall")])
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=5, lane="work")
        call = await engine.submit(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        observer = engine.observe()
        stream = engine.map([model.create_api_calling(messages=MESSAGES)])
        statistics = engine.statistics()
        assert_hidden(engine, model, call, stream, observer, statistics, model.lane, model.format, call.options)
        assert_hidden(provider.accounts[0], engine.__dict__, model.account())
        assert SECRET.encode() not in msgspec.json.encode(statistics)
        await call.wait()
        assert_hidden(call, call.timings, call.usage, call.reply, call.ended)
        await stream.aclose()


def fails_before_it_is_queued(kind: str) -> PenstockError:
    """An error that `submit` raises."""

    async def main() -> None:
        async with virtual_engine(ScriptedProvider()) as engine:
            model = a_model(limit_tokens=100, limit_requests=1, queue_capacity=1)
            call = model.create_api_calling(messages=MESSAGES, max_tokens=10)
            if kind == "CapacityExceeded":
                engine.submit_nowait(model.create_api_calling(messages=MESSAGES, max_tokens=1000))
            elif kind == "InvalidCall":
                engine.submit_nowait(model.create_api_calling(messages=MESSAGES, temperature=KEY))
            elif kind == "ShuttingDown":
                await engine.drain()
                engine.submit_nowait(call)
            elif kind == "DeadlineExceeded":
                await engine.invoke(call)
                await engine.submit(model.create_api_calling(messages=MESSAGES, deadline_s=1))
            else:
                await engine.invoke(call)
                try:
                    for _ in range(3):
                        engine.submit_nowait(model.create_api_calling(messages=MESSAGES, max_tokens=10))
                finally:
                    await engine.drain(queue="discard")

    try:
        in_virtual_time(main)()
    except PenstockError as error:
        return error
    raise AssertionError(f"{kind} was not raised")


@pytest.mark.parametrize("kind", ["CapacityExceeded", "InvalidCall", "ShuttingDown", "DeadlineExceeded", "Overloaded"])
def test_no_error_before_a_call_is_queued_holds_the_key(kind: str) -> None:
    error = fails_before_it_is_queued(kind)
    assert type(error).__name__ == kind
    assert_hidden(error, error.args)
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):  # not every error need be picklable
        assert SECRET.encode() not in pickle.dumps(error)


@pytest.mark.parametrize(
    "said",
    [
        error_reply(401, f"Incorrect API key provided: {KEY}"),
        error_reply(400, f"headers: authorization: Bearer {KEY}", code=KEY),
        error_reply(503, "out of order", headers={"x-request-id": KEY}),
        ProviderReply(status=500, body=f"<html>{KEY}</html>".encode()),
        error_reply(200, f"Bearer {KEY} is not known"),
        fault("cut"),
        fault("stall"),
    ],
    ids=["401", "400", "503", "page", "200", "lost", "timeout"],
)
@in_virtual_time
async def test_no_error_of_an_attempt_holds_the_key(said: Says) -> None:
    async with virtual_engine(ScriptedProvider(said)):
        call = await a_model().invoke(messages=MESSAGES, timeout_s=5)
    assert call.error is not None
    assert_hidden(call, call.error, call.error.args, vars(call.error).get("message"))
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):  # not every error need be picklable
        assert SECRET.encode() not in pickle.dumps(call.error)


@in_virtual_time
async def test_a_pickled_error_keeps_what_it_says() -> None:
    async with virtual_engine(ScriptedProvider(error_reply(400, "too warm", code="bad"))):
        call = await a_model().invoke(messages=MESSAGES)
    copied = pickle.loads(pickle.dumps(call.error))  # noqa: S301  # written the moment before
    assert (type(copied), repr(copied)) == (type(call.error), repr(call.error))


@pytest.mark.parametrize("what", ["model", "call", "account"])
@in_virtual_time
async def test_what_knows_the_key_is_not_pickled_with_it(what: str) -> None:
    async with virtual_engine(ScriptedProvider()):
        model = a_model()
        thing = {"model": model, "call": model.create_api_calling(messages=MESSAGES), "account": model.account()}[what]
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError, UsageError):  # refusing is fine
            assert SECRET.encode() not in pickle.dumps(thing)


def test_errors_that_carry_a_call_do_not_show_it() -> None:
    call = a_model().create_api_calling(messages=MESSAGES)
    for kind in (Overloaded, ShuttingDown):
        error = kind("full", call=call)
        assert error.call is call
        assert "object" not in repr(error)
        assert_hidden(error)


# --- the page about it ---

PAGE = (ROOT / "docs" / "logging.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_about_logging_shows_runs(block: str, tmp_path: Path) -> None:
    ran = subprocess.run(  # noqa: S603  # this very interpreter
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    if "CallLog" in block:
        assert ran.stdout == "(CallLogStatistics(began=1, ended=1, lost=0),)\n"
        assert [line.partition(" call=")[0] for line in ran.stderr.splitlines()] == [
            "INFO:penstock:event='call begins'",
            "INFO:penstock:event='call ended'",
        ]
    else:
        assert ran.stderr == ""


def test_the_page_about_logging_names_the_events_that_there_are() -> None:
    table = set(
        re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \| (?:debug|warning|error) ", PAGE, re.MULTILINE)))
    )
    sources = [path.read_text("utf-8") for path in (ROOT / "engine").rglob("*.py") if "simulator" not in path.parts]
    written = set(re.findall(r'\blog\.(?:debug|info|warning|error)\(\s*"([^"]+)"', "".join(sources)))
    assert table - {"retrying", "barrier", "unsent", "ended"} == written
