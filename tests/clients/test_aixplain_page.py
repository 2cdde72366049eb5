"""What the page about aiXplain shows can be typed: each block runs as it stands, beside the simulated platform."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import trio

from engine.simulator import ProviderLimit, SimulatorConfig, simulated_provider

PAGE = (Path(__file__).parents[2] / "docs" / "aixplain.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LIMITED = SimulatorConfig(key="key-of-the-page", limits=(ProviderLimit("requests", 1_000, 60.0),))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
async def test_every_block_of_the_page_runs_as_it_stands(block: str) -> None:
    async with simulated_provider(LIMITED) as platform:
        address = platform.address("aixplain")
        here = {
            "BACKEND_URL": address,
            "MODELS_RUN_URL": f"{address}/api/v1/execute",
            "TEAM_API_KEY": "key-of-the-page",
        }
        if "iModel(" in block:  # which knows no such variable
            block = block.replace('provider="aixplain"', f'provider="aixplain", base_url="{address}"')
        command = [sys.executable, "-W", "error", "-c", block]
        ended = await trio.run_process(
            command,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **here, "AIXPLAIN_API_KEY": ""},
        )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    printed = ended.stdout.decode()
    assert "FAILED" not in printed
    assert printed.strip()


def test_the_page_was_read() -> None:
    assert len(BLOCKS) == 4
