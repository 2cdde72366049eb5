"""From the names users type to an endpoint: which provider, which format, which whole address, which key.

A name that is not in the catalogue is taken for a service that speaks OpenAI's formats at the address given with it.
What belongs to a format that is not spoken here is refused with a sentence, never sent a request it would not
understand. Providers of a user's own are registered here, once for the process.

Pure but for that table: no trio, no httpx, no I/O; the environment is passed in. No key is shown in any message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from engine.errors import MissingKey, UnknownEndpoint, UsageError
from engine.providers.agents import AGENTS
from engine.providers.catalogue import COMPATIBLE, PROVIDERS, Auth, Defaults, EndpointRow, Provider
from engine.providers.wire import WireFormat


class EndpointSpec(msgspec.Struct, frozen=True):
    """Where a call goes and in which language. Holds no key, so it can be shown and compared.

    `url` is the whole address of a POST, `headers` go with it. `local`: it is on this machine or network, where no key
    is needed. `defaults` are the provider's own at its own address, and nothing at another. `is_cli`: an agent is run
    on this machine, and nothing is posted; `url` is then the service that it asks, empty where that is its business.
    """

    provider: str
    endpoint: str
    format: WireFormat
    url: str
    auth: Auth
    key_env: tuple[str, ...]
    key_required: bool
    local: bool
    headers: tuple[tuple[str, str], ...] = ()
    defaults: Defaults = Defaults()
    is_cli: bool = False

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What it is, without what headers hold: that may be a key."""
        names = [name for name, _ in self.headers]
        return [("provider", self.provider), ("endpoint", self.endpoint), ("url", self.url), ("headers", names)]

    def __repr__(self) -> str:
        return f"EndpointSpec({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def canonical(name: str) -> str:
    """A provider's name as it is compared: names ignore case, and ``-`` and spaces are ``_``."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


_KNOWN = (*PROVIDERS, *AGENTS)
_CATALOGUE = frozenset(row.name for row in _KNOWN)
_registered: dict[str, Provider] = {row.name: row for row in _KNOWN}
_aliases = {canonical(alias): row.name for row in _KNOWN for alias in row.aliases}


def registered_providers() -> tuple[Provider, ...]:
    """Every provider that is known by name: those of the catalogue first."""
    return tuple(_registered.values())


def register_provider(provider: Provider) -> None:
    """Make a provider of your own known by name, in this process. Registered again, it is replaced.

        register_provider(
            Provider(
                name="acme",
                base_url="https://api.acme.example/v1",
                key_env=("ACME_API_KEY",),
                endpoints=(EndpointRow(name="chat", format=OpenAIChat(Dialect("acme"))),),
            )
        )
        model = iModel(provider="acme", model="roadrunner-1")

    Raises:
      UsageError: its name or an alias belongs to another provider.
      UnknownEndpoint: its address cannot be used.
    """
    if not isinstance(provider, Provider):
        raise UsageError(f"register_provider takes a Provider, not {type(provider).__name__}")
    names = [canonical(name) for name in (provider.name, *provider.aliases)]
    for name in names:
        owner = _aliases.get(name, name)
        if not name or owner in _CATALOGUE or (owner in _registered and owner != names[0]):
            raise UsageError(f"the name {name!r} belongs to the provider {owner or 'of no name'!r}; choose another")
    checked_address(provider.base_url)
    for alias in [alias for alias, name in _aliases.items() if name == names[0]]:
        del _aliases[alias]
    _registered[names[0]] = msgspec.structs.replace(provider, name=names[0])
    _aliases.update(dict.fromkeys(names[1:], names[0]))


def split_model(model: str, provider: str | None = None) -> tuple[str, str]:
    """The provider and the model that ``"anthropic/claude-x"`` means: ``("anthropic", "claude-x")``.

    Only the first ``provider/`` is cut off, and only where no provider is given; a given one leaves the model whole
    (``openai/gpt-oss-120b`` is a model of Groq's). Without a slash, or with nothing before it, the provider is openai.
    """
    if provider is not None:
        return provider, model
    prefix, slash, rest = model.partition("/")
    return (prefix, rest) if slash and prefix.strip() else ("openai", model)


def find(provider: str, endpoint: str = "chat", *, compatible: bool) -> tuple[Provider, EndpointRow]:
    """The rows that these names mean. `compatible`: an unknown provider is taken for one that speaks OpenAI's formats.

    Raises:
      UnknownEndpoint: no such provider, or no such endpoint.
    """
    names: tuple[object, ...] = (provider, endpoint)
    if not all(isinstance(name, str) for name in names):
        raise UnknownEndpoint("provider and endpoint are names, texts like 'openai' and 'chat'. Nothing was sent.")
    given = canonical(provider)
    name = _aliases.get(given, given)
    if not name:
        raise UnknownEndpoint('provider is empty; pass provider="openai" or another name')
    found = _registered.get(name)
    if found is None and not compatible:
        raise UnknownEndpoint(
            f"unknown provider {name!r}; known are {_known()}. For any other service that speaks OpenAI's "
            "formats, pass its address as base_url. Nothing was sent."
        )
    if found is None:
        key_env = (f"{re.sub(r'[^A-Z0-9]', '_', name.upper())}_API_KEY",)
        found = msgspec.structs.replace(COMPATIBLE, name=name, key_env=key_env)
    row = found.find(endpoint.strip().strip("/").lower())
    only = found.endpoints[0] if len(found.endpoints) == 1 else None
    if row is None and only is not None and (endpoint.strip().lower() == "chat" or only.any_name):
        row = only  # "chat" is what nobody said, and there is no choice
    if row is None:
        there_are = ", ".join(repr(row.name) for row in found.endpoints)
        raise UnknownEndpoint(
            f"{name} has no endpoint {endpoint!r}; there is: {there_are}; pass one as endpoint=. Nothing was sent."
        )
    return found, row


def resolve(
    provider: str,
    endpoint: str = "chat",
    base_url: str | None = None,
    headers: Mapping[str, str] | None = None,
    auth: Auth | None = None,
) -> EndpointSpec:
    """Find where calls of this provider and endpoint go. Names ignore case; ``-`` is ``_``.

    `base_url` replaces the provider's address; the path is appended to it, so a prefix of a proxy's stays. `headers`
    are added to the provider's, or replace them, and `auth` replaces its way to send the key.

    Raises:
      UnknownEndpoint: no such provider (and no `base_url`), no such endpoint, or an address that cannot be used.
      UsageError: headers for an agent, which sends none of ours.
    """
    found, row = find(provider, endpoint, compatible=base_url is not None)
    if row.is_cli:
        return _agent(found, row, base_url, headers)
    parts = checked_address(found.base_url if base_url is None else base_url)
    own = urlsplit(found.base_url)
    if parts.netloc == own.netloc and parts.path in ("", "/"):
        parts = parts._replace(path=own.path)  # the provider's host alone, as some of the vendors' clients are told it
    wire: WireFormat = row.format
    merged = dict(found.headers)
    if headers:
        merged.update((name.lower(), value) for name, value in headers.items())
        wire = wire.headed(merged)
    local = is_local(parts.hostname or "")
    return EndpointSpec(
        provider=found.name,
        endpoint=row.name,
        format=wire,
        url=parts._replace(path=_joined(parts.path, row.path or wire.path)).geturl(),
        auth=auth or found.auth,
        key_env=found.key_env,
        key_required=found.key_required and not local and auth != "none",
        local=local,
        headers=tuple(merged.items()),
        defaults=row.defaults if parts.netloc == own.netloc else Defaults(timeout_s=row.defaults.timeout_s),
    )


def _agent(found: Provider, row: EndpointRow, base_url: str | None, headers: Mapping[str, str] | None) -> EndpointSpec:
    """Where an agent runs: here, whatever service it asks. Its key may be the login of its program."""
    if headers:
        raise UsageError(
            f"{found.name} is an agent's program, which sends no headers of ours; leave default_headers out"
        )
    parts = checked_address(base_url) if base_url is not None else urlsplit(found.base_url)
    return EndpointSpec(
        provider=found.name,
        endpoint=row.name,
        format=row.format,
        url=parts.geturl().removesuffix("/"),
        auth="none",
        key_env=found.key_env,
        key_required=False,
        local=False,
        defaults=row.defaults,
        is_cli=True,
    )


def agent_row(provider: str) -> EndpointRow | None:
    """The endpoint of an agent of that name or alias; None if it is none."""
    name = canonical(provider)
    found = _registered.get(_aliases.get(name, name))
    return found.endpoints[0] if found is not None and found.endpoints[0].is_cli else None


def is_own_address(spec: EndpointSpec) -> bool:
    """Whether calls go to the provider's own host, as this program knows it."""
    try:
        own = urlsplit(resolve(spec.provider, spec.endpoint).url)
    except UnknownEndpoint:
        return False
    there = urlsplit(spec.url)
    return (own.scheme, own.netloc) == (there.scheme, there.netloc)


_LAST_VERSION = re.compile(r"/v\d\w*$")
_VERSION = re.compile(r"/(?:v\d\w*|api)(?=/)")
"""How a path begins that users take for a part of the address."""


def _joined(base: str, path: str) -> str:
    """The path behind an address, without what the address already ends with: users write it with ``/v1`` and without,
    and some paste the whole of it."""
    base = base.removesuffix("/")
    if base.endswith(path):
        return base
    version = _VERSION.match(path)
    if version is None:
        return base + path
    # Whichever version the address ends with, the path's is the one this format speaks.
    return _LAST_VERSION.sub("", base.removesuffix(version[0])) + path


def api_key(spec: EndpointSpec, explicit: str | None, environ: Mapping[str, str]) -> str | None:
    """The key to use: the explicit one, else the first of the endpoint's variables that is set. None: without a key.

    White space around it is dropped (a file's last line end is the usual case).

    Raises:
      MissingKey: there is none and this endpoint wants one, or it cannot stand in a header. Nothing was sent.
    """
    found, source = explicit, "api_key"
    for variable in spec.key_env:
        if not found or not found.strip():
            found, source = environ.get(variable), variable
    key = (found or "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise MissingKey(
            f"the key in {source} holds characters that no key has (spaces, line ends or non-ASCII ones); "
            "check what was pasted. Nothing was sent.",
            variables=spec.key_env,
        )
    if not key and spec.key_required:
        wanted = f"set {' or '.join(spec.key_env)}, or pass api_key=" if spec.key_env else "pass api_key="
        raise MissingKey(f"{spec.provider} wants a key: {wanted}. Nothing was sent.", variables=spec.key_env)
    return key or None


def request_headers(spec: EndpointSpec, key: str | None) -> dict[str, str]:
    """The endpoint's own headers, and the one that carries the key: for the transport alone, never to be shown."""
    headers = dict(spec.headers)
    if key is None or spec.auth == "none":
        return headers
    if spec.auth == "x-api-key":
        return headers | {"x-api-key": key}
    return headers | {"authorization": f"{'Token' if spec.auth == 'token' else 'Bearer'} {key}"}


def _known() -> str:
    return ", ".join(_registered)


# Names that keys travel under in an address, where every log on the way would hold them.
_KEY_PARAMETER = re.compile(r"(^|[_-])(api)?(key|token|sig|signature|secret|password)$", re.IGNORECASE)


def checked_address(base_url: str) -> SplitResult:
    """The address in parts, if it is one. What is wrong with it is said without quoting it: it may hold a password."""
    text = base_url.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname
    except ValueError:
        raise UnknownEndpoint("base_url is not a valid address: its host or port cannot be read") from None
    problem = ""
    if parts.scheme not in ("http", "https"):
        problem = 'must begin with "http://" or "https://"'
    elif "@" in parts.netloc:
        problem = "holds a user name or a password; pass the key as api_key instead"
    elif not host or port == 0:
        problem = "names no host to connect to, or port 0"
    elif re.search(r"[\x00-\x20\x7f]", text):
        problem = "holds a space or a control character"
    elif parts.fragment:
        problem = "holds a fragment (#...), which is never sent"
    elif any(_KEY_PARAMETER.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        problem = "holds a key in its query, where logs would show it; pass it as api_key instead"
    if problem:
        raise UnknownEndpoint(f"base_url {problem}; an example is https://host.example/v1. Nothing was sent.")
    return parts


def is_local(host: str) -> bool:
    """Whether a host is this machine or one of a private network: there a service usually wants no key."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
    return address.is_private or address.is_loopback or address.is_link_local
