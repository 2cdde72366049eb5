"""A benchmark's server in a process of its own, and the open files that it and its clients need.

The server is a module of this package that is told its settings as JSON, prints its port in its first line, serves
until its standard input ends, and then prints what it counted.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator

from benchmarks.harness import ROOT, Measured, Settings


def may_open(files: int) -> None:
    """Let this process, and those it starts, hold so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise SystemExit(f"{files} open files are needed and the system allows {hard}: see ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


@contextlib.contextmanager
def server(module: str, settings: Settings, names: Iterable[str]) -> Iterator[tuple[int, int, Measured]]:
    """The server's port, the file it writes to meanwhile, and what it counted once the block has ended.

    It is told those settings that are named.
    """
    command = [sys.executable, "-m", module, json.dumps({name: settings[name] for name in names})]
    counted: Measured = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.stdout.fileno(), counted
        rest, _ = process.communicate(timeout=60)  # ends its standard input
        counted.update(json.loads(rest))
