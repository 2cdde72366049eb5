"""`CallLog`: a line as a call begins and one when it has ended, where the user wants them, without its words."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio

from engine import Call, Engine, HookRegistry, UsageError, iModel, open_engine, testing
from engine.hooks import HookEventTypes
from engine.ready.call_log import TEXT_CHARS, CallLog, CallLogStatistics
from engine.testing import ScriptedProvider, assert_quiet, chat_reply, error_reply

KEY = "Zq7plainkeywithoutanyshape"
QUESTION = "a private question"
ANSWER = "a private answer"

in_virtual_time = testing.in_virtual_time(seed=None)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def json_logger() -> tuple[Any, io.StringIO]:
    """A logger of the user's own, and what it writes into."""
    written = io.StringIO()
    processors = [structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    return structlog.wrap_logger(structlog.PrintLogger(file=written), processors=processors), written


def events_in(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


@asynccontextmanager
async def logged_engine(log: CallLog, *says: Any) -> AsyncIterator[tuple[Engine, iModel]]:
    await trio.sleep(1.0)
    provider = ScriptedProvider(list(says) or ANSWER, delay_s=0.5)
    async with open_engine(transport=provider, hooks=HookRegistry().use(log)) as engine:
        yield engine, iModel(model="gpt-4o", api_key=KEY, lane="work")
    assert_quiet(engine)


async def ask(model: iModel, content: str = QUESTION, **options: Any) -> Call:
    return await model.invoke(messages=[{"role": "user", "content": content}], **options)


@in_virtual_time
async def test_a_call_has_two_lines_with_what_became_of_it() -> None:
    logger, written = json_logger()
    log = CallLog(logger)
    async with logged_engine(log) as (engine, model):
        call = await ask(model, flow="tenant-a")
        assert engine.statistics().extensions == (CallLogStatistics(1, 1, 0),)
    began, ended = events_in(written)
    where = {"call": call.id, "model": "gpt-4o", "lane": "work", "flow": "tenant-a", "level": "info"}
    assert began == {**where, "event": "call begins", "endpoint": model.endpoint_name}
    assert ended.items() >= {**where, "event": "call ended", "status": "completed", "attempts": 1}.items()
    assert ended["http_status"] == 200
    assert ended["cached"] is False
    assert (ended["answering_s"], ended["total_s"]) == (0.5, call.timings.total_s if call.timings else None)
    assert call.usage is not None
    assert (ended["input_tokens"], ended["output_tokens"]) == (call.usage.input_tokens, call.usage.output_tokens)
    assert "error" not in ended
    assert "private" not in written.getvalue()


@in_virtual_time
async def test_a_failure_says_its_kind_and_not_its_words() -> None:
    logger, written = json_logger()
    refusal = error_reply(400, f"we do not like {QUESTION}", headers={"x-request-id": "req-7"})
    async with logged_engine(CallLog(logger), refusal) as (_, model):
        call = await ask(model)
    ended = events_in(written)[-1]
    assert (ended["status"], ended["error"], ended["http_status"]) == ("failed", type(call.error).__name__, 400)
    assert ended["request_id"] == "req-7"
    assert ended["input_tokens"] is None
    assert "private" not in written.getvalue()


@in_virtual_time
async def test_attempts_are_counted_and_their_wait_is_told() -> None:
    logger, written = json_logger()
    async with logged_engine(CallLog(logger), error_reply(503, "out"), chat_reply(ANSWER)) as (_, model):
        call = await ask(model)
    ended = events_in(written)[-1]
    assert (ended["status"], ended["attempts"]) == ("completed", 2)
    assert call.timings is not None
    assert ended["waited_s"] == call.timings.waited_s


@in_virtual_time
async def test_a_call_that_a_handler_answered_is_a_cached_one() -> None:
    logger, written = json_logger()
    async with logged_engine(CallLog(logger), chat_reply(ANSWER)) as (_, model):
        first = await ask(model)

        async def remembered(call: Call, **_: Any) -> Call:
            return first

        other = iModel(model="gpt-4o", api_key=KEY, lane="work", hook_registry={"pre_invocation": remembered})
        second = await ask(other)
    assert second.text == ANSWER
    ended = [event for event in events_in(written) if event["event"] == "call ended"]
    assert [(event["cached"], event["attempts"]) for event in ended] == [(False, 1), (True, 0)]


@in_virtual_time
async def test_words_are_logged_where_that_is_asked_for_without_keys_and_short() -> None:
    logger, written = json_logger()
    told = f"{ANSWER} with {KEY} " + "x" * 5000
    refusal = error_reply(400, "we do not like it")
    async with logged_engine(CallLog(logger, texts=True), chat_reply(told), refusal) as (_, model):
        await ask(model, f"{QUESTION} {KEY}")
        await ask(model)
    began, ended, _, failed = events_in(written)
    assert QUESTION in began["asked"]
    assert ANSWER in ended["answered"]
    assert len(ended["answered"]) == TEXT_CHARS
    assert "message" not in ended
    assert "we do not like it" in failed["message"]
    assert "Zq7plain" not in written.getvalue()


@in_virtual_time
async def test_its_lines_go_where_the_engines_own_go_and_know_the_submitters_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "penstock")
    async with logged_engine(CallLog()) as (_, model):
        with structlog.contextvars.bound_contextvars(request="r-1"):
            await ask(model)
    assert [(record.name, record.levelname) for record in caplog.records] == [("penstock", "INFO")] * 2
    assert all("request='r-1'" in line for line in caplog.messages)


@in_virtual_time
async def test_the_applications_structlog_is_honoured() -> None:
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=written),
    )
    async with logged_engine(CallLog()) as (_, model):
        with structlog.contextvars.bound_contextvars(request="r-1"):
            await ask(model)
    assert [(event["event"], event["request"]) for event in events_in(written)] == [
        ("call begins", "r-1"),
        ("call ended", "r-1"),
    ]


@in_virtual_time
async def test_a_logger_of_the_standard_librarys_will_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mine")
    quiet, loud = CallLog(logging.getLogger("mine")), CallLog(logging.getLogger("mine"), "warning")
    await trio.sleep(1.0)
    async with open_engine(transport=ScriptedProvider(), hooks=HookRegistry().use(quiet, loud)):
        await ask(iModel(model="gpt-4o", api_key=KEY))
    assert [(record.name, record.levelname) for record in caplog.records] == [("mine", "WARNING")] * 2
    assert (quiet.statistics(), loud.statistics()) == (CallLogStatistics(), CallLogStatistics(1, 1, 0))


@in_virtual_time
async def test_a_logger_that_raises_costs_no_call_and_is_counted() -> None:
    class Broken:
        def info(self, *_: Any, **__: Any) -> None:
            raise OSError("the disk is full")

    log = CallLog(Broken())
    async with logged_engine(log) as (_, model):
        assert (await ask(model)).text == ANSWER
    assert log.statistics() == CallLogStatistics(0, 0, 2)


@in_virtual_time
async def test_its_handlers_never_wait() -> None:
    logger, _ = json_logger()
    handlers = CallLog(logger, texts=True).handlers()
    assert list(handlers) == [HookEventTypes.PreInvocation, HookEventTypes.PostInvocation]
    async with logged_engine(CallLog()) as (_, model):
        call = await ask(model)
        with trio.testing.assert_no_checkpoints():
            for handler in handlers.values():
                assert await handler(call, exit=False) is None


@pytest.mark.parametrize("level", ["loud", "", None, 10])
def test_a_level_that_there_is_none_of_is_refused(level: Any) -> None:
    with pytest.raises(UsageError, match="debug, info, warning, error"):
        CallLog(level=level)


@in_virtual_time
async def test_a_call_without_arguments_that_can_be_written_has_no_words() -> None:
    """Driven directly: such a call never comes to a handler."""
    logger, written = json_logger()
    call = iModel(model="gpt-4o", api_key=KEY).create_api_calling(messages=object())
    for handler in CallLog(logger, texts=True).handlers().values():
        await handler(call, exit=False)
    assert len(events_in(written)) == 2
