"""A provider in virtual time for whole engines: every call passes the same stages, and trouble can be made in each.

A call is ``granted`` (no byte written), ``sending`` (begun), ``awaiting`` (sent), ``reading``; each stage lasts
`STAGE_S`. Trouble is made once: the connection is cut, or the transport has a bug. What the message says decides how
the call is answered. The provider keeps its own log of what it was sent, to be compared with what the engine says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Literal

import trio

from actors.errors import ConnectFailed
from actors.messages import APICalling, Fault, Reply
from actors.transport import Answer, Attempt
from engine import Call, iModel

STAGES = ("granted", "sending", "awaiting", "reading")
STAGE_S = 1.0
CONNECT_S = 0.5
BACKOFF_S = 10.0

Trouble = Literal["cut", "bug"]


class Bug(Exception):
    """A mistake in the transport."""


class ScriptedConnection:
    """One open connection to the provider."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self.standing = True
        self.closed = False

    def usable(self) -> bool:
        return self.standing

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        provider, call_id = self._provider, calling.call_id
        provider.granted[call_id] += 1
        for stage in STAGES:
            provider.entered[call_id, stage].set()
            trouble = await provider.stay(STAGE_S)
            if trouble == "bug":
                raise Bug
            if trouble == "cut":
                self.standing = False
                if stage == "granted":
                    raise ConnectFailed("the connection was cut. Nothing was sent.")
                return unknown()
            if stage == "granted":
                attempt.begin()
                provider.begun[call_id] += 1
            elif stage == "sending":
                attempt.sent()
        return provider.answer(calling)

    async def aclose(self) -> None:
        self.closed = True


class ScriptedProvider:
    """The transport and the provider behind it. `begun` counts each call's attempts of which a byte was written."""

    def __init__(self) -> None:
        self.connections: list[ScriptedConnection] = []
        self.entered: defaultdict[tuple[int, str], trio.Event] = defaultdict(trio.Event)
        self.connecting = trio.Event()
        self.granted: defaultdict[int, int] = defaultdict(int)
        self.begun: defaultdict[int, int] = defaultdict(int)
        self._trouble: Trouble | None = None
        self._struck = trio.Event()

    async def connect(self) -> ScriptedConnection:
        self.connecting.set()
        trouble = await self.stay(CONNECT_S)
        if trouble == "bug":
            raise Bug
        if trouble == "cut":
            raise ConnectFailed("nobody listens there. Nothing was sent.")
        connection = ScriptedConnection(self)
        self.connections.append(connection)
        return connection

    def make_trouble(self, trouble: Trouble) -> None:
        """Strike whatever is on its way now, and every connection that rests; what comes later is well again."""
        self._trouble = trouble
        struck, self._struck = self._struck, trio.Event()
        struck.set()
        for connection in self.connections:
            connection.standing = False

    async def stay(self, seconds: float) -> Trouble | None:
        """Time passes; or trouble comes."""
        with trio.move_on_after(seconds):
            await self._struck.wait()
            return self._trouble
        return None

    def answer(self, calling: APICalling) -> Answer:
        """As the call's message wishes."""
        wish = json.loads(bytes(calling.body))["messages"][0]["content"]
        if wish == "retry" and self.begun[calling.call_id] == 1:
            reply = Reply(status=503, fault=Fault("ProviderUnavailable", "try again", status=503))
            return Answer("retry", "kept", reply, keep=True, hint_us=int(BACKOFF_S * 1e6))
        return Answer("done", "usage", Reply(status=200, body=memoryview(b"{}")), keep=True, input_tokens=1)

    @property
    def open(self) -> int:
        """Connections made and not closed."""
        return sum(not connection.closed for connection in self.connections)


def unknown() -> Answer:
    """What a transport says when the line broke after the first byte."""
    fault = Fault("OutcomeUnknown", "the connection was cut", detail="closed", sent=True)
    return Answer("unknown", "kept", Reply(fault=fault), keep=False)


def scripted_model(**limits: object) -> iModel:
    """A model whose calls go to a scripted provider, with a request quota wide enough not to matter."""
    return iModel("scripted", "http://127.0.0.1:9/v1", api_key="a-key", model="m", limit_requests=500_000, **limits)


def call_of(model: iModel, wish: str = "answer", **options: object) -> Call:
    """A call that wishes to be answered so."""
    return model.create_api_calling(messages=[{"role": "user", "content": wish}], **options)
