"""`penstock call`: one call, and its answer on stdout.

The provider's failure is a line on stderr and exit code 1; what is wrong with the call itself is exit code 2, and
nothing was sent.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from engine import iModel, open_engine
from engine.cli.options import Count, SecondsOrZero
from engine.cli.signals import until_signalled
from engine.errors import UsageError


async def call(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    model: str,
    provider: str | None = None,
    base_url: str | None = None,
    system: str | None = None,
    max_tokens: Count | None = None,
    temperature: SecondsOrZero | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make one call and print its answer.

    Args:
      prompt: What to ask; - reads it from standard input.
      model: The model, with its provider before a slash where --provider is not given: openai/gpt-4o-mini.
      provider: The provider; see penstock providers.
      base_url: The address of the service, instead of the provider's own.
      system: Instructions that stand before the prompt.
      max_tokens: The most the answer may be long.
      temperature: How much chance there is in the answer.
      json: Print the provider's whole response as JSON.
    """
    if prompt == "-":
        prompt = sys.stdin.read()
    elif prompt.startswith("-"):
        raise UsageError(
            f"unknown option {prompt}; give a prompt that begins with - on standard input. Nothing was sent."
        )
    if not prompt.strip():
        raise UsageError("the prompt is empty; give it as an argument, or on standard input with -")
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    arguments = {name: value for name, value in options.items() if value is not None}

    async def work() -> int:
        async with open_engine():
            done = await iModel(model=model, provider=provider, base_url=base_url).invoke(
                messages=messages, **arguments
            )
        done.raise_for_status()
        if json:
            sys.stdout.buffer.write(msgspec.json.encode(done.response) + b"\n")
        else:
            print(done.text)
        return 0

    return await until_signalled(work)
