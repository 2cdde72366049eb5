"""Streams through the portal, over real sockets: chunks in order, ended when left, slow readers slow the source."""

from __future__ import annotations

import asyncio
import gc

import pytest
from portal_server import Provider, ask

from engine import InvalidCall, Rejected, StreamChunk, iModel
from engine.portal import open_portal

TEXT = "0 1 2 3 4 "


def test_blocking_stream_is_read_in_every_way(model: iModel) -> None:
    """In a `for`, in a `with`, of arguments or of a call; the finished call has it all."""
    with open_portal() as engine:
        assert "".join(map(str, engine.stream(model, **ask("x")))) == TEXT
        call = model.create_api_calling(**ask("x"), stream=True)
        with engine.stream(call) as chunks:
            assert chunks.call is call
            assert "".join(map(str, chunks)) == TEXT
            assert list(chunks) == []
        assert (call.status, call.text) == ("completed", TEXT)
        assert not any(engine.statistics().live.values())


def test_stream_of_a_thousand_chunks_is_whole(provider: Provider, model: iModel) -> None:
    """More than what is read ahead, and none is lost or turned round between the threads."""
    provider.events = 1000
    with open_portal() as engine:
        numbers = "".join(map(str, engine.stream(model, **ask("x")))).split()
        assert numbers == [str(number) for number in range(1000)]


def test_failure_is_raised_where_the_stream_is_read(model: iModel) -> None:
    """As itself, once; what cannot be streamed is said at once."""
    with open_portal() as engine:
        stream = engine.stream(model, **ask("refuse"))
        with pytest.raises(Rejected) as caught:
            next(stream)
        assert caught.value is stream.call.error
        assert list(stream) == []
        with pytest.raises(InvalidCall, match="stream=True"):
            engine.stream(model.create_api_calling(**ask("x")))
        with pytest.raises(InvalidCall, match="priority"):
            engine.stream(model, **ask("x"), priority="high")


def test_stream_left_early_ends_its_call(provider: Provider, model: iModel) -> None:
    """Leaving the block drops the connection; what its reader saw is on the call."""
    with open_portal() as engine:
        with engine.stream(model, **ask("endless")) as chunks:
            assert [str(next(chunks)) for _ in range(3)] == ["0 ", "1 ", "2 "]
        provider.wait_dropped()
        assert chunks.call.status == "cancelled"
        assert chunks.call.text
        assert chunks.call.text.startswith("0 1 2 ")
        assert not any(engine.statistics().live.values())
        unread = engine.stream(model, **ask("x"))
        unread.close()
        assert list(unread) == []
        assert unread.call.status == "pending"


def test_dropped_stream_ends_its_call_with_a_warning(provider: Provider, model: iModel) -> None:
    """As the engine's own streams do."""
    with open_portal() as engine:
        stream = engine.stream(model, **ask("endless"))
        next(stream)
        with pytest.warns(ResourceWarning, match="dropped before its end"):  # noqa: PT031
            del stream
            gc.collect()
        provider.wait_dropped()
        engine.wait_quiet()


def test_slow_reader_slows_the_provider(provider: Provider, model: iModel) -> None:
    """An endless stream that nobody reads is not read for ever: the provider is stuck, and memory is bounded."""
    with open_portal() as engine, engine.stream(model, **ask("endless")) as chunks:
        next(chunks)
        before = -1
        while provider.sent != before:  # until it does not move between two answers of another call
            before = provider.sent
            for _ in range(20):
                engine.invoke(model, **ask("x"))
        stuck = provider.sent
        for _ in range(stuck // 2):
            next(chunks)


def test_process_func_sees_chunks_on_the_callers_side(provider: Provider) -> None:
    """What it returns takes a chunk's place; an async one runs in the loop for threads, in asyncio for asyncio."""
    with open_portal() as engine:

        async def louder(chunk: StreamChunk) -> StreamChunk | None:
            return StreamChunk("text", str(chunk) * 2) if str(chunk) == "1 " else None

        model = engine.model(model="openai/m", api_key="none", base_url=provider.url, streaming_process_func=louder)
        assert "".join(map(str, model.stream(**ask("x")))) == "0 1 1 2 3 4 "

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def in_asyncio(chunk: StreamChunk) -> str | None:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is loop
            return "!" if str(chunk) == "1 " else None

        async with open_portal() as engine:
            model = engine.model(
                model="openai/m", api_key="none", base_url=provider.url, streaming_process_func=in_asyncio
            )
            assert "".join([str(chunk) async for chunk in model.stream(**ask("x"))]) == "0 !2 3 4 "

    asyncio.run(main())


def test_asyncio_stream_is_read_in_every_way(provider: Provider, model: iModel) -> None:
    """`async for`, `async with`, `await`; left early, its call ends."""

    async def main() -> None:
        async with open_portal() as engine:
            assert "".join([str(chunk) async for chunk in engine.stream(model, **ask("x"))]) == TEXT
            assert "".join([str(chunk) async for chunk in await engine.stream(model, **ask("x"))]) == TEXT
            async with engine.stream(model, **ask("endless")) as chunks:
                assert str(await anext(chunks)) == "0 "
            await asyncio.to_thread(provider.wait_dropped)
            assert chunks.call.status == "cancelled"
            with pytest.raises(Rejected):
                async with engine.stream(model, **ask("refuse")) as chunks:
                    await anext(chunks)
            assert not any((await engine.statistics()).live.values())

    asyncio.run(main())


def test_cancelled_reader_ends_the_stream(provider: Provider, model: iModel) -> None:
    """A stream whose answer does not begin: its reader is cancelled, and its connection is gone."""

    async def main() -> None:
        async with open_portal() as engine:
            stream = engine.stream(model, **ask("hang"))
            task = asyncio.create_task(anext(stream))
            await asyncio.to_thread(provider.wait_hanging)
            with pytest.raises(InvalidCall, match="another task"):
                await anext(stream)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(provider.wait_dropped)
            assert stream.call.status == "cancelled"
            assert not any((await engine.statistics()).live.values())

    asyncio.run(main())
