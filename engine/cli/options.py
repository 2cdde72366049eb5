"""The types of the commands' options: numbers with their ranges.

They are checked while the command line is read, so that what is out of range is refused before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter, Token


def _whole(_: object, words: Sequence[Token]) -> int:
    """A whole number as people write it: 600, 200_000 or 1e6. What is none is refused, not rounded."""
    word = words[0].value
    with suppress(ValueError):
        return int(word)
    with suppress(ValueError):
        if (value := float(word)).is_integer():
            return int(value)
    raise ValueError(f"{word!r} is not a whole number.")


def _whole_from_one(_: object, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError("It must be a whole number of at least 1.")


def _whole_from_zero(_: object, value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError("It must be a whole number, 0 or more.")


def _above_zero(_: object, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError("It must be a number above 0.")


def _from_zero(_: object, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError("It must be a number, 0 or more.")


def _fraction(_: object, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError("It must be a probability, from 0 to 1.")


Count = Annotated[int, Parameter(converter=_whole, validator=_whole_from_one)]
CountOrZero = Annotated[int, Parameter(converter=_whole, validator=_whole_from_zero)]
Seconds = Annotated[float, Parameter(validator=_above_zero)]
SecondsOrZero = Annotated[float, Parameter(validator=_from_zero)]
Probability = Annotated[float, Parameter(validator=_fraction)]
