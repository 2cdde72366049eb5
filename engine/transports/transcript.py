"""One run of an agent on its way from events to an answer, the same for programs and for chats of a library.

Events become chunks, the chunks are told, and the last of them becomes the verdict. A parser's bug costs no more than
the event it was about. The answer's verdict is ``unknown`` where nobody can say what the run has done. Besides: the
answer of a run that never began, and the lines that a log has of each run.

Knows no process, no thread and no single agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.clock import now_us
from actors.messages import APICalling, Fault, Reply
from actors.transport import Answer, Attempt
from engine.agents.agent import Agent, EventParser
from engine.agents.chunks import Chunk, Error, Raw, Result
from engine.agents.verdicts import is_unknown, reading_of
from engine.log import debugging, log
from engine.providers.wire import Reading, Usage, mapping, text_or_none
from engine.secret import SHORTEST_MASKED
from engine.transports.answers import answer_of
from engine.transports.target import CAP_BYTES, shown
from engine.transports.telling import Telling

_LONGEST_KIND = 200


class Ended(msgspec.Struct, frozen=True):
    """How a run ended: its last chunk, what that means, and the answer."""

    terminal: Result | Error
    reading: Reading
    answer: Answer

    @property
    def complete_usage(self) -> Usage | None:
        """What the run has used, if it came to its end: from what one that failed has used nothing can be learnt."""
        return self.reading.usage if isinstance(self.terminal, Result) else None


class Transcript:
    """One run of `agent`: `read` its events, `tell` the chunks, then `end` it, once.

    `secrets` are removed from all that is told, kept or said of it; `cap_bytes` bounds what is kept.
    """

    def __init__(
        self,
        agent: Agent[Any],
        parser: EventParser,
        attempt: Attempt,
        *,
        secrets: Sequence[str] = (),
        cap_bytes: int = CAP_BYTES,
    ) -> None:
        self.parser = parser
        self._agent = agent
        self._secrets = [secret for secret in secrets if len(secret) >= SHORTEST_MASKED]  # else it is a word besides
        self._telling = Telling(attempt, secrets=secrets, cap_bytes=cap_bytes)
        self._bug = ""

    def read(self, event: object, *, raw_bytes: int | None = None) -> list[Chunk]:
        """The chunks of one event, decoded. With `raw_bytes`, its size, it is too long to be passed on besides what the
        chunks say themselves."""
        parser = self.parser
        before = parser.success, parser.failure
        try:
            chunks = parser.feed(event)
        except Exception as error:  # noqa: BLE001  # a bug of the parser's must not cost what the agent did
            self._note_bug(error)
            chunks = [Raw(raw=event)]
        if raw_bytes is None:
            return chunks
        if parser.success is not None and parser.success is not before[0]:
            parser.success = msgspec.structs.replace(parser.success, raw=None)
        if parser.failure is not None and parser.failure is not before[1]:
            parser.failure = msgspec.structs.replace(parser.failure, raw=None)
        return [_without_raw(chunk, event, raw_bytes) for chunk in chunks]

    async def tell(self, chunks: Sequence[Chunk]) -> None:
        """The agent was heard; `chunks` are all that it said at once, perhaps none. None of them is terminal.

        Waits while the reader has enough to read; a checkpoint only then. Cancellation passes through.
        """
        await self._telling.tell(chunks)

    async def end(
        self,
        *,
        exit_code: int | None = None,
        stderr_tail: str = "",
        trouble: Error | None = None,
        before: Sequence[Chunk] = (),
    ) -> Ended:
        """The run is over: tell the rest, `before` and what the parser has left, and say what came of it.

        `exit_code`, `stderr_tail` and `trouble` are those of `EventParser.end`. Waits as `tell` does.
        """
        *rest, terminal = self._last_chunks(exit_code, stderr_tail, trouble)
        assert isinstance(terminal, Result | Error), "a parser ends with a terminal chunk"
        telling = self._telling
        await telling.tell([*before, *rest])
        reading = reading_of(
            terminal,
            name=self._agent.name,
            began=telling.began,
            exit_code=exit_code,
            stderr_tail=stderr_tail,
            free_cached=self._agent.free_cached,
        )
        # Another attempt may follow either; whether it does is not for the run to say: see `Verdict`.
        unknown = is_unknown(terminal, began=telling.began)
        await telling.end(terminal, again=unknown or reading.advice.verdict == "retry")
        status = terminal.status if isinstance(terminal, Error) else 200
        body = telling.body()
        answer = answer_of(reading, status=status, body=body, keep=True, secrets=self._secrets, streamed=True)
        if unknown:
            answer = msgspec.structs.replace(answer, verdict="unknown")
        return Ended(terminal, reading, answer)

    def _last_chunks(self, exit_code: int | None, stderr_tail: str, trouble: Error | None) -> list[Chunk]:
        try:
            return self.parser.end(exit_code, stderr_tail, trouble)
        except Exception as error:  # noqa: BLE001  # as above
            self._note_bug(error)
            message = f"what it said cannot be understood: a bug in penstock ({self._bug}), please report it"
            return [trouble or Error(category="protocol", message=message)]

    def _note_bug(self, error: Exception) -> None:
        if not self._bug:
            self._bug = type(error).__name__
            log.error("an event of an agent could not be read", agent=self._agent.name, error=self._bug)


def _without_raw(chunk: Chunk, event: object, size: int) -> Chunk:
    if not isinstance(chunk, Raw):
        return msgspec.structs.replace(chunk, raw=None)
    kind = text_or_none(mapping(event).get("type")) or ""
    return Raw(raw={"type": kind[:_LONGEST_KIND], "left_out": f"an event of {size:,} bytes"})


def not_started(fault: Fault) -> Answer:
    """The answer of a run that never began, for a reason that another attempt would meet again."""
    return Answer(verdict="failed", charge="nothing", reply=Reply(fault=fault), keep=True)


def note_start(calling: APICalling, to: str) -> int:
    """A line in the log for a run that is about to begin. When that was, or -1 if nobody reads it."""
    if not debugging():
        return -1
    log.debug("request", call=calling.call_id, to=to, body_bytes=len(calling.body))
    return now_us()


def note_end(calling: APICalling, to: str, answer: Answer, begun_us: int) -> None:
    """A line in the log for the answer to a run whose beginning has one."""
    if begun_us >= 0 and debugging():
        ms = (now_us() - begun_us) // 1000
        log.debug("answer", call=calling.call_id, to=to, status=answer.reply.status, ms=ms, **shown(answer))
