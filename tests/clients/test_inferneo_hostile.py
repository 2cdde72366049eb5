"""Nothing that a server may send makes Inferneo's answers, chunks or errors raise."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Ended, Fault, Reply, encode
from engine import Call, iModel
from engine.clients.inferneo import InferneoAPIError, responses
from engine.clients.inferneo.errors import failure_of

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


MODEL = iModel("inferneo", "http://localhost:8000", model="m")


def refused(body: bytes) -> Call:
    """A call that has ended with this answer."""
    call = MODEL.create_api_calling(messages=[{"role": "user", "content": "hi"}])
    reply = Reply(status=400, fault=Fault("Rejected", "the provider refused it", status=400), body=memoryview(body))
    call.put((encode(Ended(call.id, "failed", 1, 0, 0, 0, 0)), encode(reply)))
    return call


@given(PAYLOADS.map(lambda payload: json.dumps(payload).encode()) | st.binary(max_size=20))
def test_every_error_has_a_sentence(body: bytes) -> None:
    failure = failure_of(refused(body))
    assert isinstance(failure, InferneoAPIError)
    assert failure.message
    assert failure.status_code == 400
    assert isinstance(failure.code, str | None)
    assert isinstance(failure.type, str | None)
