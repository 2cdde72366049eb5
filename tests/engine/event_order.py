"""What may follow what in the events of one call, as a machine: the lawful order that every observer may rely on.

`check_lawful` is given the events of an engine that were all seen, and names the first that breaks the order.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine import HookEvent

FOLLOWS: dict[str, frozenset[str]] = {
    "": frozenset({"handling", "queued", "ended"}),
    "handling": frozenset({"handling", "queued", "ended"}),
    "queued": frozenset({"granted", "retrying", "ended"}),  # retrying: no connection could be made
    "granted": frozenset({"sent", "unsent", "retrying", "ended"}),  # without sent: it broke while it was written
    "unsent": frozenset({"queued", "ended"}),
    "sent": frozenset({"retrying", "ended"}),
    "retrying": frozenset({"queued", "ended"}),
    "ended": frozenset({"handling"}),  # those after the call
    "after": frozenset(),
}


def check_lawful(events: Iterable[HookEvent]) -> dict[int, HookEvent]:
    """Check the order, the attempts and the instants of every call's events; return how each call ended."""
    last: dict[int, HookEvent] = {}
    ended: dict[int, HookEvent] = {}
    for event in events:
        if event.name == "barrier":
            assert (event.call_id, event.lane > 0) == (0, True), f"a barrier is a lane's: {event}"
            continue
        before = last.get(event.call_id)
        state: str = before.name if before is not None else ""
        if state == "handling" and before is not None and before.detail == "after":
            state = "after"
        assert event.name in FOLLOWS[state], f"{event.name} after {state or 'nothing'}: {event}"
        if before is not None and event.name not in ("handling", "ended"):
            assert event.attempt == before.attempt + (event.name == "granted"), f"{event} after {before}"
        if before is not None and event.name != "sent":
            assert event.at_us >= before.at_us, f"{event} happened before {before}"
        if event.name == "handling":
            assert event.detail == ("after" if event.call_id in ended else "before"), f"{event} after {before}"
        if event.name == "ended":
            assert event.call_id not in ended, f"ended twice: {event}"
            ended[event.call_id] = event
        last[event.call_id] = event
    assert last.keys() == ended.keys(), "every call that was told of has ended"
    return ended
