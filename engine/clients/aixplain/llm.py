"""`LLM`: a language model of aiXplain's platform, in trio: a `Model` whose runs have the arguments of a conversation.

    llm = LLM("669a63646eb56306647e1091", "GPT-4o Mini", function=Function.TEXT_GENERATION)
    response = await llm.run("And now?", history=[{"role": "user", "content": "Hello"}], max_tokens=256)

What a run may produce, `max_tokens`, is reserved in the limits before it is sent, and settled with the usage it
reports.
"""

from __future__ import annotations

from typing import Any

from engine.clients.aixplain.asset import LLMData
from engine.clients.aixplain.model import NAME, Model
from engine.clients.aixplain.response import ModelResponse


class LLM(LLMData, Model):
    """A language model. Its arguments are those of `Model`, and `temperature`, the one of runs that name none.

    With ``compat="0.2.48"`` no temperature and no top_p is sent unless one is given; the defaults of the signatures
    stand for nothing given.

    Raises:
      AssertionError: `function` is not ``Function.TEXT_GENERATION``.
      UsageError: as of `Model`.
    """

    async def run(  # type: ignore[override]  # as the seed has it
        self,
        data: Any,
        context: str | None = None,
        prompt: str | None = None,
        history: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int = 128,
        top_p: float = 1.0,
        name: str = NAME,
        timeout: float | None = 300,  # noqa: ASYNC109  # as the seed has it
        parameters: dict[str, Any] | None = None,
        wait_time: float = 0.5,
        stream: bool = False,
        *,
        response_format: Any = None,
    ) -> Any:
        """Generate text and wait for it: a `ModelResponse`; with `stream` a `ModelResponseStreamer`.

        `data` is the text, or the last thing the user said; `context` a system message, `history` what was said before,
        as OpenAI has it. A field in `parameters` wins over one in a dict of `data`, that over these arguments, these
        over the model's own. Each argument must be of its type; its range is the service's to judge. The rest is as
        `Model.run` has it, and so is what is raised.
        """
        fields = (context, prompt, history, temperature, max_tokens, top_p, response_format)
        body = self._llm_body(data, parameters, *fields)
        return await self._run(body, name, timeout, wait_time, stream=stream)

    async def run_async(  # type: ignore[override]  # as the seed has it
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
        """Begin to generate text: a response that is IN_PROGRESS, with the `url` to poll. See `run`."""
        fields = (context, prompt, history, temperature, max_tokens, top_p, response_format)
        return await self._submit(self._llm_body(data, parameters, *fields), name)
