"""Which lines there are, whom they go to, and what they cost nobody: the application's configuration of structlog is
honoured, and nothing is put together when nobody listens."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

import engine.log
import engine.transports.target
from engine import open_engine
from engine.errors import ConnectFailed
from engine.log import debugging, listening, log
from engine.simulator import FaultRates, SimulatorConfig, serve
from engine.testing import ScriptedProvider, chat_reply, error_reply


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


async def a_call(faults: FaultRates | None = None) -> None:
    """One call to a simulated provider over a socket."""
    async with trio.open_nursery() as nursery:
        config = SimulatorConfig(key=KEY, faults=faults or FaultRates())
        simulator = await nursery.start(serve, config)
        async with open_engine():
            model = a_model("simulated-1", provider="mine", base_url=simulator.base_url)
            await model.invoke(messages=MESSAGES)
        nursery.cancel_scope.cancel()


def configured(**given: Any) -> io.StringIO:
    """Configure structlog as an application does, and return what it writes into."""
    written = io.StringIO()
    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        **{"processors": processors, "logger_factory": structlog.PrintLoggerFactory(file=written), **given}
    )
    return written


def events_in(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


# --- nobody listens ---------------------------------------------------------------------------------------------------


async def test_nothing_is_put_together_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(engine.log, "write", lambda level, event, *_: made.append(event))
    monkeypatch.setattr(engine.transports.target, "shown", lambda _: made.append("shown") or {})
    await a_call()
    assert made == []
    monkeypatch.setattr(logging.getLogger("penstock"), "level", logging.DEBUG)
    logging.getLogger("penstock").manager._clear_cache()  # type: ignore[attr-defined]
    await a_call()
    logging.getLogger("penstock").manager._clear_cache()  # type: ignore[attr-defined]
    assert made.count("shown") == 1
    assert {"engine opened", "request", "answer", "engine closed"} <= set(made)


async def test_a_configuration_that_lets_only_warnings_through_is_not_asked_to_write() -> None:
    written = configured(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    assert not debugging()
    assert listening(logging.WARNING)
    await a_call()
    log.warning("seen")
    assert [event["event"] for event in events_in(written)] == ["seen"]


# --- lines ------------------------------------------------------------------------------------------------------------


async def test_an_answer_says_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "penstock")
    await a_call(FaultRates(rate_limited=1.0, retry_after_s=0.01, only_first_attempts=1))
    first, second = [record.getMessage() for record in caplog.records if "event='answer'" in record.getMessage()]
    for part in ("status=429", "verdict='retry'", "error='RateLimited'", "too_many=", "wait_s=", "request_id='req_"):
        assert part in first
    for part in ("status=200", "verdict='done'", "ms=", "input_tokens=", "output_tokens=", "request_id='req_"):
        assert part in second
    waits = [record.getMessage() for record in caplog.records if "event='retrying'" in record.getMessage()]
    assert len(waits) == 1
    assert "reason='RateLimited'" in waits[0]
    assert any("event='barrier'" in record.getMessage() for record in caplog.records)


@in_virtual_time
async def test_connections_that_fail_have_a_line_with_the_reason() -> None:
    written = configured()
    provider = ScriptedProvider(connect_failures=2)
    async with virtual_engine(provider):
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
    events = events_in(written)
    failed = [event for event in events if event["event"] == "connection failed"]
    assert len(failed) == 2
    assert all(event["endpoint"].startswith("openai ") and event["error"] for event in failed)
    assert events[-1]["event"] == "engine closed"


@in_virtual_time
async def test_an_engine_that_is_left_by_an_exception_says_so() -> None:
    written = configured()
    with pytest.raises(KeyError):
        async with virtual_engine(ScriptedProvider()):
            raise KeyError
    assert events_in(written)[-1]["error"] == "KeyError"


@in_virtual_time
async def test_an_endpoint_that_is_started_again_is_a_warning() -> None:
    written = configured()

    class Broken:
        """A transport with a bug in it, once for each connection."""

        left = 1

        def __init__(self, real: Any) -> None:
            self.real = real

        async def connect(self) -> Any:
            if Broken.left:
                Broken.left -= 1
                raise RuntimeError(f"a bug, with {KEY}")
            return await self.real.connect()

    provider = ScriptedProvider()
    await trio.sleep(1)
    async with open_engine(transport=lambda account, learn: Broken(provider(account, learn))):
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
    warned = [event for event in events_in(written) if event["level"] == "warning"]
    assert [event["event"] for event in warned] == ["endpoint restarted"]
    assert "a bug" in warned[0]["error"]
    assert KEY not in written.getvalue()


# --- the application's structlog --------------------------------------------------------------------------------------


async def test_its_processors_and_context_are_honoured(capsys: pytest.CaptureFixture[str]) -> None:
    written = configured()
    with structlog.contextvars.bound_contextvars(tenant="acme"):
        await a_call()
    events = events_in(written)
    answers = [event for event in events if event["event"] == "answer"]
    assert [(event["status"], event["level"], event["tenant"]) for event in answers] == [(200, "debug", "acme")]
    assert capsys.readouterr() == ("", "")


async def test_without_a_configuration_the_context_is_in_the_standard_librarys_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "penstock")
    with structlog.contextvars.bound_contextvars(tenant="acme", held=KEY):
        await a_call()
    assert any("event='answer'" in line and "tenant='acme'" in line for line in caplog.messages)
    assert KEY not in caplog.text


def test_its_wrapper_class_is_honoured() -> None:
    class Tagging(structlog.BoundLogger):
        def debug(self, event: str, **fields: Any) -> Any:
            return self._proxy_to_logger("debug", f"[ours] {event}", **fields)

    written = configured(wrapper_class=Tagging)
    assert debugging()
    log.debug("seen", n=1)
    assert events_in(written) == [{"event": "[ours] seen", "n": 1, "level": "debug"}]


def test_its_logger_factory_is_honoured(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock")
    configured(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
    assert not debugging()
    assert listening(logging.INFO)
    log.info("seen", n=1)
    assert [(record.name, record.levelname) for record in caplog.records] == [("penstock", "INFO")]
    assert '"n": 1' in caplog.text


def test_a_factory_may_take_no_name() -> None:
    written = io.StringIO()
    configured(logger_factory=lambda: structlog.PrintLogger(file=written))
    log.info("seen")
    assert events_in(written)[0]["event"] == "seen"


def test_a_generic_wrapper_over_the_standard_library_is_asked_rightly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "penstock")
    configured(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.BoundLogger)
    assert not debugging()
    assert caplog.text == ""


def test_a_change_of_the_configuration_is_seen_at_once() -> None:
    configured(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    assert not debugging()
    second = configured(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    assert debugging()
    log.debug("seen")
    assert len(events_in(second)) == 1
    structlog.reset_defaults()
    assert not debugging()


def test_structlogs_own_way_to_test_lines_works() -> None:
    with structlog.testing.capture_logs() as lines:
        log.info("seen", held=KEY)
    assert lines == [{"event": "seen", "held": "[key removed]", "log_level": "info"}]


@in_virtual_time
async def test_a_processor_that_raises_costs_no_call() -> None:
    def broken(*_: Any) -> Any:
        raise ConnectFailed("a processor's bug")

    configured(processors=[broken])
    async with virtual_engine(ScriptedProvider([error_reply(503, "out"), chat_reply("yes")])):
        assert (await a_model().invoke(messages=MESSAGES)).text == "yes"
