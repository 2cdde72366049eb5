"""How Codex is started: its arguments one by one, what of the caller's is refused, and that no key stands in them.

What is asked here of the program itself (that it takes these arguments, keeps the key from its commands, leaves the
user's configuration out) was measured with it; see the module.
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.agent import Launch, Setting
from engine.agents.codex import CODEX, KEY_VARIABLE, MOST_CHARACTERS, CodexOptions, toml_value
from engine.errors import InvalidCall

SESSION = "01a1fa96-5963-7212-b7dd-c7ee1b0b58a2"
OWN = Setting(home="/home/u", private="/private/run")
KEYED = Setting(home="/home/u", private="/private/run", has_key=True)
LOCAL = Setting(home="/home/u", private="/private/run", base_url="http://127.0.0.1:8000/openai/v1")


def options(**arguments: Any) -> CodexOptions:
    return msgspec.convert({"prompt": "Say hello."} | arguments, CodexOptions)


def launched(setting: Setting = KEYED, **arguments: Any) -> Launch:
    asked = options(**arguments)
    CODEX.check(asked)
    return CODEX.launch(asked, setting)


def settings(launch: Launch) -> dict[str, Any]:
    """The values of its configuration, as the program reads them: the last of a name holds."""
    found: dict[str, Any] = {}
    for flag, value in zip(launch.arguments, launch.arguments[1:], strict=False):
        if flag == "-c":
            name, _, told = value.partition("=")
            found[name] = tomllib.loads(f"value = {told}")["value"]
    return found


def test_a_plain_run_is_quiet_reads_only_and_takes_its_prompt_from_standard_input() -> None:
    launch = launched(model="gpt-5.2-codex")
    assert launch.arguments[:5] == ("exec", "--json", "--skip-git-repo-check", "--color=never", "--sandbox=read-only")
    assert "--model=gpt-5.2-codex" in launch.arguments
    assert {"--disable=plugins", "--disable=unbounded_connection_retries"} < set(launch.arguments)
    assert launch.arguments[-1] == "-"
    assert launch.prompt == "Say hello."
    assert "Say hello." not in launch.arguments
    found = settings(launch)
    assert [found[name] for name in ("analytics.enabled", "check_for_update_on_startup", "feedback.enabled")] == [
        False,
        False,
        False,
    ]
    assert [found[name] for name in ("otel.exporter", "history.persistence", "approval_policy", "web_search")] == [
        "none",
        "none",
        "never",
        "disabled",
    ]


def test_with_a_key_it_asks_a_provider_of_ours_without_retries_and_keeps_the_key_from_its_commands() -> None:
    launch = launched(KEYED)
    found = settings(launch)
    assert found["model_provider"] == "penstock"
    assert found["model_providers.penstock"] == {
        "name": "penstock",
        "base_url": "https://api.openai.com/v1",
        "env_key": KEY_VARIABLE,
        "wire_api": "responses",
        "supports_websockets": False,
        "request_max_retries": 0,
        "stream_max_retries": 0,
    }
    assert found["shell_environment_policy.exclude"] == [KEY_VARIABLE]
    assert launch.key_variable == KEY_VARIABLE
    assert KEY_VARIABLE not in launch.env
    assert "--ignore-user-config" in launch.arguments


def test_a_base_address_without_a_key_is_asked_without_one() -> None:
    launch = launched(LOCAL)
    found = settings(launch)
    assert "--ignore-user-config" in launch.arguments
    assert found["model_provider"] == "penstock"
    assert found["model_providers.penstock"]["base_url"] == LOCAL.base_url
    assert "env_key" not in found["model_providers.penstock"]
    assert "shell_environment_policy.exclude" not in found


def test_with_neither_the_users_own_login_and_configuration_hold() -> None:
    launch = launched(OWN)
    assert "--ignore-user-config" not in launch.arguments
    assert not {"model_provider", "model_providers.penstock"} & settings(launch).keys()
    assert "--ignore-rules" in launch.arguments  # they could let a command out of the sandbox


def test_where_there_is_no_sandbox_the_users_rules_still_forbid() -> None:
    assert "--ignore-rules" not in launched(OWN, permission="full").arguments
    assert "--ignore-rules" not in launched(KEYED, sandbox="danger-full-access").arguments


def test_a_profile_is_part_of_the_users_configuration() -> None:
    launch = launched(KEYED, profile="deep")
    assert "--profile=deep" in launch.arguments
    assert "--ignore-user-config" not in launch.arguments
    assert settings(launch)["model_provider"] == "penstock"


@pytest.mark.parametrize(
    ("given_address", "asked"),
    [
        ("http://h", "http://h/v1"),
        ("http://h/", "http://h/v1"),
        ("http://h/openai", "http://h/openai/v1"),
        ("http://h/openai/v1", "http://h/openai/v1"),
        ("http://h/openai/v1/", "http://h/openai/v1"),
        ("http://h/v1beta/openai", "http://h/v1beta/openai"),
        ("http://v1/openai", "http://v1/openai/v1"),
        ("http://h/vlm", "http://h/vlm/v1"),
    ],
)
def test_an_address_without_a_version_gets_one(given_address: str, asked: str) -> None:
    launch = launched(Setting(home="/h", private="/p", base_url=given_address, has_key=True))
    assert settings(launch)["model_providers.penstock"]["base_url"] == asked


@pytest.mark.parametrize(
    ("arguments", "sandbox"),
    [
        ({}, "read-only"),
        ({"permission": "edit"}, "workspace-write"),
        ({"permission": "full"}, "danger-full-access"),
        ({"permission": "full", "sandbox": "read-only"}, "read-only"),
        ({"sandbox": "workspace-write"}, "workspace-write"),
    ],
    ids=["default", "edit", "full", "sandbox-over-permission", "sandbox"],
)
def test_what_it_may_do(arguments: dict[str, Any], sandbox: str) -> None:
    found = launched(**arguments).arguments
    assert [argument for argument in found if argument.startswith("--sandbox")] == [f"--sandbox={sandbox}"]
    assert not any("dangerously" in argument for argument in found)


def test_the_session_comes_behind_all_flags() -> None:
    found = launched(resume=SESSION, images=["a.png"], add_dirs=["d"], config={"hide_agent_reasoning": True}).arguments
    assert found[-3:] == ("resume", SESSION, "-")
    assert not any(argument.startswith("-") for argument in found[found.index("resume") + 1 : -1])
    assert {"--image=a.png", "--add-dir=d"} < set(found)


def test_a_new_session_resumes_none() -> None:
    assert "resume" not in launched(resume="").arguments


def test_a_schema_becomes_a_private_file() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    launch = launched(output_schema=schema)
    assert msgspec.json.decode(launch.files["output_schema.json"]) == schema
    assert "--output-schema=/private/run/output_schema.json" in launch.arguments


def test_what_is_further_asked_becomes_arguments_environment_and_configuration() -> None:
    launch = launched(
        cwd="work",
        state_dir="/state",
        files=["README.md"],
        system_prompt='Be "brief".\n',
        reasoning_effort="high",
        ephemeral=True,
        search=True,
        config={"model_verbosity": "low", "sandbox_workspace_write.network_access": True, "tool_output_token_limit": 9},
    )
    found = settings(launch)
    assert launch.cwd == "work"
    assert launch.env == {"CODEX_HOME": "/state"}
    assert "- README.md" in launch.prompt
    assert "--ephemeral" in launch.arguments
    assert found["developer_instructions"] == 'Be "brief".\n'
    assert (found["model_reasoning_effort"], found["web_search"]) == ("high", "live")
    assert (found["model_verbosity"], found["sandbox_workspace_write.network_access"]) == ("low", True)
    assert found["tool_output_token_limit"] == 9


_NO_TMP = "sandbox_workspace_write.exclude_slash_tmp"


@pytest.mark.parametrize("asked", [{"permission": "edit"}, {"sandbox": "workspace-write"}], ids=["edit", "sandbox"])
def test_who_edits_has_temporary_files_in_the_private_directory_alone(asked: dict[str, Any]) -> None:
    launch = launched(**asked)
    assert settings(launch)[_NO_TMP] is True
    assert launch.env == {"TMPDIR": "/private/run"}
    assert settings(launched(**asked, config={_NO_TMP: False}))[_NO_TMP] is False


@pytest.mark.parametrize("permission", ["read", "full"])
def test_where_nothing_or_all_may_be_written_temporary_files_are_no_matter(permission: str) -> None:
    launch = launched(permission=permission)
    assert _NO_TMP not in settings(launch)
    assert launch.env == {}


def test_a_chats_system_message_is_added_to_the_instructions() -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "A"}, {"role": "user", "content": "B"}]
    launch = launched(prompt=None, messages=messages)
    assert settings(launch)["developer_instructions"] == "S"
    assert launch.prompt == "A\n\nB"


def test_configuration_of_the_callers_stands_over_what_is_off_by_default() -> None:
    assert settings(launched(config={"analytics.enabled": True}))["analytics.enabled"] is True


@pytest.mark.parametrize(
    "hostile",
    ["a b; rm -rf /", "$(id)", 'x"]\nsandbox_mode="danger-full-access', "'", "x --yolo", "é😀"],
    ids=["shell", "substitution", "toml", "quote", "flag", "unicode"],
)
def test_hostile_values_stay_values(hostile: str) -> None:
    launch = launched(system_prompt=hostile, config={"x.y": hostile}, add_dirs=[hostile], images=[hostile])
    found = settings(launch)
    assert found["developer_instructions"] == found["x.y"] == hostile
    assert {f"--add-dir={hostile}", f"--image={hostile}"} < set(launch.arguments)
    assert not {"sandbox_mode", "danger-full-access", "--yolo"} & {*found, *launch.arguments}


@pytest.mark.parametrize(
    ("arguments", "argument", "words"),
    [
        ({"prompt": " "}, "prompt", "nothing to ask"),
        ({"prompt": "☕" * (MOST_CHARACTERS + 1)}, "prompt", "1,048,576 characters"),
        ({"prompt": "x" * MOST_CHARACTERS, "files": ["a"]}, "prompt", "1,048,576 characters"),
        ({"images": ["a,b.png"]}, "images", "comma"),
        ({"resume": "my-thread"}, "resume", "UUID"),
        ({"resume": SESSION, "ephemeral": True}, "ephemeral", "kept all the same"),
        ({"system_prompt": "\u007f" * 40_000}, "system_prompt", "too long"),
        ({"config": {"model": "x"}}, "config['model']", "model="),
        ({"config": {"model_providers.x.base_url": "http://x"}}, "config['model_providers.x.base_url']", "profile="),
        ({"config": {"approval_policy": "on-request"}}, "config['approval_policy']", "permission="),
        ({"config": {"mcp_servers.a.env.GH_TOKEN": "t"}}, "config['mcp_servers.a.env.GH_TOKEN']", "secret"),
        ({"config": {"x.Authorization": "t"}}, "config['x.Authorization']", "secret"),
        ({"config": {"a": float("nan")}}, "config['a']", "finite"),
        ({"config": {"a": "x" * 200_000}}, "config['a']", "too long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_go_wrong_quietly_is_refused(arguments: dict[str, Any], argument: str, words: str) -> None:
    with pytest.raises(InvalidCall, match=words) as caught:
        CODEX.check(options(**arguments))
    assert caught.value.argument == argument
    assert "Nothing was sent" in caught.value.message


def test_a_prompt_as_long_as_the_program_takes_is_taken() -> None:
    assert len(launched(prompt="☕" * MOST_CHARACTERS).prompt) == MOST_CHARACTERS


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "--yolo"},
        {"profile": "-x"},
        {"resume": "--last"},
        {"resume": "../../x"},
        {"images": ["-i"]},
        {"add_dirs": [""]},
        {"cwd": "-C"},
        {"config": {"a=b": 1}},
        {"config": {"-a": 1}},
        {"config": {"a..b": 1}},
        {"config": {'a."b"': 1}},
        {"config": {"a": [1]}},
        {"config": {"a": 2**63}},
        {"config": {"a": None}},
        {"sandbox": "none"},
        {"reasoning_effort": "silly"},
        {"output_schema": "schema.json"},
        {"max_budget_usd": 1},
    ],
    ids=str,
)
def test_what_the_types_refuse(arguments: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        options(**arguments)


def test_every_place_of_the_native_program_is_relative_and_of_a_known_platform() -> None:
    assert "../../codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex" in CODEX.natives  # beside, in a project
    assert (
        "../node_modules/@openai/codex-linux-arm64/vendor/aarch64-unknown-linux-musl/bin/codex" in CODEX.natives
    )  # within, installed globally
    assert all(place.startswith("../") and place.endswith("/bin/codex") for place in CODEX.natives)
    assert len(set(CODEX.natives)) == len(CODEX.natives)


@given(
    st.recursive(
        st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        st.lists,
        max_leaves=5,
    )
)
def test_toml_reads_back_what_was_written(value: object) -> None:
    written = toml_value(value)
    assert "\n" not in written
    assert "\x00" not in written
    assert tomllib.loads(f"value = {written}") == {"value": value}


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text), st.text(max_size=50))
def test_whatever_the_instructions_say_they_are_one_argument(system_prompt: str, value: str) -> None:
    launch = launched(system_prompt=system_prompt, config={"a.b": value})
    found = settings(launch)
    assert (found["developer_instructions"], found["a.b"]) == (system_prompt, value)
    assert len(launch.arguments) == len(launched(system_prompt="S", config={"a.b": "v"}).arguments)
