"""A chat run by AG2 1.2 or later: its agents on a hub of their own, in a channel that says who speaks after whom.

The caller's words are said by a participant of their own, who is no agent. All that happens is said as plain dicts, the
model's and the tools' events by an interrupter of each agent's stream, since only these come in their causal order, and
those of the channel by a listener of the hub. A failed turn leaves a channel open, and so does an agent that says
nothing: both end the chat here.

Asyncio code, for `engine.transports.asyncio_thread`; AG2 is imported when a chat is run. Must not import trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from engine.agents.ag2 import USER, Member, Plan
from engine.agents.ag2_tools import tool_name

NO_KEY = "none"
"""What a service that wants no key is given: without any, the client would look for one in the environment."""

Say = Callable[[dict[str, Any]], Awaitable[None]]

_REPEATS = frozenset({"ModelRequest", "ToolCallsEvent", "ToolResultsEvent", "ObserverStarted", "ObserverCompleted"})
"""Events that say once more what others say, or nothing."""

_FIELDS = ("content", "id", "name", "arguments", "parent_id", "model", "provider", "finish_reason", "kind", "label")
_NOTHING_SAID = "nothing_said"


async def network_chat(
    plan: Plan, functions: Mapping[str, Callable[..., Any]], say: Say, *, key: str, base_url: str
) -> None:
    """Run the chat to its end. `functions` are its tools by their names in the plan.

    Raises: what AG2 raises before the first turn. What a turn failed of is said.
    """
    import httpx2
    from ag2 import Agent, tool
    from ag2.config import OpenAIConfig
    from ag2.events import BaseEvent
    from ag2.knowledge import MemoryKnowledgeStore
    from ag2.network import Hub
    from ag2.observers import observer

    async with (
        httpx2.AsyncClient(timeout=None, follow_redirects=False) as client,  # the caller bounds all of it
        await Hub.open(MemoryKnowledgeStore(), ttl_sweep_interval=0, expectation_sweep_interval=0) as hub,
    ):
        reached = {"api_key": key or NO_KEY, "base_url": base_url, "http_client": client, "max_retries": 0}
        tools = {name: tool(function, name=tool_name(name)) for name, function in functions.items()}

        def made(member: Member) -> Any:
            async def heard(event: BaseEvent) -> BaseEvent:
                if type(event).__name__ not in _REPEATS:
                    await say(_plain(member.name, event))
                return event

            heard.__annotations__ = {"event": BaseEvent, "return": BaseEvent}  # looked up by AG2, and not global here
            return Agent(
                member.name,
                member.prompt or (),
                config=OpenAIConfig(model=member.model, streaming=True, **plan.asking, **reached),
                tools=[tools[name] for name in member.tools],
                observers=[observer(BaseEvent, heard, interrupt=True, sync_to_thread=False)],
            )

        await _in_channel(hub, plan, [made(member) for member in plan.members], say)


async def _in_channel(hub: Any, plan: Plan, agents: list[Any], say: Say) -> None:
    from ag2.network import HubClient, LocalLink, Passport

    over = asyncio.Event()
    clients = [await hub.register(agent, attach_plugin=False) for agent in agents]
    ids = [client.agent_id for client in clients]
    names = dict(zip(ids, (member.name for member in plan.members), strict=True))
    hub.register_listener(_listener(names, say, over))
    for client in clients:
        client.on_envelope(_turn_of(hub, client, over))
    async with HubClient(LocalLink(hub), hub=hub) as user_client:
        user = await user_client.register_human(Passport(name=USER))
        knobs = {"graph": _graph(user.agent_id, ids, plan), "context_vars": plan.context}
        channel = await user.open(type="workflow", target=ids, knobs=knobs)
        await channel.send(plan.prompt)
        await over.wait()


def _graph(user: str, ids: list[str], plan: Plan) -> dict[str, Any]:
    from ag2.network import AgentTarget, FromSpeaker, TerminateTarget, Transition, TransitionGraph

    order = [user, *ids, *(ids[:1] if plan.around else ())]
    steps = [Transition(FromSpeaker(one), AgentTarget(other)) for one, other in itertools.pairwise(order)]
    graph = TransitionGraph(user, steps, TerminateTarget("sequence_complete"), max_turns=plan.turns + 1)
    return dict(graph.to_dict())


def _turn_of(hub: Any, client: Any, over: asyncio.Event) -> Callable[[Any], Awaitable[None]]:
    """What an agent does with what is posted: its turn, as AG2 has it; and if it said nothing in it, the chat ends."""
    from ag2.network import EV_PACKET, EV_TEXT
    from ag2.network.client.handlers import default_handler

    async def handle(envelope: Any) -> None:
        await default_handler(envelope, client)
        if envelope.event_type in (EV_PACKET, EV_TEXT) and not over.is_set():
            channel_id = envelope.channel_id
            if hub.can_send(channel_id, client.agent_id) and not (await hub.get_channel(channel_id)).is_terminal():
                await hub.close_channel(channel_id, reason=_NOTHING_SAID)

    return handle


def _listener(names: Mapping[str, str], say: Say, over: asyncio.Event) -> Any:
    from ag2.network import EV_PACKET, BaseHubListener

    class Listener(BaseHubListener):  # type: ignore[misc]  # its types are not there where this is checked
        async def on_envelope_posted(self, envelope: Any, metadata: Any) -> None:
            if envelope.event_type == EV_PACKET:
                content = envelope.event_data.get("body")
                await say({"type": "packet", "agent": names.get(envelope.sender_id, ""), "content": content})

        async def on_channel_event(self, channel_id: str, kind: str, payload: Mapping[str, Any]) -> None:
            if kind in ("closed", "expired"):
                reason = str(payload.get("reason") or kind) if kind == "closed" else kind
                await say({"type": "closed", "reason": reason})
                over.set()

        async def on_turn_failed(self, channel_id: str, agent_id: str, envelope_id: str, exc: BaseException) -> None:
            await say({"type": "turn_failed", "agent": names.get(agent_id, ""), "error": error_fields(exc)})
            over.set()

    return Listener()


def error_fields(error: BaseException) -> dict[str, Any]:
    """An exception in plain terms: its type, its text, the HTTP status if there is one, and the type of its cause."""
    status = getattr(error, "status_code", 0)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status": status if isinstance(status, int) else 0,
        "cause": type(error.__cause__).__name__ if error.__cause__ is not None else "",
    }


def _plain(agent: str, event: Any) -> dict[str, Any]:
    """An event of an agent's stream as a dict. Never raises."""
    plain: dict[str, Any] = {"type": type(event).__name__, "agent": agent, "created_at": event.created_at}
    for name in _FIELDS:
        value = getattr(event, name, None)
        if isinstance(value, str) and value:
            plain[name] = value
    if (usage := getattr(event, "usage", None)) is not None and plain["type"] == "UsageEvent":
        plain["usage"] = {name: getattr(usage, name, None) for name in usage.__dataclass_fields__}
    if (calls := getattr(event, "tool_calls", None)) is not None:
        plain["tool_calls"] = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in calls.calls]
    if (error := getattr(event, "error", None)) is not None:
        plain["output"] = f"{type(error).__name__}: {error}"
    elif (result := getattr(event, "result", None)) is not None:
        parts = [_part(part) for part in getattr(result, "parts", ())]
        plain["output"] = "\n".join(parts) if all(isinstance(part, str) for part in parts) else parts
    return plain


def _part(part: Any) -> Any:
    if isinstance(text := getattr(part, "content", None), str):
        return text
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        return msgspec.to_builtins(getattr(part, "data", None), enc_hook=repr)
    return repr(part)
