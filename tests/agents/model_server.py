"""A model behind OpenAI's chat completions, on loopback, that answers each request as a function of a test's says.

For what the simulator does not do: a tool call and then words, an answer of no words, an error that repeats the key,
a stream that stops in its midst and stays open.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALL = object()
"""In place of a fragment: nothing more comes, until the client leaves or the server is closed."""

Says = Callable[[dict[str, Any]], Any]
"""From a request's body to a list of fragments, ``{"name", "arguments"}`` for a call of a tool, or a status."""

THREAD = "model server"


class Server:
    """What was asked, and the bearer of each request. `base_url` ends with ``/v1``."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.requests: list[dict[str, Any]] = []
        self.bearers: list[str] = []
        self.left = threading.Event()
        self.closing = threading.Event()
        self.base_url = ""


@contextmanager
def serving(says: Says) -> Iterator[Server]:
    """Serve until the end of the block."""
    server = Server(says)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            threading.current_thread().name = THREAD
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.requests.append(body)
            server.bearers.append(self.headers.get("authorization", ""))
            said = server.says(body)
            if isinstance(said, int):
                message = f"Incorrect key provided: {server.bearers[-1].removeprefix('Bearer ')}"
                self._send(said, "application/json", json.dumps({"error": {"message": message}}).encode())
                return
            try:
                self._stream(said)
            except OSError:
                server.left.set()

        def _stream(self, said: Any) -> None:
            self._send(200, "text/event-stream")
            reason = "stop"
            if isinstance(said, dict):
                call = {"index": 0, "id": f"call_{len(server.requests)}", "type": "function", "function": said}
                self._event({"role": "assistant", "tool_calls": [call]})
                reason, said = "tool_calls", []
            for fragment in said:
                if fragment is STALL:
                    self._hold()
                self._event({"content": fragment})
            self._event({}, reason)
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            self._event(None, usage=usage)
            self.wfile.write(b"data: [DONE]\n\n")

        def _hold(self) -> None:
            while not server.closing.wait(0.01):
                self.wfile.write(b": still here\n\n")  # fails once the client has left

        def _event(self, delta: dict[str, Any] | None, reason: str | None = None, usage: Any = None) -> None:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
            event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
            self.wfile.write(b"data: %b\n\n" % json.dumps({**event, "usage": usage}).encode())

        def _send(self, status: int, kind: str, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.base_url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), name=THREAD)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            http.shutdown()
            thread.join()
