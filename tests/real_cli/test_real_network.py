"""Nothing but the address they are given is contacted: the real programs in a network of their own, packets counted.

`alone_in_a_network.py` runs there. That the count would show it is shown each time, by a name that is looked up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from agents_at_hand import HANG_S, AgentAtHand

pytestmark = pytest.mark.real_cli

INSIDE = Path(__file__).with_name("alone_in_a_network.py")


def namespace() -> list[str]:
    """The command that runs another in a network of its own; skips the test where that may not be had."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("ip") is None:
        pytest.skip("unshare and ip, which make a network of its own, are not in PATH")
    command = [unshare, "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    only = [*command, sys.executable, str(INSIDE), "only-the-network"]
    tried = subprocess.run(only, capture_output=True, text=True)  # noqa: S603  # ourselves
    if tried.returncode:
        pytest.skip(f"a network of its own may not be had here: {tried.stderr.strip().splitlines()[-1:]}")
    return command


async def test_a_program_contacts_the_address_it_is_given_and_no_other(agent: AgentAtHand) -> None:
    command = [*namespace(), sys.executable, str(INSIDE), agent.row.provider, str(agent.root)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with trio.fail_after(HANG_S):
        done = await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    told = json.loads(done.stdout)
    assert told["text"] == "nobody else was asked"
    assert told["packets"] == 0
    assert told["packets_with_a_name_looked_up"] > 0
