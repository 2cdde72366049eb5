"""One run of a program while it goes on: its lines become chunks, the chunks are told, and its end becomes an answer.

Lines that are no JSON are notices, events that cannot be read are passed on as they are; what goes wrong on our side of
the program stands over all that it says. Nothing that it said is lost to a cancellation that comes after its last word.

The process itself is for `engine.transports.child`. Must not know any single program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import trio

from actors.transport import Answer, Attempt
from engine.agents.agent import EventParser, Program
from engine.agents.chunks import Chunk, Error, Notice, Raw, Result
from engine.agents.verdicts import reading_of
from engine.errors import one_line
from engine.log import log
from engine.providers.wire import Reading, decode_json
from engine.secret import Secret, masked
from engine.sse import LineReader, TooLong
from engine.transports.answers import answer_of
from engine.transports.child import Child
from engine.transports.telling import Telling

_NOTICE_CHARS = 500


class Run:
    """One run. `secrets` are removed from all that is told, kept or said of it; `cap_bytes` bounds a line."""

    def __init__(
        self, program: Program[Any], parser: EventParser, attempt: Attempt, secrets: Sequence[Secret], cap_bytes: int
    ) -> None:
        self._program = program
        self._parser = parser
        self._attempt = attempt
        self._secrets = [secret.reveal() for secret in secrets]
        self._telling = Telling(attempt, secrets=self._secrets, cap_bytes=cap_bytes)
        self._cap_bytes = cap_bytes
        self._bug = ""

    async def all_of(self, child: Child, prompt: str, start_s: float) -> tuple[Result | Error, Reading, Answer]:
        """Read the program to its end, stop what is left of it, and say what came of it. `start_s` is for the message.

        Cancellation passes through when nothing is left of the program.
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
                lines = cast(list[bytes], reader.feed(data))
                if lines:
                    child.spoke()
                    await self._tell(lines, scope)
                if self._parser.done and not scope.shield:
                    # While it lives: what it started is found by its parents, should it have emptied its environment.
                    scope.shield = True
                    await child.look_around()
                    child.expect_end(child.GRACE_S)
            if lines := cast(list[bytes], reader.end()):
                await self._tell(lines, scope)
        except TooLong:
            limit = f"{self._cap_bytes:,} bytes"
            return Error(category="protocol", message=f"it wrote a line of more than {limit}, and was stopped")
        if child.silent:
            message = f"it wrote no line within start_s={start_s:g} seconds, and was stopped"
            return Error(category="failed", message=message)
        return None

    async def _tell(self, lines: Sequence[bytes], scope: trio.CancelScope) -> None:
        chunks = [chunk for line in lines for chunk in self._chunks_of(line)]
        shield, scope.shield = scope.shield, False  # a reader who has left is waited for until it is cancelled
        await self._telling.tell(chunks)
        scope.shield = shield

    def _chunks_of(self, line: bytes) -> list[Chunk]:
        try:
            event = decode_json(line)
        except msgspec.DecodeError:
            return [Notice(text=_clipped(line))]
        try:
            return self._parser.feed(event)
        except Exception as error:  # noqa: BLE001  # a bug of the parser's must not cost what the agent did
            self._note_bug(error)
            return [Raw(raw=event)]

    # --- its end ---

    async def _ended(self, child: Child, trouble: Error | None) -> tuple[Result | Error, Reading, Answer]:
        tail = masked(child.stderr_tail())
        *before, terminal = self._last_chunks(child, tail, trouble)
        assert isinstance(terminal, Result | Error), "a parser ends with a terminal chunk"
        await self._telling.tell(before)
        reading = reading_of(
            terminal,
            name=self._program.name,
            began=self._telling.began,
            exit_code=child.exit_code,
            stderr_tail=tail,
            free_cached=self._program.free_cached,
        )
        await self._telling.end(terminal, again=reading.advice.verdict == "retry")
        status = terminal.status if isinstance(terminal, Error) else 200
        body = self._telling.body()
        answer = answer_of(reading, status=status, body=body, keep=True, secrets=self._secrets, streamed=True)
        return terminal, reading, answer

    def _last_chunks(self, child: Child, tail: str, trouble: Error | None) -> list[Chunk]:
        parser, before, exit_code = self._parser, list[Chunk](), child.exit_code
        if trouble is None and child.was_stopped:
            # The exit code is what we made of it, and says nothing.
            exit_code = None
            if parser.success is None and parser.failure is None:
                trouble = Error(category="protocol", message="it closed its output and said nothing of what came of it")
            before.append(Notice(text=f"it did not exit within {child.GRACE_S:g} seconds of its end, and was stopped"))
        try:
            return [*before, *parser.end(exit_code, tail, trouble)]
        except Exception as error:  # noqa: BLE001  # as above
            self._note_bug(error)
            message = f"what it said cannot be understood: a bug in penstock ({self._bug}), please report it"
            return [*before, trouble or Error(category="protocol", message=message)]

    def _note_bug(self, error: Exception) -> None:
        if not self._bug:
            self._bug = type(error).__name__
            log.error("an event of an agent could not be read", agent=self._program.name, error=self._bug)


def _clipped(line: bytes) -> str:
    return one_line(masked(line[: 8 * _NOTICE_CHARS].decode("utf-8", "replace")), _NOTICE_CHARS)
