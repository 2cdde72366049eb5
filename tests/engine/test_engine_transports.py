"""Which way an engine speaks to a provider: its own wire or httpx, by configuration, by proxies, by a user's client.

Real loopback sockets, a whole engine; what `statistics()` says is compared with what arrived.
"""

from __future__ import annotations

import json

import httpx
import pytest
import trio

from engine import ConnectFailed, UsageError, iModel, open_engine
from engine.config import EngineConfig, EngineSection, parse_config
from engine.testing import ScriptedProvider, chat_reply, in_virtual_time

MESSAGES = [{"role": "user", "content": "hi"}]
REPLY = bytes(chat_reply("yes").body)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(REPLY), REPLY)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Provider:
    """Answers everything on loopback, be it asked as a provider or as a proxy; keeps the first lines of requests."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)

    async def _serve(self, stream: trio.SocketStream) -> None:
        received = b""
        async for data in stream:
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            if end and len(body) >= length:
                received = b""
                self.lines.append(head.partition(b"\r\n")[0])
                await stream.send_all(ANSWER)


@pytest.fixture
async def provider(nursery: trio.Nursery) -> Provider:
    served = Provider()
    await nursery.start(served.run)
    return served


async def ask(base_url: str, section: EngineSection | None = None, **arguments: object) -> tuple[str, str]:
    """One call in an engine of its own: its text, and the transport the statistics name."""
    async with open_engine(EngineConfig(engine=section or EngineSection())) as engine:
        model = iModel(provider="mine", model="m", base_url=base_url, api_key="sk-0123456789", **arguments)
        call = await model.invoke(messages=MESSAGES)
        assert call.status == "completed", call.error
        (endpoint,) = engine.statistics().endpoints
        return call.text, endpoint.transport


@pytest.mark.parametrize(
    ("section", "transport"),
    [
        (EngineSection(), "http"),
        (EngineSection(http="own"), "http"),
        (EngineSection(http="auto"), "http"),
        (EngineSection(http="httpx"), "httpx"),
    ],
)
async def test_the_configuration_chooses(provider: Provider, section: EngineSection, transport: str) -> None:
    assert await ask(f"http://127.0.0.1:{provider.port}/v1", section) == ("yes", transport)
    assert provider.lines == [b"POST /v1/chat/completions HTTP/1.1"]


async def test_a_proxy_of_the_environment_is_used(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{provider.port}")
    assert await ask("http://api.example/v1") == ("yes", "httpx")
    assert provider.lines == [b"POST http://api.example/v1/chat/completions HTTP/1.1"]


class Names(trio.abc.HostnameResolver):
    """Every name is this machine's."""

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: object,
        family: int = 0,
        type: int = 0,  # noqa: A002  # the name it has there
        proto: int = 0,
        flags: int = 0,
    ) -> list[object]:
        await trio.lowlevel.checkpoint()
        address = ("127.0.0.1", int(str(port)))
        return [(trio.socket.AF_INET, trio.socket.SOCK_STREAM, trio.socket.IPPROTO_TCP, "", address)]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize("why", ["no_proxy", "own"])
async def test_a_proxy_is_passed_by(provider: Provider, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """By NO_PROXY and by the configuration: the proxy here is one that nobody could reach."""
    trio.socket.set_custom_hostname_resolver(Names())
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    if why == "no_proxy":
        monkeypatch.setenv("NO_PROXY", "example")
    section = EngineSection(http="own") if why == "own" else EngineSection()
    assert await ask(f"http://api.example:{provider.port}/v1", section) == ("yes", "http")
    assert provider.lines == [b"POST /v1/chat/completions HTTP/1.1"]


@pytest.mark.parametrize("http", ["auto", "own", "httpx"])
async def test_a_client_of_the_user_s_is_used_and_not_closed(monkeypatch: pytest.MonkeyPatch, http: str) -> None:
    """It decides about proxies itself, whatever the environment and the configuration say."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://127.0.0.1:1")
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=REPLY)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        section = EngineSection(http=http)  # type: ignore[arg-type]  # one of them
        assert await ask("https://api.example/v1", section, http_client=client) == ("yes", "httpx")
        assert not client.is_closed
    assert str(seen[0].url) == "https://api.example/v1/chat/completions"
    assert json.loads(seen[0].content)["model"] == "m"


async def test_each_client_is_an_endpoint_of_its_own(provider: Provider) -> None:
    """A model with a client never takes the connections of one without."""
    url = f"http://127.0.0.1:{provider.port}/v1"
    async with httpx.AsyncClient() as first, httpx.AsyncClient() as second, open_engine() as engine:
        for client in (None, first, second, first, None):
            model = iModel(provider="mine", model="m", base_url=url, api_key="sk-0123456789", http_client=client)
            assert (await model.invoke(messages=MESSAGES)).text == "yes"
        assert [endpoint.transport for endpoint in engine.statistics().endpoints] == ["http", "httpx", "httpx"]


async def test_a_proxy_that_cannot_be_used_is_said_before_anything_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://me:swordfish@h:1")
    async with open_engine() as engine:
        model = iModel(provider="mine", model="m", base_url="https://api.example/v1", api_key="sk-0123456789")
        with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
            await model.invoke(messages=MESSAGES)
        assert "swordfish" not in str(caught.value)
        assert engine.statistics().endpoints == ()


@in_virtual_time
async def test_any_other_transport_goes_by_its_type() -> None:
    async with open_engine(transport=ScriptedProvider("yes")) as engine:
        await iModel(model="m", api_key="any").invoke(messages=MESSAGES)
        (endpoint,) = engine.statistics().endpoints
        assert endpoint.transport == "ScriptedTransport"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('http = "curl"', "engine.http: must be one of 'auto', 'own', 'httpx'"),
        ('http2 = "yes"', "engine.http2: must be true or false"),
        ('http = "own"\nhttp2 = true', "engine: http2 = true needs"),
    ],
)
def test_what_the_file_may_say(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_config(f"[engine]\n{text}\n", "penstock.toml")
    assert parse_config('[engine]\nhttp = "httpx"\nhttp2 = true', "").engine == EngineSection(http="httpx", http2=True)


async def test_a_client_must_be_an_open_asynchronous_one() -> None:
    closed = httpx.AsyncClient()
    await closed.aclose()
    with httpx.Client() as synchronous:
        for wrong, why in ((synchronous, "AsyncClient"), ("http://proxy", "AsyncClient"), (closed, "closed")):
            with pytest.raises(UsageError, match=f"http_client.*{why}"):
                iModel(model="m", http_client=wrong)  # type: ignore[arg-type]  # that is what is tested


async def test_a_proxy_that_is_not_there_is_named_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    async with open_engine() as engine:
        model = iModel(provider="mine", model="m", base_url="http://api.example/v1", api_key="k", engine=engine)
        call = await model.invoke(messages=MESSAGES, deadline_s=0.4)
    assert isinstance(call.error, ConnectFailed)
    assert f"through the proxy 127.0.0.1:{port}" in str(call.error)
    assert "Connection refused" in str(call.error)
