"""The code on `docs/inferneo.md` runs as it stands there, but for the address."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from engine.simulator import SimulatorConfig, simulated_provider

PAGE = Path(__file__).parents[2] / "docs" / "inferneo.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
LAST_LINES = (r"\S.*", r"\S.*", r"404 the server has no model 'nothing'")


@pytest.mark.parametrize(("block", "last_line"), list(zip(BLOCKS, LAST_LINES, strict=True)))
async def test_the_page_runs(block: str, last_line: str) -> None:
    """In an interpreter of its own, with warnings as errors."""
    async with simulated_provider(SimulatorConfig(output_tokens=5)) as provider:
        source = block.replace("http://localhost:8000", provider.address("inferneo"))
        assert source != block
        command = [sys.executable, "-W", "error", "-c", source]
        with trio.fail_after(60):
            ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert isinstance(ended, subprocess.CompletedProcess)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert re.fullmatch(last_line, ended.stdout.decode().strip().splitlines()[-1])
