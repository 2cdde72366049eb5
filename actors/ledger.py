"""Reservations, from grant to settlement, and the count of them.

A reservation is one claim on each quota of the call's lane, made and ended together: all or nothing. The counts always
add up: made = settled + given back + live.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from actors.limits import Cost, cost_of
from actors.messages import Outcome
from actors.meters import Claim, Meter
from actors.queues import Reservation


class Ledger:
    """Every reservation of one schedule."""

    def __init__(self) -> None:
        self.made = 0
        self.settled = 0
        self.given_back = 0
        self.open = 0

    @property
    def live(self) -> int:
        """Reservations whose call is still in reservation."""
        return self.made - self.settled - self.given_back

    def reserve(self, cost: Cost, meters: tuple[Meter, ...], now_us: int) -> tuple[Claim, ...]:
        """The grant: an open claim on every quota. The caller has seen that all of them have room."""
        self.made += 1
        self.open += 1
        return tuple([meter.claim(cost[meter.index], now_us) for meter in meters])

    def stamp(self, reservation: Reservation, stamp_us: int, now_us: int) -> None:
        """The request has left; a stamp from before the grant or after now is brought into that span."""
        stamp_us = min(max(stamp_us, reservation.granted_us), now_us)
        reservation.sent_us = stamp_us
        self.open -= 1
        for claim in reservation.claims:
            claim.meter.stamp(claim, stamp_us, now_us)

    def give_back(self, reservation: Reservation) -> None:
        """Nothing was written: an open reservation is undone."""
        for claim in reservation.claims:
            claim.meter.give_back(claim)
        reservation.claims = ()
        self.open -= 1
        self.given_back += 1

    def keep(self, reservation: Reservation) -> None:
        """What a stamped reservation holds stays charged: nobody has said what the attempt really cost."""
        self.settled += 1
        for claim in reservation.claims:
            claim.meter.keep(claim)
        reservation.claims = ()

    def settle(self, reservation: Reservation, message: Outcome, now_us: int) -> None:
        """Replace what a stamped reservation holds by what the attempt really cost."""
        if message.charge == "nothing":
            self.given_back += 1
        else:
            self.settled += 1
        used = cost_of(message.input_tokens, message.output_tokens)
        for claim in reservation.claims:
            _settle_claim(claim, message, used, now_us)
        reservation.claims = ()


def _settle_claim(claim: Claim, message: Outcome, used: Cost, now_us: int) -> None:
    meter = claim.meter
    if message.charge == "usage":
        meter.settle(claim, used[meter.index], now_us)
    elif message.charge == "nothing" or (message.charge == "requests_kept" and meter.dimension != "requests"):
        meter.forgive(claim, now_us)
    else:
        meter.keep(claim)
