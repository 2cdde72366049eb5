"""In a web application of asyncio: a handler that awaits a call, one that streams it, a client who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from portal_server import Provider, ask

from engine.portal import AsyncioModel, BlockingModel, open_portal

fastapi = pytest.importorskip("fastapi")
responses = pytest.importorskip("fastapi.responses")


def application(provider: Provider) -> object:
    """Opened with the application, closed with it; `/sync` is a handler that FastAPI runs in a thread."""
    given = {"model": "openai/m", "api_key": "none", "base_url": provider.url}

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        portal = open_portal()
        async with portal as engine:
            app.state.model = engine.model(**given)
            app.state.blocking = BlockingModel(engine=portal.blocking, **given)
            app.state.engine = engine
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/ask")
    async def answer(q: str) -> dict[str, str | None]:
        return {"answer": (await app.state.model.invoke(**ask(q))).raise_for_status().text}

    @app.get("/sync")
    def answer_in_a_thread(q: str) -> dict[str, str | None]:
        return {"answer": app.state.blocking.invoke(**ask(q)).text}

    @app.get("/stream")
    async def stream(q: str) -> object:
        async def chunks() -> AsyncIterator[str]:
            async with app.state.model.stream(**ask(q)) as answer:
                async for chunk in answer:
                    yield str(chunk)

        return responses.StreamingResponse(chunks(), media_type="text/plain")

    return app


def test_handlers_share_the_applications_engine(provider: Provider) -> None:
    """Many requests at once, of both kinds of handlers; a client that leaves takes its call along."""

    async def main() -> None:
        app: fastapi.FastAPI = application(provider)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                paths = [f"/{kind}?q=ab{number}" for number in range(20) for kind in ("ask", "sync")]
                answers = await asyncio.gather(*map(client.get, paths))
                expected = [f"ab{number}"[::-1] for number in range(20) for _ in range(2)]
                assert [answer.json()["answer"] for answer in answers] == expected
                assert (await client.get("/stream?q=x")).text == "0 1 2 3 4 "
                leaving = asyncio.create_task(client.get("/ask?q=hang"))
                await asyncio.to_thread(provider.wait_hanging)
                leaving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await leaving
                await asyncio.to_thread(provider.wait_dropped)
                assert not any((await app.state.engine.statistics()).live.values())

    asyncio.run(main())


def test_handler_may_use_the_shared_portal(provider: Provider) -> None:
    """Nothing opened anywhere: a model at module level."""
    model = AsyncioModel(model="openai/m", api_key="none", base_url=provider.url)
    app = fastapi.FastAPI()

    @app.get("/ask")
    async def answer(q: str) -> dict[str, str | None]:
        return {"answer": (await model.invoke(**ask(q))).text}

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            assert (await client.get("/ask?q=ab")).json() == {"answer": "ba"}

    asyncio.run(main())
