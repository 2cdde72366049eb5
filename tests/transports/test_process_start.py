"""What a program is started with: its path, its environment, its directory; and what is not started at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from stub_program import Listener, Stub, StubOptions, alive_with, calling, do, environ, kept, run, say, stub

from actors.errors import ConnectFailed
from engine.agents.chunks import Error, Text
from engine.errors import AgentNotInstalled, UsageError
from engine.secret import Secret
from engine.transports.child import Child
from engine.transports.private import NoPrivateDirectory, furnish, private_directory
from engine.transports.programs import secrets_in

DONE = say(done="done")
KEY = "sk-fake-0123456789abcdef"


@pytest.fixture(autouse=True)
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Whatever a test did: no process of its runs is left, and no private directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = f"tag-{secrets.token_hex(8)}"
    yield name
    assert alive_with(name) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("penstock-")] == []


def command(directory: Path, name: str, text: str = "", mode: int = 0o755) -> Path:
    """A command that runs the interpreter of the tests, or what is said."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text or f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(mode)
    return path


class Named(Stub):
    program = "stub-agent"
    natives = ("../native/bin/stub", "../other/stub")


# --- the program ---


def located(environ: dict[str, str], **options: Any) -> str:
    return stub(Named, environ=environ).check(msgspec.json.encode(StubOptions(prompt="x", **options)))[1]


def test_a_program_is_found_in_path_and_where_it_may_stand(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    with pytest.raises(AgentNotInstalled) as raised:
        located(environ)
    assert "npm install stub" in str(raised.value)
    assert "'stub-agent'" in str(raised.value)
    home = command(tmp_path / "home" / ".local" / "bin", "stub-agent")
    assert located(environ) == str(home)
    path = command(tmp_path / "bin", "stub-agent")
    assert located(environ) == str(path)
    path.chmod(0o644)
    assert located(environ) == str(home)


def test_a_wrapper_is_replaced_by_its_program(tmp_path: Path) -> None:
    """Also behind the link that a package manager makes."""
    wrapper = command(tmp_path / "lib" / "bin", "wrapper.js")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stub-agent").symlink_to(wrapper)
    environ = {"PATH": str(tmp_path / "bin")}
    assert located(environ) == str(tmp_path / "bin" / "stub-agent")
    native = command(tmp_path / "lib" / "other", "stub")
    assert located(environ) == str(native)
    native = command(tmp_path / "lib" / "native" / "bin", "stub")
    assert located(environ) == str(native)
    assert located({}, program=str(tmp_path / "bin" / "stub-agent")) == str(native)


def test_a_missing_program_is_found_out_before_a_run(tmp_path: Path) -> None:
    """The one that a call names, if it names one; else the usual one. The words are those of a run."""
    nowhere = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    mine = command(tmp_path / "mine", "stub")
    for given, path, said in (
        (nowhere, None, "neither in PATH nor in"),
        (nowhere, str(tmp_path / "not-there"), "is no file"),
        (nowhere, str(command(tmp_path, "plain", mode=0o644)), "chmod"),
    ):
        with pytest.raises(AgentNotInstalled, match=said):
            located(given, program=path)
    assert located(nowhere, program="~/mine/stub") == located(nowhere, program=str(mine)) == str(mine)


async def test_a_program_that_is_not_in_path_is_run_where_a_call_says(tmp_path: Path, tag: str) -> None:
    """Or the run is refused, if it says nothing. One transport serves both."""
    transport = stub(Named, environ={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    answer = await run(transport, DONE, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert (answer.charge, fault.kind) == ("nothing", "AgentNotInstalled")
    path = command(tmp_path / "mine", "stub")
    assert (await run(transport, DONE, tag=tag, program=str(path))).verdict == "done"


async def test_the_programs_path_can_be_given(tmp_path: Path, tag: str) -> None:
    path = command(tmp_path, "mine")
    ear = Listener()
    await run(stub(), say(text="hi"), DONE, ear=ear, tag=tag, program=str(path))
    assert ear.texts == ["hi"]


NOT_STARTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such program": ({"program": "/nowhere/stub"}, "AgentNotInstalled", "npm install stub"),
    "a program that may not run": ({"program": "plain"}, "AgentNotInstalled", "chmod"),
    "no such directory": ({"cwd": "/nowhere"}, "UsageError", "cwd='/nowhere'"),
    "a directory that is a file": ({"cwd": "plain"}, "UsageError", "cwd="),
    "no interpreter": ({"program": "orphan"}, "AgentError", "npm install stub"),
    "no program at all": ({"program": "nonsense"}, "AgentError", "npm install stub"),
    "too many arguments": ({"mode": "x" * 3_000_000}, "AgentError", "too long"),
    "a file outside": ({"files_inside": {"../x": ""}}, "UsageError", "'../x'"),
    "nothing to ask": ({"prompt": " "}, "InvalidCall", "prompt"),
}


@pytest.mark.parametrize("name", NOT_STARTED)
async def test_what_cannot_be_started(name: str, tmp_path: Path, tag: str) -> None:
    """It is a failed answer that says what to do, and nothing was spent."""
    options, kind, said = NOT_STARTED[name]
    command(tmp_path, "plain", mode=0o644)
    command(tmp_path, "orphan", "#!/nowhere/interpreter\n")
    command(tmp_path, "nonsense", "\x00\x01\x02")
    mine = {key: str(tmp_path / value) for key, value in options.items() if (tmp_path / str(value)[:90]).exists()}
    ear = Listener()
    answer = await run(stub(), say(text="hi"), DONE, ear=ear, tag=tag, **{**options, **mine})
    fault = answer.reply.fault
    assert fault is not None
    assert (answer.verdict, answer.charge, answer.keep, fault.kind) == ("failed", "nothing", True, kind)
    assert said in fault.message
    assert ear.chunks == []
    assert ear.told == ([] if kind != "AgentError" else ["begin"])


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE], ids=errno.errorcode.get)
async def test_no_room_for_another_process_passes(number: int, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was started, and the call may be tried again."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ConnectFailed, match="Nothing was started"):
        await run(stub(), DONE, tag=tag)


async def test_no_room_for_a_private_directory(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    answer = await run(stub(), DONE, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert (answer.charge, fault.kind) == ("nothing", "AgentError")
    assert "TMPDIR" in fault.message


# --- the environment ---


async def seen_by(tag: str, user: dict[str, str], **options: Any) -> dict[str, str]:
    ear = Listener()
    own = {name: options.pop(name) for name in ("key", "home") if name in options}
    await run(stub(environ={**environ(), **user}, **own), do("env"), DONE, ear=ear, tag=tag, **options)
    found: dict[str, str] = json.loads(ear.texts[0])
    return found


ALLOWED = {
    "USER": "me", "LOGNAME": "me", "SHELL": "/bin/sh", "LANG": "C.UTF-8", "LANGUAGE": "en", "LC_ALL": "C.UTF-8",
    "LC_TIME": "C", "TZ": "UTC", "TERM": "dumb", "TMPDIR": "/t", "HTTP_PROXY": "http://p", "HTTPS_PROXY": "http://p",
    "ALL_PROXY": "http://p", "NO_PROXY": "h", "http_proxy": "http://p", "https_proxy": "http://p",
    "all_proxy": "http://p", "no_proxy": "h", "SSL_CERT_FILE": "/c", "SSL_CERT_DIR": "/c", "NODE_EXTRA_CA_CERTS": "/c",
    "REQUESTS_CA_BUNDLE": "/c", "XDG_CONFIG_HOME": "/x",
}  # fmt: skip


async def test_the_environment_is_made_from_a_list(tag: str) -> None:
    """What every program may see, what this one needs, what the caller names, and the marker: that is all."""
    secret = {
        "OPENAI_API_KEY": "k1",
        "AWS_SECRET_ACCESS_KEY": "k2",
        "LD_PRELOAD": "",
        "NVM_DIR": "/n",
        "PYTHONPATH": "/p",
    }
    user = {**ALLOWED, **secret, "STUB_LOGIN": "login", "MINE": "mine", "EMPTY": "", "STUB_KEY": "of the user"}
    found = await seen_by(tag, user, pass_env=["MINE", "EMPTY", "NOT_THERE"], variables={"QUIET": "1", "NONE": ""})
    marker = found.pop("PENSTOCK_RUN")
    assert len(marker) == 32
    assert found == {**environ(), **ALLOWED, "STUB_LOGIN": "login", "MINE": "mine", "QUIET": "1"}


async def test_the_key_is_in_its_own_variable_and_no_argument(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands over one that the user has there; home is that which was given."""
    user = {"STUB_KEY": "of the user", "HOME": "/elsewhere"}
    found = await seen_by(tag, user, key=Secret(KEY), home="/", pass_env=["STUB_KEY"])
    assert (found["STUB_KEY"][::-1], found["HOME"]) == (KEY, "/")
    ear = Listener()
    shown: list[bytes] = []
    ear.on_chunks = lambda: shown.extend(line.encode() for line in alive_with(tag))
    monkeypatch.setattr(Child, "GRACE_S", 0.2)
    await run(stub(key=Secret(KEY)), say(text="hi"), DONE, do("hang"), ear=ear, tag=tag)
    assert shown
    assert not [line for line in shown if KEY.encode() in line]


@pytest.mark.parametrize("name", ["STUB_KEY", "STUB_LOGIN_TOKEN"])
async def test_a_program_that_says_its_key(name: str, tag: str) -> None:
    """Nobody hears it: not in its events, not in its error, not from its standard error, not in what is kept."""
    environment = {**environ(), "STUB_LOGIN_TOKEN": KEY}
    transport = stub(environ=environment, key=Secret(KEY) if name == "STUB_KEY" else None)
    for more in ([], [do("exit", code=1)]):
        ear = Listener()
        steps = [do("echo_env", variable=name), *more]
        answer = await run(transport, *steps, ear=ear, tag=tag, pass_env=["STUB_LOGIN_TOKEN"])
        fault = answer.reply.fault
        assert fault is not None
        assert ear.texts == ["text [key removed]"]
        assert isinstance(kept(answer)[-1], Error)
        for text in (b"".join(ear.pieces), bytes(answer.reply.body), repr(answer).encode()):
            assert KEY.encode() not in text


LOGINS = {
    "a proxy": ("HTTPS_PROXY", "http://me:pass-word-1@proxy:3128", ["me:pass-word-1", "pass-word-1"]),
    "a short password": ("http_proxy", "http://someone:pw@proxy", ["someone:pw"]),
    "no scheme": ("ALL_PROXY", "me:pass-word-1@proxy:3128", ["me:pass-word-1", "pass-word-1"]),
    "escaped": (
        "HTTP_PROXY",
        "http://me:pass%2Fword@p",
        ["me:pass%2Fword", "me:pass/word", "pass%2Fword", "pass/word"],
    ),
    "a token": ("GIT_URL", "https://token-0123456@host/@v1", ["token-0123456"]),
    "none": ("HTTPS_PROXY", "http://proxy.example:3128/a:b@c", []),
    "no address": ("MAIL", "someone.else@example.com", []),
    "by its name": ("MY_TOKEN", "0123456789", ["0123456789"]),
    "too short": ("MY_TOKEN", "0123456", []),
}


@pytest.mark.parametrize("name", LOGINS)
def test_what_looks_like_a_key(name: str) -> None:
    variable, value, found = LOGINS[name]
    assert secrets_in({variable: value, "PATH": "/bin"}) == found


async def test_a_proxys_password_is_not_told(tag: str) -> None:
    """Every program may see its proxy, and may say it."""
    proxy = "http://me:pass-word-1@proxy:3128"
    ear = Listener()
    transport = stub(environ={**environ(), "HTTPS_PROXY": proxy})
    answer = await run(transport, do("echo_env", variable="HTTPS_PROXY"), ear=ear, tag=tag)
    assert ear.texts == ["text http://[key removed]@proxy:3128"]
    for text in (b"".join(ear.pieces), bytes(answer.reply.body), repr(answer).encode()):
        assert b"pass-word-1" not in text


async def test_a_key_in_last_words(tag: str) -> None:
    """What is quoted of the standard error, or of a line that is no event, is without it."""
    steps = [do("write", text=f"debug: {KEY}\n"), do("errors", text=f"bad key {KEY}\n"), do("exit", code=1)]
    ear = Listener()
    answer = await run(stub(key=Secret(KEY)), *steps, ear=ear, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    assert "bad key [key removed]" in fault.detail
    assert "bad key [key removed]" in fault.message
    assert KEY not in repr(answer) + repr(ear.chunks)


async def test_no_line_of_the_log_says_much(tag: str, caplog: pytest.LogCaptureFixture) -> None:
    """That a program was started and how it ended: no prompt, no key, no environment."""
    caplog.set_level("DEBUG", logger="penstock")
    user = {**environ(), "LANG": "C.of-mine"}
    await run(stub(environ=user, key=Secret(KEY)), say(text="the prompt"), DONE, tag=tag)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in lines] == ["event='request'", "event='answer'"]
    assert "verdict='done'" in lines[1]
    for word in ("the prompt", KEY, "C.of-mine"):
        assert word not in caplog.text


# --- where it runs ---


async def test_it_runs_where_it_is_told(tmp_path: Path, tag: str) -> None:
    for options, where in (({}, os.getcwd()), ({"cwd": str(tmp_path)}, str(tmp_path))):
        ear = Listener()
        await run(stub(), do("where"), DONE, ear=ear, tag=tag, **options)
        assert ear.texts == [where]


async def test_its_private_directory(tmp_path: Path, tag: str) -> None:
    """Files for the user alone, links to what is his, gone afterwards; what a link points at stays."""
    login = tmp_path / "login"
    login.write_text("mine")
    login.chmod(0o640)
    options: dict[str, Any] = {
        "files_inside": {"settings.json": "{}", "a/b/system.md": "S\u00fc\u00df"},
        "links_inside": {"a/login": str(login)},
    }
    ear = Listener()
    await run(
        stub(), do("look", names=["settings.json", "a/b/system.md", "a/login"]), DONE, ear=ear, tag=tag, **options
    )
    assert ear.texts == ["settings.json: 600 {}", "a/b/system.md: 600 S\u00fc\u00df", "a/login: 640 mine"]
    assert login.read_text() == "mine"


async def test_a_private_directory_is_private() -> None:
    async with private_directory() as private:
        assert stat.S_IMODE(os.stat(private).st_mode) == 0o700
        await furnish(private, {"a/x": "1"}, {"link": "/"})
        for wrong in ("/etc/x", "../x", "a/../../x", "a//x", "", ".", "a/x", "link", "link/x", "a/x/y"):
            for way in (({wrong: "2"}, {}), ({}, {wrong: "/"})):
                with pytest.raises((UsageError, NoPrivateDirectory)):
                    await furnish(private, *way)
        assert (Path(private) / "a" / "x").read_text() == "1"
    assert os.path.basename(private) not in os.listdir(tempfile.gettempdir())


async def test_the_text_of_a_run_is_text(tag: str) -> None:
    """A prompt of any language arrives as it was written."""
    ear = Listener()
    connection = await stub().connect()
    await connection.exchange(calling(say(text="\u00fc \u4f60\u597d \U0001f600"), DONE, tag=tag), ear)
    found = ear.chunks[0]
    assert isinstance(found, Text)
    assert found.text == "\u00fc \u4f60\u597d \U0001f600"


async def test_no_part_of_a_key_is_left_where_a_text_is_cut(tag: str) -> None:
    """Nor of one in numbers, nor of one over two lines of its errors."""
    key = "Kq7zzUNLIKELYsecret0123456789abcdefXYZ"
    ear = Listener()
    answer = await run(stub(key=Secret(key)), do("cut_key"), do("exit", code=3), ear=ear, tag=tag)
    fault = answer.reply.fault
    assert fault is not None
    told = b"".join(ear.pieces).decode("utf-8", "replace")
    for text in (told, bytes(answer.reply.body).decode(), fault.message, fault.detail):
        assert [key[at : at + 4] for at in range(len(key) - 4) if key[at : at + 4] in text] == []
    assert len(ear.chunks) == 5
    assert "[key removed]" in fault.detail


async def test_no_thread_to_start_it_in_passes(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_thread(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "open_process", no_thread)
    with pytest.raises(ConnectFailed, match="Nothing was started"):
        await run(stub(), say(done="bye"), tag=tag)
