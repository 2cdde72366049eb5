"""The one file the library itself reads: the configuration its user names.

Read in a thread, so that a slow disk does not stall the loop. What the text means is `engine.config`'s business.
"""

from __future__ import annotations

import trio

from engine.errors import UsageError


async def read_text(path: str) -> str:
    """The text of a file.

    Raises:
      UsageError: it cannot be read; the message says which and why.
    """
    try:
        return await trio.Path(path).read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: the configuration cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: the configuration is not UTF-8 text") from error
