"""Virtual time: the clock, what ends a program that hangs, and that a run repeats itself."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_calls import a_model, ask, call_over, trace

from engine import EngineNotRunning, UsageError
from engine.config import parse_config
from engine.testing import (
    PATIENCE_S,
    Request,
    Says,
    ScriptedProvider,
    assert_quiet,
    chat_reply,
    error_reply,
    fault,
    in_virtual_time,
    run_virtual,
    same_order,
    scripted_engine,
)

ROOT = Path(__file__).parents[2]
YEAR_S = 365 * 86_400.0

# --- the clock ---


def test_it_takes_arguments_starts_at_zero_and_returns() -> None:
    async def main(first: int, second: str) -> tuple[float, int, str]:
        return trio.current_time(), first, second

    assert run_virtual(main, 1, "x") == (0.0, 1, "x")


def test_waiting_takes_no_time() -> None:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            for number in range(1, 11):
                nursery.start_soon(trio.sleep, number * YEAR_S / 1_000)
        return trio.current_time()

    assert run_virtual(main) == pytest.approx(YEAR_S / 100)


def test_each_run_has_a_clock_of_its_own() -> None:
    async def main() -> float:
        await trio.sleep(5)
        return trio.current_time()

    assert [run_virtual(main) for _ in range(2)] == [5, 5]


class Odd(BaseException):
    """Nothing anybody catches."""


@pytest.mark.parametrize("error", [ValueError("x"), trio.TooSlowError("mine"), Odd("x"), UsageError("x")])
def test_what_main_raises_is_raised_as_it_is(error: BaseException) -> None:
    async def main() -> None:
        await trio.sleep(1)
        raise error

    with pytest.raises(type(error)) as caught:
        run_virtual(main)
    assert caught.value is error


# --- patience ---


def test_a_program_that_hangs_is_ended_and_cleans_up() -> None:
    """It would wait for ever: with nothing to jump to, the clock stands."""
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(trio.current_time())

    with pytest.raises(trio.TooSlowError, match="not over after 1e\\+06 virtual seconds"):
        run_virtual(main)
    assert cleaned == [PATIENCE_S]


@pytest.mark.parametrize(("takes_s", "ends"), [(9.5, True), (10.5, False)])
def test_patience_can_be_set(takes_s: float, ends: bool) -> None:
    reached = []

    @in_virtual_time(patience_s=10)
    async def test() -> None:
        await trio.sleep(takes_s)
        reached.append(takes_s)

    if ends:
        test()
    else:
        with pytest.raises(trio.TooSlowError):
            test()
    assert bool(reached) is ends


# --- tests made of async functions ---


@pytest.fixture
def a_word() -> str:
    """A fixture like any other."""
    return "word"


@pytest.mark.parametrize("number", [1, 2])
@in_virtual_time
async def test_fixtures_and_parameters_reach_the_test(a_word: str, number: int) -> None:
    await trio.sleep(number)
    assert (a_word, trio.current_time()) == ("word", number)


@settings(deadline=None)
@given(st.floats(0, 1e5), st.data())
@in_virtual_time
async def test_each_example_has_its_own_clock(wait_s: float, data: st.DataObject) -> None:
    assert trio.current_time() == 0
    await trio.sleep(wait_s + data.draw(st.integers(0, 10)))
    assert trio.current_time() >= wait_s


@in_virtual_time()
async def test_the_decorator_may_be_called_without_arguments() -> None:
    assert trio.current_time() == 0


def test_a_decorated_test_is_synchronous_and_keeps_its_name() -> None:
    assert not inspect.iscoroutinefunction(test_each_example_has_its_own_clock)
    assert not inspect.iscoroutinefunction(test_the_decorator_may_be_called_without_arguments)
    assert test_the_decorator_may_be_called_without_arguments.__name__ == (
        "test_the_decorator_may_be_called_without_arguments"
    )


# --- order ---


def order(seed: int | None, tasks: int = 20) -> list[int]:
    """The order in which so many tasks, ready together, run."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(note, number)

    run_virtual(main, seed=seed)
    return ran


def test_the_order_of_tasks_is_the_seeds() -> None:
    assert order(0) == order(0)
    assert len({tuple(order(seed)) for seed in range(20)}) == 20
    assert sorted(order(7)) == list(range(20))


def test_without_a_seed_the_order_is_left_to_trio() -> None:
    """It goes on with its own chances, which a seeded run in between does not disturb."""
    assert len({tuple(order(None)) for _ in range(10)}) > 1
    with same_order(5):
        expected = [order(None) for _ in range(3)]
    with same_order(5):
        found = []
        for _ in range(3):
            found.append(order(None))
            order(1)
            with pytest.raises(ZeroDivisionError), same_order(2):
                order(1 // 0)
    assert found == expected


def test_a_run_repeats_itself() -> None:
    """To the microsecond, backoff and all; and each of the two seeds makes another run of it."""
    once = trace(1, 1)
    assert len(once) > 70
    assert trace(1, 1) == once
    assert trace(2, 1) != once
    assert trace(1, 2) != once


def test_a_run_repeats_itself_in_another_process(tmp_path: Path) -> None:
    """Whatever the hashes of that process are, and without Hypothesis, which by itself makes trio repeat itself."""
    program = "from scripted_calls import trace; print(repr(trace(1, 1)))"
    told = []
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        }
        told.append(
            subprocess.run(  # noqa: S603  # this very interpreter
                [sys.executable, "-c", program],
                env=environment,
                cwd=tmp_path,
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            ).stdout.strip()
        )
    assert told == [repr(trace(1, 1))] * 2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_backoff_is_drawn_from_the_providers_seed(seed: int) -> None:
    def times(seed: int) -> list[float]:
        provider = ScriptedProvider(error_reply(503), seed=seed)
        call_over(provider)
        return provider.times

    assert times(seed) == times(seed)
    assert times(seed) != times(seed + 1)


# --- the engine ---


@in_virtual_time
async def test_models_find_the_engine_while_it_is_open() -> None:
    async with scripted_engine(ScriptedProvider("yes")) as engine:
        assert a_model().engine is engine
    with pytest.raises(EngineNotRunning):
        await a_model().invoke(messages=ask("?"))


@in_virtual_time
async def test_it_can_be_configured() -> None:
    config = parse_config("[lanes.narrow]\nconcurrency_limit = 1", "test.toml")
    provider = ScriptedProvider()
    async with scripted_engine(provider, config), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: a_model(lane="narrow").invoke(messages=ask("?")))
    assert (provider.most_in_flight, provider.times) == (1, [0, 0.1, 0.2])


def test_a_wrong_configuration_is_told_as_open_engine_tells_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted_engine(ScriptedProvider(), tmp_path / "none.toml"):
            raise AssertionError("it was opened")

    with pytest.raises(UsageError, match=r"none\.toml"):
        run_virtual(main)


@pytest.mark.parametrize("error", [ValueError("x"), Odd("x")])
def test_the_blocks_own_exception_leaves_unchanged(error: BaseException) -> None:
    """And ends what is in flight."""
    provider = ScriptedProvider(fault("stall"))

    async def main() -> None:
        async with scripted_engine(provider) as engine:
            await engine.submit(a_model().create_api_calling(messages=ask("?")))
            await trio.sleep(1)
            raise error

    with pytest.raises(type(error)) as caught:
        run_virtual(main)
    assert caught.value is error
    assert (len(provider.requests), provider.open_now) == (1, 0)


def test_a_cancellation_leaves_nothing() -> None:
    provider = ScriptedProvider(fault("stall"))

    async def main() -> float:
        with trio.move_on_after(3):
            async with scripted_engine(provider):
                await a_model().invoke(messages=ask("?"))
        return trio.current_time()

    assert run_virtual(main) == 3
    assert (provider.in_flight, provider.open_now) == (0, 0)


def mistaken(request: Request) -> Says:
    raise ZeroDivisionError(request.prompt)


def test_an_engine_is_not_told_of_the_mistakes_under_another() -> None:
    """What the script raised is raised once; the next engine over the provider begins with none."""
    provider = ScriptedProvider(mistaken)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with scripted_engine(provider):
                await a_model().invoke(messages=ask("?"))
        provider.follow("yes")
        async with scripted_engine(provider):
            assert provider.failure is None
            assert (await a_model().invoke(messages=ask("?"))).text == "yes"

    run_virtual(main)


def test_what_the_script_raised_comes_before_what_the_block_raises_of_it() -> None:
    async def main() -> None:
        async with scripted_engine(ScriptedProvider(mistaken)):
            assert (await a_model().invoke(messages=ask("?"))).text == "yes"

    with pytest.raises(ZeroDivisionError) as caught:
        run_virtual(main)
    assert isinstance(caught.value.__context__, AssertionError)


def test_a_scope_that_is_cancelled_is_left_whatever_the_script_raised() -> None:
    provider = ScriptedProvider(mistaken)

    async def main() -> tuple[float, bool]:
        with trio.move_on_after(3) as scope:
            async with scripted_engine(provider):
                await a_model().invoke(messages=ask("?"))
                await trio.sleep_forever()
        return trio.current_time(), scope.cancelled_caught

    assert run_virtual(main) == (3, True)
    assert isinstance(provider.failure, ZeroDivisionError)
    assert provider.open_now == 0


def test_what_is_no_mere_exception_leaves_as_it_is_with_a_note_of_what_the_script_raised() -> None:
    error = Odd("x")

    async def main() -> None:
        async with scripted_engine(ScriptedProvider(mistaken)):
            await a_model().invoke(messages=ask("?"))
            raise error

    with pytest.raises(Odd) as caught:
        run_virtual(main)
    assert caught.value is error
    assert error.__notes__ == ["the script of the ScriptedProvider raised ZeroDivisionError('?')"]


LEFT: list[tuple[Callable[[ScriptedProvider], None], str]] = [
    (lambda provider: setattr(provider, "open_now", 1), "1 connections open"),
    (lambda provider: setattr(provider, "in_flight", 2), "2 in flight"),
]


@pytest.mark.parametrize(("leave", "words"), LEFT)
def test_what_is_left_at_the_provider_is_told(leave: Callable[[ScriptedProvider], None], words: str) -> None:
    provider = ScriptedProvider()

    async def main() -> None:
        async with scripted_engine(provider):
            leave(provider)

    with pytest.raises(AssertionError, match=f"not at rest: .*{words}"):
        run_virtual(main)


@in_virtual_time
async def test_an_engine_is_quiet_or_says_what_is_live() -> None:
    async with scripted_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        assert_quiet(engine)
        model = a_model(limit_requests=1, interval=60)
        for _ in range(3):
            await engine.submit(model.create_api_calling(messages=ask("?")))
        await trio.sleep(1)
        with pytest.raises(AssertionError) as caught:
            assert_quiet(engine)
        said = str(caught.value)
        assert "the engine is not quiet: queued 2, in_flight 1" in said
        assert "busy_connections 1" in said
        assert " 0" not in said
        await engine.wait_quiet()
        assert_quiet(engine)
    assert_quiet(engine)


def test_an_engine_that_is_left_with_something_live_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as its own gauges go, which are made to say so here."""

    async def main() -> None:
        async with scripted_engine(ScriptedProvider()) as engine:
            monkeypatch.setattr(type(engine), "statistics", lambda _: Live())

    class Live:
        live = {"waiters": 3, "queued": 0}  # noqa: RUF012  # read once

    with pytest.raises(AssertionError, match=r"not quiet: waiters 3$"):
        run_virtual(main)
