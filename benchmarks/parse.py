"""What does reading a reply cost, and an event of a stream, beside the vendor's own SDK on the same bytes?

Ours is all that is done with a reply: `read` for the schedule, `decode` and `view` for the caller; and with a stream:
the reader of its events, the worker's monitor, the caller's assembler, fed one event at a time as they arrive. The
SDK's is its step from the body to its own objects, and nothing before it: see `parse_sdks`. Both take turns in one
process, the best of so many turns counts, and the ratio is of these. Before that, both must have found the same text.

What the SDKs do with a reply differs: most make objects of every field, tavily's hands over what `json` decodes. How
the bodies are made is said in `parse_bodies`. An SDK that is not installed is said to be missing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.harness import Benchmark, Case, Figure, Measured, Option, Settings, at_most, figure
from benchmarks.parse_bodies import ROWS, Row, Streamed, large_reply, long_stream, small_reply, text_at
from benchmarks.parse_sdks import HEADERS, SDKS, Reader
from benchmarks.units import processor_s
from engine.providers.lookup import find
from engine.providers.view import View
from engine.providers.wire import StreamFormat, WireFormat
from engine.sse import EventReader, LineReader

GOAL = at_most(0.1)
NOW_S = 1_795_167_000.0
EVENT_BYTES = 1 << 20
KINDS = {"small": "a reply", "large": "a long reply", "event": "an event"}
_BY_NAME = {row.name: row for row in ROWS}


def cases(options: Settings, number: int) -> list[Case]:
    """One for each row, so that each process imports one SDK."""
    told = {name: options[name] for name in ("size", "deltas", "reads", "turns")}
    wanted = options["rows"]
    chosen = [row for row in ROWS if not wanted or any(word in row.name for word in wanted.split(","))]
    if not chosen:
        raise ValueError(f"no row has {wanted!r} in its name; the rows are {'; '.join(_BY_NAME)}")
    return [Case(row.name, {"row": row.name, **told}) for row in chosen]


def measure(settings: Settings) -> Measured:
    """For each kind of reading the processor seconds of one, ours and the SDK's, once for each turn."""
    row = _BY_NAME[settings["row"]]
    try:
        version = metadata.version(row.sdk)
    except metadata.PackageNotFoundError:
        return {"missing": row.sdk}
    wire = find(row.provider, row.endpoint, compatible=False)[1].format
    sdk = SDKS[row.sdk](row.endpoint, small_reply(row))
    measured: Measured = {"sdk": f"{row.sdk} {version}"}
    gc.collect()
    gc.freeze()  # what was imported is no garbage, and need not be looked through each time
    for kind, body in (("small", small_reply(row)), ("large", large_reply(row, settings["size"]))):
        _agree_on_reply(row, wire, sdk, body)
        measured[kind] = _replies(wire, sdk, body, settings)
    if row.stream:
        streamed = long_stream(row, settings["deltas"])
        _agree_on_stream(row, wire, sdk, streamed)  # type: ignore[arg-type]  # a row with a stream has such a format
        measured["event"] = _events(row, wire, sdk, streamed, settings)  # type: ignore[arg-type]  # as above
    return measured


# --- the two readers --------------------------------------------------------------------------------------------------


def _read_reply(wire: WireFormat, body: bytes) -> View:
    """All that is done with a reply, by the worker and for the caller."""
    reading = wire.read(200, HEADERS, body, now_s=NOW_S)
    if reading.fault is not None:
        raise AssertionError(f"the reply is not read as an answer: {reading.fault.message}")
    return wire.view(wire.decode(body))


def _read_stream(wire: StreamFormat, lines: bool, pieces: Sequence[bytes]) -> str:
    """All that is done with a stream; its text."""
    reader = (LineReader if lines else EventReader)(cap_bytes=EVENT_BYTES)
    monitor, assembler = wire.monitor(), wire.assembler()
    text = []
    for piece in pieces:
        events = reader.feed(piece)
        if events:
            monitor.heard(events)
            for event in events:
                text += [chunk.content for chunk in assembler.feed(event) if chunk.type == "text"]
    if not monitor.finished or monitor.error is not None:
        raise AssertionError("the stream is not read to its end")
    return "".join(piece for piece in text if piece)


def _agree_on_reply(row: Row, wire: WireFormat, sdk: Reader, body: bytes) -> None:
    view = _read_reply(wire, body)
    ours = list(view.embeddings[0]) if view.embeddings else view.text or "".join(one.text or "" for one in view.results)
    theirs = text_at(sdk.reply(sdk.prepare(body)), row.sdk_text or row.text)
    if len(ours) != len(theirs) or (isinstance(ours, str) and ours != theirs):
        raise AssertionError(f"{row.name}: not the same was read: {ours[:50]!r} and {theirs[:50]!r}")


def _agree_on_stream(row: Row, wire: StreamFormat, sdk: Reader, streamed: Streamed) -> None:
    assert sdk.prepare_stream is not None
    assert sdk.stream is not None
    ours = _read_stream(wire, row.stream.endswith("ndjson"), streamed.pieces)
    theirs = "".join(text_at(event, row.delta) for event in sdk.stream(sdk.prepare_stream(streamed.pieces)))
    if not ours == theirs == streamed.text:
        raise AssertionError(f"{row.name}: not the same was read of the stream")


# --- the clock --------------------------------------------------------------------------------------------------------


def _span_s(read: Callable[[Any], object], things: Sequence[Any]) -> float:
    """The processor seconds of reading one of these."""
    gc.collect()
    started_s = processor_s()
    for thing in things:
        read(thing)
    return (processor_s() - started_s) / len(things)


def _all(events: Iterable[object]) -> None:
    for _ in events:
        pass


def _replies(wire: WireFormat, sdk: Reader, body: bytes, settings: Settings) -> Measured:
    around = sdk.around
    took: Measured = {"bytes": len(body), "ours_s": [], "sdk_s": []}
    for _ in range(settings["turns"]):
        took["ours_s"].append(_span_s(lambda one: _read_reply(wire, one), [body] * settings["reads"]))
        spent_s = _span_s(sdk.reply, [sdk.prepare(body) for _ in range(settings["reads"])])
        besides_s = 0.0 if around is None else _span_s(lambda _: around(), range(settings["reads"]))
        took["sdk_s"].append(spent_s - besides_s)
    return took


def _events(row: Row, wire: StreamFormat, sdk: Reader, streamed: Streamed, settings: Settings) -> Measured:
    lines, events = row.stream.endswith("ndjson"), streamed.events
    prepare, stream = sdk.prepare_stream, sdk.stream
    assert prepare is not None
    assert stream is not None
    took: Measured = {"bytes": sum(map(len, streamed.pieces)), "events": events, "ours_s": [], "sdk_s": []}
    for _ in range(settings["turns"]):
        took["ours_s"].append(_span_s(lambda one: _read_stream(wire, lines, one), [streamed.pieces]) / events)
        took["sdk_s"].append(_span_s(lambda one: _all(stream(one)), [prepare(streamed.pieces)]) / events)
    return took


# --- figures ----------------------------------------------------------------------------------------------------------


def _best_us(rounds: list[Measured], kind: str, side: str) -> list[float]:
    return [min(one[kind][f"{side}_s"]) * 1e6 for one in rounds]


def figures(measured: Mapping[str, list[Measured]]) -> list[Figure]:
    """The worst ratio of all, named; each row's ratios; and the microseconds that they are made of."""
    ratios: list[Figure] = []
    costs: list[Figure] = []
    for case, rounds in measured.items():
        if "missing" in rounds[0]:
            reason = f"read ({rounds[0]['missing']} is not installed: pip install 'penstock[test-sdks]')"
            costs.append(figure(case, reason, [0]))
            continue
        for kind, name in KINDS.items():
            if kind not in rounds[0]:
                continue
            ours, theirs = _best_us(rounds, kind, "ours"), _best_us(rounds, kind, "sdk")
            both = [a / b for a, b in zip(ours, theirs, strict=True)]
            ratios.append(figure(case, f"{name}, ours / SDK", both, goal=GOAL))
            costs.append(figure(case, f"{name}, ours", ours, unit="us"))
            costs.append(figure(case, f"{name}, SDK", theirs, unit="us"))
    worst = max(ratios, key=lambda one: one.value, default=None)
    first = [] if worst is None else [figure(f"worst: {worst.case}", worst.name, [worst.value], goal=GOAL)]
    return first + ratios + costs


BENCHMARK = Benchmark(
    name="parse",
    question="What does reading a reply and a stream's event cost, beside the vendor's SDK on the same bytes?",
    rounds=3,
    options=(
        Option("rows", "", "only rows with one of these words in their names, with commas between"),
        Option("size", 2_000, "bytes of text in a long reply", int),
        Option("deltas", 300, "events with text in a stream", int),
        Option("reads", 40, "replies read in a turn", int),
        Option("turns", 10, "turns of each side", int),
    ),
    cases=cases,
    measure=measure,
    figures=figures,
    note="long: 2,000 bytes of text or what --size says; 1,024 numbers of an embedding",
)
