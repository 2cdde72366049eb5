"""What the tests of `penstock run` share: lines to run, a provider to run them against, and how results are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from engine.simulator import ConstantLatency, SimulatorConfig, simulated_provider

MESSAGES = [{"role": "user", "content": "hello"}]

BAD_LINES: list[tuple[Any, str]] = [
    (b"{", "invalid_line"),
    (b"[1]", "invalid_line"),
    ({}, "invalid_line"),
    ({"messages": []}, "invalid_call"),
    ({"prompt": "a", "temperature": 7}, "invalid_call"),
    ({"prompt": "a", "stream": True}, "invalid_call"),
    ({"body": {"messages": MESSAGES}, "url": "/v1/audio/speech"}, "unknown_endpoint"),
    ({"prompt": "a", "model": "acme/"}, "unknown_endpoint"),
    ({"prompt": "a", "max_tokens": 100_000}, "capacity_exceeded"),
    ({"prompt": "a", "priority": "high"}, "invalid_call"),
    ({"prompt": "a", "priority": 1.5}, "invalid_call"),
    ({"body": {"messages": MESSAGES}, "priority": [1]}, "invalid_call"),
    ({"prompt": "a", "flow": 7}, "invalid_call"),
    ({"prompt": "a", "flow": "x" * 201}, "invalid_call"),
]
"""Lines that cannot be used, each with the code of its error; one of them because of a limit of 50,000 tokens."""


def provider(**changes: Any) -> Any:
    """A simulated provider in a process of its own."""
    return simulated_provider(SimulatorConfig(**{"latency": ConstantLatency(0.0), **changes}))


def three_kinds(count: int) -> list[dict[str, Any]]:
    """Lines of all three kinds, each with a name of its own."""
    kinds: list[dict[str, Any]] = [
        {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "m-1", "messages": MESSAGES}},
        {"messages": MESSAGES, "max_tokens": 5},
        {"prompt": "hello", "temperature": 0.5},
    ]
    return [{"custom_id": f"c{number}", **kinds[number % 3]} for number in range(count)]


def write(path: Path, lines: list[Any]) -> None:
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def summary_of(out: str) -> dict[str, str]:
    """The summary's rows by their first words; the first of a name counts."""
    rows = [re.split(r"  +", line, maxsplit=1) for line in out.splitlines()]
    return dict(reversed([(row[0], row[1]) for row in rows if len(row) == 2]))
