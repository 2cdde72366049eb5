"""What every command keeps: misuse is one line and code 2, data is on stdout alone, signals have their codes."""

from __future__ import annotations

import json
import signal
from dataclasses import fields
from pathlib import Path

import pytest
import trio
from command_line import Penstock, Start, Typed
from replayed import Replayed

from engine.cli import COMMANDS
from engine.cli.simulate import Faults, latency_of, limits_of
from engine.errors import UsageError
from engine.simulator import (
    FAULTS,
    ConstantLatency,
    ExponentialLatency,
    LognormalLatency,
    ProviderLimit,
    UniformLatency,
)
from engine.simulator.client import fetch

MISUSES = [
    # what is typed, and words of the line that answers it
    (["foo"], ["Unknown command: foo", "demo, run, call, simulate, providers"]),
    (["demos"], ["Did you mean demo?"]),
    (["--foo"], ["Unknown command: --foo"]),
    (["providers", "--foo"], ["Unknown option: --foo", "penstock providers --help"]),
    (["providers", "openai"], ["Unexpected argument: openai"]),
    (["simulate", "--port", "-1"], ["--port", "0 or more"]),
    (["simulate", "--port", "70000"], ["port", "70000", "65535"]),
    (["simulate", "--limit-requests", "0"], ["--limit-requests", "at least 1"]),
    (["simulate", "--limit-requests", "-5"], ["--limit-requests", "at least 1"]),
    (["simulate", "--limit-tokens", "many"], ["--limit-tokens", "many"]),
    (["simulate", "--per", "0"], ["--per", "above 0"]),
    (["simulate", "--per", "nan"], ["--per", "above 0"]),
    (["simulate", "--per", "inf"], ["--per", "above 0"]),
    (["simulate", "--enforce", "gcra"], ["--enforce", "sliding", "fixed", "bucket"]),
    (["simulate", "--latency", "slow"], ["--latency 'slow'", "uniform:0.1,0.5"]),
    (["simulate", "--fault-html", "2"], ["--fault-html", "from 0 to 1"]),
    (["simulate", "--fault-html", "0.6", "--fault-empty", "0.6"], ["faults", "at most 1"]),
    (["simulate", "--fault-htlm", "0.1"], ["Did you mean --fault-html?"]),
    (["simulate", "--log", "missing/arrivals.jsonl"], ["missing/arrivals.jsonl"]),
    (["simulate", "--seed"], ["--seed", "requires an argument"]),
]


@pytest.mark.parametrize(("typed", "words"), MISUSES, ids=lambda value: " ".join(value) if value else "")
def test_misuse_is_one_line_and_code_2(typed_here: Typed, typed: list[str], words: list[str]) -> None:
    """The line names the thing and what to do; nothing is on stdout, nothing is sent."""
    ran = typed_here(*typed)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("penstock: ")
    assert [word for word in words if word not in ran.err] == []


@pytest.mark.parametrize("typed", [["foo"], ["simulate", "--log", "missing/arrivals.jsonl"]], ids=" ".join)
async def test_the_code_is_that_of_the_process(penstock: Penstock, typed: list[str]) -> None:
    """And at its end the interpreter has nothing to add: no traceback, no warning."""
    ran = await penstock(*typed)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("typed", [[], ["--help"], ["demo", "--help"], ["call", "--help"], ["simulate", "--help"]])
async def test_help_is_data(penstock: Penstock, typed: list[str]) -> None:
    """Help that was asked for goes to stdout, so that it can be paged."""
    ran = await penstock(*typed)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: penstock" in ran.out


async def test_the_list_has_the_demo_first_and_then_what_people_run(penstock: Penstock) -> None:
    """In the order of use, not of the alphabet."""
    ran = await penstock("--help")
    first = [line.strip("\N{BOX DRAWINGS LIGHT VERTICAL} ").split(" ")[0] for line in ran.out.splitlines()]
    assert [word for word in first if word in COMMANDS] == ["demo", "run", "call", "simulate", "providers"]


async def test_a_command_s_own_help_says_more_than_the_list(penstock: Penstock) -> None:
    """What stands in the list in one sentence is explained where it is asked for."""
    ran = await penstock("providers", "--help")
    assert COMMANDS["providers"].split(":")[0] in ran.out
    assert "can be used by its address" in ran.out


async def test_help_does_not_import_the_commands(penstock: Penstock) -> None:
    """What only a command needs is imported when that command is run."""
    ran = await penstock("--help", environment={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    assert "engine.cli" in imported
    assert imported.isdisjoint({"engine.cli.demo", "engine.cli.simulate", "engine.simulator", "rich.live"})


async def test_version(penstock: Penstock) -> None:
    ran = await penstock("--version")
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 1


async def test_providers_is_a_table_that_survives_a_pipe(penstock: Penstock, tmp_path: Path) -> None:
    """A line per provider, in columns two blanks apart; a key is named and never shown."""
    secret = "sk-test-8d1Qx"
    program = Replayed(tmp_path / "bin", "claude", "claude__plain")
    environment = {"GEMINI_API_KEY": secret, "GROQ_API_KEY": "  ", "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    ran = await penstock("providers", environment=environment)
    assert (ran.code, ran.err) == (0, "")
    lines = [line for line in ran.out.splitlines() if line]
    rows = {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell] for line in lines}
    assert rows["agent"] == ["agent", "command", "key variable", "set"]
    assert rows["claude_code"] == ["claude_code", str(program.path), "ANTHROPIC_API_KEY (optional)", "not set"]
    assert rows["codex"][1] == "not installed: npm install -g @openai/codex"
    assert rows["ag2"][1] == "ag2"
    assert program.runs == []
    assert rows["provider"] == ["provider", "endpoints", "address", "key variable", "set"]
    assert rows["openai"] == [
        "openai",
        "chat, response, embed, completions",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "not set",
    ]
    assert rows["gemini"][3:] == ["GOOGLE_API_KEY or GEMINI_API_KEY", "GEMINI_API_KEY"]
    assert rows["groq"][-1] == "not set"
    assert rows["ollama"][3] == "OLLAMA_API_KEY (optional)"
    assert secret not in ran.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_simulate_serves_until_it_is_told(start_penstock: Start, number: signal.Signals, code: int) -> None:
    """Its address is the first line on stdout; anybody's client is answered there; the end sums up on stderr."""
    process = await start_penstock("simulate", "--limit-requests", "1", "--latency", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.fail_after(60):
        address = (await process.stdout.receive_some()).decode().strip()
        statuses = [await ask(address) for _ in range(2)]
        process.send_signal(number)
        assert await process.wait() == code
        errors = (await process.stderr.receive_some()).decode()
    assert statuses == [200, 429]
    assert "2, of which 1 accepted" in errors
    assert "1 by requests" in errors
    assert "worst window   1 requests in 60 s, of 1" in errors


async def ask(address: str) -> int:
    """One chat completion by hand; the status of its answer."""
    host, _, port = address.removeprefix("http://").removesuffix("/v1").partition(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(head + body)
        return int((await stream.receive_some(65_536)).split()[1])


def test_limits_are_as_asked() -> None:
    """Each that was given, with the period, the kind and the charge that were given once for all."""
    like = ProviderLimit("requests", 1, 2.5, "token_bucket", "usage")
    assert limits_of(None, None, like) == ()
    assert limits_of(7, None, like) == (ProviderLimit("requests", 7, 2.5, "token_bucket", "usage"),)
    assert limits_of(7, 900, like)[1:] == (ProviderLimit("total_tokens", 900, 2.5, "token_bucket", "usage"),)


@pytest.mark.parametrize("enforce", ["fixed", "bucket"])
async def test_limits_are_enforced_as_asked(start_penstock: Start, enforce: str) -> None:
    """The running provider says of itself which kind of limit it enforces."""
    process = await start_penstock("simulate", "--limit-requests", "3", "--enforce", enforce)
    assert process.stdout is not None
    with trio.fail_after(60):
        address = (await process.stdout.receive_some()).decode().strip().removesuffix("/v1")
        host, _, port = address.removeprefix("http://").partition(":")
        statistics = json.loads(await fetch(host, int(port), "/statistics"))
        process.terminate()
        await process.wait()
    assert [(window["limit_kind"], window["limit"]) for window in statistics["worst_windows"]] == [
        ({"fixed": "fixed_window", "bucket": "token_bucket"}[enforce], 3)
    ]


def test_every_fault_has_its_option() -> None:
    """In the simulator's own order, so that the help lists them alike."""
    assert [field.name for field in fields(Faults)] == [f"fault_{name}" for name in FAULTS]
    assert Faults(fault_html=0.25).rates().html == 0.25


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("0", ConstantLatency(0.0)),
        ("0.3", ConstantLatency(0.3)),
        ("constant:2", ConstantLatency(2.0)),
        ("uniform:0.1,0.5", UniformLatency(0.1, 0.5)),
        ("lognormal:0.3", LognormalLatency(0.3)),
        ("lognormal:0.3,0.9", LognormalLatency(0.3, 0.9)),
        ("exponential:0.3", ExponentialLatency(0.3)),
    ],
)
def test_latency_is_read(text: str, latency: object) -> None:
    assert latency_of(text) == latency


@pytest.mark.parametrize("text", ["", ":", "0.3,0.4", "uniform:0.1", "uniform:0.1,0.2,0.3", "gauss:1", "-1", "nan"])
def test_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        latency_of(text)
