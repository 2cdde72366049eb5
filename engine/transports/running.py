"""One run of a program while it goes on: its lines become chunks, the chunks are told, and its end becomes an answer.

Lines that are no JSON are notices, up to a number; events that cannot be read are passed on as they are. What goes
wrong on our side of the program stands over all that it says. Nothing that it said is lost to a cancellation that comes
after its last word; a program that then goes on all the same can be cancelled again, and has the time it needs.

The process itself is for `engine.transports.child`, what the chunks come to for `engine.transports.transcript`. Must
not know any single program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import trio

from actors.transport import Attempt
from engine.agents.agent import EventParser, Program
from engine.agents.chunks import Chunk, Error, Notice
from engine.secret import Secret
from engine.sse import LineReader, TooLong
from engine.transports.child import Child
from engine.transports.lines import Hidden, event_of, notice_of
from engine.transports.threads import in_thread
from engine.transports.transcript import Ended, Transcript

LONG_BYTES = 256 * 1024
"""A line that is longer is read in a thread: others go on meanwhile, as far as Python's lock lets them."""

RAW_BYTES = 64 * 1024
"""The longest line of which the program's own event is passed on besides what it says."""

MOST_LATE_LINES = 10_000
"""How many lines are read after its last word, unless that is taken back."""

MOST_NOTICES = 1_000
_NO_MORE = "it writes more lines that are no JSON; they are left out from here on"


class ProgramRun:
    """One run. `secrets` are removed from all that is told, kept or said of it, as far as `Hidden` knows them;
    `cap_bytes` bounds a line. `claim` is called with the name of the run's session, as often as it is told."""

    def __init__(
        self,
        program: Program[Any],
        parser: EventParser,
        attempt: Attempt,
        *,
        secrets: Sequence[Secret],
        cap_bytes: int,
        claim: Callable[[str], None],
    ) -> None:
        self._parser = parser
        self._attempt = attempt
        revealed = [secret.reveal() for secret in secrets]
        self._transcript = Transcript(program, parser, attempt, secrets=revealed, cap_bytes=cap_bytes)
        self._hidden = Hidden(revealed)
        self._cap_bytes = cap_bytes
        self._claim = claim
        self._notices = 0
        self._late_lines = 0

    async def all_of(self, child: Child, prompt: str, start_s: float) -> Ended:
        """Read the program to its end, stop what is left of it, and say what came of it. `start_s` is for the message.

        Cancellation passes through when nothing is left of the program; what it says while it is stopped is thrown
        away, the count of what it has cost among it.
        """
        trouble: Error | None = None
        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child.write, prompt.encode("utf-8", "replace"), self._attempt.sent)
                    nursery.start_soon(child.listen, self._cap_bytes)
                    nursery.start_soon(child.drain_errors)
                    nursery.start_soon(child.watch)
                    trouble = await self._read(child, scope, start_s)
                    # All has been said: to be cancelled now would lose it.
                    scope.shield = True
                    if trouble is None:
                        await child.grace()
                    nursery.cancel_scope.cancel()
            finally:
                await child.stop()
        return await self._ended(child, trouble)

    # --- while it runs ---

    async def _read(self, child: Child, scope: trio.CancelScope, start_s: float) -> Error | None:
        """Tell all that it says; what went wrong on our side, if anything did."""
        reader = LineReader(cap_bytes=self._cap_bytes)
        try:
            while data := await child.read():
                if lines := cast(list[bytes], reader.feed(data)):
                    child.spoke()
                    await self._take(lines, child, scope)
            if lines := cast(list[bytes], reader.end()):
                await self._take(lines, child, scope)
        except TooLong:
            limit = f"{self._cap_bytes:,} bytes"
            return Error(category="protocol", message=f"it wrote a line of more than {limit}, and was stopped")
        if child.silent:
            message = f"it wrote no line within start_s={start_s:g} seconds, and was stopped"
            return Error(category="failed", message=message)
        return None

    async def _take(self, lines: Sequence[bytes], child: Child, scope: trio.CancelScope) -> None:
        """Tell these lines, and see whether the last of them is its last word."""
        chunks, goes_on = list[Chunk](), False
        for line in lines:
            if len(line) > LONG_BYTES:
                with trio.CancelScope(shield=True):  # what was said before it is not told yet
                    chunks += await in_thread(self._chunks_of, line)
            else:
                chunks += self._chunks_of(line)
            goes_on = goes_on or not self._parser.done
        self._claim(self._parser.session_id)
        shield, scope.shield = scope.shield, False  # a reader who has left is waited for until it is cancelled
        await self._transcript.tell(chunks)
        if goes_on and shield:
            shield = False
            child.expect_more()
        scope.shield = shield
        if self._parser.done and not shield:
            # While it lives: what it started is found by its parents, should it have emptied its environment.
            scope.shield = True
            await child.look_around()
            self._late_lines = 0
            child.expect_end(child.GRACE_S)
        elif shield:
            self._late_lines += len(lines)
            if self._late_lines > MOST_LATE_LINES:
                child.expect_end(child.GRACE_S, 0)

    def _chunks_of(self, line: bytes) -> list[Chunk]:
        line = self._hidden.out_of(line)
        try:
            event = event_of(line)
        except msgspec.DecodeError:
            self._notices += 1
            if self._notices > MOST_NOTICES:
                return [Notice(text=_NO_MORE)] if self._notices == MOST_NOTICES + 1 else []
            return [Notice(text=notice_of(line))]
        return self._transcript.read(event, raw_bytes=len(line) if len(line) > RAW_BYTES else None)

    # --- its end ---

    async def _ended(self, child: Child, trouble: Error | None) -> Ended:
        exit_code, before = child.exit_code, list[Chunk]()
        if trouble is None and child.was_stopped:
            # The exit code is what we made of it, and says nothing.
            exit_code = None
            if self._parser.success is None and self._parser.failure is None:
                trouble = Error(category="protocol", message="it closed its output and said nothing of what came of it")
            before.append(Notice(text="it did not exit by itself after its last word, and was stopped"))
        tail = self._hidden.out_of_text(child.stderr_tail())
        return await self._transcript.end(exit_code=exit_code, stderr_tail=tail, trouble=trouble, before=before)
