"""A call's arguments: checked without raising until it is submitted, copied, and kept apart from the engine's options.

Over a provider in virtual time, which shows what would have been sent.
"""

from __future__ import annotations

import copy

import pytest
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    Call,
    InvalidCall,
)
from engine.testing import ScriptedProvider


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": MESSAGES, "temperature": 9}, "temperature"),
        ({"messages": MESSAGES, "model": ""}, "model"),
        ({"messages": MESSAGES, "model": None}, "model"),
        ({"messages": MESSAGES, "user": object()}, "user"),
        ({"messages": MESSAGES, "extra": object()}, "extra"),
        ({"messages": MESSAGES, "api_key": "sk-1234567890"}, "api_key"),
        ({"messages": MESSAGES, "stream": "yes"}, "stream"),
        ({"messages": MESSAGES, "deadline_s": 0}, "deadline_s"),
        ({"messages": MESSAGES, "deadline_s": "5"}, "deadline_s"),
        ({"messages": MESSAGES, "deadline_s": True}, "deadline_s"),
        ({"messages": MESSAGES, "deadline_s": float("nan")}, "deadline_s"),
        ({"messages": MESSAGES, "deadline_s": 10**400}, "deadline_s"),
        ({"messages": MESSAGES, "timeout_s": None}, "timeout_s"),
        ({"messages": MESSAGES, "timeout_s": -1}, "timeout_s"),
        ({"messages": MESSAGES, "timeout_s": float("inf")}, "timeout_s"),
        ({"messages": MESSAGES, "priority": 1.5}, "priority"),
        ({"messages": MESSAGES, "priority": "1"}, "priority"),
        ({"messages": MESSAGES, "priority": 10**400}, "priority"),
        ({"messages": MESSAGES, "flow": 3}, "flow"),
        ({"messages": MESSAGES, "flow": "x" * 201}, "flow"),
        ({"messages": MESSAGES, "flow": "\ud800"}, "flow"),
        ({"messages": MESSAGES, "metadata": [1]}, "metadata"),
        ({"messages": MESSAGES, "on_unknown": "maybe"}, "on_unknown"),
    ],
)
@in_virtual_time
async def test_create_api_calling_never_raises_and_submit_says_which_argument(
    arguments: dict[str, object], names: str
) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = a_model().create_api_calling(**arguments)
        assert (type(call), call.status) == (Call, "pending")
        repr(call)
        for send in (engine.submit, engine.invoke):
            with pytest.raises(InvalidCall) as caught:
                await send(call)
            assert names in str(caught.value)
            assert caught.value.argument == names
        with pytest.raises(InvalidCall):
            engine.submit_nowait(call)
        assert call.status == "pending"
    assert (provider.requests, provider.connects) == ([], 0)


@in_virtual_time
async def test_a_whole_number_written_as_a_float_is_a_priority() -> None:
    async with virtual_engine(ScriptedProvider()):
        call = await a_model().invoke(messages=MESSAGES, priority=1.0)
        assert call.status == "completed"


@in_virtual_time
async def test_arguments_are_copied_so_later_changes_change_nothing() -> None:
    messages = copy.deepcopy(MESSAGES)
    stop = ["END"]
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = a_model().create_api_calling(messages=messages, stop=stop)
        messages[0]["content"] = "something else"
        messages.append({"role": "user", "content": "more"})
        stop.append("STOP")
        await engine.invoke(call)
    assert provider.requests[0].body["messages"] == MESSAGES
    assert provider.requests[0].body["stop"] == ["END"]


@in_virtual_time
async def test_the_callers_own_arguments_are_not_changed() -> None:
    messages = [{"role": "user", "content": "hello", "name": None}]
    before = copy.deepcopy(messages)
    a_model().create_api_calling(messages=messages, max_tokens=3)
    assert messages == before


@in_virtual_time
async def test_options_of_the_engine_never_reach_the_provider() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider):
        await a_model().invoke(
            messages=MESSAGES,
            priority=2,
            flow="a",
            deadline_s=50,
            timeout_s=20,
            metadata={"secret": 1},
            on_unknown="retry",
        )
    assert provider.requests[0].body == {"model": "gpt-4o", "messages": MESSAGES}
