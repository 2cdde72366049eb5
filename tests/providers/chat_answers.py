"""Shared by the tests of reading: the recorded answers, and a short way to have one read.

The bodies are in `fixtures/`: shapes from the providers' documentation and SDKs (2026-11-20).
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.providers.chat_dialects import DIALECTS
from engine.providers.openai_chat import Dialect, OpenAIChat
from engine.providers.wire import Reading

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = {dialect.name: OpenAIChat(dialect) for dialect in DIALECTS.values() if dialect.name != "generic"}
GENERIC = OpenAIChat(Dialect("generic"))
NOW_S = 1_790_000_000.0


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def read(
    body: bytes | object, status: int = 200, headers: dict[str, str] | None = None, wire: OpenAIChat = GENERIC
) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.read(status, headers or {}, raw, now_s=NOW_S)


def message(**fields: object) -> dict[str, object]:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}
