"""The server: HTTP/1.1 on trio and h11, one task a connection.

`serve` opens the socket and runs until it is cancelled. `Provider` decides, this file carries out: it routes requests,
waits the latency, sends answers, cuts connections, and watches how late its own loop runs. Any trio program may run it
in its own loop; a benchmark should give it a process (`engine.simulator.process`). It must not import the kernel's
limits: they are judged by it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

import h11
import trio

from actors.errors import UsageError
from engine.simulator.config import SimulatorConfig
from engine.simulator.connection import Connection, Head, now_us
from engine.simulator.delivery import Delivery, Pacer
from engine.simulator.failure import Failure
from engine.simulator.formats.catalogue import CHAT, MODEL_PATHS, PLACES, ROUTES, base_of, owner_of
from engine.simulator.formats.desk import Asked, Desk
from engine.simulator.formats.manner import Manner, Moment
from engine.simulator.log import ArrivalLog, LogFile
from engine.simulator.provider import Attempt, CountInput, Judgement, Provider
from engine.simulator.records import Arrival, Aside, Late, SimulatorStatistics, StreamEnd
from engine.simulator.reply import Answer, count_input, encode
from engine.simulator.script import StreamPlan
from engine.simulator.turnstile import Turnstile

BACKLOG: Final = 4_096
TICK_US: Final = 2_000
FLUSH_S: Final = 0.25
LINES_AT_ONCE: Final = 256

_READABLE: Final = MODEL_PATHS | {b"/healthz", b"/statistics", b"/log"}


class Simulator:
    """A running simulated provider, seen from the program it runs in."""

    def __init__(self, config: SimulatorConfig, provider: Provider, port: int) -> None:
        self.config = config
        self.port = port
        self._provider = provider

    def __repr__(self) -> str:
        return f"Simulator({self.base_url!r}, arrivals={self._provider.log.arrivals})"

    @property
    def base_url(self) -> str:
        """What a client of OpenAI's is given as the base address."""
        return f"http://{self.config.host}:{self.port}/v1"

    def address(self, provider: str) -> str:
        """What a client of this provider is given as the base address. Raises `UsageError` for one that is not
        simulated."""
        return f"http://{self.config.host}:{self.port}{base_of(provider)}"

    def statistics(self) -> SimulatorStatistics:
        """The totals so far."""
        return self._provider.statistics()

    def log(self) -> list[Arrival]:
        """Every arrival so far, in order."""
        return list(self._provider.log.read())

    def ends(self) -> list[StreamEnd]:
        """Every stream that is over so far, in the order of their ends."""
        return list(self._provider.log.ends)

    def asides(self) -> list[Aside]:
        """Every request so far that was no call, in order."""
        return list(self._provider.log.asides)

    def lates(self) -> list[Late]:
        """Every turn of the loop later than the guard, in order."""
        return list(self._provider.log.lates)


async def serve(
    config: SimulatorConfig,
    *,
    count_input: CountInput | None = None,
    task_status: trio.TaskStatus[Simulator] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a simulated provider until cancelled; `nursery.start` hands back its `Simulator`.

    `count_input` counts the input tokens of a request's decoded body (before `config.count_input`, which names such a
    function). On cancellation every connection is closed and the log file, if any, is written to its end. Raises
    `UsageError` if the address cannot be had, the log file cannot be written, or the counting function not found.
    """
    counter = count_input or _named_counter(config.count_input)
    provider = Provider(config, origin_us=now_us(), unix_s=int(time.time()), count_input=counter)
    server = _Server(config, provider)
    file = _open_log(config.log_path)
    listeners: list[trio.SocketListener] = []
    try:
        listeners += await _listen(config)
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_loop, provider.log)
            nursery.start_soon(server.turnstile.run)
            nursery.start_soon(server.pacer.run)
            if file is not None:
                nursery.start_soon(_keep_written, LogFile(provider.log, file))
            await nursery.start(trio.serve_listeners, server.connection, listeners)
            task_status.started(Simulator(config, provider, port))
    finally:
        for listener in listeners:
            listener.socket.close()
        if file is not None:
            file.close()


async def _listen(config: SimulatorConfig) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(config.port, host=config.host, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(f"simulator: cannot listen on {config.host} port {config.port}: {error}") from error


def _named_counter(name: str) -> CountInput:
    if not name:
        return count_input
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"simulator: count_input names {name!r}, which cannot be found: {error}") from error
    if not callable(found):
        raise UsageError(f"simulator: count_input names {name!r}, which is no function")
    counter: CountInput = found
    return counter


def _methods(path: bytes) -> list[bytes]:
    """The methods that a path answers to; none if nobody knows it."""
    plain = [b"POST"] if path in ROUTES else [b"GET"] if path in _READABLE else []
    return list(dict.fromkeys((*plain, *PLACES.methods(path))))


def _open_log(path: str | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return open(path, "wb")  # closed by `serve`, after the last connection
    except OSError as error:
        raise UsageError(f"simulator: cannot write the log to {path!r}: {error}") from error


async def _watch_loop(log: ArrivalLog) -> None:
    while True:
        due_us = now_us() + TICK_US
        await trio.sleep(TICK_US / 1_000_000)
        log.turned(due_us, now_us())


async def _keep_written(file: LogFile) -> None:
    """Append to the log file as the log grows, a little at a time so that the loop stays punctual."""
    try:
        while True:
            await trio.sleep(FLUSH_S)
            while file.write(LINES_AT_ONCE):
                await trio.lowlevel.checkpoint()
    finally:
        while file.write(LINES_AT_ONCE):
            pass


class _Server:
    """Carries out, on every connection, what the provider decides."""

    def __init__(self, config: SimulatorConfig, provider: Provider) -> None:
        self._config = config
        self._provider = provider
        self.turnstile = Turnstile()
        self.pacer = Pacer()

    async def connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end. Whatever a client does ends only its own connection."""
        connection = Connection(stream, self.turnstile)
        self._provider.connections += 1
        try:
            while (head := await self._head(connection)) is not None and await self._request(connection, head):
                pass
        except h11.RemoteProtocolError as error:
            await self._complain(connection, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone, and with it whoever could be told
        finally:
            self._provider.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _head(self, connection: Connection) -> Head | None:
        if self._config.keep_alive_s is None:
            return await connection.head()
        with trio.move_on_after(self._config.keep_alive_s):
            return await connection.head()
        return None

    async def _request(self, connection: Connection, head: Head) -> bool:
        """Serve one request. Returns whether the connection may carry another."""
        manner = ROUTES.get(head.path)
        if manner is not None and head.method == b"POST":
            return await self._call(connection, head, manner)
        found = PLACES.find(head.method, head.path)
        if found is not None and isinstance(found.served, Manner):
            return await self._call(connection, head, found.served.at(found.name, head.headers))
        body = await connection.body(head, self._config.max_body_bytes)
        if body is None:
            answer = self._fail(head, Failure("too_large", 413, "The body is too large.", code="request_too_large"))
        elif head.path == b"/log" and head.method == b"GET":
            return await connection.send_parts(b"application/x-ndjson", self._log_parts())
        elif found is not None and isinstance(found.served, Desk):
            method, path, query = (part.decode("latin-1") for part in (head.method, head.path, head.query))
            asked = Asked(method, path, found.name, query, head.headers, body, 0)
            owner = owner_of(head.path)
            answer = self._provider.aside(owner, found.served, asked, head.name, connection.read_us)
        else:
            answer = self._read(head)
        return await connection.send(answer) or await self._hung_up(connection)

    def _read(self, head: Head) -> Answer:
        allowed = b", ".join(_methods(head.path))
        if not allowed:
            self._provider.not_found += 1
            text = f"Unknown path: {head.path.decode('latin-1')[:200]}"
            return self._fail(head, Failure("not_found", 404, text, code="unknown_url"))
        if head.path not in _READABLE or head.method != b"GET":
            text = f"This path answers to {allowed.decode()} alone."
            answer = self._fail(head, Failure("method", 405, text, code="method_not_allowed"))
            return answer._replace(headers=[*answer.headers, (b"allow", allowed)])
        if head.path == b"/healthz":
            return Answer(200, [], b'{"status":"ok"}')
        if head.path == b"/statistics":
            return Answer(200, [], encode(self._provider.statistics()))
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "penstock"} for name in self._config.models]
        return Answer(200, [], encode({"object": "list", "data": models}))

    @staticmethod
    def _fail(head: Head, failure: Failure) -> Answer:
        """The answer to what is no call at all, in the manner of whoever owns the path."""
        return owner_of(head.path).fail(failure, Moment(0, 0))

    async def _log_parts(self) -> AsyncIterator[bytes]:
        log = self._provider.log
        stop = len(log)
        for start in range(0, stop, LINES_AT_ONCE):
            yield log.lines(start, min(stop, start + LINES_AT_ONCE))
        ends, asides = len(log.ends), len(log.asides)
        for start in range(0, ends, LINES_AT_ONCE):
            yield log.end_lines(start, min(ends, start + LINES_AT_ONCE))
        for start in range(0, asides, LINES_AT_ONCE):
            yield log.aside_lines(start, min(asides, start + LINES_AT_ONCE))
        if log.lates:
            yield log.late_lines()

    async def _call(self, connection: Connection, head: Head, manner: Manner) -> bool:
        provider = self._provider
        # A named call is known by its head, so its connection can be cut before a byte of the body is looked at. One
        # without a name is known only by its body; it is then cut as if that had not been read.
        attempt = provider.recognise(head.name) if head.name else None
        body = None
        if attempt is None or attempt.fault != "reset_before":
            body = await connection.body(head, self._config.max_body_bytes)
            if attempt is None:
                attempt = provider.recognise(b"", b"unread" if body is None else body)
        if attempt.fault == "reset_before":
            provider.cut(attempt, connection.read_us)
            connection.reset()
            return False
        if body is None:
            answer = provider.too_large(manner, attempt, connection.read_us).answer
            assert answer is not None
            return await connection.send(answer) or await self._hung_up(connection)
        judgement = provider.judge(manner, attempt, body, head.headers, connection.read_us)
        if judgement.stream is not None and judgement.answer is not None:
            return await self._stream(connection, attempt, judgement, judgement.stream, judgement.answer)
        return await self._carry_out(connection, judgement, connection.read_us)

    async def _carry_out(self, connection: Connection, judgement: Judgement, at_us: int) -> bool:
        try:
            await self._wait(connection, judgement, at_us)
        finally:
            # Before the answer leaves: a client that has its usage in hand may count on what it gave back.
            if judgement.admitted:
                self._provider.finish(judgement)
        if judgement.answer is None:
            connection.reset()
            return False
        return await connection.send(judgement.answer) or await self._hung_up(connection)

    async def _wait(self, connection: Connection, judgement: Judgement, at_us: int) -> None:
        if judgement.fault == "stall":
            with trio.move_on_after(self._config.faults.stall_s):
                await connection.gone()
        elif judgement.latency_us:
            await trio.sleep(max(0, at_us + judgement.latency_us - now_us()) / 1_000_000)

    async def _stream(
        self, connection: Connection, attempt: Attempt, judgement: Judgement, plan: StreamPlan, head: Answer
    ) -> bool:
        """Send a stream. It is in flight to its end."""
        provider = self._provider
        provider.log.stream_began()
        delivery = Delivery(plan, lambda delivery: provider.streamed(attempt, judgement, delivery, now_us()))
        # From when the request was read, not from when its turn came: many that begin together end together.
        delivery.set_out(round(connection.read_s * 1_000_000) + judgement.latency_us)
        try:
            await self._wait(connection, judgement, connection.read_us)
            ending = await delivery.carry_out(connection, head, self.pacer)
        finally:
            delivery.end("left")
        if ending in ("done", "error"):
            return await connection.end_stream() or await self._hung_up(connection)
        if ending == "cut":
            await connection.hang_up()
        elif ending == "reset":
            connection.reset()
        return False

    async def _hung_up(self, connection: Connection) -> bool:
        await connection.hang_up()
        return False

    async def _complain(self, connection: Connection, error: h11.RemoteProtocolError) -> None:
        """Answer what was no HTTP, if an answer can still be sent."""
        if not connection.can_answer:
            return
        text = f"This is not a request in HTTP/1.1: {error}"
        status = error.error_status_hint
        try:
            await connection.send(CHAT.fail(Failure("invalid", status, text, code="bad_request"), Moment(0, 0)))
            await connection.hang_up()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
            pass  # nobody is left to read it
