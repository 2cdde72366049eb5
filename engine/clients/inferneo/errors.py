"""What can go wrong at an Inferneo server, in the three classes its document names, made of the engine's errors.

The engine's error is the ``__cause__`` of each: it says whose fault it was and whether anything was spent. A server's
own sentence is taken from wherever it stands: ``error.message``, ``detail`` as text or as FastAPI's list, plain text.

Nothing here waits. No message holds a key: what looks like one in a server's sentence is masked.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from engine.call import Call
from engine.errors import (
    DeadlineExceeded,
    EngineNotRunning,
    InvalidCall,
    OutcomeUnknown,
    PenstockError,
    ProviderError,
    Truncated,
    one_line,
)
from engine.providers.documents import json_body
from engine.providers.wire import decode_json, mapping, text_or_none
from engine.secret import masked

_SENTENCE_CHARS = 2_000
_BOUNDS = re.compile(r"\b(timeout_s|first_byte_s|idle_s)\b")
"""What the engine calls the bounds that a client's `timeout` sets."""


class InferneoError(Exception):
    """Anything that went wrong: a wrong argument, no connection, a stream that was cut; or one of its two subclasses.

    `message` says what; `argument` names the argument that cannot be sent, if it is one. ``__cause__`` is the engine's
    own error.
    """

    def __init__(self, message: str = "", *, argument: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.argument = argument


class InferneoAPIError(InferneoError):
    """The server answered, and the answer is an error.

    `status_code` is the HTTP status (200: a success that holds an error, or that cannot be read), `code` and `type` the
    server's own words for it, `body` what it sent, decoded where it is JSON, `retry_after` the wait it asked for, in
    seconds; each of them None where it did not say.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int = 0,
        code: str | None = None,
        type: str | None = None,  # noqa: A002  # the server's word for it
        body: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.type = type
        self.body = body
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, status_code={self.status_code})"


class InferneoTimeoutError(InferneoError):
    """No whole answer within `timeout` (a call's own is `timeout_s`), or within a call's `deadline_s`. The request may
    have been served."""


def failure_of(call: Call) -> InferneoError | None:
    """Why a call that has ended did not complete; None if it did."""
    error = call.error
    if error is None:
        return None
    failure = _answered(call, error) if isinstance(error, ProviderError) else error_from(error)
    failure.__cause__ = error
    return failure


def error_from(error: PenstockError) -> InferneoError:
    """The engine's error in the document's classes, where no answer came."""
    timed_out = isinstance(error, DeadlineExceeded) or (isinstance(error, OutcomeUnknown) and error.reason == "timeout")
    if timed_out:
        return InferneoTimeoutError(_BOUNDS.sub("timeout", error.message))
    return InferneoError(error.message, argument=error.argument if isinstance(error, InvalidCall) else "")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Within the block, the engine's errors become the document's; but that no engine is open stays what it is."""
    try:
        yield
    except EngineNotRunning:
        raise
    except PenstockError as error:
        raise error_from(error) from error


def _answered(call: Call, error: ProviderError) -> InferneoError:
    if isinstance(error, Truncated):
        return InferneoError(error.message)
    body = _without_keys(call.response)
    text = bytes(call.reply.body).decode("utf-8", "replace") if body is None else ""
    said = mapping(mapping(body).get("error"))
    sentence = one_line(_sentence(body) or masked(text), _SENTENCE_CHARS) or error.message
    return InferneoAPIError(
        sentence,
        status_code=error.status or 0,
        code=_word(said.get("code")),
        type=_word(said.get("type")),
        body=masked(text) or None if body is None else body,
        retry_after=error.retry_after_s,
    )


def _without_keys(body: Any) -> Any:
    """A decoded body without the keys that it repeats, however they were escaped on the wire."""
    try:
        written = json_body(body).decode()
    except InvalidCall:
        return body
    clean = masked(written)
    return body if clean == written else decode_json(clean.encode())


def _sentence(payload: object) -> str:
    """The server's own sentence; empty if there is none."""
    if isinstance(payload, str):
        return payload
    body = mapping(payload)
    error, detail = body.get("error"), body.get("detail")
    for found in (mapping(error).get("message"), error, detail, mapping(detail).get("message"), body.get("message")):
        if text := text_or_none(found):
            return text
    return "; ".join(filter(None, map(_problem, detail))) if isinstance(detail, list) else ""


def _problem(item: object) -> str:
    """One entry of FastAPI's list: the field, and what is wrong with it."""
    found = mapping(item)
    place = found.get("loc")
    field = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    message = text_or_none(found.get("msg")) or text_or_none(item) or ""
    return f"{field}: {message}" if field and message else message


def _word(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int)) and value != "" else None
