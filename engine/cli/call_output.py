"""Where `penstock call` writes to: text that comes in pieces, each of which is out before the next is asked for.

Written by a thread, straight to the file: a terminal that was halted, or a pipe that nobody reads, keeps no signal
waiting, and what was written is not held in a buffer. A last line always gets its end, also when the text broke off.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Final, TextIO

import trio

from engine.errors import PenstockError

LAST_S: Final = 0.2
"""How long the end of the last line may take to be written; whoever does not read does not miss it."""


class Outlet:
    """Standard output, or standard error. One task at a time writes."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._number = file.fileno()
        self._encoding = file.encoding
        self._name = name
        self._midline = False

    async def write(self, text: str, *, shown: str | None = None) -> None:
        """Write a text and return when it is out; `shown` stands for it on the way, with the marks of a terminal.

        What the file's encoding does not know becomes a question mark. Cancellation gives up a write that is stuck.

        Raises:
          BrokenPipeError: nobody reads any more.
          PenstockError: it cannot be written.
        """
        if not text:
            return
        self._midline = not text.endswith("\n")
        await self.write_bytes((text if shown is None else shown).encode(self._encoding, "replace"))

    async def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are. Otherwise as `write`."""
        try:
            await trio.to_thread.run_sync(self._write, data, abandon_on_cancel=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise PenstockError(f"{self._name} cannot be written: {error.strerror}") from error

    async def end_line(self) -> None:
        """End the line, if one has begun. Also done when cancelled, unless it cannot be at once."""
        if self._midline:
            with trio.move_on_after(LAST_S, shield=True):
                await self.write("\n")

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._number, rest) :]
                continue
            # Whoever shares the file with us has made it one that does not wait.
            select.select([], [self._number], [])
