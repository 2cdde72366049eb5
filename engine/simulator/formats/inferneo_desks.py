"""What Inferneo's server answers besides calls: its health, its model, its load, its schema, and where to go instead.

The load is told as the server tells it (``/stats`` as JSON, ``/metrics`` for Prometheus): it decodes `MOST_RUNNING`
requests at once and keeps the others waiting. `PLACES` has the server as it is (one model, no record of it), and as it
is documented (every model, each with a record). Recordings of omkar-droid/inferneo 3492952, as of 2026-11-20; the names
of the series from its inferneo/metrics/stats.py.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from typing import Any, Final

from engine.simulator.failure import Failure
from engine.simulator.formats.desk import Asked, Desk, House
from engine.simulator.formats.manner import header
from engine.simulator.reply import Answer, encode

MOST_RUNNING: Final = 256
"""How many requests it decodes at once."""

_GPU_TOTAL: Final = 16 * 2**30
_GPU_IDLE: Final = 4 * 2**30
_HTML: Final = b"<!DOCTYPE html><html><head><title>inferneo</title></head><body>inferneo</body></html>"
_PATHS: Final = {
    "/health": "get",
    "/v1/models": "get",
    "/v1/completions": "post",
    "/v1/chat/completions": "post",
    "/stats": "get",
    "/metrics": "get",
    "/dashboard": "get",
}
_LATENCIES: Final = ("ttft", "tpot", "e2e")


class Health(Desk):
    """``GET /health``: well, whatever becomes of its calls."""

    public = True

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return Answer(200, [], b'{"status":"ok"}')


class Models(Desk):
    """``GET /v1/models``: the models it has, here the first `most` of the configuration."""

    def __init__(self, most: int | None) -> None:
        self._most = most

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        data = [_card(name, house) for name in house.models[: self._most]]
        return Answer(200, [], encode({"object": "list", "data": data}))


class Model(Desk):
    """``GET /v1/models/{id}``, which the documentation has and the server has not."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        name = asked.name
        if name not in house.models:
            text = f"The model '{name[:200]}' does not exist."
            return Failure("not_found", 404, text, param="model", code="model_not_found")
        return Answer(200, [], encode(_card(name, house) | {"permission": [], "root": name, "parent": None}))


class Stats(Desk):
    """``GET /stats``: the load as JSON."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return Answer(200, [], encode(_stats(house)))


class Metrics(Desk):
    """``GET /metrics``: the load for Prometheus."""

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        lines: list[str] = []
        for name, kind, value in _series(_stats(house)):
            lines += [f"# HELP inferneo_{name} {name.replace('_', ' ')}", f"# TYPE inferneo_{name} {kind}"]
            lines.append(f"inferneo_{name} {value:g}" if isinstance(value, float) else f"inferneo_{name} {value}")
        text = "\n".join(lines) + "\n"
        return Answer(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], text.encode())


class Schema(Desk):
    """``GET /openapi.json``; its version is that of the framework's default, not of the server."""

    public = True

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        replies = {"200": {"description": "Successful Response"}}
        paths = {path: {method: {"responses": replies}} for path, method in _PATHS.items()}
        told = {"openapi": "3.1.0", "info": {"title": "inferneo", "version": "0.1.0"}, "paths": paths}
        return Answer(200, [], encode(told))


class Dashboard(Desk):
    """``GET /dashboard``: a page for people."""

    public = True

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        return Answer(200, [(b"content-type", b"text/html; charset=utf-8")], _HTML)


class Redirect(Desk):
    """A path with a slash too many: the same without it, by the same method."""

    public = True

    def reply(self, asked: Asked, house: House) -> Answer | Failure:
        host, path = header(asked.headers, b"host"), asked.path.removesuffix("/").encode("latin-1")
        return Answer(307, [(b"location", b"http://%b%b" % (host, path))], b"")


def _card(name: str, house: House) -> dict[str, Any]:
    """A model, created when it is asked for, as the server has it."""
    return {"id": name, "object": "model", "created": house.now.unix_us // 1_000_000, "owned_by": "inferneo"}


def _stats(house: House) -> dict[str, Any]:
    told = house.statistics()
    up_s = house.up_us / 1_000_000
    running = min(told.in_flight, MOST_RUNNING)
    load, per_s = running / MOST_RUNNING, 1 / up_s if up_s else 0.0
    return {
        "uptime_s": up_s,
        "running": running,
        "waiting": told.in_flight - running,
        "kv_cache_usage": load,
        "generation_tps": told.output_tokens * per_s,
        "processed_tps": (told.input_tokens + told.output_tokens) * per_s,
        "effective_batch": float(running),
        "prefill_fraction": 0.0,
        "preemptions_per_s": 0.0,
        **{f"{name}_ms": {"p50": 0.0, "p99": 0.0} for name in _LATENCIES},
        "totals": {
            "steps": told.output_tokens,
            "prompt_tokens": told.input_tokens,
            "generation_tokens": told.output_tokens,
            "finished_requests": told.accepted - told.in_flight,
            "preemptions": 0,
        },
        "info": {"model": house.models[0] if house.models else ""},
        "achieved_tflops": 0.0,
        "mfu": 0.0,
        "gpu": {"mem_used_bytes": _GPU_IDLE + round(load * (_GPU_TOTAL - _GPU_IDLE)), "mem_total_bytes": _GPU_TOTAL},
    }


def _series(stats: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The load as series: name, kind, value."""
    totals, gpu = stats["totals"], stats["gpu"]
    return [
        ("running_requests", "gauge", stats["running"]),
        ("waiting_requests", "gauge", stats["waiting"]),
        ("kv_cache_usage_ratio", "gauge", stats["kv_cache_usage"]),
        ("generation_tokens_per_second", "gauge", stats["generation_tps"]),
        *((f"{name}_ms_{part}", "gauge", stats[f"{name}_ms"][part]) for name in _LATENCIES for part in ("p50", "p99")),
        ("generation_tokens_total", "counter", totals["generation_tokens"]),
        ("prompt_tokens_total", "counter", totals["prompt_tokens"]),
        ("finished_requests_total", "counter", totals["finished_requests"]),
        ("preemptions_total", "counter", totals["preemptions"]),
        ("gpu_memory_used_bytes", "gauge", gpu["mem_used_bytes"]),
        ("gpu_memory_total_bytes", "gauge", gpu["mem_total_bytes"]),
    ]


_COMMON: Final = (
    ("GET", "/health", Health()),
    ("GET", "/stats", Stats()),
    ("GET", "/metrics", Metrics()),
    ("GET", "/openapi.json", Schema()),
    ("GET", "/dashboard", Dashboard()),
    *((method.upper(), f"{path}/", Redirect()) for path, method in _PATHS.items()),
)
PLACES: Final[tuple[tuple[str, str, str, Desk], ...]] = (
    ("inferneo", "GET", "/v1/models", Models(1)),
    ("inferneo_documented", "GET", "/v1/models", Models(None)),
    *((name, *place) for name in ("inferneo", "inferneo_documented") for place in _COMMON),
    ("inferneo_documented", "GET", "/v1/models/{...}", Model()),
)
"""By provider, method and template: both of them."""
