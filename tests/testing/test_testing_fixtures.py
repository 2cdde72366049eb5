"""The pytest plugin, in runs of pytest of its own; the example of the documentation, which is such a run; and imports.

A run is made by `pytester`, with the plugin's name in its `conftest.py`, as a user has it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
USAGE = (ROOT / "docs" / "usage.md").read_text("utf-8")
EXAMPLE = re.search(r"## Testing your own code\n.*?```python\n(.*?)```", USAGE, re.DOTALL)

PLUGIN = 'pytest_plugins = ["engine.testing.fixtures"]'
HEAD = """
import pytest, trio
from engine import Quota, iModel
from engine.testing import ScriptedProvider, chat_reply, error_reply, fault, run_virtual

async def ask(word, **options):
    model = iModel(model="openai/m-1", api_key="none")
    return await model.invoke(messages=[{"role": "user", "content": word}], **options)

"""


def run(pytester: pytest.Pytester, tests: str, *, conftest: str = PLUGIN, trio_mode: bool = True) -> pytest.RunResult:
    """Run these tests, where warnings are errors, in this process."""
    pytester.makeconftest(conftest)
    pytester.makeini(f"[pytest]\ntrio_mode = {str(trio_mode).lower()}\nfilterwarnings = error")
    pytester.makepyfile(HEAD + tests)
    return pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider")


def test_the_fixtures_in_use(pytester: pytest.Pytester) -> None:
    """An engine the test's models find, a provider that says hi, and a clock that starts at 0 and jumps."""
    tests = """
async def test_hi(virtual_engine, scripted_provider):
    assert (await ask("x")).text == "hi"
    assert trio.current_time() == 0.1
    assert iModel(model="openai/m-1", api_key="none").engine is virtual_engine

async def test_a_script(scripted_provider, virtual_engine):
    scripted_provider.follow([error_reply(429, retry_after_s=100), "yes"])
    assert (await ask("x")).text == "yes"
    assert scripted_provider.times == [0.0, 100.1]

async def test_what_is_in_flight_when_the_test_ends_is_waited_for(virtual_engine, scripted_provider):
    scripted_provider.follow(chat_reply(delay_s=50))
    model = iModel(model="openai/m-1", api_key="none")
    await virtual_engine.submit(model.create_api_calling(messages=[{"role": "user", "content": "x"}]))
"""
    run(pytester, tests).assert_outcomes(passed=3)


def test_no_mode_of_pytest_trio_and_no_mark_is_needed(pytester: pytest.Pytester) -> None:
    """Where pytest-trio runs only the tests that are marked for it; what does not use the engine is left alone."""
    tests = """
async def test_hi(virtual_engine):
    assert (await ask("x")).text == "hi"
    assert trio.current_time() == 0.1

@pytest.mark.trio(run=trio.run)
async def test_marked(virtual_engine):
    await trio.sleep(1_000)
    assert trio.current_time() == 1_000

@pytest.fixture
async def asked(virtual_engine):
    return await ask("x")

async def test_through_another_fixture(asked):
    assert asked.text == "hi"
    assert trio.current_time() == 0.1

async def test_with_a_clock_of_its_own(virtual_engine, mock_clock):
    mock_clock.jump(5)
    assert trio.current_time() == 5

@pytest.mark.trio
async def test_in_real_time():
    assert type(trio.lowlevel.current_clock()).__name__ == "SystemClock"

def test_without_pytest_trio(scripted_provider):
    async def main():
        await trio.sleep(1_000)
        return trio.current_time()
    assert run_virtual(main) == 1_000
"""
    run(pytester, tests, trio_mode=False).assert_outcomes(passed=6)


def test_a_project_can_have_a_provider_of_its_own(pytester: pytest.Pytester) -> None:
    conftest = f"""
{PLUGIN}
import pytest
from engine.testing import ScriptedProvider

@pytest.fixture
def scripted_provider():
    return ScriptedProvider("mine", delay_s=7)
"""
    tests = """
async def test_mine(virtual_engine, scripted_provider):
    assert (await ask("x")).text == "mine"
    assert trio.current_time() == 7
"""
    run(pytester, tests, conftest=conftest).assert_outcomes(passed=1)


FAILING = {
    "a hang": ("await trio.sleep_forever()", "TooSlowError"),
    "a mistake in the script": ("scripted_provider.follow(lambda request: 1 / 0); await ask('x')", "ZeroDivisionError"),
    "something left": ("scripted_provider.open_now += 1", "its provider is not at rest"),
    "an assertion": ("assert (await ask('x')).text == 'no'", "'hi' == 'no'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_is_wrong_fails_the_test(pytester: pytest.Pytester, name: str) -> None:
    body, words = FAILING[name]
    done = run(pytester, f"async def test_it(virtual_engine, scripted_provider):\n    {body}\n")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"*{words}*"])


def test_the_order_of_tasks_is_the_same_in_every_test(pytester: pytest.Pytester) -> None:
    tests = """
ORDERS = []

@pytest.mark.parametrize("time", range(5))
async def test_order(virtual_engine, time):
    ran = []
    async def note(number):
        ran.append(number)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(note, number)
    ORDERS.append(ran)
    assert ran == ORDERS[0]
"""
    run(pytester, tests).assert_outcomes(passed=5)


def test_under_given_it_says_what_to_use(pytester: pytest.Pytester) -> None:
    """Hypothesis has its examples run by pytest-trio itself, in real time."""
    tests = """
from hypothesis import HealthCheck, given, settings, strategies as st

@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers())
async def test_it(virtual_engine, number):
    pass
"""
    done = run(pytester, tests)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*put @in_virtual_time below it*"])


# --- the documentation ---


def test_the_example_of_the_documentation_runs_as_it_stands(pytester: pytest.Pytester) -> None:
    assert EXAMPLE is not None
    assert len([line for line in EXAMPLE[1].splitlines() if line.strip()]) <= 12
    pytester.makepyfile(EXAMPLE[1])
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_example_would_fail_if_the_code_under_test_were_wrong(pytester: pytest.Pytester) -> None:
    assert EXAMPLE is not None
    pytester.makepyfile(EXAMPLE[1].replace('"Paris"]', '"Lyon"]'))
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(failed=1)


# --- imports ---


@pytest.mark.parametrize(
    "check",
    [
        "import engine; assert not {'engine.testing', 'trio.testing', 'pytest', 'hypothesis'} & set(sys.modules)",
        "sys.modules.update(dict.fromkeys(['pytest', '_pytest', 'pytest_trio', 'hypothesis'])); import engine.testing",
    ],
    ids=["the engine needs nothing of tests", "tests need no runner"],
)
def test_what_is_not_imported_along(check: str) -> None:
    """The second check runs where those packages cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(  # noqa: S603  # this very interpreter
        [sys.executable, "-c", f"import sys; {check}"], env=environment, check=True, timeout=60
    )
