"""What a type checker makes of the public names. Never run: read by `mypy --strict` in `test_api_types`.

Each `reveal_type` line says behind it, after "R:", what is to be revealed. Lines that must be errors say which, after
"E:". Everything else must have no error. Must import from `engine`, `engine.testing` and the packages of
`engine.clients` alone, as users do.
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
    ReplyStream,
    StreamChunk,
    Truncated,
    gather,
    iModel,
    open_engine,
)
from engine.clients.inferneo import AsyncInferneoClient, InferneoClient
from engine.testing import (
    FAULTS,
    PATIENCE_S,
    FaultName,
    ProviderReply,
    Request,
    Says,
    Script,
    ScriptedConnection,
    ScriptedProvider,
    ScriptedTransport,
    assert_quiet,
    chat_reply,
    error_reply,
    fault,
    in_virtual_time,
    run_virtual,
    same_order,
    scripted_engine,
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


async def read_a_reply(engine: Engine, model: iModel, call: Call) -> None:
    reveal_type(model.stream(messages=[]))  # R: engine.streaming.ReplyStream
    reveal_type(model.stream(call))  # R: engine.streaming.ReplyStream
    reveal_type(engine.stream(call, process=str))  # R: engine.streaming.ReplyStream
    async with model.stream(messages=[], first_byte_s=5, idle_s=1.5) as chunks:
        reveal_type(chunks)  # R: engine.streaming.ReplyStream
        async for chunk in chunks:
            reveal_type(chunk)  # R: engine.providers.wire.StreamChunk
            reveal_type(str(chunk))  # R: str
        await chunks.aclose()
    async for chunk in model.stream(messages=[]):
        reveal_type(chunk.content)  # R: str | None
    async for chunk in await model.stream(messages=[]):
        reveal_type(chunk.metadata["event"])  # R: object
    kept: ReplyStream = await model.stream(messages=[])
    reveal_type(kept)  # R: engine.streaming.ReplyStream
    reveal_type(kept.call)  # R: engine.call.Call
    reveal_type(chunks.call.timings)  # R: engine.call_options.Timings | None
    items: CallStream[StreamChunk] = chunks
    reveal_type(items.call)  # R: Any  # E: attr-defined
    model.stream("hello")  # E: arg-type
    engine.stream(call, process="print")  # E: arg-type


def use_a_chunk(chunk: StreamChunk) -> str:
    reveal_type(chunk.type == "tool_use")  # R: bool
    reveal_type(chunk.type == "tool")  # R: bool  # E: comparison-overlap
    reveal_type(chunk.is_delta)  # R: bool
    reveal_type(chunk.tool_name)  # R: str | None
    reveal_type(chunk.tool_input)  # R: Any
    chunk.content = ""  # E: misc
    return str(chunk)


async def use_a_process_function() -> None:
    async def later(chunk: StreamChunk) -> StreamChunk:
        return chunk

    iModel(model="m", streaming_process_func=later)
    iModel(model="m", streaming_process_func=print)
    iModel(model="m", streaming_process_func="print")  # E: arg-type


async def use_a_call(call: Call, seed: APICalling) -> None:
    reveal_type(seed)  # R: engine.call.Call
    reveal_type(call.status == "completed")  # R: bool
    reveal_type(call.status == "done")  # R: bool  # E: comparison-overlap
    reveal_type(call.text)  # R: str | None
    reveal_type(call.usage)  # R: engine.providers.view.Usage | None
    reveal_type(call.error)  # R: actors.errors.PenstockError | None
    reveal_type(call.timings)  # R: engine.call_options.Timings | None
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
        if isinstance(error, Truncated):
            reveal_type(error.message)  # R: str
    elif isinstance(error, OutcomeUnknown):
        reveal_type(error.reason)  # R: str
    elif isinstance(error, NotAdmitted):
        reveal_type(error.call)  # R: object
    statistics.live = {}  # E: misc


def use_scripts(request: Request, reply: ProviderReply) -> None:
    def decide(request: Request) -> Says:
        reveal_type(request.chance)  # R: float
        reveal_type(request.prompt)  # R: str
        return reply if request.attempt == 1 else "echo"

    scripts: list[Script] = ["Paris", b"{}", reply, ["Paris", reply], decide]
    provider = ScriptedProvider(decide, connect_failures=2, delay_s=0.5, seed=3)
    provider.follow(scripts[0])
    reveal_type(provider.times)  # R: list[float]
    reveal_type(provider.requests[0].attempt)  # R: int
    reveal_type(provider.fullest(60))  # R: int
    reveal_type(chat_reply("Paris", input_tokens=9, delay_s=2))  # R: engine.testing.replies.ProviderReply
    reveal_type(error_reply(429, retry_after_s=5))  # R: engine.testing.replies.ProviderReply
    reveal_type(fault("cut_reading", status=503))  # R: engine.testing.replies.ProviderReply
    every: tuple[FaultName, ...] = FAULTS
    reveal_type(PATIENCE_S)  # R: float
    fault(every[0])
    fault("cuts")  # E: arg-type
    ScriptedProvider(5)  # E: arg-type


async def use_virtual_time(provider: ScriptedProvider, transport: ScriptedTransport) -> None:
    async with scripted_engine(provider) as engine:
        reveal_type(engine)  # R: engine.runtime.Engine
        reveal_type(assert_quiet(engine))  # R: None
    connection: ScriptedConnection = await transport.connect()
    reveal_type(connection.usable())  # R: bool


def run_in_virtual_time() -> None:
    async def main() -> int:
        return 5

    reveal_type(run_virtual(main, seed=3))  # R: int
    with same_order(seed=1):
        pass

    @in_virtual_time
    async def test(number: int) -> None:
        pass

    reveal_type(test)  # R: def (number: int)
    test("5")  # E: arg-type


def use_inferneo(client: InferneoClient) -> None:
    messages = [{"role": "user", "content": "hi"}]
    whole = client.completions.create(model="m", prompt="hi", stop="x", seed=3)
    reveal_type(whole)  # R: engine.clients.inferneo.responses.CompletionResponse
    reveal_type(whole.choices[0].text)  # R: str
    for chunk in client.chat.completions.create("m", messages, stream=True):
        reveal_type(chunk)  # R: engine.clients.inferneo.responses.ChatCompletionChunk
    reveal_type(client.models.list().data)  # R: list[engine.clients.inferneo.responses.Model]
    client.completions.create(model="m", prompt="hi", temperature="hot")  # E: call-overload
    InferneoClient(limit_reqests=5)  # E: call-arg


async def use_inferneo_in_trio(client: AsyncInferneoClient) -> None:
    async for chunk in await client.completions.create("m", "hi", stream=True):
        reveal_type(chunk.choices[0].text)  # R: str
    answers = await gather(*[client.completions.create(model="m", prompt=prompt) for prompt in ("a", "b")])
    reveal_type(answers)  # R: list[engine.clients.inferneo.responses.CompletionResponse]
