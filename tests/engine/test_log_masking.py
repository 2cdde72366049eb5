"""No key in what others composed: a line, a provider's error, its error event, another library's log, a traceback."""

from __future__ import annotations

import gc
import json
import logging
import traceback
from typing import Any

import httpx
import pytest
import structlog
import structlog.tracebacks
import trio
from echoing_provider import echoing_provider
from hypothesis import assume, given
from hypothesis import strategies as st
from virtual_provider import KEY, MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import HookRegistry, MissingKey, PenstockError, Vetoed, iModel, open_engine
from engine.config import EngineConfig, EngineSection
from engine.log import log, mask_foreign_lines, mask_keys
from engine.providers.wire import StreamChunk
from engine.secret import REMOVED, Secret, masked
from engine.streaming import ReplyStream
from engine.testing import ScriptedProvider

PLAIN_KEY = "Zq7/plain+key=with'no\"shape\\"
"""Not shaped like a key of anybody's: known only while somebody holds it."""

SECRET = KEY.removeprefix("sk-")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


# --- texts ------------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.sampled_from([str, repr, json.dumps]))
def test_a_key_that_is_held_is_masked_whatever_stands_around_it(before: str, after: str, shown: Any) -> None:
    held = Secret(PLAIN_KEY)
    assume(PLAIN_KEY not in before + after)
    for text in (shown(before + PLAIN_KEY + after), shown(before) + PLAIN_KEY + shown(after)):
        clean = masked(text)
        assert PLAIN_KEY not in clean
        assert shown(PLAIN_KEY)[1:-1] not in clean
        assert REMOVED in clean
    assert held.reveal() == PLAIN_KEY


@given(st.text(alphabet=st.characters(exclude_characters="0123456789*"), max_size=80))
def test_an_ordinary_text_is_left_as_it_is(text: str) -> None:
    held = Secret("ollama"), Secret(""), Secret(PLAIN_KEY)  # what is as short as a word is none
    assume("basic" not in text.lower() and "bearer" not in text.lower())
    assert masked(text) == text
    assert masked(f"ollama {text}") == f"ollama {text}"
    assert all(held[::2])


@pytest.mark.parametrize(
    "text",
    ["risk-adjusted numbers of 2024", "sk-learn is a library", "the bearer of news", "request 17 took 1.5 s", ""],
)
def test_these_words_stay(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "shape", ["sk-ant-api03-0123456789", "Bearer abcdef0123456789", "gsk_abc0123456789", "tvly-a1b2c3d4e5"]
)
def test_what_is_shaped_like_a_key_is_masked_though_nobody_holds_it(shape: str) -> None:
    assert shape.rpartition(" ")[2] not in masked(f"it said {shape}, and left")


def test_a_key_is_forgotten_with_the_last_who_holds_it() -> None:
    one, two = Secret("forget-me-not"), Secret("forget-me-not")
    assert masked("forget-me-not") == REMOVED
    del one
    assert masked("forget-me-not") == REMOVED
    del two
    gc.collect()
    assert masked("forget-me-not") == "forget-me-not"


def test_of_two_keys_the_longer_is_removed_whole() -> None:
    held = Secret("abcdefgh"), Secret("abcdefgh-and-more")
    assert masked("x abcdefgh-and-more y abcdefgh z") == f"x {REMOVED} y {REMOVED} z"
    assert all(held)


# --- the processor ----------------------------------------------------------------------------------------------------


class Shows:
    def __repr__(self) -> str:
        return f"<Shows {KEY}>"


def an_error() -> Exception:
    try:
        int(f"bad {KEY}")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        KEY.encode(),
        {"headers": {"authorization": f"Bearer {KEY}"}},
        {KEY: 1},
        [(KEY, [KEY])],
        {KEY},
        Shows(),
        [Shows()],
        an_error(),
        httpx.Headers({"x-api-key": KEY, "other": KEY}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_processor_masks_every_value(value: Any) -> None:
    event = mask_keys(None, "info", {"event": f"key {KEY}", "value": value, "n": 3, "ok": True, "none": None})
    assert SECRET not in repr(event)
    assert (event["n"], event["ok"], event["none"]) == (3, True, None)


@pytest.mark.parametrize("line", [f"event={KEY}", f'{{"a": "{KEY}"}}'.encode(), ((f"x {KEY}",), {"extra": {"k": KEY}})])
def test_it_masks_a_line_that_is_rendered_already(line: Any) -> None:
    assert SECRET not in repr(mask_keys(None, "info", line))


def test_a_value_without_a_key_stays_the_object_it_was() -> None:
    thing = object()
    error = ValueError("harmless")
    event = mask_keys(None, "info", {"event": "e", "thing": thing, "exc_info": error})
    assert event["thing"] is thing
    assert event["exc_info"] is error


def test_behind_a_renderer_it_masks_the_variables_of_frames() -> None:
    written: list[str] = []
    structlog.configure(
        processors=[structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(), mask_keys],
        logger_factory=lambda *_: structlog.PrintLogger(file=_File(written)),
    )
    try:
        _fail_with(KEY)
    finally:
        structlog.reset_defaults()
    assert "ZeroDivisionError" in "".join(written)
    assert SECRET not in "".join(written)
    assert REMOVED in "".join(written)


def _fail_with(held: str) -> None:
    try:
        _ = len(held) / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("it failed")


class _File:
    """Enough of a file for a `PrintLogger`."""

    def __init__(self, written: list[str]) -> None:
        self.write = written.append

    def flush(self) -> None:
        pass


def test_lines_of_the_library_are_masked(lines: pytest.LogCaptureFixture) -> None:
    held = Secret(PLAIN_KEY)
    log.warning(f"odd {PLAIN_KEY}", value=PLAIN_KEY, error=an_error())
    assert "odd" in lines.text
    assert "Zq7/plain" not in lines.text
    assert SECRET not in lines.text
    assert held


# --- what others say --------------------------------------------------------------------------------------------------


async def refused(base_url: str, http: Any) -> tuple[Any, iModel]:
    async with open_engine(EngineConfig(engine=EngineSection(http=http))):
        model = iModel(provider="mine", model="m", base_url=base_url, api_key=PLAIN_SHAPELESS)
        return await model.invoke(messages=MESSAGES), model


PLAIN_SHAPELESS = "Zq7plainkeywithoutanyshape"


@pytest.mark.parametrize("http", ["own", "httpx"])
async def test_a_provider_that_repeats_the_key_is_not_repeated(http: str, lines: pytest.LogCaptureFixture) -> None:
    async with echoing_provider() as base_url:
        call, model = await refused(base_url, http)
    assert call.status == "failed"
    assert call.error.request_id == f"req-{REMOVED}"
    for thing in (call, call.error, call.reply, call.response, bytes(call.reply.body), model):
        assert PLAIN_SHAPELESS not in repr(thing)
    assert any("answer" in record.getMessage() for record in lines.records if record.name == "penstock")
    assert any(record.name.startswith("httpcore") for record in lines.records) == (http == "httpx")
    for record in lines.records:
        assert PLAIN_SHAPELESS not in record.getMessage() + repr(record.args)


async def test_nor_in_a_clients_log(lines: pytest.LogCaptureFixture) -> None:
    async with echoing_provider() as base_url, httpx.AsyncClient() as client, open_engine():
        model = iModel(provider="mine", model="m", base_url=base_url, api_key=PLAIN_SHAPELESS, http_client=client)
        assert (await model.invoke(messages=MESSAGES)).status == "failed"
    assert any("x-seen" in record.getMessage() for record in lines.records), "httpcore says what came"
    assert PLAIN_SHAPELESS not in lines.text


@pytest.mark.parametrize("http", ["own", "httpx"])
async def test_the_error_event_of_a_stream_is_not_repeated(http: Any, lines: pytest.LogCaptureFixture) -> None:
    chunks: list[StreamChunk] = []
    async with echoing_provider(streamed=True) as base_url, open_engine(EngineConfig(engine=EngineSection(http=http))):
        model = iModel(provider="mine", model="m", base_url=base_url, api_key=PLAIN_SHAPELESS)
        stream = model.stream(messages=MESSAGES)
        with pytest.raises(PenstockError, match="no such key"):
            await _read(stream, chunks)
    assert [chunk.type for chunk in chunks][:1] == ["text"]
    assert "error" in [chunk.type for chunk in chunks]
    for thing in (chunks, [chunk.metadata for chunk in chunks], stream.call.response, bytes(stream.call.reply.body)):
        assert PLAIN_SHAPELESS not in repr(thing)
    assert PLAIN_SHAPELESS not in lines.text


async def _read(stream: ReplyStream, chunks: list[StreamChunk]) -> None:
    async for chunk in stream:
        chunks.append(chunk)  # noqa: PERF401  # what comes before the error is what is looked at


def test_the_headers_of_http2_are_masked(lines: pytest.LogCaptureFixture) -> None:
    hpack = pytest.importorskip("hpack")
    mask_foreign_lines()
    held = Secret(PLAIN_SHAPELESS)
    sent = hpack.Encoder().encode([("x-api-key", PLAIN_SHAPELESS), ("authorization", f"Bearer {PLAIN_SHAPELESS}")])
    hpack.Decoder().decode(sent)
    assert held
    assert "x-api-key" in lines.text
    assert PLAIN_SHAPELESS not in lines.text
    assert repr(bytes(sent))[2:20] not in lines.text, "the block itself can be read by anybody"


@pytest.mark.parametrize("phase", ["pre_event_create", "pre_invocation", "post_invocation"])
@in_virtual_time
async def test_what_a_handler_raises_is_masked(phase: str, lines: pytest.LogCaptureFixture) -> None:
    async def handler(call: Any, **_: Any) -> None:
        raise RuntimeError(f"cannot reach the cache with {PLAIN_SHAPELESS}")

    async with virtual_engine(ScriptedProvider()):
        model = a_model(api_key=PLAIN_SHAPELESS, hook_registry=HookRegistry({phase: handler}), exit_hook=True)
        call = await model.invoke(messages=MESSAGES)
    assert call.error is not None
    assert ("cannot reach the cache" in str(call.error)) == (phase != "post_invocation")
    assert PLAIN_SHAPELESS not in repr(call.error) + str(call.error)
    assert "handler failed" in lines.text
    assert PLAIN_SHAPELESS not in lines.text


@in_virtual_time
async def test_an_error_before_a_call_brings_no_frame_that_holds_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some loggers show every variable of every frame."""
    monkeypatch.setenv("ANOTHER_API_KEY", "another-key-of-the-environment")
    shown = structlog.tracebacks.ExceptionDictTransformer(show_locals=True, locals_max_string=100_000)
    async with virtual_engine(ScriptedProvider()):
        model = a_model(api_key=f"with spaces {PLAIN_SHAPELESS}")
        call = model.create_api_calling(messages=MESSAGES)
        for submit in (model.invoke, model.engine.submit, _nowait(model)):
            with pytest.raises(MissingKey) as caught:
                await submit(call)
            text = json.dumps(shown((type(caught.value), caught.value, caught.value.__traceback__)))
            ours = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            assert "bind" in ours
            assert PLAIN_SHAPELESS not in text
            assert "another-key-of-the-environment" not in text


def _nowait(model: iModel) -> Any:
    async def submit(call: Any) -> None:
        await trio.lowlevel.checkpoint()
        model.engine.submit_nowait(call)

    return submit


@in_virtual_time
async def test_a_veto_says_why_without_the_key() -> None:
    async def veto(call: Any, **_: Any) -> None:
        raise Vetoed(f"Bearer {KEY} may not")

    async with virtual_engine(ScriptedProvider()):
        call = await a_model(hook_registry=HookRegistry({"pre_invocation": veto})).invoke(messages=MESSAGES)
    assert call.status == "aborted"
    assert SECRET not in str(call.error)
