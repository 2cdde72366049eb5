"""Pi: what it can be asked for, and how that becomes arguments, environment and private files.

Pi has no sandbox and asks no questions: what it may do is which of its tools it is given, and that tools which change
files keep to the working directory is its own good will. Its settings come from one directory, so each run has one of
its own: with our settings in it, and links to the user's login and models where the run is to use them. Its sessions
are kept in the user's directory all the same. What its events mean is in `engine.agents.pi_events`.

Pure: no trio, no I/O. Options and files as in 0.73.1 and 0.87.1 of the program.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.agents.agent import Launch, Program, Setting
from engine.agents.chunks import Spent
from engine.agents.options import (
    AgentOptions,
    Directory,
    Instruction,
    Name,
    Permission,
    check_within,
    is_uuid,
    prompt_of,
    with_files,
)
from engine.agents.pi_events import PiParser
from engine.providers.arguments import invalid

Tool: TypeAlias = Literal["read", "grep", "find", "ls", "edit", "write", "bash"]

_ALLOWED: dict[Permission, tuple[Tool, ...]] = {
    "read": ("read", "grep", "find", "ls"),
    "edit": ("read", "grep", "find", "ls", "edit", "write"),
    "full": ("read", "grep", "find", "ls", "edit", "write", "bash"),
}

_SETTINGS = {"retry": {"enabled": False, "provider": {"maxRetries": 0}}}

_QUIET = {"PI_OFFLINE": "1", "PI_TELEMETRY": "0", "PI_SKIP_VERSION_CHECK": "1"}

_SERVICE = "penstock"
_SERVICE_KEY = "PENSTOCK_PI_KEY"

# Up to 0.73 a bare name is a variable's, since then "$NAME" is; a command is a command in all of them.
_SERVICE_KEY_COMMAND = f'!printf %s "${_SERVICE_KEY}"'

KEY_VARIABLES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "azure-openai-responses": "AZURE_OPENAI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "cloudflare-ai-gateway": "CLOUDFLARE_API_KEY",
    "cloudflare-workers-ai": "CLOUDFLARE_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "google": "GEMINI_API_KEY",
    "google-vertex": "GOOGLE_CLOUD_API_KEY",
    "groq": "GROQ_API_KEY",
    "huggingface": "HF_TOKEN",
    "kimi-coding": "KIMI_API_KEY",
    "minimax": "MINIMAX_API_KEY",
    "minimax-cn": "MINIMAX_CN_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "moonshotai": "MOONSHOT_API_KEY",
    "moonshotai-cn": "MOONSHOT_API_KEY",
    "nvidia": "NVIDIA_API_KEY",
    "openai": "OPENAI_API_KEY",
    "opencode": "OPENCODE_API_KEY",
    "opencode-go": "OPENCODE_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "together": "TOGETHER_API_KEY",
    "vercel-ai-gateway": "AI_GATEWAY_API_KEY",
    "xai": "XAI_API_KEY",
    "xiaomi": "XIAOMI_API_KEY",
    "zai": "ZAI_API_KEY",
}
"""Pi's providers, and the variable in which each of them looks for its key."""


class PiOptions(AgentOptions, frozen=True, kw_only=True):
    """Arguments of Pi, beside those of every agent.

    `model` is ``"provider/model"`` in Pi's names, or a model of `pi_provider`; at a `base_url` it is the service's own
    name for it, whatever slashes it has. `system_prompt` takes the place of Pi's own. `resume` works only in the
    directory where the session began. Nothing keeps Pi to `cwd` and `add_dirs`: it reads, and with the permission
    edits, wherever the user may. Its tools grep and find need `rg` and `fd`, in PATH or in ``bin`` of Pi's directory:
    it may not download them itself.

    Args:
      pi_provider: which of Pi's providers, such as ``"openrouter"``, if `model` does not say it.
      api: what the service at `base_url` speaks; ``"openai-completions"`` if not said. The address of one that speaks
        ``"anthropic-messages"`` is written without its ``/v1``.
      max_tokens: how many tokens the model at `base_url` is allowed for an answer.
      thinking: how much the model is to think.
      tools: the tools it is given, of those that the permission allows; none for an empty list.
      append_system_prompt: further instructions, behind the system prompt.
      fork: go on with a copy of the session `resume`, in the directory of this run and under a new name.
      ephemeral: do not keep the session.
      session_dir: where sessions are kept and looked for, an absolute path, in place of
        ``sessions/--penstock--`` in Pi's directory.
    """

    pi_provider: Name | None = None
    api: Literal["openai-completions", "openai-responses", "anthropic-messages"] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    thinking: Literal["off", "minimal", "low", "medium", "high", "xhigh"] | None = None
    tools: list[Tool] | None = None
    append_system_prompt: Instruction | None = None
    fork: bool = False
    ephemeral: bool = False
    session_dir: Directory | None = None


class Pi(Program[PiOptions]):
    """The command ``pi``."""

    name = "pi"
    program = "pi"
    install = "npm install -g @mariozechner/pi-coding-agent"
    inherits = ("PI_CODING_AGENT_DIR", "PI_CODING_AGENT_SESSION_DIR", "PI_PACKAGE_DIR")
    stop_signal = "TERM"
    options = PiOptions

    def check(self, options: PiOptions) -> None:
        """As `Agent.check`: what Pi would take for something else, or leave out without a word."""
        prompt_of(options)
        given = _ALLOWED[options.permission] if options.tools is None else options.tools
        for tool in given:
            check_within("tools", tool, options.permission, _ALLOWED)
        if options.files and "read" not in given:
            raise invalid("files", "without the tool read it cannot look at files; add it to tools")
        if options.resume and not is_uuid(options.resume):
            raise invalid("resume", "Pi takes a part of a name for any session that begins so; pass the whole UUID")
        if options.fork and not options.resume:
            raise invalid("fork", "there is nothing to copy; pass resume=, too")
        if options.ephemeral and options.resume:
            raise invalid(
                "ephemeral", "Pi resumes no session in a run whose session is not kept; leave one of them out"
            )
        if options.pi_provider and not options.model:
            raise invalid("pi_provider", "Pi heeds it only together with a model; pass model=, too")
        if options.session_dir is not None:
            _absolute(options.session_dir, "session_dir")

    def launch(self, options: PiOptions, setting: Setting) -> Launch:
        """How Pi is started for one run.

        Raises:
          InvalidCall: the options do not fit together with the key or the address that the run has.
        """
        prompt, system = prompt_of(options)
        own = _own_directory(options, setting)
        instructions = {"system_prompt": system, "append_system_prompt": options.append_system_prompt or ""}
        files = {f"{name}.md": text for name, text in instructions.items() if text}
        files["settings.json"] = json.dumps(_SETTINGS)
        links = {"bin": f"{own}/bin"}
        if setting.base_url:
            model, variable = _at_service(options)
            files["models.json"] = _models(options, setting)
        else:
            model, variable = _at_provider(options, has_key=setting.has_key)
            links["models.json"] = f"{own}/models.json"
            if not setting.has_key:  # a login stands above a key for Pi
                links["auth.json"] = f"{own}/auth.json"
        arguments = ["-p", "--mode", "json", *model, "--no-extensions", "--no-skills", "--no-prompt-templates"]
        arguments += ["--no-context-files", "--offline"]
        for name, text in instructions.items():
            if text:  # by file: a text that is a path of a file would be taken for it
                arguments += [f"--{name.replace('_', '-')}", f"{setting.private}/{name}.md"]
        if options.thinking is not None:
            arguments += ["--thinking", options.thinking]
        tools = _ALLOWED[options.permission] if options.tools is None else options.tools
        arguments += ["--tools", ",".join(tools)] if tools else ["--no-tools"]
        return Launch(
            arguments=(*arguments, *_session(options, setting, own)),
            prompt=with_files(prompt, options.files),
            env={"PI_CODING_AGENT_DIR": setting.private, **_QUIET},
            key_variable=variable if setting.has_key else "",
            files=files,
            links=links,
            cwd=options.cwd or "",
        )

    def parser(self, options: PiOptions, before: Spent | None) -> PiParser:
        """What reads the events of one run. Pi counts each message by itself, so what came before does not matter."""
        return PiParser(ephemeral=options.ephemeral)


PI = Pi()


# --- where it keeps what ----------------------------------------------------------------------------------------------


def _absolute(path: str, argument: str) -> str:
    if not path.startswith("/"):
        raise invalid(argument, "it must be an absolute path: the directory is used from several places")
    return path.rstrip("/") or "/"


def _of_user(setting: Setting, variable: str) -> str:
    """The directory that a variable of the user's names, empty if it names none; read as Pi reads it."""
    path = setting.environ.get(variable, "")
    if path == "~" or path.startswith("~/"):
        path = setting.home + path[1:]
    return _absolute(path, variable) if path else ""


def _own_directory(options: PiOptions, setting: Setting) -> str:
    if options.state_dir:
        return options.state_dir.rstrip("/") or "/"
    return _of_user(setting, "PI_CODING_AGENT_DIR") or f"{setting.home.rstrip('/')}/.pi/agent"


def _session(options: PiOptions, setting: Setting, own: str) -> tuple[str, ...]:
    """One directory for the sessions of all working directories: where each has one, Pi asks on its standard input
    whether to copy a session of another, and takes the prompt for the answer."""
    if options.ephemeral:
        return ("--no-session",)
    of_user = "" if options.state_dir else _of_user(setting, "PI_CODING_AGENT_SESSION_DIR")
    directory = options.session_dir or of_user or f"{own}/sessions/--penstock--"
    resumed = ("--fork" if options.fork else "--session", options.resume) if options.resume else ()
    return (*resumed, "--session-dir", directory)


# --- which model, with which key --------------------------------------------------------------------------------------


def _at_provider(options: PiOptions, *, has_key: bool) -> tuple[list[str], str]:
    """The model's arguments, and the variable for the key: at one of Pi's own providers."""
    for argument in ("api", "max_tokens"):
        if getattr(options, argument) is not None:
            raise invalid(argument, "it describes the service at a base_url, and there is none")
    model = options.model or ""
    provider = options.pi_provider or (model.partition("/")[0] if "/" in model else "")
    variable = KEY_VARIABLES.get(provider.lower(), "")
    if has_key and not variable:
        known = f"Pi has no variable for a key of {provider!r}" if provider else "Pi has a key for each provider"
        raise invalid("pi_provider", f"{known}; pass one of {', '.join(KEY_VARIABLES)}, or a base_url")
    named = ["--provider", provider] if provider else []
    return [*named, "--model", model] if model else [], variable


def _at_service(options: PiOptions) -> tuple[list[str], str]:
    """The same at a `base_url`."""
    if options.pi_provider:
        raise invalid("pi_provider", "at a base_url there is no provider of Pi's; say what it speaks with api=")
    if not options.model:
        raise invalid("model", "a service at a base_url has no default; pass model=")
    return ["--provider", _SERVICE, "--model", options.model], _SERVICE_KEY


def _models(options: PiOptions, setting: Setting) -> str:
    api = options.api or "openai-completions"
    thinks = options.thinking not in (None, "off")
    model: dict[str, object] = {"id": options.model, "reasoning": thinks}
    if options.max_tokens is not None:
        model["maxTokens"] = options.max_tokens
    service: dict[str, object] = {"baseUrl": setting.base_url, "api": api, "models": [model]}
    # Pi demands a key; a service without one does not look at it.
    service["apiKey"] = _SERVICE_KEY_COMMAND if setting.has_key else "none"
    if api == "openai-completions":
        service["compat"] = {"supportsDeveloperRole": False}  # few services but OpenAI's know that role
    return json.dumps({"providers": {_SERVICE: service}})
