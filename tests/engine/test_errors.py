"""Every error crosses the channels as a fault and comes out the same; none can be made to show what it must not.

One table holds an error of every class, and a test holds the table to the module, so that a new class cannot be
forgotten here. Foreign exceptions and quoted keys are checked to stay out of messages.
"""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Fault, decode, encode
from engine import errors
from engine.errors import (
    AgentError,
    AgentNotInstalled,
    CallCancelled,
    CapacityExceeded,
    ConnectFailed,
    DeadlineExceeded,
    EngineNotRunning,
    HandlerFailed,
    InternalError,
    InvalidCall,
    MalformedReply,
    MissingKey,
    NotAdmitted,
    OutcomeUnknown,
    Overloaded,
    PenstockError,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Rejected,
    ShuttingDown,
    TransportError,
    Truncated,
    UnknownEndpoint,
    UsageError,
    Vetoed,
    error_of,
    fault_of,
    one_line,
)

ANSWERED = {"status": 429, "code": "slow_down", "request_id": "req_1", "retry_after_s": 1.5}
EVERY_ERROR = [
    PenstockError("x"),
    UsageError("x"),
    CapacityExceeded("x", dimension="input_tokens", requested=9, capacity=5),
    InvalidCall("x", argument="temperature"),
    UnknownEndpoint("x"),
    MissingKey("x", variables=("A_KEY", "B_KEY")),
    AgentNotInstalled("x"),
    EngineNotRunning("x"),
    HandlerFailed("x"),
    NotAdmitted("x"),
    Overloaded("x"),
    DeadlineExceeded("x"),
    ShuttingDown("x"),
    Vetoed("x"),
    TransportError("x"),
    ConnectFailed("x"),
    OutcomeUnknown("x", reason="timeout"),
    ProviderError("x", **ANSWERED),
    RateLimited("x", **ANSWERED),
    QuotaExhausted("x", **ANSWERED),
    Rejected("x", status=400),
    ProviderUnavailable("x", status=503, retry_after_s=0.1),
    MalformedReply("x", status=200),
    Truncated("x"),
    AgentError("x", exit_code=0, stderr_tail="last words"),
    AgentError("x", exit_code=-9),
    AgentError("x"),
    CallCancelled("x", sent=True),
    InternalError("x"),
]


def by_name(error: object) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", EVERY_ERROR, ids=by_name)
def test_every_error_survives_the_way_over_a_channel(error: PenstockError) -> None:
    fault = decode.decode(encode(fault_of(error)))
    assert isinstance(fault, Fault)
    back = error_of(fault, call_id=7, lane="l", endpoint="e", gave_up="budget")
    assert type(back) is type(error)
    assert vars(back) == vars(error) | {"call_id": 7, "lane": "l", "endpoint": "e", "gave_up": "budget"}
    assert back.message == "x"


@pytest.mark.parametrize("error", EVERY_ERROR, ids=by_name)
def test_every_error_can_be_pickled_and_shows_its_fields(error: PenstockError) -> None:
    error.lane = "fast"
    back = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert repr(back) == repr(error)
    assert "lane='fast'" in repr(error)


def test_the_list_above_names_every_class_of_the_module() -> None:
    classes = {getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert {type(error) for error in EVERY_ERROR} == classes


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (InvalidCall, UsageError),
        (EngineNotRunning, RuntimeError),
        (EngineNotRunning, UsageError),
        (Vetoed, NotAdmitted),
        (AgentError, PenstockError),
        (Truncated, ProviderError),
        (QuotaExhausted, ProviderError),
    ],
)
def test_the_tree_answers_whose_fault_it_was(error: type[Exception], family: type[Exception]) -> None:
    assert issubclass(error, family)


def test_repr_of_a_provider_error_names_what_support_will_ask_for() -> None:
    shown = repr(RateLimited("slow", **ANSWERED, call_id=3))
    assert shown == (
        "RateLimited('slow', call_id=3, status=429, code='slow_down', request_id='req_1', retry_after_s=1.5)"
    )


def test_a_users_subclass_travels_as_the_nearest_class_of_ours() -> None:
    class MyVeto(Vetoed):
        pass

    class Overloaded(UsageError):
        """Has the name of one of ours, but is another family."""

    assert fault_of(MyVeto("no")).kind == "Vetoed"
    assert fault_of(Overloaded("no")).kind == "UsageError"


def test_a_foreign_exception_is_our_bug_and_its_text_stays_out() -> None:
    def broken() -> None:
        raise ValueError("illegal header value b'Bearer sk-very-secret'")

    with pytest.raises(ValueError) as caught:
        broken()
    fault = fault_of(caught.value)
    assert fault.kind == "InternalError"
    assert "ValueError in broken" in fault.message
    assert "secret" not in fault.message
    assert "KeyError" in fault_of(KeyError("never raised")).message


def test_a_fault_of_a_newer_version_is_an_internal_error_with_its_sentence() -> None:
    error = error_of(Fault(kind="FromTheFuture", message="hm"), call_id=1)
    assert type(error) is InternalError
    assert error.message == "hm"
    assert error_of(Fault(kind="AgentError", message="", code="nonsense")).exit_code is None  # type: ignore[attr-defined]


def test_what_was_never_admitted_carries_its_call() -> None:
    call = object()
    error = error_of(Fault(kind="Overloaded", message="full"), call=call)
    assert isinstance(error, Overloaded)
    assert error.call is call


@given(st.integers(0, 10**12))
def test_a_wait_comes_back_as_the_same_microseconds(wait_us: int) -> None:
    fault = Fault(kind="RateLimited", message="", retry_after_us=wait_us)
    assert fault_of(error_of(fault)) == fault


@given(st.text(st.characters()), st.integers(1, 50))
def test_one_line_is_one_line_short_and_encodable(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(line)) == line


def test_half_a_character_is_replaced_and_a_long_text_is_cut() -> None:
    assert one_line("a\ud83d\tb", 10) == "a? b"
    assert one_line("x" * 1000, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(
    "quoted",
    [
        "authorization: Bearer abcdef0123456789",
        "key sk-proj-abcdefghijk123",
        "gsk_abcdefghijklmnop1",
        "AIza" + "x" * 35,
    ],
)
def test_a_key_that_is_quoted_back_is_masked(quoted: str) -> None:
    line = one_line(f"refused: {quoted} is wrong", 200)
    assert "***" in line
    assert quoted.split()[-1] not in line
    assert line.endswith("is wrong")


def test_words_that_only_look_like_the_beginning_of_a_key_stay() -> None:
    sentence = "ask-me task-list sk-xx. risk-free basic features; Bearer authentication failed; hf_transfer_enabled"
    assert one_line(sentence, 200) == sentence
