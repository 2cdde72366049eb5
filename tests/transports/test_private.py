"""The directory of one run: what is written into it, what is made elsewhere, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.transports.private import furnish, private_directory


def mode_of(path: Path) -> int:
    """Who may do what with it."""
    return path.stat().st_mode & 0o777


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
