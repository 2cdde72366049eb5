"""A key, held so that it does not get out by accident: no repr, no pickle and no comparison in a log shows it.

Whoever needs it asks for it by name. Pure: no I/O.
"""

from __future__ import annotations


class Secret:
    """A text that shows itself only to `reveal`. Pickled or copied across processes it is empty."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for the one place that sends it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "'***'" if self._value else "''"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, ("",)
