"""A provider that answers later: the request that asks for the answer, made of the one that asked for the work.

The provider says where to ask. A key is sent there, so only the origin that the call itself went to is asked (scheme,
host and port); any other address is refused, and nothing leaves. No sockets.
"""

from __future__ import annotations

import httpx
import msgspec

from actors.messages import EMPTY, APICalling, Fault, encode
from actors.retrying import next_poll_wait_us
from actors.transport import Answer
from engine.transports.streams import place_of


def request_path(calling: APICalling, url: httpx.URL) -> bytes:
    """Path and query of the request of a call to an endpoint at `url`."""
    path = calling.path.encode("ascii")
    if not path:
        return url.raw_path
    return path if path.startswith(b"/") else b"%b/%b" % (url.raw_path.rstrip(b"/"), path)


def with_poll(answer: Answer, calling: APICalling, address: str, endpoint: httpx.URL | str) -> Answer:
    """An answer with the verdict ``later`` to a call to an `endpoint`, and the poll that is to follow it, at `address`;
    empty: where this poll went. A failure, if that is at another origin, or nowhere. Any other answer as it is.

    The first poll follows at once, and the wait grows with every one that comes to nothing. A call that was a GET is
    itself the first. Where the answer will be stands in the reply's headers, as ``location``.
    """
    if answer.verdict == "retry" and calling.lane == calling.poll_lane:
        return msgspec.structs.replace(answer, exempt=True)  # what it asks for is there to be had
    if answer.verdict != "later":
        return answer
    endpoint = httpx.URL(endpoint)
    url = endpoint.copy_with(raw_path=request_path(calling, endpoint))
    polled = calling.method == "GET"
    path = path_at(address, url) if address or polled else None
    if path is None or not calling.poll_lane:
        return _refused(answer, address, url)
    poll = msgspec.structs.replace(
        calling,
        lane=calling.poll_lane,
        method="GET",
        path=path,
        input_tokens=0,
        output_tokens=0,
        streaming=False,
        body=EMPTY,
        poll_wait_us=next_poll_wait_us(calling.poll_wait_us) if polled else calling.poll_wait_us,
    )
    found = ("location", str(url.copy_with(raw_path=path.encode("ascii"))))
    return msgspec.structs.replace(
        answer,
        reply=msgspec.structs.replace(answer.reply, headers=(*answer.reply.headers, found)),
        poll_lane=poll.lane,
        poll_wait_us=calling.poll_wait_us if polled else 0,
        poll=encode(poll),
    )


def path_at(address: str, url: httpx.URL | str) -> str | None:
    """Path and query of an address, whole or relative to `url`, if it is of the same origin; else None."""
    url = httpx.URL(url)
    try:
        found = url.join(address)
        same = not found.userinfo and _origin(found) == _origin(url)  # which decodes the host, if it can be decoded
    except (httpx.InvalidURL, ValueError):
        return None
    return found.raw_path.decode("ascii") if same else None


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _refused(answer: Answer, address: str, url: httpx.URL) -> Answer:
    code, where = "no_poll_address", "there later, and not where"
    if address:
        code = "untrusted_poll_address"
        where = "at another address, which is not asked: only the origin that a call went to is sent its key"
    place, status = place_of(url.host, _origin(url)[2]), answer.reply.status
    message = f"{place} took the call and says that its answer will be {where}. The work was begun and may be billed."
    fault = Fault("MalformedReply", message, status=status, code=code, sent=True)
    reply = msgspec.structs.replace(answer.reply, fault=fault)
    return msgspec.structs.replace(answer, verdict="failed", charge="kept", reply=reply)
