"""Nothing that a server may send makes Inferneo's answers, chunks or errors raise."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clients.inferneo import responses
from engine.clients.inferneo.errors import _sentence

FIELDS = st.sampled_from([
    "id", "object", "created", "model", "choices", "usage", "text", "index", "logprobs", "finish_reason", "message",
    "delta", "role", "content", "tool_calls", "tokens", "prompt_tokens", "data", "parameters", "format", "error",
    "detail", "loc", "msg", "extra", "gpu", "uptime_s", "mem_used_bytes",
])  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
PAYLOADS = st.recursive(LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(FIELDS, one, max_size=5))

READERS: dict[str, Callable[[object], object]] = {
    "completion": responses.completion_of,
    "completion chunk": responses.completion_chunk_of,
    "chat": responses.chat_of,
    "chat chunk": responses.chat_chunk_of,
    "model": responses.model_of,
    "models": responses.models_of,
    "info": lambda payload: responses.info_of(payload, responses.models_of(payload)),
}


@pytest.mark.parametrize("reader", READERS)
@given(payload=PAYLOADS)
def test_every_answer_is_read(reader: str, payload: object) -> None:
    assert repr(READERS[reader](payload))


@given(PAYLOADS)
def test_every_error_has_a_sentence_or_none(payload: object) -> None:
    assert isinstance(_sentence(json.loads(json.dumps(payload))), str)
