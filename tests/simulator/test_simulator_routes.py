"""Paths with an open part, and methods other than POST: who is found for them, and what becomes of what is no call."""

from __future__ import annotations

import pytest

from engine.simulator.failure import Failure
from engine.simulator.formats.catalogue import CHAT
from engine.simulator.formats.desk import Asked, Desk, House
from engine.simulator.formats.routes import Found, Routes
from engine.simulator.reply import Answer


class Echo(Desk):
    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return Answer(200, [], asked.name.encode())


ECHO, OTHER = Echo(), Echo()
ROUTES = Routes(
    [
        ("POST", "/run/{...}", CHAT),
        ("GET", "/models/by-name/{}", OTHER),
        ("GET", "/models/{}", ECHO),
        ("DELETE", "/models/{}", ECHO),
        ("GET", "/jobs/{}/log", ECHO),
        ("GET", "/v1.0/health", ECHO),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        (b"GET", b"/models/m-1", Found(ECHO, "m-1")),
        (b"GET", b"/models/a%2Fb%20c", Found(ECHO, "a/b c")),
        (b"GET", b"/models/by-name/m", Found(OTHER, "m")),
        (b"GET", b"/models/a/b", None),
        (b"GET", b"/models/", None),
        (b"PUT", b"/models/m-1", None),
        (b"POST", b"/run/a/b", Found(CHAT, "a/b")),
        (b"GET", b"/jobs/7/log", Found(ECHO, "7")),
        (b"GET", b"/v1.0/health", Found(ECHO, "")),
        (b"GET", b"/v1x0/health", None),
    ],
    ids=str,
)
def test_who_serves_a_path(method: bytes, path: bytes, found: Found | None) -> None:
    assert ROUTES.find(method, path) == found


def test_the_methods_of_a_path() -> None:
    assert ROUTES.methods(b"/models/m") == [b"GET", b"DELETE"]
    assert ROUTES.methods(b"/run/m") == [b"POST"]
    assert ROUTES.methods(b"/nowhere") == []
