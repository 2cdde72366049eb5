"""Agents as models: sessions, handlers, what is collected, what is refused. The programs replay recorded runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from replayed import Replayed, hang, session_of

from engine import (
    AgentError,
    AgentNotInstalled,
    HandlerFailed,
    HookEventTypes,
    HookRegistry,
    InvalidCall,
    RateLimited,
    Rejected,
    ResponseCache,
    UnknownEndpoint,
    UsageError,
    iModel,
    match_endpoint,
    open_engine,
)
from engine.endpoints import (
    Ag2GroupChatEndpoint,
    ClaudeCodeEndpoint,
    CodexEndpoint,
    Endpoint,
    GeminiCodeEndpoint,
    PiEndpoint,
)

KEY = "sk-live-0123456789abcdef"


pytestmark = pytest.mark.usefixtures("alone")


# --- what it is ---


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude_code", "claude_code"), ("claude-code", "claude_code"), ("claude", "claude_code"),
        ("Claude Code", "claude_code"),
        ("codex", "codex"), ("openai-codex", "codex"),
        ("gemini_code", "gemini_code"), ("gemini-code", "gemini_code"), ("gemini_cli", "gemini_code"),
        ("gemini-cli", "gemini_code"),
        ("pi", "pi"), ("pi-code", "pi"), ("pi_code", "pi"),
        ("ag2", "ag2"), ("autogen", "ag2"),
    ],
)  # fmt: skip
def test_every_alias_is_an_agent_whatever_endpoint_is_asked_for(name: str, provider: str) -> None:
    for endpoint in ("chat", "query_cli", "whatever") if provider != "ag2" else ("chat", "group_chat", "groupchat"):
        model = iModel(provider=name, model="m", endpoint=endpoint)
        assert model.is_cli
        assert model.endpoint.spec.provider == provider
        assert model.request_options is not None
        assert match_endpoint(name, endpoint) is match_endpoint(provider)
    assert iModel(model=f"{name}/m").is_cli


@pytest.mark.parametrize(
    "made",
    [ClaudeCodeEndpoint, CodexEndpoint, GeminiCodeEndpoint, PiEndpoint, Ag2GroupChatEndpoint],
    ids=lambda made: str(made.provider),
)
def test_an_agents_endpoint_is_a_class_that_makes_models(made: type[Endpoint]) -> None:
    assert match_endpoint(made.provider) is made
    model = iModel(endpoint=made(model="m"))
    assert (model.is_cli, model.endpoint.spec.provider, model.model_name) == (True, made.provider, "m")


@pytest.mark.parametrize("endpoint", ["agent", "beta", "nlip", "nonsense"])
def test_of_ag2_only_the_group_chat_is_there(endpoint: str) -> None:
    with pytest.raises(UnknownEndpoint, match="'group_chat'"):
        iModel(provider="ag2", endpoint=endpoint)


def test_three_runs_at_once_are_usual_and_a_chat_alone() -> None:
    assert iModel(provider="claude_code").lane.concurrency_limit == 3
    assert iModel(provider="codex", base_url="http://127.0.0.1:1").lane.concurrency_limit == 3
    assert iModel(provider="pi", concurrency_limit=8).lane.concurrency_limit == 8
    assert iModel(provider="ag2").lane.concurrency_limit == 1


async def test_what_belongs_to_http_is_refused(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__plain")
    with pytest.raises(UsageError, match="default_headers"):
        iModel(provider="claude_code", default_headers={"x": "y"})
    with pytest.raises(UnknownEndpoint, match="base_url"):
        iModel(provider="claude_code", base_url="ftp://x")
    async with httpx.AsyncClient() as client, open_engine():
        with pytest.raises(UsageError, match="http_client"):
            await iModel(provider="claude_code", http_client=client).invoke(prompt="x")


async def test_a_missing_program_is_found_before_anything_starts() -> None:
    model = iModel(provider="claude_code", model="sonnet")
    async with open_engine() as engine:
        with pytest.raises(AgentNotInstalled, match="npm install -g @anthropic-ai/claude-code"):
            await model.invoke(prompt="hello")
        with pytest.raises(AgentNotInstalled, match="/no/such/claude"):
            await model.invoke(prompt="hello", program="/no/such/claude")
        (missing,) = [call async for call in engine.map([model.create_api_calling(prompt="hello")])]
        assert missing.status == "skipped"
        assert isinstance(missing.error, AgentNotInstalled)
        assert not any(engine.statistics().live.values())
        assert engine.statistics().scheduler.schedule.submitted == 0


async def test_a_program_that_is_not_in_path_can_be_named(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    async with iModel(provider="claude_code", program=str(program.path)) as model:
        assert (await model.invoke(prompt="hello")).status == "completed"


async def test_a_working_directory_that_is_not_there_is_found_before_anything_starts(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__plain")
    async with iModel(provider="claude_code") as model:
        with pytest.raises(UsageError, match="/no/such/place"):
            await model.invoke(prompt="hello", cwd="/no/such/place")


# --- runs ---


async def test_a_run_is_a_call(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    async with open_engine() as engine:
        model = iModel(provider="claude_code", model="sonnet", api_key=KEY, limit_requests=10)
        call = await model.invoke(prompt="Say hello.")
        assert call.status == "completed"
        assert call.text
        assert call.usage is not None
        assert call.usage.input_tokens == 11
        assert call.response["messages"] == [call.text]
        assert call.payload == {"prompt": "Say hello.", "model": "sonnet"}
        assert engine.statistics().endpoints[0].transport == "process"
        await engine.wait_quiet()
        assert not any(engine.statistics().live.values())
    (run,) = program.runs
    assert run["prompt"] == "Say hello."
    assert KEY not in json.dumps(run["argv"])
    assert run["env"]["ANTHROPIC_API_KEY"] == KEY
    assert "resume" not in json.dumps(run["argv"])


async def test_programs_that_run_are_counted(bin_folder: Path) -> None:
    hang(bin_folder, "claude")
    async with open_engine() as engine:
        call = await engine.submit(iModel(provider="claude_code").create_api_calling(prompt="x"))
        with trio.fail_after(60):
            while engine.statistics().live["children"] != 1:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.01)
        call.cancel()
        await engine.wait_quiet()
        assert engine.statistics().live["children"] == 0


async def test_an_identical_run_is_never_answered_from_a_cache(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    async with open_engine(hooks=HookRegistry().use(ResponseCache())):
        model = iModel(provider="claude_code")
        await model.copy().invoke(prompt="deploy")
        await model.copy().invoke(prompt="deploy")
    assert len(program.runs) == 2


async def test_a_program_is_told_of_every_address_but_its_own(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "claude", "claude__plain")
    addresses = [None, "https://api.anthropic.com", "https://api.anthropic.com/gateway", "http://127.0.0.1:9"]
    async with open_engine():
        for address in addresses:
            await iModel(provider="claude_code", base_url=address, api_key=KEY).invoke(prompt="x")
    told = [run["env"].get("ANTHROPIC_BASE_URL") for run in program.runs]
    assert told == [None, None, *addresses[2:]]


async def test_chunks_come_in_the_terms_of_every_provider(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__tool")
    async with iModel(provider="claude_code") as model, model.stream(prompt="go") as chunks:
        seen = [chunk async for chunk in chunks]
        call = chunks.call
    assert "".join(map(str, seen)) == "Tool finished." == call.text
    assert [chunk.tool_name for chunk in seen if chunk.type == "tool_use"] == ["Bash"]
    assert [chunk.tool_output for chunk in seen if chunk.type == "tool_result"] == ["tool-ran"]
    assert [chunk.type for chunk in seen if chunk.type in ("result", "error")] == ["result"]
    assert seen[-1].type == "result"


async def test_all_that_was_said_is_collected(bin_folder: Path) -> None:
    Replayed(bin_folder, "codex", "codex__multi", "codex__401")
    async with iModel(provider="codex") as model:
        said = await model.run_and_collect(prompt="go", resume="")
        assert said is not None
        with pytest.raises(Rejected):
            await model.run_and_collect(prompt="go", resume="")


async def test_a_chat_is_read_as_a_stream_alone() -> None:
    async with iModel(provider="ag2", model="m") as model:
        with pytest.raises(InvalidCall, match=r"stream-only.*run_and_collect.*Nothing was sent"):
            await model.invoke(prompt="x", agents=[{"name": "a"}])


# --- failures ---


async def test_a_refused_key_is_rejected_and_the_key_is_nowhere(
    bin_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Replayed(bin_folder, "claude", "claude__401_retry0")
    async with iModel(provider="claude_code", api_key=KEY) as model:
        call = await model.invoke(prompt="x")
    assert isinstance(call.error, Rejected)
    assert (call.error.status, call.attempts) == (401, 1)
    assert call.text is None
    assert KEY not in caplog.text + repr(call.error) + repr(call) + repr(model)


async def test_too_many_requests_are_tried_again_while_nothing_was_done(bin_folder: Path) -> None:
    program = Replayed(bin_folder, "codex", "codex__429", "codex__plain")
    async with iModel(provider="codex") as model:
        call = await model.invoke(prompt="x")
        assert (call.status, call.attempts) == ("completed", 2)
        assert len(program.runs) == 2


async def test_a_session_that_is_not_there_says_so(bin_folder: Path) -> None:
    Replayed(bin_folder, "codex", "codex__resume_bad")
    async with iModel(provider="codex") as model:
        call = await model.invoke(prompt="x", resume="00000000-0000-0000-0000-000000000000")
    assert isinstance(call.error, AgentError)
    assert "session_not_found" in call.error.message
    assert call.error.exit_code == 1
    assert call.error.stderr_tail


# --- handlers ---


def told() -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Handlers that note what they are told."""
    news: list[tuple[str, Any]] = []

    def handler(name: str) -> Any:
        def note(value: Any) -> None:
            news.append((name, value))

        async def note_later(value: Any) -> None:
            await trio.lowlevel.checkpoint()
            news.append((name, value))

        return note if name != "on_tool_use" else note_later

    names = ("on_text", "on_thinking", "on_tool_use", "on_tool_result", "on_system", "on_final")
    return news, {name: handler(name) for name in names}


@pytest.mark.parametrize("given", ["model", "call", "grouped"])
@pytest.mark.parametrize("way", ["invoke", "stream", "run_and_collect"])
async def test_handlers_are_told_what_a_run_says(bin_folder: Path, given: str, way: str) -> None:
    Replayed(bin_folder, "claude", "claude__tool")
    news, handlers = told()
    of_model = handlers if given == "model" else {}
    of_call = {"call": handlers, "grouped": {"claude_handlers": handlers}}.get(given, {})
    async with iModel(provider="claude_code", **of_model) as model:
        if way == "stream":
            async for _ in model.stream(prompt="go", **of_call):
                pass
        else:
            await getattr(model, way)(prompt="go", **of_call)
    assert "".join(value for name, value in news if name == "on_text") == "Tool finished."
    uses = [value for name, value in news if name == "on_tool_use"]
    assert uses == [{"id": "toolu_1", "name": "Bash", "input": {"command": "echo tool-ran", "description": "say it"}}]
    results = [value for name, value in news if name == "on_tool_result"]
    assert results == [{"tool_use_id": "toolu_1", "content": "tool-ran", "is_error": False}]
    kinds = [value["kind"] for name, value in news if name == "on_system"]
    assert kinds[0] == "session"
    (final,) = [value for name, value in news if name == "on_final"]
    assert (final["result"], final["is_error"]) == ("Tool finished.", False)
    assert final["session_id"] == session_of("claude__tool")
    assert news[-1][0] == "on_final"


async def test_what_it_thinks_is_told_too(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__think")
    news, handlers = told()
    async with iModel(provider="claude_code") as model:
        call = await model.invoke(prompt="go", **handlers)
    assert "".join(value for name, value in news if name == "on_thinking") == call.view.reasoning


async def test_a_handler_that_raises_loses_nothing_unless_it_is_to(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__plain")

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    async with iModel(provider="claude_code", on_text=fail, on_final=fail) as model:
        assert (await model.invoke(prompt="x")).status == "completed"
    async with iModel(provider="claude_code", on_text=fail, exit_hook=True) as model:
        with pytest.raises(HandlerFailed):
            await model.invoke(prompt="x")


async def test_handlers_of_a_failed_run_hear_of_its_end_and_the_call_says_why(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__401_retry0")
    news, handlers = told()
    async with iModel(provider="claude_code", **handlers) as model:
        call = await model.invoke(prompt="x")
    assert isinstance(call.error, Rejected)
    assert [value["is_error"] for name, value in news if name == "on_final"] == [True]
    assert not [value for name, value in news if name == "on_text"]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_run_that_might_have_been_tried_again_tells_its_end_once(bin_folder: Path, attempts: int) -> None:
    Replayed(bin_folder, "codex", "codex__429")
    news, handlers = told()
    async with iModel(provider="codex", max_attempts=attempts) as model:
        stream = model.stream(prompt="x", **handlers)
        seen = []
        try:
            async for chunk in stream:
                seen += [chunk]
        except RateLimited:
            assert stream.call.attempts == attempts
    assert [chunk.type for chunk in seen if chunk.type in ("result", "error")] == ["error"]
    assert seen[-1].type == "error"
    assert [value["is_error"] for name, value in news if name == "on_final"] == [True]


async def test_handlers_of_another_agent_are_no_arguments_of_this_one(bin_folder: Path) -> None:
    async with iModel(provider="claude_code") as model:
        with pytest.raises(InvalidCall, match="codex_handlers"):
            await model.invoke(prompt="x", codex_handlers={"on_text": print})


async def test_a_models_handlers_are_told_of_calls_that_were_made_before(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__plain")
    news, handlers = told()
    async with iModel(provider="claude_code", **handlers) as model:
        await model.invoke(model.create_api_calling(prompt="x"))
        assert "".join(value for name, value in news if name == "on_text") == "Hello from the fake provider."
        assert model.provider_session_id == session_of("claude__plain")
        await model.run_and_collect(model.create_api_calling(prompt="x"))
        async for _ in model.stream(model.create_api_calling(prompt="x")):
            pass
    assert len([name for name, _ in news if name == "on_final"]) == 3


@pytest.mark.parametrize(
    "bad",
    [{"on_text": 3}, {"claude_handlers": {"on_error": print}}, {"handlers": print}],
    ids=["text", "name", "group"],
)
async def test_what_is_no_handler_is_refused(bad: dict[str, Any]) -> None:
    async with iModel(provider="claude_code") as model:
        with pytest.raises(UsageError, match=next(iter(bad))):
            await model.invoke(prompt="x", **bad)
    with pytest.raises(UsageError):
        iModel(provider="claude_code", **bad)


async def test_hooks_go_around_a_run_like_around_any_call(bin_folder: Path) -> None:
    Replayed(bin_folder, "claude", "claude__plain")
    seen: list[str] = []
    hooks = {
        HookEventTypes.PreInvocation: lambda event, **kw: seen.append(event.status),
        HookEventTypes.PostInvocation: lambda event, **kw: seen.append(event.status),
    }
    async with iModel(provider="claude_code", hook_registry={"hooks": hooks, "stream_handlers": {}}) as model:
        await model.invoke(prompt="x")
    assert seen == ["pending", "completed"]


async def test_errors_of_a_429_keep_their_class(bin_folder: Path) -> None:
    Replayed(bin_folder, "codex", "codex__429")
    async with iModel(provider="codex") as model:
        call = await model.invoke(prompt="x", max_attempts=2)
    assert isinstance(call.error, RateLimited)
    assert (call.attempts, call.error.gave_up) == (2, "attempts")
