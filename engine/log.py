"""The project's one logger: structlog in front, the standard library's logger ``penstock`` behind.

Silent until the application configures logging: the library configures nothing, prints nothing and writes no file.
``logging.basicConfig(level=logging.DEBUG)`` shows requests. Only identifiers and counts are logged, never a header, a
key, or what a call says.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

_logger = logging.getLogger("penstock")
_logger.addHandler(logging.NullHandler())

log: Any = structlog.wrap_logger(
    _logger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
)


def debugging() -> bool:
    """Whether anybody wants to see requests: asked before a line is put together."""
    return _logger.isEnabledFor(logging.DEBUG)
