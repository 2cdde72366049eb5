"""The server the clients of `streams` are measured against: every request gets the same stream of events, on schedule.

    python -m benchmarks.streams_server '{"streams": 200, "events": 200, "interval": 0.01, "burst": 1, "size": 4,
                                          "gather": 200, "idle": 0}'

Its first line of output is its port; it serves until its standard input ends, then writes what it counted, as JSON. A
stream's instants count from its request and are absolute: what was late delays nothing that follows, and how late each
was is counted. They are kept to what the system's timer allows, so that streams are as independent as providers' are
and not served together in whole milliseconds. The first `gather` requests are to open connections: each gets a stream
of no events, when all of them are there. With `idle`, seconds, a stream says one event, and its end that long after
every stream has begun.
"""

from __future__ import annotations

import asyncio
import gc
import json
import select
import selectors
import sys
import time
from array import array
from typing import NamedTuple

from benchmarks.harness import Measured, Settings
from benchmarks.wire_server import BACKLOG, Answering, Counted, Gate

HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Server: streams\r\nX-Request-Id: req_0123456789abcdef\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"
_FRAME = (
    b'data: {"id":"chatcmpl-0123456789abcdefABCDEF","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"scripted","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[%b],"usage":%b,'
    b'"obfuscation":"x8Q"}\n\n'
)
_CHOICE = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}'
_USAGE = b'{"prompt_tokens":3,"completion_tokens":200,"total_tokens":203}'


def event(text: str, *, first: bool = False) -> bytes:
    """A delta with this text, which needs no escapes; the first one says whose it is."""
    role = b'"role":"assistant",' if first else b""
    return _FRAME % (_CHOICE % (b'{%b"content":"%b"}' % (role, text.encode()), b"null"), b"null")


def ending() -> bytes:
    """Why it ended, what it cost, and the terminator."""
    return _FRAME % (_CHOICE % (b"{}", b'"stop"'), b"null") + _FRAME % (b"", _USAGE) + b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP's."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Plan(NamedTuple):
    """The writes of a stream, `every_s` apart, and that of one without events."""

    writes: list[bytes]
    every_s: float
    empty: bytes


def plan(settings: Settings) -> Plan:
    """So many events, a burst of them in each write, the end with the last; of an idle stream one, and the end."""
    size, burst = settings["size"], settings["burst"]
    events = [event("x" * size, first=not number) for number in range(settings["events"])]
    if settings["idle"]:
        blocks, end = [events[0]], [chunk(ending()) + LAST]
    else:
        blocks = [b"".join(events[at : at + burst]) for at in range(0, len(events), burst)]
        blocks[-1] += ending()
        end = []
    writes = [chunk(block) for block in blocks] + end
    writes[0] = HEAD + writes[0]
    if not settings["idle"]:
        writes[-1] += LAST
    return Plan(writes, burst * settings["interval"], HEAD + chunk(ending()) + LAST)


class Precise(selectors.DefaultSelector):  # type: ignore[valid-type,misc]  # another class on each system
    """Sleeps to some ten microseconds; asyncio's own would round every wait up to a millisecond."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector`."""
        if timeout is None or timeout > 0:
            select.select([self.fileno()], [], [], timeout)
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return found


class Sent(Counted):
    """What the server has seen, and by how many seconds each event was late; the first of a stream never is."""

    def __init__(self) -> None:
        super().__init__()
        self.late_s = array("d")
        self.held_back = 0


class Streaming(Answering):
    """One connection. `opened` holds the streams back that only open it, `idle` the ends of those that are idle."""

    def __init__(self, plan: Plan, settings: Settings, seen: Sent, opened: Gate, idle: Gate) -> None:
        super().__init__(b"", None, (0.0, 0.0), seen, opened)
        self._plan = plan
        self._gather, self._idle_s = settings["gather"], settings["idle"]
        self._sent = seen
        self._opened, self._ended = opened, idle
        self._origin_s = self._due_s = 0.0
        self._at = 0

    def _respond(self) -> None:
        self._sent.requests += 1
        if self._sent.requests <= self._gather:
            self._opened.come(self._open)
            return
        self._origin_s = self._due_s = self._loop.time()
        self._at = 0
        self._write()
        if self._idle_s:
            self._ended.come(self._end_later)
        else:
            self._go_on()

    def _open(self) -> None:
        self._transport.write(self._plan.empty)

    def _write(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._plan.writes[self._at])
        self._at += 1

    def _end_later(self) -> None:
        self._loop.call_later(self._idle_s, self._write)

    def _go_on(self) -> None:
        if self._at < len(self._plan.writes):
            self._due_s = self._origin_s + self._at * self._plan.every_s
            self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        self._sent.late_s.append(self._loop.time() - self._due_s)
        if self._transport.get_write_buffer_size():
            self._sent.held_back += 1
        self._write()
        self._go_on()


def _quiet(_: str) -> None:
    """A gate has opened; nobody needs to know."""


async def serve(settings: Settings) -> Measured:
    """Serve on a free port of loopback until standard input ends; what was counted."""
    seen, ended = Sent(), asyncio.Event()
    loop = asyncio.get_running_loop()
    planned = plan(settings)
    opened, idle = Gate(settings["gather"], _quiet), Gate(settings["streams"], _quiet)
    server = await loop.create_server(
        lambda: Streaming(planned, settings, seen, opened, idle), "127.0.0.1", 0, backlog=BACKLOG
    )
    loop.add_reader(sys.stdin.fileno(), ended.set)
    # What it makes for an event is gone with it: there is nothing to collect.
    gc.collect()
    gc.freeze()
    gc.disable()
    started_s = time.process_time()
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    used_s = time.process_time() - started_s
    server.close()
    late = sorted(seen.late_s) or [0.0]
    return {
        "requests": seen.requests,
        "connections": seen.connections,
        "most_open": seen.most_open,
        "late_s": {"median": late[len(late) // 2], "99 of 100": late[len(late) * 99 // 100], "longest": late[-1]},
        "held_back": seen.held_back,
        "write_s": used_s / max(1, len(seen.late_s)),
    }


def main(told: str) -> None:
    """Serve as the settings say, given as JSON."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Precise())) as runner:
        print(json.dumps(runner.run(serve(json.loads(told)))))


if __name__ == "__main__":
    main(sys.argv[1])
