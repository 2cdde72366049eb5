"""How a simulated model of aiXplain behaves: its identifier says so, in words with hyphens between them, in any order.

``async-2-fail-m`` is asked twice in vain and then fails; ``llm-stream-split-m`` is a language model whose streams have
their JSON over several lines. Words are read from the left up to the first that is none of these; what is left is a
name. A model without any is plain: its answer comes at once at v2, and at v1 after one vain poll.

`WORDS` is the whole vocabulary. Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple


class Behaviour(NamedTuple):
    """What a model does. `polls`: how many polls are in vain, None where nothing was said. `start` is an odd first
    answer, `end` an odd last one, `usage` an odd usage; `status` of a run and `poll_status` of a poll are errors (0:
    none), the latter of the first `poll_times` polls alone (0: of all). `reasoning` is the name under which a stream
    has it, and `fields` says that its events have more lines than their data. `record` is what befalls who asks for the
    model itself, `epochs` how many its training has told of."""

    llm: bool = False
    now: bool = False
    polls: int | None = None
    start: str = ""
    end: str = ""
    usage: str = ""
    status: int = 0
    poll_status: int = 0
    poll_times: int = 0
    stream: str = ""
    reasoning: str = ""
    fields: bool = False
    fault: str = ""
    record: str = ""
    epochs: int | None = None

    @property
    def streams(self) -> bool:
        """Whether it says of itself that it streams."""
        return self.llm or bool(self.stream)


_Change = dict[str, Any]

WORDS: Final[dict[str, _Change]] = {
    "llm": {"llm": True},
    "sync": {},
    "now": {"now": True},
    "async": {"polls": 1},
    "fail": {"end": "fail"},
    "coded": {"end": "coded"},
    "supplier": {"end": "supplier"},
    "warn": {"end": "warn"},
    "odd-status": {"end": "odd-status"},
    "list": {"end": "list"},
    "no-completed": {"end": "no-completed"},
    "no-data": {"start": "no-data"},
    "no-status": {"start": "no-status"},
    "foreign-poll": {"start": "foreign-poll"},
    "html": {"fault": "html"},
    "poll-html": {"poll_status": 200},
    "no-usage": {"usage": "none"},
    "nan-usage": {"usage": "nan"},
    "text-usage": {"usage": "text"},
    "stream": {"stream": "envelope"},
    "stream-envelope": {"stream": "envelope"},
    "stream-done": {"stream": "done"},
    "stream-status": {"stream": "status"},
    "stream-text": {"stream": "text"},
    "stream-openai": {"stream": "openai"},
    "stream-split": {"stream": "split"},
    "stream-json": {"stream": "json"},
    "stream-plain": {"stream": "plain"},
    "stream-bare": {"stream": "bare"},
    "stream-html": {"stream": "html"},
    "stream-reasoning": {"stream": "openai", "reasoning": "reasoning"},
    "stream-reasoning-details": {"stream": "openai", "reasoning": "reasoning_details"},
    "fields": {"fields": True},
    "comments": {"fault": "stream_comments"},
    "stream-cut": {"stream": "envelope", "fault": "stream_cut"},
    "stream-error": {"stream": "envelope", "fault": "stream_error"},
    "stream-failed": {"stream": "failed", "fault": "stream_error"},
    "no-done": {"fault": "stream_no_done"},
    "missing": {"record": "missing"},
    "kept": {"record": "kept"},
}
"""What each word changes. Besides: ``async-N``, ``status-NNN``, ``poll-NNN``, ``poll-NNN-TIMES`` and ``epochs-N``."""

_NUMBERS: Final = (
    ("polls", re.compile(r"async-(\d{1,6})-")),
    ("status", re.compile(r"status-([45]\d\d)-")),
    ("poll_status poll_times", re.compile(r"poll-([45]\d\d)-(?:(\d{1,6})-)?")),
    ("epochs", re.compile(r"epochs-(\d{1,3})-")),
)
_WORD: Final = re.compile("|".join(f"{word}-" for word in sorted(WORDS, key=len, reverse=True)))


def behaviour_of(model: str) -> Behaviour:
    """What the words of an identifier say."""
    said, rest = Behaviour(), f"{model}-"
    while rest:
        for fields, pattern in _NUMBERS:
            if match := pattern.match(rest):
                pairs = zip(fields.split(), match.groups(), strict=True)
                numbers: _Change = {field: int(number) for field, number in pairs if number is not None}
                said = said._replace(**numbers)
                break
        else:
            match = _WORD.match(rest)
            if match is None:
                return said
            said = said._replace(**WORDS[match[0][:-1]])
        rest = rest[match.end() :]
    return said
