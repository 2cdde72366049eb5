"""How Pi is started: arguments, environment, private files and links, and what is refused before anything runs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from engine.agents.agent import Launch, Setting
from engine.agents.pi import KEY_VARIABLES, PI, PiOptions
from engine.errors import InvalidCall

BEGINNING = ("-p", "--mode", "json")
BARE = ("--no-extensions", "--no-skills", "--no-prompt-templates", "--no-context-files", "--offline")
READ = ("--tools", "read,grep,find,ls")
SESSIONS = ("--session-dir", "/home/ada/.pi/agent/sessions/--penstock--")
ID = "01a1fa96-48f9-75ad-984f-0982fe6e42ea"


def setting(**changes: Any) -> Setting:
    return msgspec.structs.replace(Setting(home="/home/ada", private="/run/private"), **changes)


def launched(where: Setting | None = None, **options: Any) -> Launch:
    given = msgspec.convert({"prompt": "Say hello.", **options}, PiOptions)
    PI.check(given)
    return PI.launch(given, where or setting())


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, (*BEGINNING, *BARE, *READ, *SESSIONS)),
        (
            {"model": "openai/gpt-5"},
            (*BEGINNING, "--provider", "openai", "--model", "openai/gpt-5", *BARE, *READ, *SESSIONS),
        ),
        (
            {"model": "openai/gpt-oss", "pi_provider": "groq"},
            (*BEGINNING, "--provider", "groq", "--model", "openai/gpt-oss", *BARE, *READ, *SESSIONS),
        ),
        ({"model": "sonnet"}, (*BEGINNING, "--model", "sonnet", *BARE, *READ, *SESSIONS)),
        ({"permission": "edit"}, (*BEGINNING, *BARE, "--tools", "read,grep,find,ls,edit,write", *SESSIONS)),
        ({"permission": "full"}, (*BEGINNING, *BARE, "--tools", "read,grep,find,ls,edit,write,bash", *SESSIONS)),
        ({"permission": "full", "tools": ["bash"]}, (*BEGINNING, *BARE, "--tools", "bash", *SESSIONS)),
        ({"tools": []}, (*BEGINNING, *BARE, "--no-tools", *SESSIONS)),
        ({"thinking": "off"}, (*BEGINNING, *BARE, "--thinking", "off", *READ, *SESSIONS)),
        ({"ephemeral": True}, (*BEGINNING, *BARE, *READ, "--no-session")),
        ({"resume": ID}, (*BEGINNING, *BARE, *READ, "--session", ID, *SESSIONS)),
        ({"resume": ID, "fork": True}, (*BEGINNING, *BARE, *READ, "--fork", ID, *SESSIONS)),
        ({"resume": ""}, (*BEGINNING, *BARE, *READ, *SESSIONS)),
        ({"session_dir": "/srv/s"}, (*BEGINNING, *BARE, *READ, "--session-dir", "/srv/s")),
        ({"state_dir": "/srv/pi/"}, (*BEGINNING, *BARE, *READ, "--session-dir", "/srv/pi/sessions/--penstock--")),
        ({"add_dirs": ["/srv/data"]}, (*BEGINNING, *BARE, *READ, *SESSIONS)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "argv",
)
def test_the_arguments_say_what_was_asked_for(options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Each option becomes the arguments that Pi knows it by, and nothing else."""
    assert launched(**options).arguments == arguments


def test_instructions_go_by_file() -> None:
    """Pi takes a text that is the path of a file for that file; and an argument is seen by everybody."""
    launch = launched(system_prompt="/etc/passwd", append_system_prompt="--version")
    at = launch.arguments.index("--system-prompt")
    assert launch.arguments[at : at + 4] == (
        "--system-prompt",
        "/run/private/system_prompt.md",
        "--append-system-prompt",
        "/run/private/append_system_prompt.md",
    )
    assert launch.files["system_prompt.md"] == "/etc/passwd"
    assert launch.files["append_system_prompt.md"] == "--version"


def test_a_system_message_is_the_system_prompt() -> None:
    """What a chat says as its system is no part of what is asked."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    launch = launched(prompt=None, messages=messages)
    assert (launch.files["system_prompt.md"], launch.prompt) == ("Be brief.", "Hello?")


@pytest.mark.parametrize("prompt", ["--version", "@/etc/passwd", "-p", "line\nline", "x" * 300_000])
def test_the_prompt_is_never_an_argument(prompt: str) -> None:
    """It goes to standard input, whatever is in it."""
    launch = launched(prompt=prompt)
    assert launch.prompt == prompt
    assert prompt not in launch.arguments[1:]


def test_files_are_named_in_the_prompt() -> None:
    """An ``@file`` argument would have Pi send the whole file, and one that begins with a dash would be an option."""
    launch = launched(files=["a.py", "/srv/b.py"])
    assert launch.prompt.startswith("Say hello.")
    assert launch.prompt.endswith("- a.py\n- /srv/b.py")
    assert launch.arguments == launched().arguments


def test_pi_is_quiet_and_asks_its_provider_once() -> None:
    """Its retries, those of its provider's library too, are off; nothing goes out but the calls."""
    launch = launched(cwd="/srv/work")
    assert launch.env == {
        "PI_CODING_AGENT_DIR": "/run/private",
        "PI_OFFLINE": "1",
        "PI_TELEMETRY": "0",
        "PI_SKIP_VERSION_CHECK": "1",
    }
    assert json.loads(launch.files["settings.json"]) == {"retry": {"enabled": False, "provider": {"maxRetries": 0}}}
    assert launch.cwd == "/srv/work"


OWN = "/home/ada/.pi/agent"


@pytest.mark.parametrize(
    ("where", "options", "own", "linked"),
    [
        (setting(), {}, OWN, {"bin", "models.json", "auth.json"}),
        (setting(has_key=True), {"model": "xai/grok"}, OWN, {"bin", "models.json"}),
        (setting(base_url="http://h/v1"), {"model": "m"}, OWN, {"bin"}),
        (setting(home="/"), {}, "/.pi/agent", {"bin", "models.json", "auth.json"}),
        (setting(environ={"PI_CODING_AGENT_DIR": "/p"}), {}, "/p", {"bin", "models.json", "auth.json"}),
        (setting(environ={"PI_CODING_AGENT_DIR": "~/p/"}), {}, "/home/ada/p", {"bin", "models.json", "auth.json"}),
        (
            setting(environ={"PI_CODING_AGENT_DIR": "/p"}),
            {"state_dir": "/s"},
            "/s",
            {"bin", "models.json", "auth.json"},
        ),
    ],
    ids=["login", "key", "service", "root", "variable", "tilde", "state_dir"],
)
def test_links_lead_to_the_users_directory(where: Setting, options: dict[str, Any], own: str, linked: set[str]) -> None:
    """The login only where no key is given, which it would stand above, and no foreign address."""
    launch = launched(where, **options)
    assert launch.links == {name: f"{own}/{name}" for name in linked}
    assert not launch.links.keys() & launch.files.keys()


def test_the_users_sessions_may_have_a_directory_of_their_own() -> None:
    """As Pi has it: the variable counts, unless the whole state is elsewhere."""
    where = setting(environ={"PI_CODING_AGENT_SESSION_DIR": "~/sessions"})
    assert launched(where).arguments[-1] == "/home/ada/sessions"
    assert launched(where, state_dir="/s").arguments[-1] == "/s/sessions/--penstock--"
    assert launched(where, session_dir="/t").arguments[-1] == "/t"


@pytest.mark.parametrize("provider", KEY_VARIABLES)
def test_a_key_goes_in_its_providers_variable(provider: str) -> None:
    """Under the name that Pi looks for; without a key there is no variable."""
    assert launched(setting(has_key=True), model=f"{provider}/m").key_variable == KEY_VARIABLES[provider]
    assert launched(setting(has_key=True), model="m", pi_provider=provider).key_variable == KEY_VARIABLES[provider]
    assert launched(setting(), model=f"{provider}/m").key_variable == ""


@pytest.mark.parametrize("model", ["simulated-1", "openai/gpt:free", '"}]}', "penstock/x"])
@pytest.mark.parametrize("has_key", [True, False])
def test_a_service_of_ones_own_is_described_in_a_private_file(model: str, has_key: bool) -> None:
    """The model under the service's own name; the key by a command that all releases of Pi understand."""
    where = setting(base_url='http://127.0.0.1:9/"v1', has_key=has_key)
    launch = launched(where, model=model, max_tokens=1000, thinking="high")
    found = json.loads(launch.files["models.json"])
    assert found == {
        "providers": {
            "penstock": {
                "baseUrl": 'http://127.0.0.1:9/"v1',
                "api": "openai-completions",
                "apiKey": '!printf %s "$PENSTOCK_PI_KEY"' if has_key else "none",
                "compat": {"supportsDeveloperRole": False},
                "models": [{"id": model, "reasoning": True, "maxTokens": 1000}],
            }
        }
    }
    assert launch.key_variable == ("PENSTOCK_PI_KEY" if has_key else "")
    at = launch.arguments.index("--provider")
    assert launch.arguments[at : at + 4] == ("--provider", "penstock", "--model", model)


def test_a_service_may_speak_otherwise() -> None:
    """The format is said; one that is not OpenAI's chat has nothing to be compatible with."""
    launch = launched(setting(base_url="http://h"), model="m", api="anthropic-messages")
    service = json.loads(launch.files["models.json"])["providers"]["penstock"]
    assert service["api"] == "anthropic-messages"
    assert "compat" not in service
    assert service["models"] == [{"id": "m", "reasoning": False}]


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"prompt": " "}, "prompt"),
        ({"tools": ["bash"]}, "tools"),
        ({"tools": ["read", "write"], "permission": "read"}, "tools"),
        ({"tools": ["ls"], "files": ["a"]}, "files"),
        ({"resume": "01a1"}, "resume"),
        ({"resume": f"{ID}.jsonl"}, "resume"),
        ({"resume": f"{ID}0"}, "resume"),
        ({"fork": True}, "fork"),
        ({"resume": ID, "ephemeral": True}, "ephemeral"),
        ({"pi_provider": "openai"}, "pi_provider"),
        ({"session_dir": "~/s"}, "session_dir"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_check_refuses_what_pi_would_take_otherwise(options: dict[str, Any], argument: str) -> None:
    """Before anything is started, and by the name of the option."""
    given = msgspec.convert({"prompt": "Say hello.", **options}, PiOptions)
    with pytest.raises(InvalidCall) as caught:
        PI.check(given)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("where", "options", "argument"),
    [
        (setting(has_key=True), {}, "pi_provider"),
        (setting(has_key=True), {"model": "m"}, "pi_provider"),
        (setting(has_key=True), {"model": "mine/m"}, "pi_provider"),
        (setting(base_url="http://h"), {}, "model"),
        (setting(base_url="http://h"), {"model": "m", "pi_provider": "openai"}, "pi_provider"),
        (setting(), {"api": "openai-responses"}, "api"),
        (setting(), {"max_tokens": 5}, "max_tokens"),
        (setting(environ={"PI_CODING_AGENT_DIR": "pi"}), {}, "PI_CODING_AGENT_DIR"),
        (setting(environ={"PI_CODING_AGENT_SESSION_DIR": "s"}), {}, "PI_CODING_AGENT_SESSION_DIR"),
    ],
    ids=["key", "key-model", "key-unknown", "no-model", "two-services", "api", "max_tokens", "variable", "sessions"],
)
def test_a_launch_that_cannot_work_is_refused(where: Setting, options: dict[str, Any], argument: str) -> None:
    """What only shows with the key or the address of the run."""
    with pytest.raises(InvalidCall) as caught:
        launched(where, **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    "options",
    [
        {"model": "--offline"},
        {"model": "a\nb"},
        {"pi_provider": "-x", "model": "m"},
        {"resume": "--no-session"},
        {"resume": "../../x"},
        {"session_dir": "--no-tools"},
        {"tools": ["read,bash"]},
        {"thinking": "high --tools bash"},
        {"api": "shell"},
        {"append_system_prompt": "a\x00b"},
        {"unknown": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_hostile_values_never_become_arguments(options: dict[str, Any]) -> None:
    """The types of the options refuse them."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"prompt": "x", **options}, PiOptions)


def test_what_the_program_is() -> None:
    """Its command, how it is installed, and the signal that leaves no tool behind."""
    assert (PI.name, PI.program, PI.stop_signal) == ("pi", "pi", "TERM")
    assert PI.install == "npm install -g @mariozechner/pi-coding-agent"
    assert "PI_CODING_AGENT_DIR" in PI.inherits
