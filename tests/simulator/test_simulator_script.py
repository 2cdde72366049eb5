"""What is written of a stream, and when, without a socket: the schedule, the bursts, and where a fault strikes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator import STREAM_FAULTS, ConstantLatency, FaultRates, StreamShape, UniformLatency
from engine.simulator.chat import StreamRequest
from engine.simulator.chunks import COMMENT, ERROR, GARBAGE, Chunks, Wording
from engine.simulator.faults import draw
from engine.simulator.limits import Cost
from engine.simulator.reply import Completion
from engine.simulator.script import GAP_US, StreamPlan, Write

PIECES = [b" pen", b" stock", b" weir"]
MS = 1_000


def plan_of(
    shape: StreamShape,
    *,
    length: int = 4,
    choices: int = 1,
    fault: str = "",
    at: int | None = None,
    tool: str = "",
    usage: bool = True,
    call: str = "one",
) -> StreamPlan:
    done = Completion("0123456789abcdef", "m", "", choices, Cost(6, length), 1_790_000_000)
    said = Wording(done, StreamRequest(usage, True, tool), shape, PIECES, 2, length, fault)
    faults = FaultRates(stream_at=at, stall_s=1.0, comment_s=0.3)
    return StreamPlan(Chunks(said), shape, fault, faults, draw(1, call, 1, about=b"stream"))


def whole(data: bytes) -> list[object]:
    """The events in whole lines, decoded."""
    lines = [line[6:] for line in data.splitlines() if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


def body(writes: list[Write]) -> bytes:
    return b"".join(write.data for write in writes)


def test_instants_are_absolute_and_the_tail_comes_together() -> None:
    shape = StreamShape(first=ConstantLatency(0.5), interval=ConstantLatency(0.01))
    writes = list(plan_of(shape).writes())
    # The role, four deltas, and one interval after the last of them the finish, the usage and [DONE].
    assert [write.at_us for write in writes] == [500 * MS + 10 * MS * i for i in (0, 1, 2, 3, 4, 5, 5, 5)]
    assert [write.events for write in writes] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(write.data.endswith(b"\n\n") and write.data.count(b"\n\n") == 1 for write in writes)


@pytest.mark.parametrize(
    ("burst", "events", "at_ms"),
    [
        (3, [3, 6, 8], [0, 10, 10]),
        (5, [5, 8], [0, 10]),
        (8, [8], [0]),
        (99, [8], [0]),
        (2, [2, 4, 6, 8], [0, 10, 20, 20]),
    ],
)
def test_a_burst_is_one_write(burst: int, events: list[int], at_ms: list[int]) -> None:
    writes = list(plan_of(StreamShape(interval=ConstantLatency(0.01), burst=burst)).writes())
    assert [write.events for write in writes] == events
    assert [write.at_us for write in writes] == [ms * MS for ms in at_ms]


def test_drawn_intervals_stay_in_their_bounds_differ_and_repeat() -> None:
    shape = StreamShape(first=UniformLatency(1.0, 2.0), interval=UniformLatency(0.010, 0.020), deltas=0)
    runs = [[write.at_us for write in plan_of(shape, length=300, call=call).writes()] for call in ("a", "a", "b")]
    assert runs[0] == runs[1] != runs[2]
    assert 1_000 * MS <= runs[0][0] <= 2_000 * MS
    gaps = [after - before for before, after in pairwise(runs[0])][:-2]
    assert all(10 * MS <= gap <= 20 * MS for gap in gaps)
    assert len(set(gaps)) > 250
    assert sum(gaps) / len(gaps) == pytest.approx(15 * MS, rel=0.05)


@given(
    st.builds(
        StreamShape,
        interval=st.sampled_from([ConstantLatency(0.0), ConstantLatency(0.01), UniformLatency(0.0, 0.01)]),
        burst=st.integers(1, 9),
        reasoning=st.integers(0, 3),
        tool_calls=st.integers(0, 3),
    ),
    st.integers(1, 12),
    st.integers(1, 3),
    st.sampled_from(["", "null_usage", "wrong_types", "truncated", "malformed_json", *sorted(STREAM_FAULTS)]),
    st.one_of(st.none(), st.integers(0, 60)),
    st.sampled_from(["", "f"]),
    st.booleans(),
)
def test_a_stream_is_what_was_planned_up_to_where_its_fault_strikes(
    shape: StreamShape, length: int, choices: int, fault: str, at: int | None, tool: str, usage: bool
) -> None:
    """Nothing but its fault changes a stream, and what was before it was sent whole."""
    options = {"length": length, "choices": choices, "tool": tool, "usage": usage}
    kept = fault if fault in ("null_usage", "wrong_types", "stream_no_done") else ""
    good = body(list(plan_of(shape, fault=kept, **options).writes()))  # type: ignore[arg-type]
    events = [event + b"\n\n" for event in good.split(b"\n\n")[:-1]]
    plan = plan_of(shape, fault=fault, at=at, **options)  # type: ignore[arg-type]
    writes = list(plan.writes())
    assert all(before.at_us <= after.at_us and before.events <= after.events for before, after in pairwise(writes))
    assert len(events) == plan.events - (3 if fault == "stream_split" else 0)
    assert writes[-1].events == (plan.events if plan.ending == "done" else plan.struck_at)
    sent, struck = body(writes), plan.struck_at
    if fault == "stream_comments":
        assert sent.replace(COMMENT, b"") == good
        assert [write.data for write in writes[::2]] == [COMMENT] * (len(writes) // 2)
    elif struck is None:
        assert sent == good
    elif fault == "stream_crlf":
        assert sent == good.replace(b"\n", b"\r\n")
    else:
        before = b"".join(events[:struck])
        assert sent.startswith(before)
        assert before in [body(writes[:place]) for place in range(len(writes) + 1)], "a write ends where it strikes"
        if plan.ending == "done" and fault != "malformed_json":
            assert sent.endswith(b"".join(events[struck:]))
        if at is not None and fault not in ("stream_split", "malformed_json"):
            assert struck == min(at, plan.events - 1)
    told = [event for event in events if b'"prompt_tokens"' in event]
    assert len(told) == (usage and fault != "null_usage")
    assert plan.usage_arrives == any(event in sent.replace(b"\r\n", b"\n") for event in told)


def strike(fault: str, at: int = 3, burst: int = 1) -> list[Write]:
    """The writes from where the fault strikes."""
    plan = plan_of(StreamShape(interval=ConstantLatency(0.01), burst=burst), fault=fault, at=at)
    writes = list(plan.writes())
    assert plan.struck_at == at
    return writes[[write.events for write in writes].index(at) + 1 :]


@pytest.mark.parametrize("fault", ["stream_cut", "stream_reset"])
def test_a_cut_comes_when_its_event_would(fault: str) -> None:
    assert strike(fault) == [Write(30 * MS, b"", 3)]


def test_an_error_stands_in_the_place_of_its_event() -> None:
    assert strike("stream_error") == [Write(30 * MS, ERROR, 3)]


def test_a_stall_is_silence_and_then_the_end() -> None:
    assert strike("stream_stall") == [Write(1_030 * MS, b"", 3)]


def test_keep_alives_come_at_their_interval_and_nothing_else_does() -> None:
    comments = [Write((30 + 300 * i) * MS, COMMENT, 3) for i in (1, 2, 3)]
    assert strike("stream_keep_alive") == [*comments, Write(1_030 * MS, b"", 3)]


def test_garbage_is_a_write_of_its_own_and_neither_text_nor_json() -> None:
    garbage, event, *_ = strike("stream_garbage")
    assert garbage == Write(30 * MS, GARBAGE, 3)
    assert (event.at_us, event.events) == (30 * MS, 4)
    field, data = filter(None, GARBAGE.splitlines())
    for line in (field, data):
        with pytest.raises(UnicodeDecodeError):
            line.decode()
    assert not field.startswith(b"data:")
    assert data.startswith(b"data:")


def test_a_spoilt_event_is_no_json_and_those_beside_it_are() -> None:
    for burst in (1, 2):
        first, *rest = strike("malformed_json", at=4, burst=burst)
        spoilt, *others = first.data.split(b"\n\n")
        with pytest.raises(json.JSONDecodeError):
            json.loads(spoilt.removeprefix(b"data: "))
        assert whole(b"\n\n".join(others) + body(rest))


def test_a_truncated_stream_ends_within_an_event() -> None:
    [last] = strike("truncated")
    assert (last.at_us, last.events) == (30 * MS, 3)
    assert last.data.startswith(b'data: {"id":')
    assert b"\n" not in last.data


def test_what_is_split_is_cut_in_the_middle_of_a_character_and_of_two_escapes() -> None:
    writes = strike("stream_split")
    cuts = [one.data for one, after in pairwise(writes) if after.at_us - one.at_us == GAP_US]
    assert [cut[-2:] if cut.endswith(b"\x98") else cut[-1:] for cut in cuts[:2]] == [b"\xe2", b"\x98"]
    assert [data[-5:] for data in cuts if data.endswith((rb"\ud", rb"\ude"[:3]))] == [rb'":"\ud'[-5:]] * 2
    said = [event["choices"][0]["delta"].get("content") for event in whole(body(writes))[:4]]  # type: ignore[index]
    assert said == ["☕", "\ud83d", "\ude00", " stock"]
    # Everything that follows is later by what it took, and counted with it.
    assert writes[-1].events == 8 + 3
    assert writes[-1].at_us == 50 * MS + 7 * GAP_US


def test_a_line_end_of_two_bytes_is_once_cut_between_them() -> None:
    first, second, *_ = strike("stream_crlf")
    assert first.data.endswith(b"\r")
    assert second.data == b"\n\r\n"
    assert (first.at_us, first.events, second.at_us, second.events) == (30 * MS, 3, 30 * MS + GAP_US, 4)


def test_a_fault_strikes_any_event_if_it_is_told_none() -> None:
    shape = StreamShape()
    struck = {plan_of(shape, fault="stream_cut", call=f"call-{i}").struck_at for i in range(400)}
    assert struck == set(range(8))


@pytest.mark.parametrize("fault", ["stream_cut", "stream_error", "stream_stall", "truncated", "malformed_json"])
def test_a_usage_arrives_if_the_fault_strikes_after_it(fault: str) -> None:
    usage_at = 6
    arrives = [
        plan_of(StreamShape(), fault=fault, at=at).usage_arrives for at in (usage_at - 1, usage_at, usage_at + 1)
    ]
    # An event spoilt before the usage does not keep it back, and [DONE] cannot be spoilt: the usage is, in its place.
    assert arrives == ([True, False, False] if fault == "malformed_json" else [False, False, True])
