"""AG2: several agents that talk with one another, run inside this process by the library of that name.

A call says who takes part, who speaks after whom and for how long. Tools are functions of this process, and a call
is JSON: so a tool travels by its name, that under which `register_tool` knows it or ``package.module:function``; see
`engine.agents.ag2_tools`. What the chat says is read in `engine.agents.ag2_events`;
`engine.transports.ag2` runs it.

Pure: no trio, no I/O, no AG2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from engine.agents.ag2_tools import HOW, prepared, registered_tool, tool_name
from engine.agents.agent import Agent
from engine.agents.options import AgentOptions, Instruction, Name, prompt_of
from engine.providers.arguments import invalid

MemberName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z][A-Za-z0-9_-]{0,63}\Z")]
"""What an agent is called: a letter, then letters, digits, underscores and dashes; 64 at most."""

ToolName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"\A([A-Za-z_]\w*|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)\Z", max_length=300)
]
"""A registered tool, or ``package.module:function``."""

DEFAULT_TURNS = 15
MOST_TURNS = 10_000

USER = "user"
"""Under this name the caller's own words stand in the chat."""

_TAKEN = (USER, "chat_manager")

_SENSELESS = {
    "resume": "a chat of AG2 cannot be resumed; pass what was said in messages=",
    "add_dirs": "a chat of AG2 works in no directory; give its agents tools that do",
    "files": "a chat of AG2 reads no files; put their text into the prompt, or give its agents tools that read them",
    "permission": "a chat of AG2 has no permissions; its agents can do what their tools do, and nothing else",
    "state_dir": "a chat of AG2 keeps no state",
    "program": "AG2 is a library and no program; it is imported",
    "cwd": "a chat of AG2 runs in this process, whose working directory is that of all",
    "pass_env": "a chat of AG2 runs in this process, whose environment its tools see",
    "start_s": "a chat of AG2 runs in this process, which has started",
}
"""What other agents can be asked for, and why this one cannot."""


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How models are asked, by the names of OpenAI's chat completions; what is None is left to the provider.

    Neither a key nor an address: they are the model's, `iModel(api_key=, base_url=)`.
    """

    model: Name | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One agent. `prompt` (or `system_message`, which is the same) says what it is and does; `role`, if there is one,
    is put before it. `model` is its own, `tools` what it can use."""

    name: MemberName
    prompt: Instruction | None = None
    system_message: Instruction | None = None
    role: str = ""
    model: Name | None = None
    tools: list[ToolName] = []


class Ag2Options(AgentOptions, frozen=True, kw_only=True):
    """Arguments of a chat.

    Args:
      agents: who takes part, in the order in which they speak: dicts of `AgentConfig`. `agent_configs` is the same.
      pattern: ``"round_robin"`` (after the last one comes the first), ``"sequence"`` (each one once), or a list of the
        agents' names (these once, in this order).
      max_turns: how often an agent speaks, all together, 15 if not said. `max_round` is the same. The classic library
        counts a tool's call and its result as well.
      llm_config: how their models are asked, a dict of `ModelOptions`.
      context_variables: what tools find as the chat's context.
      system_prompt: is put before the prompt of every agent.
    """

    agents: list[AgentConfig] = msgspec.field(default_factory=list)
    agent_configs: list[AgentConfig] = msgspec.field(default_factory=list)
    pattern: Literal["round_robin", "sequence"] | list[MemberName] = "round_robin"
    max_turns: Annotated[int, msgspec.Meta(ge=1, le=MOST_TURNS)] | None = None
    max_round: Annotated[int, msgspec.Meta(ge=1, le=MOST_TURNS)] | None = None
    llm_config: ModelOptions = ModelOptions()
    context_variables: dict[str, Any] = msgspec.field(default_factory=dict)


class Member(msgspec.Struct, frozen=True):
    """One agent of a chat, ready to be made: its whole system prompt, its model, and the names of its tools."""

    name: str
    prompt: str
    model: str
    tools: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """A chat as it is to be run: who speaks first is the first of `members`, then each one in turn, `turns` times in
    all at most; `around`: after the last comes the first again. `asking` are the arguments of every request to a
    model, beside the model."""

    prompt: str
    members: tuple[Member, ...]
    turns: int
    around: bool
    asking: dict[str, Any]
    context: dict[str, Any]


class Ag2(Agent[Ag2Options]):
    """Chats of AG2's agents."""

    name = "ag2"
    resumes = False
    streams_only = True
    options = Ag2Options

    def prepared(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """With the functions among its agents' tools replaced by names."""
        return prepared(arguments)

    def check(self, options: Ag2Options) -> None:
        """Refuse what a chat cannot be, or cannot do."""
        plan = plan_of(options)
        for member in plan.members:
            for tool in member.tools:
                if ":" not in tool and registered_tool(tool) is None:
                    raise invalid("tools", f"{tool!r} is no registered tool; {HOW}")


AG2 = Ag2()


def plan_of(options: Ag2Options) -> Plan:
    """The chat that these options ask for.

    Raises:
      InvalidCall: there is none in them, or they ask for what no chat has.
    """
    for field in msgspec.structs.fields(AgentOptions):
        if field.name in _SENSELESS and getattr(options, field.name) != _default(field):
            raise invalid(field.name, _SENSELESS[field.name])
    prompt, system = prompt_of(options)
    configs = _one_of("agents", options.agents, "agent_configs", options.agent_configs)
    if not configs:
        raise invalid("agents", 'a chat needs agents; pass agents=[{"name": ..., "prompt": ...}, ...]')
    by_name = {config.name: config for config in configs}
    if len(by_name) < len(configs):
        raise invalid("agents", "two of them have the same name")
    if taken := [name for name in _TAKEN if name in by_name]:
        raise invalid("agents", f"{taken[0]!r} is the name of a part of AG2 itself; call the agent otherwise")
    names = options.pattern if isinstance(options.pattern, list) else list(by_name)
    if not names or len(set(names)) < len(names) or not by_name.keys() >= set(names):
        raise invalid("pattern", "it names an agent twice, or none, or one that is not among the agents")
    turns: int = _one_of("max_turns", options.max_turns, "max_round", options.max_round) or DEFAULT_TURNS
    around = options.pattern == "round_robin"
    asking = {name: value for name, value in msgspec.structs.asdict(options.llm_config).items() if value is not None}
    model = asking.pop("model", None)
    members = tuple(_member(by_name[name], system, options.model or model) for name in names)
    return Plan(prompt, members, turns, around, asking, options.context_variables)


def _member(config: AgentConfig, system: str, model: str | None) -> Member:
    own = _one_of("agents[].prompt", config.prompt, "system_message", config.system_message)
    chosen = config.model or model
    if not chosen:
        raise invalid("model", f"the agent {config.name!r} has none; pass model= for all of them, or one of its own")
    prompt = "\n\n".join(text for text in (system, config.role, own) if text)
    tools = tuple(dict.fromkeys(config.tools))
    if len({tool_name(tool) for tool in tools}) < len(tools):
        raise invalid("tools", f"two of the agent {config.name!r} would have the same name for its model")
    return Member(config.name, prompt, chosen, tools)


def _one_of(name: str, value: Any, other: str, same: Any) -> Any:
    if value and same:
        raise invalid(name, f"it is given beside {other}, which is the same; pass one of them")
    return value or same


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
