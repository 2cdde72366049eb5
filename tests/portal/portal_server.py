"""A provider on loopback in threads of its own, for programs that are not trio: what it does is said by the prompt.

``hang``: nothing is answered until the client has gone, which `dropped` counts. ``refuse``: an error of 400. Anything
else is answered with the prompt itself, turned round. Streams send `events` deltas; with ``endless`` as prompt they go
on until the client leaves.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.errors import PenstockError

WITHIN_S = 30
"""How long a test waits for what must come, before it fails."""


class Provider(ThreadingHTTPServer):
    """The server, and what it has seen."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.prompts: list[str] = []
        self.events = 5
        self.sent = 0
        self.hanging = threading.Semaphore(0)
        self.dropped = threading.Semaphore(0)

    def wait_hanging(self) -> None:
        """Until one more request hangs."""
        assert self.hanging.acquire(timeout=WITHIN_S)

    def wait_dropped(self) -> None:
        """Until one more client has left."""
        assert self.dropped.acquire(timeout=WITHIN_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.prompts.append(prompt)
        with contextlib.suppress(OSError):
            if prompt == "hang":
                self._wait_until_it_leaves()
            elif prompt == "refuse":
                self._answer(400, {"error": {"message": "refused", "type": "invalid_request_error"}})
            elif body.get("stream"):
                self._stream(prompt)
            else:
                self._answer(200, _completion(prompt[::-1]))

    def _wait_until_it_leaves(self) -> None:
        self.server.hanging.release()
        self.close_connection = True
        self.connection.recv(1)
        self.server.dropped.release()

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, prompt: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        number = 0
        try:
            while prompt == "endless" or number < self.server.events:
                self._event({"choices": [{"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}]})
                number += 1
                self.server.sent = number
        except OSError:
            self.server.dropped.release()
            raise
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: Any) -> None:
        self.wfile.write(
            b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", **value}).encode() + b"\n\n"
        )

    def log_message(self, *args: object) -> None:
        """Quietly."""


def _completion(text: str) -> Any:
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


@contextlib.contextmanager
def serving() -> Iterator[Provider]:
    """A provider for the block."""
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.shutdown()
        thread.join()
        provider.server_close()


def ask(prompt: str) -> dict[str, Any]:
    """The arguments of a call."""
    return {"messages": [{"role": "user", "content": prompt}]}


def in_threads(number: int, work: Any) -> list[Any]:
    """``work(n)`` in so many threads at once; what each returned or raised."""
    results: list[Any] = [None] * number

    def run(index: int) -> None:
        try:
            results[index] = work(index)
        except (PenstockError, AssertionError) as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
        assert not thread.is_alive()
    return results
