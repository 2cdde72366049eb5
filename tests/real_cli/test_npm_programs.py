"""How the real programs are installed: once, wholly or not at all. With an npm of our own: these always run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from npm_programs import InstallFailed, Package, cache_folder, installed

PACKAGE = Package("tool", "@some/tool", "1.2.3")
NPM = """#!/bin/sh
echo "$@" >> {log}
test "$1 $2" = "install --prefix" || exit 9
mkdir -p "$3/node_modules/.bin" && {then}
"""
INSTALL = "sleep 0.3; echo '#!/bin/sh' > \"$3/node_modules/.bin/tool\""


def npm(root: Path, then: str) -> str:
    path = root / "npm"
    path.write_text(NPM.format(log=root / "log", then=then))
    path.chmod(0o755)
    return str(path)


def test_a_package_is_installed_once_under_its_version(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = npm(tmp_path, INSTALL)
    commands = installed(PACKAGE, command, cache)
    assert commands == cache / "tool@1.2.3" / "node_modules" / ".bin"
    assert (commands / "tool").exists()
    assert installed(PACKAGE, command, cache) == commands
    (asked,) = (tmp_path / "log").read_text().splitlines()
    assert asked.endswith(" @some/tool@1.2.3")
    installed(PACKAGE._replace(version="1.2.4"), command, cache)
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == ["tool@1.2.3", "tool@1.2.4"]


@pytest.mark.parametrize(
    ("then", "said"),
    [("echo no such package >&2; exit 3", "exit code 3: no such package"), ("true", "no command 'tool'")],
)
def test_what_could_not_be_installed_is_not_there(tmp_path: Path, then: str, said: str) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(InstallFailed, match=said):
        installed(PACKAGE, npm(tmp_path, then), cache)
    assert [path.name for path in cache.iterdir()] == ["tool@1.2.3.lock"]
    assert (installed(PACKAGE, npm(tmp_path, INSTALL), cache) / "tool").exists()


def test_an_npm_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"could not install @some/tool@1\.2\.3"):
        installed(PACKAGE, str(tmp_path / "nowhere"), tmp_path / "cache")


def test_of_processes_that_want_one_at_once_only_one_installs_it(tmp_path: Path) -> None:
    command = npm(tmp_path, INSTALL)
    source = (
        "import sys; from pathlib import Path; from npm_programs import Package, installed\n"
        "installed(Package('tool', '@some/tool', '1.2.3'), sys.argv[1], Path(sys.argv[2]))"
    )
    run = [sys.executable, "-c", source, command, str(tmp_path / "cache")]
    together = [subprocess.Popen(run, cwd=Path(__file__).parent) for _ in range(3)]  # noqa: S603  # ourselves
    assert [process.wait(60) for process in together] == [0, 0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_the_cache_is_the_users() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/penstock/real_cli")
    assert cache_folder({"XDG_CACHE_HOME": "", "HOME": "/h"}) == Path("/h/.cache/penstock/real_cli")
