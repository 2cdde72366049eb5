"""A chat run by the classic AG2 (0.x, the module ``autogen``): a group chat with its order of speakers.

The library asks models in threads of the loop's executor and says what happens to an output stream; that stream is
ours, so no thread is left in it that nobody can reach: when nobody reads any longer, its next word ends the request.
Events are as the library has them, but plain, since its own rendering fails for those that hold objects.

Asyncio code, for `engine.transports.asyncio_thread`; AG2 is imported when a chat is run. Must not import trio.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.agents.ag2 import Member, Plan
from engine.agents.ag2_tools import tool_name
from engine.transports.ag2_network import NO_KEY, error_fields

SayNow = Callable[[dict[str, Any]], None]

_OURS = frozenset({"run_completion", "usage_summary", "print"})
"""Events of its that are not passed on: what they say is said here, or is for a terminal."""


async def classic_chat(
    plan: Plan, functions: Mapping[str, Callable[..., Any]], say: SayNow, *, key: str, base_url: str, silence_s: float
) -> None:
    """Run the chat to its end. `functions` are its tools by their names in the plan; `say` may block.

    `silence_s` ends a request to a model that is silent for so long: nothing else wakes the thread that waits for it.

    Raises: what AG2 raises.
    """
    from autogen import ConversableAgent, LLMConfig
    from autogen.agentchat import a_initiate_group_chat
    from autogen.agentchat.group import AgentTarget, ContextVariables, TerminateTarget
    from autogen.agentchat.group.patterns import DefaultPattern
    from autogen.agentchat.utils import gather_usage_summary
    from autogen.io.base import IOStream
    from autogen.tools import Tool

    asking = {name: value for name, value in plan.asking.items() if name != "reasoning_effort"}
    # A price of its own: the library's list of prices warns of each model that is not on it.
    asking |= {"stream": True, "timeout": silence_s, "price": [0, 0]}
    if "reasoning_effort" in plan.asking:
        asking["extra_body"] = {"reasoning_effort": plan.asking["reasoning_effort"]}

    def made(member: Member) -> Any:
        reached = {"model": member.model, "api_key": key or NO_KEY, "base_url": base_url, "max_retries": 0} | asking
        tools = [Tool(name=tool_name(name), func_or_tool=_awaitable(functions[name])) for name in member.tools]
        return ConversableAgent(
            member.name,
            system_message=member.prompt,
            llm_config=LLMConfig(reached, cache_seed=None),
            human_input_mode="NEVER",
            functions=tools or None,
        )

    agents = [made(member) for member in plan.members]
    for agent, following in zip(agents, agents[1:] + agents[:1], strict=True):
        last = agent is agents[-1] and not plan.around
        agent.handoffs.set_after_work(target=TerminateTarget() if last else AgentTarget(agent=following))
    context = ContextVariables(data=plan.context)
    pattern = DefaultPattern(initial_agent=agents[0], agents=agents, context_variables=context)
    try:
        with IOStream.set_default(_Output(say)):
            await a_initiate_group_chat(pattern=pattern, messages=plan.prompt, max_rounds=plan.turns + 1)
        say({"type": "run_completion", "content": {}})
    finally:
        for usage in _counted(gather_usage_summary(agents)):
            say({"type": "usage", "content": usage})


class _Output:
    """An output stream of the library's that passes its events on."""

    def __init__(self, say: SayNow) -> None:
        self._say = say

    def print(self, *objects: Any, **_how: Any) -> None:
        """What would stand on a terminal. Nobody reads it here."""

    def send(self, event: Any) -> None:
        """An event, from whatever thread."""
        if event.type not in _OURS:
            self._say({"type": event.type, "content": _fields(getattr(event, "content", None))})

    def input(self, prompt: str = "", *, password: bool = False) -> str:
        """There is nobody to ask."""
        return ""


def _awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that does not hold the loop up: one that is no coroutine function runs in a thread."""
    if inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def run(*arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(function, *arguments, **named)

    return run


def _fields(content: Any) -> Any:
    """What an event holds, in plain terms."""
    names = getattr(type(content), "model_fields", {})
    return {name: _plain(getattr(content, name, None)) for name in names if name != "uuid"}


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, enc_hook=_shown)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__


def _shown(value: Any) -> Any:
    """An object of the library's: an exception, a model of pydantic's, an agent, or whatever has no more than a type.

    Never its repr, which could hold anything."""
    if isinstance(value, BaseException):
        return error_fields(value)
    if names := getattr(type(value), "model_fields", None):
        return {name: getattr(value, name, None) for name in names}
    return name if isinstance(name := getattr(value, "name", None), str) else type(value).__name__


def _counted(summary: Mapping[str, Any]) -> list[dict[str, int]]:
    """The tokens of all models; nothing where none was asked."""
    found = summary.get("usage_including_cached_inference", {})
    by_model = [counts for counts in found.values() if isinstance(counts, dict)]
    if not by_model:
        return []
    return [{name: sum(counts.get(name, 0) for counts in by_model) for name in ("prompt_tokens", "completion_tokens")}]
