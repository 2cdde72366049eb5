"""What other costs are measured in: processor time, one pair of channel operations, resident memory, scripted answers.

The unit of processor time is one send and one receive on a trio memory channel with a buffer of 1, between two tasks:
the cheapest way one actor can hand something to another, and timed in the run whose figures it divides. A process's own
time counts, not the wall's, so other work on the machine disturbs it less.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Awaitable, Callable

import trio

from actors.messages import APICalling, Observed, Reply
from actors.transport import Answer, Attempt

PAIRS = 20_000


def processor_s() -> float:
    """The processor time this process has used, in seconds."""
    return time.process_time()


def resident_bytes() -> int:
    """The memory this process holds now, after a full collection of garbage."""
    gc.collect()
    return held_bytes()


def held_bytes() -> int:
    """The memory this process holds now, garbage that is not collected yet included."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        # Where there is no /proc only the most it ever held is known, which for a growing process is the same.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if os.uname().sysname == "Darwin" else peak * 1024


async def pair_s(pairs: int = PAIRS) -> float:
    """The processor time of one send and one receive, in seconds."""
    send, receive = trio.open_memory_channel[int](1)

    async def read() -> None:
        async for _ in receive:
            pass

    started_s = processor_s()
    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(read)
        for number in range(pairs):
            await send.send(number)
    return (processor_s() - started_s) / pairs


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """The processor time of some work, in seconds."""
    started_s = processor_s()
    await work()
    return processor_s() - started_s


class IdleAttempt:
    """What a worker gives a connection, doing nothing: an `Attempt`."""

    def begin(self) -> None:
        """Leave to begin."""

    def sent(self) -> None:
        """No stamp."""

    def observed(self, observed: tuple[Observed, ...]) -> None:
        """No limits."""

    def heard(self) -> None:
        """No bounds."""

    async def hand_over(self, piece: bytes) -> None:
        """No reader."""


class ScriptedConnection:
    """Answers every call at once, after one checkpoint, with the same reply."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def usable(self) -> bool:
        """Always."""
        return True

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Send nothing, let the other tasks run once, answer."""
        attempt.begin()
        attempt.sent()
        await trio.lowlevel.checkpoint()
        return self._answer

    async def aclose(self) -> None:
        """Nothing to close."""


def chat_answer(size_bytes: int) -> Answer:
    """A chat completion of this many bytes, or as few as one can have."""
    frame = (
        b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%b"},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}'
    )
    body = frame % (b"h" * max(0, size_bytes - len(frame % b"")))
    reply = Reply(200, input_tokens=3, output_tokens=5, body=memoryview(body))
    return Answer("done", "usage", reply, True, 3, 5)


class ScriptedTransport:
    """Connections that answer by themselves; they open once `gate` is set."""

    def __init__(self, reply_bytes: int, gate: trio.Event | None = None) -> None:
        self._answer = chat_answer(reply_bytes)
        self._gate = gate

    async def connect(self) -> ScriptedConnection:
        """Open one, at once or when the gate is set."""
        if self._gate is not None:
            await self._gate.wait()
        return ScriptedConnection(self._answer)
