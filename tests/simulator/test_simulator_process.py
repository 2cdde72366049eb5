"""The simulator as a process: it is ready when it says so, tells what it saw, and never outlives its owner."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from simulator_client import connect

from actors.errors import InternalError, UsageError
from engine.simulator import (
    FaultRates,
    ProviderLimit,
    SimulatorConfig,
    load_config,
    read_log,
    simulated_provider,
)

ROOT = str(Path(__file__).parents[2])


async def gone(port: int) -> None:
    """Wait until nobody listens any more: the process has ended, whoever collects it."""
    with trio.fail_after(20):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(0.005)


async def test_a_provider_in_a_process_answers_and_tells(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    config = SimulatorConfig(
        limits=(ProviderLimit("requests", 2, 3600.0),), faults=FaultRates(null_usage=1.0), log_path=str(path)
    )
    async with simulated_provider(config) as provider:
        assert str(provider.pid) in repr(provider)
        async with connect(provider.port) as client:
            statuses = [(await client.chat(f"{place}")).status for place in range(3)]
        assert statuses == [200, 200, 429]
        statistics = await provider.statistics()
        assert (statistics.accepted, statistics.refused) == (2, {"requests": 1})
        assert statistics.faults == {"null_usage": 2}
        assert statistics.worst_windows[0].worst == 2
        log = await provider.log()
        assert [(arrival.call, arrival.accepted) for arrival in log] == [("0", True), ("1", True), ("2", False)]
        assert provider.exit_code is None
    assert provider.exit_code == 0, "it had to be killed"
    assert read_log(path.read_bytes())[0] == log


async def test_the_process_ends_when_its_owner_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with simulated_provider(SimulatorConfig()) as provider:
            port = provider.port
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await gone(port)


async def test_the_owner_survives_the_death_of_the_process() -> None:
    async with simulated_provider(SimulatorConfig()) as provider:
        provider.kill()
        await gone(provider.port)
        with pytest.raises(OSError, match="connect"):
            await provider.statistics()


async def test_the_process_ends_when_its_owner_is_killed() -> None:
    owner = (
        "import trio\n"
        "from engine.simulator import SimulatorConfig, simulated_provider\n"
        "async def main():\n"
        "    async with simulated_provider(SimulatorConfig()) as provider:\n"
        "        print(provider.port, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    process = await trio.lowlevel.open_process([sys.executable, "-c", owner], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    with trio.fail_after(20):
        port = int(await process.stdout.receive_some())
        process.kill()
        await process.wait()
    await process.stdout.aclose()
    await gone(port)


async def test_a_termination_ends_it_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    async with simulated_provider(SimulatorConfig(log_path=str(path))) as provider:
        async with connect(provider.port) as client:
            await client.chat("one")
            os.kill(provider.pid, signal.SIGINT)  # meant for the owner, who shares the terminal
            await client.chat("two")
        os.kill(provider.pid, signal.SIGTERM)
        await gone(provider.port)
    assert [arrival.call for arrival in read_log(path.read_bytes())[0]] == ["one", "two"]


async def test_a_port_that_is_taken_is_the_callers_mistake() -> None:
    async with simulated_provider(SimulatorConfig()) as provider:
        with pytest.raises(UsageError, match=f"port {provider.port}"):
            async with simulated_provider(SimulatorConfig(port=provider.port)):
                pytest.fail("two providers on one port")


async def test_a_process_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InternalError, match="ended with code 1"):
        async with simulated_provider(SimulatorConfig()):
            pytest.fail("it cannot be ready")


@pytest.mark.parametrize(("sent", "told", "code"), [(b"", b"", 0), (b'{"port": -1}\n', b"port is -1", 2)])
def test_the_process_says_what_is_wrong_with_its_configuration(sent: bytes, told: bytes, code: int) -> None:
    with pytest.raises(UsageError):
        load_config(sent)
    ended = subprocess.run(
        [sys.executable, "-m", "engine.simulator"],
        input=sent,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=60,
        check=False,
    )
    assert (ended.returncode, told in ended.stdout, ended.stderr) == (code, True, b"")
