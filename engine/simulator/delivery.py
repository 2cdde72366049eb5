"""Sends streams: one task that writes for all of them when they are due, and for each what happens to it on the way.

Twenty thousand events a second must cost little, so no task wakes for an event. `Pacer` keeps streams by the
millisecond in which their next write is due and writes to their sockets without waiting. The task of a connection
sleeps meanwhile, listening for the client to leave; it is woken for what needs patience: a socket that is full, the
end. Times are trio's clock in microseconds, and absolute: what was late does not delay what follows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

import trio

from engine.simulator.connection import Connection
from engine.simulator.records import Ending
from engine.simulator.reply import Answer
from engine.simulator.script import StreamPlan

TICK_US: Final = 1_000
WRITES_AT_ONCE: Final = 128

_NEVER: Final = sys.maxsize


def _clock_us() -> int:
    return round(trio.current_time() * 1_000_000)


class Pacer:
    """Writes to every stream what is due, up to a millisecond later."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._due: dict[int, list[Delivery]] = {}
        self._sleep = trio.CancelScope()

    def add(self, delivery: Delivery) -> None:
        """Write to a stream when it is due, and go on until it has to wait for something else or is over."""
        tick = -(-delivery.due_us // TICK_US)
        together = self._due.get(tick)
        if together is not None:
            together.append(delivery)
            return
        self._due[tick] = [delivery]
        heappush(self._ticks, tick)
        if self._ticks[0] == tick:
            self._sleep.deadline = self._wake_s()

    def _wake_s(self) -> float:
        return self._ticks[0] * TICK_US / 1_000_000 if self._ticks else float("inf")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._wake_s()) as self._sleep:
                await trio.sleep_forever()
            written, now_us = 0, _clock_us()
            while self._ticks and self._ticks[0] * TICK_US <= now_us:
                due = self._due.pop(heappop(self._ticks))
                for delivery in due:
                    if delivery.step():
                        self.add(delivery)
                written += len(due)
                if written >= WRITES_AT_ONCE:
                    await trio.lowlevel.checkpoint()
                    written, now_us = 0, _clock_us()


class Delivery:
    """One stream on its way. `events` of it are sent; `ending` is empty until it is over.

    `heard` is called in the same step as the write that brought the usage, and in the same step as the last: a client
    that has either in hand may count on what it changed.
    """

    def __init__(self, plan: StreamPlan, heard: Callable[[Delivery], None]) -> None:
        self._plan = plan
        self._heard = heard
        self._usage_at = _NEVER if plan.usage_at is None else plan.usage_at
        self._writes = plan.writes()
        self._write = next(self._writes)
        self._rest = b""
        self._chunked = True
        self._descriptor = -1
        self._origin_us = 0
        self._scope = trio.CancelScope()
        self.due_us = 0
        self.events = 0
        self.ending: Ending | None = None

    def set_out(self, at_us: int) -> None:
        """Count the instants of the plan from this one."""
        self._origin_us = at_us
        self.due_us = self._origin_us + self._write.at_us

    async def carry_out(self, connection: Connection, head: Answer, pacer: Pacer) -> Ending:
        """Send the head and the whole stream. An orderly end is left to be sent, a fault's to be done."""
        try:
            self._chunked = await connection.begin_stream(head)
            self._descriptor = connection.descriptor()
            while self.ending is None:
                with trio.CancelScope() as self._scope:
                    pacer.add(self)
                    await connection.left()
                    self.end("left")
                if self.ending is None:
                    await connection.write(self._rest)
                    self._sent()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end("left")
        assert self.ending is not None
        return self.ending

    def end(self, ending: Ending) -> None:
        """Note that it is over, unless it is already."""
        if self.ending is None:
            self.ending = ending
            self._heard(self)

    def step(self) -> bool:
        """Write what is due. Returns whether there is more to be written when that is due."""
        if self.ending is not None:
            return False  # its client left while it was waiting here
        data = self._write.data
        if data:
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.end("left")
                self._scope.cancel()
                return False
            if sent < len(data):
                self._rest = data[sent:]
                self._scope.cancel()
                return False
        more = self._sent()
        if not more:
            self._scope.cancel()
        return more

    def _sent(self) -> bool:
        """Go on to the next write. Returns whether there is one."""
        self.events = self._write.events
        following = next(self._writes, None)
        if following is None:
            self.end(self._plan.ending)
            return False
        if self.events > self._usage_at:
            self._usage_at = _NEVER
            self._heard(self)
        self._write = following
        self.due_us = self._origin_us + following.at_us
        return True
