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

_AGAIN_S = (0.0, 0.1, 0.5, 2.0)


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
            await _removed(path)


async def _removed(path: str) -> None:
    for wait_s in _AGAIN_S:
        if await in_thread(_remove, path):
            return
        await trio.sleep(wait_s)  # there may be no file number left for it now
    log.warning("a private directory could not be removed", path=path)


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


def _remove(path: str) -> bool:
    """Whether it is gone. A link that a program has put in its place is removed, and not followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(path)
            return True
        with contextlib.suppress(OSError):
            _flatten(path)  # what a program has made too deep, or has taken the permissions of
            os.rmdir(path)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return not os.path.lexists(path)


def _flatten(top: str) -> None:
    """Empty a directory however deep it is: what a directory holds is moved up before it is removed."""
    os.chmod(top, 0o700)
    number = 0
    while entries := list(os.scandir(top)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    while os.path.lexists(place := f"{top}/{number}"):
                        number += 1
                    os.chmod(inner.path, 0o700)  # it is moved only by who may write to it
                    os.rename(inner.path, place)
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
