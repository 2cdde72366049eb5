"""`CallLog`: a line when a call is about to be queued, and one when it has ended, with what became of it.

The lines go where the engine's own go, see `engine.log`, or to a logger of the user's. They hold identifiers, counts
and times; what a call asks and what it is answered only where that was asked for, then without keys and cut short.
Its handlers never wait, change nothing and fail no call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.call import Call
from engine.errors import UsageError, one_line
from engine.hooks import Handler, HookEventTypes
from engine.log import LEVELS, lets_through, listening, over_stdlib, write
from engine.secret import masked

TEXT_CHARS = 300


class CallLogStatistics(msgspec.Struct, frozen=True):
    """Lines that were written: of calls that began and of calls that ended. `lost` ones the logger did not take."""

    began: int = 0
    ended: int = 0
    lost: int = 0


class CallLog:
    """An extension that logs every call: ``HookRegistry().use(CallLog())``.

    Args:
      logger: a logger of structlog's or of the standard library's; None: where the engine's own lines go.
      level: of its lines: ``debug``, ``info``, ``warning`` or ``error``.
      texts: whether to add what was asked, what was answered and the provider's words for an error: without keys, and
        of each the first 300 characters.

    Raises:
      UsageError: there is no such level.
    """

    def __init__(self, logger: Any = None, level: str = "info", *, texts: bool = False) -> None:
        if level not in LEVELS:
            raise UsageError(f"a log has the levels {', '.join(LEVELS)}, not {level!a:.60}")
        # To write is to be asked for by name, and the standard library's loggers take no fields.
        self._logger = over_stdlib(logger) if isinstance(logger, logging.Logger) else logger
        self._level = level
        self._texts = texts
        self._began = self._ended = self._lost = 0

    def handlers(self) -> Mapping[HookEventTypes, Handler]:
        """One before a call is queued, one after it has ended."""
        return {HookEventTypes.PreInvocation: self._begins, HookEventTypes.PostInvocation: self._ends}

    def statistics(self) -> CallLogStatistics:
        """How many lines it has written."""
        return CallLogStatistics(self._began, self._ended, self._lost)

    def __repr__(self) -> str:
        return f"<CallLog at {self._level}: {self._began + self._ended} lines>"

    async def _begins(self, call: Call, **_: Any) -> None:
        if self._listening():
            fields = {**_of(call), "asked": _asked(call)} if self._texts else _of(call)
            self._began += self._write("call begins", fields)

    async def _ends(self, call: Call, **_: Any) -> None:
        if self._listening():
            fields = {**_of(call), **_outcome(call), **(_said(call) if self._texts else {})}
            self._ended += self._write("call ended", {name: value for name, value in fields.items() if value != ""})

    def _listening(self) -> bool:
        level = LEVELS[self._level]
        try:
            return listening(level) if self._logger is None else lets_through(self._logger, level)
        except Exception:  # noqa: BLE001  # a logger of the user's must not fail a call
            return True

    def _write(self, event: str, fields: Mapping[str, Any]) -> bool:
        written = write(self._level, event, fields, self._logger)
        self._lost += not written
        return written


def _of(call: Call) -> dict[str, Any]:
    """Which call it is."""
    owner = call.owner
    fields = {"call": call.id, "model": call.model, "endpoint": owner.endpoint_name, "lane": owner.lane_name}
    return {**fields, "flow": call.options.flow} if call.options.flow else fields


def _outcome(call: Call) -> dict[str, Any]:
    """What became of it. None: it never came to that, or nobody said."""
    timings, usage, error = call.timings, call.usage, call.error
    return {
        "status": call.status,
        "error": "" if error is None else type(error).__name__,
        "http_status": call.reply.status or "",
        "request_id": getattr(error, "request_id", None) or "",
        "attempts": call.attempts,
        "cached": call.status == "completed" and call.attempts == 0,
        "waited_s": timings.waited_s if timings else None,
        "answering_s": timings.answering_s if timings else None,
        "total_s": timings.total_s if timings else None,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
    }


def _asked(call: Call) -> str:
    payload = call.payload
    asked = payload
    if isinstance(payload, dict):
        asked = next((payload[name] for name in ("messages", "input", "prompt", "query") if name in payload), payload)
    return _short(asked if isinstance(asked, str) else msgspec.json.encode(asked).decode())


def _said(call: Call) -> dict[str, str]:
    return {
        "answered": _short(call.text or ""),
        "message": _short(call.error.message) if call.error is not None else "",
    }


def _short(text: str) -> str:
    return one_line(masked(text), TEXT_CHARS)
