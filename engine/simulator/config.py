"""What a simulated provider is told: its limits, its speed, its faults, its seed.

`SimulatorConfig` and its parts are frozen and check themselves when they are made, by hand or from JSON; what is wrong
is a `UsageError` that names the field. Seconds are for people (`_s`); everything behind this file counts in integer
microseconds.

Pure: no trio, no I/O. Imports only the kernel's errors.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from actors.errors import UsageError
from engine.simulator.faults import FAULTS
from engine.simulator.latency import ConstantLatency, Latency

Dimension: TypeAlias = Literal["requests", "input_tokens", "output_tokens", "total_tokens"]
LimitKind: TypeAlias = Literal["fixed_window", "sliding_window", "token_bucket"]
ChargeKind: TypeAlias = Literal["arrival", "usage"]

_DIMENSIONS = ("requests", "input_tokens", "output_tokens", "total_tokens")
_KINDS = ("fixed_window", "sliding_window", "token_bucket")
_CHARGES = ("arrival", "usage")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"simulator: {name} is {value!r}; it must be one of {', '.join(allowed)}")


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"a whole number from {least} to {most}" if most is not None else f"a whole number, {least} or more"
        raise UsageError(f"simulator: {name} is {value!r}; it must be {span}")


def _seconds(name: str, value: object, *, zero: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf or (value == 0 and not zero):  # type: ignore[operator]  # a number
        least = "0 or more" if zero else "above 0"
        raise UsageError(f"simulator: {name} is {value!r}; it must be a finite number of seconds, {least}")


class ProviderLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit the provider enforces: at most `limit` of `dimension` in each `period_s` seconds.

    `kind`: ``sliding_window`` (in no half-open window of that length), ``fixed_window`` (in none of the windows laid
    end to end from the server's start) or ``token_bucket`` (full at the start, refilled continuously; holds `burst`,
    0 meaning `limit`). `charge` says what a request costs in tokens: ``arrival``, its input and its whole output cap,
    for good; ``usage``, the same while it is under way and, from the moment of its answer, what its usage says (an
    answer without usage keeps the whole).
    """

    dimension: Dimension
    limit: int
    period_s: float = 60.0
    kind: LimitKind = "sliding_window"
    charge: ChargeKind = "arrival"
    burst: int = 0

    def __post_init__(self) -> None:
        _one_of("limits[].dimension", self.dimension, _DIMENSIONS)
        _one_of("limits[].kind", self.kind, _KINDS)
        _one_of("limits[].charge", self.charge, _CHARGES)
        _whole("limits[].limit", self.limit, 1)
        _whole("limits[].burst", self.burst, 0)
        _seconds("limits[].period_s", self.period_s, zero=False)
        if self.period_us < 1:
            raise UsageError(f"simulator: limits[].period_s is {self.period_s!r}; it must be a microsecond or more")
        if self.burst and self.kind != "token_bucket":
            raise UsageError(f"simulator: limits[].burst belongs to a token_bucket, not to a {self.kind}")

    @property
    def period_us(self) -> int:
        """The period in microseconds."""
        return round(self.period_s * 1_000_000)


class LimitChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `at_s` seconds after the first request on, every limit is `factor` times what is stated."""

    at_s: float
    factor: float

    def __post_init__(self) -> None:
        _seconds("limit_changes[].at_s", self.at_s, zero=True)
        _seconds("limit_changes[].factor", self.factor, zero=False)

    @property
    def at_us(self) -> int:
        """The instant in microseconds."""
        return round(self.at_s * 1_000_000)

    def applied(self, rule: ProviderLimit) -> ProviderLimit:
        """The limit as it then is, at least 1."""
        size, burst = (max(1, round(number * self.factor)) for number in (rule.limit, rule.burst))
        return msgspec.structs.replace(rule, limit=size, burst=burst if rule.burst else 0)


class FaultRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often each fault strikes: probabilities from 0 to 1, together at most 1, one draw per attempt of a call.

    Refused, not charged: `rate_limited` (429 with `retry_after_s`, None for no such header).
    Neither counted nor charged: `reset_before` (the connection is reset before the body is looked at).
    Accepted and charged: `server_error` (500), `unavailable` (503), `bare_error` (500, the error a bare string),
    `reset_after` (the request was served and its answer dropped), `stall` (no answer until the client leaves, at most
    `stall_s`), and with status 200 `malformed_json`, `html`, `empty`, `truncated` (cut within the body),
    `wrong_types` (numbers as strings), `null_usage` and `error_in_200` (an error as the provider has it in a success;
    in a stream, in an event's place).
    Those that strike a stream alone begin with ``stream_``, and strike before one of its events: event `stream_at`
    (from 0; beyond the last, the last), or, with None, any, all alike. What came before was sent whole.
    It ends with `stream_cut` (closed without an end), `stream_reset`, `stream_error` (an error object as an event, then
    an orderly end), `stream_stall` (nothing more until the client leaves, at most `stall_s`) and `stream_keep_alive`
    (the same, with a comment each `comment_s`). It goes on after `stream_garbage` (bytes that are neither text nor
    JSON) and `stream_split` (three more deltas: a character of three bytes, and the two halves of an escaped surrogate
    pair, each cut in the middle into writes of their own). All of it has `stream_comments` (one before each write),
    `stream_crlf` (line ends of two bytes, once cut between them) and `stream_no_done` (an orderly end without
    ``[DONE]``, or what a format has in its place). Of the others `malformed_json` spoils one event of a stream,
    `truncated` ends it within one, and `null_usage` and `wrong_types` spoil its usage.
    `only_first_attempts` N lets faults strike only a call's first N attempts; 0: any.
    """

    rate_limited: float = 0.0
    server_error: float = 0.0
    unavailable: float = 0.0
    bare_error: float = 0.0
    reset_before: float = 0.0
    reset_after: float = 0.0
    stall: float = 0.0
    malformed_json: float = 0.0
    html: float = 0.0
    empty: float = 0.0
    truncated: float = 0.0
    wrong_types: float = 0.0
    null_usage: float = 0.0
    stream_cut: float = 0.0
    stream_reset: float = 0.0
    stream_error: float = 0.0
    stream_stall: float = 0.0
    stream_keep_alive: float = 0.0
    stream_garbage: float = 0.0
    stream_comments: float = 0.0
    stream_split: float = 0.0
    stream_crlf: float = 0.0
    stream_no_done: float = 0.0
    error_in_200: float = 0.0
    stream_at: int | None = None
    comment_s: float = 1.0
    retry_after_s: float | None = 1.0
    stall_s: float = 60.0
    only_first_attempts: int = 0

    def __post_init__(self) -> None:
        for name in FAULTS:
            rate = getattr(self, name)
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 <= rate <= 1.0:
                raise UsageError(f"simulator: faults.{name} is {rate!r}; it must be a probability from 0 to 1")
        total = math.fsum(self.rates().values())
        if total > 1.0 + 1e-9:
            raise UsageError(f"simulator: the rates in faults add up to {total:g}; together they must be at most 1")
        if self.retry_after_s is not None:
            _seconds("faults.retry_after_s", self.retry_after_s, zero=True)
        if self.stream_at is not None:
            _whole("faults.stream_at", self.stream_at, 0)
        _seconds("faults.comment_s", self.comment_s, zero=False)
        _seconds("faults.stall_s", self.stall_s, zero=False)
        _whole("faults.only_first_attempts", self.only_first_attempts, 0)

    def rates(self) -> dict[str, float]:
        """The probability of every fault by its name, in the order in which one draw is laid over them."""
        return {name: float(getattr(self, name)) for name in FAULTS}


class StreamShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an answer is streamed to a request that asks for it.

    `first` is the time from the answer's head, which takes the provider's latency, to the first event, and `interval`
    that between two writes, each drawn anew. Instants are absolute: what comes late does not delay what follows.
    The last delta's successors (the finish, the usage, ``[DONE]``) all come one interval after it.
    `burst` events are sent in one write, as one chunk of HTTP.
    `deltas` is how many pieces the text comes in, a word each, per choice; 0: as many words as an answer in one piece
    has. `reasoning` deltas come before it, under the name `reasoning_field`. A request with ``tools`` gets
    `tool_calls` calls of its first function (or of the one its ``tool_choice`` names) in place of the text, the
    arguments in as many pieces; 0: its tools are ignored. What a prompt itself asks for
    (`engine.simulator.directives`) comes before all of that. The usage is what an answer in one piece would have,
    however many pieces there are. An answer in one piece has the same reasoning and the same calls.
    """

    first: Latency = ConstantLatency(0.0)
    interval: Latency = ConstantLatency(0.0)
    burst: int = 1
    deltas: int = 0
    reasoning: int = 0
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    tool_calls: int = 1

    def __post_init__(self) -> None:
        _whole("stream.burst", self.burst, 1)
        for name in ("deltas", "reasoning", "tool_calls"):
            _whole(f"stream.{name}", getattr(self, name), 0, 1_000_000)
        _one_of("stream.reasoning_field", self.reasoning_field, ("reasoning_content", "reasoning"))


class SimulatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a simulated provider is told. The same configuration and seed give the same replies, latencies and
    faults to the same calls, in whatever order they arrive.

    `limit_changes` are in the order of their instants. Without `limit_headers` nobody is told of the limits: no headers
    with an answer, and no wait with a refusal, which still names its dimension.
    `port` 0 takes a free one. `key`, if given, is demanded as a bearer key; it is in no repr and no log.
    `max_concurrency` 0 means no such limit; over it the answer is `concurrency_status`. A prompt of more than
    `max_input_tokens` is refused; 0: none is.
    `output_tokens` is the output of a request that sets no cap; `output` says whether an answer uses the ``cap`` in
    full, a length ``drawn`` from 1 to it, or is ``short``: `output_tokens`, and no more than the cap.
    `count_input` names a function ``"module:name"`` that counts the input
    tokens of a request's decoded body; empty: `engine.simulator.count_input`.
    `keep_alive_s` closes connections idle for so long; None: never. `log_path` is a file the log is written to, anew
    and as JSON lines, while the server runs, a quarter of a second behind and to its end when it stops; `log_capacity`
    bounds the arrivals kept, in memory and file alike (those beyond it are counted). `lateness_guard_s` is how late
    the loop may run before the run is marked.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    key: str = ""
    models: tuple[str, ...] = ("simulated-1",)
    limits: tuple[ProviderLimit, ...] = ()
    limit_changes: tuple[LimitChange, ...] = ()
    limit_headers: bool = True
    latency: Latency = ConstantLatency(0.0)
    faults: FaultRates = FaultRates()
    stream: StreamShape = StreamShape()
    max_concurrency: int = 0
    concurrency_status: Literal[429, 503] = 429
    max_input_tokens: int = 0
    output_tokens: int = 16
    output: Literal["cap", "drawn", "short"] = "cap"
    count_input: str = ""
    max_body_bytes: int = 4_194_304
    keep_alive_s: float | None = None
    log_path: str | None = None
    log_capacity: int = 1_000_000
    lateness_guard_s: float = 0.010

    def __post_init__(self) -> None:
        _whole("port", self.port, 0, 65_535)
        _whole("seed", self.seed, 0, 2**63 - 1)
        _whole("max_concurrency", self.max_concurrency, 0)
        _whole("max_input_tokens", self.max_input_tokens, 0)
        _whole("output_tokens", self.output_tokens, 1)
        _whole("max_body_bytes", self.max_body_bytes, 1)
        _whole("log_capacity", self.log_capacity, 0)
        _one_of("output", self.output, ("cap", "drawn", "short"))
        _seconds("lateness_guard_s", self.lateness_guard_s, zero=False)
        if self.concurrency_status not in (429, 503):
            raise UsageError(f"simulator: concurrency_status is {self.concurrency_status!r}; it must be 429 or 503")
        if self.keep_alive_s is not None:
            _seconds("keep_alive_s", self.keep_alive_s, zero=False)
        if self.count_input and self.count_input.count(":") != 1:
            raise UsageError(f'simulator: count_input is {self.count_input!r}; it must be "module:function"')
        for name in ("models", "limits", "limit_changes"):
            msgspec.structs.force_setattr(self, name, tuple(getattr(self, name)))

    def __repr__(self) -> str:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={'<hidden>' if name == 'key' and value else repr(value)}" for name, value in fields)
        return f"SimulatorConfig({', '.join(shown)})"


def load_config(data: bytes | str) -> SimulatorConfig:
    """Read a configuration from JSON. Raises `UsageError`, naming the place, for whatever is wrong in it."""
    try:
        return msgspec.json.decode(data, type=SimulatorConfig)
    except msgspec.DecodeError as error:
        raise UsageError(f"simulator: the configuration is wrong: {error}") from error
