"""Which lane and which endpoint the calls of a model go to, in one engine; opens both when they are first needed.

An endpoint actor runs under a supervisor that starts a new one in its place when a bug ends it, three times a minute at
most; after that the endpoint is down and says so. How models count and what they answer is learned here, for the
estimate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import msgspec
import trio

from actors import messages as ms
from actors.actor import supervise
from actors.endpoint import NO_STREAMS, EndpointActor, EndpointStatistics
from actors.limits import Quota
from actors.mailbox import Mailbox
from actors.messages import Fault
from actors.slots import StreamBuffer
from actors.transport import Connection, Transport
from engine.accounts import Account, LaneDescription, Lanes, Model, OpenedLane
from engine.errors import ConnectFailed, UsageError, fault_of
from engine.estimate import Calibration, Learned, OutputGuess
from engine.hooks import HookRegistry
from engine.log import debugging, log
from engine.providers.wire import Usage
from engine.usual_transports import TransportFactory

RESTARTS = 3
RESTARTS_WITHIN_US = 60_000_000


class AccountStatistics(EndpointStatistics, frozen=True):
    """One endpoint actor, and how it reaches its provider: `transport` is ``"http"`` for the engine's own wire,
    ``"httpx"`` for httpx, ``"process"`` and ``"ag2"`` for agents, and the type's name for any other. `children` are
    the programs of it that run."""

    transport: str
    children: int = 0


class Binding(msgspec.Struct, frozen=True):
    """Where the calls of one model go: a lane, and an endpoint by number. `poll_lane` is where polls wait, if any.
    `check` raises what its transport can know to be wrong with a body before it is queued, if it can know anything."""

    lane: OpenedLane
    endpoint: int
    format: str
    poll_lane: int = 0
    check: Callable[[bytes], object] | None = None


class _Endpoint:
    """An account's endpoint: the actor that runs now, and the mailbox it shares with those before and after it."""

    def __init__(self, account: Account, transport: _Told, make: Callable[[Mailbox | None], EndpointActor]) -> None:
        self.account = account
        self.transport = transport
        self.make = make
        self.actor = make(None)
        self.done = trio.Event()


class _Told:
    """A transport whose connections are told of in the log."""

    def __init__(self, name: str, transport: Transport) -> None:
        self._name = name
        self._transport = transport
        self.kind: str = getattr(transport, "kind", type(transport).__name__)

    @property
    def check(self) -> Callable[[bytes], object] | None:
        """What it can know of a body before it is queued."""
        return getattr(self._transport, "check", None)

    @property
    def children(self) -> int:
        """The programs that it runs now."""
        return getattr(self._transport, "children", 0)

    async def connect(self) -> Connection:
        try:
            connection = await self._transport.connect()
        except ConnectFailed as error:
            if debugging():
                log.debug("connection failed", endpoint=self._name, error=error.message)
            raise
        except trio.Cancelled:
            if debugging():
                log.debug("connection given up", endpoint=self._name)
            raise
        if debugging():
            log.debug("connection opened", endpoint=self._name)
        return connection


class Switchboard:
    """The bindings of one engine.

    `scheduler` is told of every lane and endpoint that is opened; `mailboxes` is its address book of endpoint actors.
    """

    def __init__(
        self,
        lanes: Lanes,
        mailboxes: dict[int, Mailbox],
        scheduler: Mailbox,
        nursery: trio.Nursery,
        make_transport: TransportFactory,
        streams: Mapping[int, StreamBuffer] = NO_STREAMS,
    ) -> None:
        self._lanes = lanes
        self._mailboxes = mailboxes
        self._scheduler = scheduler
        self._nursery = nursery
        self._make_transport = make_transport
        self._streams = streams
        self._random = random.Random()
        self._bindings: dict[Model, Binding] = {}
        self._numbers: dict[tuple[str, str, bytes, int], int] = {}
        self._endpoints: dict[int, _Endpoint] = {}
        self._lanes_of_polls: dict[tuple[str, bytes], OpenedLane] = {}
        self._learned: dict[tuple[int, str], Learned] = {}

    def bind(self, model: Model) -> Binding:
        """Where this model's calls go; opens its lane and its endpoint if need be.

        Raises:
          MissingKey, UsageError: the model cannot be used; nothing was opened.
        """
        binding = self._bindings.get(model)
        if binding is None:
            try:
                account = model.account()
                lane = self._lanes.find(model.lane) if model.lane is not None else None
                endpoint = self._endpoint(account)
            except UsageError as error:
                # Without the frames below: a key, or the whole environment, is among their variables, and there are
                # loggers that show those.
                raise error.with_traceback(None) from None
            wire = account.spec.format
            polls = self._lane_of_polls(account, wire.polls) if wire.polls is not None else None
            if lane is None and model.lane is not None:
                lane = self._open_lane(model.lane, account)
            lane = lane or polls
            assert lane is not None, "who has no lane of its own has polls"
            number = polls.number if polls is not None else 0
            binding = Binding(lane, endpoint, wire.name, number, self._endpoints[endpoint].transport.check)
            self._bindings[model] = binding
        return binding

    def _open_lane(self, wanted: LaneDescription, account: Account) -> OpenedLane:
        lane, message = self._lanes.open(wanted, account)
        self._scheduler.post(ms.encode(message))
        return lane

    def _lane_of_polls(self, account: Account, quota: Quota) -> OpenedLane:
        """Where all polls of one key at one origin wait, whichever calls they are of."""
        whose = account.origin, account.key_digest
        lane = self._lanes_of_polls.get(whose)
        if lane is None:
            described = LaneDescription(f"polls of {account.origin}", quotas=(quota,))
            lane = self._lanes_of_polls[whose] = self._open_lane(described, account)
        return lane

    def learned(self, endpoint: int, model: str) -> Learned:
        """What is known by now of how this model counts its inputs and how much it answers."""
        return self._learned.get((endpoint, model), _NOTHING_LEARNED)

    def close_idle(self, model: Model) -> None:
        """Close the connections of this model's account that no call is using."""
        binding = self._bindings.get(model)
        if binding is not None:
            self._mailboxes[binding.endpoint].post(ms.encode(ms.CloseIdle()))

    def hook_registries(self) -> list[HookRegistry]:
        """Those of all models that are bound."""
        return [model.hook_registry for model in self._bindings]

    def statistics(self) -> tuple[AccountStatistics, ...]:
        """Of every endpoint actor that runs now."""
        return tuple(
            AccountStatistics(
                **msgspec.structs.asdict(endpoint.actor.statistics()),
                transport=endpoint.transport.kind,
                children=endpoint.transport.children,
            )
            for endpoint in self._endpoints.values()
        )

    async def stop(self) -> None:
        """Stop all endpoints and wait until they have stopped."""
        for endpoint in self._endpoints.values():
            endpoint.actor.mailbox.post(ms.encode(ms.Stop()))
        for endpoint in self._endpoints.values():
            await endpoint.done.wait()

    def _endpoint(self, account: Account) -> int:
        number = self._numbers.get(account.identity)
        if number is None:
            transport = _Told(account.name, self._make_transport(account, self._learn))
            number = self._numbers[account.identity] = len(self._numbers) + 1

            def make(mailbox: Mailbox | None) -> EndpointActor:
                return EndpointActor(
                    number,
                    account.name,
                    transport,
                    self._scheduler,
                    lambda: self._random.getrandbits(32),
                    max_connections=account.max_connections,
                    mailbox=mailbox,
                    streams=self._streams,
                )

            endpoint = self._endpoints[number] = _Endpoint(account, transport, make)
            self._mailboxes[number] = endpoint.actor.mailbox
            self._scheduler.post(ms.encode(ms.OpenEndpoint(number, account.name, account.max_connections)))
            self._nursery.start_soon(self._run, number, endpoint)
        return number

    async def _run(self, number: int, endpoint: _Endpoint) -> None:
        def start() -> EndpointActor:
            if endpoint.actor.stopped:
                endpoint.actor = endpoint.make(endpoint.actor.mailbox)
            return endpoint.actor

        def failed(error: Exception, for_good: bool) -> None:
            name = endpoint.account.name
            if not for_good:
                log.warning("endpoint restarted", endpoint=name, error=fault_of(error).message)
            else:
                log.error("endpoint down", endpoint=name, error=fault_of(error).message)
                text = f"endpoint {name} failed too often and is down; open another engine"
                self._scheduler.post(ms.encode(ms.Down(number, Fault("InternalError", text))))

        try:
            await supervise(start, failed=failed, restarts=RESTARTS, within_us=RESTARTS_WITHIN_US)
        finally:
            endpoint.actor.mailbox.close()
            endpoint.done.set()

    def _learn(self, calling: ms.APICalling, usage: Usage) -> None:
        key = calling.endpoint, calling.model
        learned = self._learned.get(key)
        if learned is None:
            learned = self._learned[key] = Learned(Calibration(), OutputGuess())
        if usage.input_tokens is not None:
            learned.input.observe(calling.raw_input_tokens, usage.input_tokens)
        if usage.output_tokens is not None:
            learned.output.observe(usage.output_tokens, calling.choices)


_NOTHING_LEARNED = Learned(Calibration(), OutputGuess())
