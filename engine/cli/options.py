"""The types of the commands' options: numbers with their ranges.

They are checked while the command line is read, so that what is out of range is refused before anything starts.
"""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter


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


Count = Annotated[int, Parameter(validator=_whole_from_one)]
CountOrZero = Annotated[int, Parameter(validator=_whole_from_zero)]
Seconds = Annotated[float, Parameter(validator=_above_zero)]
SecondsOrZero = Annotated[float, Parameter(validator=_from_zero)]
Probability = Annotated[float, Parameter(validator=_fraction)]
