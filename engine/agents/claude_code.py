"""Claude Code, the command line `claude`: what it can be asked for, and how that becomes a launch.

The prompt goes in by standard input; system prompts and MCP servers are private files, so none of them is seen in a
list of processes. Nothing of the user's settings is read unless asked for; what the program would do besides its task
(updates, telemetry, work in the background) is off; and it asks its provider once, since whether to ask again is for
the schedule to say. What its events mean is in `engine.agents.claude_events`.

Pure: no trio, no I/O. Arguments, variables and refusals: measured with 2.1.329 (2026-11-20 and 2026-11-27).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from engine.agents.agent import Launch, Program, Setting
from engine.agents.chunks import Spent
from engine.agents.claude_events import ClaudeEvents
from engine.agents.options import AgentOptions, Instruction, Permission, Uuid, check_within, prompt_of, with_files
from engine.providers.arguments import invalid, to_json

PermissionMode: TypeAlias = Literal["plan", "dontAsk", "manual", "acceptEdits", "auto", "bypassPermissions"]

Tool: TypeAlias = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\A[A-Za-z_][A-Za-z0-9_.:*-]*\Z")]
"""The name of a tool: ``Read``, ``mcp__server__tool``."""

Rule: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=1000, pattern=r"\A[A-Za-z_][A-Za-z0-9_.:*-]*(\([^()\x00-\x1f\x7f]*\))?\Z")
]
"""A tool, and perhaps what it may be used for: ``Bash(git log *)``."""

_ALWAYS = (
    "-p", "--output-format=stream-json", "--verbose", "--include-partial-messages", "--permission-prompts=none",
    "--disable-slash-commands", "--no-chrome",
)  # fmt: skip

_QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_BUG_COMMAND": "1",
    "DISABLE_COST_WARNINGS": "1",
    "CLAUDE_CODE_ENABLE_TELEMETRY": "0",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",
    # A run ends when its answer is there: work left in the background begins new turns after the result.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    # A prompt is data: without this, "@path" in it is replaced by the file.
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
}

_MODES: dict[Permission, tuple[PermissionMode, ...]] = {
    "read": ("dontAsk", "plan", "manual"),
    "edit": ("acceptEdits", "dontAsk", "plan", "manual"),
    "full": ("bypassPermissions", "auto", "acceptEdits", "dontAsk", "plan", "manual"),
}
"""The modes that each permission has room for, the one it stands for first. Nobody answers questions in any of them."""

_READERS = ("Read", "Grep", "Glob")

_PLATFORMS = ("linux-x64", "linux-arm64", "linux-x64-musl", "linux-arm64-musl", "darwin-arm64", "darwin-x64")

_SCHEMA_BYTES = 100_000
"""A single argument of a program can hold 128 KiB on Linux."""

SYSTEM_FILE, APPENDED_FILE, MCP_FILE = "system_prompt.md", "appended_prompt.md", "mcp.json"


class ClaudeOptions(AgentOptions, frozen=True, kw_only=True):
    """What Claude Code can be asked for, besides what every agent can (`AgentOptions`).

    `system_prompt` takes the place of the program's own, also in a session that is resumed. With `permission`
    ``"read"`` it has the tools Read, Grep and Glob, and those that `allowed_tools` names; with the others its own set.
    ``"full"`` is refused to root by the program itself, unless IS_SANDBOX=1 in the environment says that this is a
    sandbox.

    Args:
      append_system_prompt: added to the system prompt.
      tools: the built-in tools it has; an empty list for none.
      allowed_tools: what it may use without being asked, e.g. ``"Bash(git log *)"``; all else that the permission does
        not allow is denied.
      disallowed_tools: what it may not use, whatever else allows it.
      permission_mode: the program's own word, within what `permission` has room for.
      max_turns: how many turns it may take; beyond that the run fails.
      max_budget_usd: what this run alone may cost by the program's reckoning; beyond that the run fails.
      session_id: the UUID of the session it begins.
      fork_session: go on from `resume` in a session of its own.
      json_schema: the answer is JSON by this schema: ``structured_output`` of the response, None if there was none.
      mcp_config: MCP servers, as ``{"mcpServers": {...}}``. It reaches the program in a file only its user can read.
      setting_sources: which of the settings it reads, and with them CLAUDE.md files and MCP servers; none by default.
      effort: how hard it thinks.
    """

    append_system_prompt: Instruction | None = None
    tools: list[Tool] | None = None
    allowed_tools: list[Rule] = msgspec.field(default_factory=list)
    disallowed_tools: list[Rule] = msgspec.field(default_factory=list)
    permission_mode: PermissionMode | None = None
    max_turns: Annotated[int, msgspec.Meta(ge=1, le=10**6)] | None = None
    max_budget_usd: Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)] | None = None
    session_id: Uuid | None = None
    fork_session: bool = False
    json_schema: dict[str, Any] | None = None
    mcp_config: dict[str, Any] | None = None
    setting_sources: list[Literal["user", "project", "local"]] = msgspec.field(default_factory=list)
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class ClaudeCode(Program[ClaudeOptions]):
    """Claude Code as a program. Stateless; holds no key."""

    name = "claude_code"
    program = "claude"
    install = "npm install -g @anthropic-ai/claude-code"
    # Installed without its scripts, the command is a placeholder, and the program stands in a package beside it.
    natives: ClassVar[tuple[str, ...]] = tuple(
        f"{place}/claude-code-{platform}/claude"
        for platform in _PLATFORMS
        for place in ("../..", "../node_modules/@anthropic-ai")
    )
    inherits = ("CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "IS_SANDBOX")
    stop_signal = "INT"
    free_cached = True
    options = ClaudeOptions

    def __repr__(self) -> str:
        return "ClaudeCode()"

    def check(self, options: ClaudeOptions) -> None:
        """Refuse what cannot be asked together, or not of this program. Raises `InvalidCall`."""
        prompt_of(options)
        _check_permission(options)
        if options.fork_session and not options.resume:
            raise invalid("fork_session", "there is no session to fork; pass resume=")
        if options.session_id and options.resume and not options.fork_session:
            raise invalid("session_id", "a resumed session keeps its own; leave it out, or pass fork_session=True")
        if options.json_schema is not None and len(_json(options.json_schema, "json_schema")) > _SCHEMA_BYTES:
            raise invalid("json_schema", f"it is longer than {_SCHEMA_BYTES} bytes; pass a shorter one")
        if options.mcp_config is not None:
            if not isinstance(options.mcp_config.get("mcpServers"), dict):
                raise invalid("mcp_config", 'it names no servers; pass {"mcpServers": {...}}')
            _json(options.mcp_config, "mcp_config")

    def launch(self, options: ClaudeOptions, setting: Setting) -> Launch:
        prompt, system = prompt_of(options)
        prompt = with_files(prompt, options.files)
        files = _files(options, system)
        env = dict(_QUIET)
        if setting.base_url:
            env["ANTHROPIC_BASE_URL"] = setting.base_url
        if options.state_dir:
            env["CLAUDE_CONFIG_DIR"] = options.state_dir
        return Launch(
            arguments=(*_ALWAYS, *_arguments(options), *_file_arguments(options, files, setting.private)),
            # What begins with a slash is taken for a command of the program's, even where these are off.
            prompt=f"\n{prompt}" if prompt.startswith("/") else prompt,
            env=env,
            key_variable="ANTHROPIC_API_KEY",
            files=files,
            cwd=options.cwd or "",
        )

    def parser(self, options: ClaudeOptions, before: Spent | None) -> ClaudeEvents:
        return ClaudeEvents(resumed=bool(options.resume), structured=options.json_schema is not None)


CLAUDE_CODE = ClaudeCode()


# --- checking ---------------------------------------------------------------------------------------------------------


def _check_permission(options: ClaudeOptions) -> None:
    if options.permission_mode is not None:
        check_within("permission_mode", options.permission_mode, options.permission, _MODES)
    both = sorted({*options.allowed_tools} & {*options.disallowed_tools})
    if both:
        raise invalid("allowed_tools", f"{both[0]} is disallowed as well; pass it in one of the two")
    if options.tools is not None:
        lacking = [tool for tool in _built_in(options.allowed_tools) if tool not in options.tools]
        if lacking and options.tools != ["default"]:
            raise invalid("allowed_tools", f"{lacking[0]} is not among tools; add it there, or leave it out here")


def _json(value: dict[str, Any], argument: str) -> bytes:
    to_json({argument: value})
    return msgspec.json.encode(value)


# --- writing ----------------------------------------------------------------------------------------------------------


def _arguments(options: ClaudeOptions) -> list[str]:
    """All that stands in the arguments themselves. The equals sign binds each value to its option: some options take
    any number of values, and would take what follows as well."""
    sources = ",".join(options.setting_sources)
    arguments = [
        f"--permission-mode={options.permission_mode or _MODES[options.permission][0]}",
        f"--setting-sources={sources}",
    ]
    if not sources:
        arguments.append("--strict-mcp-config")
    tools = _tools(options)
    if tools is not None:
        arguments.append(f"--tools={','.join(tools)}")
    arguments += [f"--allowedTools={rule}" for rule in options.allowed_tools]
    arguments += [f"--disallowedTools={rule}" for rule in options.disallowed_tools]
    arguments += [f"--add-dir={directory}" for directory in options.add_dirs]
    single = {
        "--model": options.model,
        "--effort": options.effort,
        "--resume": options.resume,
        "--session-id": options.session_id,
        "--max-turns": options.max_turns,
        "--max-budget-usd": options.max_budget_usd,
    }
    arguments += [f"{name}={value}" for name, value in single.items() if value]
    if options.fork_session:
        arguments.append("--fork-session")
    if options.json_schema is not None:
        arguments.append(f"--json-schema={_json(options.json_schema, 'json_schema').decode()}")
    return arguments


def _tools(options: ClaudeOptions) -> list[str] | None:
    """The built-in tools, None for the program's own set."""
    if options.tools is not None or options.permission != "read":
        return options.tools
    return [*_READERS, *(tool for tool in _built_in(options.allowed_tools) if tool not in _READERS)]


def _built_in(rules: list[str]) -> list[str]:
    """The built-in tools that these rules are about, each once."""
    names = dict.fromkeys(rule.partition("(")[0] for rule in rules)
    return [name for name in names if not name.startswith("mcp__")]


def _files(options: ClaudeOptions, system: str) -> dict[str, str]:
    files = {}
    if system:
        files[SYSTEM_FILE] = system
    if options.append_system_prompt:
        files[APPENDED_FILE] = options.append_system_prompt
    if options.mcp_config is not None:
        files[MCP_FILE] = _json(options.mcp_config, "mcp_config").decode()
    return files


def _file_arguments(options: ClaudeOptions, files: dict[str, str], private: str) -> list[str]:
    names = {
        SYSTEM_FILE: "--system-prompt-file",
        APPENDED_FILE: "--append-system-prompt-file",
        MCP_FILE: "--mcp-config",
    }
    arguments = [f"{names[file]}={private}/{file}" for file in files]
    if options.resume and (SYSTEM_FILE in files or APPENDED_FILE in files):
        # A session has its first system prompt recorded, and would be sent that one again.
        arguments.append("--system-prompt-snapshot=off")
    return arguments
