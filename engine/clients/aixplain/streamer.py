"""`ModelResponseStreamer`: the answer of a run as it comes, one `ModelResponse` for each piece of it.

It ends with a response that says how: SUCCESS with what the run cost, or FAILED with the reason, whether the service
refused, said so within the stream, or broke off. Nothing a service does is raised. Leaving it ends the run at the
service, and frees its permit.
"""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from engine.call import Call
from engine.clients.aixplain.enums import ResponseStatus
from engine.clients.aixplain.response import ModelResponse, of_call
from engine.errors import NotAdmitted, PenstockError, UsageError
from engine.providers.wire import StreamChunk
from engine.streaming import ReplyStream


class ModelResponseStreamer:
    """Responses by ``async for``; best in an ``async with``, which ends the run when the block is left.

    Those on the way are IN_PROGRESS, with the text of the piece in `data`; a model's reasoning stands in
    ``response["reasoning"]``, pieces of its tool calls in ``response["tool_call"]``. The last one is SUCCESS or FAILED.
    `status` is that of the last one read. ``await`` on it gives itself. The run is queued when it is first read.

    Raises, from the iteration:
      UsageError, NotAdmitted: the run was not sent, for what its caller did. Cancellation ends the run.
    """

    def __init__(self, stream: ReplyStream) -> None:
        self.status = ResponseStatus.IN_PROGRESS
        self._stream = stream
        self._over = False

    @property
    def call(self) -> Call:
        """The call behind it: its usage, its timings, its error."""
        return self._stream.call

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelResponse:
        while not self._over:
            try:
                chunk = await anext(self._stream)
            except StopAsyncIteration:
                return self._last()
            except (UsageError, NotAdmitted) as error:
                if self.call.error is not error:
                    self._over = True
                    raise
                return self._last()
            except PenstockError:
                return self._last()
            if response := _piece(chunk):
                return response
        raise StopAsyncIteration

    def _last(self) -> ModelResponse:
        """The response that says how it ended; raises where `of_call` does."""
        self._over = True
        response = of_call(self.call)
        response.data = ""  # it has come, piece by piece
        self.status = response.status
        return response

    def __await__(self) -> Generator[Any, Any, Self]:
        yield from ()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the run, wherever it is. Idempotent."""
        self._over = True
        await self._stream.aclose()

    def __repr__(self) -> str:
        return f"<ModelResponseStreamer {self.status}>"


def _piece(chunk: StreamChunk) -> ModelResponse | None:
    """The response of one chunk, if it says something."""
    if chunk.type == "text" and chunk.content:
        return ModelResponse(ResponseStatus.IN_PROGRESS, data=chunk.content)
    if chunk.type == "thinking" and chunk.content:
        return ModelResponse(ResponseStatus.IN_PROGRESS, reasoning=chunk.content)
    if chunk.type == "tool_use":
        told = {"id": chunk.tool_id, "name": chunk.tool_name, "arguments": chunk.tool_input}
        return ModelResponse(ResponseStatus.IN_PROGRESS, tool_call=told)
    return None
