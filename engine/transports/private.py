"""A directory of one run alone: made before its program starts, gone when nothing of the program is left.

Nobody but the user can look into it. What is written there stays within it. Knows no agent and no process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence

import trio

from engine.errors import UsageError
from engine.log import log
from engine.transports.threads import in_thread


class NoPrivateDirectory(Exception):  # a signal between two functions, never seen by a caller
    """It could not be made or written to. Its cause is the system's own error."""

    cause: OSError

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.asynccontextmanager
async def private_directory() -> AsyncIterator[str]:
    """The path of a new directory, which is removed with all that is in it, also when cancelled.

    Raises:
      NoPrivateDirectory: it could not be made.
    """
    try:
        path = tempfile.mkdtemp(prefix="penstock-")
    except OSError as error:
        raise NoPrivateDirectory(error) from error
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(_remove, path)


async def furnish(
    private: str, files: Mapping[str, str], links: Mapping[str, str], directories: Sequence[str] = ()
) -> None:
    """Write files, for the user alone to read, and symbolic links into a private directory, by their paths within it;
    and make the directories elsewhere that are missing, for the user alone, too.

    Raises:
      UsageError: a path leads out of it, or is taken; or one of the directories cannot be made.
      NoPrivateDirectory: it could not be written.
    """
    if files or links or directories:
        try:
            await in_thread(_furnish, private, files, links, directories)
        except OSError as error:
            raise NoPrivateDirectory(error) from error


def _furnish(private: str, files: Mapping[str, str], links: Mapping[str, str], directories: Sequence[str]) -> None:
    for name, text in files.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(_within(private, name), flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    for name, target in links.items():  # after the files: none is written through a link
        os.symlink(target, _within(private, name))
    for path in directories:
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            said = f"{path!r}, where the agent keeps its state, could not be made: {error}"
            raise UsageError(f"{said}. Nothing was started. Pass another as state_dir.") from error


def _within(private: str, name: str) -> str:
    parts = name.split("/")
    path = os.path.join(private, name)
    if os.path.isabs(name) or not name or {"", ".", ".."} & set(parts) or "\0" in name or os.path.lexists(path):
        raise UsageError(f"{name!r} is no free path within a run's private directory. Nothing was started.")
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.path.realpath(directory) != os.path.join(os.path.realpath(private), *parts[:-1]):
        raise UsageError(f"{name!r} leads out of a run's private directory. Nothing was started.")
    return path


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):  # a program may have made directories that cannot be written to
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        log.warning("a private directory could not be removed", path=path)


def _open_up(path: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
    for directory, names, _ in os.walk(path):
        for inner in [os.path.join(directory, name) for name in names]:
            with contextlib.suppress(OSError):
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
