"""What a call wants of the engine, `CallOptions`, and where its time went, `Timings`.

Options are checked when they are made, so that whatever is wrong with one is said before anything is sent. None of them
reaches a provider. Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from actors.limits import is_count, is_number
from engine.config import FLOW_RULE, is_flow
from engine.errors import InvalidCall, one_line
from engine.hooks import HookEventTypes, HookOptions, hook_options_of


class CallOptions(msgspec.Struct, frozen=True):
    """What a call wants of the engine; none of it reaches a provider.

    `deadline_s` counts from submit and bounds the whole call (None: no bound); `timeout_s` bounds each attempt from its
    grant. Within that, `first_byte_s` bounds the wait for the answer to begin (a stream: for its first event), counted
    from when the request has left, and `idle_s` every silence after that, which a stream's keep-alive comments do not
    break (None: no bound). ``on_unknown="retry"`` allows another attempt when the request had left and no complete
    answer came back, which may be billed twice. `metadata` is the caller's own and is handed back untouched.
    `max_attempts` bounds how often it is tried, failed connections included. Where the provider answers later, the
    second poll is `poll_s` after the first, and each further wait a tenth longer, up to a minute.
    `hook_options` says for each phase (`HookEventTypes` or its name) how its handlers are run: `HookOptions`, or a dict
    of its fields.

    Raises:
      InvalidCall: a value is out of range or of the wrong type; the message names it.
    """

    priority: int = 0
    flow: str = ""
    deadline_s: float | None = None
    timeout_s: float = 600.0
    metadata: Mapping[str, Any] | None = None
    on_unknown: Literal["fail", "retry"] = "fail"
    first_byte_s: float | None = None
    idle_s: float | None = None
    hook_options: Mapping[HookEventTypes, HookOptions] | None = None
    max_attempts: int = 4
    poll_s: float = 0.5

    def __post_init__(self) -> None:
        if not is_number(self.priority) or self.priority != int(self.priority) or abs(self.priority) > 1 << 31:
            raise _invalid("priority", self.priority, "a whole number; smaller is served earlier")
        msgspec.structs.force_setattr(self, "priority", int(self.priority))
        if not is_flow(self.flow):
            raise _invalid("flow", self.flow, FLOW_RULE)
        if self.deadline_s is not None and not _is_span(self.deadline_s):
            raise _invalid("deadline_s", self.deadline_s, "seconds from submit, at least 0.001, or None")
        if not _is_span(self.timeout_s):
            raise _invalid("timeout_s", self.timeout_s, "seconds for each attempt, at least 0.001")
        for name in ("first_byte_s", "idle_s"):
            value = getattr(self, name)
            if value is not None and not _is_span(value):
                raise _invalid(name, value, "seconds, at least 0.001, or None")
        if not is_count(self.max_attempts) or self.max_attempts > 100:
            raise _invalid("max_attempts", self.max_attempts, "a whole number from 1 to 100")
        if not _is_span(self.poll_s):
            raise _invalid("poll_s", self.poll_s, "seconds between polls, at least 0.001")
        if self.metadata is not None and not isinstance(self.metadata, Mapping):
            raise _invalid("metadata", type(self.metadata), "a mapping of your own, or None")
        if self.on_unknown not in ("fail", "retry"):
            raise _invalid("on_unknown", self.on_unknown, '"fail" or "retry"')
        if self.hook_options is not None:
            msgspec.structs.force_setattr(self, "hook_options", hook_options_of(self.hook_options))


def _is_span(value: object) -> bool:
    return isinstance(value, int | float) and is_number(value) and 0.001 <= value <= 366 * 86_400


def _invalid(name: str, value: object, wanted: str) -> InvalidCall:
    # What stands in the wrong place may be a key.
    shown = one_line(ascii(value), 80)
    return InvalidCall(f"{name} must be {wanted}, not {shown}; nothing was sent", argument=name)


OPTION_NAMES = frozenset(CallOptions.__struct_fields__)
NO_OPTIONS = CallOptions()


class Timings(msgspec.Struct, frozen=True):
    """Where a call's time went, in seconds; None for what it never reached.

    `waited_s` from submit to its last grant, `sending_s` from there until the request had left, `answering_s` from
    there to the end, `first_chunk_s` from there to the first event of a stream, `total_s` from submit to the end,
    backoffs included.
    """

    waited_s: float | None
    sending_s: float | None
    answering_s: float | None
    total_s: float
    first_chunk_s: float | None = None
