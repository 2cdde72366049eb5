"""The simulated provider in a process of its own, so that it neither takes nor lends processor time to who calls it.

`simulated_provider` starts the process, waits until it listens, and always ends it: on the way out, on error, on
cancellation; and the process ends by itself when this one disappears, because its standard input then ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from actors.errors import InternalError, UsageError
from engine.simulator.client import fetch
from engine.simulator.config import SimulatorConfig
from engine.simulator.formats.catalogue import base_of
from engine.simulator.log import LogRecords, read_log
from engine.simulator.records import Arrival, SimulatorStatistics

STOP_S: Final = 5.0


class SimulatedProvider:
    """A simulated provider in another process."""

    def __init__(self, config: SimulatorConfig, process: trio.Process, port: int) -> None:
        self.config = config
        self.port = port
        self._process = process

    def __repr__(self) -> str:
        return f"SimulatedProvider({self.base_url!r}, pid={self.pid})"

    @property
    def base_url(self) -> str:
        """What a client of OpenAI's is given as the base address."""
        return f"http://{self.config.host}:{self.port}/v1"

    def address(self, provider: str) -> str:
        """What a client of this provider is given as the base address. Raises `UsageError` for one that is not
        simulated."""
        return f"http://{self.config.host}:{self.port}{base_of(provider)}"

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended: 0 in order, below 0 by a signal; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        """End the process at once, as a crash would; what the log file lacks is lost."""
        self._process.kill()

    async def statistics(self) -> SimulatorStatistics:
        """The totals so far. Raises `OSError` if the process is gone."""
        body = await fetch(self.config.host, self.port, "/statistics")
        return msgspec.json.decode(body, type=SimulatorStatistics)

    async def records(self) -> LogRecords:
        """Every arrival so far, every turn of its loop later than the guard, every stream that is over, every request
        that was no call. Raises `OSError` if it is gone."""
        return read_log(await fetch(self.config.host, self.port, "/log"))

    async def log(self) -> list[Arrival]:
        """Every arrival so far, in order. Raises `OSError` if the process is gone."""
        return (await self.records()).arrivals


@asynccontextmanager
async def simulated_provider(config: SimulatorConfig) -> AsyncIterator[SimulatedProvider]:
    """Start a simulated provider and, in the end, end its process.

    Raises `UsageError` if it cannot do what the configuration says (the port is taken, the log file cannot be written),
    `InternalError` if its process ends before it is ready. Once it has ended, its log file is complete.
    """
    process = await trio.lowlevel.open_process(
        # -P: a file of the same name in the working directory must not stand before the installed package.
        [sys.executable, "-P", "-m", "engine.simulator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )
    try:
        yield SimulatedProvider(config, process, await _port(process, config))
    finally:
        await _end(process)


async def _port(process: trio.Process, config: SimulatorConfig) -> int:
    """Hand over the configuration, wait for the line that says it is ready."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    try:
        await process.stdin.send_all(msgspec.json.encode(config) + b"\n")
        while not line.endswith(b"\n"):
            data = await process.stdout.receive_some(4096)
            if not data:
                break
            line += data
    except trio.BrokenResourceError:
        line = b""
    if not line.endswith(b"\n"):
        raise InternalError(f"the simulator's process ended with code {await process.wait()} before it was ready")
    told = msgspec.json.decode(line)
    if "error" in told:
        raise UsageError(told["error"])
    return int(told["port"])


async def _end(process: trio.Process) -> None:
    """Close its input and wait; kill it if it does not end by itself in time."""
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(STOP_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
