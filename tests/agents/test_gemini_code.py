"""How a run of Gemini CLI is started: arguments, environment, private files and links; and what is refused before."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.agents.agent import Launch, Setting
from engine.agents.gemini_code import GEMINI_CODE, MOST_BYTES, GeminiOptions
from engine.agents.gemini_events import GeminiParser
from engine.errors import InvalidCall

PLAIN = ("--output-format", "stream-json", "-e", "none", "--approval-mode", "default")
SESSION = "15781953-a02c-4d2b-b34c-d93aa428909a"
KEYED = Setting(home="/home/ada", private="/run/p1", has_key=True)
KEYLESS = Setting(home="/home/ada", private="/run/p1")
LASTING = {".gemini/tmp", ".gemini/history", ".gemini/projects.json"}
LOGIN = {
    ".gemini/oauth_creds.json",
    ".gemini/gemini-credentials.json",
    ".gemini/google_accounts.json",
    ".gemini/installation_id",
    ".gemini/.env",
    ".env",
}


def launched(setting: Setting = KEYED, **options: Any) -> Launch:
    """The launch for options that have been checked."""
    asked = {} if "messages" in options else {"prompt": "hello"}
    given = msgspec.convert({**asked, **options}, GeminiOptions)
    GEMINI_CODE.check(given)
    return GEMINI_CODE.launch(given, setting)


def settings_of(launch: Launch) -> dict[str, Any]:
    """The settings the program will find."""
    found: dict[str, Any] = json.loads(launch.files[".gemini/settings.json"])
    return found


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, PLAIN),
        ({"model": "gemini-2.5-pro"}, (*PLAIN, "-m", "gemini-2.5-pro")),
        ({"resume": SESSION}, (*PLAIN, "--resume", SESSION)),
        ({"resume": ""}, PLAIN),
        ({"session_id": SESSION}, (*PLAIN, "--session-id", SESSION)),
        ({"permission": "edit"}, PLAIN),
        ({"permission": "edit", "approval_mode": "auto_edit"}, PLAIN),
        ({"permission": "edit", "trust_project": True}, (*PLAIN[:-1], "auto_edit")),
        ({"permission": "full"}, (*PLAIN[:-1], "yolo")),
        ({"permission": "full", "approval_mode": "plan"}, (*PLAIN[:-1], "plan")),
        ({"approval_mode": "plan", "trust_project": True}, (*PLAIN[:-1], "plan")),
        (
            {"add_dirs": ["/a b", "x=$(y)"]},
            (*PLAIN, "--include-directories=/a b", "--include-directories=x=$(y)"),
        ),
    ],
    ids=lambda value: " ".join(map(str, value))[-60:] if isinstance(value, (dict, tuple)) else "",
)
def test_arguments(options: dict[str, Any], more: tuple[str, ...]) -> None:
    launch = launched(**options)
    assert launch.arguments == more
    assert (launch.prompt, launch.cwd) == ("hello", "")


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("--version", "--version"),
        ("/help", " /help"),
        ("/usr/bin/x is broken", " /usr/bin/x is broken"),
        ("a\nb ☕", "a\nb ☕"),
        ("$(rm) `x` ; '", "$(rm) `x` ; '"),
    ],
)
def test_a_prompt_is_for_standard_input_alone(prompt: str, written: str) -> None:
    launch = launched(prompt=prompt)
    assert launch.prompt == written
    assert launch.arguments == PLAIN
    assert launched(prompt=prompt, files=["src/a.py"]).prompt == f"{written}\n\nLook at these files first:\n- src/a.py"


def test_messages_become_a_prompt_and_a_private_system_prompt() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One."}]
    launch = launched(messages=[*messages, {"role": "user", "content": "Two."}], cwd="/work")
    assert (launch.prompt, launch.cwd) == ("One.\n\nTwo.", "/work")
    assert launch.files["system.md"] == "Be brief."
    assert launch.env["GEMINI_SYSTEM_MD"] == "/run/p1/system.md"
    assert "GEMINI_SYSTEM_MD" not in launched().env
    assert "system.md" not in launched().files


def test_the_private_settings_switch_off_telemetry_updates_and_retries() -> None:
    settings = settings_of(launched())
    assert settings["general"] == {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 1,
        "retryFetchErrors": False,
        "sessionRetention": {"enabled": False},
    }
    assert settings["privacy"] == {"usageStatisticsEnabled": False}
    assert settings["telemetry"] == {"enabled": False}
    assert "tools" not in settings
    assert "model" not in settings


def test_turns_and_tools_stand_in_the_settings() -> None:
    settings = settings_of(launched(max_turns=3, tools=[], allowed_tools=["run_shell_command(git status)"]))
    assert settings["model"] == {"maxSessionTurns": 3}
    assert settings["tools"] == {"core": [], "allowed": ["run_shell_command(git status)"]}


@pytest.mark.parametrize(
    ("options", "trusted"),
    [
        ({}, "false"),
        ({"permission": "edit"}, "false"),
        ({"permission": "full"}, "true"),
        ({"permission": "full", "approval_mode": "default"}, "true"),
        ({"trust_project": True}, "true"),
    ],
    ids=["read", "edit", "full", "full by default", "trusted"],
)
def test_a_project_is_obeyed_only_where_it_may_run_anything(options: dict[str, Any], trusted: str) -> None:
    launch = launched(**options)
    assert launch.env["GEMINI_CLI_TRUST_WORKSPACE"] == trusted
    assert "--skip-trust" not in launch.arguments  # it stands over the variable
    # Else it does not start without somebody whom it can ask for trust.
    assert settings_of(launch)["security"]["folderTrust"] == {"enabled": False}


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, None),
        ({"permission": "edit"}, ["write_file", "replace"]),
        ({"permission": "edit", "approval_mode": "default"}, None),
        ({"permission": "edit", "allowed_tools": ["web_fetch"]}, ["web_fetch", "write_file", "replace"]),
        ({"permission": "edit", "trust_project": True}, None),
        ({"permission": "full"}, None),
    ],
    ids=["read", "edit", "default", "more", "trusted", "full"],
)
def test_what_edits_files_is_allowed_by_name_where_there_is_no_mode_for_it(
    options: dict[str, Any], allowed: list[str] | None
) -> None:
    assert settings_of(launched(**options)).get("tools", {}).get("allowed") == allowed


@pytest.mark.parametrize(
    ("setting", "options", "state"),
    [
        (KEYED, {}, "/home/ada/.gemini"),
        (msgspec.structs.replace(KEYED, environ={"GEMINI_CLI_HOME": "/srv/gem"}), {}, "/srv/gem/.gemini"),
        (msgspec.structs.replace(KEYED, environ={"GEMINI_CLI_HOME": ""}), {}, "/home/ada/.gemini"),
        (msgspec.structs.replace(KEYED, environ={"GEMINI_CLI_HOME": "/srv/gem"}), {"state_dir": "/s"}, "/s"),
    ],
    ids=["home", "variable", "empty variable", "option"],
)
def test_sessions_live_on_in_the_state_directory(setting: Setting, options: dict[str, Any], state: str) -> None:
    launch = launched(setting, **options)
    assert launch.links == {name: f"{state}/{name.removeprefix('.gemini/')}" for name in LASTING}
    assert launch.directories == tuple(f"{state}/{name}" for name in ("tmp", "history"))
    assert launch.env["GEMINI_CLI_HOME"] == launch.env["TMPDIR"] == "/run/p1"


VERTEX = {"GOOGLE_GENAI_USE_VERTEXAI": "true"}


@pytest.mark.parametrize(
    ("has_key", "environ", "login", "kind", "linked", "variable", "address"),
    [
        (True, {}, None, "gemini-api-key", False, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        (True, VERTEX, None, "gemini-api-key", False, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        (True, {}, "vertex", "vertex-ai", False, "GOOGLE_API_KEY", "GOOGLE_VERTEX_BASE_URL"),
        (True, {}, "google", "oauth-personal", True, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        (False, {}, None, "oauth-personal", True, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        (False, VERTEX, None, "vertex-ai", True, "GOOGLE_API_KEY", "GOOGLE_VERTEX_BASE_URL"),
        (False, VERTEX, "key", "gemini-api-key", True, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    ],
)
def test_whose_account_it_asks_with(
    has_key: bool, environ: dict[str, str], login: str | None, kind: str, linked: bool, variable: str, address: str
) -> None:
    setting = Setting("/home/ada", "/run/p1", "http://127.0.0.1:9/gemini", has_key, environ)
    launch = launched(setting, login=login)
    assert settings_of(launch)["security"]["auth"]["selectedType"] == kind
    assert set(launch.links) == (LASTING | LOGIN if linked else LASTING)
    assert launch.key_variable == variable
    assert launch.env[address] == "http://127.0.0.1:9/gemini"
    assert launch.env["GOOGLE_GENAI_USE_VERTEXAI"] == ("true" if kind == "vertex-ai" else "false")


def test_without_an_address_none_is_said() -> None:
    assert not any(name.endswith("BASE_URL") for name in launched().env)


def test_no_setting_of_the_users_and_no_key_comes_along() -> None:
    environ = {"GEMINI_API_KEY": "AIza-secret", "GOOGLE_API_KEY": "AIza-other"}
    launch = launched(msgspec.structs.replace(KEYED, environ=environ), system_prompt="Be brief.")
    assert b"AIza" not in msgspec.json.encode(launch)
    assert ".gemini/settings.json" not in launch.links
    assert not {"GEMINI_API_KEY", "GOOGLE_API_KEY"} & set(GEMINI_CODE.inherits)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * (MOST_BYTES + 1)}, "prompt"),
        ({"prompt": "☕" * (MOST_BYTES // 3 + 1)}, "prompt"),
        ({"approval_mode": "yolo"}, "approval_mode"),
        ({"approval_mode": "plan"}, "approval_mode"),
        ({"permission": "edit", "approval_mode": "plan"}, "approval_mode"),
        ({"approval_mode": "auto_edit"}, "approval_mode"),
        ({"permission": "edit", "approval_mode": "yolo"}, "approval_mode"),
        ({"resume": "latest"}, "resume"),
        ({"resume": "5"}, "resume"),
        ({"resume": f"{SESSION}0"}, "resume"),
        ({"resume": SESSION, "session_id": SESSION}, "session_id"),
        ({"add_dirs": ["/a,/b"]}, "add_dirs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidCall, match="Nothing was sent") as raised:
        launched(**options)
    assert raised.value.argument == argument


@pytest.mark.parametrize(
    "options",
    [
        {"model": "--yolo"}, {"resume": "--yolo"}, {"session_id": "latest"}, {"session_id": f"{SESSION}\n"},
        {"add_dirs": ["-x"]}, {"state_dir": "/a\0"}, {"prompt": "a\0"}, {"max_turns": 0}, {"max_turns": True},
        {"tools": ["$GEMINI_API_KEY"]}, {"allowed_tools": ["run_shell_command($GEMINI_API_KEY)"]},
        {"tools": ["--x"]}, {"login": "root"}, {"approval_mode": "all"}, {"temperature": 1}, {"trust_project": "yes"},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_types_refuse(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"prompt": "hello", **options}, GeminiOptions)


def test_its_parser_knows_where_it_runs() -> None:
    parser = GEMINI_CODE.parser(GeminiOptions(prompt="x", cwd="/work"), None)
    assert isinstance(parser, GeminiParser)
    (session,) = parser.feed({"type": "init", "session_id": SESSION, "model": "m"})
    assert msgspec.structs.replace(session, raw=None) == msgspec.convert(
        {"kind": "session", "session_id": SESSION, "model": "m", "cwd": "/work"}, type(session)
    )
