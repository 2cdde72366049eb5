"""The simulated provider as a process of its own: what `engine.simulator.process` starts.

Standard input is its lifeline: one line with the configuration as JSON, then nothing; its end, which comes also
when the parent dies however it dies, ends this process. Standard output is one line of JSON: ``{"port": N}`` when it is
ready, or ``{"error": "..."}``, with exit code 2.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec
import trio

from actors.errors import UsageError
from engine.simulator.config import SimulatorConfig, load_config
from engine.simulator.server import Simulator, serve
from engine.simulator.tuning import tune_process

_STDIN, _STDOUT = 0, 1


def _tell(**words: object) -> None:
    os.write(_STDOUT, msgspec.json.encode(words) + b"\n")


async def _end_of_input(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(_STDIN)) as stream:
        while await stream.receive_some(4096):
            pass
    scope.cancel()


async def _terminated(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def run(config: SimulatorConfig) -> None:
    """Serve until standard input ends or SIGTERM comes."""
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(serve, config)
        nursery.start_soon(_terminated, nursery.cancel_scope)
        nursery.start_soon(_end_of_input, nursery.cancel_scope)
        tune_process()
        _tell(port=simulator.port)


def _only_usage_error(error: BaseException) -> UsageError | None:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, UsageError) else None


def main() -> int:
    """Read the configuration, serve, return the exit code."""
    # An interrupt from the keyboard reaches the whole process group, but when to end is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(_STDIN, "rb", buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line:
        return 0  # the parent was gone before it could say anything
    try:
        trio.run(run, load_config(line))
    except (UsageError, BaseExceptionGroup) as error:
        wrong = _only_usage_error(error)
        if wrong is None:
            raise
        _tell(error=wrong.message)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
