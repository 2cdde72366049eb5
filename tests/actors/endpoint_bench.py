"""An endpoint actor on a bench: its mailbox fed by hand, its reports to the scheduler read by hand, in virtual time.

`Bench` stands where a scheduler would: `want`, `give` and `drop` write the mail a scheduler writes, `told` reads what
the actor reported. `on_bench` runs the actor for the length of a block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from steered_transport import SteeredTransport
from trio.testing import wait_all_tasks_blocked

from actors import messages as ms
from actors.clock import now_us
from actors.endpoint import EndpointActor
from actors.mailbox import Mailbox

JITTER = 1 << 31
NUMBER = 3


class Bench:
    """One endpoint actor and the two mailboxes it lives between. `log` holds every report read so far."""

    def __init__(
        self, transport: SteeredTransport, *, max_connections: int = 1000, mailbox: Mailbox | None = None
    ) -> None:
        self.transport = transport
        self.scheduler = Mailbox("scheduler", lambda mail: None)
        self.actor = EndpointActor(
            NUMBER,
            "provider",
            transport,
            self.scheduler,
            lambda: JITTER,
            max_connections=max_connections,
            mailbox=mailbox,
        )
        self.log: list[ms.Message] = []
        self.replies: dict[int, ms.Reply] = {}
        self.granted = 0

    def want(self, connections: int, *, queued: bool = True) -> None:
        self.actor.mailbox.post(ms.encode(ms.Wanted(connections, queued)))

    def give(self, call_id: int, *, attempt: int = 1, not_after_s: float = 5.0, stop_s: float = 600.0) -> None:
        """Grant a call; the times count from now."""
        self.granted += 1
        granted_us = now_us()
        not_after_us, stop_us = granted_us + int(not_after_s * 1e6), granted_us + int(stop_s * 1e6)
        grant = ms.Grant(call_id, attempt, granted_us, min(not_after_us, stop_us), stop_us)
        calling = ms.APICalling(call_id, lane=1, endpoint=NUMBER, submitted_us=0, body=memoryview(b"{}"))
        self.actor.mailbox.post(ms.encode(grant), ms.encode(calling))

    def drop(self, call_id: int, reason: str = "cancelled") -> None:
        self.actor.mailbox.post(ms.encode(ms.Drop(call_id, reason)))

    def stop(self) -> None:
        self.actor.mailbox.post(ms.encode(ms.Stop()))

    def read(self) -> list[ms.Message]:
        """What was reported since the last look; also kept in `log`."""
        news = []
        while (mail := self.scheduler.receive_nowait()) is not None:
            message = ms.decode.decode(mail[0])
            news.append(message)
            if isinstance(message, ms.Outcome):
                self.replies[message.call_id] = ms.decode_reply.decode(mail[1])
        self.log.extend(news)
        return news

    async def told(self) -> list[ms.Message]:
        """What was reported since the last look, once nothing more happens by itself."""
        await wait_all_tasks_blocked()
        return self.read()

    async def ready(self, connections: int, *, replace: bool = True) -> None:
        """Have so many connections open and at rest, reported and read. Without `replace` no more are opened then."""
        self.want(connections)
        await self.told()
        assert self.actor.statistics().idle == connections
        if not replace:
            self.want(0, queued=False)
            await self.told()

    def answers(self) -> Counter[int]:
        """How often each granted call was answered, in all that was read."""
        self.read()
        return Counter(message.call_id for message in self.log if isinstance(message, ms.Unsent | ms.Outcome))

    def places(self) -> int:
        """How many more calls could be sent, as a scheduler reckons from its grants and from what was reported."""
        self.read()
        count = -self.granted
        for message in self.log:
            if isinstance(message, ms.Ready):
                count += 1
            elif isinstance(message, ms.Lost):
                count -= 1
            elif isinstance(message, ms.Unsent | ms.Outcome):
                count += message.ready
        return count


@asynccontextmanager
async def on_bench(
    transport: SteeredTransport, *, max_connections: int = 1000, crashes: list[Exception] | None = None
) -> AsyncIterator[Bench]:
    """Run an endpoint actor on a bench. A crash of it is put into `crashes`, and raised if there is no such list."""
    bench = Bench(transport, max_connections=max_connections)

    async def run() -> None:
        try:
            await bench.actor.run()
        except Exception as error:
            if crashes is None:
                raise
            crashes.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await bench.told()
        yield bench
        nursery.cancel_scope.cancel()


def kinds(messages: list[ms.Message]) -> list[str]:
    """The names of the messages' kinds, for comparing at a glance."""
    return [type(message).__name__ for message in messages]
