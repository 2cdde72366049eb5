"""`penstock simulate`: every provider of the catalogue, simulated, in the foreground, for anybody's client.

The address for OpenAI's clients is all of stdout, so that a script can read it; those of all providers are on stderr,
a line each, where in the end is summed up what happened. It runs until SIGINT or SIGTERM, in this process.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import trio
from cyclopts import Parameter

from engine.cli.options import Count, CountOrZero, Probability, Seconds
from engine.cli.signals import until_signalled
from engine.errors import UsageError
from engine.simulator import (
    PROVIDERS,
    ConstantLatency,
    ExponentialLatency,
    FaultRates,
    Latency,
    LognormalLatency,
    ProviderLimit,
    Simulator,
    SimulatorConfig,
    SimulatorStatistics,
    StreamShape,
    UniformLatency,
    serve,
    tune_process,
)
from engine.simulator.config import Dimension, LimitKind

KINDS: dict[str, LimitKind] = {"sliding": "sliding_window", "fixed": "fixed_window", "bucket": "token_bucket"}
LATENCIES: dict[str, Callable[..., Latency]] = {
    "constant": ConstantLatency,
    "uniform": UniformLatency,
    "lognormal": LognormalLatency,
    "exponential": ExponentialLatency,
}


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """How often each fault is injected: probabilities from 0 to 1, together at most 1."""

    fault_rate_limited: Probability = 0.0
    """Refuse with 429 and Retry-After, without a limit having been reached."""
    fault_server_error: Probability = 0.0
    """Accept, then answer 500."""
    fault_unavailable: Probability = 0.0
    """Accept, then answer 503."""
    fault_bare_error: Probability = 0.0
    """Accept, then answer 500 with a bare string as the error."""
    fault_reset_before: Probability = 0.0
    """Reset the connection before the request was read."""
    fault_reset_after: Probability = 0.0
    """Accept, then reset the connection instead of answering."""
    fault_stall: Probability = 0.0
    """Accept, then never answer."""
    fault_malformed_json: Probability = 0.0
    """Accept, then answer 200 with broken JSON."""
    fault_html: Probability = 0.0
    """Accept, then answer 200 with a page of HTML."""
    fault_empty: Probability = 0.0
    """Accept, then answer 200 with nothing."""
    fault_truncated: Probability = 0.0
    """Accept, then cut the connection within the answer."""
    fault_wrong_types: Probability = 0.0
    """Accept, then answer with numbers as strings."""
    fault_null_usage: Probability = 0.0
    """Accept, then answer without a usage."""
    fault_stream_cut: Probability = 0.0
    """Close the connection in a stream, without its end."""
    fault_stream_reset: Probability = 0.0
    """Reset the connection in a stream."""
    fault_stream_error: Probability = 0.0
    """End a stream with an event that is an error."""
    fault_stream_stall: Probability = 0.0
    """Send nothing more in a stream."""
    fault_stream_keep_alive: Probability = 0.0
    """Send nothing more in a stream but comments, one each second."""
    fault_stream_garbage: Probability = 0.0
    """Send bytes in a stream that are neither text nor JSON, and go on."""
    fault_stream_comments: Probability = 0.0
    """Send a comment before each write of a stream."""
    fault_stream_split: Probability = 0.0
    """Send characters of several bytes in a stream, cut in their middles."""
    fault_stream_crlf: Probability = 0.0
    """End the lines of a stream with CR LF, and once write between the two."""
    fault_stream_no_done: Probability = 0.0
    """End a stream without [DONE], or what a format has in its place."""
    fault_error_in_200: Probability = 0.0
    """Accept, then answer 200 with an error, in the form the provider has for that."""

    def rates(self) -> FaultRates:
        """The same, as the simulator is told."""
        return FaultRates(**{name.removeprefix("fault_"): rate for name, rate in dataclasses.asdict(self).items()})


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Streams:
    """How an answer is streamed to whoever asks for a stream."""

    stream_first: str = "0"
    """Seconds from the head of the answer to its first event, written like --latency."""
    stream_interval: str = "0.02"
    """Seconds between two writes, written like --latency."""
    stream_burst: Count = 1
    """How many events are sent in one write."""
    stream_deltas: CountOrZero = 0
    """How many pieces a text comes in; 0: a word each of what an answer in one piece has."""
    stream_reasoning: CountOrZero = 0
    """How many pieces of reasoning come before the text."""
    stream_tool_calls: CountOrZero = 1
    """How many calls of a function a request with tools gets in place of the text; 0 for agents, which would go on for
    ever."""
    stream_fault_at: CountOrZero | None = None
    """Before which event, from 0, the faults of streams strike; without it, any."""

    def shape(self) -> StreamShape:
        """The same, as the simulator is told."""
        return StreamShape(
            first=latency_of(self.stream_first, "--stream-first"),
            interval=latency_of(self.stream_interval, "--stream-interval"),
            burst=self.stream_burst,
            deltas=self.stream_deltas,
            reasoning=self.stream_reasoning,
            tool_calls=self.stream_tool_calls,
        )


async def simulate(
    *,
    port: CountOrZero = 0,
    limit_requests: Count | None = None,
    limit_tokens: Count | None = None,
    per: Seconds = 60.0,
    enforce: Literal["sliding", "fixed", "bucket"] = "sliding",
    charge: Literal["arrival", "usage"] = "arrival",
    latency: str = "lognormal:0.3,0.5",
    faults: Annotated[Faults | None, Parameter(name="*")] = None,
    streams: Annotated[Streams | None, Parameter(name="*")] = None,
    seed: CountOrZero = 0,
    log: str | None = None,
) -> int:
    """Simulate every provider, for anybody's client, until interrupted.

    One server speaks as all of them at once, each at an address of its own: its paths, its errors, its streams, its
    limit headers. They share the limits, the latency and the faults. What is printed is the address for a client of
    OpenAI's, and on stderr, for each provider, the base address a client of it is given.

    A prompt may say what it is answered, in lines of its last message: "simulate: call NAME {...}" has a tool of the
    request called, once; "simulate: say TEXT" and "simulate: repeat COUNT TEXT" give the text.

    Args:
      port: Where to listen on 127.0.0.1; 0 takes a free port.
      limit_requests: At most so many requests in each --per seconds; without it, any number.
      limit_tokens: At most so many input and output tokens together in each --per seconds.
      per: The period of the limits, in seconds.
      enforce: How the limits are enforced: sliding window, fixed window, or token bucket.
      charge: What a request costs in tokens: its input and output cap on arrival, or what its usage says.
      latency: Seconds an answer takes: 0.3, uniform:0.1,0.5, lognormal:MEDIAN,SIGMA or exponential:MEAN.
      seed: What chance is drawn from; the same seed has the same faults for the same calls.
      log: A file for one line of JSON per arrival.
    """
    streams = streams or Streams()
    config = SimulatorConfig(
        output="short",
        port=port,
        seed=seed,
        latency=latency_of(latency),
        faults=msgspec.structs.replace((faults or Faults()).rates(), stream_at=streams.stream_fault_at),
        stream=streams.shape(),
        log_path=log,
        limits=limits_of(limit_requests, limit_tokens, ProviderLimit("requests", 1, per, KINDS[enforce], charge)),
    )
    return await until_signalled(lambda: _run(config))


async def _run(config: SimulatorConfig) -> None:
    async with trio.open_nursery() as nursery:
        simulator: Simulator = await nursery.start(serve, config)
        tune_process()
        print(simulator.base_url, flush=True)
        print(addresses(simulator), file=sys.stderr)
        try:
            await trio.sleep_forever()
        finally:
            print(summary(simulator.statistics()), file=sys.stderr)


def addresses(simulator: Simulator) -> str:
    """The base address of every provider, a line each."""
    width = max(map(len, PROVIDERS))
    return "\n".join(f"{name:<{width}} {simulator.address(name)}" for name in PROVIDERS)


def limits_of(requests: int | None, tokens: int | None, like: ProviderLimit) -> tuple[ProviderLimit, ...]:
    """The limits that were asked for, enforced and charged like `like`."""
    asked: tuple[tuple[Dimension, int | None], ...] = (("requests", requests), ("total_tokens", tokens))
    return tuple(
        msgspec.structs.replace(like, dimension=dimension, limit=limit)
        for dimension, limit in asked
        if limit is not None
    )


def latency_of(text: str, option: str = "--latency") -> Latency:
    """Read ``0.3``, ``uniform:0.1,0.5`` and the like. Raises `UsageError` if it is none of them."""
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "constant", text
    try:
        return LATENCIES[kind](*(float(number) for number in rest.split(",")))
    except (KeyError, ValueError, TypeError):
        raise UsageError(
            f"{option} {text!r} is not understood; write seconds, or uniform:0.1,0.5, lognormal:0.3,0.5 (median, "
            "sigma) or exponential:0.3 (mean)"
        ) from None


def summary(now: SimulatorStatistics) -> str:
    """What became of the requests, in a few lines."""
    refused = ", ".join(f"{count} by {why}" for why, count in sorted(now.refused.items())) or "none"
    faults = ", ".join(f"{count} {name}" for name, count in sorted(now.faults.items())) or "none"
    lines = [
        f"requests       {now.arrivals}, of which {now.accepted} accepted",
        f"refused        {refused}",
        f"faults         {faults}",
        f"tokens         {now.input_tokens} in, {now.output_tokens} out",
    ]
    if now.streams.begun:
        ends = ", ".join(f"{count} {how}" for how, count in sorted(now.streams.ended.items())) or "none"
        lines.append(f"streams        {now.streams.begun}, of which ended: {ends}; {now.streams.events} events")
    lines += [
        f"worst window   {window.worst} {window.dimension} in {window.period_us / 1e6:g} s, of {window.limit}"
        for window in now.worst_windows
    ]
    if now.loop.late:
        lines.append(
            f"late           the simulator's own loop was up to {now.loop.max_late_us / 1e3:.1f} ms late, "
            f"{now.loop.over_guard} times over its guard of {now.loop.guard_us / 1e3:g} ms: the machine is too busy "
            "for exact instants"
        )
    return "\n".join(lines)
