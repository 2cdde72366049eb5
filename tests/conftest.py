"""How the tests run: on all cores, unless single files were asked for, and with no property judged by its time.

`-n auto` in `pyproject.toml` asks here. Files and tests by name run in this process: another would cost more than it
saves, and hides what a test prints. So do runs with `-s`. `-n` and `PYTEST_XDIST_AUTO_NUM_WORKERS` have the last word.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine with other work is slow at drawing and at running; neither says anything about the code.
settings.register_profile("penstock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("penstock")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None leaves the number to xdist: one for each core."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    folders = [argument for argument in config.args if Path(config.invocation_params.dir, argument).is_dir()]
    return None if folders and config.option.capture != "no" else 0
