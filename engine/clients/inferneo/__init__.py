"""Code written for Inferneo's Python client runs here: ``from engine.clients.inferneo import InferneoClient``.

That client is only a document: no release of it exists. Here are its names, arguments, answers and errors, for an
Inferneo server and for any other that speaks OpenAI's formats. `InferneoClient` is for synchronous code,
`AsyncInferneoClient` for trio; underneath are the engine's calls, with its limits, retries and cancellation.
"""

from engine.clients.inferneo.asynchronous import AsyncInferneoClient
from engine.clients.inferneo.blocking import InferneoClient
from engine.clients.inferneo.errors import InferneoAPIError, InferneoError, InferneoTimeoutError
from engine.clients.inferneo.responses import (
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionResponse,
    ChatMessage,
    CompletionChoice,
    CompletionChunk,
    CompletionResponse,
    LogProbs,
    Model,
    ModelList,
    ServerInfo,
    Usage,
)
from engine.clients.inferneo.streams import ChunkStream

__all__ = [
    "AsyncInferneoClient",
    "ChatCompletionChoice",
    "ChatCompletionChunk",
    "ChatCompletionChunkChoice",
    "ChatCompletionResponse",
    "ChatMessage",
    "ChunkStream",
    "CompletionChoice",
    "CompletionChunk",
    "CompletionResponse",
    "InferneoAPIError",
    "InferneoClient",
    "InferneoError",
    "InferneoTimeoutError",
    "LogProbs",
    "Model",
    "ModelList",
    "ServerInfo",
    "Usage",
]
