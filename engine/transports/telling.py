"""What an agent tells, on its way to whoever reads its run and into the answer that is kept of it.

The first of it is withheld: a run that fails before the agent did anything may be tried again, so nobody may have read
of it. All of it is recorded, a bound on its size apart, and the key is nowhere in it: an agent may well be told to
print its environment.

Knows no processes and no program: chunks and an attempt only.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence

import msgspec

from actors.transport import Attempt
from engine.agents.chunks import SUBSTANCE, Chunk, Error, Notice, Raw, Result, Session, encode_chunk
from engine.providers.wire import whole_text
from engine.secret import REMOVED, SHORTEST_MASKED, forms_of
from engine.transports.hearing import encode_events
from engine.transports.target import CAP_BYTES

WITHHELD_BYTES = 4 * 1024 * 1024
"""How much may be withheld: a program that says more than this before it begins is read as it speaks."""

_KEEPS_RAW = (Session, Notice, Raw, Result, Error)
_UNWRITABLE = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)
_UNRECORDED = "what the agent said from here on is too much to be kept; whoever read along had it"


class Telling:
    """One run's chunks: `tell` them as they come, then `end` with the terminal one; `body` is what is kept of them.

    `secrets` are removed from all of it, wherever they stand whole. `cap_bytes` bounds what is kept. `began`: the agent
    has said or done something for its task.

    Waits while the reader has enough to read; a checkpoint only then. Cancellation passes through.
    """

    def __init__(self, attempt: Attempt, *, secrets: Iterable[str] = (), cap_bytes: int = CAP_BYTES) -> None:
        self.began = False
        self._attempt = attempt
        self._hidden = _forms(secrets)
        self._room = cap_bytes
        self._is_full = False
        self._withheld: list[bytes] | None = []
        self._withheld_bytes = 0
        self._lines: list[bytes] = []

    async def tell(self, chunks: Sequence[Chunk]) -> None:
        """The agent was heard; `chunks` are all that it said at once, perhaps none. None of them is terminal."""
        self.began = self.began or any(isinstance(chunk, SUBSTANCE) for chunk in chunks)
        events = [self._encoded(chunk) for chunk in chunks]
        if self.began:
            # Not before: what a program says while it starts must not count for the model's answer.
            self._attempt.heard()
        if self._withheld is not None:
            self._withheld += events
            self._withheld_bytes += sum(map(len, events))
            if not self.began and self._withheld_bytes <= WITHHELD_BYTES:
                return
            events, self._withheld = self._withheld, None
        if events:
            await self._attempt.hand_over(encode_events(events))

    async def end(self, terminal: Result | Error, *, again: bool) -> None:
        """The run's terminal chunk. With `again` the run may be tried again, so what was withheld is never told."""
        event = self._encoded(terminal)
        if again and self._withheld is not None:
            return
        events = [*(self._withheld or ()), event]
        self._withheld = None
        await self._attempt.hand_over(encode_events(events))

    def body(self) -> bytes:
        """What is kept: a chunk a line, as JSON."""
        return b"\n".join(self._lines)

    def _encoded(self, chunk: Chunk) -> bytes:
        event = self._clean(_encode(chunk))
        slim = chunk.raw is not None and not isinstance(chunk, _KEEPS_RAW)
        self._record(chunk, self._clean(_encode(msgspec.structs.replace(chunk, raw=None))) if slim else event)
        return event

    def _record(self, chunk: Chunk, line: bytes) -> None:
        if isinstance(chunk, Result | Error):
            self._lines.append(line)
        elif not self._is_full:
            self._room -= len(line) + 1
            self._is_full = self._room < 0
            self._lines.append(encode_chunk(Notice(text=_UNRECORDED)) if self._is_full else line)

    def _clean(self, line: bytes) -> bytes:
        for form in self._hidden:
            if form in line:
                line = line.replace(form, REMOVED.encode())
        return line


def _forms(secrets: Iterable[str]) -> list[bytes]:
    """How the secrets may stand in a line, the longest first: one may be a part of another."""
    found = {form.encode() for secret in secrets if len(secret) >= SHORTEST_MASKED for form in forms_of(secret)}
    return sorted(found, key=len, reverse=True)


def _encode(chunk: Chunk) -> bytes:
    """A chunk as JSON, whatever the program's own event holds: half a character becomes U+FFFD, an object its repr."""
    with contextlib.suppress(*_UNWRITABLE):
        return encode_chunk(chunk)
    with contextlib.suppress(*_UNWRITABLE):
        plain = msgspec.to_builtins(chunk, enc_hook=repr)
        return whole_text(json.dumps(plain, ensure_ascii=False)).encode()
    with contextlib.suppress(*_UNWRITABLE):
        return encode_chunk(msgspec.structs.replace(chunk, raw=None))
    return encode_chunk(Raw(raw="an event that cannot be written as JSON"))
