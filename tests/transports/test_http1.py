"""The reader of responses: the same in any pieces, and nothing but its three signals for bytes that are no response.

Pure: bytes in, a verdict out. What is fed is built by `http1_replies` together with what must come out of it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from http1_replies import CAP_BYTES, Heard, Reply, expected, pieces, read, replies, run_settings
from hypothesis import event, given
from hypothesis import strategies as st

from engine.transports.http1 import HEAD_BYTES, Cut, NotHttp, ResponseReader, TooLarge

CUTS = st.lists(st.integers(0, 10_000), max_size=12)
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

# --- the same in any pieces ------------------------------------------------------------------------------------------


@run_settings(100)
@given(replies())
def test_a_reply_cut_in_two_anywhere_is_the_same_reply(reply: Reply) -> None:
    raw = reply.raw
    event(f"{len(raw) // 100}00 bytes")
    for cut in range(len(raw) + 1):
        assert read(pieces(raw, [cut]), ends=reply.until_end, bodiless=reply.bodiless) == expected(reply)


@run_settings(150)
@given(replies(), CUTS)
def test_a_reply_in_any_pieces_is_the_same_reply(reply: Reply, cuts: list[int]) -> None:
    raw = reply.raw
    for parts in (pieces(raw, cuts), pieces(raw, range(len(raw)))):
        assert read(parts, ends=reply.until_end, bodiless=reply.bodiless) == expected(reply)


@run_settings(150)
@given(replies(), CUTS)
def test_a_connection_that_ended_is_never_clean(reply: Reply, cuts: list[int]) -> None:
    heard = read(pieces(reply.raw, cuts), ends=True, bodiless=reply.bodiless)
    assert heard == expected(reply)._replace(clean=False)


@run_settings(50)
@given(replies())
def test_a_reply_that_ends_anywhere_before_its_end_is_cut(reply: Reply) -> None:
    head_bytes = len(reply.message) - len(reply.body) if reply.until_end else len(reply.message)
    for stop in range(len(reply.message)):
        parts = [reply.message[:stop]]
        if stop < head_bytes:
            with pytest.raises(Cut):
                read(parts, ends=True, bodiless=reply.bodiless)
            assert not read(parts, ends=False, bodiless=reply.bodiless).complete
        else:
            assert read(parts, ends=True).body == reply.body[: stop - head_bytes]


@pytest.mark.parametrize("line_ends", [b"\r\n", b"\n", b"\r\n\r\n"])
def test_line_ends_behind_the_end_are_nothing(line_ends: bytes) -> None:
    for cut in range(len(OK + line_ends) + 1):
        assert read(pieces(OK + line_ends, [cut]), ends=False).clean


# --- what is no response ---------------------------------------------------------------------------------------------

REFUSED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a request": b"POST / HTTP/1.1\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below 100, with a body": b"HTTP/1.1 050 No\r\nContent-Length: 3\r\n\r\nabc" + OK,
    "status 0": b"HTTP/1.1 000 No\r\n\r\n" + OK,
    "other protocols from here on": b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "101 that names no protocol": b"HTTP/1.1 101 Go\r\n\r\n" + OK,
    "a body of an interim response": b"HTTP/1.1 100 Go\r\nContent-Length: 3\r\n\r\nabc" + OK,
    "a header without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "a header in two lines": b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\n\r\n",
    "white space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nx-a: \x00\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": CHUNKS[:-2] + b"Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a length beyond 64 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "a chunk's size beyond 64 bits": CHUNKS + b"FFFFFFFFFFFFFFFFFF\r\n{}",
    "a chunk that is longer than its size": CHUNKS + b"1\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_response_is_refused_in_any_pieces(name: str) -> None:
    raw = REFUSED[name]
    for parts in ([raw], pieces(raw, range(len(raw)))):
        with pytest.raises(NotHttp):
            read(parts, ends=False)


@pytest.mark.parametrize("struck", ["on_status", "on_header", "on_headers_complete", "on_body", "on_message_complete"])
def test_an_interrupt_that_strikes_while_parsing_is_not_taken_for_bad_http(struck: str) -> None:
    """Ctrl-C may strike in any line of Python, and the parser makes an error of its own of what its callbacks raise."""

    def strike(self: ResponseReader, *_: object) -> None:
        raise KeyboardInterrupt

    reader = type("Struck", (ResponseReader,), {struck: strike})(cap_bytes=CAP_BYTES)
    with pytest.raises(KeyboardInterrupt):
        reader.feed(OK)


# --- any bytes -------------------------------------------------------------------------------------------------------

SECRET, OTHER = b"kq7Zw", b"xj4Pg"
"""The same to any parser that does not look for them, and so of the same effect."""

FRAGMENTS = st.one_of(
    st.sampled_from([
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 429 " + SECRET + b"\r\n", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 101 x\r\n",
        b"HTTP/1.1 " + SECRET, b"Content-Length: 3\r\n", b"Content-Length: " + SECRET + b"\r\n", b"\r\n", b"\n", b"\r",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: " + SECRET + b"\r\n", b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: " + SECRET + b"\r\n", b"x-key: " + SECRET + b"\r\n", SECRET + b": x\r\n",
        SECRET, b"3\r\nabc\r\n", b"3;" + SECRET + b"\r\nabc\r\n", b"0\r\n\r\n", b"F" * 17 + b"\r\n", b"\x00", OK,
        CHUNKS, b"x" * 300,
    ]),
    st.binary(max_size=20),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid reply after some accidents: bytes overwritten, cut out, put in, or said twice."""
    raw = draw(replies()).raw
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        stop = start + draw(st.sampled_from([0, 1, 1, 2, 10]))
        raw = raw[:start] + draw(st.one_of(FRAGMENTS, st.just(raw[start:stop] * 2))) + raw[stop:]
    return raw


ANYTHING = st.one_of(mutated(), st.lists(FRAGMENTS, max_size=12).map(b"".join))


def outcome(raw: bytes, cuts: list[int], *, bodiless: bool, cap_bytes: int) -> tuple[str, str]:
    """How it ends, and in which words. Anything but the three signals passes through and fails the test."""
    try:
        heard = read(pieces(raw, cuts), ends=True, bodiless=bodiless, cap_bytes=cap_bytes)
    except (NotHttp, TooLarge, Cut) as error:
        return type(error).__name__, str(error)
    assert heard.status >= 200
    assert len(heard.body) <= min(cap_bytes, len(raw))
    assert sum(len(name) + len(value) for name, value in heard.headers) <= len(raw)
    return "heard", ""


@run_settings(600)
@given(ANYTHING, CUTS, st.booleans(), st.sampled_from([0, 10, CAP_BYTES]))
def test_any_bytes_give_a_reply_or_one_of_three_signals(
    raw: bytes, cuts: list[int], bodiless: bool, cap_bytes: int
) -> None:
    how, words = outcome(raw, cuts, bodiless=bodiless, cap_bytes=cap_bytes)
    event(how)
    assert SECRET.decode() not in words
    other = raw.replace(SECRET, OTHER)
    assert outcome(other, cuts, bodiless=bodiless, cap_bytes=cap_bytes) == (how, words), "what it says quotes the input"


@run_settings(300)
@given(ANYTHING, CUTS)
def test_any_bytes_mean_the_same_in_any_pieces(raw: bytes, cuts: list[int]) -> None:
    """But for a method that has no body: what stands behind its end is looked at only as far as it must be."""

    def what(cuts: list[int]) -> Heard | str:
        try:
            return read(pieces(raw, cuts), ends=False)
        except NotHttp:
            return "NotHttp"

    assert what(cuts) == what([])


# --- caps ------------------------------------------------------------------------------------------------------------

PIECE = b"y" * 65_000
ENDLESS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 8_000),
    "one header": (b"HTTP/1.1 200 OK\r\nx-a: ", PIECE),
    "a name": (b"HTTP/1.1 200 OK\r\nx", PIECE),
    "a reason": (b"HTTP/1.1 200 ", PIECE),
    "interim responses": (b"", b"HTTP/1.1 102 Wait\r\n\r\n" * 3_000),
    "line ends before it": (b"", b"\r\n" * 30_000),
    "chunk extension": (CHUNKS + b"1;", PIECE),
    "trailers": (CHUNKS + b"2\r\n{}\r\n0\r\n", b"x-a: b\r\n" * 8_000),
    "one trailer": (CHUNKS + b"2\r\n{}\r\n0\r\nx-a: ", PIECE),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_not_listened_to_for_ever(name: str) -> None:
    start, again = ENDLESS[name]
    reader = ResponseReader(cap_bytes=CAP_BYTES)
    reader.feed(start)
    arrived = len(start)
    with pytest.raises(NotHttp, match=f"within {HEAD_BYTES} bytes"):  # noqa: PT012  # at one of them
        while arrived < 100 * HEAD_BYTES:
            arrived += len(again)
            reader.feed(again)
    assert HEAD_BYTES < arrived <= HEAD_BYTES + len(start) + len(again)


def test_a_head_may_be_as_large_as_its_cap() -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-a: "
    raw = start + b"y" * (HEAD_BYTES - len(start) - 4) + b"\r\n\r\n{}"
    assert read(pieces(raw, range(0, len(raw), 1000)), ends=False).clean


def test_many_small_chunks_are_no_large_head() -> None:
    reader = ResponseReader(cap_bytes=CAP_BYTES)
    reader.feed(CHUNKS)
    for _ in range(HEAD_BYTES // 5):
        for part in (b"1", b"\r\n", b"x\r\n"):
            reader.feed(part)
    reader.feed(b"0\r\n\r\n")
    assert reader.clean


def bodies(size: int) -> Iterator[tuple[bytes, bool]]:
    """Replies whose body has this size, in every framing; whether the end of the connection ends them."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, False
    yield b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size, True
    yield CHUNKS + b"1\r\nx\r\n" * size + b"0\r\n\r\n", False
    yield CHUNKS + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n", False


@run_settings(60)
@given(st.integers(1, 300), CUTS)
def test_a_body_may_be_as_large_as_its_cap_and_no_larger(cap_bytes: int, cuts: list[int]) -> None:
    for raw, ends in bodies(cap_bytes):
        heard = read(pieces(raw, cuts), ends=ends, cap_bytes=cap_bytes)
        assert (heard.complete, len(heard.body)) == (True, cap_bytes)
    for raw, ends in bodies(cap_bytes + 1):
        with pytest.raises(TooLarge):
            read(pieces(raw, cuts), ends=ends, cap_bytes=cap_bytes)


def test_of_a_body_that_is_too_large_no_more_than_the_cap_is_held() -> None:
    reader = ResponseReader(cap_bytes=1000)
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(3):
        reader.feed(b"x" * 300)
    for _ in range(3):
        with pytest.raises(TooLarge):
            reader.feed(b"x" * 300)
    assert sum(map(len, reader.parts)) == 900


def test_a_body_of_tiny_chunks_takes_little_more_than_its_size() -> None:
    reader = ResponseReader(cap_bytes=1 << 20)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        reader.feed(b"2\r\nab\r\n" * 500)
    reader.feed(b"0\r\n\r\n")
    assert (reader.complete, reader.clean, reader.body_bytes) == (True, True, 100_000)
    assert b"".join(reader.parts) == b"ab" * 50_000
    assert len(reader.parts) < 5_000


def test_parts_that_were_taken_away_are_not_missed_when_the_rest_is_gathered() -> None:
    reader = ResponseReader(cap_bytes=1 << 20)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    taken = []
    for _ in range(40):
        reader.feed(b"1\r\nx\r\n" * 1_500)
        if len(taken) % 7 == 3:
            taken += reader.parts
            reader.parts = []
        else:
            taken.append(b"")
    assert b"".join([*taken, *reader.parts]) == b"x" * 60_000


class Watched(ResponseReader):
    """One that can be weakly referenced."""

    __slots__ = ("__weakref__",)


def test_a_reader_whose_response_is_complete_is_no_garbage_for_the_collector() -> None:
    """The parser holds its reader: a cycle for each answer costs a tenth of the whole call."""
    gc.disable()
    try:
        reader = Watched(cap_bytes=100)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()
