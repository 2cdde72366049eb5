"""Paths with an open part, and methods other than POST: who is found for them, and what becomes of what is no call."""

from __future__ import annotations

import pytest

from engine.simulator import Aside, SimulatorConfig, count_input
from engine.simulator.failure import Failure
from engine.simulator.formats.catalogue import CHAT
from engine.simulator.formats.desk import Asked, Desk, House
from engine.simulator.formats.routes import Found, Routes
from engine.simulator.provider import Provider
from engine.simulator.reply import Answer


class Echo(Desk):
    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return Answer(200, [], asked.name.encode())


class Public(Echo):
    public = True


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
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_who_serves_a_path(method: bytes, path: bytes, found: Found | None) -> None:
    assert ROUTES.find(method, path) == found


def test_the_methods_of_a_path() -> None:
    assert ROUTES.methods(b"/models/m") == [b"GET", b"DELETE"]
    assert ROUTES.methods(b"/run/m") == [b"POST"]
    assert ROUTES.methods(b"/nowhere") == []


@pytest.mark.parametrize(("desk", "status"), [(ECHO, 401), (Public(), 200)])
def test_a_key_is_wanted_but_where_all_may_ask(desk: Desk, status: int) -> None:
    provider = Provider(SimulatorConfig(key="sesame"), origin_us=0, unix_s=0, count_input=count_input)
    asked = Asked("GET", "/x", "x", "", [], b"", 0)
    assert [provider.aside(CHAT, desk, asked, b"one", at_us).status for at_us in (3, 5)] == [status] * 2
    assert provider.log.asides == [
        Aside(at_us, "one", "GET", "/x", number, status) for number, at_us in ((1, 3), (2, 5))
    ]
    assert provider.statistics().asides == 2


def test_a_full_log_counts_the_asides_it_does_not_keep() -> None:
    provider = Provider(SimulatorConfig(log_capacity=1), origin_us=0, unix_s=0, count_input=count_input)
    for at_us in (3, 5):
        provider.aside(CHAT, ECHO, Asked("GET", "/x", "x", "", [], b"", 0), b"", at_us)
    assert (len(provider.log.asides), provider.statistics().asides) == (1, 2)
