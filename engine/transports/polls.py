"""A provider that answers later: the request that asks for the answer, made of the one that asked for the work.

The provider says where to ask. A key is sent there, so only the origin that the call itself went to is asked (scheme,
host and port); any other address is refused, and nothing leaves. No sockets.
"""

from __future__ import annotations

import httpx
import msgspec

from actors.messages import EMPTY, APICalling
from actors.retrying import next_poll_wait_us


def poll_of(calling: APICalling, address: str, url: httpx.URL) -> tuple[APICalling, int] | None:
    """The next poll of a call that went to `url`, and the wait before it, in microseconds; None: not at this address.

    The first poll follows at once, and the wait grows with every one that comes to nothing. An empty address is that of
    the poll itself; where the work was asked for it is none.
    """
    again = calling.lane == calling.poll_lane
    path = _path_at(address, url) if address else calling.path if again else None
    if path is None:
        return None
    wait_us = calling.poll_wait_us if again else 0
    poll = msgspec.structs.replace(
        calling,
        lane=calling.poll_lane,
        method="GET",
        path=path,
        input_tokens=0,
        output_tokens=0,
        streaming=False,
        body=EMPTY,
        poll_wait_us=next_poll_wait_us(calling.poll_wait_us) if again else calling.poll_wait_us,
    )
    return poll, wait_us


def _path_at(address: str, url: httpx.URL) -> str | None:
    """Path and query of an address, if it is one of the same origin."""
    try:
        found = url.join(address)
    except (httpx.InvalidURL, ValueError):
        return None
    if found.userinfo or _origin(found) != _origin(url):
        return None
    return found.raw_path.decode("ascii")


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
