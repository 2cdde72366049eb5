"""What a worker tells the scheduler at the end of an attempt: one piece of mail for every grant, whatever happened.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

import msgspec

from actors import messages as ms
from actors.messages import Fault, Reply, encode
from actors.transport import Answer

_BOUNDS = {
    "timeout_s": "the attempt took longer than its timeout_s",
    "first_byte_s": "no answer had begun within first_byte_s",
    "idle_s": "nothing came for longer than idle_s",
}


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What an attempt has come to, as far as its worker knows.

    `begun`: a byte may have left. `handed_over`: somebody has read the beginning of the answer, so that it cannot be
    asked for again. `first_us` is when the first event of a stream came, or -1. `bound` names what a timeout was of.
    """

    grant: ms.Grant
    endpoint: int
    at_us: int
    jitter: int
    begun: bool
    handed_over: bool
    first_us: int
    bound: str = "timeout_s"


def unsent(grant: ms.Grant, endpoint: int, *, ready: bool) -> ms.Mail:
    """A grant that was not used."""
    return encode(ms.Unsent(grant.call_id, grant.attempt, endpoint, ready=ready)), b""


def answered(ending: Ending, answer: Answer) -> ms.Mail:
    """An attempt that was made, and what its connection made of it."""
    reply, verdict = answer.reply, answer.verdict
    if reply.streamed and ending.first_us >= 0:
        reply = msgspec.structs.replace(reply, first_us=ending.first_us)
    if ending.handed_over and verdict in ("retry", "unknown"):
        verdict = "failed"
    outcome = ms.Outcome(
        call_id=ending.grant.call_id,
        attempt=ending.grant.attempt,
        endpoint=ending.endpoint,
        ready=answer.keep,
        at_us=ending.at_us,
        verdict=verdict,
        charge=answer.charge,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        barrier=answer.barrier,
        hint_us=answer.hint_us,
        exempt=answer.exempt,
        jitter=ending.jitter,
    )
    return encode(outcome), ms.encode_to_keep(reply)


def given_up(ending: Ending, reason: str, *, ready: bool) -> ms.Mail:
    """An attempt that was stopped: by its timeout, a cancellation, the engine, or a bug."""
    grant, begun = ending.grant, ending.begun
    if not begun and reason != "timeout":
        return unsent(grant, ending.endpoint, ready=ready)
    if begun:
        why = _BOUNDS[ending.bound] if reason == "timeout" else reason
        text = f"no complete answer came ({why}); the request had left and may have been billed"
        fault = Fault("OutcomeUnknown", text, detail=reason, sent=True)
    else:
        fault = Fault("ConnectFailed", "the attempt's time was over before a byte was sent; nothing was spent")
    stopped: ms.Verdict = "failed" if ending.handed_over else "unknown"
    outcome = ms.Outcome(
        call_id=grant.call_id,
        attempt=grant.attempt,
        endpoint=ending.endpoint,
        ready=False,
        at_us=ending.at_us,
        verdict="cancelled" if reason == "cancelled" else stopped if begun else "retry",
        charge="kept" if begun else "nothing",
        wrote=begun,
        jitter=ending.jitter,
    )
    return encode(outcome), encode(Reply(fault=fault, first_us=ending.first_us))
