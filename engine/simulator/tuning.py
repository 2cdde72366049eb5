"""Settings for a process that does nothing but simulate: its memory and its open files are its own.

Never called where a user's program runs in the same process.
"""

from __future__ import annotations

import gc
import resource


def tune_process() -> None:
    """Collect rarely, and never what was there at the start: a full collection among ten thousand waiting
    requests stops the loop for tens of milliseconds. Take every file descriptor the system lets us have."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
