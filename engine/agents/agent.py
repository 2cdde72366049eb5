"""What an agent is: a program, what it can be asked for, how it is started, and how its events are read.

`Program` is the base of all of them; `EventParser` that of their parsers, which sees to it that a run has exactly one
terminal chunk. What an agent knows of the machine it is told in a `Setting`; what it wants of it it says in a `Launch`.

Pure: no trio, no I/O.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

import msgspec

from engine.agents.chunks import Category, Chunk, Error, Notice, Raw, Result, Spent
from engine.agents.options import AgentOptions
from engine.errors import one_line
from engine.providers.wire import mapping, text_or_none
from engine.retry import EXHAUSTED

Options = TypeVar("Options", bound=AgentOptions)

LONGEST_MESSAGE = 500


class Setting(msgspec.Struct, frozen=True):
    """Where a program is going to run.

    `home` is the user's home directory and `private` a directory of this run alone, which only this user can read and
    which is gone afterwards; both are absolute. `base_url` is the service it is to ask, empty for its provider's own.
    `has_key`: a key will be in the environment. `environ` holds those of the user's variables that the agent inherits.
    """

    home: str
    private: str
    base_url: str = ""
    has_key: bool = False
    environ: Mapping[str, str] = {}


class Launch(msgspec.Struct, frozen=True):
    """How a program is to be started.

    `arguments` are those behind the program, and hold neither the prompt nor a key. `prompt` is written to its standard
    input, which is then closed. `env` are further variables, without a key; `key_variable` is the one the key goes in,
    if there is a key. `files` are written to the private directory before it starts, by their paths within it, and
    `links` are symbolic links there, from their paths within it to what they point at. `directories` are absolute
    paths of directories that are made before, for this user alone, where they are missing. `cwd` is where it runs,
    empty for where this process does.
    """

    arguments: tuple[str, ...]
    prompt: str
    env: dict[str, str] = {}
    key_variable: str = ""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    directories: tuple[str, ...] = ()
    cwd: str = ""


class EventParser(ABC):
    """Reads the events of one run. Never raises, whatever a program writes.

    `done`: the program has said its last word, as far as is known, and is to exit by itself now. It may be taken back
    by a later event: of a further turn, or another attempt. `session_id` is that of its session, empty until it is
    known.
    """

    def __init__(self) -> None:
        self.done = False
        self.session_id = ""
        self.success: Result | None = None
        self.failure: Error | None = None
        self._ended = False

    def feed(self, event: object) -> list[Chunk]:
        """The chunks of one event, decoded; none where it says nothing. No terminal one: that comes from `end`."""
        if not isinstance(event, dict) or self._ended:
            return [Raw(raw=event)] if not self._ended else []
        return self.read(event)

    @abstractmethod
    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        """The chunks of one event, which is a JSON object. Sets `done`, `session_id`, `success` and `failure`."""

    def end(self, exit_code: int | None, stderr_tail: str, trouble: Error | None = None) -> list[Chunk]:
        """The program has ended: the terminal chunk, perhaps after others. Empty when called again.

        `exit_code` is negative for a signal, None if it never ran. `trouble` is what went wrong on our side of it
        (a line too long, a silence), and stands over all that the program said. Success is the program's own word for
        it, and nothing that said otherwise; the exit code is a second witness, whose doubt is a `Notice`.
        """
        if self._ended:
            return []
        self._ended = True
        session_id = self.session_id
        failure = trouble or self.failure
        if failure is None and self.success is not None:
            found = self.success
            result = msgspec.structs.replace(found, session_id=found.session_id or session_id)
            if not exit_code:
                return [result]
            return [Notice(text=f"it said that it was done, and then ended with exit code {exit_code}"), result]
        if failure is None:
            failure = self.judge(exit_code, stderr_tail)
        spent = self.failure or self.success
        usage = failure.usage or (spent.usage if spent is not None else None)
        total = failure.total or (spent.total if spent is not None else None)
        own = failure.session_id or session_id
        return [msgspec.structs.replace(failure, session_id=own, usage=usage, total=total)]

    def judge(self, exit_code: int | None, stderr_tail: str) -> Error:
        """What a program failed of that has said nothing itself. A parser that knows its program's words adds to it."""
        said = last_line(stderr_tail)
        if exit_code is not None and exit_code < 0:
            return Error(category="interrupted", message=said or f"it was ended by signal {-exit_code}")
        if exit_code == 0:
            return Error(category="protocol", message=said or "it ended without saying what came of the run")
        return Error(category=category_in(said), message=said or f"it ended with exit code {exit_code}")


class Agent(ABC, Generic[Options]):
    """Something that is asked for a run and tells of it in chunks. Stateless; holds no key.

    `name` is the provider's name. `resumes`: a run may go on with an earlier one's session. `streams_only`: what it
    says is worth reading only as it comes. `free_cached`: its provider does not count towards its limits what was read
    from the cache.
    """

    name: ClassVar[str]
    resumes: ClassVar[bool] = True
    streams_only: ClassVar[bool] = False
    free_cached: ClassVar[bool] = False
    options: type[Options]

    def prepared(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """The arguments as they can be written as JSON: what is named by an object of the caller's is named by a text.

        Raises:
          InvalidCall: an object has no name by which it could be found again.
        """
        return arguments

    def check(self, options: Options) -> None:
        """Refuse what this agent cannot do, beyond what the types of its options say.

        Raises:
          InvalidCall: which option, what is wrong with it, what to do.
        """


class Program(Agent[Options]):
    """An agent that is a command line.

    `program` is what the command is called, `install` how it is installed. `natives` are places, relative to the
    directory of the resolved command, where its real program may stand, when the command itself is only a wrapper.
    `inherits` are variables of the user's that it needs besides those that every program gets. `stop_signal` is what
    ends it best. `counts_sessions`: the usage it states is that of the whole session.
    """

    program: ClassVar[str]
    install: ClassVar[str]
    natives: ClassVar[tuple[str, ...]] = ()
    inherits: ClassVar[tuple[str, ...]] = ()
    stop_signal: ClassVar[Literal["INT", "TERM"]] = "TERM"
    counts_sessions: ClassVar[bool] = False

    @abstractmethod
    def launch(self, options: Options, setting: Setting) -> Launch:
        """How it is started for one run. `options` have passed `check`."""

    @abstractmethod
    def parser(self, options: Options, before: Spent | None) -> EventParser:
        """What reads the events of one run. `before` is what the session that is resumed had cost, as far as it is
        known; a run that resumes none had cost nothing (`NOTHING_SPENT`)."""


# --- for parsers ------------------------------------------------------------------------------------------------------


def last_line(stderr_tail: str) -> str:
    """The last line of what a program wrote to its standard error that has something in it, fit for a message."""
    lines = [line for line in stderr_tail.splitlines() if line.strip()]
    return one_line(lines[-1], LONGEST_MESSAGE) if lines else ""


def category_in(text: str, status: int = 0) -> Category:
    """What a failure is, by the provider's HTTP status, else by the words of a message.

    That credit is used up is known by the provider's codes alone: sentences of billing come with plain throttling, too.
    What only one program says is for its own parser.
    """
    if (not status or 400 <= status <= 499) and not EXHAUSTED.isdisjoint(_CODE.findall(text.lower())):
        return "quota"
    if status == 429:
        return "rate_limit"
    if status in (401, 403):
        return "auth"
    if status == 402:
        return "quota"
    if status >= 500 or status in (408, 409):
        return "server"
    if status >= 400:
        return "rejected"
    return next((category for category, words in _WORDS if words.search(text)), "failed")


_CODE = re.compile(r"[a-z0-9_]+")


def _words(*phrases: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


# Whole phrases: a single word like "network" or "socket" stands in the name of many a file and setting.
_WORDS: tuple[tuple[Category, re.Pattern[str]], ...] = (
    ("quota", _words("credit balance is too low")),
    ("rate_limit", _words("rate[ _-]?limit(?:s|ed|_error|_exceeded)?", "RateLimitError", "too many requests",
                          "resource_exhausted", "quota exceeded")),
    ("auth", _words("unauthori[sz]ed", "api[ _-]key", "(?:invalid|missing) authentication", "failed to authenticate",
                    "authentication[ _]?(?:error|failed|required)", "not logged in", "run /login",
                    "(?:please|must|need to) (?:log|sign) in")),
    ("network", _words("ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "connection refused",
                       "(?:could not|failed to) resolve host", "name or service not known", "connect(?:ion)? timeout")),
    ("cut", _words("ECONNRESET", "EPIPE", "connection reset", "connection error", "connection (?:was )?(?:lost|closed)",
                   "socket hang up", "fetch failed", "stream disconnected", "peer closed connection", "premature close",
                   "(?:connection|request|response|read) timed out")),
    ("server", _words("overloaded(?:_error)?", "internal server error", "service unavailable", "bad gateway",
                      "high demand")),
)  # fmt: skip
"""What programs and their clients say where there is no status. Some of the words for what was ``cut`` are used for
connections that were never made, too; since nobody can tell those apart, they are taken for the one that may cost."""

_STATUS = re.compile(
    r'\A(?:Error: )?([45]\d\d)\b|\bAPI error \(([45]\d\d)\)|\bstatus(?: code)?:? ([45]\d\d)\b|"code"\s*:\s*([45]\d\d)\b'
)


def status_in(text: str) -> int:
    """The provider's HTTP status, where a message tells it in one of the ways that programs have; else 0."""
    found = _STATUS.search(text[:LONGEST_MESSAGE])
    return int(next(group for group in found.groups() if group)) if found else 0


def field(event: Mapping[str, Any], *path: str) -> object:
    """What stands at the end of this path of names; None where one of them is missing."""
    found: object = event
    for name in path:
        found = mapping(found).get(name)
    return found


def text_at(event: Mapping[str, Any], *path: str) -> str:
    """The text at the end of this path of names, empty where there is none."""
    return text_or_none(field(event, *path)) or ""


def joined_texts(parts: object) -> object:
    """What a tool answered, as one text where it consists of nothing but texts."""
    if not isinstance(parts, list) or not parts:
        return parts
    texts = [text for part in parts if isinstance(text := mapping(part).get("text"), str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def amount(value: object) -> float | None:
    """A number that is not negative and of this world, as of money; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and 0 <= found <= 1e9 else None


def milliseconds(value: object) -> float | None:
    """A number of milliseconds in seconds, None for all else."""
    found = amount(value)
    return None if found is None else found / 1000
