"""OpenAI's text completions: the manner of ``/v1/completions``, the endpoint that chat completions took the place of.

A prompt is a text, a list of texts, or numbers that stand for text; each prompt of a list gets `n` choices. Not
simulated: streams, `echo`, `best_of` and `logprobs`; a request for a stream is refused. Shapes and the cap of 16 where
a request sets none from the reference at platform.openai.com, read on 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from typing import Final

from engine.simulator.chat import MAX_CHOICES, MAX_OUTPUT, ChatRequest, count_of, model_of, read_object
from engine.simulator.chunks import Wording
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen
from engine.simulator.formats.openai_chat import OpenAI
from engine.simulator.formats.openai_embed import inputs_of
from engine.simulator.formats.words import body, usage
from engine.simulator.reply import usage_of

USUAL_CAP: Final = 16


class OpenAICompletions(OpenAI):
    """``/v1/completions``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        model, prompts = model_of(arguments), inputs_of(arguments.get("prompt"))
        if isinstance(model, Failure):
            return model
        if prompts is None:
            text = "Invalid 'prompt': it must be a text, or a list of texts or lists of tokens, none empty."
            return invalid(text, param="prompt", code="invalid_value")
        if arguments.get("stream"):
            return invalid("Streams of completions are not simulated.", param="stream", code="unsupported_value")
        choices, cap = count_of(arguments, "n", MAX_CHOICES), count_of(arguments, "max_tokens", MAX_OUTPUT)
        if isinstance(choices, Failure):
            return choices
        if isinstance(cap, Failure):
            return cap
        texts = [{"role": "user", "content": prompt} for prompt in prompts if isinstance(prompt, str)]
        known = sum(len(prompt) for prompt in prompts if not isinstance(prompt, str))
        many = (choices or 1) * len(prompts)
        return ChatRequest({**arguments, "messages": texts}, model, many, cap or USUAL_CAP, known_input=known)

    def whole(self, said: Wording) -> bytes:
        done = said.done
        answer = {
            "id": f"cmpl-{done.identity}",
            "object": "text_completion",
            "created": done.created_s,
            "model": done.model,
            "choices": [
                {"text": done.text, "index": place, "logprobs": None, "finish_reason": "stop"}
                for place in range(done.choices)
            ],
            "usage": usage(said, usage_of(done.cost)),
            "system_fingerprint": "fp_simulated",
        }
        return body(said, answer)
