"""`penstock call`: one call, and its answer on stdout; on a terminal as it comes.

The provider's failure is a line on stderr and exit code 1, and what had come of the answer stands; what is wrong with
the call itself is exit code 2, and nothing was sent. What the model thinks before it answers is no part of the answer:
it is shown only if asked for, on stderr. An agent's answer is always printed as it comes, since it takes minutes; the
tools it uses are named on stderr.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from engine import Call, ReplyStream, StreamChunk, iModel, open_engine
from engine.cli.call_output import Outlet
from engine.cli.display import progress_console
from engine.cli.options import Count, SecondsOrZero
from engine.cli.signals import until_signalled
from engine.errors import UsageError, one_line


async def call(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    model: str = "",
    provider: str | None = None,
    base_url: str | None = None,
    system: str | None = None,
    cwd: str | None = None,
    permission: Literal["read", "edit", "full"] | None = None,
    resume: str | None = None,
    max_tokens: Count | None = None,
    temperature: SecondsOrZero | None = None,
    stream: bool | None = None,
    thinking: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make one call and print its answer.

    Args:
      prompt: What to ask; - reads it from standard input.
      model: The model, with its provider before a slash where --provider is not given: openai/gpt-4o-mini. An agent has
        a usual one.
      provider: The provider; see penstock providers.
      base_url: The address of the service, instead of the provider's own.
      system: Instructions that stand before the prompt.
      cwd: The directory that an agent works in, instead of this one.
      permission: What an agent may do unasked: read files (usual), edit them, or all.
      resume: The session that an agent goes on with; each run names its own on standard error.
      max_tokens: The most the answer may be long.
      temperature: How much chance there is in the answer.
      stream: Print the answer as it comes, which is usual on a terminal, or once it is whole.
      thinking: Print what the model thinks on standard error, if the provider tells.
      json: Print the provider's whole response as JSON.
    """
    if json and stream:
        raise UsageError("--json prints the response once it is whole; leave out --stream. Nothing was sent.")
    messages = [{"role": "user", "content": _checked(prompt)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    asked = iModel(model=model, provider=provider, base_url=base_url)
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    of_agents: dict[str, Any] = {"cwd": cwd, "permission": permission, "resume": resume}
    if not asked.is_cli:
        _check_service(model, of_agents)
    given = {name: value for name, value in {**options, **of_agents}.items() if value is not None}
    arguments = {"messages": messages, **given}
    at_once = (asked.is_cli or sys.stdout.isatty()) and not json if stream is None else stream

    async def work() -> int:
        async with open_engine():
            if at_once:
                await _Printer(thinking=thinking).print_stream(asked.stream(**arguments))
                return 0
            done = await asked.invoke(**arguments)
        done.raise_for_status()
        await _Printer(thinking=thinking).print_whole(done, json=json)
        return 0

    return await until_signalled(work)


def _check_service(model: str, of_agents: dict[str, Any]) -> None:
    """Refuse what only an agent can do without, or knows."""
    for name, value in of_agents.items():
        if value is not None:
            raise UsageError(f"--{name} is for agents, as --provider claude_code is. Nothing was sent.")
    if not model:
        raise UsageError("--model is missing: which model is to answer? Nothing was sent.")


def _checked(prompt: str) -> str:
    if prompt == "-":
        prompt = sys.stdin.read()
    elif prompt.startswith("-"):
        raise UsageError(
            f"unknown option {prompt}; give a prompt that begins with - on standard input. Nothing was sent."
        )
    if not prompt.strip():
        raise UsageError("the prompt is empty; give it as an argument, or on standard input with -")
    return prompt


class _Printer:
    """Prints an answer: its text to stdout; if asked for, what the model thinks to stderr, dim on a terminal."""

    def __init__(self, *, thinking: bool) -> None:
        self._out = Outlet(sys.stdout, "standard output")
        self._aside = Outlet(sys.stderr, "standard error")
        self._console = progress_console()
        self._thinking = thinking

    async def print_stream(self, chunks: ReplyStream) -> None:
        """Print an answer as it comes. Raises why it did not come whole, after what came."""
        message: object = None
        try:
            async with chunks:
                async for chunk in chunks:
                    if chunk.type == "thinking":
                        await self._think(chunk.content)
                    elif text := str(chunk):
                        await self._aside.end_line()
                        if chunk.metadata.get("message_id") != message:
                            message = chunk.metadata.get("message_id")
                            await self._out.end_line()
                        await self._out.write(text)
                    elif news := _news(chunk):
                        await self._out.end_line()
                        await self._say(news)
        finally:
            await self._aside.end_line()
            await self._out.end_line()

    async def print_whole(self, done: Call, *, json: bool) -> None:
        """Print an answer that is there."""
        await self._think(done.view.reasoning)
        await self._aside.end_line()
        if json:
            await self._out.write_bytes(msgspec.json.encode(done.response) + b"\n")
        else:
            await self._out.write(done.text or "")
            await self._out.end_line()

    async def _think(self, thought: str | None) -> None:
        if self._thinking and thought:
            await self._say_dimmed(thought)

    async def _say(self, news: str) -> None:
        await self._aside.end_line()
        await self._say_dimmed(f"{news}\n")

    async def _say_dimmed(self, text: str) -> None:
        with self._console.capture() as dimmed:
            self._console.out(text, style="dim", highlight=False, end="")
        await self._aside.write(text, shown=dimmed.get())


def _news(chunk: StreamChunk) -> str:
    """What of an agent's run is worth a line beside the answer; nothing of all else."""
    kind = chunk.metadata.get("kind")
    if kind == "tool_use":
        return one_line(f"{chunk.tool_name} {msgspec.json.encode(chunk.tool_input).decode()}", _NEWS_CHARS)
    if kind == "session":
        return f"session {chunk.metadata.get('session_id')}"
    if kind == "retry" and chunk.metadata.get("discards"):
        return "the answer was broken off, and begins anew"
    if kind == "notice":
        return one_line(chunk.content or "", _NEWS_CHARS)
    return ""


_NEWS_CHARS = 200
