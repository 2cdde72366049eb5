"""What a worker tells the scheduler at the end of an attempt: one piece of mail for every grant, whatever happened.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from actors import messages as ms
from actors.messages import Fault, Reply, encode
from actors.transport import Answer

_BOUNDS = {
    "timeout_s": "the attempt took longer than its timeout_s",
    "first_byte_s": "no answer had begun within first_byte_s",
    "idle_s": "nothing came for longer than idle_s",
}


class Made(Protocol):
    """An attempt that was made, or was about to be.

    `begun`: a byte may have left. `handed_over`: somebody has read the beginning of the answer, so that it cannot be
    asked for again. `first_us` is when the first event of a stream came, or -1.
    """

    grant: ms.Grant
    begun: bool
    first_us: int

    @property
    def handed_over(self) -> bool: ...


def unsent(grant: ms.Grant, endpoint: int, *, ready: bool) -> ms.Mail:
    """A grant that was not used."""
    return encode(ms.Unsent(grant.call_id, grant.attempt, endpoint, ready=ready)), b""


def answered(made: Made, endpoint: int, answer: Answer, *, at_us: int, jitter: int) -> ms.Mail:
    """An attempt that was made, and what its connection made of it."""
    reply, verdict = answer.reply, answer.verdict
    if reply.streamed and made.first_us >= 0:
        reply = msgspec.structs.replace(reply, first_us=made.first_us)
    if verdict in ("retry", "unknown") and made.handed_over:
        verdict = "failed"
    outcome = ms.Outcome(
        call_id=made.grant.call_id,
        attempt=made.grant.attempt,
        endpoint=endpoint,
        ready=answer.keep,
        at_us=at_us,
        verdict=verdict,
        charge=answer.charge,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        barrier=answer.barrier,
        hint_us=answer.hint_us,
        exempt=answer.exempt,
        jitter=jitter,
        refused=answer.refused,
        poll_lane=answer.poll_lane,
        poll_wait_us=answer.poll_wait_us,
        poll=answer.poll,
    )
    return encode(outcome), ms.encode_to_keep(reply)


def given_up(made: Made, endpoint: int, reason: str, *, bound: str, ready: bool, at_us: int, jitter: int) -> ms.Mail:
    """An attempt that was stopped: by its timeout (`bound` says of what), a cancellation, the engine, or a bug."""
    grant, begun = made.grant, made.begun
    if not begun and reason != "timeout":
        return unsent(grant, endpoint, ready=ready)
    if begun:
        why = _BOUNDS[bound] if reason == "timeout" else reason
        text = f"no complete answer came ({why}); the request had left and may have been billed"
        fault = Fault("OutcomeUnknown", text, detail=reason, sent=True)
    else:
        fault = Fault("ConnectFailed", "the attempt's time was over before a byte was sent; nothing was spent")
    stopped: ms.Verdict = "failed" if made.handed_over else "unknown"
    outcome = ms.Outcome(
        call_id=grant.call_id,
        attempt=grant.attempt,
        endpoint=endpoint,
        ready=False,
        at_us=at_us,
        verdict="cancelled" if reason == "cancelled" else stopped if begun else "retry",
        charge="kept" if begun else "nothing",
        wrote=begun,
        jitter=jitter,
    )
    return encode(outcome), encode(Reply(fault=fault, first_us=made.first_us))
