"""Sessions of agents: which run goes on with which, what is noted, what it costs. Programs replay recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from replayed import TRANSCRIPTS, Replayed, beginning, execute, hang, say, session_of

from engine import (
    HookEventTypes,
    HookRegistry,
    MissingKey,
    OutcomeUnknown,
    UsageError,
    gather,
    iModel,
    open_engine,
)

KEY = "sk-live-0123456789abcdef"


pytestmark = pytest.mark.usefixtures("alone")


async def test_the_next_run_goes_on_with_the_session_and_its_messages_are_sent_once(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain", "claude__resume")
    messages = [{"role": "user", "content": "one"}]
    async with iModel(provider="claude_code", model="sonnet") as model:
        first = await model.invoke(messages=messages)
        assert model.provider_session_id == session_of("claude__plain") == first.response["session_id"]
        messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "two"}]
        await model.invoke(messages=messages)
        await model.invoke(prompt="three", resume="")
        await (await model.engine.submit(model.create_api_calling(prompt="four"))).wait()
    second, third, fourth = program.runs[1:]
    assert session_of("claude__plain") in json.dumps(second["argv"])
    assert second["prompt"] == "two"
    assert "--resume" not in json.dumps(third["argv"])
    assert "--resume" not in json.dumps(fourth["argv"])


async def test_a_session_is_known_from_a_stream_that_was_left(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__multi")
    async with iModel(provider="claude_code") as model:
        async with model.stream(prompt="go") as chunks:
            async for chunk in chunks:
                if str(chunk):
                    break
        assert model.provider_session_id == session_of("claude__multi")


async def test_a_copy_goes_on_with_the_session_only_if_it_shares_it(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    async with open_engine():
        model = iModel(provider="claude_code")
        await model.invoke(prompt="one")
        await model.copy().invoke(prompt="two")
        await model.copy(share_session=True).invoke(prompt="three")
        await iModel.from_dict(json.loads(json.dumps(model.to_dict()))).invoke(prompt="four")
    assert ["--resume" in json.dumps(run["argv"]) for run in program.runs] == [False, False, True, True]


async def test_a_session_is_of_who_was_asked_whoever_asks(bin_folder: Path) -> None:
    """Of the model that made the call, and of the one that a handler answers with."""
    claude, codex = Replayed(bin_folder, "claude", "claude__plain"), Replayed(bin_folder, "codex", "codex__plain")
    async with open_engine():
        one, other = iModel(provider="claude_code"), iModel(provider="codex")
        await one.invoke(other.create_api_calling(prompt="x"))
        assert (one.provider_session_id, other.provider_session_id) == (None, session_of("codex__plain"))
        instead = {HookEventTypes.PreInvocation: lambda event, **kw: other.create_api_calling(prompt="instead")}
        hooks = HookRegistry(hooks=instead)
        replaced = iModel(provider="claude_code", hook_registry=hooks)
        call = await replaced.invoke(prompt="x")
        assert call.response["session_id"] == session_of("codex__plain")
        assert replaced.provider_session_id is None
    assert claude.runs == []
    assert len(codex.runs) == 2


async def test_a_session_is_noted_only_once_its_run_has_begun(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__401_retry0", "claude__plain")
    async with iModel(provider="claude_code") as model:
        await model.invoke(prompt="x")
        assert model.provider_session_id is None
        await model.invoke(prompt="x")
        assert model.provider_session_id == session_of("claude__plain")
    assert not any("--resume" in json.dumps(run["argv"]) for run in program.runs)


async def test_a_session_that_is_gone_is_forgotten(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "codex", "codex__resume_bad", "codex__plain")
    gone = {"session_id": "00000000-0000-0000-0000-000000000000"}
    async with iModel(provider="codex", provider_metadata=gone) as model:
        assert "session_not_found" in str((await model.invoke(prompt="x")).error)
        assert model.provider_session_id is None
        assert (await model.invoke(prompt="x")).status == "completed"
    assert ["resume" in run["argv"] for run in program.runs] == [True, False]


async def test_a_session_is_of_one_working_directory(bin_folder: Path, tmp_path: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    async with iModel(provider="claude_code", cwd=str(tmp_path)) as model:
        await model.invoke(prompt="one")
        await model.invoke(prompt="two")
        await model.invoke(prompt="three", cwd=str(bin_folder))
        await model.invoke(prompt="four", cwd=str(bin_folder))
        await model.invoke(prompt="five")
    assert ["--resume" in json.dumps(run["argv"]) for run in program.runs] == [False, True, False, True, False]


async def test_a_session_that_a_model_names_is_begun_once_and_then_resumed(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    async with iModel(provider="claude_code", session_id=session_of("claude__plain")) as model:
        await model.invoke(prompt="one")
        await model.invoke(prompt="two")
    first, second = (json.dumps(run["argv"]) for run in program.runs)
    assert "--session-id" in first
    assert "--resume" not in first
    assert "--resume" in second
    assert "--session-id" not in second


async def test_a_run_that_is_not_kept_goes_on_with_nothing_and_is_gone_on_with_by_nothing(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "codex", "codex__plain")
    async with iModel(provider="codex") as model:
        await model.invoke(prompt="one", ephemeral=True)
        assert model.provider_session_id is None
        await model.invoke(prompt="two")
        await model.invoke(prompt="three", ephemeral=True)
    assert not any("resume" in run["argv"] for run in program.runs)


async def test_a_run_whose_time_is_over_leaves_its_session_and_what_it_said(bin_folder: Path) -> None:
    """As an hour's work must not be lost with its last minute."""
    hang(bin_folder, "claude", beginning("claude__multi", "text_delta"))
    async with iModel(provider="claude_code") as model:
        call = await model.invoke(prompt="go", idle_s=0.3)
        assert isinstance(call.error, OutcomeUnknown)
        assert call.text
        assert model.provider_session_id == session_of("claude__multi") == call.response["session_id"]


def test_what_is_restored_from_data_logs_in_nowhere_else_and_runs_no_program_of_the_datas() -> None:
    data = iModel(
        provider="claude_code", program="/x/claude", pass_env=["AWS_KEY"], base_url="http://127.0.0.1:9"
    ).to_dict()
    config = data["endpoint"]["config"]
    assert config["kwargs"] == {}
    with pytest.raises(MissingKey, match="base_url you trust"):
        iModel.from_dict(data).account()
    assert iModel.from_dict(data, base_url="http://127.0.0.1:9").account().spec.url == "http://127.0.0.1:9"
    config["kwargs"] = {"program": "/no/such"}
    with pytest.raises(UsageError, match="program="):
        iModel.from_dict(data)


async def test_what_a_session_that_is_resumed_costs_is_the_difference(bin_folder: Path) -> None:
    Replayed(bin_folder, "codex", "codex__plain", "codex__resume")
    async with iModel(provider="codex") as model:
        first = await model.invoke(prompt="one")
        second = await model.invoke(prompt="two")
        assert first.usage is not None
        assert second.usage is not None
        assert (first.usage.input_tokens, first.usage.output_tokens) == (11, 7)
        assert (second.usage.input_tokens, second.usage.output_tokens) == (11, 7)
    async with iModel(provider="codex", provider_metadata={"session_id": session_of("codex__plain")}) as model:
        assert (await model.invoke(prompt="three")).usage is None  # what the session had cost before is not known


@pytest.mark.parametrize("name", ["a b\\nc", "--evil", "x" * 5_000, "\\u0000"], ids=["blank", "dash", "long", "zero"])
async def test_a_session_that_could_not_be_resumed_is_not_noted(bin_folder: Path, name: str) -> None:
    said = (TRANSCRIPTS / "claude__plain.stdout.jsonl").read_text("utf-8")
    say(bin_folder, "claude", said.replace(session_of("claude__plain"), name))
    async with iModel(provider="claude_code") as model:
        assert (await model.invoke(prompt="one")).status == "completed"
        assert model.provider_session_id is None
        assert (await model.invoke(prompt="two")).status == "completed"


SLOW = """#!{python}
import os, sys, time
sys.stdin.read()
os.mkdir({here!r} + ".busy")  # fails where another run is at it
time.sleep(0.2)
sys.stdout.write(open({said!r}).read())
sys.stdout.flush()
os.rmdir({here!r} + ".busy")
"""


@pytest.mark.parametrize("known", ["resumed", "named beforehand"])
async def test_runs_of_one_session_are_made_one_after_the_other_whoever_asks(bin_folder: Path, known: str) -> None:
    """Through two accounts; by the name they resume, or that the first of them gives a new one."""
    execute(bin_folder, "claude", SLOW, said=str(TRANSCRIPTS / "claude__plain.stdout.jsonl"))
    session = session_of("claude__plain")
    async with open_engine():
        first = {"resume": session} if known == "resumed" else {"session_id": session}
        calls = await gather(
            iModel(provider="claude_code", api_key="first-key-0123").invoke(prompt="one", **first),
            iModel(provider="claude_code", api_key="other-key-0123").invoke(prompt="two", resume=session),
        )
    assert [call.status for call in calls] == ["completed"] * 2, [call.error for call in calls]
