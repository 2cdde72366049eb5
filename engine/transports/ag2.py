"""Chats of AG2 for endpoint workers: a call is a chat, run in a worker thread, and told in chunks as it goes.

`Ag2Transport` finds out which AG2 is installed; `Ag2Connection` runs one chat at a time and turns whatever comes of it
into an `Answer`. What a chat needs, its tools and AG2 itself, is imported in a thread before it begins. AG2 logs a
failing turn with its traceback, and providers repeat the key that they refuse: see `engine.transports.ag2_logs`.

What a chat is, and what its events mean, is said in `engine.agents.ag2` and `engine.agents.ag2_events`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import trio

from actors.errors import ConnectFailed, UsageError
from actors.messages import APICalling
from actors.transport import Answer, Attempt, Transport
from engine.agents.ag2 import AG2, Ag2Options, Plan, plan_of
from engine.agents.ag2_events import ChatParser, ClassicParser, NetworkParser
from engine.agents.ag2_tools import registered_tool
from engine.agents.chunks import Error
from engine.errors import AgentNotInstalled, fault_of, one_line
from engine.providers.arguments import invalid
from engine.providers.wire import decode_json
from engine.secret import Secret, masked
from engine.transports.ag2_classic import classic_chat
from engine.transports.ag2_logs import mask_logs
from engine.transports.ag2_network import error_fields, network_chat
from engine.transports.asyncio_thread import CancelledByItself, CannotStart, Outlet, Stopped, run_in_thread
from engine.transports.transcript import Transcript, not_started, note_end, note_start

if TYPE_CHECKING:
    from engine.providers.wire import Usage

Edition: TypeAlias = Literal["network", "classic"]
"""Current AG2 with its network, or the older one with group chats."""

Functions: TypeAlias = Mapping[str, Callable[..., Any]]

_INSTALL = "pip install 'penstock[ag2]'. Nothing was sent."
_BROKEN_CODE = (Exception, SystemExit)
"""Whatever other people's code may raise when it is imported or run, but for what stops this process."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode_options = msgspec.json.Decoder(Ag2Options).decode
_numbers = itertools.count(1)


class Ag2Transport(Transport):
    """How to run chats whose models are asked at one address with one key.

    `base_url` is that of an OpenAI-compatible service, with its version (``https://host/v1``), `key` None where it
    wants none. `on_usage` is called with each call and the usage of its chat, if that came to its end, and must not
    raise.

    Raises:
      AgentNotInstalled: AG2 is not installed, or without the client that asks the models.
      UsageError: there is no address; the client would look for one of its own.
    """

    kind = "ag2"

    def __init__(
        self,
        *,
        base_url: str,
        key: Secret | None = None,
        on_usage: Callable[[APICalling, Usage], None] | None = None,
    ) -> None:
        self.edition: Edition = installed()
        if not base_url:
            raise UsageError("chats of AG2 need the address at which their models are asked. Nothing was sent.")
        self.base_url = base_url
        self.key = key
        self.on_usage = on_usage

    async def connect(self) -> Ag2Connection:
        """There is nothing to connect to. A checkpoint."""
        await trio.lowlevel.checkpoint()
        return Ag2Connection(self)

    def __repr__(self) -> str:
        return f"<Ag2Transport {self.edition}>"


def installed() -> Edition:
    """Which AG2 there is. Imports nothing.

    Raises:
      AgentNotInstalled: none that can be used.
    """
    if importlib.util.find_spec("openai") is not None:
        found = importlib.util.find_spec("ag2")
        if found is not None and any(
            Path(place, "network").is_dir() for place in found.submodule_search_locations or ()
        ):
            return "network"
        if importlib.util.find_spec("autogen") is not None:
            return "classic"
    raise AgentNotInstalled(f"AG2 is not installed, or not with its OpenAI client: {_INSTALL}")


class Ag2Connection:
    """The place in flight of one chat at a time; see `actors.transport.Connection`."""

    def __init__(self, transport: Ag2Transport) -> None:
        self._transport = transport

    def usable(self) -> bool:
        """Always."""
        return True

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Run the chat of this call to its end. Its start is the call's stamp.

        What cannot be run at all is a failed answer that says what to do; nothing was sent.

        Raises:
          ConnectFailed: there is no thread to run it in.
          TooLate: from `begin`; nothing was run.

        Cancellation: the chat is cancelled and waited for, a few seconds at most; see `run_in_thread`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        transport = self._transport
        try:
            plan = _plan_of(calling)
            functions = await _imported(plan, transport.edition)
        except UsageError as error:
            return not_started(fault_of(error))
        chat = _Chat(transport, plan, functions, silence_s=(calling.idle_us or calling.timeout_us) / 1e6)
        transcript = Transcript(AG2, chat.parser, attempt, secrets=(chat.key,) if chat.key else ())

        async def take(event: bytes) -> None:
            await transcript.tell(transcript.read(decode_json(event)))

        trouble: Error | None = None
        attempt.begin()
        name = f"penstock ag2 {next(_numbers)}"
        begun_us = note_start(calling, name)
        try:
            await run_in_thread(chat.run, take, name=name, started=attempt.sent)
        except CannotStart as error:
            raise ConnectFailed(f"there is no thread to run a chat of AG2 in ({error}). Nothing was sent.") from None
        except (SystemExit, CancelledByItself) as error:
            # A tool that would end the program, a library that cancels the chat: neither is for who runs this.
            trouble = Error(category="failed", message=f"{type(error).__name__}: {masked(str(error))}")
        ended = await transcript.end(trouble=trouble)
        if transport.on_usage is not None and (usage := ended.complete_usage) is not None:
            transport.on_usage(calling, usage)
        note_end(calling, name, ended.answer, begun_us)
        return ended.answer

    async def aclose(self) -> None:
        """Nothing is open."""


def _plan_of(calling: APICalling) -> Plan:
    """The chat that is asked for.

    Raises:
      UsageError: it is none.
    """
    try:
        return plan_of(_decode_options(calling.body))
    except msgspec.DecodeError as error:  # whoever writes the bodies has checked them
        raise UsageError(f"these are no options of {AG2.name}: {error}. Nothing was sent.") from None


async def _imported(plan: Plan, edition: Edition) -> Functions:
    """Import AG2 and the tools of a chat, in a thread: that may take long. The tools by their names in the plan.

    Cancellation: at once; what is being imported is.

    Raises:
      AgentNotInstalled: AG2 cannot be imported.
      InvalidCall: a tool is not there.
    """

    def load() -> Functions:
        try:
            importlib.import_module("ag2.network" if edition == "network" else "autogen")
        except _BROKEN_CODE as error:
            raise AgentNotInstalled(f"AG2 cannot be imported ({_shown(error)}); {_INSTALL}") from None
        mask_logs()  # its loggers exist from here on
        return {name: _function(name) for member in plan.members for name in member.tools}

    return await trio.to_thread.run_sync(load, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


class _Chat:
    """One chat: `run` belongs to its thread, the rest to trio. `silence_s` is how long a model may be silent."""

    def __init__(self, transport: Ag2Transport, plan: Plan, functions: Functions, *, silence_s: float) -> None:
        self._edition = transport.edition
        self._base_url = transport.base_url
        self._plan = plan
        self._functions = functions
        self._silence_s = silence_s
        self.key = transport.key.reveal() if transport.key is not None else ""
        names = [member.name for member in plan.members]
        self.parser: ChatParser = NetworkParser() if self._edition == "network" else ClassicParser(names)

    async def run(self, outlet: Outlet[bytes]) -> None:
        """Run it in this thread's loop. Whatever it raises is what came of the chat, and goes no further: its
        traceback may hold the key."""

        async def say(event: dict[str, Any]) -> None:
            data = _encoded(event)
            try:
                await outlet.put(data, len(data))
            except Stopped:
                await asyncio.Event().wait()  # the cancellation of all of this is under way

        def say_now(event: dict[str, Any]) -> None:
            data = _encoded(event)
            outlet.say(data, len(data))

        plan, functions, key, base_url = self._plan, self._functions, self.key, self._base_url
        network = self._edition == "network"
        try:
            if network:
                await network_chat(plan, functions, say, key=key, base_url=base_url)
            else:
                silence_s = self._silence_s
                await classic_chat(plan, functions, say_now, key=key, base_url=base_url, silence_s=silence_s)
        except Stopped:
            return
        except _BROKEN_CODE as error:  # it is what came of the chat
            fields = error_fields(error)
            # The two shapes that the two parsers know it in.
            await say(
                {"type": "turn_failed", "error": fields} if network else {"type": "error", "content": {"error": fields}}
            )


def _encoded(event: dict[str, Any]) -> bytes:
    """An event as JSON, whatever it holds: half a character, which msgspec does not write, or itself. Never raises."""
    with contextlib.suppress(Exception):  # a repr of other people's may raise anything
        return _encode(event)
    with contextlib.suppress(Exception):
        return json.dumps(event, default=repr, skipkeys=True).encode()
    return json.dumps({name: _told(value) for name, value in event.items()}).encode()


def _told(value: object) -> object:
    """What can be told of a part of an event that cannot be written whole."""
    with contextlib.suppress(Exception):
        return value if isinstance(value, str | int | float | bool | None) else repr(value)
    return f"a {type(value).__name__} that cannot be shown"


def _function(name: str) -> Callable[..., Any]:
    """A tool by its name in the plan.

    Raises:
      InvalidCall: it is not there.
    """
    module, colon, path = name.partition(":")
    if not colon:
        found: object = registered_tool(name)
    else:
        try:
            found = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except _BROKEN_CODE as error:
            raise invalid("tools", f"{name!r} cannot be found ({_shown(error)})") from None
    if not callable(found):
        raise invalid("tools", f"{name!r} is no tool here; register_tool(name, function) makes one known")
    return found


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(masked(str(error)), 200)}"
