"""The manner of an endpoint: how it reads what is asked, and how it says what is answered.

`Manner` is the base of all of them. What most providers have in common is here: a bearer key, no limit headers, errors
without headers of their own. A manner holds no state; one object serves every request of its path.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, NamedTuple, Self, TypeAlias

from engine.simulator.chat import ChatRequest
from engine.simulator.chunks import Wording
from engine.simulator.events import Events
from engine.simulator.failure import CRASH, Failure, invalid
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Answer, Headers, encode

Spends: TypeAlias = Literal["both", "input", "nothing"]
HeadersSeen: TypeAlias = Iterable[tuple[bytes, bytes]]


class Moment(NamedTuple):
    """When something is said: `at_us` by the clock of the limits, `unix_us` by the calendar, both in microseconds."""

    at_us: int
    unix_us: int


def header(headers: HeadersSeen, name: bytes) -> bytes:
    """The value of a header, in lower case, or nothing."""
    return next((value for key, value in headers if key == name), b"")


class Manner(ABC):
    """How one endpoint of one provider speaks."""

    spends: Spends = "both"
    """The tokens its requests cost: input and output, input alone, or none."""
    stream_type: bytes = b"text/event-stream; charset=utf-8"
    """The content type of its streams."""
    engine: str = ""
    """Whose engine it is that answers, where one that has crashed once answers nobody until the server is restarted."""
    id_header: bytes = b""
    """The header with the identity of an answer, if there is one."""

    def at(self, name: str, headers: HeadersSeen) -> Self:
        """The manner of one request, where its route leaves a part of the path open: `name` is that part."""
        return self

    def credential(self, headers: HeadersSeen) -> bytes:
        """The key a request presents, as a bearer key."""
        return header(headers, b"authorization")

    @abstractmethod
    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        """Read a request, or say what the provider would refuse in it. Never raises."""

    @abstractmethod
    def whole(self, said: Wording) -> bytes:
        """The body of an answer in one piece."""

    def success(self, said: Wording) -> int:
        """The status of an answer in one piece."""
        return 200

    def events(self, said: Wording) -> Events:
        """The events of an answer as a stream; asked only if a request that was read wants one."""
        raise NotImplementedError

    @abstractmethod
    def error(self, failure: Failure, now: Moment) -> object:
        """The body of a failure, to be encoded."""

    def too_long(self, counted: int, most: int) -> Failure:
        """What is said of a prompt that is longer than the model takes."""
        text = f"This model's maximum context length is {most} tokens. However, your messages have {counted} tokens."
        return invalid(text, param="messages", code="context_length_exceeded")

    def status(self, failure: Failure) -> int:
        """The status of a failure."""
        return failure.status

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        """The headers a failure has besides those of every answer."""
        return []

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        """The limit headers of every answer, as the limits stand."""
        return []

    def fail(self, failure: Failure, now: Moment) -> Answer:
        """The answer a failure gets."""
        return Answer(self.status(failure), self.error_headers(failure, now), encode(self.error(failure, now)))

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        """The body of an answer in one piece that has the status of success and is none."""
        return encode(self.error(CRASH._replace(identity=said.done.identity), now))


def retry_after(failure: Failure) -> Headers:
    """When to come back, in whole seconds, rounded up; nothing where nobody knows."""
    if failure.wait_us is None:
        return []
    return [(b"retry-after", b"%d" % -(-failure.wait_us // 1_000_000))]
