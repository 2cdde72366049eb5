"""Chats of AG2 for endpoint workers: a call is a chat, run in a worker thread, and told in chunks as it goes.

`Ag2Transport` finds out which AG2 is installed; `Ag2Connection` runs one chat at a time and turns whatever comes of it
into an `Answer`. AG2 logs a failing turn with its traceback, and providers repeat the key that they refuse: its loggers
and those of its client are searched for keys from the first chat on.

What a chat is, and what its events mean, is said in `engine.agents.ag2` and `engine.agents.ag2_events`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import json
import logging
import traceback
from collections.abc import Callable
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
from engine.agents.chunks import Error, Result
from engine.agents.verdicts import reading_of
from engine.providers.arguments import invalid
from engine.providers.wire import decode_json
from engine.secret import Secret, masked
from engine.transports.ag2_classic import classic_chat
from engine.transports.ag2_network import error_fields, network_chat
from engine.transports.answers import answer_of
from engine.transports.telling import Telling
from engine.transports.thread import CancelledByItself, CannotStart, Outlet, Stopped, run_in_thread

if TYPE_CHECKING:
    from engine.providers.wire import Usage

Library: TypeAlias = Literal["network", "classic"]

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode_options = msgspec.json.Decoder(Ag2Options).decode
_numbers = itertools.count(1)


class Ag2Transport(Transport):
    """How to run chats whose models are asked at one address with one key.

    `base_url` is that of an OpenAI-compatible service, with its version (``https://host/v1``), `key` None where it
    wants none. `on_usage` is called with each call and the usage of its chat, and must not raise.

    Raises:
      UsageError: AG2 is not installed, or without the client that asks the models.
    """

    kind = "ag2"

    def __init__(
        self,
        *,
        base_url: str,
        key: Secret | None = None,
        on_usage: Callable[[APICalling, Usage], None] | None = None,
    ) -> None:
        self.library: Library = installed()
        self.base_url = base_url
        self.key = key
        self.on_usage = on_usage

    async def connect(self) -> Ag2Connection:
        """There is nothing to connect to. A checkpoint."""
        await trio.lowlevel.checkpoint()
        return Ag2Connection(self)

    def __repr__(self) -> str:
        return f"<Ag2Transport {self.library}>"


def installed() -> Library:
    """Which AG2 there is. Imports nothing.

    Raises:
      UsageError: none that can be used.
    """
    if importlib.util.find_spec("openai") is not None:
        found = importlib.util.find_spec("ag2")
        if found is not None and any(
            Path(place, "network").is_dir() for place in found.submodule_search_locations or ()
        ):
            return "network"
        if importlib.util.find_spec("autogen") is not None:
            return "classic"
    raise UsageError(
        "AG2 is not installed, or not with its OpenAI client: pip install 'penstock[ag2]'. Nothing was sent."
    )


class Ag2Connection:
    """The place in flight of one chat at a time; see `actors.transport.Connection`."""

    def __init__(self, transport: Ag2Transport) -> None:
        self._transport = transport

    def usable(self) -> bool:
        """Always."""
        return True

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Run the chat of this call to its end. Its start is the call's stamp.

        Raises:
          ConnectFailed: there is no thread to run it in.
          TooLate: from `begin`; nothing was run.

        Cancellation: the chat is cancelled and waited for, a few seconds at most; see `run_in_thread`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        chat = _Chat(self._transport, calling)
        secrets = (chat.key,) if chat.key else ()
        telling = Telling(attempt, secrets=secrets)

        async def take(event: bytes) -> None:
            await telling.tell(chat.parser.feed(decode_json(event)))

        attempt.begin()
        name = f"penstock ag2 {next(_numbers)}"
        try:
            await run_in_thread(chat.run, take, name=name, started=attempt.sent)
        except CannotStart as error:
            raise ConnectFailed(f"there is no thread to run a chat of AG2 in ({error}). Nothing was sent.") from None
        except (SystemExit, CancelledByItself) as error:
            # A tool that would end the program, a library that cancels the chat: neither is for who runs this.
            chat.trouble = Error(category="failed", message=f"{type(error).__name__}: {masked(str(error))}")
        terminal = chat.terminal()
        reading = reading_of(terminal, name=AG2.name, began=telling.began)
        await telling.end(terminal, again=reading.advice.verdict == "retry")
        if reading.usage is not None and self._transport.on_usage is not None:
            self._transport.on_usage(calling, reading.usage)
        status = 200 if isinstance(terminal, Result) else terminal.status
        return answer_of(reading, status=status, body=telling.body(), keep=True, secrets=secrets, streamed=True)

    async def aclose(self) -> None:
        """Nothing is open."""


class _Chat:
    """One chat: `run` belongs to its thread, the rest to trio."""

    def __init__(self, transport: Ag2Transport, calling: APICalling) -> None:
        self._library = transport.library
        self._base_url = transport.base_url
        self._silence_s = (calling.idle_us or calling.timeout_us) / 1e6
        self.key = transport.key.reveal() if transport.key is not None else ""
        self.trouble: Error | None = None
        self._plan: Plan | None = None
        try:
            self._plan = plan_of(_decode_options(calling.body))
        except (msgspec.DecodeError, UsageError) as error:
            self.trouble = Error(category="failed", message=f"what is asked for is no chat: {error}")
        names = [member.name for member in self._plan.members] if self._plan is not None else ()
        self.parser: ChatParser = NetworkParser() if self._library == "network" else ClassicParser(names)

    def terminal(self) -> Result | Error:
        """What came of it."""
        ended = self.parser.end(None, "", self.trouble)[-1]
        assert isinstance(ended, Result | Error)
        return ended

    async def run(self, outlet: Outlet[bytes]) -> None:
        """Run it in this thread's loop. Whatever it raises is what came of the chat, and goes no further: its
        traceback may hold the key."""
        if self._plan is None:
            return

        async def say(event: dict[str, Any]) -> None:
            data = _encoded(event)
            try:
                await outlet.put(data, len(data))
            except Stopped:
                await asyncio.Event().wait()  # the cancellation of all of this is under way

        def say_now(event: dict[str, Any]) -> None:
            data = _encoded(event)
            outlet.say(data, len(data))

        network = self._library == "network"
        try:
            functions = _functions(self._plan)
            importlib.import_module("ag2.network" if network else "autogen")  # its loggers exist from here on
            mask_logs()
            if network:
                await network_chat(self._plan, functions, say, key=self.key, base_url=self._base_url)
            else:
                silence_s = self._silence_s
                await classic_chat(
                    self._plan, functions, say_now, key=self.key, base_url=self._base_url, silence_s=silence_s
                )
        except Stopped:
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001  # other people's code: it is what came of the chat
            fields = error_fields(error)
            # The two shapes that the two parsers know it in.
            await say(
                {"type": "turn_failed", "error": fields} if network else {"type": "error", "content": {"error": fields}}
            )


def _encoded(event: dict[str, Any]) -> bytes:
    try:
        return _encode(event)
    except (TypeError, ValueError, RecursionError):  # half a character, for one, which msgspec does not write
        return json.dumps(event, default=repr, skipkeys=True).encode()


def _functions(plan: Plan) -> dict[str, Callable[..., Any]]:
    """The tools of a chat by their names in the plan.

    Raises:
      InvalidCall: one of them is not there.
    """
    return {name: _function(name) for member in plan.members for name in member.tools}


def _function(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not colon:
        found: object = registered_tool(name)
    else:
        try:
            found = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise invalid("tools", f"{name!r} cannot be found ({type(error).__name__})") from None
    if not callable(found):
        raise invalid("tools", f"{name!r} is no tool here; register_tool(name, function) makes one known")
    return found


# --- logs -------------------------------------------------------------------------------------------------------------

_LOUD = ("ag2", "autogen", "openai", "httpx2", "httpcore2")


def mask_logs() -> None:
    """Have the loggers of AG2 and of its client remove keys from what they log."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LOUD:
            logging.getLogger(name).addFilter(_without_keys)


def _without_keys(record: logging.LogRecord) -> bool:
    """A filter: rendered here, a traceback no longer holds the objects that know the key."""
    text = record.getMessage()
    if (clean := masked(text)) != text:
        record.msg, record.args = clean, ()
    if record.exc_info:
        record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip())
        record.exc_info = None
    return True
