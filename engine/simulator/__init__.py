"""A simulated provider: a real HTTP server on loopback that enforces limits, takes its time and fails on purpose.

For newcomers without a key, for benchmarks, and as the judge in tests: it logs every arrival, and says what the fullest
window was as a provider sees it.

    async with simulated_provider(SimulatorConfig(limits=(ProviderLimit("requests", 100, 1.0),))) as provider:
        ...  # point any OpenAI client at provider.base_url
        print(await provider.statistics())

One server speaks as every provider of the catalogue (`PROVIDERS`), each at its own `address`, in one piece or as
streams; at `base_url` it is OpenAI. It must not import the engine's own limits, transports or wire formats.
"""

from __future__ import annotations

from engine.simulator.analysis import (
    StreamTally,
    Tally,
    WindowWatch,
    Worst,
    spent_share,
    tally,
    tally_streams,
    worst_window,
)
from engine.simulator.config import FaultRates, LimitChange, ProviderLimit, SimulatorConfig, StreamShape, load_config
from engine.simulator.faults import FAULTS, STREAM_FAULTS
from engine.simulator.formats.catalogue import PROVIDERS
from engine.simulator.latency import (
    ConstantLatency,
    ExponentialLatency,
    Latency,
    LognormalLatency,
    UniformLatency,
)
from engine.simulator.log import LogRecords, read_log
from engine.simulator.process import SimulatedProvider, simulated_provider
from engine.simulator.records import (
    Arrival,
    Aside,
    Late,
    LoopLateness,
    SimulatorStatistics,
    StreamEnd,
    StreamTotals,
    WorstWindow,
)
from engine.simulator.reply import count_input
from engine.simulator.server import Simulator, serve
from engine.simulator.tuning import tune_process

__all__ = [
    "FAULTS",
    "PROVIDERS",
    "STREAM_FAULTS",
    "Arrival",
    "Aside",
    "ConstantLatency",
    "ExponentialLatency",
    "FaultRates",
    "Late",
    "Latency",
    "LimitChange",
    "LogRecords",
    "LognormalLatency",
    "LoopLateness",
    "ProviderLimit",
    "SimulatedProvider",
    "Simulator",
    "SimulatorConfig",
    "SimulatorStatistics",
    "StreamEnd",
    "StreamShape",
    "StreamTally",
    "StreamTotals",
    "Tally",
    "UniformLatency",
    "WindowWatch",
    "Worst",
    "WorstWindow",
    "count_input",
    "load_config",
    "read_log",
    "serve",
    "simulated_provider",
    "spent_share",
    "tally",
    "tally_streams",
    "tune_process",
    "worst_window",
]
