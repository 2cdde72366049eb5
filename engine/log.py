"""The project's one logger: structlog in front, the standard library's logger ``penstock`` behind.

Silent until the application configures logging: the library configures nothing, prints nothing and writes no file.
``logging.basicConfig(level=logging.DEBUG)`` shows requests. Where the application has configured structlog, lines go
through its processors, its wrapper class and its logger factory instead. No key is in any line, and but for what a
user asks of `engine.ready.call_log` none says what a call says. A line that cannot be written costs no call.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import structlog

from engine.secret import masked

NAME = "penstock"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_MOST_NESTED = 8

_logger = logging.getLogger(NAME)
_logger.addHandler(logging.NullHandler())


# --- keys -------------------------------------------------------------------------------------------------------------


def mask_keys(_logger: object, _method: str, event: Any) -> Any:
    """A structlog processor that removes keys: from every value of an event, or from a line that is rendered already.

    Put it last, behind the renderer: then it also sees what that has made of an exception and of its frames' variables.
    Only `structlog.stdlib.ProcessorFormatter.wrap_for_formatter` has to come behind it.
    """
    if isinstance(event, dict):
        _mask_exception(event)
    return _masked(event, 0)


def _mask_exception(event: dict[str, Any]) -> None:
    """An exception that says a key is rendered here and now; any other stays for who renders it later."""
    error = event.get("exc_info")
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple) and len(error) == 3:
        error = error[1]
    if isinstance(error, BaseException) and (text := _without_keys(_told(error))) is not None:
        del event["exc_info"]
        event["exception"] = text


def _masked(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, bytes | bytearray):
        text = _without_keys(value.decode("latin-1"))
        return value if text is None else text.encode("latin-1")
    if depth < _MOST_NESTED:
        if isinstance(value, dict):
            return {_masked(name, depth + 1): _masked(one, depth + 1) for name, one in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)([_masked(one, depth + 1) for one in value])
    return _masked_object(value)


def _masked_object(value: Any) -> Any:
    """Itself, or a text in its place if what it shows holds a key."""
    shown = _told(value) if isinstance(value, BaseException) else f"{value!r}"
    text = _without_keys(shown)
    if text is None:
        text = _without_keys(str(value))
    return value if text is None else text


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _without_keys(text: str) -> str | None:
    """The text without keys; None if there are none in it."""
    clean = masked(text)
    return None if clean == text else clean


class _Mask(logging.Filter):
    """Removes keys from the lines of other libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(("Encoded header block to", "Decoding b")):  # hpack's: headers, in a code anybody can read
            return False
        clean = masked(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


_mask = _Mask()
_FOREIGN = (
    "httpx",
    *[f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")],
    "hpack.hpack",
    "hpack.table",
)


def mask_foreign_lines() -> None:
    """Have keys removed from what httpx and its parts log at DEBUG: headers, as they are sent and as they come.

    Neither their levels nor their handlers are touched.
    """
    for name in _FOREIGN:
        logging.getLogger(name).addFilter(_mask)  # it takes none twice


# --- lines ------------------------------------------------------------------------------------------------------------


def over_stdlib(logger: logging.Logger) -> Any:
    """A structlog logger that writes to one of the standard library's, with the context variables of structlog."""
    return structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            mask_keys,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
            mask_keys,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
    )


_ours = over_stdlib(_logger)


class _Applications:
    """The logger that the application's configuration of structlog makes for us, to be asked what it lets through.

    It is made anew when the configuration has changed. Lines are not written through it: a logger may hold on to what
    ``sys.stdout`` was when it was made.
    """

    def __init__(self) -> None:
        self._config: Mapping[str, Any] | None = None
        self._logger: Any = None

    def logger(self) -> Any:
        config = structlog.get_config()
        if config != self._config:
            self._logger, self._config = _bound(), config
        return self._logger


def _bound() -> Any:
    """A new logger by the application's configuration."""
    try:
        logger = structlog.get_logger(NAME).bind()
    except TypeError:  # a factory that takes no name
        logger = structlog.get_logger().bind()
    # Its async twin hands lines to a thread of asyncio.
    return logger.sync_bl if isinstance(logger, structlog.stdlib.AsyncBoundLogger) else logger


_applications = _Applications()


def lets_through(logger: Any, level: int) -> bool:
    """Whether a logger, of structlog's or of the standard library's, would write a line of this level."""
    if isinstance(logger, logging.Logger):
        return logger.isEnabledFor(level)
    # Asked of its class: some loggers turn every name into a method that logs.
    ask = getattr(type(logger), "is_enabled_for", None)
    if ask is not None and not ask(logger, level):
        return False
    behind = vars(logger).get("_logger") if hasattr(logger, "__dict__") else None
    return behind.isEnabledFor(level) if isinstance(behind, logging.Logger) else True


def listening(level: int) -> bool:
    """Whether anybody wants to see our lines of this level."""
    if not structlog.is_configured():
        return _logger.isEnabledFor(level)
    try:
        return lets_through(_applications.logger(), level)
    except Exception:  # noqa: BLE001  # a configuration that does not work is the application's, and costs no call
        return False


def debugging() -> bool:
    """Whether anybody wants to see requests: asked before a line is put together."""
    if not structlog.is_configured():  # asked for every request: the shortest way
        return _logger.isEnabledFor(logging.DEBUG)
    return listening(logging.DEBUG)


def write(level: str, event: str, fields: Mapping[str, Any], logger: Any = None) -> bool:
    """Write a line: by the application's configuration of structlog, else to the standard library's logger, or to a
    structlog logger that is given. Whether that went well; it never raises."""
    try:
        if logger is None:
            logger = _bound() if structlog.is_configured() else _ours
        getattr(logger, level)(masked(event), **{name: _masked(value, 0) for name, value in fields.items()})
    except Exception:  # noqa: BLE001  # what is wrong with the application's processors must not cost a call
        return False
    return True


class Log:
    """The lines of the library, by level."""

    def debug(self, event: str, **fields: Any) -> None:
        """For who looks at what is sent. Put nothing together for it before `debugging` said that somebody does."""
        write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What is worth knowing and in order."""
        write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What went wrong and was dealt with."""
        write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What went wrong for good."""
        write("error", event, fields)


log = Log()
