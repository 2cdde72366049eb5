"""What AG2 and its client log: without keys in it, and nowhere at all until somebody has set up logging.

AG2 logs a failing turn with its traceback, and providers repeat the key that they refuse.

Standard library's logging only; imports no AG2.
"""

from __future__ import annotations

import logging
import traceback

from engine.secret import masked

_LOUD = ("ag2", "autogen", "openai", "httpx2", "httpcore2")
_NOWHERE = logging.NullHandler()


def mask_logs() -> None:
    """Have the loggers of AG2 and of its client remove keys from what they log, and keep it off a standard error that
    nobody has set up for it. As many times as one likes: those of what was imported since are added."""
    for name in _LOUD:
        logging.getLogger(name).addHandler(_NOWHERE)  # else the interpreter's last resort would write it there
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LOUD:
            logging.getLogger(name).addFilter(_without_keys)


def _without_keys(record: logging.LogRecord) -> bool:
    """A filter: rendered here, a traceback no longer holds the objects that know the key."""
    text = record.getMessage()
    if (clean := masked(text)) != text:
        record.msg, record.args = clean, ()
    if record.exc_info:
        record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip())
        record.exc_info = None
    return True
