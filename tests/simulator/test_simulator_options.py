"""What `penstock simulate` makes of its options about streams, and what it says of streams at the end."""

from __future__ import annotations

from dataclasses import fields

import pytest
from simulator_client import connect, with_simulator

from engine.cli.simulate import Faults, Streams, summary
from engine.errors import UsageError
from engine.simulator import ConstantLatency, ExponentialLatency, FaultRates, Simulator, SimulatorConfig, StreamShape


def test_the_options_of_streams_are_handed_on() -> None:
    streams = Streams(
        stream_first="exponential:0.5",
        stream_interval="0.25",
        stream_burst=2,
        stream_deltas=3,
        stream_reasoning=4,
        stream_tool_calls=5,
    )
    first, interval = ExponentialLatency(0.5), ConstantLatency(0.25)
    assert streams.shape() == StreamShape(
        first=first,
        interval=interval,
        burst=2,
        deltas=3,
        reasoning=4,
        tool_calls=5,
        reasoning_field="reasoning_content",
    )
    assert Faults(fault_stream_cut=0.5).rates().stream_cut == 0.5


@pytest.mark.parametrize("name", ["stream_first", "stream_interval"])
def test_a_wrong_time_names_its_option(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} 'soon' is not understood"):
        Streams(**{name: "soon"}).shape()
    assert name in {field.name for field in fields(Streams)}


async def test_the_summary_counts_streams_if_there_were_any() -> None:
    async def body(simulator: Simulator) -> None:
        async with connect(simulator.port) as client:
            await client.chat("whole")
            assert "streams" not in summary(simulator.statistics())
            await client.streamed("one", max_tokens=2)
            await client.streamed("one", max_tokens=2)
        assert "streams        2, of which ended: 1 done, 1 error; 8 events" in summary(simulator.statistics())

    faults = FaultRates(stream_error=1.0, stream_at=3, only_first_attempts=1)
    await with_simulator(SimulatorConfig(faults=faults), body)
