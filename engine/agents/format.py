"""The wire format of an agent: its options as the body of a call, and its chunks as the stream of an answer.

So an agent is an endpoint like any other to the schedule, to handlers and to whoever reads a stream. Its events are
chunks as JSON (`engine.agents.chunks`); the transport makes those of what the program writes. How the chunks of one run
become an answer is `RunRecord`'s to say, in `engine.agents.record`.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.limits import Quota
from engine.agents.agent import Agent
from engine.agents.chunks import SUBSTANCE, Error, Result
from engine.agents.options import MEANINGS, AgentOptions, prompt_of
from engine.agents.record import RunRecord, as_stream_chunk, read_chunk
from engine.agents.verdicts import reading_of
from engine.errors import InvalidCall
from engine.estimate import CountText, estimate_text, with_margin
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.view import ToolCall, View
from engine.providers.wire import Encoded, Reading, StreamChunk, Usage, decode_json, mapping, text_or_none
from engine.retry import ErrorView
from engine.sse import Event, Named

HANDLERS = ("on_text", "on_thinking", "on_tool_use", "on_tool_result", "on_system", "on_final")
"""Arguments that are functions of the caller's, called with what a run says as it says it."""


class AgentFormat:
    """`StreamFormat` of one agent. Immutable; holds no key and no address."""

    __slots__ = ("agent", "name", "options")
    path = ""
    polls: Quota | None = None

    def __init__(self, agent: Agent[Any]) -> None:
        self.agent = agent
        self.name = agent.name
        self.options: type[AgentOptions] = agent.options

    def __repr__(self) -> str:
        return f"AgentFormat({self.name!r})"

    def headed(self, headers: Mapping[str, str]) -> AgentFormat:
        """The same: an agent knows no headers."""
        return self

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a run's arguments as a body. They are not changed; those that are None are not sent.

        The estimate is that of what is said to the agent; what it reads by itself nobody knows before.

        Raises:
          InvalidCall: one is missing, unknown, of the wrong type, out of its range, or contradicts another.
        """
        for name in HANDLERS:
            if arguments.get(name) is not None:
                raise invalid(name, "it goes with invoke, stream and run_and_collect, or with the model itself")
        if arguments.get("model") == "":
            arguments = {**arguments, "model": None}  # as a model without a name says it
        try:
            payload = checked(self.agent.prepared(arguments), self.options, provider=self.name, closed=True)
        except InvalidCall as error:
            raise _in_words(error) from None
        payload.pop("stream", None)
        options = msgspec.convert(payload, self.options)
        self.agent.check(options)
        prompt, system = prompt_of(options)
        return Encoded(to_json(payload), with_margin(count_text(prompt) + count_text(system)), None, streaming=True)

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What a recorded run means. Never raises."""
        monitor = self.monitor()
        monitor.heard(bytes(body).splitlines())
        return monitor.reading(status, headers, now_s=now_s)

    read_poll = read

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects: the arguments of a run.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        return decode_json(body)

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded run as the one answer that it makes up. Never raises."""
        assembler = self.assembler()
        for line in bytes(body).splitlines():
            assembler.feed(line)
        return assembler.response()

    def chunks_of(self, body: bytes | memoryview) -> list[StreamChunk]:
        """The chunks of a recorded run. Never raises."""
        assembler = self.assembler()
        return [chunk for line in bytes(body).splitlines() for chunk in assembler.feed(line)]

    def view(self, response: object) -> View:
        """An answer in the common terms. Never raises, whatever was decoded."""
        run = mapping(response)
        said = run.get("messages")
        texts = [text for text in said if isinstance(text, str)] if isinstance(said, list) else []
        uses = run.get("tool_uses")
        return View(
            text=text_or_none(run.get("result")) or "\n\n".join(texts) or None,
            reasoning=text_or_none(run.get("thinking")),
            tool_calls=tuple(_tool_call(mapping(use)) for use in uses) if isinstance(uses, list) else (),
            finish_reason=text_or_none(run.get("stop_reason")),
            provider_id=text_or_none(run.get("session_id")),
            model=text_or_none(run.get("model")),
        )

    def monitor(self) -> AgentMonitor:
        """What a run is heard with."""
        return AgentMonitor(self.agent)

    def assembler(self) -> AgentAssembler:
        """What makes one run's chunks and its answer."""
        return AgentAssembler()


def _in_words(error: InvalidCall) -> InvalidCall:
    """What a pattern refused, in words."""
    for pattern, meaning in MEANINGS.items():
        if "matching regex" in error.message and pattern in error.message.replace("\\\\", "\\"):
            return invalid(error.argument or "arguments", meaning)
    return error


def _tool_call(use: Mapping[str, object]) -> ToolCall:
    given = use.get("input")
    arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    return ToolCall(str(use.get("id") or ""), str(use.get("name") or ""), arguments)


def _data(event: Event) -> bytes:
    return event.data if isinstance(event, Named) else event


class AgentMonitor:
    """A `StreamMonitor` of a run's chunks."""

    __slots__ = ("_agent", "_began", "_terminal", "events")

    def __init__(self, agent: Agent[Any]) -> None:
        self.events = 0
        self._agent = agent
        self._began = False
        self._terminal: Result | Error | None = None

    @property
    def usage(self) -> Usage | None:
        """What the run has cost, once it is over."""
        return None if self._terminal is None else self._reading(self._terminal).usage

    @property
    def error(self) -> ErrorView | None:
        """Why the run failed, if it did."""
        found = self._terminal
        return ErrorView(found.message, found.category, status=found.status) if isinstance(found, Error) else None

    @property
    def finished(self) -> bool:
        """Whether its terminal chunk came."""
        return self._terminal is not None

    terminated = finished

    def heard(self, block: Sequence[Event]) -> None:
        """Take note of these chunks."""
        for event in block:
            self.events += 1
            chunk = read_chunk(_data(event))
            if isinstance(chunk, Result | Error):
                self._terminal = self._terminal or chunk
            self._began = self._began or isinstance(chunk, SUBSTANCE)

    def reading(self, status: int, headers: Mapping[str, str], *, now_s: float) -> Reading:
        """What the run means, as far as it was heard."""
        cut = Error(category="protocol", message="its record ends before its end")
        return self._reading(self._terminal or cut)

    def _reading(self, terminal: Result | Error) -> Reading:
        agent = self._agent
        return reading_of(terminal, name=agent.name, began=self._began, free_cached=agent.free_cached)


class AgentAssembler:
    """A `StreamAssembler` of a run's chunks."""

    __slots__ = ("_record", "unreadable")

    def __init__(self) -> None:
        self._record = RunRecord()
        self.unreadable = 0

    def feed(self, event: Event) -> list[StreamChunk]:
        """The chunk of this event, as a reader sees it."""
        data = _data(event)
        chunk = read_chunk(data)
        if chunk is None:
            self.unreadable += 1
            return [StreamChunk("system", metadata={"event": data.decode("utf-8", "replace")})]
        self._record.take(chunk)
        return [as_stream_chunk(chunk)]

    def end(self) -> list[StreamChunk]:
        """Nothing waits."""
        return []

    def response(self) -> dict[str, object]:
        """The run so far as one answer; see `RunRecord.answer`."""
        return self._record.answer()
