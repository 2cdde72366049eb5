"""Who belongs to a run and who does not. That nothing of it survives is tested with the runs themselves."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from engine.transports.sweep import Family, is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="processes are found in /proc, and there is none here")


def test_a_family_never_holds_this_process() -> None:
    """Also when its marker is in this environment, and this process is its leader's child."""
    marker = next(iter(Path("/proc/self/environ").read_bytes().split(b"\0"))).decode()
    assert os.getpid() not in [seen.pid for seen in Family(os.getppid(), marker).look()]


def test_a_number_that_was_taken_again_is_no_leader() -> None:
    """What runs under it now began at another time."""
    family = Family(os.getpid(), secrets.token_hex(16))
    assert family._leader is not None
    family._leader = family._leader._replace(started=family._leader.started - 1, pid=os.getppid())
    assert family.look() == []
