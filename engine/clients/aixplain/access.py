"""Where a model's requests go and with which key: the addresses of the environment, and who asks at each of them.

Runs go through an `iModel`, whose lane has the limits; submissions share that lane. Polls wait among the polls of
runs, and what is asked of the platform's records in a lane of its own, so that nothing of it takes a run's turn. A key
is sent to the two configured origins and to no other, whatever address a reply names.

Holds a key and shows none. Nothing here opens a socket.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
import trio

from engine.accounts import LaneDescription
from engine.call import OPTION_NAMES, Call, CallOptions
from engine.clients.caller import Caller
from engine.errors import MissingKey, UsageError
from engine.imodel import iModel
from engine.providers.aixplain import AIXPLAIN, POLLS, SUBMITTED, path_of
from engine.providers.catalogue import Auth
from engine.providers.documents import DOCUMENTS, JsonDocuments
from engine.providers.lookup import checked_address
from engine.providers.wire import WireFormat
from engine.runtime import Engine
from engine.secret import Secret
from engine.transports.polls import path_at

RUN_URL = "https://models.aixplain.com/api/v1/execute"
BACKEND_URL = "https://platform-api.aixplain.com"
KEYS = ("TEAM_API_KEY", "AIXPLAIN_API_KEY")

ATTEMPTS = 6
WITHIN_S = 60.0
"""How often one poll is tried, and how long it may take."""

_OF_RECORDS: tuple[Auth, ...] = ("x-api-key", "token")
_POLL = JsonDocuments(POLLS)
_V1, _V2 = "api/v1/execute", "api/v2/execute"
_OURS = {"self", "kwargs", "provider", "endpoint", "base_url", "api_key", "http_client"}
_SETTINGS = (inspect.signature(iModel.__init__).parameters.keys() - _OURS) | OPTION_NAMES
"""What may be said of the engine: arguments of `iModel` and `CallOptions`, but for those that a model has itself."""


def key_of(given: str | None, environ: Mapping[str, str]) -> str | None:
    """The key that was given, else the one of the environment.

    Raises:
      UsageError: the environment holds two that differ.
    """
    if given:
        return given
    found = [environ[name] for name in KEYS if environ.get(name)]
    if len(set(found)) > 1:
        raise UsageError(f"Conflicting API keys: {' and '.join(KEYS)} are both set and differ; unset one of them")
    return found[0] if found else None


def _checked(variable: str, usual: str) -> str:
    """An address of the environment, as a text that a request can go to.

    Raises:
      UsageError: it is none.
    """
    address = (os.environ.get(variable) or usual).strip().rstrip("/")
    try:
        parts = checked_address(address)
        fine = address.isascii() and not parts.query and path_at("", address) is not None
    except UsageError as error:
        raise UsageError(f"{variable}: {error.message}") from None
    if not fine:
        raise UsageError(
            f"{variable} is an address like {usual}, percent-encoded and without a query; nothing was sent"
        )
    return address


def access_of(key: str | None, settings: Mapping[str, Any] | None, model: str) -> Access:
    """A model's way to the platform. Without settings of its own all objects for one model share one: code written for
    the SDK makes an object for each request, and an engine remembers whom it has met."""
    if settings:
        return Access(key, settings)
    return _shared(key, os.environ.get("MODELS_RUN_URL"), os.environ.get("BACKEND_URL"), model)


@functools.lru_cache(maxsize=256)
def _shared(key: str | None, run_url: str | None, backend_url: str | None, model: str) -> Access:
    return Access(key)


class Access:
    """One model's way to the platform. `settings` are arguments of `iModel`: limits, `engine`, `hook_registry`, ...

    Raises:
      UsageError: a setting, an address or the key cannot be used.
    """

    def __init__(self, key: str | None, settings: Mapping[str, Any] | None = None) -> None:
        given = dict(settings or {})
        if refused := sorted(given.keys() - _SETTINGS):
            raise UsageError(
                f"settings are of the engine (limits, lane, hooks, ...), and {refused[0]!a:.60} is none; what is sent "
                "is said to the run"
            )
        self.run_url = _checked("MODELS_RUN_URL", RUN_URL)
        self.backend_url = _checked("BACKEND_URL", BACKEND_URL)
        self.key = Secret(key) if key else None
        run = urlsplit(self.run_url)
        self.runs = iModel(provider="aixplain", base_url=_origin(run), api_key=key, **given)
        self._options = self.runs.create_api_calling(model="any").options
        self._aside = LaneDescription(f"records of aixplain {self.backend_url}", quotas=(POLLS,))
        self._submits = self._caller("submit", self.run_url, "x-api-key", SUBMITTED)
        self._records = {auth: self._caller("records", f"{self.backend_url}/sdk", auth) for auth in _OF_RECORDS}
        # At each of the two addresses, who asks there once how a run stands, and who asks until it is over.
        self._asks = {
            url: (self._caller("poll", url, "x-api-key", _POLL), self._caller("run", url, "x-api-key", AIXPLAIN))
            for url in (self.runs.endpoint.spec.url, self.backend_url)
        }

    def _caller(self, name: str, url: str, auth: Auth, wire: WireFormat = DOCUMENTS) -> Caller:
        spec = msgspec.structs.replace(self.runs.endpoint.spec, endpoint=name, url=url, auth=auth, format=wire)
        if wire is SUBMITTED:
            return Caller(spec, self.runs.lane, key=self.key, hook_registry=self.runs.hook_registry)
        return Caller(spec, self._aside if wire.polls is None else None, key=self.key)

    @property
    def engine(self) -> Engine:
        """The engine its calls run in. Raises `EngineNotRunning` where there is none."""
        return self.runs.engine

    def now(self) -> float:
        """The time of the engine's clock. Raises `EngineNotRunning` where there is none, and so no trio perhaps."""
        self.engine  # noqa: B018  # raises
        return trio.current_time()

    def run_call(self, model: str, body: Mapping[str, Any], *, streaming: bool = False, **options: Any) -> Call:
        """A run whose answer is waited for. `options` are those of `CallOptions`."""
        path = f"{urlsplit(self.run_url.replace(_V1, _V2)).path.rstrip('/')}/{path_of(model)}"
        written = AIXPLAIN.written(path, body, streaming=streaming, count_text=self.runs._count_text)
        return Call(self.runs, model, written, self._with(options))

    def submit_call(self, model: str, body: Mapping[str, Any], **options: Any) -> Call:
        """A run of which only the beginning is waited for."""
        path = f"{urlsplit(self.run_url).path.rstrip('/')}/{path_of(model)}"
        written = SUBMITTED.written(path, body, count_text=self.runs._count_text)
        return Call(self._submits, model, written, self._with(options))

    def poll_call(self, url: str, *, waits: bool = False, **options: Any) -> Call | None:
        """One poll of this address, or, if it `waits`, as many as there must be until the run is over. None: it is of
        another origin than the two configured ones."""
        for address, (once, until_over) in self._asks.items():
            path = path_at(url, address)
            if path is not None:
                # A poll costs nothing, and the run behind it does.
                usual = {"max_attempts": ATTEMPTS, "on_unknown": "retry", "timeout_s": WITHIN_S}
                asks = until_over if waits else once
                return asks.call("GET", path, options=self._with({**usual, **options}))
        return None

    def record_call(self, method: str, path: str, *, auth: Auth, **options: Any) -> Call:
        """A call of the platform at this path below its address."""
        below = urlsplit(self.backend_url).path
        return self._records[auth].call(method, below + path, options=self._with(options))

    def check_key(self) -> None:
        """Raise `MissingKey` where there is none: for what makes no sense without one."""
        if self.key is None:
            names = " or ".join(KEYS)
            raise MissingKey(f"aixplain wants a key: set {names}, or pass api_key=. Nothing was sent.", variables=KEYS)

    def _with(self, options: Mapping[str, Any]) -> CallOptions:
        return msgspec.structs.replace(self._options, **options) if options else self._options


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"
