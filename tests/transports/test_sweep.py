"""Who belongs to a run and who does not. That nothing of it survives is tested with the runs themselves."""

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.transports import sweep as sweep_module
from engine.transports.sweep import VARIABLE, Family, is_supported

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


@pytest.fixture
def family() -> Iterator[Family]:
    """Of a program that sleeps."""
    marker = secrets.token_hex(16)
    arguments = [sys.executable, "-c", "import time; time.sleep(600)"]
    leader = subprocess.Popen(arguments, env={VARIABLE: marker}, start_new_session=True)  # noqa: S603  # as it stands
    found = Family(leader.pid, marker)
    try:
        yield found
    finally:
        leader.kill()
        leader.wait()
        while found.kill():
            pass


def test_who_is_about_to_run_another_program_is_seen(family: Family, tmp_path: Path) -> None:
    """His environment cannot be read just then, and this one does nothing else. If it takes long, one is not sure."""
    path = tmp_path / "again"
    path.write_text(f"#!/bin/sh\nexec {path}\n")
    path.chmod(0o755)
    marker = family._marker.decode()
    again = subprocess.Popen([str(path)], env={VARIABLE: marker}, start_new_session=True)  # noqa: S603  # the file above
    try:
        for _ in range(200):
            family._known.clear()
            assert again.pid in [seen.pid for seen in family.look()] or not family._is_sure
        while family.kill():
            pass
        assert again.poll() is not None
    finally:
        again.kill()
        again.wait()


def test_an_emptied_environment_is_nobodys(family: Family) -> None:
    """It is no sign of a program that is about to run another, and holds nothing up."""
    arguments = [sys.executable, "-c", "import time; time.sleep(600)"]
    other = subprocess.Popen(arguments, env={}, start_new_session=True)  # noqa: S603  # as it stands
    try:
        assert family.look() == []
        assert family._is_sure
    finally:
        other.kill()
        other.wait()


def test_want_of_descriptors_is_no_answer(family: Family) -> None:
    """Neither that nobody is there nor that somebody is not of the family."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        for ask in (family.look, family.kill, lambda: Family(os.getppid(), "x")):
            with pytest.raises(OSError, match="open files"):
                ask()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert family.look() == []


def test_who_began_while_one_looked_is_seen(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """His number was given after the list of them was made."""
    numbers = sweep_module._numbers
    marker = family._marker.decode()
    began: list[subprocess.Popen[bytes]] = []

    def list_and_begin() -> list[int]:
        found = list(numbers())
        arguments = [sys.executable, "-c", "import time; time.sleep(600)"]
        environ = {VARIABLE: marker}
        began.append(subprocess.Popen(arguments, env=environ, start_new_session=True))  # noqa: S603  # as it stands
        return found

    monkeypatch.setattr(sweep_module, "_numbers", list_and_begin)
    try:
        found = [seen.pid for seen in family.look()]
        assert [process.pid for process in began] == found
    finally:
        for process in began:
            process.kill()
            process.wait()


def test_where_the_newest_number_is_not_told_one_looks_more_often(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert family.quiet_looks == 1
    monkeypatch.setattr(sweep_module, "_newest", lambda: 0)
    leader = family._leader
    assert leader is not None
    assert Family(leader.pid, "x").quiet_looks > 1
