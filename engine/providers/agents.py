"""The agents, as rows like those of the providers: the service each one asks, the variable of its key, its limits.

Their programs know a login of their own, so no key is required; pi knows many services, and has none of its own. A
program has one endpoint, whatever name it is asked for by. Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Any

from engine.agents.ag2 import AG2
from engine.agents.agent import Agent, Program
from engine.agents.claude_code import CLAUDE_CODE
from engine.agents.codex import CODEX
from engine.agents.format import AgentFormat
from engine.agents.gemini_code import GEMINI_CODE
from engine.agents.pi import PI
from engine.providers.catalogue import Defaults, EndpointRow, Provider

_PROGRAMS = Defaults(concurrency_limit=3, timeout_s=3_600.0)
_CHATS = Defaults(concurrency_limit=1, timeout_s=3_600.0)


def _row(agent: Agent[Any], name: str, *aliases: str, defaults: Defaults = _PROGRAMS) -> tuple[EndpointRow, ...]:
    wire, alone = AgentFormat(agent), isinstance(agent, Program)
    return (EndpointRow(name=name, format=wire, aliases=aliases, defaults=defaults, is_cli=True, any_name=alone),)


AGENTS: tuple[Provider, ...] = (
    Provider(
        name="claude_code",
        base_url="https://api.anthropic.com",
        key_env=("ANTHROPIC_API_KEY",),
        key_required=False,
        aliases=("claude",),
        endpoints=_row(CLAUDE_CODE, "query_cli", "cli", "code"),
    ),
    Provider(
        name="codex",
        base_url="https://api.openai.com/v1",
        key_env=("CODEX_API_KEY",),
        key_required=False,
        aliases=("openai_codex",),
        endpoints=_row(CODEX, "query_cli", "cli", "code"),
    ),
    Provider(
        name="gemini_code",
        base_url="https://generativelanguage.googleapis.com",
        key_env=("GEMINI_API_KEY",),
        key_required=False,
        aliases=("gemini_cli",),
        endpoints=_row(GEMINI_CODE, "query_cli", "cli"),
    ),
    Provider(
        name="pi",
        base_url="",
        key_required=False,
        aliases=("pi_code",),
        endpoints=_row(PI, "query_cli", "cli", "code"),
    ),
    Provider(
        name="ag2",
        base_url="https://api.openai.com/v1",
        key_env=("OPENAI_API_KEY",),
        key_required=False,
        aliases=("autogen",),
        endpoints=_row(AG2, "group_chat", "groupchat", "chat", defaults=_CHATS),
    ),
)
