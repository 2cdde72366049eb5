"""Which of a lane's quotas a provider means, when it says how its limits stand.

Only a quota of the same dimension and about the same period can be meant, so that the limit of a day never tightens
that of a minute. Where the provider names no period, what it says of the reset must agree with the quota's, and only
one period in the lane may.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.limits import capacity_of
from actors.messages import Observed
from actors.meters import Meter
from actors.queues import Reservation

_LONGEST_UNNAMED_US = 3_600_000_000
_ROUNDED_US = 1_000_000
"""Resets are rounded up to whole seconds by some."""


def meant(meters: Sequence[Meter], said: Observed) -> list[Meter]:
    """The quotas that `said` is about: none, one, or several that are alike."""
    alike = [meter for meter in meters if meter.dimension == said.dimension and _agree(meter.spec.period_us, said)]
    if said.period_us:
        least = min([abs(meter.spec.period_us - said.period_us) for meter in alike], default=0)
        return [meter for meter in alike if abs(meter.spec.period_us - said.period_us) == least]
    return alike if len({meter.spec.period_us for meter in alike}) == 1 else []


def _agree(period_us: int, said: Observed) -> bool:
    if said.period_us:
        return 2 * min(period_us, said.period_us) > max(period_us, said.period_us)
    if period_us > _LONGEST_UNNAMED_US or not 0 <= said.remaining < said.limit:
        return False
    # A window is empty after a period at most; a bucket fills at one even speed, whatever is missing in it.
    bucket_us = said.reset_us * said.limit // (said.limit - said.remaining)
    return said.reset_us * 20 <= period_us * 21 + 20 * _ROUNDED_US and 2 * max(said.reset_us, bucket_us) >= period_us


def tell(
    meters: Sequence[Meter], reservation: Reservation, observed: Sequence[Observed], now_us: int
) -> tuple[bool, list[Meter]]:
    """Tell the quotas of an attempt's lane what its provider says. Whether anything changed; whose capacity fell."""
    changed = False
    lowered = []
    levels = {claim.meter: claim.level for claim in reservation.claims}
    sent_us = reservation.sent_us if reservation.sent_us >= 0 else now_us
    for said in observed:
        for meter in meant(meters, said):
            before = capacity_of(meter)
            if meter.tell(said, levels.get(meter, -1), sent_us, now_us):
                changed = True
                if capacity_of(meter) < before:
                    lowered.append(meter)
    return changed, lowered
