"""`penstock run`: a file of requests in, a file of results out, under the limits given.

Results go to --output; when that is stdout, the summary joins the progress on stderr, so that stdout is data alone.
The first SIGINT, SIGTERM or SIGHUP lets what is in flight end and discards the rest, the second ends it at once. What a
line means and what becomes of it is the business of `engine.batch`: here the options are read and the numbers printed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

import trio
from cyclopts import Parameter

from actors.limits import Quota
from engine.batch import STANDARD, Batch, BatchSettings, InputFile, LineReader, Misuse, ResultFile, Tally
from engine.cli.display import progress_console
from engine.cli.options import Count, Seconds
from engine.cli.run_display import show_run
from engine.cli.signals import ending_signals
from engine.config import EngineConfig, parse_config
from engine.transports.files import read_text

COMPLETED: Final = 0
SOME_FAILED: Final = 1
STOP_S: Final = 2.0
"""How long what has been finished may take to be written once the run was told to stop."""

MOST_FAILURES: Final = 3
MESSAGE_CHARS: Final = 200


async def run(
    source: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)],
    model: str | None = None,
    provider: str | None = None,
    base_url: str | None = None,
    limit_requests: Count | None = None,
    limit_tokens: Count | None = None,
    per: Seconds = 60.0,
    concurrency: Count | None = None,
    deadline: Seconds | None = None,
    timeout: Seconds | None = None,  # noqa: ASYNC109  # of each attempt, which the engine keeps
    on_unknown: Literal["fail", "retry"] = "fail",
    config: str | None = None,
    ordered: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a file of requests: one line of JSON each in, one line of JSON each out.

    A line is a request of an OpenAI batch (custom_id, url, body), or {"messages": [...]}, or {"prompt": "..."}; beside
    the last two stand further arguments (model, max_tokens, ...). Any line may hold custom_id or id, flow, priority,
    metadata, deadline_s, timeout_s and on_unknown, which no provider sees. A line, and how to run a file:

        {"custom_id": "a-1", "prompt": "Say hello.", "max_tokens": 20}
        penstock run in.jsonl -o out.jsonl --model openai/gpt-4o-mini

    Args:
      source: The file with the requests; - reads them from standard input.
      output: The file for the results, a line of JSON for each as it ends; - writes them to standard output.
      model: The model of the lines that name none, with its provider before a slash where --provider is not given.
      provider: The provider, for all models that --config does not define; see penstock providers.
      base_url: The address of the service, instead of the provider's own, for the same models.
      limit_requests: At most so many requests in any --per seconds, over all models.
      limit_tokens: At most so many input and output tokens together in any --per seconds, over all models.
      per: The period of the limits, in seconds.
      concurrency: At most so many calls in flight at once.
      deadline: Seconds a line may take in all, from when it is read; by default as long as the limits require.
      timeout: Seconds each attempt may take; by default 600.
      on_unknown: Whether to try again when a request left and no answer came, which may then be billed twice.
      config: A configuration in TOML: lanes, limits, and models by names of your own.
      ordered: Write the results in the order of the lines.
      overwrite: Replace the results file if there is one.
    """
    settings = BatchSettings(
        model=model,
        provider=provider,
        base_url=base_url,
        limit_requests=limit_requests,
        limit_tokens=limit_tokens,
        period_s=per,
        concurrency=concurrency,
        ordered=ordered,
        deadline_s=deadline,
        timeout_s=timeout,
        on_unknown=on_unknown,
        config=EngineConfig() if config is None else parse_config(await read_text(config), config),
    )
    return await _Run(settings, source, output).run(overwrite=overwrite)


class _Run:
    """One run of the command: its files, its batch, and the signals that came."""

    def __init__(self, settings: BatchSettings, source: str, output: str) -> None:
        self._settings = settings
        self._source = source
        self._output = output
        self._batch: Batch | None = None
        self._caught: list[int] = []

    async def run(self, *, overwrite: bool) -> int:
        """Run it, and return the exit code.

        Raises:
          UsageError: what was asked can hold for no line, a file cannot be used, or no line could be. Nothing was sent.
        """
        self._settings.check()
        with trio.open_signal_receiver(*ending_signals()) as signals:
            await self._run_files(signals, overwrite=overwrite)
        if self._caught:
            return 128 + self._caught[0]
        tally = self._batch.tally if self._batch is not None else Tally()
        if tally.unusable and tally.unusable == tally.read:
            name = "standard input" if self._source == STANDARD else self._source
            raise Misuse(f"{name}: no line can be used; the results say why, line by line. Nothing was sent.")
        return SOME_FAILED if tally.failed else COMPLETED

    async def _run_files(self, signals: AsyncIterator[int], *, overwrite: bool) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, signals, nursery.cancel_scope)
            source = await InputFile.open(self._source)
            try:
                sink = await ResultFile.open(self._output, overwrite=overwrite, source=source)
                try:
                    await self._run(source, sink)
                finally:
                    sink.close()
            finally:
                source.close()
            nursery.cancel_scope.cancel()

    async def _run(self, source: InputFile, sink: ResultFile) -> None:
        """Run the batch, show how far it is, and sum it up; also when it broke off on the way."""
        reader = LineReader(source)
        batch = self._batch = Batch(reader, sink, self._settings)
        told = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(show_run, batch, reader, progress_console())
                try:
                    await batch.run()
                except (Misuse, BrokenPipeError):
                    told = True  # nothing was done, or nobody wants to know
                    raise
                nursery.cancel_scope.cancel()
            if not self._caught:
                sink.finish()
        finally:
            if not told:
                self._sum_up(sink, batch.tally)

    def _sum_up(self, sink: ResultFile, tally: Tally) -> None:
        print(summary(self._settings, tally, sink.name), file=sys.stderr if sink.is_standard else sys.stdout)

    async def _watch(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """The first signal discards, the second stops, the third does not even wait for that."""
        async for number in signals:
            self._caught.append(number)
            if self._batch is None or len(self._caught) > 2:
                scope.cancel()
            elif len(self._caught) == 1:
                self._batch.discard()
                wait = f"{self._settings.config.engine.drain_deadline_s:g} s to end"
                print(f"penstock: sending no more; what is in flight has {wait}. Again: stop now.", file=sys.stderr)
            else:
                self._batch.stop()
                scope.deadline = trio.current_time() + STOP_S


def summary(settings: BatchSettings, tally: Tally, output: str) -> str:
    """What is printed at the end of a run."""
    rows = [
        ("lines read", f"{tally.read}"),
        ("completed", f"{tally.completed}"),
        ("failed", f"{tally.failed}"),
    ]
    if tally.not_sent or tally.rest != 0:
        unread = "and whatever was not read" if tally.rest is None else f"{tally.rest} of them not read"
        rows.append(("not sent", f"{tally.not_sent + (tally.rest or 0)}, {unread}"))
    rows += [
        ("retries", f"{tally.retries}"),
        ("tokens", f"{tally.input_tokens} in, {tally.output_tokens} out"),
    ]
    rows += [("limit spent", spent(tally, quota)) for quota in settings.quotas()]
    rows += [("time", f"{tally.time_s:.1f} s"), ("results", output)]
    worst = sorted(tally.failures.items(), key=lambda kind: -kind[1].count)
    for code, failures in worst[:MOST_FAILURES]:
        rows.append(("failed", f"{failures.count} {code}; line {failures.line}: {shortened(failures.message)}"))
    return "\n".join(f"{name:<14} {said}" for name, said in rows)


def spent(tally: Tally, quota: Quota) -> str:
    """How much of a limit was spent, by what the engine sent and the usage it was told."""
    requests = quota.dimension == "requests"
    used = tally.attempts if requests else tally.input_tokens + tally.output_tokens
    share = tally.share(used, quota.limit, quota.period_s, whole=requests)
    per = f"{quota.limit} {'requests' if requests else 'tokens'} per {quota.period_s:g} s"
    return f"{used} of {per}, less than one period's" if share is None else f"{share:.1%} of {per}"


def shortened(message: str) -> str:
    """The message, fit to stand in a line."""
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"
