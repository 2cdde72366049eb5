"""Providers for the tests of `penstock call`, in this process: the simulated one, and one with a fixed answer.

And a terminal for it to run on: a pseudo-terminal, whose other end the test reads as a person would see it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from command_line import COMMAND, command_environment

from engine.simulator import ConstantLatency, Simulator, SimulatorConfig, StreamEnd, serve

PATIENCE_S = 60


@asynccontextmanager
async def provider(**changes: Any) -> AsyncIterator[Simulator]:
    """A simulated provider in this process, as fast as it can unless something else is said."""
    async with trio.open_nursery() as nursery:
        config = SimulatorConfig(**{"latency": ConstantLatency(0.0), **changes})
        yield await nursery.start(serve, config)
        nursery.cancel_scope.cancel()


async def the_end(served: Simulator) -> StreamEnd:
    """How the first stream of a provider ended, once it has."""
    with trio.fail_after(PATIENCE_S):
        while not served.ends():  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
    return served.ends()[0]


@asynccontextmanager
async def fixed_provider(body: bytes, kind: str = "application/json") -> AsyncIterator[str]:
    """A provider that has one answer for everybody; its address."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"

    async def answer(stream: trio.SocketStream) -> None:
        heard = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while not heard.endswith(b"}"):
                heard += (data := await stream.receive_some())
                if not data:  # a connection that was opened ahead and is not needed
                    return
            await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), answer, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


class Screen:
    """The other end of the terminal a command runs on."""

    def __init__(self, process: trio.Process, end: trio.lowlevel.FdStream) -> None:
        self.process = process
        self.shown = b""
        self._end = end

    @property
    def text(self) -> str:
        """All that has been shown, with plain line ends."""
        return self.shown.decode().replace("\r\n", "\n")

    async def wait_for_words(self, count: int) -> None:
        """Wait until the terminal shows so many words."""
        with trio.fail_after(PATIENCE_S):
            while len(self.shown.split()) < count:
                self.shown += await self._end.receive_some()

    async def wait_end(self) -> int:
        """Wait until the command has ended and all it wrote is shown; its exit code."""
        with trio.fail_after(PATIENCE_S):
            with contextlib.suppress(trio.BrokenResourceError, OSError):  # how Linux says that the other end is closed
                while data := await self._end.receive_some():
                    self.shown += data
            return await self.process.wait()


@asynccontextmanager
async def on_a_terminal(directory: Path, *arguments: str, errors_too: bool = False) -> AsyncIterator[Screen]:
    """The command with its output on a terminal, its standard error as well if `errors_too`, else in a pipe."""
    outer, inner = os.openpty()
    end = trio.lowlevel.FdStream(outer)
    try:
        process = await trio.lowlevel.open_process(
            [*COMMAND, *arguments],
            stdout=inner,
            stderr=inner if errors_too else subprocess.PIPE,
            cwd=directory,
            env=command_environment(directory, TERM="xterm"),
        )
    finally:
        os.close(inner)
    try:
        async with end:
            yield Screen(process, end)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stderr is not None:
                await process.stderr.aclose()
