"""lionfuncs' network module over the engine: `Executor`, `iModel`, `EndpointConfig`, `NetworkRequestEvent`.

    async with Executor(requests_rate=3.0) as executor, iModel(executor, config) as model:
        event = await model.acompletion("Hello, world!")
        await event.wait()

The names, arguments and events of lionfuncs; underneath an engine with the executor's limits, and an event is a view of
one of its calls. Here, too: what a rate is as a quota (`rates`), answers as this client wants them read (`documents`),
and how a coroutine of the user's own is run as a call (`coroutines`). `docs/lionfuncs.md` says what differs.
"""

from engine.clients.lionfuncs.events import NetworkRequestEvent, RequestStatus
from engine.clients.lionfuncs.executor import Executor
from engine.clients.lionfuncs.imodel import iModel
from engine.endpoints import EndpointConfig

__all__ = ["EndpointConfig", "Executor", "NetworkRequestEvent", "RequestStatus", "iModel"]
