"""Chunks of Inferneo's streams: one for each event, at its place, with a choice always; and how long one may take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from inferneo_server import CHAT, DONE, KEY, PROMPT, USAGE, Reply, Server, chat_event, completion_event, event
from virtual_streams import StreamProvider, in_virtual_time, streaming_engine

from engine import HookRegistry
from engine.clients.inferneo import AsyncInferneoClient, InferneoClient, InferneoTimeoutError
from engine.clients.inferneo.events import ChatEvents, CompletionEvents
from engine.portal import BlockingEngine, open_portal
from engine.providers.completions import INFERNEO
from engine.providers.openai_chat import Dialect
from engine.providers.wire import StreamChunk


@pytest.fixture(scope="module")
def engine() -> Iterator[BlockingEngine]:
    with open_portal() as opened:
        yield opened


@pytest.fixture
def client(server: Server, engine: BlockingEngine) -> InferneoClient:
    return InferneoClient(server.url, engine=engine)


def as_the_page(client: InferneoClient) -> str:
    """The loop of Inferneo's page."""
    said = ""
    for chunk in client.completions.create(**PROMPT, stream=True):
        if chunk.choices[0].text:
            said += chunk.choices[0].text
    return said


def as_the_page_chats(client: InferneoClient) -> str:
    said = ""
    for chunk in client.chat.completions.create(**CHAT, stream=True):
        if chunk.choices[0].delta.content:
            said += chunk.choices[0].delta.content
    return said


# --- one chunk for each event ---


def test_a_stream_that_does_not_say_why_it_ends_has_no_chunk_more(server: Server, client: InferneoClient) -> None:
    server.answers = [Reply(pieces=[completion_event("a"), completion_event("b"), DONE])] * 2
    chunks = list(client.completions.create(**PROMPT, stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == ["a", "b"]
    assert as_the_page(client) == "ab"
    server.answers = [Reply(pieces=[chat_event(content="a"), chat_event(content="b"), DONE])] * 2
    told = list(client.chat.completions.create(**CHAT, stream=True))
    assert [chunk.choices[0].delta.content for chunk in told] == ["a", "b"]
    assert as_the_page_chats(client) == "ab"


@pytest.mark.parametrize("first", [True, False])
def test_an_event_without_choices_is_a_chunk_with_an_empty_one(
    first: bool, server: Server, client: InferneoClient
) -> None:
    """A usage, or what a proxy says of the prompt: at its place, and the page's loop goes over it."""
    usage = event({"id": "c", "choices": [], "usage": USAGE, "filter": {"hate": "safe"}})
    asks: list[tuple[Any, dict[str, Any], list[bytes], Callable[[InferneoClient], str]]] = [
        (client.completions.create, PROMPT, [completion_event("a"), completion_event("", "stop")], as_the_page),
        (client.chat.completions.create, CHAT, [chat_event(content="a"), chat_event("stop")], as_the_page_chats),
    ]
    for create, least, said, page in asks:
        server.answers = [Reply(pieces=[usage, *said, DONE] if first else [*said, usage, DONE])]
        chunks = list(create(**least, stream=True))
        assert [chunk.usage is not None for chunk in chunks] == (
            [True, False, False] if first else [False, False, True]
        )
        empty = chunks[0 if first else -1]
        assert (len(empty.choices), empty.choices[0].index, empty.choices[0].finish_reason) == (1, 0, None)
        assert empty.extra == {"filter": {"hate": "safe"}}
        assert page(client) == "a"


def test_several_choices_come_as_they_were_sent(server: Server, client: InferneoClient) -> None:
    """Also the ends of them, and what is told of both at once."""

    def of(index: int, finish: str | None = None, **fields: object) -> dict[str, object]:
        return {"index": index, "finish_reason": finish, **fields}

    texts = [
        [of(0, text="a")], [of(1, text="x"), of(0, text="b")], [of(0, "stop", text="")], [of(1, text="y")],
        [of(1, "length", text="")],
    ]  # fmt: skip
    server.answers = [Reply(pieces=[*[event({"id": "c", "choices": choices}) for choices in texts], DONE])]
    chunks = list(client.completions.create(**PROMPT, n=2, stream=True))  # type: ignore[call-overload]  # spread
    assert [[(one.index, one.text, one.finish_reason) for one in chunk.choices] for chunk in chunks] == [
        [(0, "a", None)], [(1, "x", None), (0, "b", None)], [(0, "", "stop")], [(1, "y", None)], [(1, "", "length")],
    ]  # fmt: skip
    deltas = [[of(0, delta={"role": "assistant"})], [of(0, "stop", delta={})], [of(1, "stop", delta={})]]
    server.answers = [Reply(pieces=[*[event({"id": "c", "choices": choices}) for choices in deltas], DONE])]
    told = list(client.chat.completions.create(**CHAT, n=2, stream=True))  # type: ignore[call-overload]  # spread
    assert [(chunk.choices[0].index, chunk.choices[0].finish_reason) for chunk in told] == [
        (0, None), (0, "stop"), (1, "stop"),
    ]  # fmt: skip


def test_what_is_no_chunk_is_passed_over(server: Server, client: InferneoClient) -> None:
    server.answers = [
        Reply(pieces=[event({"type": "ping"}), b"data: waiting\n\n", b": still here\n\n", completion_event("a"),
                      event({"choices": None}), completion_event("", "stop"), DONE])
    ]  # fmt: skip
    chunks = list(client.completions.create(**PROMPT, stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == ["a", ""]


LEAVES = st.none() | st.integers() | st.text(max_size=3) | st.just("stop")
FIELDS = st.sampled_from(["index", "text", "delta", "content", "role", "finish_reason", "message", "tool_calls"])
PARTS = st.recursive(LEAVES, lambda one: st.lists(one, max_size=2) | st.dictionaries(FIELDS, one, max_size=4))
EVENTS = st.lists(st.fixed_dictionaries({"n": st.integers(), "choices": st.lists(PARTS, max_size=2)}), max_size=8)


@pytest.mark.parametrize("wire", [ChatEvents(Dialect("inferneo")), CompletionEvents(INFERNEO)])
@given(events=EVENTS)
def test_every_event_is_told_once_and_in_its_order(wire: ChatEvents, events: list[dict[str, Any]]) -> None:
    """Whatever is in it, and nothing else at the end."""
    assembler = wire.assembler()
    chunks = [chunk for one in events for chunk in assembler.feed(json.dumps(one).encode())]
    chunks += [*assembler.feed(b"[DONE]"), *assembler.feed(b'{"choices": []}'), *assembler.end()]
    told: list[object] = []
    for chunk in chunks:
        found = chunk.metadata.get("event")
        if found is not None and not any(found is one for one in told):
            told.append(found)
    assert told == events


def test_handlers_of_chunks_see_what_they_see_of_any_model(server: Server, engine: BlockingEngine) -> None:
    seen = []

    def note(_event: object, kind: object, chunk: StreamChunk, **_: object) -> None:
        seen.append((kind, str(chunk)))

    hooks = HookRegistry(stream_handlers={"text": note, "result": note})
    client = InferneoClient(server.url, engine=engine, hook_registry=hooks)
    assert as_the_page(client) == " w0 w1"
    assert seen == [("text", " w0"), ("text", " w1"), ("result", "")]


# --- how long one may take ---

FIRST, NEXT = completion_event("a"), completion_event("b")
END = completion_event("", "stop") + DONE


async def timed(client: AsyncInferneoClient) -> tuple[str, float, str]:
    """What was read of a stream, after how many seconds it ended, and how, if not well."""
    began = trio.current_time()
    stream = await client.completions.create(**PROMPT, stream=True)
    read, failure = "", ""
    try:
        async for chunk in stream:
            read += chunk.choices[0].text
    except InferneoTimeoutError as error:
        failure = error.message
    return read, round(trio.current_time() - began, 1), failure


def client_of(timeout: float) -> AsyncInferneoClient:
    return AsyncInferneoClient("http://inferneo.example", KEY, timeout=timeout, max_retries=0)


@in_virtual_time
async def test_a_silence_longer_than_the_timeout_ends_a_stream() -> None:
    async with streaming_engine(StreamProvider([20.0, FIRST, 29.0, NEXT, 31.0, END])):
        read, seconds, failure = await timed(client_of(30))
    assert (read, seconds) == ("ab", 79)
    assert "longer than timeout" in failure  # as the client's argument is called


@in_virtual_time
async def test_a_stream_has_to_begin_within_the_timeout() -> None:
    async with streaming_engine(StreamProvider([31.0, FIRST, END])):
        read, seconds, failure = await timed(client_of(30))
    assert (read, seconds) == ("", 30)
    assert "begun within timeout" in failure


@in_virtual_time
async def test_a_whole_stream_may_take_an_hour_whatever_the_timeout() -> None:
    async with streaming_engine(StreamProvider([FIRST, *[29.0, NEXT] * 100, END])):
        assert await timed(client_of(30)) == ("a" + "b" * 100, 2_900, "")
    async with streaming_engine(StreamProvider([FIRST, *[29.0, NEXT] * 200, END])):
        read, seconds, failure = await timed(client_of(30))
    assert (read, seconds) == ("a" + "b" * 124, 3_600)
    assert "longer than its timeout" in failure


@in_virtual_time
async def test_and_longer_where_the_timeout_is_longer() -> None:
    async with streaming_engine(StreamProvider([7_000.0, FIRST, END])):
        assert await timed(client_of(7_200)) == ("a", 7_000, "")
