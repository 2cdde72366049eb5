"""A scheduler actor on a bench: one lane, one endpoint whose mailbox is read by hand, callers' slots, virtual time.

`Office` writes the mail that an engine and its endpoint actors write, and reads what the scheduler sends back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import trio
from trio.testing import wait_all_tasks_blocked

from actors import messages as ms
from actors.clock import now_us
from actors.limits import Quota
from actors.mailbox import Mailbox, Places
from actors.scheduler import SchedulerActor
from actors.slots import ReplySlot, ReplySlots

LANE = 1
ENDPOINT = 1


class Office:
    """A scheduler with everything it talks to. `callers` are the reply slots by call."""

    def __init__(self, *quotas: Quota, queue_capacity: int = 10_000) -> None:
        self.slots = ReplySlots()
        self.endpoint = Mailbox("endpoint", lambda mail: None)
        self.hook_bus = Mailbox("hook bus", lambda mail: None)
        self.places = Places("lane", queue_capacity)
        self.all_places = Places("all lanes", 1_000_000)
        self.callers: dict[int, ReplySlot] = {}
        self.actor = SchedulerActor(
            self.slots, {ENDPOINT: self.endpoint}, {LANE: self.places}, self.all_places, self.hook_bus
        )
        specs = tuple(quota.spec(number) for number, quota in enumerate(quotas, start=1))
        self.post(ms.OpenLane(LANE, "lane", specs))
        self.post(ms.OpenEndpoint(ENDPOINT, "provider", 1000))

    def post(self, message: ms.Message) -> None:
        self.actor.mailbox.post(ms.encode(message))

    def submit(self, call_id: int, *, deadline_s: float = 0, acknowledge: bool = False, handled: bool = False) -> None:
        """A call with its places taken; the deadline counts from now."""
        assert self.places.take_nowait()
        assert self.all_places.take_nowait()
        submitted_us = now_us()
        calling = ms.APICalling(
            call_id,
            LANE,
            ENDPOINT,
            submitted_us,
            deadline_us=submitted_us + int(deadline_s * 1e6) if deadline_s else 0,
            acknowledge=acknowledge,
            handled=handled,
            body=memoryview(b"{}"),
        )
        slot = self.callers[call_id] = ReplySlot()
        self.slots.add(call_id, slot)
        self.actor.mailbox.submit(ms.encode(calling))

    def ready(self, connections: int = 1) -> None:
        for _ in range(connections):
            self.post(ms.Ready(ENDPOINT))

    def grants(self) -> list[ms.Grant]:
        """The grants that came since the last look."""
        found = []
        while (mail := self.endpoint.receive_nowait()) is not None:
            message = ms.decode_for_endpoint.decode(mail[0])
            if isinstance(message, ms.Grant):
                found.append(message)
        return found

    def answer(self, call_id: int, attempt: int = 1, verdict: ms.Verdict = "done", *, ready: bool = True) -> None:
        """The endpoint's report on an attempt that was sent and answered now."""
        self.post(ms.Sent(call_id, attempt, now_us()))
        outcome = ms.Outcome(call_id, attempt, ENDPOINT, ready, now_us(), verdict, "kept")
        self.actor.mailbox.post(ms.encode(outcome), ms.encode(ms.Reply(status=200)))

    def unsent(self, call_id: int, attempt: int = 1) -> None:
        self.post(ms.Unsent(call_id, attempt, ENDPOINT, ready=False))

    def ended(self, call_id: int) -> ms.Ended | None:
        """How a call ended, None while it has not."""
        mail = self.callers[call_id].mail
        return None if mail is None else ms.decode_ended.decode(mail[0])

    def statuses(self) -> list[str]:
        """How each call stands, in the order of submission: its end, or an empty text."""
        return [ended.status if (ended := self.ended(call_id)) else "" for call_id in self.callers]

    def watch(self, until: Literal["none_waiting", "quiet"], watch_id: int = -1) -> ReplySlot:
        slot = ReplySlot()
        self.slots.add(watch_id, slot)
        self.post(ms.Watch(watch_id, until))
        return slot


@asynccontextmanager
async def open_office(*quotas: Quota, queue_capacity: int = 10_000) -> AsyncIterator[Office]:
    """Run a scheduler for the length of the block; it must not crash."""
    office = Office(*quotas, queue_capacity=queue_capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.actor.run)
        await wait_all_tasks_blocked()
        yield office
        nursery.cancel_scope.cancel()
