"""Real sockets: connections and a provider's whole process end under an engine with the real HTTP transport.

The clock is the real one and nothing sleeps: a test goes on as soon as the thing it waits for has happened. A cell per
phase a connection can end in; the rest of the table is in virtual time.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from engine_checks import assert_nothing_is_left

from engine import Engine, OutcomeUnknown, iModel, open_engine
from engine.simulator import ConstantLatency, SimulatorConfig, simulated_provider

ANSWER = b'{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER

Script = Callable[[trio.SocketStream, int], Awaitable[None]]


class Loopback:
    """A server that runs `script` for each request, then closes the connection unless the script answered it whole."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0
        self.open = 0
        self.dropped = 0
        self.url = ""

    async def handle(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            while await self.request(stream):
                self.requests += 1
                await self.script(stream, self.requests)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away, as some of the tests make it do
        finally:
            await trio.aclose_forcefully(stream)
            self.open -= 1

    @staticmethod
    async def request(stream: trio.SocketStream) -> bool:
        """Read a whole request; False if the client has gone."""
        data = b""
        while b"}]}" not in data:
            part = await stream.receive_some(65_536)
            if not part:
                return False
            data += part
        return True


@asynccontextmanager
async def loopback(script: Script) -> AsyncIterator[Loopback]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Loopback(script)
    server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.handle, [listener])
        yield server
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the kernel or the other side is about to do."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # the kernel sets no trio.Event
            await trio.sleep(0.001)


def model_at(url: str, **options: object) -> iModel:
    return iModel("loopback", url, api_key="a-key", model="m", limit_requests=100_000, **options)


MESSAGES = [{"role": "user", "content": "hello"}]


async def answer(stream: trio.SocketStream, number: int) -> None:
    await stream.send_all(WHOLE)


async def close_unanswered(stream: trio.SocketStream, number: int) -> None:
    await stream.aclose()


async def close_in_the_head(stream: trio.SocketStream, number: int) -> None:
    await stream.send_all(WHOLE[:20])
    await stream.aclose()


async def close_in_the_body(stream: trio.SocketStream, number: int) -> None:
    await stream.send_all(WHOLE[:-10])
    await stream.aclose()


async def reset(stream: trio.SocketStream, number: int) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


@pytest.mark.parametrize("script", [close_unanswered, close_in_the_head, close_in_the_body, reset])
async def test_a_connection_that_ends_after_the_request_left_is_an_unknown_outcome(script: Script) -> None:
    async with loopback(script) as server:
        async with open_engine() as engine:
            call = await model_at(server.url).invoke(messages=MESSAGES)
            assert call.status == "failed"
            assert isinstance(call.error, OutcomeUnknown)
            assert (call.error.reason, call.attempts, server.requests) == ("closed", 1, 1)
        assert_nothing_is_left(engine)


async def test_a_connection_closed_while_it_rested_costs_the_next_call_nothing() -> None:
    async def answer_and_close(stream: trio.SocketStream, number: int) -> None:
        await stream.send_all(WHOLE)
        await stream.aclose()

    async with loopback(answer_and_close) as server:
        async with open_engine() as engine:
            model = model_at(server.url)
            for _ in range(5):
                call = await model.invoke(messages=MESSAGES)
                assert (call.status, call.text, call.attempts) == ("completed", "hello", 1)
                await until(lambda: server.open <= 1)
        assert server.requests == 5
        assert_nothing_is_left(engine)


async def cancel_the_caller(engine: Engine, scope: trio.CancelScope) -> None:
    scope.cancel()


async def drain_at_once(engine: Engine, scope: trio.CancelScope) -> None:
    await engine.drain(queue="discard", deadline_s=0)


@pytest.mark.parametrize("written", [0, 20, len(WHOLE) - 10])
@pytest.mark.parametrize(("give_up", "status"), [(cancel_the_caller, "cancelled"), (drain_at_once, "failed")])
async def test_a_call_given_up_while_its_answer_is_awaited_or_read_drops_its_connection(
    give_up: Callable[[Engine, trio.CancelScope], Awaitable[None]], status: str, written: int
) -> None:
    async def dawdle(stream: trio.SocketStream, number: int) -> None:
        await stream.send_all(WHOLE[:written])
        assert await stream.receive_some(1) == b"", "the client sent more"
        server.dropped += 1

    async with loopback(dawdle) as server:
        async with open_engine() as engine:
            call = model_at(server.url).create_api_calling(messages=MESSAGES)
            scope = trio.CancelScope()

            async def invoke() -> None:
                with scope:
                    await engine.invoke(call)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(invoke)
                await until(lambda: call.status == "calling" and server.requests == 1)
                await give_up(engine, scope)
            await engine.wait_quiet()
            await until(lambda: server.dropped == 1)
        assert call.status == status
        assert call.error is not None
        assert getattr(call.error, "sent", True)
        assert_nothing_is_left(engine)


async def test_a_provider_whose_process_ends_leaves_no_caller_waiting() -> None:
    """Its answers take an hour; it is killed with twenty calls in flight and as many in the queue."""
    async with simulated_provider(SimulatorConfig(latency=ConstantLatency(500.0))) as provider:
        async with open_engine() as engine:
            model = model_at(provider.base_url, concurrency_limit=20)
            calls = [model.create_api_calling(messages=MESSAGES) for _ in range(40)]
            returned = 0

            async def invoke(number: int) -> None:
                nonlocal returned
                assert await engine.invoke(calls[number]) is calls[number]
                returned += 1

            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(invoke, number)
                await until(lambda: sum(call.status == "calling" for call in calls) == 20)
                in_flight = [call for call in calls if call.status == "calling"]
                provider.kill()
                await until(lambda: all(call.ended for call in in_flight))
                await engine.drain(queue="discard", deadline_s=0)
            assert returned == 40
        for call in in_flight:
            assert call.status == "failed"
            assert isinstance(call.error, OutcomeUnknown)
            assert call.error.reason == "closed"
        for call in calls:
            if call not in in_flight:
                assert call.status in ("aborted", "failed")
                assert type(call.error).__name__ in ("ShuttingDown", "ConnectFailed", "OutcomeUnknown")
        assert_nothing_is_left(engine)


async def test_an_engine_that_stops_closes_every_connection() -> None:
    async with loopback(answer) as server:
        async with open_engine() as engine:
            model = model_at(server.url)
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(lambda: model.invoke(messages=MESSAGES))
            assert server.open >= 1
        await until(lambda: server.open == 0)
        assert server.requests == 20
        assert_nothing_is_left(engine)
