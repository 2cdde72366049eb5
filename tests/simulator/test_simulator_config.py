"""The simulator's configuration: what is wrong is named, by hand and from JSON; what is right survives the trip."""

from __future__ import annotations

import msgspec
import pytest

from actors.errors import UsageError
from engine.simulator import (
    FAULTS,
    ConstantLatency,
    ExponentialLatency,
    FaultRates,
    LognormalLatency,
    ProviderLimit,
    SimulatorConfig,
    StreamShape,
    UniformLatency,
    load_config,
)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ProviderLimit("requests", 0), r"limits\[\].limit is 0"),
        (lambda: ProviderLimit("requests", -1), r"limits\[\].limit is -1"),
        (lambda: ProviderLimit("requests", 1.5), r"limits\[\].limit is 1.5"),  # type: ignore[arg-type]
        (lambda: ProviderLimit("requests", True), r"limits\[\].limit is True"),
        (lambda: ProviderLimit("calls", 1), r"limits\[\].dimension is 'calls'"),  # type: ignore[arg-type]
        (lambda: ProviderLimit("requests", 1, 0), r"limits\[\].period_s is 0"),
        (lambda: ProviderLimit("requests", 1, float("inf")), r"limits\[\].period_s is inf"),
        (lambda: ProviderLimit("requests", 1, 1e-9), "a microsecond or more"),
        (lambda: ProviderLimit("requests", 1, kind="leaky"), r"limits\[\].kind is 'leaky'"),  # type: ignore[arg-type]
        (lambda: ProviderLimit("requests", 1, charge="late"), r"limits\[\].charge"),  # type: ignore[arg-type]
        (lambda: ProviderLimit("requests", 1, burst=2), "burst belongs to a token_bucket"),
        (lambda: FaultRates(stall=-0.1), "faults.stall is -0.1"),
        (lambda: FaultRates(html=1.1), "faults.html is 1.1"),
        (lambda: FaultRates(empty=float("nan")), "faults.empty is nan"),
        (lambda: FaultRates(empty=0.6, html=0.6), "add up to 1.2"),
        (lambda: FaultRates(stall_s=0), "faults.stall_s is 0"),
        (lambda: FaultRates(retry_after_s=-1), "faults.retry_after_s is -1"),
        (lambda: FaultRates(stream_at=-1), "faults.stream_at is -1"),
        (lambda: FaultRates(stream_cut=2), "faults.stream_cut is 2"),
        (lambda: FaultRates(comment_s=0), "faults.comment_s is 0"),
        (lambda: StreamShape(burst=0), "stream.burst is 0"),
        (lambda: StreamShape(deltas=-1), "stream.deltas is -1"),
        (lambda: StreamShape(reasoning=True), "stream.reasoning is True"),
        (lambda: StreamShape(tool_calls=1.0), "stream.tool_calls is 1.0"),  # type: ignore[arg-type]
        (lambda: StreamShape(reasoning_field="thoughts"), "reasoning_field is 'thoughts'"),  # type: ignore[arg-type]
        (lambda: ConstantLatency(-1), "latency.value_s is -1"),
        (lambda: UniformLatency(2, 1), "latency.high_s is 1, below low_s"),
        (lambda: LognormalLatency(1, -1), "latency.sigma is -1"),
        (lambda: ExponentialLatency(float("nan")), "latency.mean_s is nan"),
        (lambda: SimulatorConfig(port=70_000), "port is 70000"),
        (lambda: SimulatorConfig(seed=-1), "seed is -1"),
        (lambda: SimulatorConfig(output="all"), "output is 'all'"),  # type: ignore[arg-type]
        (lambda: SimulatorConfig(output_tokens=0), "output_tokens is 0"),
        (lambda: SimulatorConfig(concurrency_status=500), "concurrency_status is 500"),  # type: ignore[arg-type]
        (lambda: SimulatorConfig(keep_alive_s=0), "keep_alive_s is 0"),
        (lambda: SimulatorConfig(lateness_guard_s=0), "lateness_guard_s is 0"),
        (lambda: SimulatorConfig(count_input="nothing"), "count_input is 'nothing'"),
    ],
)
def test_a_wrong_value_is_named(make: object, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"limts": []}', "unknown field `limts`"),
        (b'{"faults": {"explode": 1}}', r"unknown field `explode` - at `\$.faults`"),
        (b'{"limits": [{"dimension": "requests", "limit": "5"}]}', r"\$.limits\[0\].limit"),
        (b'{"limits": [{"dimension": "requests", "limit": 0}]}', r"limits\[\].limit is 0"),
        (b'{"latency": {"kind": "normal"}}', "normal"),
        (b"{", "truncated"),
    ],
)
def test_a_wrong_file_names_the_place(text: bytes, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        load_config(text)


@pytest.mark.parametrize(
    "latency",
    [ConstantLatency(0.1), UniformLatency(0.1, 0.2), LognormalLatency(0.3, 0.4), ExponentialLatency(0.1)],
)
def test_a_configuration_survives_the_way_to_its_process(latency: object) -> None:
    config = SimulatorConfig(
        limits=(ProviderLimit("total_tokens", 5, 0.25, "token_bucket", "usage", 9),),
        latency=latency,  # type: ignore[arg-type]
        faults=FaultRates(stall=0.5, retry_after_s=None),
        stream=StreamShape(interval=UniformLatency(0.1, 0.2), burst=5, reasoning_field="reasoning"),
        key="sk-secret",
    )
    assert load_config(msgspec.json.encode(config)) == config


def test_a_key_is_in_no_repr() -> None:
    shown = repr(SimulatorConfig(key="sk-secret", port=81))
    assert "sk-secret" not in shown
    assert "port=81" in shown


def test_every_fault_has_a_probability_and_nothing_else_has() -> None:
    rates = FaultRates(**dict.fromkeys(FAULTS, 1 / 32)).rates()
    assert list(rates) == list(FAULTS)
    assert set(rates.values()) == {1 / 32}
