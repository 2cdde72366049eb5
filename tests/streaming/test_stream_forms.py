"""The forms in which a stream is read, what its call says afterwards, what may change its chunks, and its misuse."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from stream_bodies import ASK, DONE, END, FINISH, USAGE, USED, a_model, answer, at_rest, delta, read, sse, text, texts
from virtual_streams import JSON, Head, StreamProvider, in_virtual_time, streaming_engine

from engine import Engine, EngineNotRunning, InvalidCall, Rejected, ShuttingDown, iModel
from engine.call import Usage
from engine.providers.wire import StreamChunk, ToolCall
from engine.streaming import ReplyStream

HELLO = [0.25, text("Hel"), 0.5, text("lo"), END]


async def plainly(model: iModel) -> tuple[ReplyStream, list[StreamChunk]]:
    stream = model.stream(**ASK)
    return stream, [chunk async for chunk in stream]


async def awaited(model: iModel) -> tuple[ReplyStream, list[StreamChunk]]:
    stream = model.stream(**ASK)
    return stream, [chunk async for chunk in await stream]


async def in_a_block(model: iModel) -> tuple[ReplyStream, list[StreamChunk]]:
    async with model.stream(**ASK) as stream:
        return stream, [chunk async for chunk in stream]


async def awaited_in_a_block(model: iModel) -> tuple[ReplyStream, list[StreamChunk]]:
    async with await model.stream(model.create_api_calling(**ASK, stream=True)) as stream:
        return stream, [chunk async for chunk in stream]


async def by_the_engine(model: iModel) -> tuple[ReplyStream, list[StreamChunk]]:
    stream = model.engine.stream(model.create_api_calling(**ASK, stream=True))
    return stream, [chunk async for chunk in stream]


@pytest.mark.parametrize("form", [plainly, awaited, in_a_block, awaited_in_a_block, by_the_engine])
@in_virtual_time
async def test_every_form_reads_the_stream_and_leaves_a_finished_call(
    form: Callable[[iModel], Awaitable[tuple[ReplyStream, list[StreamChunk]]]],
) -> None:
    async with streaming_engine(StreamProvider(HELLO)):
        stream, chunks = await form(a_model())
        assert [chunk.type for chunk in chunks] == ["text", "text", "system", "result"]
        assert "".join(map(str, chunks)) == "Hello"
        assert chunks[-1].metadata["finish_reason"] == "stop"
        assert chunks[-1].metadata["usage"] == USAGE
        assert chunks[0].metadata["event"] == delta(content="Hel")
        call = stream.call
        assert (call.status, call.text, call.attempts) == ("completed", "Hello", 1)
        assert call.usage == Usage(3, 4, 7)
        assert call.timings is not None
        assert call.timings.first_chunk_s == pytest.approx(0.25)
        assert call.timings.answering_s == pytest.approx(0.75)
        assert call.payload["stream"] is True
        assert [chunk async for chunk in stream] == []
        assert stream.call.raise_for_status() is call


@in_virtual_time
async def test_chunks_come_when_they_come() -> None:
    async with streaming_engine(StreamProvider(HELLO)):
        began = trio.current_time()
        times = [(str(chunk), round(trio.current_time() - began, 3)) async for chunk in a_model().stream(**ASK)]
        assert times == [("Hel", 0.25), ("lo", 0.75), ("", 0.75), ("", 0.75)]


@in_virtual_time
async def test_tool_calls_come_in_fragments_and_whole_on_the_call() -> None:
    def piece(index: int, arguments: str, **named: object) -> dict[str, object]:
        said = {"arguments": arguments, **({"name": named["name"]} if named else {})}
        return {"index": index, "function": said, **({"id": named["id"], "type": "function"} if named else {})}

    pieces = [piece(0, "", id="a", name="f"), piece(0, '{"x"'), piece(0, ":1}"), piece(1, "{}", id="b", name="g")]
    body = [sse(delta(tool_calls=[one])) for one in pieces]
    async with streaming_engine(StreamProvider([*body, sse(delta(finish="tool_calls")), DONE])):
        stream = a_model().stream(**ASK)
        got = [(c.tool_id, c.tool_name, c.tool_input) async for c in stream if c.type == "tool_use"]
        assert got == [("a", "f", ""), ("a", "f", '{"x"'), ("a", "f", ":1}"), ("b", "g", "{}")]
        assert stream.call.view.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))
        assert stream.call.view.finish_reason == "tool_calls"


# --- an answer that is no stream -------------------------------------------------------------------------------------

TOOL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
UNNAMED = [JSON, Head(200, (("content-type", "text/plain"),)), Head(200, ()), Head()]


@pytest.mark.parametrize("head", UNNAMED)
@in_virtual_time
async def test_an_answer_in_one_piece_is_read_in_one_chunk_of_each_kind(head: Head) -> None:
    body = answer("whole", reasoning_content="hm", tool_calls=[TOOL])
    async with streaming_engine(StreamProvider([head, body[:30], 0.1, body[30:]])):
        stream = a_model().stream(**ASK)
        chunks = [chunk async for chunk in stream]
        assert [(c.type, c.content, c.tool_id, c.tool_name, c.tool_input) for c in chunks] == [
            ("thinking", "hm", None, None, None),
            ("text", "whole", None, None, None),
            ("tool_use", None, "a", "f", '{"x":1}'),
            ("result", None, None, None, None),
        ]
        assert not any(chunk.is_delta for chunk in chunks)
        assert (chunks[-1].metadata["finish_reason"], chunks[-1].metadata["usage"]) == ("stop", USAGE)
        assert all(chunk.metadata["event"] == json.loads(body) for chunk in chunks)
        call = stream.call
        assert (call.status, call.text, call.usage) == ("completed", "whole", Usage(3, 4, 7))
        assert call.response == json.loads(body)
        assert [chunk async for chunk in stream] == []


@in_virtual_time
async def test_an_answer_in_one_piece_without_a_text_is_a_result() -> None:
    async with streaming_engine(StreamProvider([JSON, answer(None)])):
        assert [chunk.type async for chunk in a_model().stream(**ASK)] == ["result"]


# --- what sees every chunk -------------------------------------------------------------------------------------------


async def doubled_later(chunk: StreamChunk) -> StreamChunk:
    await trio.sleep(0.1)
    return StreamChunk("text", str(chunk) * 2, True)


PROCESSES: dict[str, tuple[Callable[[StreamChunk], object], list[str]]] = {
    "sync": (lambda chunk: StreamChunk("text", str(chunk) * 2, True), ["HelHel", "lolo"]),
    "async": (doubled_later, ["HelHel", "lolo"]),
    "none": (lambda chunk: None, ["Hel", "lo"]),
    "some": (lambda chunk: StreamChunk("text", "x") if str(chunk) == "lo" else None, ["Hel", "x"]),
}


@pytest.mark.parametrize("name", PROCESSES)
@in_virtual_time
async def test_a_function_sees_every_chunk_and_may_replace_it(name: str) -> None:
    process, said = PROCESSES[name]
    seen: list[str] = []

    def noting(chunk: StreamChunk) -> object:
        seen.append(chunk.type)
        return process(chunk)

    async with streaming_engine(StreamProvider(HELLO)):
        stream = a_model(streaming_process_func=noting).stream(**ASK)
        assert await texts(stream) == said
        assert seen == ["text", "text", "system", "result"]
        assert stream.call.text == "Hello"


@pytest.mark.parametrize("later", [False, True])
@in_virtual_time
async def test_a_function_that_raises_ends_the_stream(later: bool) -> None:
    async def raises_later(chunk: StreamChunk) -> None:
        await trio.sleep(0.1)
        raise KeyError("mine")

    def raises(chunk: StreamChunk) -> object:
        if later:
            return raises_later(chunk)
        raise KeyError("mine")

    provider = StreamProvider([text("a"), 100.0, text("b"), END])
    async with streaming_engine(provider) as engine:
        stream = a_model(streaming_process_func=raises).stream(**ASK)
        began = trio.current_time()
        with pytest.raises(KeyError, match="mine"):
            await read(stream)
        await engine.wait_quiet()
        assert trio.current_time() - began < 1
        assert (stream.call.status, provider.busy) == ("cancelled", 0)


# --- collected, not read ---------------------------------------------------------------------------------------------


async def by_invoke(engine: Engine, model: iModel) -> object:
    return await engine.invoke(model.create_api_calling(**ASK, stream=True))


async def by_submit(engine: Engine, model: iModel) -> object:
    return await (await engine.submit(model.create_api_calling(**ASK, stream=True))).wait()


async def by_map(engine: Engine, model: iModel) -> object:
    async with engine.map([model.create_api_calling(**ASK, stream=True)]) as done:
        [call] = [call async for call in done]
    return call


async def by_model(engine: Engine, model: iModel) -> object:
    return await model.invoke(**ASK, stream=True)


COLLECTED = [by_invoke, by_submit, by_map, by_model]


@pytest.mark.parametrize("way", COLLECTED)
@pytest.mark.parametrize("plain", [False, True])
@in_virtual_time
async def test_a_stream_nobody_reads_is_collected(way: Callable[..., Awaitable[object]], plain: bool) -> None:
    script = [JSON, answer("Hello")] if plain else HELLO
    async with streaming_engine(StreamProvider(script)) as engine:
        call = await way(engine, a_model())
        assert (call.status, call.text, call.usage) == ("completed", "Hello", Usage(3, 4, 7))
        assert call.response["object"] == "chat.completion"
        assert plain or call.timings.first_chunk_s == pytest.approx(0.25)


@in_virtual_time
async def test_much_more_than_a_buffer_holds_is_collected() -> None:
    async with streaming_engine(StreamProvider([text("x" * 60_000)] * 20 + [END])) as engine:
        call = await by_invoke(engine, a_model())
        assert call.text == "x" * 1_200_000


# --- misuse ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_call_made_without_stream_is_refused() -> None:
    provider = StreamProvider(HELLO)
    async with streaming_engine(provider) as engine:
        model = a_model()
        with pytest.raises(InvalidCall, match="made without stream=True"):
            model.stream(model.create_api_calling(**ASK))
        with pytest.raises(InvalidCall, match="not str"):
            engine.stream("a call")  # type: ignore[arg-type]
        with pytest.raises(InvalidCall, match="not both"):
            model.stream(model.create_api_calling(**ASK, stream=True), temperature=1)
        with pytest.raises(InvalidCall, match="messages"):
            model.stream(messages="hello")
        assert provider.attempts == []


@in_virtual_time
async def test_a_call_is_streamed_once() -> None:
    provider = StreamProvider(HELLO)
    async with streaming_engine(provider):
        model = a_model()
        call = model.create_api_calling(**ASK, stream=True)
        first, second = model.stream(call), model.stream(call)
        await first
        with pytest.raises(InvalidCall, match="under way already"):
            await second
        with pytest.raises(InvalidCall, match="under way already"):
            await second.__anext__()
        with pytest.raises(InvalidCall, match="under way already"):
            await second.__aenter__()
        with pytest.raises(InvalidCall, match="under way already"):
            model.stream(call)
        assert await texts(first) == ["Hel", "lo"]
        with pytest.raises(InvalidCall, match=r"has ended already \(completed\)"):
            await second
        with pytest.raises(InvalidCall, match=r"has ended already \(completed\)"):
            model.stream(call)
        assert len(provider.attempts) == 1


@in_virtual_time
async def test_two_streams_of_a_call_that_waits_for_a_place_do_not_rob_each_other() -> None:
    async with streaming_engine(StreamProvider(HELLO)) as engine, trio.open_nursery() as nursery:
        model = a_model(queue_capacity=1, concurrency_limit=1)
        for _ in range(2):
            await engine.submit(model.create_api_calling(**ASK))
            await trio.testing.wait_all_tasks_blocked()
        call = model.create_api_calling(**ASK, stream=True)
        first, second = model.stream(call), model.stream(call)
        got: list[str] = []

        async def reads() -> None:
            got.extend(await texts(first))

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        assert engine._streams
        with pytest.raises(InvalidCall, match="being submitted already"):
            await second
        await call.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["Hel", "lo"]


@in_virtual_time
async def test_a_call_that_ended_or_was_submitted_otherwise_is_not_streamed() -> None:
    async with streaming_engine(StreamProvider(HELLO)) as engine:
        model = a_model()
        call = model.create_api_calling(**ASK, stream=True)
        early = model.stream(call)
        await engine.submit(call)
        with pytest.raises(InvalidCall, match="under way already"):
            await texts(early)
        await call.wait()
        assert call.text == "Hello"
        cancelled = model.create_api_calling(**ASK, stream=True)
        stream = model.stream(cancelled)
        cancelled.cancel()
        got = await read(stream)
        assert (got.chunks, got.error) == ([], "CallCancelled")


@in_virtual_time
async def test_without_an_engine_nothing_is_streamed() -> None:
    model = a_model()
    with pytest.raises(EngineNotRunning):
        model.stream(**ASK)
    async with streaming_engine(StreamProvider(HELLO)) as engine:
        late = model.stream(**ASK)
        await engine.drain()
        with pytest.raises(ShuttingDown):
            model.stream(**ASK)
        for _ in range(2):
            with pytest.raises(ShuttingDown):
                await texts(late)
    with pytest.raises(ShuttingDown):
        await late
    assert late.call.status == "pending"


@in_virtual_time
async def test_a_stream_never_waited_for_is_never_sent() -> None:
    provider = StreamProvider(HELLO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with streaming_engine(provider) as engine:
            stream = a_model().stream(**ASK)
            call = stream.call
            at_rest(engine)
            await stream.aclose()
            assert [chunk async for chunk in stream] == []
            a_model().stream(**ASK)
            del stream
            gc.collect()
            await trio.sleep(1)
            assert (call.status, provider.attempts) == ("pending", [])


@in_virtual_time
async def test_one_task_reads_a_stream() -> None:
    async with streaming_engine(StreamProvider([1.0, text("a"), END])) as engine, trio.open_nursery() as nursery:
        stream = a_model().stream(**ASK)
        got: list[str] = []

        async def reads() -> None:
            got.extend(await texts(stream))

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(InvalidCall, match="another task is reading"):
            await stream.__anext__()
        await engine.wait_quiet()
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["a"]


@in_virtual_time
async def test_named_events_and_json_lines_are_streams_too() -> None:
    named = b"event: delta\n" + text("a") + b"event: end\n" + FINISH + USED + DONE
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in (delta(content="a"), delta(finish="stop")))
    ndjson = Head(200, (("content-type", "application/x-ndjson"),))
    async with streaming_engine(StreamProvider([named], [ndjson, lines, b"[DONE]\n"])):
        stream = a_model().stream(**ASK)
        chunks = [chunk async for chunk in stream]
        assert (str(chunks[0]), chunks[0].metadata["name"], stream.call.text) == ("a", "delta", "a")
        stream = a_model().stream(**ASK)
        assert await texts(stream) == ["a"]
        assert (stream.call.status, stream.call.text) == ("completed", "a")


@in_virtual_time
async def test_a_refusal_is_raised_and_has_no_chunk() -> None:
    refused = [Head(400, (("content-type", "application/json"),)), b'{"error": {"message": "no", "code": "invalid"}}']
    async with streaming_engine(StreamProvider(refused)):
        stream = a_model().stream(**ASK)
        with pytest.raises(Rejected, match="no"):
            await texts(stream)
        assert (stream.call.status, stream.call.text) == ("failed", None)
