"""What is asked of a portal's engine, made into calls and pipes: the same for threads and for asyncio.

`PortalModel` is what `BlockingModel` and `AsyncioModel` share: an `iModel` whose engine is on another thread. Nothing
here waits.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any, Generic, Self, TypeGuard, TypeVar

from engine.call import Call
from engine.errors import InvalidCall, UsageError
from engine.imodel import iModel
from engine.portal.loop import PortalLoop, default_loop
from engine.portal.pipe import Pipe
from engine.portal.told import Narrated, Piece, noted
from engine.streaming import OnChunk, check_streaming

E = TypeVar("E")


def call_of(asked: object, kwargs: dict[str, Any]) -> Call:
    """A call that is given, or made of a model and its arguments.

    Raises:
      InvalidCall: it is neither.
    """
    if isinstance(asked, Call):
        if kwargs:
            raise InvalidCall("this takes a call, or a model and the arguments of one", argument=next(iter(kwargs)))
        return asked
    if not isinstance(asked, iModel):
        raise InvalidCall(f"this takes a call made by create_api_calling, or a model, not {type(asked).__name__}")
    return asked.create_api_calling(**kwargs)


def is_agent(asked: object) -> TypeGuard[iModel]:
    """Whether this is a model whose calls are runs of an agent, which it makes itself: they go on with its session."""
    return isinstance(asked, iModel) and asked.is_cli


def stream_call_of(asked: object, kwargs: dict[str, Any], process: OnChunk = None) -> tuple[Call, OnChunk]:
    """A call that can be streamed, and what is to see its chunks.

    Raises:
      InvalidCall: it cannot.
    """
    if isinstance(asked, iModel):
        kwargs, process = {**kwargs, "stream": True}, process or asked.streaming_process_func
    call = call_of(asked, kwargs)
    check_streaming(call)
    return call, process


def reading_of(loop: PortalLoop, call: Call, watch: OnChunk) -> Pipe[Piece]:
    """The pipe that streams a call. `watch` sees its chunks first, in the loop."""

    async def open_source() -> AsyncIterator[Piece]:
        stream = await loop.engine.stream(call, watch=watch)
        return stream if watch is None else Narrated(stream)

    return Pipe(open_source)


class PortalModel(iModel, Generic[E]):
    """An `iModel` whose calls run in an engine of a portal: the one given, else the process-wide one."""

    _engines: Any  # the class of its engines

    @functools.wraps(iModel.__init__)  # type: ignore[misc]  # for the signature that is shown
    def __init__(self, *args: Any, engine: E | None = None, **kwargs: Any) -> None:
        if engine is not None and not isinstance(engine, self._engines):
            wanted = self._engines.__name__
            raise UsageError(f"engine is what open_portal gives here, {wanted}, not {type(engine).__name__}")
        super().__init__(*args, **noted(kwargs))
        self._portal_engine: E = engine if engine is not None else self._engines(default_loop())

    @property
    def engine(self) -> E:  # type: ignore[override]  # of this model's own kind
        """The engine its calls run in."""
        return self._portal_engine

    @classmethod
    def of(cls, model: iModel, engine: E) -> Self:
        """This model in this engine: what it knows of itself, like its session, it knows as well."""
        own = cls.__new__(cls)
        own.__dict__.update(model.__dict__, _portal_engine=engine)
        return own

    def _asked(self, api_call: object, kwargs: dict[str, Any]) -> object:
        """The call, or the model itself if it is to be made of arguments."""
        if api_call is None:
            return self
        if not isinstance(api_call, Call):
            raise InvalidCall(f"this takes a call made by create_api_calling, not {type(api_call).__name__}")
        return api_call
