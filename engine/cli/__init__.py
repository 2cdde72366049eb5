"""The command line: `main` finds the command, runs it on trio and turns how it ended into an exit code.

Rules for every file here: data goes to stdout, progress and errors to stderr. Exit codes are 0 all completed, 1 some
failed, 2 misuse and nothing sent, 130 and 143 interrupted. A user's mistake is one line that says what it is and what
to do, never a traceback. A file per command, which parses and prints only; commands are imported when they are run, so
that ``--help`` is quick. Must not be imported by any other room.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError, UnknownCommandError, UnusedCliTokensError

from engine.errors import PenstockError, UsageError
from engine.opening import only_cause

COMPLETED = 0
SOME_FAILED = 1
MISUSE = 2
INTERRUPTED = 130

COMMANDS = {
    "demo": "Run calls through a simulated provider at its limit, with faults injected, and show what was spent.",
    "run": "Run a file of requests: one line of JSON each in, one line of JSON each out.",
    "call": "Make one call and print its answer.",
    "simulate": "Run the simulated provider alone, for anybody's client, until interrupted.",
    "providers": "List the known providers: address, key variable, and whether it is set.",
}


def main() -> None:
    """The `penstock` command: runs what was typed and exits with its code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors are one line on stderr."""
    try:
        code = _unwrapped(arguments)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_said_of(error), MISUSE)
    except UsageError as error:
        return _fail(_one_line(error.message), MISUSE)
    except PenstockError as error:
        return _fail(_one_line(error.message), SOME_FAILED)
    except BrokenPipeError:
        # Whoever read our output has left, which is his right; nothing may be written at exit any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else COMPLETED


def build_app(typed: str = "") -> App:
    """The commands, not yet imported. The one that was typed shows its own help, the others their summary."""
    app = App(
        name="penstock",
        help="Spend every bit of a rate limit, never a bit more, and lose no call.",
        version=_version,
        backend="trio",
        suppress_keyboard_interrupt=False,
    )
    for place, (name, summary) in enumerate(COMMANDS.items()):
        about = None if name == typed else summary
        app.command(f"engine.cli.{name}:{name}", name=name, help=about, sort_key=place)
    return app


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:
        return "unknown: run from a source tree that is not installed"


def _unwrapped(arguments: Sequence[str]) -> object:
    """Run the command; an error that comes as a group of one is raised as itself."""
    try:
        app = build_app(arguments[0] if arguments else "")
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except BaseExceptionGroup as group:
        raise only_cause(group) from None


def _said_of(error: CycloptsError) -> str:
    """What is wrong with the command line, in one line, and where help is."""
    error.verbose = False
    unused = " ".join(error.unused_tokens or ())
    if isinstance(error, UnknownCommandError):
        # Its own sentence would import every command to look for a similar name.
        near = get_close_matches(unused.partition(" ")[0], COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(COMMANDS)}."
        said = f"Unknown command: {unused}. {hint}"
    elif isinstance(error, UnusedCliTokensError):
        said = f"Unexpected argument: {unused}."
    else:
        said = str(error)
    return f"{_one_line(said)} See {' '.join(['penstock', *(error.command_chain or ())])} --help."


def _fail(message: str, code: int) -> int:
    print(f"penstock: {message}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    return " ".join(message.split())
