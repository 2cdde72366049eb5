"""What a script is: replies one after the other, or a function that decides about each request it is shown.

`Request` is what such a function sees, and what a provider remembers of each request that reached it. `decider` turns
all the ways in which a script can be written into one function.

Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from actors.errors import UsageError
from engine.accounts import Account
from engine.testing.replies import ProviderReply, Says


class Request(NamedTuple):
    """One request, as the provider sees it.

    `at_s` is the instant its last byte had left, on trio's clock; a script's function, which is asked before the first
    one is written, is told that earlier instant. `call_id` is `Call.id`. `attempt` counts from 1 how often this call
    came as far as this; as any provider, it does not know of connections that could not be made. `connection` counts
    from 1. `chance` is a fraction of at least 0 and below 1, drawn from the provider's seed for this attempt of this
    call: for faults by chance. `status` is what the request is answered with, and 0 if nothing or not decided yet.
    `path` is empty where it is that of the account's address. A poll (`method` is ``"GET"``) has an empty `body`.
    """

    at_s: float
    call_id: int
    attempt: int
    body: dict[str, Any]
    account: Account
    connection: int
    flow: str
    priority: int
    chance: float
    status: int = 0
    method: str = "POST"
    path: str = ""

    @property
    def prompt(self) -> str:
        """The text of the last message; empty where there is none, or not one plain text."""
        messages = self.body.get("messages")
        content = messages[-1].get("content") if messages else None
        return content if isinstance(content, str) else ""


Decider: TypeAlias = Callable[[Request], Says]
Script: TypeAlias = Says | Iterable[Says] | Decider
"""One reply to every request; or one for each in order, taken as they are needed, the last of them from then on; or a
function that is asked for each. The function should only decide: it cannot wait."""


def decider(script: Script) -> Decider:
    """The one function that a script comes to.

    Raises:
      UsageError: it is not a script.
    """
    if callable(script):
        return script
    if isinstance(script, (ProviderReply, str, bytes)):
        return _in_order(iter([script]))
    if isinstance(script, Iterable):
        return _in_order(iter(script))
    raise UsageError(f"a script is a reply, several of them, or a function of the request, not {script!r:.100}")


def _in_order(replies: Iterator[Says]) -> Decider:
    """Each reply once, and the last one from then on."""
    last: Says | None = None

    def decide(_: Request) -> Says:
        nonlocal last
        last = next(replies, last)
        if last is None:
            raise UsageError("the script is empty; give it at least one reply")
        return last

    return decide
