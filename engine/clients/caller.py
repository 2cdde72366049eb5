"""Who a client's calls belong to, where no `iModel` fits: one account of a service, any path and method of it.

A `Caller` is to calls what `iModel` is: it names their account, their lane and the format that reads their answers. It
holds a key and shows none.
"""

from __future__ import annotations

import os
import re
from typing import Any

from engine.accounts import MAX_CONNECTIONS, Account, LaneDescription
from engine.call import NO_OPTIONS, Call, CallOptions
from engine.errors import InvalidCall
from engine.hooks import HookRegistry
from engine.providers.documents import json_body
from engine.providers.lookup import EndpointSpec, api_key
from engine.providers.wire import Encoded, WireFormat
from engine.secret import Secret
from engine.transports.client import HttpClient

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""Those whose answers have a body, which is what is read here."""
_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")


class Caller:
    """One account of a service and the lane its calls go through. Compared by identity, as models are.

    Without a lane of their own its calls are polls, and wait among those of their account. `key` is the key that was
    given; without one, the variables of `spec` are looked at when the first call is submitted.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        lane: LaneDescription | None,
        *,
        key: Secret | None = None,
        hook_registry: HookRegistry | None = None,
        exit_hook: bool = False,
        max_connections: int = MAX_CONNECTIONS,
        http_client: HttpClient | None = None,
    ) -> None:
        self.spec = spec
        self.lane = lane
        self.hook_registry = hook_registry if hook_registry is not None else HookRegistry()
        self.exit_hook = exit_hook
        self._key = key
        self._max_connections = max_connections
        self._http_client = http_client

    @property
    def lane_name(self) -> str:
        """What its lane is called."""
        return self.lane.name if self.lane is not None else f"polls of {self.spec.provider}"

    @property
    def endpoint_name(self) -> str:
        """What its account is called."""
        return f"{self.spec.provider} {self.spec.url}"

    @property
    def format(self) -> WireFormat:
        """What reads its answers."""
        return self.spec.format

    def account(self) -> Account:
        """The account, key included.

        Raises:
          MissingKey: the service wants a key, and there is none.
        """
        key = api_key(self.spec, self._key.reveal() if self._key is not None else None, os.environ)
        return Account(self.spec, Secret(key) if key is not None else None, self._max_connections, self._http_client)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        model: str = "",
        tokens: int = 0,
        options: CallOptions = NO_OPTIONS,
    ) -> Call:
        """A call of this path, made and not sent; the arguments are those of `request`.

        Raises:
          InvalidCall: as `request`.
        """
        return Call(self, model, self.request(method, path, body, tokens=tokens), options)

    @staticmethod
    def request(method: str, path: str, body: Any = None, *, tokens: int = 0) -> Encoded:
        """What a call of this path (with its query, percent-encoded) sends. `body` is written as JSON now, None is an
        empty one. `tokens` is what it counts as towards limits of tokens.

        Raises:
          InvalidCall: method or path cannot stand in a request, or the body cannot be written as JSON.
        """
        if method not in _METHODS:
            raise InvalidCall(f"{method!a:.40} is none of {', '.join(_METHODS)}; nothing was sent", argument="method")
        if not _PATH.fullmatch(path):
            raise InvalidCall(
                "a path begins with a slash and holds no spaces, no fragment and nothing but ASCII; percent-encode "
                "what is in it; nothing was sent",
                argument="path",
            )
        written = b"" if body is None else json_body(body)
        return Encoded(written, tokens, 0, streaming=False, method=method, path=path)

    def __repr__(self) -> str:
        return f"<Caller {self.endpoint_name}>"
