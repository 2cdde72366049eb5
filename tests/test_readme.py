"""The README tells the truth: its example runs, and its two commands are the ones that set everything up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from replayed import Replayed

from engine.simulator import SimulatorConfig, serve

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
PROVIDERS = (Path(__file__).parents[1] / "docs" / "providers.md").read_text("utf-8")
EXAMPLE, HANDLERS, AGENT, DOORS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_is_short_and_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the address and the key are the simulated provider's; `trio.run` is the one that runs this test's server."""
    example = EXAMPLE
    assert len([line for line in example.splitlines() if line.strip()]) <= 20

    async def against_the_simulator() -> None:
        async with trio.open_nursery() as nursery:
            simulator = await nursery.start(serve, SimulatorConfig())
            here = f'base_url="{simulator.base_url}", api_key="none", model='
            source = example.replace("model=", here, 1).replace("trio.run(main)", "")
            assert here in source
            names: dict[str, Any] = {}
            exec(compile(source, "README.md", "exec"), names)  # noqa: S102  # the project's own README
            with trio.fail_after(30):
                await names["main"]()
            nursery.cancel_scope.cancel()

    trio.run(against_the_simulator)
    first, streamed, *rest = capsys.readouterr().out.splitlines()
    assert "Usage(" in first
    assert re.fullmatch(r"(\w+ )+Usage\(.*\)", streamed)
    assert len(rest) == 20
    assert all(" completed " in line for line in rest)


def run_beside_a_simulator(source: str) -> str:
    """What a block prints in an interpreter of its own, with the address and the key of a simulated provider."""
    simulate = [sys.executable, "-c", "from engine.cli import main; main()", "simulate"]
    with subprocess.Popen(simulate, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as simulator:  # noqa: S603  # ours
        try:
            assert simulator.stdout is not None
            address = re.search(r"http://\S+", simulator.stdout.readline())
            assert address is not None
            here = source.replace("model=", f'base_url="{address[0]}", api_key="none", model=')
            command = [sys.executable, "-W", "error", "-c", here]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # ours
        finally:
            simulator.terminate()
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_handlers_run_as_they_stand() -> None:
    """The second call is answered by the first one's answer, the third is vetoed and so not seen afterwards."""
    first, second = run_beside_a_simulator(HANDLERS).splitlines()
    assert " completed Usage(" in first
    assert first.partition(" ")[2] == second.partition(" ")[2]


def test_the_agent_runs_as_it_stands(tmp_path: Path) -> None:
    program = Replayed(tmp_path, "claude", "claude__tool")
    path = f"{tmp_path}:/usr/bin:/bin"
    ended = subprocess.run(  # noqa: S603  # our own README
        [sys.executable, "-c", AGENT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("Tool finished.") == 2
    assert ["--resume" in str(run["argv"]) for run in program.runs] == [False, True]


def test_the_doors_open_as_they_stand() -> None:
    printed = run_beside_a_simulator(DOORS).splitlines()
    assert len(printed) == 9
    assert all(line.strip() for line in printed)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PROVIDERS, re.DOTALL))
def test_what_the_page_about_providers_shows_can_be_typed(block: str) -> None:
    """In an interpreter of its own: one of them registers a provider."""
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own page
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/penstock demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest",
    ],
)
def test_the_two_commands_stand_in_the_readme(command: str) -> None:
    assert f"    {command}\n" in README
