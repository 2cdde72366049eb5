"""What is held to one contract: the ways of a worker, and the transports a user of httpx can mount.

Of the latter httpx's own is the yardstick. It leaves generators suspended when something breaks off; ours is not
allowed to.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
from h11_server import Build
from scripted_server import open_sockets
from worker_ways import WAYS, Way

from engine.transports.pool import PooledTransport


def stock(context: ssl.SSLContext | None) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(verify=context or True)


def ours(context: ssl.SSLContext | None) -> httpx.AsyncBaseTransport:
    return PooledTransport(ssl_context=context)


@pytest.fixture(params=[pytest.param(stock, marks=pytest.mark.filterwarnings("ignore::ResourceWarning")), ours])
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """The transport under test; afterwards no socket is open, whatever the test did."""
    before = open_sockets()
    yield request.param
    assert open_sockets() == before


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """The way of a worker under test."""
    return WAYS[request.param]
