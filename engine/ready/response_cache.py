"""`ResponseCache`: calls that ask the same of the same provider account are answered by one request.

An answer is kept as the bytes that ended its call, so `max_bytes` bounds what is held. Calls that come while such a
request is under way follow it. Rules: only completed calls are kept; what ended a call for reasons of its own (it was
cancelled, vetoed, refused, or its deadline passed) is nobody else's; an answer belongs to the request that was sent,
not to one that a handler made something else of; whatever becomes of a call, none waits for it for ever.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from actors.limits import is_count, is_number
from actors.messages import Fault, Mail
from actors.slots import Progress
from engine.agents.format import AgentFormat
from engine.call import Call
from engine.errors import InternalError, NotAdmitted, OutcomeUnknown, PenstockError, UsageError
from engine.hooks import Handler, HookEventTypes

MIB = 1024 * 1024


class ResponseCacheStatistics(msgspec.Struct, frozen=True):
    """What became of the calls that came by, and what is kept.

    `hits` were answered from what is kept, `shared` by another call's request that was under way, `misses` went on to
    the provider. `evicted` answers were let go, for want of room or for their age; `calls` answers of `bytes` bytes are
    kept now.
    """

    hits: int
    shared: int
    misses: int
    evicted: int
    calls: int
    bytes: int


class _Kept(msgspec.Struct, frozen=True):
    """An answer that is kept, until `expires` in trio's time."""

    mail: Mail
    size: int
    expires: float


class _Flight:
    """A request under way: the call that leads it, and the calls that follow, each with what it waits for."""

    __slots__ = ("__weakref__", "_asked", "epoch", "followers", "key", "leader", "settled")

    def __init__(self, key: bytes, leader: Call, epoch: int) -> None:
        self.key = key
        self.leader = weakref.ref(leader)
        self._asked = _asked(leader)
        self.epoch = epoch
        self.followers: weakref.WeakKeyDictionary[Call, Call] = weakref.WeakKeyDictionary()
        self.settled = False

    def is_of(self, leader: Call) -> bool:
        """Whether the leader asked in the end what it asked when it was noted, and of the same model."""
        return _asked(leader) == self._asked


class ResponseCache:
    """Keeps the answers of completed calls, and lets identical calls share one request.

    Identical are calls with the same method, path and request body for the same model at the same provider account:
    address, headers and key. What is said to the engine alone (`priority`, `flow`, `deadline_s`, `metadata`, ...) makes
    no difference. A GET is left alone: it asks how something stands now. A call that is answered here is sent nowhere,
    counts towards no limit and has `attempts` 0.

    Args:
      max_calls: the most answers that are kept; 0 keeps none, and only shares requests under way.
      max_bytes: the most bytes they may have together; a larger one is not kept. The one used longest ago goes first.
      ttl_s: how long an answer is kept, in seconds; ``math.inf``: until there is no room.
      only: a quick function of a `Call`; calls for which it returns something false are left alone. What it raises
        refuses the call, as a `PreInvocation` handler does. None: all calls.

    It may serve several models and engines at once, within one `trio.run`; in another it begins empty.

    Raises:
      UsageError: an argument is out of range.
    """

    def __init__(
        self,
        max_calls: int = 1000,
        max_bytes: int = 64 * MIB,
        ttl_s: float = 300.0,
        *,
        only: Callable[[Call], object] | None = None,
    ) -> None:
        for name, value in (("max_calls", max_calls), ("max_bytes", max_bytes)):
            if not is_count(value) and (type(value) is not int or value != 0):
                raise UsageError(f"{name} is a whole number of at least 0, not {value!a:.60}")
        if ttl_s != math.inf and not (is_number(ttl_s) and ttl_s > 0):
            raise UsageError(f"ttl_s is a number of seconds above 0, not {ttl_s!a:.60}")
        if only is not None and not callable(only):
            raise UsageError(f"only is a function of a call, not {type(only).__name__}")
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._only = only
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        # A flight lives as long as the call that leads it, so one that nobody hears of again takes no memory.
        self._leading: weakref.WeakKeyDictionary[Call, _Flight] = weakref.WeakKeyDictionary()
        self._flights: weakref.WeakValueDictionary[bytes, _Flight] = weakref.WeakValueDictionary()
        self._alone: weakref.WeakSet[Call] = weakref.WeakSet()
        # An account is told by the number of the client that its user gave, which must not be another client's later.
        self._clients: dict[int, object] = {}
        self._loop: trio.lowlevel.TrioToken | None = None
        self._epoch = 0
        self._bytes = self._hits = self._shared = self._misses = self._evicted = 0

    def handlers(self) -> Mapping[HookEventTypes, Handler]:
        """Its handlers, for `HookRegistry.use`."""
        return {HookEventTypes.PreInvocation: self._before, HookEventTypes.PostInvocation: self._after}

    def statistics(self) -> ResponseCacheStatistics:
        """A frozen copy of the counts."""
        return ResponseCacheStatistics(
            self._hits, self._shared, self._misses, self._evicted, len(self._kept), self._bytes
        )

    def clear(self) -> None:
        """Let go of every answer. Requests under way still answer the calls that follow them, and are not kept."""
        self._kept.clear()
        self._flights.clear()
        self._clients.clear()
        self._bytes = 0
        self._epoch += 1

    def __repr__(self) -> str:
        return (
            f"<ResponseCache: {len(self._kept)} answers, {self._bytes} bytes, {len(self._flights)} requests under way>"
        )

    # --- the handlers: neither waits ---

    async def _before(self, event: Call, **kw: Any) -> Call | None:
        """What answers the call, None if it is to go on."""
        if self._only is not None and not self._only(event):
            return None
        self._look_at_loop()
        if event in self._alone:
            self._alone.discard(event)
            return None
        key = self._key(event)
        if key is None:
            return None
        kept = self._find(key)
        if kept is not None:
            self._hits += 1
            found = _stand_in(event)
            found.put(kept.mail)
            return found
        flight = self._flights.get(key)
        leader = flight.leader() if flight is not None else None
        if flight is None or leader is None or leader is event or not _is_under_way(leader):
            self._lead(event, key, flight if leader is event else None)
            return None
        return self._follow(event, flight, leader)

    async def _after(self, event: Call, **kw: Any) -> None:
        """Keep and share the outcome of a call that leads."""
        flight = self._leading.get(event)
        if flight is not None:
            self._settle(flight, event)

    # --- requests under way ---

    def _lead(self, call: Call, key: bytes, flight: _Flight | None) -> None:
        self._misses += 1
        if flight is None:
            flight = self._leading[call] = _Flight(key, call, self._epoch)
            self._flights[key] = flight

    def _follow(self, call: Call, flight: _Flight, leader: Call) -> Call:
        if not flight.followers:
            # The leader may end without its handlers being asked, or be taken back by who submitted it. Nothing of the
            # cache's own runs that could notice, and a follower must not wait for a call that nobody sends.
            trio.lowlevel.spawn_system_task(self._watch, flight, leader, name="response cache")
        stand_in = flight.followers[call] = _stand_in(call)
        # So that it is under way for whoever looks, and for the engine, which waits for it.
        stand_in.in_handlers(lambda _: None)
        return stand_in

    async def _watch(self, flight: _Flight, leader: Call) -> None:
        """Settle the flight when its leader is under way no more, if that was not done before."""
        while not flight.settled and _is_under_way(leader):
            await leader.wait_moved()
        self._settle(flight, leader)

    def _settle(self, flight: _Flight, leader: Call) -> None:
        """The leader has an outcome, or will have none: keep it, and tell the followers."""
        if flight.settled:
            return
        flight.settled = True
        if self._leading.get(leader) is flight:
            del self._leading[leader]
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        mail = leader.mail
        own = flight.is_of(leader)
        if mail is not None and own and leader.status == "completed" and flight.epoch == self._epoch:
            self._keep(flight.key, mail)
        answers = _is_of_the_request(leader)
        for call, stand_in in list(flight.followers.items()):
            if call.over or stand_in.over:
                continue
            if mail is not None and answers and own:
                self._shared += 1
                stand_in.put(mail)
                continue
            if answers:  # to something else than was asked, and the next would be too: they are not to wait in a row
                self._alone.add(call)
            stand_in.conclude("cancelled", Fault("CallCancelled", "the call that this one followed was let go"))

    # --- what is kept ---

    def _keep(self, key: bytes, mail: Mail) -> None:
        size = len(key) + len(mail[0]) + len(mail[1])
        if size > self._max_bytes or not self._max_calls:
            return
        self._drop(key)
        # The encoder leaves spare room behind its bytes; a join of two copies just them.
        held = (b"".join((mail[0], b"")), b"".join((mail[1], b"")))
        self._kept[key] = _Kept(held, size, trio.current_time() + self._ttl_s)
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._kept) > self._max_calls:
            self._evicted += 1
            self._drop(next(iter(self._kept)))

    def _find(self, key: bytes) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires <= trio.current_time():
            self._evicted += 1
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.size

    def _key(self, call: Call) -> bytes | None:
        """Equal for calls that ask the same of the same account; it holds neither the key nor the question.

        None for a call that is left alone: a GET asks how something stands now, and an agent is asked to do something;
        or its account cannot be told, its key being no longer where it was.
        """
        if call.place[0] == "GET" or isinstance(call.owner.format, AgentFormat):
            return None
        try:
            account = call.owner.account()
        except PenstockError:
            return None
        if account.http_client is not None:
            self._clients[id(account.http_client)] = account.http_client
        request = call.request
        asked = account.identity, call.owner.format.name, call.model, request.streaming, call.place
        key = hashlib.sha256(repr(asked).encode())
        key.update(request.body)
        return key.digest()

    def _look_at_loop(self) -> None:
        """Times and calls of another `trio.run` mean nothing in this one."""
        loop = trio.lowlevel.current_trio_token()
        if loop is not self._loop:
            self._loop = loop
            self.clear()


def _stand_in(call: Call) -> Call:
    """A call like this one that is never sent: what is put into it, the engine takes for this one's outcome."""
    return Call(call.owner, call.model, call.request, call.options)


def _asked(call: Call) -> tuple[int, str, tuple[str, str], bytes]:
    """What a call asks, of whom; its model is the owner, which no other can be while the call holds it."""
    return id(call.owner), call.model, call.place, hashlib.sha256(call.body or b"").digest()


def _is_under_way(leader: Call) -> bool:
    return not leader.over and leader.progress is not Progress.PENDING


def _is_of_the_request(leader: Call) -> bool:
    """Whether its outcome would be that of anybody who asked the same."""
    ended = leader.ended
    if ended is None or ended.status not in ("completed", "failed"):
        return False
    return not ended.gave_up and not isinstance(leader.error, NotAdmitted | OutcomeUnknown | InternalError)
