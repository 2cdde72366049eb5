"""The engine for asyncio programs and for synchronous code: one thread, one trio loop in it, and two faces to it.

    with open_portal() as engine:                       # BlockingEngine: plain functions and iterators, any thread
        call = engine.invoke(model, messages=[...])

    async with open_portal() as engine:                 # AsyncioEngine: `await` and `async for`, in asyncio
        call = await engine.invoke(model, messages=[...])

    from engine.portal import AsyncioModel as iModel    # no block at all: a process-wide portal, started when needed

The engine is the same as under trio, with the same limits, errors and calls.
"""

from engine.portal.aio import AsyncioEngine, AsyncioModel
from engine.portal.aio_iterators import AsyncioIterator, AsyncioMap, AsyncioStream
from engine.portal.blocking import BlockingEngine, BlockingModel
from engine.portal.blocking_iterators import BlockingIterator, BlockingMap, BlockingStream
from engine.portal.opening import Portal, default_portal, open_portal

__all__ = [
    "AsyncioEngine",
    "AsyncioIterator",
    "AsyncioMap",
    "AsyncioModel",
    "AsyncioStream",
    "BlockingEngine",
    "BlockingIterator",
    "BlockingMap",
    "BlockingModel",
    "BlockingStream",
    "Portal",
    "default_portal",
    "open_portal",
]
