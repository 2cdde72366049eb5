"""The turnstile: strictly in the order of coming, whatever order trio runs a batch in; a place can be given up."""

from __future__ import annotations

import trio
import trio.testing

from engine.simulator.connection import Connection
from engine.simulator.reply import Answer
from engine.simulator.turnstile import Turnstile


async def test_tasks_pass_in_the_order_in_which_they_came() -> None:
    turnstile, came, passed = Turnstile(), [], []

    async def one(place: int) -> None:
        for again in range(5):
            came.append((place, again))
            await turnstile.turn()
            passed.append((place, again))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.run)
        async with trio.open_nursery() as tasks:
            for place in range(30):
                tasks.start_soon(one, place)
        nursery.cancel_scope.cancel()
    assert passed == came
    assert len(passed) == 150


async def test_a_cancelled_task_holds_up_nobody() -> None:
    turnstile, passed = Turnstile(), []

    async def one(place: int) -> None:
        await turnstile.turn()
        passed.append(place)

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(3)]

        async def scoped(place: int) -> None:
            with scopes[place]:
                await one(place)

        for place in range(3):
            nursery.start_soon(scoped, place)
            await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert passed == [0, 2]


async def test_a_pipelined_request_takes_its_turn_among_those_that_came_since() -> None:
    turnstile, passed = Turnstile(), []
    (first_client, first_stream), (second_client, second_stream) = (
        trio.testing.memory_stream_pair(),
        trio.testing.memory_stream_pair(),
    )
    first, second = Connection(first_stream, turnstile), Connection(second_stream, turnstile)  # type: ignore[arg-type]
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

    async def head(name: str, connection: Connection) -> None:
        await connection.head()
        passed.append((name, connection.read_us))

    async with trio.open_nursery() as nursery:
        await first_client.send_all(request + request)
        async with trio.open_nursery() as passing:
            passing.start_soon(turnstile.run)
            received = await first.head()
            assert received is not None
            await first.body(received, 0)
            await first.send(Answer(200, [], b""))
            passing.cancel_scope.cancel()
        await second_client.send_all(request)
        nursery.start_soon(head, "second", second)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(head, "first", first)
        await trio.testing.wait_all_tasks_blocked()
        assert passed == [], "nobody passes a turnstile that stands still"
        nursery.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [name for name, _ in passed] == ["second", "first"]
    assert passed[0][1] <= passed[1][1]
