"""Where the calls of one account go and what comes of their answers: what every way to speak HTTP has in common.

A `Target` is one address with one key: the headers of its requests, and the `Answer` for whatever happened to a request
(its response read, cut off, or too large). How the bytes travel is for `engine.transports.http`, a wire of our own, and
`engine.transports.client`, that of httpx.

The key is in the headers of every request and nowhere else: no repr and no message holds it, and of an answer only the
body, which is the provider's own and left as it came. No sockets.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.metadata
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import httpx

from actors.clock import now_us
from actors.errors import UsageError
from actors.messages import APICalling, Observed
from actors.transport import Answer
from engine.log import debugging, log
from engine.providers.limit_headers import read_limits
from engine.secret import Secret
from engine.transports.answers import Undecodable, answer_of, decompressed, lost_answer, without
from engine.transports.polls import request_path, with_poll
from engine.transports.streams import place_of

if TYPE_CHECKING:
    from engine.providers.wire import Reading, Usage, WireFormat

CAP_BYTES = 64 * 1024 * 1024
SHORTEST_SECRET = 6

RawHeaders = Iterable[tuple[bytes, bytes]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
_SECRET = re.compile(r"auth|key|secret|credential|cookie|passw|token", re.IGNORECASE)
_CACHED_BYTES = 64
_FRAMING = frozenset({"content-length", "transfer-encoding", "host", "connection"})
"""Headers that say where a request ends or goes: a second one of them makes it two things to two readers."""


@functools.cache
def user_agent() -> str:
    """The name and version this project goes by on the wire."""
    try:
        return f"penstock/{importlib.metadata.version('penstock')}"
    except importlib.metadata.PackageNotFoundError:
        return "penstock"


class Target:
    """One address and one key. For the arguments see `HttpTransport`; `hidden` are further secrets, which no answer may
    repeat.

    `headers` are those of every request, ready for the wire; `place` is what messages call the address.

    Raises:
      UsageError: the address or a header cannot be used; the message names it and never shows a header's value.
    """

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        format: WireFormat,  # noqa: A002  # the word for it everywhere else
        on_usage: Callable[[APICalling, Usage], None] | None = None,
        cap_bytes: int = CAP_BYTES,
        hidden: Iterable[str] = (),
        provider: str = "",
    ) -> None:
        self.url, signed = _address(url)
        lowered = {name.lower(): value.strip() for name, value in headers.items()}
        for name in _FRAMING & lowered.keys():
            raise UsageError(f"the header {name!r} is written for each request and cannot be set. Nothing was sent.")
        merged = {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "content-type": "application/json",
            "user-agent": user_agent(),
            **signed,
            **lowered,
        }
        self.headers = [_checked(name, value) for name, value in merged.items()]
        password = httpx.URL(url).password
        self.secrets = (*_secrets(merged), *hidden, *([password] if len(password) >= SHORTEST_SECRET else []))
        self._known = [Secret(secret) for secret in self.secrets]  # `masked` knows them while this is held
        self.cap_bytes = cap_bytes
        self.host = self.url.raw_host.decode("ascii")
        self.port = self.url.port or (443 if self.url.scheme == "https" else 80)
        self.place = place_of(self.url.host, self.port)
        self.format = format
        self.provider = provider
        self._on_usage = on_usage

    def clean(self, text: str) -> str:
        """A text that others composed, without the secrets in it."""
        return without(text, self.secrets)

    def path_of(self, calling: APICalling) -> bytes:
        """Path and query of a call's request."""
        return request_path(calling, self.url)

    def note_request(self, calling: APICalling) -> int:
        """A line in the log for a request that is about to leave. When that was, or -1 if nobody reads it."""
        if not debugging():
            return -1
        streaming = {"streaming": True} if calling.streaming else {}
        log.debug("request", call=calling.call_id, to=self.place, body_bytes=len(calling.body), **streaming)
        return now_us()

    def note_answer(self, calling: APICalling, answer: Answer, begun_us: int) -> None:
        """The line for what came of it. A status of 0: none was heard; `verdict` says what is done next."""
        if begun_us >= 0 and debugging():
            fields = shown(answer)
            ms = (now_us() - begun_us) // 1000
            log.debug("answer", call=calling.call_id, to=self.place, status=answer.reply.status, ms=ms, **fields)

    def note_no_connection(self, reason: str) -> None:
        """The line for a request that found nobody."""
        if debugging():
            log.debug("connection failed", to=self.place, error=reason)

    def answer(self, calling: APICalling, status: int, headers: RawHeaders, body: bytes, *, keep: bool) -> Answer:
        """The answer for a response that arrived whole. `keep` says whether its connection could serve another call."""
        named = by_name(headers)
        shown, flaw = body, ""
        coding = named.get("content-encoding", "")
        if coding and body:
            try:
                body = shown = decompressed(body, coding, cap_bytes=self.cap_bytes)
            except Undecodable as error:
                body, flaw, keep = b"", str(error), False
        read = self.format.read_poll if calling.poll_lane and calling.method == "GET" else self.format.read
        reading = read(status, named, body, now_s=time.time())
        self.learn(calling, reading)
        observed = self.limits_in(named)
        answer = answer_of(
            reading, status=status, body=shown, keep=keep, flaw=flaw, secrets=self.secrets, observed=observed
        )
        return with_poll(answer, calling, reading.poll, self.url)

    def limits_in(self, headers: Mapping[str, str]) -> tuple[Observed, ...]:
        """What an answer's headers, by lower-case name, say of the provider's limits."""
        return read_limits(self.provider, headers, time.time())

    def learn(self, calling: APICalling, reading: Reading) -> None:
        """Tell of the usage an answer reports, if anybody wants to know."""
        if reading.usage is not None and self._on_usage is not None:
            self._on_usage(calling, reading.usage)

    def lost(self, status: int, headers: RawHeaders, reason: str) -> Answer:
        """The answer for a request that left, and whose response did not arrive whole."""
        if status >= 400:
            # The provider refused, and said so before the line broke: the status tells what to do next.
            named = by_name(headers)
            reading = self.format.read(status, named, b"", now_s=time.time())
            observed = self.limits_in(named)
            return answer_of(reading, status=status, body=b"", keep=False, secrets=self.secrets, observed=observed)
        message = f"{self.place} gave no complete answer ({reason}). The request had left, so it may have been billed."
        return lost_answer(message, status=status, secrets=self.secrets)

    def too_large(self, status: int, headers: RawHeaders) -> Answer:
        """The answer for a request whose response holds more than the cap."""
        if status >= 400:
            return self.lost(status, headers, "too large")
        message = (
            f"{self.place} sent an answer of more than {self.cap_bytes} bytes, which was not read to its end. The "
            "request was served, so it may have been billed. Ask for less at a time."
        )
        # Not "unknown": another attempt would be as large, and billed again.
        return lost_answer(message, status=status, verdict="failed", secrets=self.secrets)

    def __str__(self) -> str:
        path = self.url.raw_path.partition(b"?")[0].decode("ascii")
        return f"POST {self.url.scheme}://{self.place}{path}"


def shown(answer: Answer) -> dict[str, object]:
    """What a line about an answer says of it, as far as there is any."""
    reply, fault = answer.reply, answer.reply.fault
    request_id = next((value for name, value in reply.headers if name.endswith("request-id")), "")
    wait_s = None if answer.hint_us is None else answer.hint_us / 1e6
    fields = {
        "verdict": answer.verdict,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "error": fault.kind if fault is not None else None,
        "code": fault.code if fault is not None else None,
        "too_many": answer.refused or "said" if answer.barrier else None,
        "wait_s": wait_s,
        "request_id": (fault.request_id if fault is not None else "") or request_id,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _lower(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


_name = functools.lru_cache(maxsize=1024)(_lower)


def by_name(raw: RawHeaders) -> dict[str, str]:
    """Response headers by lower-case name; repeated ones joined as RFC 9110, section 5.3, joins them."""
    headers: dict[str, str] = {}
    for name, value in raw:
        # A server that makes up names must not fill the memory with them.
        key = _name(name) if len(name) <= _CACHED_BYTES else _lower(name)
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _address(url: str) -> tuple[httpx.URL, dict[str, str]]:
    """The address without user name and password, and the header these make."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        # Not quoted, and nor is what httpx says of it: a key may be in it.
        raise UsageError("the address of the endpoint is no valid URL. Nothing was sent.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < (parsed.port or 1) < 65_536:
        raise UsageError(
            f"the address of the endpoint must be like https://host/path, and {parsed.scheme or 'no scheme'!r} with "
            f"host {parsed.host!r} and port {parsed.port} is not. Nothing was sent."
        )
    if not parsed.userinfo:
        return parsed, {}
    return parsed.copy_with(username=None, password=None), {"authorization": basic(parsed.username, parsed.password)}


def basic(username: str, password: str) -> str:
    """A user name and a password as the header of an HTTP request holds them."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


def _checked(name: str, value: str) -> tuple[bytes, bytes]:
    """A header as bytes. Checked here because h11's complaint about a bad value quotes the value, and that is a key."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name a header can have. Nothing was sent.")
    if not _VALUE.fullmatch(value):
        raise UsageError(
            f"the value for the header {name!r} holds a character that HTTP does not allow, such as a line break "
            "(the value is not shown: it may be a key). Nothing was sent."
        )
    return name.encode("ascii"), value.encode("latin-1")


def _secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """What must not be repeated: the values of the headers that look like keys, longest form first."""
    for name, value in headers.items():
        if _SECRET.search(name) and len(value) >= SHORTEST_SECRET:
            yield value
            with contextlib.suppress(IndexError):
                last = value.split()[-1]
                if last != value and len(last) >= SHORTEST_SECRET:
                    yield last
