"""Proxies: which one the environment names for an address, and what a call through one looks like on the wire.

A real forward proxy on loopback, in front of a scripted server that no name leads to but through it.
"""

from __future__ import annotations

import base64
import logging
import traceback

import pytest
import trio
from certificates import client_tls, server_tls
from forward_proxy import forward_proxy
from scripted_server import KEY, Ear, Peer, answer_everything, calling, response, serve
from worker_ways import client_transport

from actors.errors import ConnectFailed, UsageError
from actors.transport import Answer, TooLate
from engine.transports import proxies
from engine.transports.proxies import environment_proxy, is_exempt

PASSWORD = "swordfish-4711"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a proxy."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


# --- which proxy -----------------------------------------------------------------------------------------------------

PROXIES = {"HTTPS_PROXY": "http://secure:1", "HTTP_PROXY": "plain:2", "ALL_PROXY": "socks5://any:3"}


@pytest.mark.parametrize(
    ("named", "url", "proxy"),
    [
        ((), "https://api.example/v1", None),
        (("HTTPS_PROXY",), "https://api.example/v1", "http://secure:1"),
        (("HTTPS_PROXY",), "http://api.example/v1", None),
        (("HTTP_PROXY",), "http://api.example/v1", "http://plain:2"),
        (("HTTP_PROXY",), "https://api.example/v1", None),
        (("ALL_PROXY",), "https://api.example/v1", "socks5://any:3"),
        (("HTTPS_PROXY", "ALL_PROXY"), "https://api.example/v1", "http://secure:1"),
        (("HTTPS_PROXY", "ALL_PROXY"), "http://api.example/v1", "socks5://any:3"),
        (("HTTP_PROXY",), "http://127.0.0.1:8000/v1", None),
        (("HTTP_PROXY",), "http://127.8.9.1/v1", None),
        (("HTTP_PROXY",), "http://[::1]:8000/v1", None),
        (("HTTP_PROXY",), "http://LOCALHOST:8000/v1", None),
        (("HTTP_PROXY",), "http://app.localhost/v1", None),
        (("HTTP_PROXY",), "http://notlocalhost/v1", "http://plain:2"),
        (("HTTP_PROXY",), "http://10.0.0.1/v1", "http://plain:2"),
        (("HTTP_PROXY",), "http://[::1/v1", None),
    ],
)
def test_the_environment_says_which_proxy(
    environment: pytest.MonkeyPatch, named: tuple[str, ...], url: str, proxy: str | None
) -> None:
    for name in named:
        environment.setenv(name, PROXIES[name])
    assert environment_proxy(url) == proxy


def test_no_proxy_is_asked_for_each_address(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "http://p:1")
    environment.setenv("NO_PROXY", "other.example, api.example:8443")
    assert environment_proxy("https://api.example/v1") == "http://p:1"
    assert environment_proxy("https://api.example:8443/v1") is None
    assert environment_proxy("https://deep.other.example/v1") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("", "api.example", False),
        ("*", "api.example", True),
        ("api.example", "api.example", True),
        ("API.Example", "api.exAMPLE.", True),
        ("example", "api.example", True),
        (".example", "api.example", True),
        ("*.example", "api.example", True),
        ("ample", "api.example", False),
        ("api.example.org", "api.example", False),
        ("a.b, example ,c", "api.example", True),
        ("a.b example", "api.example", True),
        ("api.example:443", "api.example", True),
        ("api.example:80", "api.example", False),
        ("https://api.example", "api.example", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3", "110.1.2.3", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "fd00::7", True),
        ("::7", "::7", True),
        ("[::7]:443", "::7", True),
        ("[::7]:80", "::7", False),
        ("[::7]", "::7", True),
        ("10.0.0.0/99, , :, .", "10.1.2.3", False),
    ],
)
def test_what_no_proxy_exempts(no_proxy: str, host: str, exempt: bool) -> None:
    assert is_exempt(host, 443, no_proxy) is exempt


# --- over the wire ---------------------------------------------------------------------------------------------------


async def through(proxy: str, url: str, **options: object) -> tuple[Answer, Ear]:
    connection = await client_transport(url, proxy=proxy, **options).connect()
    ear = Ear()
    try:
        return await connection.exchange(calling(), ear), ear
    finally:
        await connection.aclose()


async def test_plain_http_goes_to_the_proxy_with_the_whole_address() -> None:
    async with serve(answer_everything) as server, forward_proxy(server.port) as proxy:
        answer, ear = await through(proxy.url, "http://api.example:8080/v1/call?v=1")
    assert (answer.verdict, answer.input_tokens) == ("done", 7)
    assert ear.told == ["begin", "sent"]
    assert proxy.lines == [b"POST http://api.example:8080/v1/call?v=1 HTTP/1.1"]
    assert b"Bearer " + KEY.encode() in proxy.heads[0]
    assert server.accepted == 1


async def test_https_goes_through_a_tunnel_that_sees_no_key() -> None:
    async with serve(answer_everything, tls=server_tls("api.example")) as server, forward_proxy(server.port) as proxy:
        built = client_transport("https://api.example/v1/call", proxy=proxy.url, ssl_context=client_tls())
        connection = await built.connect()
        for _ in range(3):
            ear = Ear()
            assert (await connection.exchange(calling(), ear)).verdict == "done"
            assert ear.told == ["begin", "sent"], "the tunnel's own request does not count"
        await connection.aclose()
    assert proxy.lines == [b"CONNECT api.example:443 HTTP/1.1"]
    assert KEY.encode() not in b"".join(proxy.heads)
    assert server.accepted == 1


async def test_a_certificate_for_another_name_is_refused_through_a_tunnel() -> None:
    async with serve(answer_everything, tls=server_tls("other.example")) as server, forward_proxy(server.port) as proxy:
        with pytest.raises(ConnectFailed, match="certificate was not accepted"):
            await through(proxy.url, "https://api.example/v1", ssl_context=client_tls())


async def test_a_late_grant_finds_the_tunnel_dug_and_writes_nothing() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)

    async with serve(script, tls=server_tls("api.example")) as server, forward_proxy(server.port) as proxy:
        built = client_transport("https://api.example/v1", proxy=proxy.url, ssl_context=client_tls())
        connection = await built.connect()
        with pytest.raises(TooLate):
            await connection.exchange(calling(), Ear(late=True))
        await connection.aclose()
        await server.all_closed()
    assert len(proxy.heads) == 1
    assert seen == []


async def test_the_password_of_a_proxy_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = base64.b64encode(f"me:{PASSWORD}".encode())
    echo = f'{{"error": "not {PASSWORD} nor {told.decode()}"}}'.encode()
    async with forward_proxy(0, refuse=response(echo, status="407 Who")) as proxy:
        address = proxy.url.replace("://", f"://me:{PASSWORD}@")
        answer, _ = await through(address, "http://api.example/v1")
        assert (answer.verdict, answer.reply.status) == ("failed", 407)
        with pytest.raises(ConnectFailed, match=r"through the proxy 127\.0\.0\.1:\d+: 407 Who\. Nothing") as caught:
            await through(address, "https://api.example/v1")
    assert all(b"Basic " + told in head for head in proxy.heads)
    built = client_transport("https://api.example/v1", proxy=address)
    shown = [repr(answer), repr(built), repr(await built.connect()), *traceback.format_exception(caught.value)]
    shown += [record.getMessage() for record in caplog.records]
    for secret in (PASSWORD, told.decode()):
        assert secret not in "".join(shown)


@pytest.mark.parametrize("url", ["http://api.example/v1", "https://api.example/v1"])
async def test_a_proxy_that_is_not_there_costs_nothing_and_is_named(url: str) -> None:
    async with serve(answer_everything) as gone:
        pass
    with pytest.raises(ConnectFailed, match=rf"through the proxy 127\.0\.0\.1:{gone.port}: .*Connection refused"):
        await through(f"http://127.0.0.1:{gone.port}", url)


@pytest.mark.parametrize("answered", [b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 502 Bad\r\nContent-Le"])
async def test_a_proxy_that_fails_to_dig_costs_nothing(answered: bytes) -> None:
    async with forward_proxy(0, refuse=answered or b"\r\n") as proxy:
        with pytest.raises(ConnectFailed, match="Nothing was sent"):
            await through(proxy.url, "https://api.example/v1")


async def test_a_tunnel_that_breaks_after_the_request_leaves_the_outcome_unknown() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response()[:-3])

    async with serve(script, tls=server_tls("api.example")) as server, forward_proxy(server.port) as proxy:
        answer, ear = await through(proxy.url, "https://api.example/v1", ssl_context=client_tls())
    assert (answer.verdict, answer.charge, answer.keep) == ("unknown", "kept", False)
    assert ear.told == ["begin", "sent"]


async def test_a_tunnel_can_be_cancelled_while_it_is_dug() -> None:
    connected = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.raw.receive_some(1000)
        connected.set()
        await peer.gone()

    async with serve(script) as silent, trio.open_nursery() as nursery:
        nursery.start_soon(through, silent.url.replace("/v1/call", ""), "https://api.example/v1")
        await connected.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await silent.all_closed()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ftp", "socks4", "", "http+unix"])
def test_an_address_that_is_no_proxy_is_refused_without_showing_it(scheme: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        client_transport("https://api.example/", proxy=f"{scheme}://me:{PASSWORD}@h:1")
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("proxy", ["http://", "http://h:99999", "http://[::1", "http://a\0b"])
def test_an_address_that_is_none_is_refused(proxy: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY"):
        client_transport("https://api.example/", proxy=proxy)


@pytest.mark.parametrize(
    ("options", "install"),
    [({"proxy": "socks5://h:1"}, "httpx[socks]"), ({"http2": True}, "httpx[http2]")],
)
def test_what_needs_another_package_says_which(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], install: str
) -> None:
    monkeypatch.setattr(proxies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        client_transport("https://api.example/", **options)
    assert install in str(caught.value)
