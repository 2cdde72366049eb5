"""The poll that follows an answer that says "later": where it goes, and the addresses that are refused."""

from __future__ import annotations

import msgspec
import pytest
from scripted_server import calling

from actors.messages import APICalling, Reply, decode_calling
from actors.transport import Answer
from engine.transports.polls import with_poll

URL = "https://host.example/work"
LATER = Answer("later", "kept", Reply(status=202), keep=True)
RUN = msgspec.structs.replace(calling(), lane=1, poll_lane=2, poll_wait_us=500_000)
POLL = msgspec.structs.replace(RUN, lane=2, method="GET", path="/answers/1?full=yes", body=memoryview(b""))


def poll_after(asked: APICalling, address: str) -> APICalling | str:
    """The poll, or the code of the fault."""
    answer = with_poll(LATER, asked, address, URL)
    if answer.poll:
        poll = decode_calling.decode(answer.poll)
        assert (poll.method, poll.lane, len(poll.body)) == ("GET", 2, 0)
        return poll
    assert (answer.verdict, answer.charge) == ("failed", "kept")
    assert answer.reply.fault is not None
    return answer.reply.fault.code


@pytest.mark.parametrize(
    ("asked", "address", "path"),
    [
        (RUN, "https://host.example/answers/1", "/answers/1"),
        (RUN, "https://host.example:443/answers/1?full=yes", "/answers/1?full=yes"),
        (RUN, "/answers/1", "/answers/1"),
        (RUN, "result", "/result"),
        (msgspec.structs.replace(RUN, path="/runs/7"), "result", "/runs/result"),
        (POLL, "/answers/2", "/answers/2"),
        (POLL, "", "/answers/1?full=yes"),
    ],
)
def test_a_poll_goes_where_the_answer_says_and_else_where_it_went_before(
    asked: APICalling, address: str, path: str
) -> None:
    poll = poll_after(asked, address)
    assert isinstance(poll, APICalling)
    assert poll.path == path


@pytest.mark.parametrize(
    ("asked", "address", "code"),
    [
        (RUN, "", "no_poll_address"),
        (RUN, "http://host.example/answers/1", "untrusted_poll_address"),
        (RUN, "https://host.example:8443/answers/1", "untrusted_poll_address"),
        (RUN, "https://other.example/answers/1", "untrusted_poll_address"),
        (RUN, "https://user@host.example/answers/1", "untrusted_poll_address"),
        (POLL, "//other.example/answers/1", "untrusted_poll_address"),
    ],
)
def test_anywhere_else_and_nowhere_are_refused(asked: APICalling, address: str, code: str) -> None:
    assert poll_after(asked, address) == code


def test_any_other_answer_stays_as_it_is() -> None:
    done = msgspec.structs.replace(LATER, verdict="done")
    assert with_poll(done, RUN, "/answers/1", URL) is done
