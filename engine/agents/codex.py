"""Codex, the command line of OpenAI's coding agent: what it can be asked for, and how it is started.

It is run as ``codex exec --json`` with the prompt on its standard input. Given a key or a base address it asks a model
provider of ours, and the user's own configuration is left out; with neither it uses the user's login and configuration.
It never asks back, retries nothing at our provider, and tells nobody of the run. What it writes is read in
`engine.agents.codex_events`.

Pure: no trio, no I/O. As measured with 0.169.0 on 2026-11-27; arguments: ``codex exec --help``.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from engine.agents.agent import Launch, Program, Setting
from engine.agents.chunks import Spent
from engine.agents.codex_events import CodexParser
from engine.agents.options import AgentOptions, Directory, Name, Permission, is_uuid, prompt_of, with_files
from engine.providers.arguments import invalid, to_json

Sandbox: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_Dotted: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=200, pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")
]
_Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Scalar: TypeAlias = str | bool | _Integer | float


class CodexOptions(AgentOptions, frozen=True, kw_only=True):
    """Arguments of Codex, beside those of every agent.

    `system_prompt` is added to its own, as the developer's instructions. `resume` is the UUID of a session. Relative
    paths are relative to `cwd`.

    Args:
      sandbox: what its commands may do, in its own words, in place of `permission`.
      profile: a profile of the user's, ``NAME.config.toml`` in its state directory; one that is not there is ignored by
        the program. The user's configuration is then read in any case.
      reasoning_effort: how much the model is to think; not every model knows every one.
      output_schema: a JSON Schema, as a dict; the last message is then JSON of that shape, decoded in the result.
      images: paths of images that the prompt is about, without commas in them.
      ephemeral: keep nothing of the session; it cannot be resumed.
      config: further values of its configuration, by their dotted names: texts, numbers, True or False. No secrets:
        arguments can be read by others on the same machine.
      search: let it search the web.
    """

    sandbox: Sandbox | None = None
    profile: Name | None = None
    reasoning_effort: Effort | None = None
    output_schema: dict[str, Any] | None = None
    images: list[Directory] = msgspec.field(default_factory=list)
    ephemeral: bool = False
    config: dict[_Dotted, _Scalar] = msgspec.field(default_factory=dict)
    search: bool = False


KEY_VARIABLE = "PENSTOCK_CODEX_KEY"
"""Where the key is put. Codex is told to keep it from the commands that it runs: by default they would inherit it."""

_PROVIDER = "penstock"
_OPENAI = "https://api.openai.com/v1"
_SCHEMA_FILE = "output_schema.json"
_LONGEST_ARGUMENT = 131_000  # bytes; Linux takes 131,071 in one argument
MOST_CHARACTERS = 1_048_576
"""What the program takes of a prompt; it says so only once it runs."""

_SANDBOXES: dict[Permission, Sandbox] = {
    "read": "read-only",
    "edit": "workspace-write",
    "full": "danger-full-access",
}

# What it would otherwise do of its own accord: say who runs it where, look for updates, keep what it was asked, put
# questions that nobody answers.
_QUIET: dict[str, _Scalar] = {
    "analytics.enabled": False,
    "check_for_update_on_startup": False,
    "feedback.enabled": False,
    "otel.exporter": "none",
    "history.persistence": "none",
    "approval_policy": "never",
}

# The plugins fetch a list from GitHub at every start; the other waits for a network for ever.
_DISABLED = ("plugins", "unbounded_connection_retries")

_OURS = {
    "model": "it is the argument model=",
    "sandbox_mode": "it is the argument permission= or sandbox=",
    "developer_instructions": "it is the argument system_prompt=",
    "model_reasoning_effort": "it is the argument reasoning_effort=",
    "web_search": "it is the argument search=",
    "profile": "it is the argument profile=",
    "model_provider": "it follows from the key and the base address; for another provider use a profile=",
    "model_providers": "they follow from the key and the base address; for another provider use a profile=",
    "approval_policy": "nobody is there to be asked; say what it may do with permission=",
}
_SECRET = re.compile(r"(\A|[_-])(token|key|secret|password|authorization)\Z", re.IGNORECASE)
_NO_SECRET = frozenset(("env_key",))

_VERSION = re.compile(r"/v\d+[a-z0-9]*(/|\Z)")
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')

_TARGETS = (
    ("linux-x64", "x86_64-unknown-linux-musl"),
    ("linux-arm64", "aarch64-unknown-linux-musl"),
    ("darwin-arm64", "aarch64-apple-darwin"),
    ("darwin-x64", "x86_64-apple-darwin"),
)
# Where npm puts the package of a platform, seen from the `bin` directory of the package proper: within it when that
# was installed globally, beside it in a project; and in the package itself, as in older ones.
_PACKAGES = ("../node_modules/@openai/codex-{}/vendor", "../../codex-{}/vendor", "../vendor")


def _places() -> tuple[str, ...]:
    found = [f"{package.format(name)}/{triple}/bin/codex" for package in _PACKAGES for name, triple in _TARGETS]
    return tuple(found)


class Codex(Program[CodexOptions]):
    """`Program` of Codex."""

    name = "codex"
    program = "codex"
    install = "npm install -g @openai/codex"
    natives = _places()
    inherits = ("CODEX_HOME",)
    stop_signal = "INT"
    counts_sessions = True
    options = CodexOptions

    def __repr__(self) -> str:
        return "Codex()"

    def check(self, options: CodexOptions) -> None:
        """Refuse what the program would quietly make something else of, and what must not stand in its arguments.

        Raises:
          InvalidCall: which option, what is wrong with it, what to do.
        """
        prompt, system_prompt = prompt_of(options)
        if len(with_files(prompt, options.files)) > MOST_CHARACTERS:
            raise invalid("prompt", f"the program takes {MOST_CHARACTERS:,} characters at most; put the rest in a file")
        if len(_setting("developer_instructions", system_prompt).encode()) > _LONGEST_ARGUMENT:
            raise invalid(
                "system_prompt", "it is too long for an argument (131,000 bytes); put the rest into the prompt"
            )
        if options.resume and not is_uuid(options.resume):
            raise invalid(
                "resume",
                "it must be the UUID of a session, as the run that began it told it; the program takes any "
                "other name that it does not find for a new session",
            )
        if options.resume and options.ephemeral:
            raise invalid("ephemeral", "a session that is resumed is kept all the same; leave out one of the two")
        for path in options.images:
            if "," in path:
                raise invalid("images", "the program takes a path with a comma for two; pass one without, or a link")
        for name, value in options.config.items():
            _check_config(name, value)

    def launch(self, options: CodexOptions, setting: Setting) -> Launch:
        """How it is started for one run. The key is kept from the commands that the agent runs.

        Raises:
          InvalidCall: the schema cannot be written as JSON.
        """
        prompt, system_prompt = prompt_of(options)
        files: dict[str, str] = {}
        arguments = ["exec", "--json", "--skip-git-repo-check", "--color=never"]
        sandbox = options.sandbox or _SANDBOXES[options.permission]
        arguments.append(f"--sandbox={sandbox}")
        if options.model:
            arguments.append(f"--model={options.model}")
        arguments += [f"--disable={feature}" for feature in _DISABLED]
        arguments += _own_ways(options, setting, sandbox)
        arguments += [f"--add-dir={path}" for path in options.add_dirs]
        arguments += [f"--image={path}" for path in options.images]
        if options.ephemeral:
            arguments.append("--ephemeral")
        if options.output_schema is not None:
            files[_SCHEMA_FILE] = to_json(options.output_schema).decode()
            arguments.append(f"--output-schema={setting.private}/{_SCHEMA_FILE}")
        for name, value in _configured(options, setting, system_prompt, sandbox).items():
            arguments += ["-c", _setting(name, value)]
        if options.resume:
            arguments += ["resume", options.resume]
        return Launch(
            arguments=(*arguments, "-"),
            prompt=with_files(prompt, options.files),
            env=_environment(options, setting, sandbox),
            key_variable=KEY_VARIABLE,
            files=files,
            directories=(options.state_dir,) if options.state_dir else (),  # it makes none but its usual one
            cwd=options.cwd or "",
        )

    def parser(self, options: CodexOptions, before: Spent | None) -> CodexParser:
        """What reads the events of one run. `before` is taken off what the program states, which is the session's."""
        return CodexParser(before, structured=options.output_schema is not None)


CODEX = Codex()


def _check_config(name: str, value: _Scalar) -> None:
    said = _OURS.get(name) or _OURS.get(name.partition(".")[0])
    if said:
        raise invalid(f"config[{name!r}]", said)
    last = name.rpartition(".")[2]
    if _SECRET.search(last) and last not in _NO_SECRET:
        raise invalid(
            f"config[{name!r}]",
            "by its name it is a secret, and everybody on the machine can read the arguments of a program; "
            "put it into the program's own configuration",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"config[{name!r}]", "it must be a finite number")
    if len(_setting(name, value).encode()) > _LONGEST_ARGUMENT:
        raise invalid(f"config[{name!r}]", "it is too long for an argument (131,000 bytes)")


def _is_ours(setting: Setting) -> bool:
    """Whether the program is to ask a provider of ours, not the one the user has set up."""
    return setting.has_key or bool(setting.base_url)


def _own_ways(options: CodexOptions, setting: Setting, sandbox: Sandbox) -> list[str]:
    """What of the user's own configuration is to hold.

    Rules name commands that run without the sandbox, and commands that never run. Within a sandbox they could only
    widen what was permitted; where there is none, what they forbid is all that is left.
    """
    found = []
    if options.profile:
        found.append(f"--profile={options.profile}")
    elif _is_ours(setting):
        found.append("--ignore-user-config")
    if sandbox != "danger-full-access":
        found.append("--ignore-rules")
    return found


def _environment(options: CodexOptions, setting: Setting, sandbox: Sandbox) -> dict[str, str]:
    env = {"CODEX_HOME": options.state_dir} if options.state_dir else {}
    if sandbox == "workspace-write":
        env["TMPDIR"] = setting.private  # its commands may write there, and many need some place
    return env


def _configured(options: CodexOptions, setting: Setting, system_prompt: str, sandbox: Sandbox) -> dict[str, Any]:
    """The values of its configuration, by their names; the caller's come last."""
    values: dict[str, Any] = {}
    if _is_ours(setting):
        values["model_provider"] = _PROVIDER
        values[f"model_providers.{_PROVIDER}"] = {
            "name": _PROVIDER,
            "base_url": _versioned(setting.base_url) if setting.base_url else _OPENAI,
            **({"env_key": KEY_VARIABLE} if setting.has_key else {}),
            "wire_api": "responses",
            "supports_websockets": False,
            "request_max_retries": 0,
            "stream_max_retries": 0,
        }
    if setting.has_key:
        values["shell_environment_policy.exclude"] = [KEY_VARIABLE]
    values |= _QUIET
    values["web_search"] = "live" if options.search else "disabled"
    if sandbox == "workspace-write":
        values["sandbox_workspace_write.exclude_slash_tmp"] = True  # it is everybody's, and other work lies there
    if system_prompt:
        values["developer_instructions"] = system_prompt
    if options.reasoning_effort:
        values["model_reasoning_effort"] = options.reasoning_effort
    return values | options.config


def _versioned(base_url: str) -> str:
    """The address that ``/responses`` is added to: with a version, if there is none in it."""
    address = base_url.rstrip("/")
    path = address.partition("://")[2].partition("/")[2]
    return address if _VERSION.search(f"/{path}") else f"{address}/v1"


# --- TOML -------------------------------------------------------------------------------------------------------------


def _setting(name: str, value: object) -> str:
    return f"{name}={toml_value(value)}"


def toml_value(value: object) -> str:
    """A value as TOML on one line: a text, a number, a truth, a list, or a table whose names are bare."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes would do but for DEL and the characters beyond 0xFFFF, which it writes as two halves.
        return '"' + _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ",".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}={toml_value(item)}" for name, item in value.items()) + "}"
    return repr(value)
