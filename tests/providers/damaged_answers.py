"""Answers that no provider should send, grown from those they do: for the tests of every reader at once.

The words and values are those of all recorded bodies, so that what is made up is looked at by some reader. Everything
is grown from one seed, because drawing such trees piece by piece takes a hundred times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

_FIXTURES = Path(__file__).parent / "fixtures"
BODIES: dict[str, bytes] = {
    str(path.relative_to(_FIXTURES)): path.read_bytes()
    for path in sorted(_FIXTURES.glob("*/*"))
    if path.name.startswith(("response", "error", "stream"))
}
_STREAMED = {body: name for name, body in BODIES.items() if name.endswith(("sse", "ndjson"))}


def events_of(body: bytes) -> Iterator[Any]:
    """What is JSON in a body, be it one document or a stream of them."""
    for text in [body, *(line.removeprefix(b"data:") for line in body.splitlines())]:
        try:
            yield json.loads(text)
        except ValueError:
            continue


@cache
def _decoded(body: bytes) -> list[Any]:
    return list(events_of(body))


def inner(value: Any) -> Iterator[Any]:
    """A value and all that is in it."""
    yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        yield from inner(item)


_ALL = [item for body in BODIES.values() for event in events_of(body) for item in inner(event)]
WORDS = sorted({name for item in _ALL if isinstance(item, dict) for name in item})
TEXTS = sorted({item for item in _ALL if isinstance(item, str) and len(item) < 60})
ODD = (
    None, True, False, 0, 1, -1, 3.0, 0.5, 1e308, 10**19, 10**30, 10**400, float("nan"), float("-inf"),
    "", "3", "-7", "1e999", "\ud83d", "\u0663", "\x00", "9" * 5_000, [], {}, [None], {"": None}, [[[]]], {"error": {}},
)  # fmt: skip
DEEP = (
    b"[" * 100_000,
    b"[NaN," + b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[" * 600 + b"]" * 600,
    b"9" * 5_000,
    b'{"usage":' + b"9" * 5_000 + b"}",
)
_NAMES = (
    "retry-after", "retry-after-ms", "x-should-retry", "date", "x-request-id", "request-id", "content-type",
    *(f"x-ratelimit-{part}-{of}" for part in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    *(f"anthropic-ratelimit-{of}-{part}" for of in ("requests", "input-tokens") for part in ("limit", "reset")),
    "x-ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit-reset",
)  # fmt: skip
_SAID = (
    "", "0", "-1", "3", "12ms", "6m0s", "1h1h", "nan", "inf", "1e400", "9" * 400, "\u0663", "1m" * 300, "true",
    "1792454400000", "2026-11-20T10:00:00Z", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59",
    "Fri, 20 Nov 2026 10:00:00 GMT", "Wed, 99 Foo 2026 25:61:61 GMT", "Mon, 01 Jan 0001 00:00:00 +2359",
)  # fmt: skip


def odd(chance: Random) -> Any:
    """Anything: a value that is odd everywhere, or one that would be right elsewhere."""
    roll = chance.random()
    return deepcopy(chance.choice(ODD if roll < 0.6 else TEXTS if roll < 0.8 else _ALL))


def tree(chance: Random, depth: int = 5) -> Any:
    """Any JSON, in the words of the providers."""
    roll = chance.random()
    if depth == 0 or roll < 0.3:
        return odd(chance)
    if roll < 0.5:
        return [tree(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    return {chance.choice(WORDS): tree(chance, depth - 1) for _ in range(chance.randint(0, 6))}


def text_of(value: Any) -> bytes:
    """The JSON text of a value. Halves of characters are escaped, as some providers send them."""
    return json.dumps(value).encode()


def with_odd_fields(chance: Random, value: Any) -> Any:
    """A copy of decoded JSON in which a few fields are missing or hold something odd, or entries are there twice."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 4)):
        places = [item for item in inner(value) if isinstance(item, (dict, list)) and item]
        if not places:
            return odd(chance)
        place = chance.choice(places)
        key: Any = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        roll = chance.random()
        if roll < 0.2:
            del place[key]
        elif roll < 0.4 and isinstance(place, list):
            place.append(deepcopy(place[key]))
        else:
            place[key] = odd(chance)
    return value


def with_odd_bytes(chance: Random, body: bytes) -> bytes:
    """A copy with a few bytes flipped, taken out or put in, or with its end cut off."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        roll = chance.random()
        if roll < 0.2:
            del data[at:]
        elif roll < 0.6 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        else:
            end = at + chance.randint(0, 12)
            data[at:end] = chance.choice([b"", b"null", b'"', b"{}", b"[]", b"-1", b"}", b"\n\n", chance.randbytes(4)])
    return bytes(data)


def with_odd_events(chance: Random, body: bytes) -> bytes:
    """A copy of a stream with some of its lines spoilt, lost, doubled or in another's place."""
    lines = body.split(b"\n")
    for _ in range(chance.randint(1, 4)):
        at, roll = chance.randrange(len(lines)), chance.random()
        if roll < 0.2 and len(lines) > 1:
            del lines[at]
        elif roll < 0.3:
            lines.insert(at, chance.choice(lines))
        elif roll < 0.4:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            head, _, text = lines[at].rpartition(b"data: ")
            event = next(events_of(text), None)
            spoilt = tree(chance, 3) if event is None else with_odd_fields(chance, event)
            lines[at] = (b"data: " if head or body.startswith((b"data", b"event", b":")) else b"") + text_of(spoilt)
    return b"\n".join(lines)


def grown_stream(chance: Random) -> bytes:
    """A stream whose events are any JSON or none, named or not."""
    parts = []
    for _ in range(chance.randint(0, 8)):
        name = chance.choice([b"", b"", b"event: " + chance.choice(TEXTS).encode("utf-8", "replace") + b"\n"])
        roll = chance.random()
        data = text_of(tree(chance, 4)) if roll < 0.8 else b"[DONE]" if roll < 0.9 else chance.randbytes(9)
        parts.append(chance.choice([b"data: %b\n\n" % data, b"%bdata:%b\r\n\r\n" % (name, data), data + b"\n"]))
    return b"".join(parts)


def _spoilt_document(chance: Random, bodies: Sequence[bytes]) -> bytes:
    decoded = _decoded(chance.choice(bodies))
    return text_of(with_odd_fields(chance, chance.choice(decoded) if decoded else tree(chance)))


def _spoilt_stream(chance: Random, bodies: Sequence[bytes]) -> bytes:
    streams = [body for body in bodies if body in _STREAMED] or list(_STREAMED)
    return with_odd_events(chance, chance.choice(streams))


_WAYS: tuple[Callable[[Random, Sequence[bytes]], bytes], ...] = (
    lambda chance, _: chance.randbytes(chance.randint(0, 200)),
    lambda chance, _: text_of(tree(chance)),
    lambda chance, _: grown_stream(chance),
    lambda chance, _: chance.choice(list(BODIES.values())),
    lambda chance, bodies: with_odd_bytes(chance, chance.choice(bodies)),
    *(_spoilt_document,) * 4,
    *(_spoilt_stream,) * 4,
)


def grown_body(seed: int, like: Sequence[str] = ()) -> bytes:
    """What a provider, or whoever stands in its place, might send: mostly like what is in the folders `like`."""
    chance = Random(seed)
    bodies = [body for name, body in BODIES.items() if name.partition("/")[0] in like] or list(BODIES.values())
    return chance.choice(DEEP) if chance.random() < 0.01 else chance.choice(_WAYS)(chance, bodies)


def grown_headers(seed: int) -> dict[str, str]:
    """Headers that make sense to somebody, with values that make none."""
    chance = Random(seed)
    return {chance.choice(_NAMES): chance.choice(_SAID) for _ in range(chance.randint(0, 4))}


def cut(seed: int, body: bytes) -> list[bytes]:
    """A body in pieces, as a network may bring it."""
    chance = Random(seed)
    places = sorted(chance.randint(0, len(body)) for _ in range(chance.randint(0, 6)))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
