"""Does a hop cost more where a call carries a megabyte than where it carries 300 bytes?

A hop is one actor handing a call to the next: client to scheduler, scheduler to worker. So many calls are made, each
with its body; all are submitted before any actor has its turn; then processor time runs until the last of as many
resting workers holds its call, decoded, and only then is one answered. What a payload must cost is its first encoding,
one copy. It is timed where it happens, inside `submit`, because alone, on memory never touched before, it takes longer
than the whole of `submit`. A hop is (submit - that encoding + the way to the workers) / 2.

In no stretch is a payload let go of: what a batch leaves behind is held until the next one has been timed, else the
small one would pay for the large one before it. Writing to a socket takes another copy, which is no hop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from statistics import median

import trio

from actors import messages
from actors.messages import APICalling, Message
from actors.transport import Answer, Attempt
from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.units import ScriptedConnection, chat_answer, pair_s, processor_s
from engine import Call, Engine, iModel, open_engine

HOPS = 2
PAIRS = 5_000
STRETCHES = ("encode", "submit", "way")
SIZES = ("small", "large")


class Arrivals:
    """The calls that workers hold, and the instant at which there were as many as were sent."""

    def __init__(self) -> None:
        self.expect(0)

    def expect(self, calls: int) -> None:
        """From now on wait for so many."""
        self.held: list[APICalling] = []  # each keeps the whole message it was decoded from
        self.whole = trio.Event()
        self.ended_s = 0.0
        self._calls = calls

    async def arrive(self, calling: APICalling) -> None:
        """A worker holds this one; go on when all are there."""
        self.held.append(calling)
        if len(self.held) == self._calls:
            self.ended_s = processor_s()
            self.whole.set()
        await self.whole.wait()


class HoldingConnection(ScriptedConnection):
    """Answers a call once all calls are with their workers."""

    def __init__(self, answer: Answer, arrivals: Arrivals) -> None:
        super().__init__(answer)
        self._arrivals = arrivals

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Say that the call is here, wait for the others, answer."""
        await self._arrivals.arrive(calling)
        return await super().exchange(calling, attempt)


class HoldingTransport:
    """Opens `HoldingConnection`s."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    async def connect(self) -> HoldingConnection:
        """Open one, at once."""
        return HoldingConnection(chat_answer(600), self._arrivals)


def _made(model: iModel, calls: int, size_bytes: int) -> list[Call]:
    # The rest of the body (names, model, role) is some 90 bytes. Each text is a string of its own.
    return [
        model.create_api_calling(
            messages=[{"role": "user", "content": f"{number:08}" + "x" * max(1, size_bytes - 98)}], max_tokens=64
        )
        for number in range(calls)
    ]


class Encoding:
    """The processor seconds spent in `messages.encode_to_keep` while it is `watched`."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Put a clock around it, for the block."""
        encode = messages.encode_to_keep

        def timed(message: Message) -> bytes:
            started_s = processor_s()
            encoded = encode(message)
            self.spent_s += processor_s() - started_s
            return encoded

        messages.encode_to_keep = timed
        try:
            yield
        finally:
            messages.encode_to_keep = encode


Left = tuple[list[bytes], list[APICalling]]
"""What a batch leaves behind: the bodies of its calls, and the messages that workers held."""


async def _batch(
    engine: Engine, model: iModel, arrivals: Arrivals, calls: int, size_bytes: int
) -> tuple[list[float], Left]:
    """Processor seconds of each of `STRETCHES`, for one call; and what is to be kept until the next was timed."""
    made, encoding = _made(model, calls, size_bytes), Encoding()
    bodies = [call.request.body for call in made]
    arrivals.expect(calls)
    with encoding.watched():
        started_s = processor_s()
        for call in made:
            engine.submit_nowait(call)
        submitted_s = processor_s()
    await arrivals.whole.wait()
    await engine.wait_quiet()
    if any(call.status != "completed" for call in made) or len(arrivals.held) != calls:
        raise AssertionError("not every call completed, once")
    if sorted(map(bytes, bodies)) != sorted(bytes(calling.body) for calling in arrivals.held):
        raise AssertionError("the workers were not given the calls' bodies")
    if encoding.spent_s <= 0:
        raise AssertionError("submit no longer encodes by encode_to_keep: this measures nothing")
    spans = encoding.spent_s, submitted_s - started_s, arrivals.ended_s - submitted_s
    return [span / calls for span in spans], (bodies, arrivals.held)


async def _measure(settings: Settings) -> Measured:
    calls, arrivals = settings["calls"], Arrivals()
    measured: Measured = {f"{size}_{stretch}_s": [] for size in SIZES for stretch in STRETCHES}
    before_s = await pair_s(PAIRS)
    async with open_engine(transport=lambda account, on_usage: HoldingTransport(arrivals)) as engine:
        model = iModel(model="openai/scripted", api_key="none", max_connections=calls)
        for size in SIZES:  # opens the connections, and gives the allocator its memory
            _, left = await _batch(engine, model, arrivals, calls, settings[size])
        for number in range(settings["repeats"]):
            for size in SIZES if number % 2 else reversed(SIZES):
                spans, left_now = await _batch(engine, model, arrivals, calls, settings[size])
                left = left_now  # noqa: F841  # the workers hold these until they get their next calls
                for stretch, span_s in zip(STRETCHES, spans, strict=True):
                    measured[f"{size}_{stretch}_s"].append(span_s)
    return {**measured, "pair_s": (before_s + await pair_s(PAIRS)) / 2}


def measure(settings: Settings) -> Measured:
    """For each size and stretch the processor seconds of one call, once for each repetition."""
    return trio.run(_measure, settings)


def cases(options: Settings, number: int) -> list[Case]:
    """One: both sizes alternate in one process."""
    settings = {name: options[name] for name in ("calls", "small", "large", "repeats")}
    return [Case(f"{options['large']:,} bytes, {options['small']:,} bytes", settings)]


def _hop_s(one: Measured, size: str) -> float:
    spans = zip(*(one[f"{size}_{stretch}_s"] for stretch in STRETCHES), strict=True)
    hop_s: float = median(submit - encode + way for encode, submit, way in spans) / HOPS
    return hop_s


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """What a hop of the large one costs against the small one's; what each costs, and the first encoding beside it."""
    ((case, rounds),) = measured.items()
    ratios = [_hop_s(one, "large") / _hop_s(one, "small") for one in rounds]
    drawn = [figure(case, "a hop, large / small", ratios, unit="times", goal=at_most(2))]
    for size in SIZES:
        hops = [_hop_s(one, size) for one in rounds]
        pairs = [hop_s / one["pair_s"] for hop_s, one in zip(hops, rounds, strict=True)]
        drawn.append(figure(case, f"a hop, {size}", [hop_s * 1e6 for hop_s in hops], unit="us"))
        drawn.append(figure(case, f"a hop, {size}", pairs, unit="pairs"))
        encoding = [median(one[f"{size}_encode_s"]) * 1e6 for one in rounds]
        drawn.append(figure(case, f"the first encoding, {size}", encoding, unit="us"))
    return drawn


BENCHMARK = Benchmark(
    name="payload",
    question="Does a hop cost more where a call carries a megabyte than where it carries 300 bytes?",
    rounds=5,
    options=(
        Option("small", 300, "bytes of a small call's body", int),
        Option("large", 1_000_000, "bytes of a large call's body", int),
        Option("calls", 32, "calls, each with a worker of its own, in each repetition", int),
        Option("repeats", 20, "repetitions within each process", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
    note="garbage is collected as Python does",
)
