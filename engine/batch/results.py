"""What became of a line, as a line of JSON, and the file these lines are written to as they come.

The provider's answer is copied as its own bytes wherever they are JSON. Lines are gathered while the ones before are
being written, in a thread; what waits to be written is bounded, and whoever adds more waits. A file never ends within
a line: where the disk takes only a part of one, that part is cut off again.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
from typing import Any, Final, Protocol

import msgspec
import trio

from engine.batch.lines import LINE, Request
from engine.batch.models import Misuse
from engine.batch.source import STANDARD, InputFile
from engine.call import Call
from engine.errors import InvalidCall, PenstockError, ProviderError
from engine.providers.answers import request_id_of
from engine.providers.wire import decode_json

WAITING_BYTES: Final = 1 << 20
GATHER_S: Final = 0.02


def result_line(call: Call, request: Request) -> bytes:
    """The result of one line, with its line end."""
    error, reply = call.error, call.reply
    response = None
    if reply.status and (error is None or isinstance(error, ProviderError)):
        response = {
            "status_code": reply.status,
            "request_id": request_id_of(dict(reply.headers), None) or None,
            "body": call.response if reply.streamed else _json(reply.body),
        }
    row = {
        "id": request.id,
        "custom_id": request.custom_id,
        "response": response,
        "error": None if error is None else {"code": code_of(error), "message": error.message, "line": request.number},
    }
    return msgspec.json.encode(row) + b"\n"


def code_of(error: PenstockError) -> str:
    """What kind of error it is, in one word: ``rate_limited``, ``outcome_unknown``, ``invalid_line``."""
    if isinstance(error, InvalidCall) and error.argument == LINE:
        return "invalid_line"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _json(body: memoryview) -> Any:
    """The body as it can stand within a line: its own bytes if they are JSON, else whatever can be made of them."""
    data = bytes(body)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        msgspec.json.decode(data)
        return msgspec.Raw(msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data)
    try:
        return decode_json(data) if data else None
    except msgspec.DecodeError:
        return data.decode("utf-8", "replace")


class Sink(Protocol):
    """Where whole lines are written to."""

    async def append(self, lines: bytes) -> None:
        """Write all of them."""


class Results:
    """The lines on their way to a sink. `write` is for one task at a time; `keep_writing` runs beside it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lines = bytearray()
        self._added = trio.Event()
        self._writing = trio.Lock()
        self._failed = False

    async def write(self, line: bytes) -> None:
        """Add a line; if many wait, wait until they are written. Raises what the sink raises."""
        self._lines += line
        self._added.set()
        if len(self._lines) > WAITING_BYTES:
            await self.flush()

    async def keep_writing(self) -> None:
        """Write what was added, as it is added, until cancelled. Raises what the sink raises."""
        while True:
            await self._added.wait()
            self._added = trio.Event()
            await self.flush()
            await trio.sleep(GATHER_S)

    async def flush(self) -> None:
        """Write what was added and not yet written. After the sink has failed: nothing."""
        async with self._writing:
            if self._lines and not self._failed:
                lines, self._lines = bytes(self._lines), bytearray()
                self._failed = True
                await self._sink.append(lines)
                self._failed = False


class ResultFile:
    """A file of results, or standard output."""

    def __init__(self, name: str, number: int, *, created: bool) -> None:
        self.name = name
        self.is_standard = name == STANDARD
        self._number = number
        self._created = created
        self._regular = stat.S_ISREG(os.fstat(number).st_mode) and not self.is_standard
        self._size_bytes = 0
        self._truncated = False

    @classmethod
    async def open(cls, path: str, *, overwrite: bool, source: InputFile | None = None) -> ResultFile:
        """Open a file to write to; ``-`` is standard output. What stands in it is kept until the first results come.

        Raises:
          Misuse: it cannot be written, or there is one and `overwrite` was not said, or it is the input itself.
        """
        try:
            if path == STANDARD:
                return cls(path, 1, created=False)
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                return cls(path, os.open(path, flags, 0o666), created=True)
            status = os.stat(path)
            if source is not None and os.path.samestat(status, source.status):
                raise Misuse(f"{path} is the input itself; give another file for the results. Nothing was sent.")
            if stat.S_ISREG(status.st_mode) and not overwrite:
                raise Misuse(f"{path} exists; give another file, or --overwrite to replace it. Nothing was sent.")
            # A named pipe opens when somebody reads from it, which may be never.
            number = await trio.to_thread.run_sync(os.open, path, os.O_WRONLY | os.O_CLOEXEC, abandon_on_cancel=True)
            return cls(path, number, created=False)
        except OSError as error:
            raise Misuse(f"{path}: cannot be written: {error.strerror}. Nothing was sent.") from error

    async def append(self, lines: bytes) -> None:
        """Write lines. A regular file has all of them, or only whole ones, even if this is cancelled.

        Raises:
          BrokenPipeError: nobody reads any more.
          PenstockError: it cannot be written any further.
        """
        try:
            with trio.CancelScope(shield=self._regular):
                await trio.to_thread.run_sync(self._append, lines, abandon_on_cancel=not self._regular)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise PenstockError(
                f"{self.name}: cannot be written any further: {error.strerror}. The results that stand in it are "
                "whole; calls that were under way have been dropped and may have been billed."
            ) from error

    def finish(self) -> None:
        """All results have been written: what stood in the file before is gone, even if there were none."""
        self._truncate()
        self._created = False

    def close(self) -> None:
        """Keep what was written. If nothing was, and `finish` was not called, all is as it was before `open`."""
        if self._created and not self._size_bytes:
            with contextlib.suppress(OSError):
                os.unlink(self.name)
        if not self.is_standard:
            os.close(self._number)

    def _truncate(self) -> None:
        if self._regular and not self._truncated:
            os.ftruncate(self._number, 0)
        self._truncated = True

    def _append(self, lines: bytes) -> None:
        self._truncate()
        written = 0
        try:
            while written < len(lines):
                with contextlib.suppress(BlockingIOError):
                    written += os.write(self._number, memoryview(lines)[written:])
                    continue
                # Whoever shares the pipe with us has made it one that does not wait.
                select.select([], [self._number], [])
        except OSError:
            written = lines.rfind(b"\n", 0, written) + 1
            if self._regular:
                os.ftruncate(self._number, self._size_bytes + written)
            raise
        finally:
            self._size_bytes += written
