"""How the tests run the command line, and what they are told of how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import trio

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from engine.cli import main; main()"]


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Typed = Callable[..., Ran]
Penstock = Callable[..., Awaitable[Ran]]
Start = Callable[..., Awaitable[trio.Process]]


def command_environment(directory: Path, **extra: str) -> dict[str, str]:
    """This process's environment without any key, so that no test can ever reach a real account.

    Nor with output unbuffered: what has to be read at once must be flushed.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.endswith("_KEY") and name != "PYTHONUNBUFFERED"
    }
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(directory), "PYTHONWARNINGS": "error", **extra}
