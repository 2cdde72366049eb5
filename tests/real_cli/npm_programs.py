"""The four programs, each of one version, installed by npm into a prefix of its own that is kept between runs.

A prefix is made under a temporary name and renamed when it is whole, so one that is there is good; a lock sees to it
that of several processes that want one only the first makes it. Where npm gets packages from is npm's matter.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

INSTALL_S = 600


class Package(NamedTuple):
    """One program: what it is called, and what npm calls it."""

    program: str
    name: str
    version: str


CLAUDE = Package("claude", "@anthropic-ai/claude-code", "2.1.329")
CODEX = Package("codex", "@openai/codex", "0.169.0")
GEMINI = Package("gemini", "@google/gemini-cli", "0.61.0")
PI = Package("pi", "@mariozechner/pi-coding-agent", "0.73.1")


class InstallFailed(Exception):
    """npm could not install a package; the message is what it said."""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where prefixes are kept: ``penstock/real_cli`` in the user's cache."""
    given = environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path(environ.get("HOME") or Path.home(), ".cache")) / "penstock" / "real_cli"


def installed(package: Package, npm: str, cache: Path) -> Path:
    """The directory with the package's command, which is installed first if it is not there. Waits for others.

    Raises:
      InstallFailed: npm failed, took too long, or made no such command.
    """
    prefix = cache / f"{package.program}@{package.version}"
    commands = prefix / "node_modules" / ".bin"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{prefix.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, also by a process that dies
        if not prefix.exists():
            _install(package, npm, prefix)
    return commands


def _install(package: Package, npm: str, prefix: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(dir=prefix.parent, prefix=f".{prefix.name}."))
    try:
        wanted = f"{package.name}@{package.version}"
        command = [npm, "install", "--prefix", str(unfinished), "--no-audit", "--no-fund", "--loglevel=error", wanted]
        try:
            done = subprocess.run(  # noqa: S603  # npm, and one of the packages above
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=INSTALL_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InstallFailed(f"npm could not install {wanted}: {error}") from error
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace")[-2_000:]
            raise InstallFailed(f"npm could not install {wanted}; exit code {done.returncode}: {said}")
        if not (unfinished / "node_modules" / ".bin" / package.program).exists():
            raise InstallFailed(f"npm installed {wanted}, which has no command {package.program!r}")
        os.rename(unfinished, prefix)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
