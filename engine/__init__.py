"""Penstock: give it your calls and your limits; it spends every bit of the limit, never a bit more, and loses no call.

What a user types is exported here: `open_engine` and `Engine` run calls, `iModel` makes them, `iModelManager` holds
several, `Call` is one of them, `CallStream` is many as they end, `ReplyStream` is one as it comes, `HookRegistry` holds
what happens around them, an `Observer` is told each `HookEvent`, `Quota` is a limit, `View` is an answer in common
terms, `Endpoint` and `Provider` are where calls go, and the errors say whose fault it was and whether anything was
spent. Behind: `providers` (what to write and read), `transports` (how to reach them), and the kernel, `actors`.
"""

from actors.hook_bus import Observer
from actors.limits import Quota
from actors.messages import HookEvent
from engine.call import Call, CallOptions, Timings, Usage
from engine.endpoints import Endpoint, EndpointConfig, match_endpoint
from engine.errors import (
    AgentError,
    AgentNotInstalled,
    CallCancelled,
    CapacityExceeded,
    ConnectFailed,
    DeadlineExceeded,
    EngineNotRunning,
    HandlerFailed,
    InternalError,
    InvalidCall,
    MalformedReply,
    MissingKey,
    NotAdmitted,
    OutcomeUnknown,
    Overloaded,
    PenstockError,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Rejected,
    ShuttingDown,
    TransportError,
    Truncated,
    UnknownEndpoint,
    UsageError,
    Vetoed,
)
from engine.hooks import HookEventTypes, HookOptions, HookRegistry
from engine.imodel import iModel
from engine.manager import iModelManager, models_of
from engine.opening import gather, open_engine
from engine.providers.catalogue import Defaults, EndpointRow, Provider
from engine.providers.lookup import register_provider
from engine.providers.view import Citation, Found, ToolCall, View
from engine.providers.wire import StreamChunk
from engine.ready.call_log import CallLog
from engine.ready.call_metrics import CallMetrics
from engine.ready.response_cache import ResponseCache
from engine.runtime import Engine, EngineStatistics
from engine.streaming import CallStream, ReplyStream

APICalling = Call
"""The seed systems' name for a call."""

__all__ = [
    "APICalling",
    "AgentError",
    "AgentNotInstalled",
    "Call",
    "CallCancelled",
    "CallLog",
    "CallMetrics",
    "CallOptions",
    "CallStream",
    "CapacityExceeded",
    "Citation",
    "ConnectFailed",
    "DeadlineExceeded",
    "Defaults",
    "Endpoint",
    "EndpointConfig",
    "EndpointRow",
    "Engine",
    "EngineNotRunning",
    "EngineStatistics",
    "Found",
    "HandlerFailed",
    "HookEvent",
    "HookEventTypes",
    "HookOptions",
    "HookRegistry",
    "InternalError",
    "InvalidCall",
    "MalformedReply",
    "MissingKey",
    "NotAdmitted",
    "Observer",
    "OutcomeUnknown",
    "Overloaded",
    "PenstockError",
    "Provider",
    "ProviderError",
    "ProviderUnavailable",
    "Quota",
    "QuotaExhausted",
    "RateLimited",
    "Rejected",
    "ReplyStream",
    "ResponseCache",
    "ShuttingDown",
    "StreamChunk",
    "Timings",
    "ToolCall",
    "TransportError",
    "Truncated",
    "UnknownEndpoint",
    "Usage",
    "UsageError",
    "Vetoed",
    "View",
    "gather",
    "iModel",
    "iModelManager",
    "match_endpoint",
    "models_of",
    "open_engine",
    "register_provider",
]
