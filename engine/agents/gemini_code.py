"""Gemini CLI, as the command ``gemini``: one run by ``--output-format stream-json``, the prompt on standard input.

Its telemetry, its updates and its own retries are switched off by a settings file alone, and that of the user is never
written, nor read: a run has a home of its own with ours. What lasts is linked from there into the user's own state
directory: the sessions, so that a later run can resume them, and the login, where no key is given. A project's own
settings would stand over ours, and run commands (hooks, servers of tools): so the working directory is declared not to
be trusted, and the program leaves out all that it says, unless the caller trusts it or permits everything. Measured
with 0.61.0. What its events mean is `engine.agents.gemini_events`.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from engine.agents.agent import Launch, Program, Setting
from engine.agents.chunks import Spent
from engine.agents.gemini_events import GeminiParser
from engine.agents.options import AgentOptions, Permission, Uuid, check_within, is_uuid, prompt_of, with_files
from engine.providers.arguments import invalid

ApprovalMode: TypeAlias = Literal["plan", "default", "auto_edit", "yolo"]
Login: TypeAlias = Literal["key", "google", "vertex"]

Tool: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\A[A-Za-z_][A-Za-z0-9_.-]*(\([^$\x00-\x1f\x7f]*\))?\Z")
]
"""A tool, perhaps with what it may be used for in brackets. No dollar sign: the program puts its environment there."""

MODES: Final[Mapping[Permission, tuple[ApprovalMode, ...]]] = {
    "read": ("default", "plan"),
    "edit": ("auto_edit", "default", "plan"),
    "full": ("yolo", "auto_edit", "default", "plan"),
}
"""The modes within each permission, the one it means first. Without somebody to ask, what needs approval is refused."""

_AUTH: Final[Mapping[Login, str]] = {
    "key": "gemini-api-key",
    "google": "oauth-personal",
    "vertex": "vertex-ai",
}
_SESSIONS: Final = ("tmp", "history")
_REGISTRY: Final = "projects.json"
_KEYS: Final = ".env"
_LOGIN: Final = ("oauth_creds.json", "gemini-credentials.json", "google_accounts.json", "installation_id", _KEYS)
_HOME: Final = ".gemini"
MOST_BYTES: Final = 8 * 1024 * 1024
_SYSTEM: Final = "system.md"
_EDITING: Final = ("write_file", "replace")
"""What ``auto_edit`` approves. Where nothing is trusted the program has no mode but ``default``, so they are named."""


class GeminiOptions(AgentOptions, frozen=True, kw_only=True):
    """Arguments of `gemini_code`, besides those of every agent.

    A `system_prompt` takes the place of the program's own. `resume` is the UUID of a session that was begun in the same
    working directory. `state_dir` is what stands for ``~/.gemini``. In a prompt, ``@path`` names a
    file of the working directory whose content the program puts in.

    What a project says in ``.gemini``, ``GEMINI.md`` and ``.env`` is left out, since it may run any command, unless
    `trust_project` or `permission` ``"full"`` lets it.

    Args:
      approval_mode: how tools are approved, within what `permission` allows: ``"plan"``, ``"default"``, ``"auto_edit"``
        or ``"yolo"``. If not said: ``"default"`` to read, ``"auto_edit"`` to edit, ``"yolo"`` for all.
      session_id: a UUID, as the name of a new session.
      max_turns: after how many requests to the model the run is ended as failed.
      tools: the only built-in tools it has, as ``["read_file", "glob"]``; all of them if not said.
      allowed_tools: tools that need no approval, whatever the permission, as ``["run_shell_command(git status)"]``.
      trust_project: obey what the working directory says: its settings, hooks, servers of tools, skills, agents and
        ``GEMINI.md``. It may then run what it likes, whatever the permission.
      login: whose account it asks with: a ``"key"`` (that of the call, or else the one the program itself keeps), the
        ``"google"`` account it is logged in with, or ``"vertex"``. If not said: the key if the call has one, else
        Vertex if ``GOOGLE_GENAI_USE_VERTEXAI`` is ``true``, else the account.
    """

    approval_mode: ApprovalMode | None = None
    session_id: Uuid | None = None
    max_turns: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    tools: list[Tool] | None = None
    allowed_tools: list[Tool] | None = None
    trust_project: bool = False
    login: Login | None = None


class GeminiCode(Program[GeminiOptions]):
    """Gemini CLI."""

    name = "gemini_code"
    program = "gemini"
    install = "npm install -g @google/gemini-cli"
    inherits = (
        "GEMINI_CLI_HOME", "GEMINI_FORCE_FILE_STORAGE", "GEMINI_FORCE_ENCRYPTED_FILE_STORAGE", "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_PROJECT_ID", "GOOGLE_CLOUD_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_GENAI_USE_VERTEXAI",
    )  # fmt: skip
    stop_signal = "TERM"
    options = GeminiOptions

    def check(self, options: GeminiOptions) -> None:
        if len(_prompt(options)[0].encode("utf-8", "surrogatepass")) > MOST_BYTES:
            raise invalid("prompt", f"the program cuts what is longer than {MOST_BYTES} bytes; put it in a file")
        if options.approval_mode is not None:
            check_within("approval_mode", options.approval_mode, options.permission, MODES)
            if options.approval_mode == "plan" and not _trusted(options):
                raise invalid(
                    "approval_mode",
                    "the program plans only where it trusts the working directory; pass trust_project=True to let that "
                    "run what it says, or leave approval_mode out",
                )
        if options.resume and not is_uuid(options.resume):
            raise invalid("resume", "a session of gemini_code is a UUID; pass the session_id of an earlier result")
        if options.resume and options.session_id:
            raise invalid("session_id", "a session that is resumed has its name; pass one of resume and session_id")
        for directory in options.add_dirs:
            if "," in directory:
                raise invalid("add_dirs", f"the program takes {directory!r} for several; use a path without a comma")

    def launch(self, options: GeminiOptions, setting: Setting) -> Launch:
        prompt, system = _prompt(options)
        login = options.login or _login(setting)
        files = {f"{_HOME}/settings.json": msgspec.json.format(msgspec.json.encode(_settings(options, login))).decode()}
        if system:
            files[_SYSTEM] = system
        state = options.state_dir or f"{setting.environ.get('GEMINI_CLI_HOME') or setting.home}/{_HOME}"
        links = {f"{_HOME}/{name}": f"{state}/{name}" for name in (*_SESSIONS, _REGISTRY)}
        if not setting.has_key or login == "google":
            links |= {f"{_HOME}/{name}": f"{state}/{name}" for name in _LOGIN}
            links |= {_KEYS: f"{state}/{_KEYS}"}  # where it looks for keys when it trusts nothing
        return Launch(
            arguments=_arguments(options),
            prompt=prompt,
            env=_environment(setting, login, own_system=bool(system), trusted=_trusted(options)),
            key_variable="GOOGLE_API_KEY" if login == "vertex" else "GEMINI_API_KEY",
            files=files,
            links=links,
            directories=tuple(f"{state}/{name}" for name in _SESSIONS),
            cwd=options.cwd or "",
        )

    def parser(self, options: GeminiOptions, before: Spent | None) -> GeminiParser:
        return GeminiParser(cwd=options.cwd or "")


def _prompt(options: GeminiOptions) -> tuple[str, str]:
    """What is written to its standard input, and the system prompt."""
    prompt, system = prompt_of(options)
    prompt = with_files(prompt, options.files)
    # What begins with a slash is a command to the program, not a question to the model.
    return f" {prompt}" if prompt.startswith("/") else prompt, system


def _trusted(options: GeminiOptions) -> bool:
    """Whether what the working directory says is obeyed: where all is permitted it may do no more than the model."""
    return options.trust_project or options.permission == "full"


def _mode(options: GeminiOptions) -> ApprovalMode:
    return options.approval_mode or MODES[options.permission][0]


def _arguments(options: GeminiOptions) -> tuple[str, ...]:
    arguments = ["--output-format", "stream-json", "-e", "none"]
    arguments += ["--approval-mode", _mode(options) if _trusted(options) else "default"]
    if options.model:
        arguments += ["-m", options.model]
    if options.resume:
        arguments += ["--resume", options.resume]
    if options.session_id:
        arguments += ["--session-id", options.session_id]
    return (*arguments, *(f"--include-directories={directory}" for directory in options.add_dirs))


def _login(setting: Setting) -> Login:
    if setting.has_key:
        return "key"
    return "vertex" if setting.environ.get("GOOGLE_GENAI_USE_VERTEXAI") == "true" else "google"


def _settings(options: GeminiOptions, login: Login) -> dict[str, Any]:
    """What cannot be said in arguments: one attempt at everything, nothing sent to anybody else, nothing updated."""
    tools: dict[str, Any] = {} if options.tools is None else {"core": options.tools}
    allowed = list(options.allowed_tools or ())
    if not _trusted(options) and _mode(options) == "auto_edit":
        allowed += _EDITING
    if allowed:
        tools["allowed"] = allowed
    settings: dict[str, Any] = {
        "general": {
            "enableAutoUpdate": False,
            "enableAutoUpdateNotification": False,
            "maxAttempts": 1,
            "retryFetchErrors": False,
            "sessionRetention": {"enabled": False},
        },
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        # So that it starts where it trusts nothing; whether it trusts is then for its environment to say.
        "security": {"auth": {"selectedType": _AUTH[login]}, "folderTrust": {"enabled": False}},
        "advanced": {"ignoreLocalEnv": True},
    }
    if tools:
        settings["tools"] = tools
    if options.max_turns is not None:
        settings["model"] = {"maxSessionTurns": options.max_turns}
    return settings


def _environment(setting: Setting, login: Login, *, own_system: bool, trusted: bool) -> dict[str, str]:
    env = {
        "GEMINI_CLI_HOME": setting.private,
        "GEMINI_CLI_TRUST_WORKSPACE": "true" if trusted else "false",
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "GEMINI_TELEMETRY_ENABLED": "false",
        "GOOGLE_GENAI_USE_VERTEXAI": "true" if login == "vertex" else "false",
        "TMPDIR": setting.private,  # of each failure it writes a report there, with the whole conversation in it
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "NO_COLOR": "1",
    }
    if setting.base_url:
        env["GOOGLE_VERTEX_BASE_URL" if login == "vertex" else "GOOGLE_GEMINI_BASE_URL"] = setting.base_url
    if own_system:
        env["GEMINI_SYSTEM_MD"] = f"{setting.private}/{_SYSTEM}"
    return env


GEMINI_CODE = GeminiCode()
