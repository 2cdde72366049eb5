"""Pydantic, with which Inferneo's server declares its requests, and what the simulated one says of the same bodies.

The fields and ranges are the server's; the words are pydantic's own, so that ours are held to them. FastAPI puts
``body`` before each place and leaves an exception in the context empty.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator.failure import Failure
from engine.simulator.formats.inferneo import InferneoChat, InferneoCompletions

pydantic = pytest.importorskip("pydantic", reason="needs the extra test-sdks")


def ranged(default: object, **bounds: float) -> Any:
    return pydantic.Field(default, **bounds)


class Sampling(pydantic.BaseModel):
    max_tokens: int | None = ranged(128, ge=1)
    temperature: float = ranged(1.0, ge=0)
    top_p: float = ranged(1.0, gt=0, le=1)
    top_k: int = ranged(-1, ge=-1)
    min_p: float = ranged(0.0, ge=0, le=1)
    presence_penalty: float = ranged(0.0, ge=-2, le=2)
    frequency_penalty: float = ranged(0.0, ge=-2, le=2)
    repetition_penalty: float = ranged(1.0, gt=0)
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    logprobs: int | None = ranged(None, ge=0)
    stream: bool = False
    priority: int = 0

    @pydantic.field_validator("top_k")
    @classmethod
    def some(cls, top_k: int) -> int:
        if top_k == 0:
            raise ValueError("top_k must be -1 (disabled) or >= 1")
        return top_k


class Text(Sampling):
    model: str
    prompt: str | list[str]


class Message(pydantic.BaseModel):
    role: str
    content: str | list[dict[str, Any]]


class Chat(Sampling):
    model: str
    messages: list[Message]


def listed(kind: Any, body: object) -> list[dict[str, Any]]:
    """What pydantic finds wrong, as FastAPI lists it."""
    try:
        pydantic.TypeAdapter(kind).validate_python(body, from_attributes=True)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        for item in found:
            item["loc"] = ["body", *item["loc"]]
            if "error" in item.get("ctx", {}):
                item["ctx"] = {"error": {}}
        return list(found)
    return []


def refused(read: Failure | Any) -> list[dict[str, Any]]:
    """The same of ours; what a text model does not take is no matter of words."""
    return list(read.details) if isinstance(read, Failure) else []


NUMBERS = st.sampled_from([-3, -2, -1, 0, 1, 2, 3, 128, 2**40, -0.5, 0.5, 1.0, 1.5])
TEXTS = st.sampled_from(["", "x", "0", "1", " 2 ", "-1", "0.5", "1e3", "true", "No", "on", "T", "None"])
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS
ANYTHING = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["a", "role"]), PLAIN, max_size=1)
FIELDS = st.dictionaries(st.sampled_from([*Sampling.model_fields, "model", "n"]), ANYTHING, max_size=4)
PARTS = st.lists(st.just({"type": "text", "text": "x"}) | PLAIN, max_size=2)
MESSAGE = st.fixed_dictionaries({}, optional={"role": ANYTHING, "content": ANYTHING | PARTS})
MESSAGES = st.lists(MESSAGE | PLAIN, max_size=2)


@given(FIELDS, st.fixed_dictionaries({}, optional={"prompt": ANYTHING}))
def test_what_is_wrong_in_a_completion_is_said_in_pydantics_words(fields: Any, prompt: Any) -> None:
    body = json.loads(json.dumps({"model": "m", **prompt, **fields}))
    assert refused(InferneoCompletions().read(json.dumps(body).encode(), ())) == listed(Text, body)


@given(FIELDS, st.fixed_dictionaries({}, optional={"messages": MESSAGES | PLAIN}))
def test_what_is_wrong_in_a_chat_is_said_in_pydantics_words(fields: Any, messages: Any) -> None:
    body = json.loads(json.dumps({"model": "m", **messages, **fields}))
    assert refused(InferneoChat().read(json.dumps(body).encode(), ())) == listed(Chat, body)
