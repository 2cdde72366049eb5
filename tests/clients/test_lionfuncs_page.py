"""`docs/lionfuncs.md` tells the truth: its code runs as it stands there, and the fields it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import trio
from lion_server import service

from engine.clients import lionfuncs
from engine.clients.lionfuncs import EndpointConfig

PAGE = (Path(__file__).parents[2] / "docs" / "lionfuncs.md").read_text("utf-8")
MOVED, COROUTINES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def test_a_program_that_moved_over_runs() -> None:
    """`trio.run` and all, in a thread beside the service."""
    printed: list[str] = []
    async with service() as served:
        source = MOVED.replace("https://api.openai.com", served.address)
        names: dict[str, Any] = {"print": lambda *things: printed.append(" ".join(map(str, things)))}
        await trio.to_thread.run_sync(exec, compile(source, "docs/lionfuncs.md", "exec"), names)
    assert printed == ["yes"] * 3
    assert sorted(asked.json["prompt"] for asked in served.asked) == ["Count to 1.", "Count to 2.", "Count to 3."]
    assert {asked.json["model"] for asked in served.asked} == {"gpt-3.5-turbo-instruct"}


async def test_coroutines_of_your_own_run() -> None:
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda *things: printed.append(" ".join(map(str, things)))}
    await trio.to_thread.run_sync(exec, compile(COROUTINES, "docs/lionfuncs.md", "exec"), names)
    assert printed == ["COMPLETED what it says"]


def test_what_the_page_says_of_configs_is_so() -> None:
    for name in ("transport_type", "client_kwargs", "content_type", "name", "oai_compatible", "timeout", "max_retries"):
        assert f"`{name}" in PAGE
        assert name in EndpointConfig.__struct_fields__
    for name in lionfuncs.__all__:
        assert f"`{name}`" in PAGE
