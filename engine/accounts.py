"""What a model is bound to in one engine: its lane and its provider account, each with a number for the actors.

A lane is a name with quotas, permits and a queue's capacity; two descriptions of one name must agree. An account is one
provider, address and key: whoever has the same shares its connections. Descriptions come from `iModel` and from the
configuration file; the numbers are given here, once an engine first meets them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Container
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from actors.limits import LEARNED, Quota, learned_spec
from actors.mailbox import Places
from actors.messages import OpenLane, QuotaSpec
from engine.config import AGEING_S, QUEUE_CAPACITY, EngineConfig
from engine.errors import UsageError
from engine.hooks import HookRegistry
from engine.providers.lookup import EndpointSpec
from engine.secret import Secret
from engine.transports.client import HttpClient

MAX_CONNECTIONS = 1_000


class LaneDescription(msgspec.Struct, frozen=True):
    """A lane as a user states it; None is "not said", so that a second model can join a lane by its name alone.

    `weights` are (flow, weight), sorted by the flow; none at all say nothing, and become None. `learn_s` is the window
    in which limits that nobody states are counted while they are learned; None: none are. `published`: the limits that
    the provider publishes hold for what no quota here states.
    """

    name: str
    quotas: tuple[Quota, ...] | None = None
    queue_capacity: int | None = None
    concurrency_limit: int | None = None
    ageing_s: float | None = None
    weights: tuple[tuple[str, int], ...] | None = None
    learn_s: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "weights", self.weights or None)


_UNLESS_SAID = LaneDescription("", quotas=(), queue_capacity=QUEUE_CAPACITY, ageing_s=AGEING_S)
"""What holds in a lane of which nothing was said."""


class Account(msgspec.Struct, frozen=True):
    """One provider account: where its calls go, and with which key. The key is in no repr.

    `http_client` is a client of the user's own that its calls go through.
    """

    spec: EndpointSpec
    key: Secret | None
    max_connections: int = MAX_CONNECTIONS
    http_client: HttpClient | None = None

    @property
    def identity(self) -> tuple[str, str, bytes, int]:
        """Equal for the same provider, address, format, headers, way to send the key, key and client, without holding
        the key: who is equal shares connections, and what reads their answers."""
        spoken = self.spec.format.name, self.spec.auth, self.spec.headers
        return (
            self.spec.provider,
            self.spec.url,
            hashlib.sha256(self.key_digest + repr(spoken).encode()).digest(),
            id(self.http_client),
        )

    @property
    def origin(self) -> str:
        """The provider and the scheme, host and port of its address, as the name of the lane of its polls has them."""
        parts = urlsplit(self.spec.url)
        return f"{self.spec.provider} {parts.scheme}://{parts.netloc}"

    @property
    def key_digest(self) -> bytes:
        """Equal for the same key, without holding it."""
        return hashlib.sha256((self.key.reveal() if self.key else "").encode()).digest()

    @property
    def name(self) -> str:
        """What logs, statistics and errors call it."""
        return f"{self.spec.provider} {self.spec.url}".rstrip()


class Model(Protocol):
    """What has to be known of a model to send its calls."""

    @property
    def hook_registry(self) -> HookRegistry:
        """The handlers of its calls."""

    @property
    def lane(self) -> LaneDescription | None:
        """Its lane, as the user described it; None: that of its account's polls. Its format says their limit."""

    def account(self) -> Account:
        """Its provider account.

        Raises:
          MissingKey: the provider wants a key and there is none.
        """


class OpenedLane(msgspec.Struct, frozen=True):
    """A lane that the scheduler knows: its number, the quotas as the actors hold them, and the places of its queue."""

    description: LaneDescription
    number: int
    quotas: tuple[QuotaSpec, ...]
    places: Places


class Lanes:
    """The lanes of one engine, by name."""

    def __init__(self, config: EngineConfig) -> None:
        self._opened: dict[str, OpenedLane] = {}
        self._numbers = itertools.count(1)
        self._quota_numbers = itertools.count(1)
        self._configured: dict[str, LaneDescription] = {
            name: LaneDescription(
                name,
                tuple(lane.quotas),
                lane.queue_capacity,
                lane.concurrency_limit,
                lane.ageing_s,
                tuple(sorted(lane.weights.items())),
                lane.interval_s if lane.limits == "learn" else None,
            )
            for name, lane in config.lanes.items()
        }
        self._shared: dict[str, list[QuotaSpec]] = {}
        self._published: dict[tuple[str, bytes, str, str], QuotaSpec] = {}
        for shared in config.quotas:
            spec = shared.quota.spec(next(self._quota_numbers))
            for name in shared.lanes:
                self._shared.setdefault(name, []).append(spec)
        self.places: dict[int, Places] = {}

    def name_of(self, number: int) -> str:
        """What the lane of that number is called; nothing if there is none."""
        return next((name for name, lane in self._opened.items() if lane.number == number), "")

    def find(self, wanted: LaneDescription) -> OpenedLane | None:
        """The opened lane of that name, None if it is not open yet.

        Raises:
          UsageError: there is one, and what is said of it now differs from what was said before.
        """
        opened = self._opened.get(wanted.name)
        known = opened.description if opened is not None else self._configured.get(wanted.name)
        if known is not None:
            self._compare(wanted, known)
        return opened

    def open(self, wanted: LaneDescription, account: Account) -> tuple[OpenedLane, OpenLane]:
        """Open a lane that is not there yet, for a model of this account; the message is for the scheduler."""
        name, number = wanted.name, next(self._numbers)
        wanted = self._configured.get(name, wanted)
        if name in self._opened:  # the polls of another key
            name = f"{name} ({number})"
            wanted = msgspec.structs.replace(wanted, name=name)
        own = tuple(quota.spec(next(self._quota_numbers)) for quota in wanted.quotas or ())
        learned: tuple[QuotaSpec, ...] = ()
        if (learn_s := wanted.learn_s) is not None:
            learned = tuple(learned_spec(*begin, learn_s, next(self._quota_numbers)) for begin in LEARNED)
        published = self._published_for(account, {spec.dimension for spec in own}) if wanted.published else ()
        quotas = (*own, *self._shared.get(wanted.name, ()), *published, *learned)
        places = self.places[number] = Places(wanted.name, wanted.queue_capacity or QUEUE_CAPACITY)
        opened = self._opened[wanted.name] = OpenedLane(wanted, number, quotas, places)
        message = OpenLane(
            number,
            wanted.name,
            quotas,
            concurrency_limit=wanted.concurrency_limit or 0,
            ageing_us=max(1, round((wanted.ageing_s or AGEING_S) * 1_000_000)),
            weights=wanted.weights or (),
        )
        return opened, message

    def _published_for(self, account: Account, stated: Container[str]) -> tuple[QuotaSpec, ...]:
        """The limits that the provider publishes, but for the dimensions that are stated: one quota for an account,
        however many models use it."""
        specs = []
        for quota in account.spec.defaults.quotas:
            if quota.dimension not in stated:
                where = quota.name or account.spec.url
                key = (account.spec.provider, account.key_digest, where, quota.dimension)
                if key not in self._published:
                    self._published[key] = quota.spec(next(self._quota_numbers))
                specs.append(self._published[key])
        return tuple(specs)

    def close(self) -> None:
        """Tell everybody who waits for a place that there will be none."""
        for places in self.places.values():
            places.close()

    @staticmethod
    def _compare(wanted: LaneDescription, known: LaneDescription) -> None:
        for field in ("quotas", "queue_capacity", "concurrency_limit", "ageing_s", "weights", "learn_s"):
            said, before = getattr(wanted, field), getattr(known, field)
            before = getattr(_UNLESS_SAID, field) if before is None else before
            if said is not None and said != before:
                raise UsageError(
                    f"lane {wanted.name!r} was opened with other numbers ({field}: {_shown(field, before)} there, "
                    f"{_shown(field, said)} here); a lane has one set of numbers, those of the first model used. Give "
                    "all its models the same, or only the one that is used first",
                    lane=wanted.name,
                )


def _shown(field: str, value: Any) -> str:
    """A lane's number, as it can stand in a message."""
    if not value:
        return "not set"
    return f"{dict(value) if field == 'weights' else value!r:.200}"
