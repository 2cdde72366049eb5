"""The schedule and its naive model, told the same things in lockstep.

`Pair` sends each message to both, lets the model judge every effect that comes back, and compares what both hold. Each
check names the promise it belongs to. Machines and scripts drive a `Pair`; they never talk to the schedule themselves.

Imports the schedule's public methods and effects only: nothing of its inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from quota_history import ASSUMED_SEND_US
from schedule_model import Expected, ScheduleModel
from schedule_order import ModelCall

from actors.effects import Barred, Dropped, Finished, Granted, Later, Queued, Retrying, Want
from actors.messages import (
    CallRoute,
    Cancel,
    ConnectAttemptFailed,
    Dimension,
    Down,
    Fault,
    LimitObserved,
    Observed,
    OpenEndpoint,
    OpenLane,
    Outcome,
    Reply,
    Sent,
    Unsent,
    decode_reply,
    encode,
)
from actors.schedule import Schedule


@dataclass(frozen=True)
class Layout:
    """The lanes and endpoints of one world. `late` are the lanes that are opened when calls are under way already."""

    lanes: tuple[OpenLane, ...]
    endpoints: tuple[OpenEndpoint, ...]
    late: tuple[OpenLane, ...] = ()


@dataclass(frozen=True)
class GrantSeen:
    """One grant, as a promise's own test wants to look at it afterwards.

    `spared` are the heads that it had to leave their room; `in_turn`: it was its lane's head itself; `in_turn_at`: and
    it was its lane's turn at these quotas. `waiting` are all calls that waited, itself too.
    """

    call_id: int
    attempt: int
    lane: int
    at_us: int
    spared: frozenset[int] = frozenset()
    in_turn: bool = True
    in_turn_at: frozenset[int] = frozenset()
    waiting: frozenset[int] = frozenset()


class Pair:
    """Both of them. `now_us` is their common time. `wake_at` moves it; a test that sets it lets the
    next message come before the wake-up that was due."""

    def __init__(self, layout: Layout, *, now_us: int = 0) -> None:
        self.now_us = now_us
        self.schedule = Schedule()
        self.model = ScheduleModel()
        self.grants: list[GrantSeen] = []
        self.replies: dict[int, bytes] = {}
        self.wanted: dict[int, tuple[int, bool]] = {}
        self.over: list[Outcome | Unsent] = []
        self.disagreed = False
        self.late = list(layout.late)
        for lane in layout.lanes:
            self.open_lane(lane)
        for endpoint in layout.endpoints:
            self.model.open_endpoint(endpoint)
            self.judge(self.schedule.open_endpoint(endpoint, self.now_us), [])

    # --- the messages ---

    def open_lane(self, lane: OpenLane) -> None:
        expected = self.model.wake(self.now_us)
        self.model.open_lane(lane)
        self.judge(self.schedule.open_lane(lane, self.now_us), expected)

    def submit(
        self,
        *,
        lane: int = 0,
        endpoint: int = 0,
        priority: int = 0,
        flow: str = "",
        age_us: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        deadline_us: int = 0,
        timeout_us: int = 600_000_000,
        output_is_guess: bool = False,
        retry_unknown: bool = False,
        max_attempts: int = 4,
    ) -> int:
        call_id = len(self.model.calls) + 1
        route = CallRoute(
            call_id, lane, endpoint, self.now_us - age_us, deadline_us, timeout_us, input_tokens, output_tokens,
            output_is_guess, retry_unknown, False, False, priority, flow, max_attempts,
        )  # fmt: skip
        expected = self.model.submit(route, self.now_us)
        self.judge(self.schedule.submit(route, b"call %d" % call_id, self.now_us), expected)
        return call_id

    def ready(self, endpoint: int = 0) -> None:
        expected = self.model.wake(self.now_us)
        self.model.ready_workers[endpoint] += 1
        self.judge(self.schedule.ready(endpoint, self.now_us), expected)

    def lost(self, endpoint: int = 0) -> None:
        expected = self.model.wake(self.now_us)
        self.model.ready_workers[endpoint] -= 1
        self.judge(self.schedule.lost(endpoint, self.now_us), expected)

    def connect_failed(self, endpoint: int = 0, jitter: int = 0) -> None:
        fault = Fault("ConnectFailed", f"attempt at {self.now_us}")
        message = ConnectAttemptFailed(endpoint, fault, jitter)
        before = {call_id: call.attempts for call_id, call in self.model.calls.items()}
        expected = self.model.connect_failed(message, self.now_us)
        for call_id, attempts in before.items():
            call = self.model.calls[call_id]
            if call.attempts > attempts and call.taken_held is None:
                self.replies[call_id] = encode(Reply(fault=fault))
        self.judge(self.schedule.connect_failed(message, self.now_us), expected)

    def down(self, endpoint: int) -> None:
        expected = self.model.take_down(endpoint, self.now_us)
        message = Down(endpoint, Fault("ConnectFailed", "it failed too often"))
        self.judge(self.schedule.down(message, self.now_us), expected, replies=False)

    def sent(self, call: ModelCall, sent_us: int | None = None) -> None:
        message = Sent(call.route.call_id, call.live_attempt, self.now_us if sent_us is None else sent_us)
        expected = self.model.sent(call, message.sent_us, self.now_us)
        self.judge(self.schedule.sent(message, self.now_us), expected)

    def unsent(self, call: ModelCall, *, ready: bool = True) -> None:
        message = Unsent(call.route.call_id, call.live_attempt, call.route.endpoint, ready)
        expected = self.model.unsent(call, message, self.now_us)
        self.over.append(message)
        self.judge(self.schedule.unsent(message, self.now_us), expected)

    def outcome(self, call: ModelCall, verdict: str = "done", charge: str = "kept", **fields: object) -> None:
        at_us = int(str(fields.pop("at_us", self.now_us)))
        ready = bool(fields.pop("ready", True))
        message = Outcome(
            call.route.call_id, call.live_attempt, call.route.endpoint, ready, at_us, verdict, charge, **fields,  # type: ignore[arg-type]  # literals and keywords drawn by Hypothesis
        )  # fmt: skip
        reply = encode(Reply(status=len(self.over) + 1))
        if message.wrote or call.taken_held is None:
            self.replies[call.route.call_id] = reply
        expected = self.model.outcome(call, message, self.now_us)
        self.over.append(message)
        self.judge(self.schedule.outcome(message, reply, self.now_us), expected)

    def repeat(self, message: Outcome | Unsent) -> None:
        """A terminal message arrives once more."""
        call = self.model.calls[message.call_id]
        if isinstance(message, Unsent):
            expected = self.model.unsent(call, message, self.now_us)
            self.judge(self.schedule.unsent(message, self.now_us), expected)
        else:
            expected = self.model.outcome(call, message, self.now_us)
            self.judge(self.schedule.outcome(message, encode(Reply(status=999)), self.now_us), expected)

    def cancel(self, call_id: int) -> None:
        expected = self.model.cancel(self.model.calls[call_id], self.now_us)
        self.judge(self.schedule.cancel(Cancel(call_id).call_id, self.now_us), expected)

    def observe_limit(self, lane: int, dimension: Dimension, period_us: int, limit: int) -> None:
        """An attempt of this lane that is in flight is answered with a limit; without one, nothing is said."""
        answered = self.model.in_state("granted", "sent", lane=lane)
        if not answered:
            return
        call = min(answered, key=lambda one: one.sent_us)
        said = Observed(dimension, limit, period_us=period_us)
        expected = self.model.observe_limit(call, said, self.now_us)
        message = LimitObserved(call.route.call_id, call.live_attempt, (said,))
        self.judge(self.schedule.observe_limit(message, self.now_us), expected)

    def drain(self, how: str) -> None:
        self.judge(self.schedule.drain(how, self.now_us), self.model.drain(how, self.now_us))  # type: ignore[arg-type]  # one of the three words

    def wake_at(self, at_us: int) -> int:
        """Let time pass; returns how many effects that had."""
        assert at_us >= self.now_us
        self.now_us = at_us
        expected = self.model.wake(at_us)
        effects = self.schedule.wake(at_us)
        self.judge(effects, expected)
        return len(effects)

    # --- the judge ---

    def judge(self, effects: list[object], expected: list[Expected], *, replies: bool = True) -> None:
        """Every effect must be one the model expects, every grant one it allows, and nothing may be missing."""
        self.disagreed = True
        missing = list(expected)
        for effect in effects:
            if isinstance(effect, Granted):
                self.judge_grant(effect)
            elif isinstance(effect, Want):
                self.wanted[effect.endpoint] = (effect.connections, effect.queued)
            elif isinstance(effect, (Queued, Retrying, Later, Dropped, Finished, Barred)):
                seen = self.describe(effect, replies=replies)
                found = [one for one in missing if one.kind == seen.kind and one.subject == seen.subject]
                assert found, f"unexpected {seen}, of {expected}"
                assert seen.allowed[0] in found[0].allowed, f"{seen} instead of {found[0]}"
                missing.remove(found[0])
        assert not missing, f"missing {missing} in {effects}"
        self.model.look_at_turns(self.now_us)
        self.wake_if_due()
        self.compare()
        self.disagreed = False

    def wake_if_due(self) -> None:
        """A message may leave something due this very microsecond (a backoff of zero): one wake-up does it."""
        due_us = self.schedule.next_wake_us()
        if due_us is not None and due_us <= self.now_us:
            expected = self.model.wake(self.now_us)
            assert expected, "a wake-up for nothing, now: the loop would spin"
            self.judge(self.schedule.wake(self.now_us), expected)

    def describe(self, effect: Queued | Retrying | Later | Dropped | Finished | Barred, *, replies: bool) -> Expected:
        if isinstance(effect, Barred):
            return Expected("barred", effect.lane, ((effect.until_us,),))
        call_id = effect.ticket.call_id
        if isinstance(effect, Queued):
            return Expected("queued", call_id, ((effect.returned,),))
        if isinstance(effect, Retrying | Later):
            word = "later" if isinstance(effect, Later) else "retrying"
            return Expected(word, call_id, ((effect.at_us,),))
        if isinstance(effect, Dropped):
            return Expected("dropped", call_id, ((effect.reason,),))
        ended, call = effect.ended, self.model.calls[call_id]
        assert (ended.call_id, ended.ended_us, ended.submitted_us) == (call_id, self.now_us, call.route.submitted_us)
        assert ended.attempts == call.attempts
        assert len(call.ended) == 1, f"promise 7: {call_id} ended {call.ended}"
        call.ended = [ended.status, "told"]
        if replies and ended.status in ("completed", "failed") and call.attempts:
            assert decode_reply.decode(effect.reply) == decode_reply.decode(self.replies[call_id])
        return Expected("finished", call_id, ((ended.status, ended.gave_up, ended.fault.kind if ended.fault else ""),))

    def judge_grant(self, grant: Granted) -> None:
        """Promises 1, 2, 3, 4, 6 and 9 at the moment of a grant."""
        call = self.model.calls[grant.ticket.call_id]
        route, now_us = call.route, self.now_us
        assert call.state == "queued", f"granted while {call.state}"
        assert not 0 < route.deadline_us <= now_us, "promise 9: sent after its deadline"
        assert self.model.may_start(call, now_us), f"promises 1, 4, 6: call {route.call_id} may not start at {now_us}"
        for other in self.model.in_state("queued", endpoint=route.endpoint):
            same_cost = [cost for _, cost in self.model.demand(other)] == [cost for _, cost in self.model.demand(call)]
            equal = same_cost and other.flow == call.flow
            assert not equal or other.seq >= call.seq, f"promise 3: {other.route.call_id} waited before it"
        stop_us = now_us + route.timeout_us
        stop_us = min(stop_us, route.deadline_us) if route.deadline_us else stop_us
        times = (now_us, min(now_us + ASSUMED_SEND_US, stop_us), stop_us)
        assert (grant.granted_us, grant.not_after_us, grant.stop_us) == times, "promise 9"
        assert (route.call_id, grant.attempt) not in {(seen.call_id, seen.attempt) for seen in self.grants}
        calling = call.calling or b"call %d" % route.call_id
        assert (grant.ticket.calling, grant.ticket.output_tokens) == (calling, call.output_tokens)
        self.grants.append(self.seen(call, grant.attempt))
        self.model.grant(call, grant.attempt, now_us)

    def seen(self, call: ModelCall, attempt: int) -> GrantSeen:
        model, route, now_us = self.model, call.route, self.now_us
        in_turn = call is model.head(route.lane)
        turns = [quota for quota in model.shared_quotas(route.lane) if model.turn_lane(quota, now_us) == route.lane]
        return GrantSeen(
            route.call_id, attempt, route.lane, now_us,
            spared=frozenset(head.route.call_id for head in model.before(call, now_us)),
            in_turn=in_turn,
            in_turn_at=frozenset(quota.spec.quota_id for quota in turns if in_turn),
            waiting=frozenset(other.route.call_id for other in model.in_state("queued")),
        )  # fmt: skip

    def compare(self) -> None:
        """Nobody eligible waits, the next wake-up is in time, and both count the same."""
        waiting = [call.route.call_id for call in self.model.must_start(self.now_us)]
        assert not waiting, f"promise 2: {waiting} could have started at {self.now_us}"
        self.compare_wake()
        self.compare_counts()
        self.compare_places()

    def compare_wake(self) -> None:
        wake_us = self.schedule.next_wake_us()
        certain = [call.return_us for call in self.model.in_state("backing")]
        certain += [c.route.deadline_us for c in self.model.in_state("queued", "backing") if c.route.deadline_us]
        assert wake_us is None or wake_us > self.now_us, "a wake-up in the past polls"
        if certain:
            assert wake_us is not None, "promise 2: nobody wakes for a deadline or a return"
            assert wake_us <= min(certain), "promise 2: woken late for a deadline or a return"
        if wake_us is None:
            later = max(self.model.instants_of_interest(self.now_us), default=self.now_us)
        else:
            later = wake_us - 1
        missed = [call.route.call_id for call in self.model.must_start(later)]
        assert not missed, f"promise 2: {missed} can start at {later}, the next wake-up is {wake_us}"

    def compare_counts(self) -> None:
        stats, model = self.schedule.statistics(self.now_us), self.model
        by_state = {name: len(model.in_state(name)) for name in ("queued", "backing", "granted", "sent", "ended")}
        assert stats.queued == by_state["queued"]
        assert stats.backing_off == by_state["backing"]
        assert (stats.granted, stats.sent) == (by_state["granted"], by_state["sent"])
        in_flight = by_state["granted"] + by_state["sent"]
        assert stats.permits_held == in_flight
        assert stats.open_reservations == by_state["granted"]
        made = (stats.reservations_made, stats.reservations_settled, stats.reservations_given_back)
        assert made == (model.made, model.settled, model.returned), "promise 7"
        taken = [call for call in model.calls.values() if call.taken_held is not None and call.state != "ended"]
        assert stats.taken == len(taken)
        assert stats.live_reservations == in_flight + len([call for call in taken if call.is_taken])
        assert stats.reservations_made == sum(made[1:]) + stats.live_reservations, "promise 7"
        assert stats.late_messages == model.late, "promise 7"
        assert stats.submitted == len(model.calls)
        ends = [call.ended[0] for call in model.calls.values() if call.ended]
        assert {status: count for status, count in stats.ended.items() if count} == {s: ends.count(s) for s in ends}

    def compare_places(self) -> None:
        stats, model, now_us = self.schedule.statistics(self.now_us), self.model, self.now_us
        for number, lane in model.lanes.items():
            seen = next(one for one in stats.lanes if one.name == lane.spec.name)
            in_flight = len(model.in_state("granted", "sent", lane=number))
            assert (seen.queued, seen.backing_off, seen.in_flight, seen.permits_held) == (
                len(model.in_state("queued", lane=number)), len(model.in_state("backing", lane=number)),
                in_flight, in_flight,
            )  # fmt: skip
            assert max(seen.barrier_until_us, now_us) == max(lane.barrier_until_us, now_us)
            assert round(seen.retry_budget * 5) == lane.budget_fifths
            for quota in lane.quotas:
                shown = next(one for one in seen.quotas if one.name == quota.spec.name)
                assert (shown.limit, shown.open) == (quota.limit, quota.open_amount())
                if not quota.spec.burst:
                    occupied = quota.occupied(now_us, now_us)
                    assert (shown.occupied, shown.debt) == (occupied, max(0, occupied - quota.limit))
        for number, endpoint in model.endpoints.items():
            place = next(one for one in stats.endpoints if one.name == endpoint.name)
            queued = model.in_state("queued", endpoint=number)
            in_flight = len(model.in_state("granted", "sent", endpoint=number))
            assert (place.ready, place.in_flight, place.queued) == (
                model.ready_workers[number], in_flight, len(queued),
            )  # fmt: skip
            assert place.down == (number in model.down_endpoints)
            connections, any_queued = self.wanted.get(number, (0, False))
            if number not in model.down_endpoints:
                assert place.wanted == connections
                assert any_queued == bool(queued)
                self.compare_wanted(number, connections, in_flight)

    def compare_wanted(self, endpoint: int, connections: int, in_flight: int) -> None:
        """If only a worker is missing, one must have been asked for."""
        if self.model.ready_workers[endpoint]:
            return
        self.model.ready_workers[endpoint] = 1
        could = [call for call in self.model.must_start(self.now_us) if call.route.endpoint == endpoint]
        self.model.ready_workers[endpoint] = 0
        most = self.model.endpoints[endpoint].max_connections
        assert not could or connections >= min(most, in_flight + 1), f"{could[0].route.call_id} lacks a worker"
