"""Replies of HTTP/1.1 as bytes with what a reader must make of them, drawn by Hypothesis; and a reader fed in pieces.

Every framing: length, chunks with extensions and trailers, until the end; interim responses before; no body by status
or by method; HTTP/1.0; keep-alive either way; bytes behind the end. A reply says itself what is expected of it, so that
nothing here reads HTTP. Imports Hypothesis and the reader; no sockets.
"""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st

from engine.transports.http1 import ResponseReader

EXPLORE = int(os.environ.get("PENSTOCK_EXPLORE", "0"))
CAP_BYTES = 100_000

Headers = list[tuple[bytes, bytes]]


def run_settings(examples: int) -> settings:
    """The same replies every time; `PENSTOCK_EXPLORE=20` draws new ones, twenty times as many."""
    return settings(
        max_examples=examples * max(1, EXPLORE), derandomize=not EXPLORE, deadline=None, database=None
    )  # fmt: skip


class Reply(NamedTuple):
    """`message` ends where the response does; `behind` came after it."""

    message: bytes
    behind: bytes
    bodiless: bool
    until_end: bool
    status: int
    reason: bytes
    headers: Headers
    body: bytes
    clean: bool

    @property
    def raw(self) -> bytes:
        return self.message + self.behind


class Heard(NamedTuple):
    """What a reader made of it."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes
    complete: bool
    clean: bool


def expected(reply: Reply) -> Heard:
    return Heard(reply.status, reply.reason, reply.headers, reply.body, True, reply.clean)


def pieces(raw: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`raw` cut at these places; several cuts at one place make no empty piece."""
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[start:stop] for start, stop in itertools.pairwise(places)]


def read(parts: Sequence[bytes], *, ends: bool, bodiless: bool = False, cap_bytes: int = CAP_BYTES) -> Heard:
    """Feed a reader with these pieces; with `ends` the other side closes behind them."""
    reader = ResponseReader(cap_bytes=cap_bytes, bodiless=bodiless)
    for part in parts:
        reader.feed(part)
    if ends:
        reader.end()
        assert reader.complete, "after the end there is nothing to wait for"
    return Heard(reader.status, reader.reason, reader.headers, b"".join(reader.parts), reader.complete, reader.clean)


# --- what a reply is made of -----------------------------------------------------------------------------------------

NAMES = st.sampled_from([b"X-A", b"x-request-id", b"Content-Encoding", b"Set-Cookie", b"x-penstock-%d!#$&'*+.^_`|~"])
VALUES = st.one_of(
    st.sampled_from([b"", b"gzip", b"a b\tc", b"HTTP/1.1 200 OK", b"a=b; Path=/", b"\xff\x80"]),
    st.binary(max_size=12).map(lambda raw: bytes(33 + byte % 94 for byte in raw)),
)
PADDING = st.sampled_from([b"", b" ", b"\t", b"  \t"])
HEADERS = st.lists(st.tuples(NAMES, PADDING, VALUES, PADDING), max_size=4)
REASONS = st.sampled_from([b"", b"OK", b"Too Many Requests", b"Fran\xe7ais"])
BODIES = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda raw: gzip.compress(raw, mtime=0)),
    st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b'{"usage": [7, 11]}']),
)
BEHIND = st.one_of(
    st.just(b""),
    st.sampled_from([b"\x00", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\r\nx", b"H"]),
    st.binary(max_size=9).filter(lambda raw: not raw or raw.strip(b"\r\n")),
)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b c"'])


def head(version: bytes, status: int, reason: bytes, lines: list[bytes]) -> bytes:
    first = b"HTTP/%b %d %b" % (version, status, reason)
    return b"\r\n".join([first, *lines, b"", b""])


@st.composite
def padded(draw: st.DrawFn) -> tuple[list[bytes], Headers]:
    """Header lines with white space around their values, and what they say without it."""
    drawn = draw(HEADERS)
    lines = [name + b":" + before + value + after for name, before, value, after in drawn]
    return lines, [(name, value) for name, _, value, _ in drawn]


@st.composite
def interims(draw: st.DrawFn) -> bytes:
    each = draw(st.lists(st.tuples(st.sampled_from([100, 102, 103, 199]), REASONS, padded()), max_size=2))
    return b"".join(head(b"1.1", status, reason, lines) for status, reason, (lines, _) in each)


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    chunks = []
    for part in pieces(body, draw(st.lists(st.integers(0, 100), max_size=4))):
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(part)
        chunks.append(size + draw(EXTENSIONS) + b"\r\n" + part + b"\r\n")
    trailers, _ = draw(padded())
    return b"".join([*chunks, b"0", draw(EXTENSIONS), b"\r\n", *(line + b"\r\n" for line in trailers), b"\r\n"])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Any reply that a reader must understand."""
    lines, headers = draw(padded())
    status = draw(st.sampled_from([200, 200, 200, 429, 503, 204, 304, 600]))
    reason, body = draw(REASONS), draw(BODIES)
    bodiless = draw(st.sampled_from([False, False, False, True]))
    empty = bodiless or status in (204, 304)
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    version = b"1.1" if framing == "chunked" else draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    asked = draw(st.sampled_from([b"", b"", b"close", b"keep-alive", b"Keep-Alive", b"CLOSE"]))
    length = b"%d" % len(body)
    more = {"length": [(b"Content-Length", length)], "chunked": [(b"transfer-Encoding", b"Chunked")], "end": []}[
        framing
    ]
    if asked:
        more.append((b"CONNECTION", asked))
    headers = headers + more
    lines = lines + [b"%b: %b" % pair for pair in more]
    start = draw(interims()) + head(version, status, reason, lines)
    until_end = framing == "end" and not empty
    wire = b"" if empty else draw(chunked(body)) if framing == "chunked" else body
    keep = asked.lower() != b"close" if version == b"1.1" else asked.lower() == b"keep-alive"
    if bodiless and (framing == "chunked" or (framing == "end" and status not in (204, 304))):
        keep = False  # not told for certain where it ends
    behind = b"" if until_end else draw(BEHIND)
    clean = keep and not until_end and not behind
    return Reply(start + wire, behind, bodiless, until_end, status, reason, headers, b"" if empty else body, clean)
