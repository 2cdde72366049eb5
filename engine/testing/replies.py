"""What a scripted provider does with one request: answers it, refuses it, or lets its connection break.

A reply is data: a status, headers and a body as they would come over the wire, how long everything takes, and at most
one fault. `chat_reply`, `error_reply` and `fault` make the usual ones; bodies are those of OpenAI's chat completions.
What a reply means for the call is not said here: the engine's own reading of it decides.

Pure: no trio, no I/O, no clock, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from actors.errors import UsageError

FaultName: TypeAlias = Literal["closed", "cut_writing", "cut", "cut_reading", "stall"]
"""How an exchange can break, in the order of its phases.

``closed``: the connection turns out to be closed before a byte is written. ``cut_writing``: it breaks while the request
is being written. ``cut``: the request has left, and the connection breaks before an answer. ``cut_reading``: status
and headers come, and the connection breaks within the body. ``stall``: the request has left, and nothing comes, ever.
"""

FAULTS: tuple[FaultName, ...] = get_args(FaultName)


class ProviderReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider does with one request.

    Before the first byte of the request is written `begin_s` pass, then `write_s` until its last byte has left, then
    `delay_s` until the answer is there, or the connection is cut (None: as long as the provider usually takes). All
    are seconds, and may be infinite. `headers` are those of the answer; their names may be written in any case. With
    the faults ``closed``, ``cut_writing``, ``cut`` and ``stall`` there is no answer, and `status` and `body` do not
    matter; with ``cut_reading`` the body does not.

    Raises:
      UsageError: a number is out of its range, or there is no such fault.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    delay_s: float | None = None
    begin_s: float = 0.0
    write_s: float = 0.0
    fault: FaultName | None = None

    def __post_init__(self) -> None:
        if type(self.status) is not int or not 100 <= self.status <= 599:
            raise UsageError(f"status is a whole number from 100 to 599, not {self.status!r}")
        for name in ("delay_s", "begin_s", "write_s"):
            value = getattr(self, name)
            if not is_span(value) and (value is not None or name != "delay_s"):
                raise UsageError(f"{name} is a number of seconds of at least 0, not {value!r}")
        if self.fault is not None and self.fault not in FAULTS:
            raise UsageError(f"there is no fault {self.fault!r}; there are {', '.join(FAULTS)}")

    @property
    def answered(self) -> int:
        """The status the engine gets to see; 0: none comes."""
        return self.status if self.fault in (None, "cut_reading") else 0


Says: TypeAlias = ProviderReply | str | bytes
"""A reply, or for short: the text of a chat reply, or the body of an answer with status 200."""


def reply_of(said: Says) -> ProviderReply:
    """The reply that was meant.

    Raises:
      UsageError: it is none of what a script may say.
    """
    if isinstance(said, ProviderReply):
        return said
    if isinstance(said, str):
        return chat_reply(said)
    if isinstance(said, bytes):
        return ProviderReply(body=said)
    raise UsageError(f"a script says a ProviderReply, a text or the bytes of a body, not {said!r:.100}")


def chat_reply(
    text: str = "hi",
    *,
    input_tokens: int | None = 10,
    output_tokens: int | None = 5,
    finish_reason: str = "stop",
    delay_s: float | None = None,
    begin_s: float = 0.0,
    write_s: float = 0.0,
    headers: Mapping[str, str] | None = None,
    **fields: object,
) -> ProviderReply:
    """A chat completion that says `text` and reports this usage; no usage where either number is None.

    `fields` are written at the top of the body, beside or in place of the usual ones: ``usage=None``. The bytes alone,
    for a server of one's own, are in `.body`.
    """
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }
    if input_tokens is not None and output_tokens is not None:
        body["usage"] = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }
    return ProviderReply(
        headers=headers or {},
        body=msgspec.json.encode(body | fields),
        delay_s=delay_s,
        begin_s=begin_s,
        write_s=write_s,
    )


def error_reply(
    status: int,
    message: str = "no",
    *,
    code: str | None = None,
    retry_after_s: float | None = None,
    delay_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProviderReply:
    """An error as OpenAI writes it: ``error_reply(429, retry_after_s=2)``, ``error_reply(503)``, ``error_reply(400)``.

    `retry_after_s` is the wait the provider asks for, in seconds, told to the millisecond and rounded up; None: it
    does not say.

    Raises:
      UsageError: a number is out of its range.
    """
    hint: dict[str, str] = {}
    if retry_after_s is not None:
        if not is_span(retry_after_s) or math.isinf(retry_after_s):
            raise UsageError(f"retry_after_s is a finite number of seconds of at least 0, not {retry_after_s!r}")
        hint["retry-after"] = str(math.ceil(retry_after_s))
        # A float's last digit must not add a millisecond to a wait of so many exact ones.
        hint["retry-after-ms"] = str(math.ceil(round(retry_after_s * 1_000, 6)))
    body = msgspec.json.encode({"error": {"message": message, "type": "", "param": None, "code": code}})
    return ProviderReply(status=status, headers={**hint, **(headers or {})}, body=body, delay_s=delay_s)


def fault(name: FaultName, *, status: int = 200, delay_s: float | None = None, write_s: float = 0.0) -> ProviderReply:
    """A reply that never arrives whole; see `FaultName`. The connection is of no use afterwards.

    `status` is what a reply that is ``cut_reading`` had begun to say; `delay_s` passes before ``cut`` and
    ``cut_reading``, `write_s` before ``cut_writing``. A ``stall`` ends with the attempt's timeout.

    Raises:
      UsageError: there is no such fault, or a number is out of its range.
    """
    return ProviderReply(status=status, delay_s=delay_s, write_s=write_s, fault=name)


def is_span(value: object) -> bool:
    """Whether this is a number of seconds of at least 0; it may be infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
