"""`Model`: a model of aiXplain's platform, in trio. The names and arguments are those of aiXplain's SDK.

    async with open_engine():
        model = Model("6414bd3cd09663e9225130e8")
        response = await model.run("hello")
        print(response.data)

Its runs go through the engine: limits, retries, one deadline, cancellation. What the service does is a `ModelResponse`
with status FAILED; nothing of it is raised. The blocking twin is in `engine.portal.aixplain`.
"""

from __future__ import annotations

from typing import Any

from engine.clients.aixplain import asking, checks
from engine.clients.aixplain.asset import ModelData
from engine.clients.aixplain.parameters import FinetuneStatus
from engine.clients.aixplain.response import ModelResponse
from engine.clients.aixplain.streamer import ModelResponseStreamer

NAME = "model_process"


class Model(ModelData):
    """A model that can be run. Its id is enough; the rest describes it.

    Args:
      id: the model's id on the platform.
      name, description, supplier, version, function, cost, created_at, input_params, output_params, model_params,
        status, function_type, is_subscribed: what is known of it. Nothing of this is sent.
      api_key: the key; else TEAM_API_KEY, else AIXPLAIN_API_KEY, as they stand when the model is built.
      supports_streaming: whether it can be run with ``stream=True``. Nobody is asked: say it, or let `ModelFactory.get`
        read it from the platform.
      compat: whose bodies are sent, ``"0.2.34"`` (those of the seed) or ``"0.2.48"``.
      settings: arguments of `iModel` for its runs: ``{"limit_requests": 60, "engine": engine}``, hooks, a lane.
      **additional_info: anything else that is known of it.

    MODELS_RUN_URL and BACKEND_URL, as they stand when it is built, are the two addresses that its key is sent to.

    Raises:
      UsageError: an argument is of the wrong type, a setting or an address cannot be used, or the environment holds
        two keys that differ.
    """

    async def run(
        self,
        data: Any,
        name: str = NAME,
        timeout: float | None = 300,  # noqa: ASYNC109  # as the seed has it
        parameters: dict[str, Any] | None = None,
        wait_time: float = 0.5,
        stream: bool = False,
    ) -> Any:
        """Run it and wait for the answer: a `ModelResponse`; with `stream` a `ModelResponseStreamer`.

        A text is sent exactly as given, a dict is the body; `parameters` are merged over it, and neither dict is
        changed. `timeout`, in seconds, bounds everything until the answer is there, polls included (None: no bound).
        With `stream` it has no effect: an answer in pieces is there as long as it is read, and how long that takes is
        its reader's; ``settings={"timeout_s": ...}`` bounds an attempt, `trio.fail_after` the reading. `wait_time` is
        the first wait between polls; it grows by a tenth each time, up to a minute. `name` is for logs. Cancellation
        gives the run up here; the service may go on with it.

        Raises:
          AssertionError: `stream`, and the model does not stream. Nothing was sent.
          UsageError, NotAdmitted: what was wrong before anything was sent.
        """
        return await self._run(self._body(data, parameters), name, timeout, wait_time, stream=stream)

    def run_stream(self, data: Any, parameters: dict[str, Any] | None = None) -> ModelResponseStreamer:
        """Run it and read the answer as it comes; may be awaited or not.

        Raises:
          AssertionError: the model does not stream. Nothing was sent.
          UsageError: what was wrong before anything was sent.
        """
        return self._stream(self._body(data, parameters), NAME)

    async def run_async(self, data: Any, name: str = NAME, parameters: dict[str, Any] | None = None) -> ModelResponse:
        """Begin a run: a response that is IN_PROGRESS, with the `url` to poll, or the answer, if it is there at once.

        Raises:
          UsageError, NotAdmitted: what was wrong before anything was sent.
        """
        return await self._submit(self._body(data, parameters), name)

    async def poll(self, poll_url: str, name: str = NAME) -> ModelResponse:
        """Ask once how a run stands. IN_PROGRESS, or what came of it, or FAILED with the reason why it cannot be said.

        Asked at the origins of MODELS_RUN_URL and BACKEND_URL only: at any other address, FAILED, and nothing is sent.
        """
        return await asking.poll(self, poll_url, name=checks.run_name(name))

    async def sync_poll(
        self,
        poll_url: str,
        name: str = NAME,
        wait_time: float = 0.5,
        timeout: float | None = 300,  # noqa: ASYNC109  # as the seed has it
    ) -> ModelResponse:
        """Ask until the run is over: at once, then after `wait_time` seconds (at least 0.2), each wait a tenth longer,
        up to a minute, give or take a fifth.

        Whatever ends the polling is said: what came of the run, why it cannot be asked for, or, after `timeout`
        seconds, "No response from the service." with `completed` False.
        """
        told = checks.run_name(name)
        return await asking.sync_poll(self, poll_url, name=told, wait_time=wait_time, timeout_s=timeout)

    async def check_finetune_status(self, after_epoch: int | None = None) -> FinetuneStatus:
        """How its fine-tuning stands: of the last epoch logged, or of the first one after `after_epoch`.

        Raises:
          MissingKey: there is no key.
          InvalidCall: `after_epoch` is no number. Nothing was sent.
          PenstockError: the platform did not say, or not so that it can be read. (The SDK returns None then, and the
            reason is lost.)
        """
        return await asking.finetune_status(self, checks.number("after_epoch", after_epoch))

    async def delete(self) -> None:
        """Delete it from the platform.

        Raises:
          MissingKey: there is no key.
          ProviderError: it was not deleted; the message says why.
        """
        await asking.delete(self)

    async def _run(
        self,
        body: dict[str, Any],
        name: str,
        timeout: float | None,  # noqa: ASYNC109  # passed on
        wait_time: float,
        *,
        stream: bool,
    ) -> Any:
        if stream:
            return self._stream(body, name)
        return await asking.run(self, body, name=checks.run_name(name), timeout_s=timeout, wait_time=wait_time)

    async def _submit(self, body: dict[str, Any], name: str) -> ModelResponse:
        return await asking.submit(self, body, name=checks.run_name(name))

    def _stream(self, body: dict[str, Any], name: str) -> ModelResponseStreamer:
        self._check_streaming()
        return asking.stream(self, body, name=checks.run_name(name))
