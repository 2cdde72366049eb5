"""The directory of one run: what is written into it, what is made elsewhere, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.transports.private import furnish, private_directory


def mode_of(path: Path) -> int:
    """Who may do what with it."""
    return path.stat().st_mode & 0o777


def gone(path: str) -> bool:
    """Whether there is nothing of that name."""
    return not os.path.lexists(path)


def look(private: str) -> dict[str, str]:
    """What is in a directory: the text of each file, and what each link points at."""
    found = {}
    for path in sorted(Path(private).rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(private))] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(private))] = path.read_text()
    return found


async def test_files_links_and_directories(tmp_path: Path) -> None:
    state = tmp_path / "state" / "kept"
    async with private_directory() as private:
        links = {".agent/kept": str(state), ".agent/login": "/nowhere"}
        await furnish(private, {".agent/settings.json": "{}", "system.md": "Be brief."}, links, (str(state),))
        assert look(private) == {
            ".agent/kept": f"-> {state}",
            ".agent/login": "-> /nowhere",
            ".agent/settings.json": "{}",
            "system.md": "Be brief.",
        }
        assert [mode_of(Path(private, name)) for name in ("", "system.md", ".agent")] == [0o700, 0o600, 0o700]
        assert mode_of(state) == 0o700
        os.chmod(state, 0o500)
        await furnish(private, {}, {}, (str(state),))
        assert mode_of(state) == 0o500
    assert look(private) == {}
    assert mode_of(state) == 0o500


async def test_a_directory_that_cannot_be_made_is_named() -> None:
    wanted = "/dev/null/kept"
    async with private_directory() as private:
        with pytest.raises(UsageError, match=r"could not be made.*Nothing was started.*state_dir") as raised:
            await furnish(private, {}, {}, (wanted,))
    assert repr(wanted) in str(raised.value)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../x", "", "a//x", "./x", "a\0", "taken", "out/x"], ids=repr)
async def test_what_leads_out_of_it_is_refused(name: str, tmp_path: Path) -> None:
    async with private_directory() as private:
        await furnish(private, {"taken": "first"}, {"out": str(tmp_path)})
        for files, links in (({name: "x"}, {}), ({}, {name: str(tmp_path)})):
            with pytest.raises(UsageError, match="Nothing was started"):
                await furnish(private, files, links)
        assert look(private)["taken"] == "first"
    assert look(str(tmp_path)) == {}


async def test_what_a_program_has_made_of_it_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Directories that are deep or shut, and links to what is not its own."""
    victim = tmp_path / "victim"
    victim.mkdir(0o755)
    (victim / "kept").write_text("kept")
    async with private_directory() as private:
        os.symlink(victim, f"{private}/link")
        descriptor = os.open(private, os.O_RDONLY)
        for _ in range(3_000):
            os.mkdir("deeper", dir_fd=descriptor)
            below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.close(descriptor)
        for name in ("shut", "shut/inner", "0", "1"):
            os.mkdir(f"{private}/{name}")
        os.mkdir(f"{private}/shut/inner/deep")
        os.chmod(f"{private}/shut/inner", 0)
        os.chmod(f"{private}/shut", 0)
    assert gone(private)
    assert mode_of(victim) == 0o755
    assert (victim / "kept").read_text() == "kept"


async def test_a_link_in_its_place_is_removed_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "inner").mkdir(0o755, parents=True)
    victim.chmod(0o755)
    async with private_directory() as private:
        os.rename(private, tmp_path / "moved")
        os.symlink(victim, private)
    assert gone(private)
    assert [mode_of(victim), mode_of(victim / "inner")] == [0o755, 0o755]


async def test_it_is_removed_when_there_are_file_numbers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with private_directory() as private:
        scandir, tries = os.scandir, iter([True, True, False])

        def scan(path: Any) -> Any:
            if next(tries, False):
                raise OSError(24, "Too many open files")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", scan)
    assert gone(private)
