"""Which transport reaches an account: our own wire or httpx's for a service, a process or a thread for an agent.

This is where a `TransportFactory` of a user's own takes over (`open_engine(transport=...)`). What each transport does
is its own file's to say, in `engine.transports`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from actors.messages import APICalling
from actors.transport import Transport
from engine.accounts import Account
from engine.agents.agent import Program
from engine.agents.format import AgentFormat
from engine.config import EngineSection
from engine.errors import UsageError
from engine.providers.lookup import EndpointSpec, request_headers, resolve
from engine.providers.wire import Usage
from engine.transports.ag2 import Ag2Transport, installed
from engine.transports.client import ClientTransport
from engine.transports.http import HttpTransport
from engine.transports.process import ProcessTransport
from engine.transports.programs import find, home_of
from engine.transports.proxies import environment_proxy

OnUsage: TypeAlias = Callable[[APICalling, Usage], None]
TransportFactory: TypeAlias = Callable[[Account, OnUsage], Transport]
"""Makes the transport of one provider account; it is to call the second argument with every usage it reads."""


def usual_transports(section: EngineSection) -> TransportFactory:
    """The usual transports. Whether a proxy stands before an address is looked up once, when its account is opened."""

    def make(account: Account, on_usage: OnUsage) -> Transport:
        if account.spec.is_cli:
            return _agent(account, on_usage)
        return _http(account, on_usage, section)

    return make


def check_installed(spec: EndpointSpec) -> None:
    """Refuse an agent that is not installed. Nothing is started.

    Raises:
      AgentNotInstalled: it is not, and how it is.
    """
    agent = spec.format.agent if isinstance(spec.format, AgentFormat) else None
    if isinstance(agent, Program):
        find(agent, os.environ, home_of(os.environ))
    elif agent is not None:
        installed()


def _agent(account: Account, on_usage: OnUsage) -> Transport:
    """An agent on this machine. An address of its own is told to it, its provider's it knows.

    Raises:
      UsageError: it is not installed, and how it is; or it was given a client, which it has no use for.
    """
    spec = account.spec
    if account.http_client is not None:
        raise UsageError(f"{spec.provider} is an agent's program, which uses no client of ours; leave http_client out")
    agent = spec.format.agent if isinstance(spec.format, AgentFormat) else None
    if isinstance(agent, Program):
        base_url = "" if spec.url == resolve(spec.provider).url else spec.url
        return ProcessTransport(agent, base_url=base_url, key=account.key, on_usage=on_usage)
    return Ag2Transport(base_url=spec.url, key=account.key, on_usage=on_usage)


def _http(account: Account, on_usage: OnUsage, section: EngineSection) -> Transport:
    url, client = account.spec.url, account.http_client
    headers = request_headers(account.spec, account.key.reveal() if account.key is not None else None)
    proxy = environment_proxy(url) if client is None and section.http != "own" else None
    if client is None and proxy is None and not section.http2 and section.http != "httpx":
        return HttpTransport(
            url=url,
            headers=headers,
            format=account.spec.format,
            on_usage=on_usage,
            call_header=account.spec.local,
            provider=account.spec.provider,
        )
    return ClientTransport(
        url=url,
        headers=headers,
        format=account.spec.format,
        proxy=proxy,
        http2=section.http2,
        client=client,
        on_usage=on_usage,
        call_header=account.spec.local,
        provider=account.spec.provider,
    )
