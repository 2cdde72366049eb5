"""aiXplain's `Model`, `LLM` and `ModelFactory` for synchronous code: the names and arguments of its SDK, blocking.

    from engine.portal.aixplain import LLM, Function, Model

    response = Model("6414bd3cd09663e9225130e8").run("hello")

They use the process-wide portal, or the `BlockingEngine` given in ``settings={"engine": engine}``, and may be used from
any thread. Each method blocks its own thread alone; Ctrl-C cancels what it waits for. What they do, return and raise is
said in `engine.clients.aixplain`. Nothing here runs in the loop's thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from engine.clients.aixplain import asking, checks
from engine.clients.aixplain import factory as trio_factory
from engine.clients.aixplain.asset import Asset, LLMData, ModelData
from engine.clients.aixplain.bodies import checked_compat
from engine.clients.aixplain.enums import AssetStatus, Function, FunctionType, ResponseStatus, Supplier
from engine.clients.aixplain.factory import KeyLimit
from engine.clients.aixplain.model import NAME
from engine.clients.aixplain.parameters import FinetuneStatus, ModelParameters, Parameter
from engine.clients.aixplain.response import ModelResponse
from engine.portal.blocking import BlockingEngine
from engine.portal.blocking_iterators import BlockingIterator
from engine.portal.opening import default_portal

__all__ = [
    "LLM",
    "Asset",
    "AssetStatus",
    "FinetuneStatus",
    "Function",
    "FunctionType",
    "KeyLimit",
    "Model",
    "ModelFactory",
    "ModelParameters",
    "ModelResponse",
    "ModelResponseStreamer",
    "Parameter",
    "ResponseStatus",
    "Supplier",
]


class ModelResponseStreamer:
    """Responses by ``for``; best in a ``with``, which ends the run when the block is left. `status` is that of the last
    one read. See `engine.clients.aixplain.ModelResponseStreamer`."""

    def __init__(self, responses: BlockingIterator[ModelResponse]) -> None:
        self.status = ResponseStatus.IN_PROGRESS
        self._responses = responses

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ModelResponse:
        response = next(self._responses)
        self.status = response.status
        return response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the run, wherever it is. Idempotent."""
        self._responses.close()

    def __repr__(self) -> str:
        return f"<ModelResponseStreamer {self.status}>"


class Model(ModelData):
    """`engine.clients.aixplain.Model`, blocking. ``settings["engine"]`` is a `BlockingEngine` here."""

    _blocking: BlockingEngine | None = None

    def _engine_settings(self, settings: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        self._blocking, rest = _apart(settings)
        return rest

    @property
    def _engine(self) -> BlockingEngine:
        return self._blocking or default_portal().blocking

    def run(
        self,
        data: Any,
        name: str = NAME,
        timeout: float | None = 300,
        parameters: dict[str, Any] | None = None,
        wait_time: float = 0.5,
        stream: bool = False,
    ) -> Any:
        """Run it and wait for the answer; with `stream` a `ModelResponseStreamer`, which no `timeout` bounds."""
        return self._run(self._body(data, parameters), name, timeout, wait_time, stream=stream)

    def run_stream(self, data: Any, parameters: dict[str, Any] | None = None) -> ModelResponseStreamer:
        """Run it and read the answer as it comes."""
        return self._stream(self._body(data, parameters), NAME)

    def run_async(self, data: Any, name: str = NAME, parameters: dict[str, Any] | None = None) -> ModelResponse:
        """Begin a run: IN_PROGRESS, with the `url` to poll, or the answer, if it is there at once."""
        return self._submit(self._body(data, parameters), name)

    def poll(self, poll_url: str, name: str = NAME) -> ModelResponse:
        """Ask once how a run stands."""
        return self._engine.call(asking.poll, self, poll_url, name=checks.run_name(name))

    def sync_poll(
        self, poll_url: str, name: str = NAME, wait_time: float = 0.5, timeout: float | None = 300
    ) -> ModelResponse:
        """Ask until the run is over, for `timeout` seconds at most."""
        told = checks.run_name(name)
        return self._engine.call(asking.sync_poll, self, poll_url, name=told, wait_time=wait_time, timeout_s=timeout)

    def check_finetune_status(self, after_epoch: int | None = None) -> FinetuneStatus:
        """How its fine-tuning stands."""
        return self._engine.call(asking.finetune_status, self, checks.number("after_epoch", after_epoch))

    def delete(self) -> None:
        """Delete it from the platform."""
        self._engine.call(asking.delete, self)

    def _run(self, body: dict[str, Any], name: str, timeout: float | None, wait_time: float, *, stream: bool) -> Any:
        if stream:
            return self._stream(body, name)
        told = checks.run_name(name)
        return self._engine.call(asking.run, self, body, name=told, timeout_s=timeout, wait_time=wait_time)

    def _submit(self, body: dict[str, Any], name: str) -> ModelResponse:
        return self._engine.call(asking.submit, self, body, name=checks.run_name(name))

    def _stream(self, body: dict[str, Any], name: str) -> ModelResponseStreamer:
        self._check_streaming()
        return ModelResponseStreamer(self._engine.iterate(_responses(self, body, checks.run_name(name))))


async def _responses(model: ModelData, body: dict[str, Any], name: str) -> AsyncIterator[ModelResponse]:
    """The responses of a streamed run, in the portal's loop."""
    async with asking.stream(model, body, name=name) as streamer:
        async for response in streamer:
            yield response


class LLM(LLMData, Model):
    """`engine.clients.aixplain.LLM`, blocking."""

    def run(  # type: ignore[override]  # as the seed has it
        self,
        data: Any,
        context: str | None = None,
        prompt: str | None = None,
        history: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int = 128,
        top_p: float = 1.0,
        name: str = NAME,
        timeout: float | None = 300,
        parameters: dict[str, Any] | None = None,
        wait_time: float = 0.5,
        stream: bool = False,
        *,
        response_format: Any = None,
    ) -> Any:
        """Generate text and wait for it; with `stream` a `ModelResponseStreamer`."""
        fields = (context, prompt, history, temperature, max_tokens, top_p, response_format)
        return self._run(self._llm_body(data, parameters, *fields), name, timeout, wait_time, stream=stream)

    def run_async(  # type: ignore[override]  # as the seed has it
        self,
        data: Any,
        context: str | None = None,
        prompt: str | None = None,
        history: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int = 128,
        top_p: float = 1.0,
        name: str = NAME,
        parameters: dict[str, Any] | None = None,
        *,
        response_format: Any = None,
    ) -> ModelResponse:
        """Begin to generate text: IN_PROGRESS, with the `url` to poll."""
        fields = (context, prompt, history, temperature, max_tokens, top_p, response_format)
        return self._submit(self._llm_body(data, parameters, *fields), name)


class ModelFactory:
    """Models by their id or their name on the platform, and the limits of a key; blocking."""

    @classmethod
    def get(
        cls,
        model_id: str | None = None,
        name: str | None = None,
        api_key: str | None = None,
        *,
        compat: str = "0.2.34",
        settings: Mapping[str, Any] | None = None,
    ) -> Model:
        """The model of this id, or of this name: an `LLM` where it generates text."""
        blocking, rest = _apart(settings)
        checked_compat(compat)
        engine = blocking or default_portal().blocking
        record = engine.call(trio_factory.fetch_record, model_id, name, api_key, rest)
        return trio_factory.made_of(record, (Model, LLM), api_key=api_key, compat=compat, settings=settings)

    @classmethod
    def usage_limits(cls, api_key: str | None = None, *, settings: Mapping[str, Any] | None = None) -> list[KeyLimit]:
        """What the platform allows the key in a day."""
        blocking, rest = _apart(settings)
        return (blocking or default_portal().blocking).call(trio_factory.fetch_limits, api_key, rest)


def _apart(settings: Mapping[str, Any] | None) -> tuple[BlockingEngine | None, dict[str, Any]]:
    """The blocking engine among the settings, and the rest."""
    rest = checks.settings_of(settings)
    if not isinstance(rest.get("engine"), BlockingEngine):
        return None, rest
    engine: BlockingEngine = rest.pop("engine")
    return engine, rest
