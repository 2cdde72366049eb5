"""Where an agent's command is found, and the environment it is started with.

The environment is made from a list of what every program may see; nothing else of the user's gets into it but what the
agent needs and what the caller names. A user's environment holds the keys of all his providers, and an agent prints
its own to whoever asks it to.

Starts nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from engine.agents.agent import Launch, Program
from engine.agents.options import AgentOptions
from engine.errors import AgentNotInstalled, UsageError
from engine.secret import SHORTEST_MASKED
from engine.transports.sweep import VARIABLE

PLACES = ("~/.local/bin", "/usr/local/bin", "/opt/homebrew/bin")
"""Where a command is looked for that is not in PATH: services and desktops have a short one."""

_ALLOWED = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TERM TMPDIR
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
    SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE
    """.split()  # noqa: SIM905  # a table of words as it reads best
)
_FAMILIES = ("LC_", "XDG_")
_ADDRESS = re.compile(r"\A[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SECRET = re.compile(r"auth|key|secret|credential|passw|token", re.IGNORECASE)


def home_of(environ: Mapping[str, str]) -> str:
    """The user's home directory, absolute."""
    return os.path.abspath(environ.get("HOME") or os.path.expanduser("~"))


def find(program: Program[Any], environ: Mapping[str, str], home: str) -> str:
    """The absolute path of an agent's command, or of the real program that it only wraps.

    Raises:
      AgentNotInstalled: it is neither in PATH nor where it may stand otherwise.
    """
    path = environ.get("PATH") or os.defpath
    places = [os.path.join(home, place[2:]) if place.startswith("~/") else place for place in PLACES]
    found = shutil.which(program.program, path=path) or shutil.which(program.program, path=os.pathsep.join(places))
    if found is None:
        raise AgentNotInstalled(
            f"{program.name} is the command {program.program!r}, which is neither in PATH nor in {', '.join(PLACES)}. "
            f"Install it ({program.install}), or say where it is with program=. Nothing was started."
        )
    return unwrapped(program, os.path.abspath(found))


def checked(program: Program[Any], path: str, home: str) -> str:
    """The same for a command whose path was given.

    Raises:
      AgentNotInstalled: there is none, or it cannot be run.
    """
    full = os.path.abspath(os.path.join(home, path[2:]) if path.startswith("~/") else path)
    if not os.path.isfile(full):
        raise AgentNotInstalled(
            f"program={path!r} is no file. Give the path of {program.program!r}, or install it ({program.install}). "
            "Nothing was started."
        )
    if not os.access(full, os.X_OK):
        raise AgentNotInstalled(f"program={path!r} may not be executed; `chmod +x` it. Nothing was started.")
    return unwrapped(program, full)


def located(program: Program[Any], path: str | None, environ: Mapping[str, str], home: str) -> str:
    """The absolute path of an agent's command: at the path that a call names, else where it is found.

    Raises:
      AgentNotInstalled: there is none, or it cannot be run.
    """
    return find(program, environ, home) if path is None else checked(program, path, home)


def unwrapped(program: Program[Any], command: str) -> str:
    """The real program behind a command that only starts it, where it is found; else the command."""
    base = os.path.dirname(os.path.realpath(command))
    for native in program.natives:
        path = os.path.normpath(os.path.join(base, native))
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return command


def check_directory(path: str | None) -> None:
    """Refuse a working directory that is none: starting a program there fails as if the program were missing.

    Raises:
      UsageError: there is none, or it may not be entered.
    """
    if path is None:
        return
    if not os.path.isdir(path):
        raise UsageError(f"cwd={path!r} is no directory; make it first. Nothing was started.")
    if not os.access(path, os.X_OK):
        raise UsageError(f"cwd={path!r} may not be entered; give another. Nothing was started.")


def inherited(program: Program[Any], options: AgentOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """What of the user's environment this agent needs, and what the caller wants it to see, as far as there is any."""
    names = (*program.inherits, *options.pass_env)
    return {name: value for name in names if (value := environ.get(name))}


def environment(
    launch: Launch, given: Mapping[str, str], environ: Mapping[str, str], *, home: str, key: str
) -> dict[str, str]:
    """All that a program will have in its environment; `given` is what was `inherited`. Nothing in it is empty."""
    found = {name: environ[name] for name in environ if name in _ALLOWED or name.startswith(_FAMILIES)}
    found["HOME"] = home
    if outer := environ.get(VARIABLE):
        found[VARIABLE] = outer
    found |= given
    found |= launch.env
    if key and launch.key_variable:
        found[launch.key_variable] = key
    return {name: value for name, value in found.items() if value}


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """What in an environment looks like keys: values by their names, and in addresses the name and the password."""
    found = [value for name, value in env.items() if _SECRET.search(name)]
    for name, value in env.items():
        if _ADDRESS.match(value) or name.lower().endswith("_proxy"):
            found += _logins(value)
    return [value for value in dict.fromkeys(found) if len(value) >= SHORTEST_MASKED]


def _logins(address: str) -> list[str]:
    """``user:password`` of an address, and the password alone, each as it stands there and as it is meant."""
    authority = re.split(r"[/?#]", _ADDRESS.sub("", address), maxsplit=1)[0]
    login = authority.rpartition("@")[0]
    password = login.partition(":")[2]
    return [login, unquote(login), password, unquote(password)]
