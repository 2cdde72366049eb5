"""How Claude Code is asked for a run: its arguments, variables and files, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.agent import Launch, Setting
from engine.agents.claude_code import CLAUDE_CODE, ClaudeOptions
from engine.errors import InvalidCall
from engine.providers.arguments import checked

SETTING = Setting(home="/home/u", private="/run/p", base_url="http://localhost:1/anthropic", has_key=True)
SESSION = "11111111-2222-4333-8444-555555555555"


def options(**given: Any) -> ClaudeOptions:
    """Options as a call's arguments become them."""
    return msgspec.convert(
        checked({"prompt": "p", **given}, ClaudeOptions, provider="claude_code", closed=True), ClaudeOptions
    )


def launch(setting: Setting = SETTING, **given: Any) -> Launch:
    asked = options(**given)
    CLAUDE_CODE.check(asked)
    return CLAUDE_CODE.launch(asked, setting)


def test_the_plainest_launch() -> None:
    """Everything that asks, reads the user's settings, or does more than its task is off."""
    found = launch()
    assert found.arguments == (
        "-p", "--output-format=stream-json", "--verbose", "--include-partial-messages", "--permission-prompts=none",
        "--disable-slash-commands", "--no-chrome", "--permission-mode=dontAsk", "--setting-sources=",
        "--strict-mcp-config", "--tools=Read,Grep,Glob",
    )  # fmt: skip
    assert (found.prompt, found.key_variable, found.files, found.links, found.cwd) == (
        "p", "ANTHROPIC_API_KEY", {}, {}, "",
    )  # fmt: skip
    assert found.env == {
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_BUG_COMMAND": "1",
        "DISABLE_COST_WARNINGS": "1",
        "CLAUDE_CODE_ENABLE_TELEMETRY": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
        "ANTHROPIC_BASE_URL": "http://localhost:1/anthropic",
    }


def test_its_own_provider() -> None:
    """Without an address it asks its own; nothing says where the key is but its variable."""
    found = launch(Setting(home="/home/u", private="/run/p"))
    assert "ANTHROPIC_BASE_URL" not in found.env
    assert not any("KEY" in name or "TOKEN" in name for name in found.env)


ARGUMENTS: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"model": "opus"}, ["--model=opus"]),
    ({"effort": "xhigh"}, ["--effort=xhigh"]),
    ({"max_turns": 3}, ["--max-turns=3"]),
    ({"max_budget_usd": 0.25}, ["--max-budget-usd=0.25"]),
    ({"resume": SESSION}, [f"--resume={SESSION}"]),
    ({"resume": "a.b:c", "fork_session": True}, ["--resume=a.b:c", "--fork-session"]),
    ({"session_id": SESSION}, [f"--session-id={SESSION}"]),
    ({"resume": "s", "fork_session": True, "session_id": SESSION},
     ["--resume=s", f"--session-id={SESSION}", "--fork-session"]),
    ({"add_dirs": ["/a b", "c,d"]}, ["--add-dir=/a b", "--add-dir=c,d"]),
    ({"disallowed_tools": ["Bash(rm *)"]}, ["--disallowedTools=Bash(rm *)"]),
    ({"setting_sources": ["user", "project"]}, ["--setting-sources=user,project"]),
    ({"tools": []}, ["--tools="]),
    ({"tools": ["Bash", "Read"]}, ["--tools=Bash,Read"]),
    ({"permission_mode": "plan"}, ["--permission-mode=plan"]),
    ({"permission": "edit"}, ["--permission-mode=acceptEdits"]),
    ({"permission": "full"}, ["--permission-mode=bypassPermissions"]),
    ({"permission": "full", "permission_mode": "auto"}, ["--permission-mode=auto"]),
    ({"json_schema": {"type": "object", "title": "-x\n\0"}},
     ['--json-schema={"type":"object","title":"-x\\n\\u0000"}']),
    ({"allowed_tools": ["Bash(git log *)", "Bash(ls)", "mcp__s__t", "Read"]},
     ["--allowedTools=Bash(git log *)", "--allowedTools=Bash(ls)", "--allowedTools=mcp__s__t", "--allowedTools=Read",
      "--tools=Read,Grep,Glob,Bash"]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("given_", "expected"), ARGUMENTS, ids=[f"{n}-{'-'.join(c[0])}" for n, c in enumerate(ARGUMENTS)]
)
def test_options_become_arguments(given_: dict[str, Any], expected: list[str]) -> None:
    """Each is bound to its option by an equals sign, and replaces or adds to the plainest launch's."""
    arguments = launch(**given_).arguments
    assert set(expected) <= set(arguments)
    names = {argument.partition("=")[0] for argument in expected}
    assert set(arguments) - set(expected) <= {a for a in launch().arguments if a.partition("=")[0] not in names}


def test_only_reading_leaves_few_tools() -> None:
    """With more permission it has its own set."""
    assert not [argument for argument in launch(permission="edit").arguments if argument.startswith("--tools")]


def test_settings_that_are_read_bring_their_servers() -> None:
    """Servers that are not named here are left out only where no settings are."""
    assert "--strict-mcp-config" in launch(mcp_config={"mcpServers": {}}).arguments
    assert "--strict-mcp-config" not in launch(setting_sources=["user"]).arguments


def test_prompts_go_by_files() -> None:
    """A system prompt is in no argument, however it looks; nor are the servers, which may hold keys."""
    servers = {"mcpServers": {"x": {"command": "c", "env": {"TOKEN": "hush"}}}}
    found = launch(system_prompt="-S\n", append_system_prompt="A", mcp_config=servers)
    assert found.files["system_prompt.md"] == "-S\n"
    assert found.files["appended_prompt.md"] == "A"
    assert json.loads(found.files["mcp.json"]) == servers
    assert found.arguments[-3:] == (
        "--system-prompt-file=/run/p/system_prompt.md",
        "--append-system-prompt-file=/run/p/appended_prompt.md",
        "--mcp-config=/run/p/mcp.json",
    )
    assert "hush" not in repr((found.arguments, found.env, found.prompt))


@pytest.mark.parametrize("name", ["system_prompt", "append_system_prompt"])
def test_a_resumed_session_takes_the_new_system_prompt(name: str) -> None:
    """Not the one that it had recorded; without one, that."""
    assert launch(resume=SESSION, **{name: "S"}).arguments[-1] == "--system-prompt-snapshot=off"
    assert "--system-prompt-snapshot=off" not in launch(**{name: "S"}).arguments
    assert "--system-prompt-snapshot=off" not in launch(resume=SESSION).arguments


def test_messages_become_a_prompt() -> None:
    """As for every agent: a system message is the system prompt, and a session knows what came before."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
    ]
    found = launch(prompt=None, messages=messages, files=["a.py"])
    assert found.prompt == "one\n\ntwo\n\nLook at these files first:\n- a.py"
    assert found.files == {"system_prompt.md": "S"}
    assert launch(prompt=None, messages=messages, resume=SESSION).prompt == "two"


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("/compact", "\n/compact"), ("--version", "--version"), ("-", "-"), ("@a !b #c", "@a !b #c")],
    ids=["slash", "option", "dash", "signs"],
)
def test_a_prompt_is_no_command(prompt: str, sent: str) -> None:
    """It goes by standard input, and is not taken for a command of the program's own."""
    found = launch(prompt=prompt)
    assert found.prompt == sent
    assert found.arguments == launch().arguments


def test_where_it_runs_and_keeps_its_state() -> None:
    """Its directory is its own variable."""
    found = launch(cwd="/w", state_dir="/s")
    assert (found.cwd, found.env["CLAUDE_CONFIG_DIR"]) == ("/w", "/s")


HOSTILE: tuple[tuple[str, Any], ...] = (
    ("model", "--dangerously-skip-permissions"), ("model", "a\nb"), ("model", "a\0"), ("model", ""),
    ("resume", "-x"), ("resume", "a b"), ("resume", "../x"),
    ("session_id", "x"), ("session_id", SESSION + "\n"), ("session_id", f"-{SESSION[1:]}"),
    ("tools", ["Read,Bash"]), ("tools", ["-x"]), ("tools", ["Bash(ls)"]), ("tools", ["Read Bash"]), ("tools", [""]),
    ("allowed_tools", ["Read Bash"]), ("allowed_tools", ["Read(x) Bash(y)"]), ("allowed_tools", ["Bash(a\nb)"]),
    ("allowed_tools", ["Bash(\0)"]), ("disallowed_tools", ["-Bash"]), ("allowed_tools", ["Bash(ls)\n"]),
    ("add_dirs", ["-x"]), ("add_dirs", ["a\0b"]), ("cwd", "a\0"), ("state_dir", "-x"),
    ("prompt", "a\0"), ("prompt", " \n"), ("system_prompt", "a\0"), ("append_system_prompt", "\0"),
    ("max_turns", 0), ("max_turns", True), ("max_budget_usd", 0), ("max_budget_usd", float("nan")),
    ("max_budget_usd", float("inf")), ("effort", "-x"), ("setting_sources", ["flag"]), ("permission", "root"),
    ("permission_mode", "default"), ("json_schema", "{}"), ("mcp_config", "/etc/passwd"), ("dangerously", True),
    ("api_key", "sk-ant-1"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), HOSTILE, ids=[f"{n}-{case[0]}" for n, case in enumerate(HOSTILE)])
def test_hostile_values_are_refused(name: str, value: Any) -> None:
    """By their type, before anything is started."""
    with pytest.raises((InvalidCall, msgspec.ValidationError)):
        launch(**{name: value})


CONTRADICTIONS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"fork_session": True}, "fork_session", "resume="),
    ({"session_id": SESSION, "resume": SESSION}, "session_id", "fork_session=True"),
    ({"permission_mode": "bypassPermissions"}, "permission_mode", "pass permission='full'"),
    ({"permission_mode": "acceptEdits"}, "permission_mode", "pass permission='edit'"),
    ({"permission": "edit", "permission_mode": "auto"}, "permission_mode", "pass permission='full'"),
    ({"allowed_tools": ["Bash"], "disallowed_tools": ["Bash"]}, "allowed_tools", "disallowed as well"),
    ({"allowed_tools": ["Bash(ls)"], "tools": ["Read"]}, "allowed_tools", "Bash is not among tools"),
    ({"json_schema": {"x": "y" * 100_000}}, "json_schema", "longer than"),
    ({"mcp_config": {"x": {}}}, "mcp_config", "mcpServers"),
    ({"mcp_config": {"mcpServers": []}}, "mcp_config", "mcpServers"),
    ({"messages": []}, "prompt", "beside messages"),
)


@pytest.mark.parametrize(
    ("given_", "argument", "advice"), CONTRADICTIONS, ids=[f"{n}-{c[1]}" for n, c in enumerate(CONTRADICTIONS)]
)
def test_contradictions_are_refused(given_: dict[str, Any], argument: str, advice: str) -> None:
    """With the argument at fault, and what to do."""
    with pytest.raises(InvalidCall, match=re.escape(advice)) as caught:
        launch(**given_)
    assert caught.value.argument == argument
    assert "Nothing was sent" in str(caught.value)


def test_servers_beside_tools_are_no_contradiction() -> None:
    """Their tools are not built in."""
    assert "--tools=" in launch(tools=[], allowed_tools=["mcp__s__t"]).arguments
    assert "--tools=default" in launch(tools=["default"], allowed_tools=["Bash"]).arguments


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.fixed_dictionaries(
        {"prompt": TEXTS},
        optional={
            "model": TEXTS, "system_prompt": TEXTS, "resume": TEXTS, "cwd": TEXTS,
            "add_dirs": st.lists(TEXTS, max_size=2), "allowed_tools": st.lists(TEXTS, max_size=2),
            "json_schema": st.dictionaries(TEXTS, TEXTS, max_size=2),
        },
    )
)  # fmt: skip
def test_what_is_not_refused_can_be_started(given_: dict[str, Any]) -> None:
    """No argument holds a zero byte, each begins with an option of ours, and the prompt is in none of them."""
    try:
        found = launch(**given_)
    except (InvalidCall, msgspec.ValidationError):
        return
    assert not any("\0" in argument for argument in found.arguments)
    assert all(re.match(r"-p\Z|--[a-zA-Z-]+(=|\Z)", argument) for argument in found.arguments)
    assert found.prompt.lstrip("\n").startswith(given_["prompt"].lstrip("\n"))


def test_what_the_program_is() -> None:
    """Its facts, and a parser that knows what it was asked."""
    assert (CLAUDE_CODE.name, CLAUDE_CODE.program, CLAUDE_CODE.stop_signal) == ("claude_code", "claude", "INT")
    assert CLAUDE_CODE.install == "npm install -g @anthropic-ai/claude-code"
    assert CLAUDE_CODE.free_cached
    assert "../../claude-code-linux-x64/claude" in CLAUDE_CODE.natives
    assert {"CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN"} <= {*CLAUDE_CODE.inherits}
    result = {
        "type": "result",
        "subtype": "success",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "total_cost_usd": 1,
    }
    costs = []
    for given_ in ({}, {"resume": SESSION}):
        parser = CLAUDE_CODE.parser(options(**given_), None)
        parser.feed(result)
        costs.append(parser.end(0, "")[-1].usage.cost_usd)  # type: ignore[union-attr]  # it is a result
    assert costs == [1.0, None]
