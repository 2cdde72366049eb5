"""Separates reading from deciding, so that a burst does not falsify its own instants.

A hundred requests that arrive together are read, and their instants taken, within two milliseconds; if each were also
decided before the next is read, the last would be stamped ten times later than it came. Connections therefore wait
here between the two, and pass one at a time in the order in which they were read, while the loop goes on reading.
"""

from __future__ import annotations

import trio


class Turnstile:
    """Lets tasks pass in the order in which they came, one each time the loop turns."""

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()
        self._bell = trio.lowlevel.ParkingLot()

    async def turn(self) -> None:
        """Wait until everybody who came before has passed. What the caller does before it next waits is done in that
        order too. A cancelled caller gives up its place."""
        self._bell.unpark()
        await self._waiting.park()

    async def run(self) -> None:
        """Let them pass, until cancelled."""
        while True:
            while self._waiting:
                self._waiting.unpark()
                # One a turn of the loop: those woken in one turn would run in no particular order.
                await trio.lowlevel.checkpoint()
            await self._bell.park()
