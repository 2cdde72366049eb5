"""`payload`: what a hop is made of, and when the workers' stretch ends.

That its three stretches are measured at all is seen in `test_commands`, in a real process.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors import messages
from actors.messages import APICalling, decode_calling
from benchmarks import payload
from benchmarks.harness import Measured


def measured(small_us: tuple[int, int, int], *large_us: tuple[int, int, int]) -> Measured:
    """One round: encoding, submit and way of each repetition of the large one, the small one's always the same."""
    of: dict[str, tuple[tuple[int, int, int], ...]] = {"small": (small_us,) * len(large_us), "large": large_us}
    spans = {
        f"{size}_{stretch}_s": [one[index] / 1e6 for one in repetitions]
        for size, repetitions in of.items()
        for index, stretch in enumerate(payload.STRETCHES)
    }
    return {**spans, "pair_s": 5e-6}


def test_encoding_is_no_part_of_a_hop() -> None:
    """Submit without it, and the way, over two hops; within each repetition, then the median."""
    figures = payload.figures({"case": [measured((1, 11, 30), (400, 410, 50), (900, 910, 50), (400, 420, 900))]})
    found = {(one.name, one.unit): (one.value, one.met) for one in figures}
    assert found["a hop, large / small", "times"] == (pytest.approx(1.5), True)
    assert found["a hop, large", "us"] == (pytest.approx(30), None)
    assert found["a hop, small", "pairs"] == (pytest.approx(4), None)
    assert found["the first encoding, large", "us"] == (pytest.approx(400), None)


def test_payload_that_is_touched_on_the_way_misses_the_goal() -> None:
    """As one more copy would."""
    first, *_ = payload.figures({"case": [measured((1, 11, 30), (400, 410, 80))]})
    assert (first.value, first.goal, first.met) == (pytest.approx(2.25), "<= 2", False)


def test_stretch_ends_with_the_last_worker() -> None:
    """Nobody is answered before, and the clock is read once."""

    async def main() -> None:
        arrivals, answered = payload.Arrivals(), []
        arrivals.expect(2)

        async def worker(number: int) -> None:
            await arrivals.arrive(APICalling(number, 1, 1, 1))
            answered.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert (answered, arrivals.ended_s, arrivals.whole.is_set()) == ([], 0.0, False)
            nursery.start_soon(worker, 2)
        assert sorted(answered) == [1, 2]
        assert arrivals.ended_s > 0

    trio.run(main)


def test_encoding_is_watched_for_the_block_alone() -> None:
    """It still encodes, and is itself again afterwards."""
    encode, encoding, body = messages.encode_to_keep, payload.Encoding(), memoryview(b"x" * 300)
    with encoding.watched():
        encoded = messages.encode_to_keep(APICalling(1, 1, 1, 1, body=body))
    assert decode_calling.decode(encoded).body == body
    assert encoding.spent_s > 0
    spent_s = encoding.spent_s
    messages.encode_to_keep(APICalling(1, 1, 1, 1, body=body))
    assert encoding.spent_s == spent_s
    assert messages.encode_to_keep is encode
