"""Whole programs in processes of their own: a notebook's cells, an exit that nobody prepared, a fork, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from portal_server import WITHIN_S, Provider

ROOT = Path(__file__).parents[2]
PRELUDE = """
import asyncio, os, signal, sys, threading
from engine import UsageError, iModel
from engine.portal import AsyncioModel, BlockingModel, open_portal

def ask(text):
    return {"messages": [{"role": "user", "content": text}]}

given = dict(model="openai/m", api_key="none", base_url=sys.argv[1])
"""


def start(provider: Provider, program: str) -> subprocess.Popen[str]:
    """A Python of its own, warnings as errors; argument 1 is the provider's address."""
    return subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(program), provider.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
    )


def run(provider: Provider, program: str) -> str:
    """What it printed, once it has ended by itself, well and without a word on standard error."""
    with start(provider, program) as process:
        try:
            out, err = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    return out


def test_script_exits_although_nothing_was_closed(provider: Provider) -> None:
    """The shared portal, one opened by hand, a stream half read, a call under way: all of it ends with the program."""
    program = """
        print(BlockingModel(**given).invoke(**ask("ab")).text)
        engine = open_portal().__enter__()
        print(engine.invoke(iModel(**given), **ask("cd")).text)
        left = engine.submit(iModel(**given), **ask("hang"))
    """
    assert run(provider, program).split() == ["ba", "dc"]
    provider.wait_hanging()
    provider.wait_dropped()


def test_program_of_asyncio_exits_although_nothing_was_closed(provider: Provider) -> None:
    """`asyncio.run` of the shared portal, and an async block that an exception leaves."""
    program = """
        async def main():
            model = AsyncioModel(**given)
            print((await model.invoke(**ask("ab"))).text)
            asyncio.ensure_future(model.invoke(**ask("hang")))
            await asyncio.sleep(0)
        asyncio.run(main())
    """
    assert run(provider, program).split() == ["ba"]


def test_threads_left_behind_do_not_keep_the_program(provider: Provider) -> None:
    """A daemon thread still waits for an answer when the main thread ends."""
    program = """
        model = BlockingModel(**given)
        model.invoke(**ask("ab"))
        threading.Thread(target=lambda: model.invoke(**ask("hang")), daemon=True).start()
        model.invoke(**ask("cd"))
        print("end")
    """
    assert run(provider, program).split() == ["end"]


def test_notebook_cells_await_at_their_top_level(provider: Provider) -> None:
    """Two cells, as Jupyter runs them: compiled with top-level await, in a loop that is running already, with the
    same names; blocking calls work in a cell as well."""
    program = """
        import ast, types
        cells = [
            "model = AsyncioModel(**given)\\nprint((await model.invoke(**ask('ab'))).text)",
            "print((await model.invoke(**ask('cd'))).text)\\n"
            "async with open_portal() as engine:\\n"
            "    print((await engine.invoke(model, **ask('ef'))).text)\\n"
            "    async for chunk in engine.stream(model, **ask('x')): print(chunk)",
            "print(BlockingModel(**given).invoke(**ask('gh')).text)\\n"
            "with open_portal() as engine: print(engine.invoke(model, **ask('ij')).text)",
        ]
        names = dict(globals())
        async def kernel():
            for cell in cells:
                code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                result = types.FunctionType(code, names)()
                if asyncio.iscoroutine(result):
                    await result
        asyncio.run(kernel())
    """
    assert run(provider, program).split() == ["ba", "dc", "fe", "0", "1", "2", "3", "4", "hg", "ji"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_is_told(provider: Provider) -> None:
    """A clear error in the child, for the block's engine and the shared one, streams included; a portal of its own
    works there; the parent goes on."""
    program = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks beside threads
        shared = BlockingModel(**given)
        shared.invoke(**ask("ab"))
        with open_portal() as engine:
            model = engine.model(**given)
            stream = model.stream(**ask("x"))
            next(stream)
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                async def asynchronous():
                    await AsyncioModel(**given).invoke(**ask("x"))
                for use in (
                    lambda: model.invoke(**ask("ab")),
                    lambda: shared.invoke(**ask("ab")),
                    lambda: engine.call(asynchronous),
                    lambda: asyncio.run(asynchronous()),
                    lambda: engine.cancel(model.create_api_calling(**ask("ab"))),
                    lambda: next(engine.map([model.create_api_calling(**ask("ab"))])),
                    lambda: list(model.stream(**ask("x"))),
                    engine.statistics,
                ):
                    try:
                        use()
                    except UsageError as error:
                        print("forked" in str(error))
                with open_portal() as own:
                    print(own.invoke(iModel(**given), **ask("cd")).text)
                sys.stdout.flush()
                stream.close()
                sys.exit(0)
            print(os.waitpid(child, 0)[1])
            print(model.invoke(**ask("ef")).text)
            print(sum(1 for _ in stream) > 0)
    """
    assert run(provider, program).split() == [*["True"] * 8, "dc", "0", "fe", "True"]


@pytest.mark.parametrize("use", ["model.invoke(**ask('hang'))", "list(model.stream(**ask('hang')))"])
def test_interrupt_cancels_the_call_and_is_raised(provider: Provider, use: str) -> None:
    """Ctrl-C in the main thread: the call is gone before it is raised, and the engine goes on."""
    process = start(
        provider,
        f"""
        with open_portal() as engine:
            model = engine.model(**given)
            try:
                {use}
            except KeyboardInterrupt:
                print(sum(engine.statistics().live.values()), model.invoke(**ask("ab")).text)
        """,
    )
    provider.wait_hanging()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, out.split(), err) == (0, ["0", "ba"], "")
    provider.wait_dropped()


def test_interrupt_in_asyncio_ends_the_program(provider: Provider) -> None:
    """As asyncio does it: the main task is cancelled, and with it the call."""
    process = start(
        provider,
        """
        async def main():
            async with open_portal() as engine:
                await engine.invoke(iModel(**given), **ask("hang"))
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    provider.wait_hanging()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, out.split(), err) == (0, ["interrupted"], "")
    provider.wait_dropped()


def test_package_is_not_imported_by_the_engine(provider: Provider) -> None:
    """`import engine` does not pay for it."""
    program = "import subprocess; print(subprocess.run([sys.executable, '-c', " + (
        "'import sys, engine; print(\"engine.portal\" in sys.modules)'], capture_output=True, text=True).stdout)"
    )
    assert run(provider, program).split() == ["False"]
