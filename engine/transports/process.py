"""Coding agents that are command lines, for endpoint workers: a call is a run of a program, and its answer the chunks.

`ProcessTransport` knows how it is started; `ProcessConnection` runs it for one call at a time, in a session and a
directory of its own, and turns everything that can happen to it into an `Answer`. However a run ends, nothing of it is
left when `exchange` returns: see `engine.transports.child`, and `engine.transports.sweep` for what is not found.

What a program is asked and what it says is for `engine.agents`. Must not import anything of lanes, quotas or retries
beyond the `Transport` protocol.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from actors.errors import ConnectFailed, UsageError
from actors.messages import APICalling, Fault
from actors.transport import Answer, Attempt, Transport
from engine.agents.agent import Launch, Program, Setting
from engine.agents.chunks import NOTHING_SPENT, Spent
from engine.agents.options import AgentOptions
from engine.errors import fault_of
from engine.log import debugging, log
from engine.secret import Secret
from engine.transports.child import Child
from engine.transports.private import NoPrivateDirectory, furnish, private_directory
from engine.transports.programs import (
    check_directory,
    environment,
    home_of,
    inherited,
    located,
    secrets_in,
)
from engine.transports.running import ProgramRun
from engine.transports.sessions import Turn, sessions_of
from engine.transports.target import CAP_BYTES
from engine.transports.transcript import Ended, not_started, note_end, note_start

if TYPE_CHECKING:
    from engine.providers.wire import Usage

MOST_SESSIONS = 10_000
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class _Plan(msgspec.Struct, frozen=True):
    """One run as it is going to be started. `secrets` are held so that nobody can say them."""

    options: AgentOptions
    command: str
    launch: Launch
    env: dict[str, str]
    secrets: list[Secret]


class ProcessTransport(Transport):
    """How to run one program with one key. Runs nothing by itself; a run is the business of a connection.

    `base_url` is the service the program is to ask, empty for its provider's own; `key` goes into its environment and
    nowhere else. `on_usage` is called with each call and the usage its run reported, and must not raise. `environ` is
    the environment it is chosen from (default: this process's), `home` the user's home directory (default: HOME of
    that). `cap_bytes` bounds a line of its output, and what is kept of a run. `children` is how many run now.

    Whether the program is there is not looked at here: each run may name another. See `check`.
    """

    kind = "process"

    def __init__(
        self,
        program: Program[Any],
        *,
        base_url: str = "",
        key: Secret | None = None,
        on_usage: Callable[[APICalling, Usage], None] | None = None,
        environ: Mapping[str, str] | None = None,
        home: str | None = None,
        cap_bytes: int = CAP_BYTES,
    ) -> None:
        self.program = program
        self.cap_bytes = cap_bytes
        self.children = 0
        self._environ = dict(os.environ if environ is None else environ)
        self._home = home or home_of(self._environ)
        self._base_url = base_url
        self._key = key
        self._on_usage = on_usage
        self._totals: OrderedDict[str, Spent] = OrderedDict()

    async def connect(self) -> ProcessConnection:
        """A place for one run at a time. Nothing is opened."""
        await trio.lowlevel.checkpoint()
        return ProcessConnection(self)

    def check(self, body: bytes | memoryview) -> tuple[AgentOptions, str]:
        """The options of a call, and the absolute path of the command that it starts: what can be known to be wrong
        with it before it is queued, and may yet become so.

        Raises:
          AgentNotInstalled: there is no such command, or it cannot be run. Nothing was started.
          UsageError: its working directory is none, or these are no options.
        """
        try:
            options: AgentOptions = msgspec.json.decode(body, type=self.program.options)
        except msgspec.DecodeError as error:  # whoever writes the bodies has checked them
            raise UsageError(f"these are no options of {self.program.name}: {error}. Nothing was started.") from None
        command = located(self.program, options.program, self._environ, self._home)
        check_directory(options.cwd)
        return options, command

    def plan(self, calling: APICalling, private: str) -> _Plan:
        """What one call comes to.

        Raises:
          UsageError: it cannot be run; nothing was started.
        """
        options, command = self.check(calling.body)
        given = inherited(self.program, options, self._environ)
        key = self._key.reveal() if self._key is not None else ""
        setting = Setting(self._home, private, self._base_url, bool(key), given)
        launch = self.program.launch(options, setting)
        env = environment(launch, given, self._environ, home=self._home, key=key)
        held = [Secret(value) for value in secrets_in(env)]
        return _Plan(options, command, launch, env, [*held, *([self._key] if self._key is not None else [])])

    def spent_before(self, options: AgentOptions) -> Spent | None:
        """What the session that a run resumes had cost, None if that is not known."""
        return self._totals.get(options.resume) if options.resume else NOTHING_SPENT

    def forget(self, options: AgentOptions) -> None:
        """A run is going on: what its session has cost is not known until it says so, and perhaps it never does."""
        if options.resume:
            self._totals.pop(options.resume, None)

    def learn(self, calling: APICalling, ended: Ended) -> None:
        """Remember what a session has cost, and tell of the usage of a run that succeeded."""
        terminal = ended.terminal
        if self.program.counts_sessions and terminal.session_id and terminal.total is not None:
            self._totals[terminal.session_id] = terminal.total
            if len(self._totals) > MOST_SESSIONS:
                self._totals.popitem(last=False)
        if self._on_usage is not None and (usage := ended.complete_usage) is not None:
            self._on_usage(calling, usage)

    def __repr__(self) -> str:
        return f"<ProcessTransport {self.program.name}>"


class ProcessConnection:
    """A place for one run at a time. Made by `ProcessTransport.connect`; nothing is open between runs."""

    def __init__(self, transport: ProcessTransport) -> None:
        self._transport = transport
        self._exchanges = 0

    def usable(self) -> bool:
        """A program that is not running can always be started."""
        return True

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Run the program for one call, hand its chunks over, and end all that it started.

        A run that resumes a session waits, before it begins, until nothing is left of the one that is at it. Calls
        `attempt.begin` right before the program is started and `attempt.sent` when it has its whole prompt. What
        cannot be started is a failed answer that says what to do; nothing was spent.

        Raises:
          ConnectFailed: the system has no room for another process now; nothing was started.
          TooLate: from `begin`; nothing was started. It may have waited too long for its session.

        Cancellation passes through, once nothing of the run is left: at once for a program that takes notice, after
        `Child.GRACE_S` and a moment for one that does not. A run that has ended by then is answered all the same; one
        that is cut short is not, and what its program says while it is stopped is thrown away with what it has cost.
        What is left then is at most what nothing leads to any more: see `engine.transports.sweep`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._exchanges += 1
        try:
            async with private_directory() as private:
                plan = self._transport.plan(calling, private)
                await furnish(private, plan.launch.files, plan.launch.links, plan.launch.directories)
                options = plan.options
                session = options.resume or getattr(options, "session_id", None)
                async with sessions_of(self._transport.program.name).turn(session) as turn:
                    return await self._run(calling, attempt, plan, turn)
        except UsageError as error:
            return not_started(fault_of(error))
        except NoPrivateDirectory as error:
            remedy = "Give it a place where it can write (TMPDIR)"
            return _refused(error.cause, "a private directory for the run could not be made", remedy)

    async def _run(self, calling: APICalling, attempt: Attempt, plan: _Plan, turn: Turn) -> Answer:
        transport, launch = self._transport, plan.launch
        program: Program[Any] = transport.program
        parser = program.parser(plan.options, transport.spent_before(plan.options))
        run = ProgramRun(
            program, parser, attempt, secrets=plan.secrets, cap_bytes=transport.cap_bytes, claim=turn.claim
        )
        attempt.begin()
        begun_us = note_start(calling, plan.command)
        try:
            child = await Child.start(
                [plan.command, *launch.arguments],
                env=plan.env,
                cwd=launch.cwd or plan.options.cwd or "",
                stop_signal=program.stop_signal,
                first_within_s=plan.options.start_s,
            )
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            answer = _refused(error, f"{plan.command} could not be started", _remedy(number, program))
        else:
            transport.forget(plan.options)
            transport.children += 1
            try:
                ended = await run.all_of(child, launch.prompt, plan.options.start_s)
            finally:
                transport.children -= 1
            transport.learn(calling, ended)
            answer = ended.answer
        note_end(calling, plan.command, answer, begun_us)
        return answer

    async def aclose(self) -> None:
        """Nothing is open between exchanges, and an exchange ends what it began."""

    def __repr__(self) -> str:
        return f"<ProcessConnection {self._transport.program.name}, {self._exchanges} exchanges>"


def _refused(error: OSError | ValueError, what: str, remedy: str) -> Answer:
    """The system did not do what was wanted.

    Raises:
      ConnectFailed: for want of room, which passes.
    """
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, OSError) and error.errno in _PASSING:
        if debugging():
            log.debug("connection failed", to=what, error=reason)
        raise ConnectFailed(f"{what} now ({reason}). Nothing was started.") from None
    return not_started(Fault("AgentError", f"{what} ({reason}). {remedy}. Nothing was spent."))


def _remedy(number: int | None, program: Program[Any]) -> str:
    anew = f"install it anew ({program.install})"
    return {
        errno.ENOENT: f"It, or the interpreter it names, is not there any more: {anew}",
        errno.EACCES: "It may not be executed: see to its permissions, and to those of the working directory",
        errno.ENOEXEC: f"It is no program for this machine: {anew}",
        errno.E2BIG: "Its arguments and environment are too long: shorten the system prompt",
    }.get(number or 0, f"See to it that it can be run, or {anew}")
