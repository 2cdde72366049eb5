"""aiXplain's platform on loopback, in threads of its own: it answers what a test writes down, and remembers all it saw.

What it is asked for is the last part of the path: ``replies["m-1"]`` is what model ``m-1`` is answered, each reply once
and the last one from then on. In trio and in synchronous code it is the same.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

KEY = "key-of-the-test-0123456789"
SUCCESS = {"status": "SUCCESS", "completed": True, "data": "hi"}


class Reply(NamedTuple):
    """What one request is answered; a `body` of bytes goes out as it is. `cut`: less comes than was announced."""

    body: Any = SUCCESS
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "application/json"
    cut: bool = False


class Seen(NamedTuple):
    """One request, as it arrived; `headers` have lower-case names, `raw` is the body."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def stream(*lines: str, kind: str = "text/event-stream", cut: bool = False) -> Reply:
    """A stream of these events."""
    return Reply("".join(f"{line}\n\n" for line in lines).encode(), kind=kind, cut=cut)


class Platform(ThreadingHTTPServer):
    """The server, its replies, and what it has seen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.replies: dict[str, list[Reply]] = {}
        self.seen: list[Seen] = []

    def answers(self, name: str, *replies: Reply) -> None:
        """What who asks for `name` is answered."""
        self.replies[name] = list(replies)

    def promises(self, name: str, *later: Reply, **fields: Any) -> None:
        """A run of `name` is answered with an address, and a poll there with these."""
        told = {
            "status": "IN_PROGRESS",
            "data": f"{self.url}/api/v1/data/of-{name}",
            "completed": True,
            "requestId": "r1",
        }
        self.answers(name, Reply(told | fields, 201))
        self.answers(f"of-{name}", *later)

    def reply_to(self, path: str) -> Reply:
        found = self.replies.get(unquote(urlsplit(path).path.rsplit("/", 1)[-1]), [Reply()])
        return found.pop(0) if len(found) > 1 else found[0]

    @property
    def paths(self) -> list[str]:
        """Methods and paths, in the order in which they came."""
        return [f"{seen.method} {seen.path}" for seen in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Platform

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        named = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, named, raw))
        reply = self.server.reply_to(self.path)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        with contextlib.suppress(OSError):
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body) + reply.cut))
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = reply.cut

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform that the environment names, with a key there; nothing else of aiXplain's is set."""
    with Platform() as platform:
        thread = threading.Thread(target=platform.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("MODELS_RUN_URL", f"{platform.url}/api/v1/execute")
        monkeypatch.setenv("BACKEND_URL", platform.url)
        monkeypatch.setenv("TEAM_API_KEY", KEY)
        monkeypatch.delenv("AIXPLAIN_API_KEY", raising=False)
        try:
            yield platform
        finally:
            platform.shutdown()
            thread.join()
