"""A server on loopback in threads of its own that answers what a test says and remembers what it was sent.

For programs that are not trio as well. `answers` are taken one for each request, the last of them from then on; without
any, calls are answered as Inferneo's server does. A stream's pieces are written one by one; `Hold` waits for the test.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

WITHIN_S = 30
"""How long a test waits for what must come, before it fails."""
KEY = "key-of-the-test-8d1f"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PROMPT: dict[str, Any] = {"model": "m", "prompt": "hello world"}
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
COMPLETION: dict[str, Any] = {
    "id": "cmpl-1", "object": "text_completion", "created": 1795205707, "model": "m",
    "choices": [{"index": 0, "text": " w0 w1 w2", "finish_reason": "length"}], "usage": USAGE,
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1795205707, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": " w0"}, "finish_reason": "stop"}],
    "usage": USAGE,
}  # fmt: skip


class Sent(NamedTuple):
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Hold(NamedTuple):
    """The stream goes on once the test says so, or its client has gone."""

    go_on: threading.Event


class Reply(NamedTuple):
    """An answer: JSON, or bytes as they are; or the pieces of a stream, closed behind the last."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}
    pieces: Sequence[bytes | Hold] | None = None


class Server(ThreadingHTTPServer):
    """The server, and what it has seen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *answers: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers = list(answers)
        self.sent: list[Sent] = []
        self.connections = 0
        self.dropped = threading.Semaphore(0)
        self.lock = threading.Lock()

    def wait_dropped(self) -> None:
        """Until one more client has left in the middle of its answer."""
        assert self.dropped.acquire(timeout=WITHIN_S)

    def take(self, sent: Sent) -> Reply:
        with self.lock:
            self.sent.append(sent)
            if self.answers:
                return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if sent.path.endswith("/v1/completions"):
            return Reply(pieces=completion_pieces()) if sent.body.get("stream") else Reply(body=COMPLETION)
        if sent.path.endswith("/v1/chat/completions"):
            return Reply(pieces=chat_pieces()) if sent.body.get("stream") else Reply(body=ANSWER)
        return Reply(404, {"detail": "Not Found"})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quietly: clients that leave are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _reply(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.take(Sent(self.command, self.path, headers, body))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is not None:
            self._stream(reply.pieces)
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, pieces: Sequence[bytes | Hold]) -> None:
        self.close_connection = True
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            if isinstance(piece, Hold):
                self._hold(piece)
            else:
                self.wfile.write(piece)
                self.wfile.flush()

    def _hold(self, hold: Hold) -> None:
        self.connection.settimeout(0.01)
        for _ in range(100 * WITHIN_S):
            if hold.go_on.is_set():
                break
            with contextlib.suppress(TimeoutError):
                if self.connection.recv(1) == b"":
                    self.server.dropped.release()
                    raise ConnectionAbortedError
        self.connection.settimeout(None)

    def log_message(self, *args: object) -> None:
        """Quietly."""


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


DONE = b"data: [DONE]\n\n"


def completion_event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return event({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})


def chat_event(finish: str | None = None, **delta: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def completion_pieces() -> list[bytes | Hold]:
    return [completion_event(" w0"), completion_event(" w1"), completion_event("", "length"), DONE]


def chat_pieces() -> list[bytes | Hold]:
    return [
        chat_event(role="assistant", content=None),
        chat_event(role=None, content=" w0"),
        chat_event(role=None, content=" w1"),
        chat_event("length", role=None, content=None),
        DONE,
    ]


@contextlib.contextmanager
def serving(*answers: Reply) -> Iterator[Server]:
    """A server for the block."""
    server = Server(*answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
