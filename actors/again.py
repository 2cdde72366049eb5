"""After an attempt that did not end its call: another attempt, or a poll where the provider answers later.

Either way the call holds no place, permit or worker until its wait is over. An attempt comes back with the call's old
number; a poll with a new one, so that calls that are not done ask in turn, and none of them keeps a newer one waiting.
A call that was taken waits in the lane of its provider's polls, and a poll that fails is tried again by itself; its
deadline bounds all of it, or else a day. Whether and when is said in `retrying`; the moves stand in `moves`.

Pure: no trio, no clock, no random, no I/O.
"""

from __future__ import annotations

from heapq import heappush

from actors.admission import LaneState
from actors.effects import Effect, Later, Retrying
from actors.limits import cost_of
from actors.messages import ConnectAttemptFailed, GaveUp, Outcome
from actors.moves import Moves
from actors.queues import State, Taken, Ticket
from actors.retrying import POLL_ATTEMPTS, POLL_WITHIN_US, POLLED_FOR_US, backoff_us, poll_at_us, refusal


class Again(Moves):
    """The moves to BACKING_OFF."""

    def _retry(
        self,
        ticket: Ticket,
        lane: LaneState,
        message: Outcome | ConnectAttemptFailed,
        effects: list[Effect],
        now_us: int,
    ) -> None:
        """Let an attempted call back off, or end it with its last error and the reason for giving up."""
        outcome = message if isinstance(message, Outcome) else None
        hint_us = outcome.hint_us if outcome is not None else None
        exempt = outcome is not None and outcome.exempt
        taken = ticket.taken
        attempts, most = ticket.attempts, ticket.max_attempts
        if taken is not None:  # its answer is there to be had, and polls have a limit of their own
            attempts, most, exempt = attempts - taken.attempts, max(most, POLL_ATTEMPTS), True
        ended_us = min(outcome.at_us, now_us) if outcome is not None else now_us
        at_us = max(now_us, ended_us + backoff_us(attempts, message.jitter, hint_us))
        gave_up: GaveUp = ""
        if self._draining in ("discard", "stop"):
            gave_up = "shutdown"
        elif ticket.deadline_us and at_us >= ticket.deadline_us:
            gave_up = "deadline"
        else:
            gave_up = refusal(attempts, most, hint_us if taken is None else None, lane.budget, exempt=exempt)
        if gave_up:
            self._finish(ticket, "failed", effects, now_us, gave_up=gave_up, was_queued=outcome is None)
            return
        self._retries += 1
        self._back_off(ticket, lane, at_us)
        effects.append(Retrying(ticket, at_us, was_queued=outcome is None))

    def _ask_later(self, ticket: Ticket, taken: Taken, message: Outcome, effects: list[Effect], now_us: int) -> None:
        """The provider has taken the call, or says again that it is not done: wait, then send the poll it came with."""
        taken.attempts = ticket.attempts
        ticket.calling = message.poll
        ticket.lane = message.poll_lane
        ticket.cost = cost_of(0, 0)
        ticket.seq = self._next_seq()
        ticket.retry_unknown = True  # asking twice costs nothing but a poll
        ticket.timeout_us = min(ticket.timeout_us, POLL_WITHIN_US)
        ticket.deadline_us = ticket.deadline_us or now_us + POLLED_FOR_US
        if ticket.deadline_us <= now_us:
            self._expire(ticket, effects, now_us, was_queued=False)
            return
        if self._draining in ("discard", "stop"):
            self._abandon(ticket, effects, now_us, was_queued=False)
            return
        ended_us = min(message.at_us, now_us)
        at_us = poll_at_us(ended_us, message.poll_wait_us, message.jitter, message.hint_us or 0, ticket.deadline_us)
        at_us = ticket.deadline_us if at_us is None else max(now_us, at_us)
        self._back_off(ticket, self._lanes[ticket.lane], at_us)
        effects.append(Later(ticket, at_us))

    def _back_off(self, ticket: Ticket, lane: LaneState, at_us: int) -> None:
        """Out of everything until then. A deadline at the same instant comes first."""
        lane.backing_off += 1
        ticket.state = State.BACKING_OFF
        self._watch_deadline(ticket)
        heappush(self._returns, (at_us, ticket.seq, ticket.call_id))
