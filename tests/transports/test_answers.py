"""The judgement behind an answer: what to charge for a usage with holes in it, and what never leaves with a fault."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Fault
from engine.providers.wire import Reading, Usage
from engine.retry import Advice
from engine.transports.answers import REMOVED, Inflater, Undecodable, answer_of, counted, decompressed, without


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, None),
        (Usage(), None),
        (Usage(output_tokens=5), None),
        (Usage(3, 4, 7), (3, 4)),
        (Usage(3, None, 7), (3, 4)),
        (Usage(None, 4, 7), (3, 4)),
        (Usage(3), (3, 0)),
        (Usage(None, None, 7), (7, 0)),
        (Usage(-3, 4), (0, 4)),
        (Usage(9, None, 7), (9, 0)),
    ],
)
def test_missing_numbers_follow_from_the_total_and_never_become_zero_input(
    usage: Usage | None, counts: tuple[int, int] | None
) -> None:
    assert counted(usage) == counts


def test_a_usage_that_does_not_say_keeps_all_that_was_reserved() -> None:
    reading = Reading(Usage(output_tokens=5), None, Advice("done", "usage"))
    answer = answer_of(reading, status=200, body=b"{}", keep=True)
    assert (answer.verdict, answer.charge, answer.input_tokens, answer.output_tokens) == ("done", "kept", 0, 0)
    assert (answer.reply.input_tokens, answer.reply.output_tokens) == (None, 5)


def test_secrets_are_removed_from_every_text_of_a_fault() -> None:
    fault = Fault(kind="Rejected", message="no: S3CRET", code="S3CRET", request_id="r-S3CRET", status=401)
    reading = Reading(None, fault, Advice("failed", "requests_kept"), (("x-id", "S3CRET!"),))
    answer = answer_of(reading, status=401, body=b"", keep=True, secrets=("Bearer S3CRET", "S3CRET"))
    assert answer.reply.fault == Fault(
        kind="Rejected", message=f"no: {REMOVED}", code=REMOVED, request_id=f"r-{REMOVED}", status=401
    )
    assert answer.reply.headers == (("x-id", f"{REMOVED}!"),)


def zipped(data: bytes) -> bytes:
    """Without the time at which it was done, which would be another in every process that collects these tests."""
    return gzip.compress(data, mtime=0)


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "deflate ": bare}


@given(st.binary(max_size=2000), st.lists(st.sampled_from(sorted(CODERS)), max_size=3))
def test_every_coding_comes_off_in_the_order_it_went_on(data: bytes, codings: list[str]) -> None:
    body = data
    for coding in codings:
        body = CODERS[coding](body)
    # Bare deflate may by accident begin like the wrapped kind; no server is that unlucky twice, and it is no loss.
    try:
        assert decompressed(body, ",".join(codings), cap_bytes=10_000) == data
    except Undecodable:
        assert "deflate " in codings


@given(st.integers(0, 50), st.sampled_from(["gzip", "deflate"]))
def test_the_cap_is_exact(room: int, coding: str) -> None:
    data = b"a" * 50
    body = CODERS[coding](data)
    if room >= 50:
        assert decompressed(body, coding, cap_bytes=room) == data
    else:
        with pytest.raises(Undecodable, match=f"more than {room} bytes"):
            decompressed(body, coding, cap_bytes=room)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_damaged_bytes_are_told_or_read_and_nothing_else(body: bytes, coding: str) -> None:
    with contextlib.suppress(Undecodable):
        assert len(decompressed(body, coding, cap_bytes=1000)) <= 1000


def test_a_bomb_is_never_unpacked_beyond_the_cap() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(Undecodable, match="more than 1000 bytes"):
        decompressed(bomb, "gzip", cap_bytes=1000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", zipped(b"one ") + zipped(b"two")),
        ("gzip", zipped(b"one two") + b"\0" * 8),
        ("gzip, identity", zipped(b"one two")),
        ("gzip, deflate", zlib.compress(zipped(b"one two"))),
        ("deflate", zlib.compress(b"one two")),
        ("deflate", zlib.compress(b"one two")[2:-4]),
        ("identity", b"one two"),
    ],
)
def test_what_comes_in_pieces_is_decompressed_like_the_whole(coding: str, body: bytes, pieces: int) -> None:
    inflater = Inflater(coding, cap_bytes=100)
    found = b"".join(inflater.feed(body[at : at + pieces]) for at in range(0, len(body), pieces))
    inflater.end()
    assert found == decompressed(body, coding, cap_bytes=100) == b"one two"


def test_a_body_of_very_many_compressed_parts_is_refused() -> None:
    """Each is cheap to send and costs a copy of all that follow."""
    with pytest.raises(Undecodable, match="more than 1000"):
        decompressed(gzip.compress(b"") * 1_001, "gzip", cap_bytes=100)


SECRET = "mine-0123456789-abcdefghij-KLMNOP"


@pytest.mark.parametrize("kept", range(6, len(SECRET)))
def test_a_key_that_was_cut_with_its_text_is_removed_too(kept: int) -> None:
    sentence = f"no such key: {SECRET[:kept]}"
    for text in (sentence, f"{sentence}…", f"rejected ({sentence}…): see the documentation"):
        assert SECRET[:6] not in without(text, (SECRET,))
        assert "no such key" in without(text, (SECRET,))


def test_the_beginning_of_a_key_inside_a_text_is_left() -> None:
    """Keys of one provider begin alike: only what was cut off may be ours."""
    assert without("keys begin with mine-0 and go on", (SECRET,)) == "keys begin with mine-0 and go on"
