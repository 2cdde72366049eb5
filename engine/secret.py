"""Keys, and texts without them: a key is held so that it does not get out by accident, and taken out where it did.

No repr, no pickle and no comparison in a log shows a `Secret`; whoever needs it asks for it by name. As long as one is
held anywhere, `masked` knows its text and removes it from whatever others composed: a provider's error, a handler's
exception, another library's log. What only looks like a key is removed, too. Pure: no I/O.
"""

from __future__ import annotations

import json

from engine.errors import KEY_SHAPED

REMOVED = "[key removed]"
"""Stands where a key was."""

SHORTEST_MASKED = 8
"""Characters. What is shorter is the placeholder of a local server (``ollama``, ``EMPTY``), and a word besides."""

_SHORTEST_SHAPED = 11
"""Nothing shorter has the shape of a key: three characters of a prefix, and eight."""

_known: dict[int, tuple[str, ...]] = {}
"""The secrets that are held, by the object that holds each; with each the forms it takes inside a repr and in JSON."""


class Secret:
    """A text that shows itself only to `reveal`. Pickled or copied across processes it is empty.

    `masked` knows it from here on, and forgets it with the last one that holds it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= SHORTEST_MASKED:
            _known[id(self)] = forms_of(value)

    def __del__(self, known: dict[int, tuple[str, ...]] = _known) -> None:
        known.pop(id(self), None)

    def reveal(self) -> str:
        """The text itself: for the one place that sends it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "'***'" if self._value else "''"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, ("",)


def forms_of(value: str) -> tuple[str, ...]:
    """How a text may stand in others: as it is, in a repr, in JSON as some write it."""
    in_json = json.dumps(value)[1:-1]
    return tuple({value, repr(value)[1:-1], in_json, in_json.replace("/", "\\/")})


def masked(text: str) -> str:
    """`text` without any key that is held by a `Secret`, and without what is shaped like a key. Safe in any thread."""
    found = {form for forms in set(_known.values()) for form in forms if form in text}
    for form in sorted(found, key=len, reverse=True):  # the longest first: one may be a part of another
        text = text.replace(form, REMOVED)
    return KEY_SHAPED.sub(REMOVED, text) if len(text) >= _SHORTEST_SHAPED else text
