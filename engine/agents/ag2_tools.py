"""The tools of AG2's agents: functions of this process, each known by a name, since a call is JSON.

Holds one table for the whole process, as `engine.providers.lookup` does: what `register_tool` has put there every
engine of the process finds. A tool that is not in it is found again as ``package.module:function``. Imports none of
them: that is done where a chat is run, by `engine.transports.ag2`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import UsageError
from engine.providers.arguments import invalid

_tools: dict[str, Callable[..., Any]] = {}

HOW = "register_tool(name, function) makes one known, before the call"
_TOOL = re.compile(r"[A-Za-z_]\w{0,63}")


def register_tool(name: str, function: Callable[..., Any]) -> None:
    """Make a function known to the agents of AG2 by name, in this process. Registered again, it is replaced.

        register_tool("weather", lambda city: f"It rains in {city}.")
        await model.invoke(prompt="...", agents=[{"name": "ann", "tools": ["weather"]}])

    The model sees the name, the docstring and the annotations. It runs in the thread of the chat, or is awaited there
    under asyncio if it is a coroutine function.

    Raises:
      UsageError: that is no name for a tool (letters, digits and underscores, 64 at most), or no function.
    """
    if not _TOOL.fullmatch(name):
        raise UsageError("register_tool takes a name of letters, digits and underscores, 64 at most")
    if not callable(function):
        raise UsageError(f"register_tool takes a function, not {type(function).__name__}")
    _tools[name] = function


def tool_name(tool: str) -> str:
    """What a model calls a tool: of ``package.module:function`` the function's own name."""
    return tool.rpartition(":")[2].rpartition(".")[2]


def registered_tool(name: str) -> Callable[..., Any] | None:
    """The function that is registered under this name."""
    return _tools.get(name)


def prepared(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments of a chat with the functions among its tools replaced by names, so that they can be written as JSON.

    ``tool_registry``, a dict of functions by name, is taken out: the tools that name one of them become it. The
    arguments themselves are not changed.

    Raises:
      InvalidCall: a function cannot be found again by a name; or ``llm_config`` holds a key.
    """
    found = dict(arguments)
    registry = found.pop("tool_registry", None)
    known = registry if isinstance(registry, Mapping) else {}
    config = found.get("llm_config")
    if isinstance(config, Mapping) and {"api_key", "base_url", "config_list"} & config.keys():
        raise invalid("llm_config", "a key and an address are not part of a call; give them to iModel(...)")
    for name in ("agents", "agent_configs"):
        agents = found.get(name)
        if isinstance(agents, list | tuple):
            found[name] = [_with_names(agent, known) for agent in agents]
    return found


def _with_names(agent: object, known: Mapping[str, object]) -> object:
    tools = agent.get("tools") if isinstance(agent, Mapping) else None
    if not isinstance(agent, Mapping) or not isinstance(tools, list | tuple):
        return agent
    looked_up = [known.get(tool, tool) if isinstance(tool, str) else tool for tool in tools]
    return {**agent, "tools": [_name_of(tool) if callable(tool) else tool for tool in looked_up]}


def _name_of(function: Callable[..., Any]) -> str:
    """A name by which this very function is found again: in the table, or in its module."""
    for name, tool in _tools.items():
        if tool is function:
            return name
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    names: Mapping[str, object] = getattr(inner, "__globals__", {})
    first, *rest = path.split(".")
    there = names.get(first) if names.get("__name__") == module else None
    for part in rest:
        there = getattr(there, part, None)
    if there is not function:
        raise invalid("tools", f"{path or 'a function'} cannot be found again by its name where it is needed; {HOW}")
    return f"{module}:{path}"
