"""What the page about hooks shows runs as it stands, against the simulated provider."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.simulator import Simulator, SimulatorConfig, serve

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
async def simulator(nursery: trio.Nursery) -> AsyncIterator[Simulator]:
    yield await nursery.start(serve, SimulatorConfig())
    nursery.cancel_scope.cancel()


async def run(block: str, simulator: Simulator) -> dict[str, Any]:
    """A block, with the simulated provider's address and key, in the loop of this test."""
    here = f'base_url="{simulator.base_url}", api_key="none", model='
    source = block.replace(', api_key="any"', "").replace("model=", here).replace("trio.run(main)", "")
    names: dict[str, Any] = {}
    exec(compile(source, "docs/hooks.md", "exec"), names)  # noqa: S102  # the project's own page
    if "main" in names:
        with trio.fail_after(30):
            await names["main"]()
    return names


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_what_the_page_shows_runs(number: int, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    block = BLOCKS[number]
    await run(block, simulator)
    said = capsys.readouterr().out
    assert bool(said) == ("print" in block)
    for wanted in SAID.get(number, ()):
        assert re.search(wanted, said, re.MULTILINE), said


SAID = {
    0: [r"\d+ completed Usage\(", r"aborted .*more than 50 messages"],
    2: [r"^gpt-4o-mini \w+"],
    3: [r"^failed .*exit policy.* \w+"],
    4: [r"^[A-Z]{3,}"],
    5: [r"^\{'[^',]+'\} 1 0$", "hits=1, shared=99, misses=1"],
    6: [r"gpt-4o-mini 3 \{'completed': 3\}", "penstock_calls_begun_total"],
}
"""What some of the blocks print, by their place on the page."""
