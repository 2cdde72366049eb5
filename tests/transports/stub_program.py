"""The misbehaving program as an agent, and what tests need around it: runs of it, an ear, and who is still there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import trio
from scripted_server import Ear

from actors.messages import APICalling
from actors.transport import Answer
from engine.agents.agent import EventParser, Launch, Program, Setting
from engine.agents.chunks import (
    Chunk,
    Error,
    Notice,
    Raw,
    Result,
    Session,
    Spent,
    Text,
    ToolResult,
    decode_chunk,
)
from engine.agents.options import AgentOptions, prompt_of
from engine.transports.process import ProcessTransport

SCRIPT = Path(__file__).with_name("stub_agent.py")

decode_pieces = msgspec.msgpack.Decoder(list[bytes]).decode


class StubOptions(AgentOptions, frozen=True, kw_only=True):
    """`files_inside` and `links_inside` are those of the private directory, `variables` those of the launch."""

    mode: str = "read"
    tag: str = ""
    files_inside: dict[str, str] = msgspec.field(default_factory=dict)
    links_inside: dict[str, str] = msgspec.field(default_factory=dict)
    variables: dict[str, str] = msgspec.field(default_factory=dict)


class StubParser(EventParser):
    """Reads what the script says; raises at an event that it is told to raise at."""

    def __init__(self, before: Spent | None) -> None:
        super().__init__()
        self._before = before

    def read(self, event: Mapping[str, Any]) -> list[Chunk]:
        match event:
            case {"session": str(name)}:
                self.session_id = name
                return [Session(session_id=name)]
            case {"text": str(text)}:
                return [Text(text=text, message_id="1", raw=dict(event))]
            case {"tool": str(text)}:
                return [ToolResult(tool_id="1", output=text)]
            case {"notice": str(text)}:
                return [Notice(text=text)]
            case {"clip": str(text)}:
                return [Notice(text=text[:100])]
            case {"before": _}:
                return [Text(text=repr(self._before), message_id="1")]
            case {"done": str(text), **rest}:
                self.done = True
                usage, total = (msgspec.convert(rest.get(name), Spent | None) for name in ("usage", "total"))
                self.success = Result(text=text, usage=usage, total=total)
                return []
            case {"error": str(category), **rest}:
                self.done = True
                usage = msgspec.convert(rest.get("usage"), Spent | None)
                self.failure = Error(category=category, message=rest.get("message", ""), usage=usage)  # type: ignore[arg-type]
                return []
            case {"again": _}:
                self.done, self.success = False, None
                return []
            case {"bug": _}:
                raise KeyError("a bug")
        return [Raw(raw=dict(event))]


class Stub(Program[StubOptions]):
    """Run by the interpreter of the tests."""

    name = "stub"
    program = os.path.basename(sys.executable)
    install = "npm install stub"
    inherits = ("STUB_LOGIN",)
    options = StubOptions

    def launch(self, options: StubOptions, setting: Setting) -> Launch:
        prompt, _ = prompt_of(options)
        return Launch(
            arguments=(str(SCRIPT), options.mode, options.tag, setting.private),
            prompt=prompt,
            env=options.variables,
            key_variable="STUB_KEY",
            files=options.files_inside,
            links=options.links_inside,
        )

    def parser(self, options: StubOptions, before: Spent | None) -> EventParser:
        return StubParser(before)


class StubbornStub(Stub):
    """Best ended by INT, and counts its sessions."""

    stop_signal: ClassVar[Literal["INT", "TERM"]] = "INT"
    counts_sessions = True


def environ() -> dict[str, str]:
    """The user's environment, as far as the script needs it."""
    return {"PATH": os.path.dirname(sys.executable), "HOME": "/"}


def stub(program: type[Stub] = Stub, **options: Any) -> ProcessTransport:
    return ProcessTransport(program(), **{"environ": environ(), **options})


def calling(*steps: Mapping[str, object], prompt: str = "", **options: Any) -> APICalling:
    """A call for these steps; `tag` is in the arguments of all processes it starts."""
    text = prompt or msgspec.json.encode(steps).decode()
    body = msgspec.json.encode(StubOptions(prompt=text, **options))
    return APICalling(1, 1, 1, 0, body=body, streaming=True)


def do(name: str, **how: object) -> dict[str, object]:
    """One step for the script."""
    return {"do": name, **how}


def say(**event: object) -> dict[str, object]:
    """The step that writes one event."""
    return {"do": "say", **event}


class Listener(Ear):
    """An ear whose chunks can be awaited, and that can be told to be slow."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.chunks: list[Chunk] = []
        self.on_chunks: Callable[[], None] = lambda: None
        self.room = trio.Event()
        self.room.set()
        self._news = trio.Event()

    async def hand_over(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.chunks += [decode_chunk.decode(event) for event in decode_pieces(piece)]
        news, self._news = self._news, trio.Event()
        news.set()
        self.on_chunks()
        await self.room.wait() if not self.room.is_set() else None

    async def until(self, *kinds: type) -> Chunk:
        """The first chunk of one of these kinds, once it has come."""
        while True:
            for chunk in self.chunks:
                if isinstance(chunk, kinds):
                    return chunk
            await self._news.wait()

    @property
    def texts(self) -> list[str]:
        return [chunk.text for chunk in self.chunks if isinstance(chunk, Text)]


async def run(
    transport: ProcessTransport, *steps: Mapping[str, object], ear: Ear | None = None, **options: Any
) -> Answer:
    with trio.fail_after(120):
        connection = await transport.connect()
        return await connection.exchange(calling(*steps, **options), ear or Listener())


async def cancelled_at(
    transport: ProcessTransport, *steps: Mapping[str, object], ear: Listener, when: Callable[[], Any], **options: Any
) -> bool:
    """Run, and cancel as soon as `when` has come. Whether the run was cut short."""
    connection = await transport.connect()
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await when()
            scope.cancel()

        nursery.start_soon(stop)
        with trio.fail_after(120), trio.CancelScope() as scope:
            await connection.exchange(calling(*steps, **options), ear)
    return scope.cancelled_caught


def kept(answer: Answer) -> list[Chunk]:
    """The chunks that are kept of a run."""
    return [decode_chunk.decode(line) for line in bytes(answer.reply.body).split(b"\n")]


def alive_with(tag: str) -> list[str]:
    """The processes that have a tag among their arguments, as they were started."""
    found = []
    for name in os.listdir("/proc"):
        try:
            arguments = Path("/proc", name, "cmdline").read_bytes() if name.isdecimal() else b""
        except OSError:
            continue
        if tag.encode() in arguments:
            found.append(f"{name} {arguments!r}")
    return found
