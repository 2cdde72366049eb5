"""Where a batch's lines come from: a file or a pipe, read a chunk at a time, as lines are asked for.

Reading happens in a thread, so that neither a slow disk nor a pipe that stays silent stalls the loop; a read that is
given up is left behind in its thread. No more than one chunk and one line is held, whatever the size of the input.

What a line means is `engine.batch.lines`' business.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from typing import Final, Protocol

import trio

from engine.batch.lines import MAX_LINE_BYTES, RawLine
from engine.batch.models import Misuse
from engine.errors import PenstockError

CHUNK_BYTES: Final = 256 << 10
STANDARD: Final = "-"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class ByteSource(Protocol):
    """Bytes in order."""

    @property
    def size_bytes(self) -> int | None:
        """How many there are in all; None if nobody can know, or if reading them could take for ever."""

    async def read(self) -> bytes:
        """The next of them, some at least; empty at the end. Cancellation may lose what was being read."""


class InputFile:
    """A file, or standard input. `size_bytes` is None for all but regular files."""

    def __init__(self, name: str, number: int, status: os.stat_result) -> None:
        self.name = name
        self.status = status
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._number = number
        self._begun = False
        self._reading = False

    @classmethod
    async def open(cls, path: str) -> InputFile:
        """Open a file by its path; ``-`` is standard input.

        Raises:
          Misuse: it cannot be read.
        """
        try:
            if path == STANDARD:
                return cls("standard input", 0, os.fstat(0))
            # A named pipe opens when somebody writes to it, which may be never.
            number = await trio.to_thread.run_sync(_open_to_read, path, abandon_on_cancel=True)
            return cls(path, number, os.fstat(number))
        except OSError as error:
            raise Misuse(f"{path}: cannot be read: {error.strerror}. Nothing was sent.") from error

    async def read(self) -> bytes:
        """The next bytes, empty at the end.

        Raises:
          Misuse: there was nothing to read in the first place.
          PenstockError: the reading broke off later.
        """
        self._reading = True
        try:
            # A pipe may stay silent for ever, a regular file does not: there nothing need be lost.
            data = await trio.to_thread.run_sync(_read, self._number, abandon_on_cancel=self.size_bytes is None)
        except OSError as error:
            self._reading = False
            if not self._begun:
                raise Misuse(f"{self.name}: cannot be read: {error.strerror}. Nothing was sent.") from error
            raise PenstockError(
                f"{self.name}: cannot be read any further: {error.strerror}. The lines before have been run."
            ) from error
        self._reading, self._begun = False, True
        return data

    def close(self) -> None:
        """Be done with it. A read that was given up keeps it open: its number must not become another file's."""
        if self._number and not self._reading:
            os.close(self._number)


def _open_to_read(path: str) -> int:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(number).st_mode):
        os.close(number)
        raise IsADirectoryError(0, "it is a directory")
    return number


def _read(number: int) -> bytes:
    return os.read(number, CHUNK_BYTES)


class LineReader:
    """The lines of a source that are not blank, each with its number.

    `taken_bytes` counts what was handed out; `ended`: all has been read, though perhaps not handed out.
    """

    def __init__(self, source: ByteSource, *, max_bytes: int = MAX_LINE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.taken_bytes = 0
        self.ended = False
        self._source = source
        self._lines: deque[bytes | None] = deque()
        self._part: list[bytes] = []
        self._part_bytes = 0
        self._number = 0
        self._stopped = False
        self._scope: trio.CancelScope | None = None

    @property
    def size_bytes(self) -> int | None:
        """How large the whole input is, None where nobody can know."""
        return self._source.size_bytes

    async def next(self) -> RawLine | None:
        """The next line that is not blank; None after the last one, and once stopped. Raises what the source raises."""
        while not self._stopped:
            while self._lines:
                line = self._lines.popleft()
                self._number += 1
                self.taken_bytes += 1 + (self.max_bytes if line is None else len(line))
                if line is None or (line and not line.isspace()):
                    return RawLine(self._number, line)
            if self.ended:
                return None
            with trio.CancelScope() as self._scope:
                self._split(await self._source.read())
            self._scope = None
        return None

    def stop(self) -> None:
        """Hand out no more lines, and give up a read that waits."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def count_rest(self) -> int | None:
        """How many more lines there are, by reading on to the end; None if that could take for ever, or fails."""
        if self._source.size_bytes is None and not self.ended:
            return None
        self._stopped = False
        count = 0
        with contextlib.suppress(PenstockError):
            while await self.next() is not None:
                count += 1
            return count
        return None

    def _split(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for end in whole:
            self._lines.append(self._completed(end))
        if data:
            self._extend(rest)
            return
        self.ended = True
        if self._part_bytes:
            self._lines.append(self._completed(b""))

    def _completed(self, end: bytes) -> bytes | None:
        """The line that ends with `end`; None if it is too long."""
        self._extend(end)
        line = b"".join(self._part) if self._part_bytes <= self.max_bytes else None
        if line is not None and not self._number and not self._lines:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._part, self._part_bytes = [], 0
        return line

    def _extend(self, data: bytes) -> None:
        if data:
            self._part_bytes += len(data)
            if self._part_bytes <= self.max_bytes:
                self._part.append(data)
