"""The provider itself, without its sockets: who is calling, whether he is admitted, and what he will be answered.

`Provider` decides everything about a request the instant it was read, in one synchronous step: identity and attempt,
fault, limits, latency, reply. The path's `Manner` reads what is asked and finds the words; the server only carries the
decision out. Times are passed in, as integer microseconds
that never fall.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from engine.simulator.chat import CRASH_FAULT, ChatRequest, StreamRequest
from engine.simulator.chunks import Wording
from engine.simulator.config import SimulatorConfig
from engine.simulator.directives import cut_text
from engine.simulator.failure import CRASH, OVERLOAD, Failure, invalid
from engine.simulator.faults import STREAM_FAULTS, Draw, FaultTable, draw
from engine.simulator.formats.desk import Asked, Desk, House
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.limits import Cost, Hold, LimitSet, Refusal
from engine.simulator.log import ArrivalLog
from engine.simulator.records import Arrival, Aside, Ending, SimulatorStatistics, StreamEnd
from engine.simulator.reply import MAX_REPLY_WORDS, Answer, Completion, Headers, Prose, encode, faulty_answer
from engine.simulator.script import StreamPlan

CountInput = Callable[[Mapping[str, object]], int]

MAX_IDENTITY: Final = 128

_IN_ONE_PIECE: Final = frozenset(("server_error", "unavailable", "bare_error", "html", "empty"))
_STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"transfer-encoding", b"chunked"))
_NO_STREAM: Final = StreamRequest()
_BARE_ERROR: Final = b'{"error":"the model has crashed"}'


class Attempt(NamedTuple):
    """One attempt of a recognised call, and what chance has in store for it."""

    call: str
    number: int
    draw: Draw
    fault: str


class Progress(Protocol):
    """How many events of a stream were sent whole, and how it ended, None while it is under way."""

    @property
    def events(self) -> int:
        """Events sent whole."""

    @property
    def ending(self) -> Ending | None:
        """How it ended."""


class Judgement(NamedTuple):
    """What is to be done with a request: after `latency_us` from its arrival, send `answer`, or, where there is none,
    reset the connection (``reset_after``) or wait until the client leaves (``stall``). If there is a `stream`, the
    answer is only its head."""

    answer: Answer | None
    fault: str = ""
    latency_us: int = 0
    admitted: bool = False
    holds: Sequence[Hold] = ()
    used: Cost | None = None
    stream: StreamPlan | None = None


class Provider:
    """A provider's whole state: its limits, its log, who has called how often (one small entry a call, for good)."""

    def __init__(self, config: SimulatorConfig, *, origin_us: int, unix_s: int, count_input: CountInput) -> None:
        self._config = config
        self._unix_s = unix_s
        self._origin_us = origin_us
        self._unix_at_0_us = unix_s * 1_000_000 - origin_us
        self._count_input = count_input
        self._limits = LimitSet(config.limits, origin_us, config.limit_changes)
        self._faults = FaultTable(config.faults.rates(), config.faults.only_first_attempts)
        self._prose = Prose(config.seed)
        self._seen: dict[str, int] = {}
        self._authorization = f"Bearer {config.key}".encode() if config.key else b""
        guard_us = round(config.lateness_guard_s * 1_000_000)
        self._newest_us = origin_us
        self.log = ArrivalLog(config.limits, capacity=config.log_capacity, guard_us=guard_us)
        self._crashed: set[str] = set()
        self.in_flight = 0
        self.connections = 0
        self.not_found = 0

    def recognise(self, name: bytes, body: bytes | bytearray = b"") -> Attempt:
        """Say whose attempt this is, by the name the caller gave it or else by a hash of the body, and count it."""
        if name and len(name) <= MAX_IDENTITY:
            call = name.decode("latin-1")
        else:
            call = "body:" + blake2b(name or body, digest_size=8).hexdigest()
        number = self._seen[call] = self._seen.get(call, 0) + 1
        chances = draw(self._config.seed, call, number)
        return Attempt(call, number, chances, self._faults.pick(chances.fault, number))

    def cut(self, attempt: Attempt, at_us: int) -> None:
        """Note that the connection is reset before the request's body is looked at."""
        self.log.add(Arrival(at_us, attempt.call, attempt.number, "cut", 0, attempt.fault))

    def too_large(self, manner: Manner, attempt: Attempt, at_us: int) -> Judgement:
        """Refuse a body larger than is read."""
        text = f"The body of the request is larger than {self._config.max_body_bytes} bytes."
        failure = Failure("too_large", 413, text, code="request_too_large")
        return self._refuse(manner, attempt, at_us, "too_large", failure)

    def judge(
        self, manner: Manner, attempt: Attempt, body: bytes | bytearray, headers: HeadersSeen, at_us: int
    ) -> Judgement:
        """Decide about a request whose last byte was read at `at_us`. An admitted one must be `finish`ed."""
        self._newest_us = at_us
        request = self._stranger(manner, headers) or manner.read(body, headers)
        if isinstance(request, Failure):
            return self._refuse(manner, attempt, at_us, "key" if request.why == "key" else "invalid", request)
        wants_calls = request.directed is not None and request.directed.calls
        if (request.stream is None and attempt.fault in STREAM_FAULTS) or (
            wants_calls and attempt.fault == "stream_split"  # what it adds has no place in arguments that were given
        ):
            attempt = attempt._replace(fault="")
        if request.fault == CRASH_FAULT:
            self._crashed.add(manner.engine)
        if manner.engine in self._crashed:
            attempt = attempt._replace(fault="server_error")
        if request.fault and not attempt.fault:
            attempt = attempt._replace(fault=request.fault)
        if attempt.fault == "rate_limited":
            return self._refuse(manner, attempt, at_us, "injected", self._injected_refusal())
        most = self._config.max_concurrency
        if most and self.in_flight >= most:
            return self._refuse(manner, attempt, at_us, "concurrency", self._concurrency_refusal())
        cost = self._cost(manner, request)
        if isinstance(cost, Failure):
            return self._refuse(manner, attempt, at_us, "invalid", cost)
        admitted = self._limits.admit(at_us, cost)
        if isinstance(admitted, Refusal):
            failure = _limit_refusal(request.model, admitted, tells=self._config.limit_headers)
            return self._refuse(manner, attempt, at_us, admitted.rule.dimension, failure)
        return self._admit(manner, attempt, request, cost, admitted, at_us)

    def aside(self, manner: Manner, desk: Desk, asked: Asked, name: bytes, at_us: int) -> Answer:
        """Answer what is no call, and remember it; `manner` has the words for a failure, `name` is the caller's. The
        request is counted here: its number need not be known."""
        about = f"{asked.method} {asked.path}"
        number = self._seen[about] = self._seen.get(about, 0) + 1
        now = self._moment(at_us)
        up_us = at_us - self._origin_us
        house = House(self._config.models, self._limits, self.statistics, self._prose.text, now, up_us)
        stranger = None if desk.public else self._stranger(desk, asked.headers)
        answer = stranger or desk.reply(asked._replace(number=number), house)
        if isinstance(answer, Failure):
            told = desk.error(answer)
            answer = manner.fail(answer, now) if told is None else Answer(answer.status, [], encode(told))
        call = name[:MAX_IDENTITY].decode("latin-1")
        self.log.aside(Aside(at_us, call, asked.method, asked.path, number, answer.status))
        return answer

    def _stranger(self, manner: Manner | Desk, headers: HeadersSeen) -> Failure | None:
        """What is said to who has not the key, if one is demanded."""
        if not self._authorization:
            return None
        shown = manner.credential(headers)
        if hmac.compare_digest(shown, self._authorization):
            return None
        text = "Incorrect API key provided." if shown else "You didn't provide an API key."
        return Failure("key", 401, text, code="invalid_api_key")

    def _cost(self, manner: Manner, request: ChatRequest) -> Cost | Failure:
        """What a request may cost."""
        if manner.spends == "nothing":
            return Cost(0, 0)
        try:
            counted = int(self._count_input(request.arguments)) + request.known_input
        except Exception as error:  # noqa: BLE001  # the user's own function: what it cannot count must not end the server
            return invalid(f"The input cannot be counted: {error!r}")
        if 0 < self._config.max_input_tokens < counted:
            return manner.too_long(counted, self._config.max_input_tokens)
        if manner.spends == "input":
            return Cost(counted, 0)
        per_choice = self._config.output_tokens if request.output_cap is None else request.output_cap
        return Cost(counted, per_choice * request.choices)

    def finish(self, judgement: Judgement) -> None:
        """Note that an admitted request is over. It is settled if its answer carries its usage, even if the client
        left before that; what a stream was settled for when its usage was sent stays as it is."""
        self.in_flight -= 1
        self.settle(judgement)

    def settle(self, judgement: Judgement) -> None:
        """Charge what the usage says, if there is one, from now on. More than once is as good as once."""
        # At the instant of the newest arrival: those read meanwhile and not yet decided about are older than now.
        if judgement.used is not None and self._limits.settles:
            self._limits.settle(self._newest_us, judgement.holds, judgement.used)

    def streamed(self, attempt: Attempt, judgement: Judgement, progress: Progress, at_us: int) -> None:
        """Note how far a stream has come: that its usage was sent, or that it is over."""
        ending, plan = progress.ending, judgement.stream
        assert plan is not None
        if ending is None:
            self.settle(judgement)
            return
        self.finish(judgement)
        end = StreamEnd(at_us, attempt.call, attempt.number, progress.events, plan.events, ending, judgement.fault)
        self.log.stream_ended(end)

    def statistics(self) -> SimulatorStatistics:
        """The totals so far."""
        log = self.log
        return SimulatorStatistics(
            arrivals=log.arrivals,
            accepted=log.accepted,
            refused=dict(log.refused),
            faults=dict(log.faults),
            not_found=self.not_found,
            in_flight=self.in_flight,
            connections=self.connections,
            input_tokens=log.input_tokens,
            output_tokens=log.output_tokens,
            unlogged=log.unlogged,
            worst_windows=log.worst_windows(),
            loop=log.lateness(),
            streams=log.streams(),
            asides=log.asked,
        )

    def _admit(
        self, manner: Manner, attempt: Attempt, request: ChatRequest, cost: Cost, holds: Sequence[Hold], at_us: int
    ) -> Judgement:
        self.in_flight += 1
        fault, chances = attempt.fault, attempt.draw
        used = self._used(attempt, request, cost)
        answer = stream = None
        if fault not in ("reset_after", "stall"):
            moment = self._moment(at_us)
            headers = self._headers(manner, attempt, moment)
            said = request.directed.said if request.directed is not None else ""
            text = said or self._prose.text(chances.word, used.output_tokens // request.choices)
            done = Completion(f"{chances.word:016x}", request.model, text, request.choices, used, self._unix_s)
            if request.stream is not None and fault not in _IN_ONE_PIECE:
                stream = self._stream(manner, attempt, request.stream, done, request)
                answer = Answer(200, [*headers, (b"content-type", manner.stream_type), *_STREAM_HEADERS], b"")
            else:
                answer = self._whole(manner, attempt, done, request, headers, moment)
        # A usage of wrong types is still one that a lenient client reads; no other fault of a whole answer leaves any.
        told = stream.usage_arrives if stream is not None else fault in ("", "wrong_types")
        charged = used if told else cost
        status = answer.status if answer is not None else 0
        self.log.add(Arrival(at_us, attempt.call, attempt.number, "", status, fault, *cost, charged.output_tokens))
        latency_us = self._config.latency.draw_us(chances.latency)
        return Judgement(answer, fault, latency_us, True, holds, used if told else None, stream)

    def _used(self, attempt: Attempt, request: ChatRequest, cost: Cost) -> Cost:
        """What an admitted request uses of what it may cost."""
        most = cost.output_tokens // request.choices
        if self._config.output == "cap" or not most:
            return cost
        short = self._config.output == "short"
        per_choice = min(most, self._config.output_tokens) if short else 1 + int(attempt.draw.output * most)
        return cost._replace(output_tokens=per_choice * request.choices)

    def _wording(self, attempt: Attempt, asked: StreamRequest, done: Completion, request: ChatRequest) -> Wording:
        shape, pieces = self._config.stream, self._prose.pieces
        words = min(done.cost.output_tokens // done.choices, MAX_REPLY_WORDS)
        start = attempt.draw.word % len(pieces)
        spoken = cut_text(done.text, shape.deltas) if request.directed is not None and request.directed.said else ()
        return Wording(done, asked, shape, pieces, start, shape.deltas or words, attempt.fault, request, spoken)

    def _stream(
        self, manner: Manner, attempt: Attempt, asked: StreamRequest, done: Completion, request: ChatRequest
    ) -> StreamPlan:
        config = self._config
        chances = draw(config.seed, attempt.call, attempt.number, about=b"stream")
        events = manner.events(self._wording(attempt, asked, done, request))
        return StreamPlan(events, config.stream, attempt.fault, config.faults, chances)

    def _whole(
        self, manner: Manner, attempt: Attempt, done: Completion, request: ChatRequest, headers: Headers, now: Moment
    ) -> Answer:
        """The answer in one piece, or what its fault makes of that."""
        fault = attempt.fault
        if fault == "bare_error":
            return Answer(500, headers, _BARE_ERROR)
        if fault in ("server_error", "unavailable"):
            failure = CRASH if fault == "server_error" else OVERLOAD
            answer = manner.fail(failure._replace(identity=done.identity), now)
            return answer._replace(headers=[*headers, *answer.headers])
        said = self._wording(attempt, request.stream or _NO_STREAM, done, request)
        if fault == "error_in_200":
            return Answer(200, headers, manner.error_in_200(said, now))
        return faulty_answer(fault, manner.whole(said), headers)._replace(status=manner.success(said))

    def _refuse(self, manner: Manner, attempt: Attempt, at_us: int, why: str, failure: Failure) -> Judgement:
        fault = attempt.fault if why == "injected" else ""
        moment = self._moment(at_us)
        answer = manner.fail(failure._replace(identity=f"{attempt.draw.word:016x}"), moment)
        self.log.add(Arrival(at_us, attempt.call, attempt.number, why, answer.status, fault))
        return Judgement(answer._replace(headers=[*self._headers(manner, attempt, moment), *answer.headers]), fault)

    def _moment(self, at_us: int) -> Moment:
        return Moment(at_us, self._unix_at_0_us + at_us)

    def _headers(self, manner: Manner, attempt: Attempt, now: Moment) -> Headers:
        headers = manner.headers(self._limits, now) if self._config.limit_headers else []
        if manner.id_header:
            headers.append((manner.id_header, b"req_%016x" % attempt.draw.word))
        return headers

    def _injected_refusal(self) -> Failure:
        wait_s = self._config.faults.retry_after_s
        wait_us = None if wait_s is None else round(wait_s * 1_000_000)
        return Failure("injected", 429, "Rate limit reached. (injected)", code="rate_limit_exceeded", wait_us=wait_us)

    def _concurrency_refusal(self) -> Failure:
        most, status = self._config.max_concurrency, self._config.concurrency_status
        text = f"Too many requests at once: {most} are in flight, which is the limit."
        return Failure("concurrency", status, text, wait_us=1_000_000)


def _limit_refusal(model: str, refusal: Refusal, *, tells: bool) -> Failure:
    """The refusal of a limit; one that can never fit says so. `tells`: of the wait, too."""
    rule, wait_us = refusal.rule, refusal.wait_us
    what = rule.dimension.replace("_", " ")
    where = f"for {model} on {what} per {rule.period_s:g}s: Limit {rule.limit}"
    if wait_us is None:
        text = f"Request too large {where}, Requested {refusal.asked}. It can never be served."
    elif not tells:
        return Failure("limit", 429, "Rate limit reached.", refusal=refusal, model=model)
    else:
        used = rule.limit - refusal.remaining
        wait = f"{wait_us / 1_000_000:.3f}s"
        text = f"Rate limit reached {where}, Used {used}, Requested {refusal.asked}. Please try again in {wait}."
    return Failure("limit", 429, text, wait_us=wait_us, refusal=refusal, model=model)
