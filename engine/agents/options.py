"""What every agent can be asked for, with types and ranges: the base of each agent's own options.

The least permission is the default. What is dangerous to hand to a command line is refused here: names that begin with
a dash, and session identifiers that hold anything but the characters of one. Pure: no trio, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeGuard, TypeVar

import msgspec

from engine.providers.arguments import invalid

Permission: TypeAlias = Literal["read", "edit", "full"]
"""What an agent may do without being asked: look at files; change them in its working directory as well; anything, its
sandbox and its questions off."""

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\A[^-\s][^\x00-\x1f\x7f]*\Z")]
"""A model, a profile, a tool: not empty, no dash at its beginning, no control characters."""

SessionId: TypeAlias = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\A([A-Za-z0-9_][A-Za-z0-9_.:-]*)?\Z")]
"""The name of a session, or nothing for a new one."""

Directory: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"\A[^-\x00][^\x00]*\Z")]
"""A path: not empty, no dash at its beginning, no zero byte."""

Absolute: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"\A/[^\x00]*\Z")]
"""A path from the root, which means the same wherever the program runs."""

Instruction: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100_000, pattern=r"\A[^\x00]*\Z")]
"""A system prompt: it may stand in the arguments of a program, where there is room for so much."""

_UUID = r"\A[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z"
Uuid: TypeAlias = Annotated[str, msgspec.Meta(pattern=_UUID)]

Variable: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z")]


MEANINGS = {
    "[^-\\s]": "it must not be empty, begin with a dash or a space, or hold control characters",
    "[A-Za-z0-9_.:-]*)?": "it must be the name of a session, of letters, digits and - _ . : alone",
    "[^-\\x00]": "it must be a path that does not begin with a dash",
    "A/": "it must be an absolute path",
    "[^\\x00]*": "it must not hold a zero byte",
    "[A-Za-z_]": "it must be the name of a variable",
    "[0-9a-fA-F]{8}": "it must be a UUID",
}
"""What the patterns above mean, by what each alone holds, in the order in which they are looked for."""


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Arguments of every agent.

    Args:
      prompt: what to do. Or `messages`, as in a chat: their texts, joined by blank lines; a session that is resumed
        knows the earlier ones already, so then only the last is sent.
      messages: a list of dicts with ``role`` and ``content``. One whose role is ``system`` is the `system_prompt`.
      model: as the program knows it; its own default if there is none.
      cwd: the working directory, which must exist; that of this process if not said.
      system_prompt: takes the place of the program's own, or is added to it; see each agent.
      resume: the session to go on with; empty or None for a new one.
      permission: ``"read"``, ``"edit"`` or ``"full"``.
      add_dirs: further directories that it may work in.
      files: paths of files it is to look at first.
      state_dir: an absolute path: where the program keeps its sessions and its login, in place of its usual directory.
      program: the path of the program, in place of the one that is found in PATH.
      pass_env: names of variables of this process's environment that the program is to see, too.
      start_s: how many seconds the program may take until it says anything at all.
    """

    prompt: Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")] | None = None
    messages: list[dict[str, Any]] | None = None
    model: Name | None = None
    cwd: Directory | None = None
    system_prompt: Instruction | None = None
    resume: SessionId | None = None
    permission: Permission = "read"
    add_dirs: list[Directory] = []
    files: list[Directory] = []
    state_dir: Absolute | None = None
    program: Directory | None = None
    pass_env: list[Variable] = []
    start_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    stream: bool | None = None


def is_session_id(name: object) -> TypeGuard[str]:
    """Whether this is the name of a session, so that it could be resumed by it."""
    try:
        return bool(msgspec.convert(name, SessionId))
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID, as most programs name their sessions."""
    return re.match(_UUID, text) is not None


Way = TypeVar("Way", bound=str)


def check_within(argument: str, wanted: Way, permission: Permission, ways: Mapping[Permission, Sequence[Way]]) -> None:
    """Refuse what goes beyond the permission. `ways` are those that each permission has room for.

    Raises:
      InvalidCall: what is wanted is not among those of this permission.
    """
    if wanted not in ways[permission]:
        wider = next(other for other, more in ways.items() if wanted in more)
        room = ", ".join(ways[permission])
        raise invalid(
            argument, f"{wanted!r} is more than permission={permission!r} allows ({room}); pass permission={wider!r}"
        )


def text_of(content: object) -> str:
    """The text of a message's content: a text, or a list of parts with texts in them.

    Raises:
      InvalidCall: it holds what is no text.
    """
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list | tuple) else ():
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            break
        texts.append(text)
    else:
        if isinstance(content, list | tuple):
            return "\n".join(texts)
    raise invalid("messages", "an agent takes texts alone: pass a text, or parts with a text; files are `files`")


def prompt_of(options: AgentOptions) -> tuple[str, str]:
    """What is asked, and the system prompt, empty if there is none.

    Raises:
      InvalidCall: there is nothing to ask, or twice.
    """
    system = [options.system_prompt] if options.system_prompt else []
    if options.messages is None:
        asked = [options.prompt or ""]
    elif options.prompt is not None:
        raise invalid("prompt", "it is given beside messages; pass one of them")
    else:
        asked, more = _in_messages(options.messages)
        system += more
        asked = asked[-1:] if options.resume else asked
    prompt = "\n\n".join(text for text in asked if text)
    if not prompt.strip():
        raise invalid("prompt", "there is nothing to ask; pass prompt= or messages=")
    return prompt, "\n\n".join(system)


def _in_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    asked: list[str] = []
    system: list[str] = []
    for message in messages:
        text = text_of(message.get("content"))
        (system if message.get("role") in ("system", "developer") else asked).append(text)
    return asked, system


def with_files(prompt: str, files: Sequence[str]) -> str:
    """A prompt that names the files to look at first, for programs that have no argument for them."""
    if not files:
        return prompt
    return f"{prompt}\n\nLook at these files first:\n" + "\n".join(f"- {path}" for path in files)
