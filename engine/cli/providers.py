"""`penstock providers`: the catalogue as a table, and which keys are set; then the agents, and which are installed.

Plain text in columns, so that it survives a pipe. It looks whether a variable is set and never shows what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from engine.agents.agent import Program
from engine.agents.format import AgentFormat
from engine.errors import UsageError
from engine.providers.catalogue import Provider
from engine.providers.lookup import registered_providers
from engine.transports.ag2 import installed
from engine.transports.programs import find, home_of


def providers() -> None:
    """List the known providers (address, key variable, whether it is set), and the agents that run on this machine.

    Any other service that speaks OpenAI's formats can be used by its address: --base-url.
    """
    services = [("provider", "endpoints", "address", "key variable", "set")]
    agents = [("agent", "command", "key variable", "set")]
    for row in registered_providers():
        if row.endpoints[0].is_cli:
            agents.append((row.name, _command(row), *_key(row)))
        else:
            endpoints = ", ".join(endpoint.name for endpoint in row.endpoints)
            services.append((row.name, endpoints, row.base_url, *_key(row)))
    _print(services)
    print()
    _print(agents)


def _key(row: Provider) -> tuple[str, str]:
    found = [variable for variable in row.key_env if os.environ.get(variable, "").strip()]
    variables = " or ".join(row.key_env) or "api_key="
    return variables if row.key_required else f"{variables} (optional)", found[0] if found else "not set"


def _command(row: Provider) -> str:
    """Where an agent is, or that it is not."""
    wire = row.endpoints[0].format
    agent = wire.agent if isinstance(wire, AgentFormat) else None
    try:
        return (
            find(agent, os.environ, home_of(os.environ))
            if isinstance(agent, Program)
            else {"network": "ag2", "classic": "autogen (classic)"}[installed()]
        )
    except UsageError:
        return f"not installed: {agent.install}" if isinstance(agent, Program) else "not installed: penstock[ag2]"


def _print(table: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
