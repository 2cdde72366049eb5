"""The server the clients of `wire` are measured against: every request gets the same answer, at once or after a while.

    python -m benchmarks.wire_server '{"reply": 600, "low": 0.25, "high": 0.75, "seed": 1, "spin": 1, "gather": 0}'

Its first line of output is its port; it serves until its standard input ends, then writes what it counted, as JSON. It
is to cost as little as it can, so that it disturbs its clients little: it knows content-length and keep-alive and reads
nothing of a request but its length. On loopback whoever sends to a process that sleeps pays for waking it, which no
network makes a client pay: with `spin` the server never sleeps. The first `gather` requests are answered only when all
of them are there, of which it writes a line: so each comes over a connection of its own, and all are in flight at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import sys
import time
from collections.abc import Callable
from typing import cast

from benchmarks.harness import Measured, Settings
from benchmarks.units import chat_answer

BACKLOG = 4_096

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Counted:
    """What the server has seen: connections ever, most open at once, requests, most of them waiting at once."""

    def __init__(self) -> None:
        self.connections = self.open = self.most_open = self.requests = self.waiting = self.most_waiting = 0


class Gate:
    """Holds answers back until there are so many, says so once, and from then on none. With 0 it never holds one."""

    def __init__(self, size: int, say: Callable[[str], None]) -> None:
        self._missing = size
        self._say = say
        self._held: list[Callable[[], None]] = []

    def come(self, answer: Callable[[], None]) -> None:
        """Have this answer given now, or when the others are there."""
        if not self._missing:
            answer()
            return
        self._held.append(answer)
        self._missing -= 1
        if not self._missing:
            self._say("all")
            for one in self._held:
                one()
            self._held.clear()


def response(size_bytes: int) -> bytes:
    """A chat completion of so many bytes, with the headers a provider sends."""
    body = bytes(chat_answer(size_bytes).reply.body)
    head = (
        "HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\nServer: wire\r\n"
        f"X-Request-Id: req_0123456789abcdef\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Answering(asyncio.Protocol):
    """One connection. `delay` draws an answer's seconds, which count from the gate; None means at once."""

    def __init__(
        self, answer: bytes, delay: random.Random | None, span_s: tuple[float, float], seen: Counted, gate: Gate
    ) -> None:
        self._answer = answer
        self._delay = delay
        self._span_s = span_s
        self._seen = seen
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        seen = self._seen
        seen.connections += 1
        seen.open += 1
        seen.most_open = max(seen.most_open, seen.open)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._seen.open -= 1

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete; keep what there is of the next."""
        if self._waiting:
            data = self._waiting + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(data) < size:
                break
            data = data[size:]
            self._respond()
        self._waiting = data

    def _respond(self) -> None:
        seen = self._seen
        seen.requests += 1
        if self._delay is None:
            self._transport.write(self._answer)
            return
        seen.waiting += 1
        seen.most_waiting = max(seen.most_waiting, seen.waiting)
        self._gate.come(self._plan)

    def _plan(self) -> None:
        assert self._delay is not None, "only what is answered late is planned"
        self._loop.call_later(self._delay.uniform(*self._span_s), self._respond_late)

    def _respond_late(self) -> None:
        self._seen.waiting -= 1
        if not self._transport.is_closing():
            self._transport.write(self._answer)


def _spin(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(_spin, loop)  # with something to do the loop looks at its sockets and never sleeps


async def serve(settings: Settings) -> Measured:
    """Serve on a free port of loopback until standard input ends; what was counted."""
    seen, ended = Counted(), asyncio.Event()
    loop = asyncio.get_running_loop()
    answer, span_s = response(settings["reply"]), (settings["low"], settings["high"])
    delay = random.Random(settings["seed"]) if span_s[1] else None
    gate = Gate(settings["gather"], lambda line: print(line, flush=True))
    server = await loop.create_server(
        lambda: Answering(answer, delay, span_s, seen, gate), "127.0.0.1", 0, backlog=BACKLOG
    )
    loop.add_reader(sys.stdin.fileno(), ended.set)
    # What it makes for a request is gone with the answer: there is nothing to collect.
    gc.collect()
    gc.freeze()
    gc.disable()
    if settings["spin"]:
        _spin(loop)
    started_s = time.process_time()
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    used_s = time.process_time() - started_s
    server.close()
    return {
        "requests": seen.requests,
        "connections": seen.connections,
        "most_open": seen.most_open,
        "most_waiting": seen.most_waiting,
        "call_s": used_s / max(1, seen.requests),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(serve(json.loads(sys.argv[1])))))
