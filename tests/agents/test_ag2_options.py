"""What a chat of AG2 can be asked for, and how its tools travel."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import msgspec
import pytest

from engine.agents.ag2 import AG2, Ag2Options, Plan, plan_of
from engine.agents.ag2_tools import prepared, register_tool
from engine.errors import InvalidCall, UsageError
from engine.providers.arguments import checked, to_json

TWO = [{"name": "alice", "prompt": "You are Alice."}, {"name": "bob", "system_message": "You are Bob.", "model": "b"}]


def options(**arguments: object) -> Ag2Options:
    """Arguments as a call has them, through all that they go through on their way."""
    payload = checked(
        prepared({"prompt": "Discuss.", "model": "m", **arguments}), Ag2Options, provider="ag2", closed=True
    )
    found = msgspec.json.decode(to_json(payload), type=Ag2Options)
    AG2.check(found)
    return found


def plan(**arguments: object) -> Plan:
    return plan_of(options(**arguments))


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_chat_of_two() -> None:
    """Who takes part, with which prompt and model, how often they speak, and how models are asked."""
    found = plan(agents=TWO, llm_config={"temperature": 0.5, "max_tokens": 9}, context_variables={"n": 1})
    assert [(one.name, one.prompt, one.model) for one in found.members] == [
        ("alice", "You are Alice.", "m"),
        ("bob", "You are Bob.", "b"),
    ]
    assert (found.prompt, found.turns, found.around) == ("Discuss.", 15, True)
    assert found.asking == {"temperature": 0.5, "max_tokens": 9}
    assert found.context == {"n": 1}


def test_the_names_of_others_mean_the_same() -> None:
    """`agent_configs`, `max_round`, a model among the defaults, and messages in place of a prompt."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One."},
        {"role": "user", "content": "Two."},
    ]
    found = plan(
        agent_configs=[{"name": "alice", "role": "A critic.", "system_message": "Find faults."}],
        max_round=4,
        model=None,
        llm_config={"model": "d"},
        prompt=None,
        messages=messages,
    )
    assert (found.prompt, found.turns) == ("One.\n\nTwo.", 4)
    assert found.members[0].prompt == "Be brief.\n\nA critic.\n\nFind faults."
    assert found.members[0].model == "d"


@pytest.mark.parametrize(
    ("pattern", "order", "around"),
    [
        ("round_robin", ["alice", "bob"], True),
        ("sequence", ["alice", "bob"], False),
        (["bob", "alice"], ["bob", "alice"], False),
        (["bob"], ["bob"], False),
    ],
    ids=["round robin", "sequence", "named", "one of them"],
)
def test_the_order_of_speakers(pattern: object, order: list[str], around: bool) -> None:
    """Round and round, or once each, in the order of the agents or in one that is named."""
    found = plan(agents=TWO, pattern=pattern)
    assert [member.name for member in found.members] == order
    assert found.around is around


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"resume": "x"}, "resume: .*cannot be resumed"),
        ({"add_dirs": ["/srv"]}, "add_dirs: "),
        ({"files": ["a.txt"]}, "files: "),
        ({"permission": "full"}, "permission: .*tools"),
        ({"state_dir": "/srv"}, "state_dir: "),
        ({"program": "/bin/ag2"}, "program: .*library"),
        ({"cwd": "/srv"}, "cwd: "),
        ({"pass_env": ["HOME"]}, "pass_env: "),
        ({"start_s": 5}, "start_s: "),
        ({"agents": []}, "agents: a chat needs agents"),
        ({"agent_configs": TWO}, "agents: .*beside agent_configs"),
        ({"max_turns": 3, "max_round": 3}, "max_turns: .*beside max_round"),
        ({"max_turns": 0}, "max_turns: "),
        ({"agents": [TWO[0], TWO[0]]}, "agents: .*same name"),
        ({"agents": [{"name": "user"}]}, "agents: 'user'"),
        ({"agents": [{"name": "two words"}]}, r"agents\[0\]\.name: "),
        ({"agents": [{"name": "a", "prompt": "x", "system_message": "y"}]}, "prompt: .*beside system_message"),
        ({"agents": [{"name": "a", "handoffs": []}]}, r"agents\[0\]: .*handoffs"),
        ({"model": None, "agents": [{"name": "a"}]}, "model: the agent 'a' has none"),
        ({"pattern": ["alice", "alice"]}, "pattern: .*twice"),
        ({"pattern": ["carol"]}, "pattern: "),
        ({"pattern": []}, "pattern: "),
        ({"prompt": None}, "prompt: there is nothing to ask"),
        ({"llm_config": {"api_key": "sk-not-to-be-seen"}}, r"llm_config: .*iModel"),
        ({"llm_config": {"temperature": 3}}, r"llm_config\.temperature: "),
        ({"agents": [{"name": "a", "tools": ["nobody_knows_it"]}]}, "tools: 'nobody_knows_it' .*register_tool"),
        ({"agents": [{"name": "a", "tools": ["one:same", "other:x.same"]}]}, "tools: .*'a'.* same name"),
        ({"agents": [{"name": "a", "tools": ["a.b"]}]}, r"agents\[0\]\.tools\[0\]: "),
        ({"agents": [{"name": "a", "tools": ["a b"]}]}, r"agents\[0\]\.tools\[0\]: "),
        ({"agents": [{"name": "a", "tools": [lambda: 1]}]}, "tools: .*lambda.*register_tool"),
        ({"agents": [{"name": "a", "tools": [functools.partial(max, 1)]}]}, "tools: a function .*register_tool"),
        ({"agents": [{"name": "a", "tools": [math.sqrt]}]}, "tools: sqrt .*register_tool"),
    ],
    ids=lambda value: re.sub(r"\W+", "_", value)[:40] if isinstance(value, str) else "",
)
def test_what_no_chat_is(arguments: dict[str, object], said: str) -> None:
    """It is refused with a sentence that names the argument and says what to do, and shows nothing of a key."""
    with pytest.raises(InvalidCall, match=said) as caught:
        options(**{"agents": TWO, **arguments})
    assert str(caught.value).endswith("Nothing was sent.")
    assert "sk-not" not in str(caught.value)


# --- tools ------------------------------------------------------------------------------------------------------------


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@functools.wraps(shout)
def wrapped(text: str) -> str:
    return shout(text)


class Toolbox:
    @staticmethod
    def hammer() -> str:
        """Hit it."""
        return "hit"


def tools_of(*tools: object, **arguments: object) -> tuple[str, ...]:
    return plan(agents=[{"name": "a", "tools": list(tools)}], **arguments).members[0].tools


def test_functions_travel_by_name() -> None:
    """A function at the top of its module, or in a class there; the arguments that were passed stay as they were."""
    agents = [{"name": "a", "tools": [shout, Toolbox.hammer, shout]}]
    found = plan(agents=agents)
    assert found.members[0].tools == (f"{__name__}:shout", f"{__name__}:Toolbox.hammer")
    assert agents[0]["tools"] == [shout, Toolbox.hammer, shout]


def test_a_registered_function_is_known_by_its_name() -> None:
    """Also one that could not be found otherwise; registered again, the name means the other."""
    closure = lambda: 1  # noqa: E731
    register_tool("one_of_a_kind", closure)
    assert tools_of("one_of_a_kind") == tools_of(closure) == ("one_of_a_kind",)
    register_tool("one_of_a_kind", shout)
    with pytest.raises(InvalidCall, match="register_tool"):
        tools_of(closure)
    assert tools_of(shout) == ("one_of_a_kind",)


def test_a_registry_that_is_passed() -> None:
    """Its names become the functions they mean, as far as these can be found again."""
    assert tools_of("loud", tool_registry={"loud": Toolbox.hammer}) == (f"{__name__}:Toolbox.hammer",)
    with pytest.raises(InvalidCall, match="register_tool"):
        tools_of("loud", tool_registry={"loud": lambda: 1})


def test_a_function_that_only_bears_the_name_of_another_is_refused() -> None:
    """By its name another would be found: `wrapped` says that it is `shout`."""
    with pytest.raises(InvalidCall, match="cannot be found again"):
        tools_of(wrapped)


@pytest.mark.parametrize(("name", "function"), [("two words", shout), ("a:b", shout), ("", shout), ("x", 3)])
def test_what_cannot_be_registered(name: str, function: Any) -> None:
    """A name no model could call, and what cannot be called at all."""
    with pytest.raises(UsageError, match="register_tool takes"):
        register_tool(name, function)
