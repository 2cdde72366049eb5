"""What a type checker makes of the public names. Never run: read by `mypy --strict` in `test_api_types`.

Each `reveal_type` line says behind it, after "R:", what is to be revealed. Lines that must be errors say which, after
"E:". Everything else must have no error. Must import from `engine` alone, as users do.
"""

from collections.abc import AsyncIterator, Iterator
from typing import reveal_type

from engine import (
    APICalling,
    Call,
    CallStream,
    Engine,
    EngineStatistics,
    NotAdmitted,
    OutcomeUnknown,
    PenstockError,
    ProviderError,
    Quota,
    gather,
    iModel,
    open_engine,
)


def a_model() -> iModel:
    return iModel(
        provider="openai",
        model="gpt-4o",
        api_key=None,
        limit_requests=100,
        limit_tokens=100_000,
        queue_capacity=10,
        capacity_refresh_time=60,
        interval=None,
        concurrency_limit=5,
        lane="work",
        quotas=[Quota("requests", 5, 1.0, name="burst", burst=3, pace=True, guard_s=0.0, settle="reserved")],
        max_connections=10,
        temperature=0.5,
    )


async def use_an_engine(model: iModel) -> None:
    async with open_engine() as engine:
        reveal_type(engine)  # R: engine.runtime.Engine
        call = model.create_api_calling(messages=[{"role": "user", "content": "hello"}], deadline_s=5)
        reveal_type(call)  # R: engine.call.Call
        reveal_type(await engine.submit(call))  # R: engine.call.Call
        reveal_type(engine.submit_nowait(call))  # R: engine.call.Call
        reveal_type(await engine.invoke(call))  # R: engine.call.Call
        reveal_type(await model.invoke(call))  # R: engine.call.Call
        reveal_type(await model.invoke(messages=[]))  # R: engine.call.Call
        reveal_type(engine.map([call]))  # R: engine.streaming.CallStream[engine.call.Call]
        reveal_type(engine.statistics())  # R: engine.runtime.EngineStatistics
        reveal_type(engine.statistics().live["queued"])  # R: int
        reveal_type(await engine.drain(queue="discard", deadline_s=1.5))  # R: None
        await engine.wait_quiet()
        async with engine.observe(buffer=5) as observer:
            async for event in observer:
                reveal_type(event.call_id)  # R: int
        await engine.drain(queue="later")  # E: arg-type
        engine.map([1, 2])  # E: list-item
        await engine.submit("call")  # E: arg-type


async def use_a_stream(engine: Engine, model: iModel) -> None:
    def calls() -> Iterator[Call]:
        yield model.create_api_calling(messages=[])

    async def later() -> AsyncIterator[Call]:
        yield model.create_api_calling(messages=[])

    async with engine.map(calls(), ordered=True, buffer=10) as stream:
        reveal_type(stream)  # R: engine.streaming.CallStream[engine.call.Call]
        async for call in stream:
            reveal_type(call)  # R: engine.call.Call
        await stream.aclose()
    async for call in engine.map(later()):
        reveal_type(call.id)  # R: int
    reveal_type(await engine.map(calls()))  # R: engine.streaming.CallStream[engine.call.Call]
    kept: CallStream[Call] = engine.map([])
    reveal_type(kept)  # R: engine.streaming.CallStream[engine.call.Call]


async def use_a_call(call: Call, seed: APICalling) -> None:
    reveal_type(seed)  # R: engine.call.Call
    reveal_type(call.status == "completed")  # R: bool
    reveal_type(call.status == "done")  # R: bool  # E: comparison-overlap
    reveal_type(call.text)  # R: str | None
    reveal_type(call.usage)  # R: engine.providers.wire.Usage | None
    reveal_type(call.error)  # R: actors.errors.PenstockError | None
    reveal_type(call.timings)  # R: engine.call.Timings | None
    reveal_type(call.attempts)  # R: int
    reveal_type(call.metadata)  # R: typing.Mapping[str, Any]
    reveal_type(call.response)  # R: Any
    reveal_type(call.payload)  # R: Any
    reveal_type(call.raise_for_status())  # R: engine.call.Call
    reveal_type(await call.wait())  # R: engine.call.Call
    reveal_type(call.cancel())  # R: None
    call.status = "completed"  # E: misc


async def use_alone() -> None:
    async with iModel(model="openai/gpt-4o") as model:
        reveal_type(model)  # R: engine.imodel.iModel
        reveal_type(model.model_name)  # R: str
        reveal_type(model.engine)  # R: engine.runtime.Engine
        await model.close()
    iModel(model="m", limit_requests="5")  # E: arg-type
    Quota("tokens", 5)  # E: arg-type


class MyModel(iModel):
    """A subclass keeps its own type in an ``async with``."""


async def use_a_subclass() -> None:
    async with MyModel(model="m") as model:
        reveal_type(model)  # R: api.MyModel


async def use_gather(model: iModel) -> None:
    calls = await gather(model.invoke(messages=[]), model.invoke(messages=[]))
    reveal_type(calls)  # R: list[engine.call.Call]


def use_errors(error: PenstockError, statistics: EngineStatistics) -> None:
    reveal_type(error.call_id)  # R: int | None
    reveal_type(error.gave_up)  # R: str
    if isinstance(error, ProviderError):
        reveal_type(error.status)  # R: int | None
        reveal_type(error.retry_after_s)  # R: float | None
    elif isinstance(error, OutcomeUnknown):
        reveal_type(error.reason)  # R: str
    elif isinstance(error, NotAdmitted):
        reveal_type(error.call)  # R: object
    statistics.live = {}  # E: misc
