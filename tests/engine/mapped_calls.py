"""What the tests of `map` and `gather` have in common.

Calls that can be told apart, answers of which the later are quicker, and an iterable that is watched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import trio

from engine import Call, iModel
from engine.testing import ProviderReply, Request, chat_reply


def say(model: iModel, word: object) -> Call:
    """A call that can be recognised by its content."""
    return model.create_api_calling(messages=[{"role": "user", "content": str(word)}])


def word_of(call: Call) -> str:
    return str(call.payload["messages"][0]["content"])


def later_is_quicker(request: Request) -> ProviderReply:
    """The answer to "3" comes before that to "2"."""
    return chat_reply(request.prompt, delay_s=10 - int(request.prompt))


class Pulled:
    """An iterable that counts what is taken from it."""

    def __init__(self, model: iModel, count: int, fails: Exception | None = None) -> None:
        self.model = model
        self.count = count
        self.fails = fails
        self.calls: list[Call] = []

    def __iter__(self) -> Iterator[Call]:
        for number in range(self.count):
            self.calls.append(say(self.model, number))
            yield self.calls[-1]
        if self.fails is not None:
            raise self.fails

    @property
    def taken(self) -> int:
        return len(self.calls)

    async def later(self) -> AsyncIterator[Call]:
        for call in self:
            await trio.sleep(0.01)
            yield call
