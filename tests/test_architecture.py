"""Holds the house to its plan: who may import whom, what stays pure, who may touch the world, how big a file may be.

Every file under `actors/` and `engine/` is read as a syntax tree, never imported; imports inside functions and under
`TYPE_CHECKING` count like any other. `HOUSE` is the plan. A new file is given its place there, or this test fails.
Each rule is itself tested below on a planted violation, so none can quietly stop looking.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

Kind = Literal["pure", "shell", "outside"]
"""``pure``: time and randomness are passed in, nothing waits. ``shell``: trio, but no files, sockets or processes.
``outside``: the rooms that touch the world."""


class Room(NamedTuple):
    """A file, or a package with all its files. `libraries`: the third-party packages it may use."""

    name: str
    kind: Kind
    libraries: str = ""


HOUSE = (
    # The kernel: no provider, no HTTP, no logging.
    Room("actors.errors", "pure"),
    Room("actors.specs", "pure", "msgspec"),
    Room("actors.messages", "pure", "msgspec"),
    Room("actors.limits", "pure", "msgspec"),
    Room("actors.turns", "pure"),
    Room("actors.meters", "pure", "msgspec"),
    Room("actors.buckets", "pure", "msgspec"),
    Room("actors.learning", "pure"),
    Room("actors.learned", "pure", "msgspec"),
    Room("actors.queues", "pure", "msgspec"),
    Room("actors.telling", "pure", "msgspec"),
    Room("actors.lanes", "pure"),
    Room("actors.effects", "pure", "msgspec"),
    Room("actors.retrying", "pure", "msgspec"),
    Room("actors.admission", "pure", "msgspec"),
    Room("actors.ledger", "pure", "msgspec"),
    Room("actors.moves", "pure", "msgspec"),
    Room("actors.again", "pure"),
    Room("actors.schedule", "pure", "msgspec"),
    Room("actors.transport", "pure", "msgspec"),
    Room("actors.reports", "pure", "msgspec"),
    Room("actors.clock", "shell", "trio"),
    Room("actors.mailbox", "shell", "trio msgspec"),
    Room("actors.slots", "shell", "trio msgspec"),
    Room("actors.actor", "shell", "trio msgspec"),
    Room("actors.worker", "shell", "trio msgspec"),
    Room("actors.scheduler", "shell", "trio msgspec"),
    Room("actors.endpoint", "shell", "trio msgspec"),
    Room("actors.hook_bus", "shell", "trio msgspec"),
    Room("actors", "shell"),
    # What a user touches.
    Room("engine.errors", "pure", "msgspec"),
    Room("engine.secret", "pure"),
    Room("engine.log", "shell", "structlog"),
    Room("engine.config", "pure", "msgspec"),
    Room("engine.estimate", "pure", "msgspec"),
    Room("engine.retry", "pure", "msgspec"),
    Room("engine.sse", "pure", "msgspec"),
    Room("engine.providers.view", "pure", "msgspec"),
    Room("engine.providers.wire", "pure", "msgspec"),
    Room("engine.providers.arguments", "pure", "msgspec"),
    Room("engine.agents", "pure", "msgspec"),
    Room("engine.providers", "pure", "msgspec"),
    Room("engine.endpoints", "pure", "msgspec"),
    Room("engine.hooks", "pure", "msgspec"),
    Room("engine.transports.http1", "pure", "httptools"),
    Room("engine.transports.ag2_network", "outside", "msgspec ag2 httpx2"),
    Room("engine.transports.ag2_classic", "outside", "msgspec autogen"),
    Room("engine.transports", "outside", "trio msgspec structlog httpx certifi"),
    Room("engine.accounts", "shell", "trio msgspec structlog"),
    Room("engine.usual_transports", "shell"),
    Room("engine.lane_arguments", "shell", "msgspec"),
    Room("engine.call_options", "pure", "msgspec"),
    Room("engine.call", "shell", "trio msgspec structlog"),
    Room("engine.handling", "shell", "trio msgspec structlog"),
    Room("engine.asking", "shell", "trio"),
    Room("engine.journal", "outside", "trio msgspec structlog"),
    Room("engine.switchboard", "shell", "trio msgspec structlog"),
    Room("engine.intake", "shell", "trio msgspec structlog"),
    Room("engine.streaming", "shell", "trio msgspec structlog"),
    Room("engine.mapping", "shell", "trio msgspec structlog"),
    Room("engine.runtime", "shell", "trio msgspec structlog"),
    Room("engine.opening", "shell", "trio msgspec structlog"),
    Room("engine.agent_runs", "shell", "trio msgspec"),
    Room("engine.imodel_arguments", "shell", "msgspec"),
    Room("engine.imodel_data", "shell", "msgspec"),
    Room("engine.imodel", "shell", "trio msgspec structlog"),
    Room("engine.manager", "shell", "trio"),
    Room("engine.ready", "shell", "trio msgspec structlog"),
    Room("engine.router", "shell", "trio msgspec structlog"),
    Room("engine.portal", "outside", "trio msgspec structlog"),
    Room("engine.batch", "outside", "trio msgspec structlog"),
    Room("engine", "shell"),
    Room("engine.clients", "shell", "trio msgspec structlog"),
    Room("engine.portal.aixplain", "outside"),
    Room("engine.simulator", "outside", "trio msgspec h11"),
    Room("engine.testing.replies", "pure", "msgspec"),
    Room("engine.testing.script", "shell"),
    Room("engine.testing.provider", "shell", "trio"),
    Room("engine.testing", "outside", "trio msgspec hypothesis"),
    Room("engine.testing.fixtures", "outside", "trio pytest"),
    Room("engine.cli", "outside", "trio msgspec structlog cyclopts rich"),
)
"""In order: a file imports only files that stand before it. A package's files import one another without a cycle."""

FACADES = ("actors", "engine")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
DOCSTRING_LINES = range(3, 13)


def names(text: str) -> tuple[str, ...]:
    """A table of words as it reads best."""
    return tuple(text.split())


PURE_MODULES = names("""
    __future__ abc array base64 binascii bisect builtins collections contextlib copy dataclasses datetime difflib email
    enum fractions functools hashlib heapq httptools ipaddress itertools json math msgspec operator re string tomllib
    types typing unicodedata urllib
""")
"""What a pure file may import. A module that does no I/O and reads no clock may be added."""

IMPURE_NAMES = names("""
    builtins.open builtins.print builtins.input builtins.exec builtins.eval builtins.breakpoint builtins.__import__
    datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today
    email.utils.localtime email.utils.make_msgid email.utils.formatdate urllib.request urllib.robotparser
""")
"""What the modules of `PURE_MODULES`, and the builtins, hold that is not pure."""

WORLD_NAMES = names("""
    builtins.open builtins.print builtins.input builtins.breakpoint
    os pathlib io shutil tempfile glob mmap fcntl socket ssl select selectors socketserver http urllib.request
    subprocess multiprocessing threading concurrent signal asyncio sqlite3 dbm shelve ctypes importlib
    trio.Path trio.open_file trio.wrap_file trio.run_process trio.Process trio.open_signal_receiver trio.testing
    trio.socket trio.open_tcp_stream trio.open_tcp_listeners trio.open_unix_socket trio.serve_tcp trio.serve_listeners
    trio.SocketStream trio.SocketListener trio.SSLStream trio.SSLListener trio.open_ssl_over_tcp_stream
    trio.open_ssl_over_tcp_listeners trio.serve_ssl_over_tcp trio.lowlevel.open_process trio.lowlevel.FdStream
    trio.lowlevel.wait_readable trio.lowlevel.wait_writable
""")
"""Files, sockets, processes, signals, threads and other event loops: for the rooms of kind ``outside``."""

HARMLESS_NAMES = names("os.environ os.PathLike os.fspath importlib.metadata")
"""What `WORLD_NAMES` forbids too much: the environment is where keys are, and a path is only a name."""

CLOCK_NAMES = names("time datetime.datetime.now trio.current_time trio.lowlevel.current_clock")
"""Where a time could come from. In the kernel only `actors.clock` asks."""


class Reference(NamedTuple):
    """A dotted name of something imported (or a builtin), as a file uses it, in full."""

    name: str
    line: int


class File(NamedTuple):
    """One file under `actors/` or `engine/`: its module's dotted name and what it says."""

    module: str
    source: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


def house_files() -> list[File]:
    files = []
    for top in FACADES:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            files.append(File(".".join(parts[:-1] if is_package else parts), path.read_text(), is_package))
    return files


FILES = house_files()


# --- reading a file -------------------------------------------------------------------------------------------------


def absolute(file: File, node: ast.ImportFrom) -> str:
    """The module a ``from`` import names, with its leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    package = file.module.split(".")
    package = package[: len(package) - node.level + file.is_package]
    return ".".join([*package, node.module] if node.module else package)


def dotted(node: ast.expr) -> list[str]:
    """``trio.lowlevel.checkpoint`` as its parts; empty when the chain does not begin with a plain name."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return [*head, node.attr]
    return []


def references(file: File) -> list[Reference]:
    """Everything the file imports, and every use of it, under its full name whatever it was imported as."""
    found = []
    local = {name: f"builtins.{name}" for name in dir(builtins)}
    tree = file.tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append(Reference(alias.name, node.lineno))
                local[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            base = absolute(file, node)
            for alias in node.names:
                found.append(Reference(f"{base}.{alias.name}", node.lineno))
                local[alias.asname or alias.name] = f"{base}.{alias.name}"
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        if (parts := dotted(node)) and parts[0] in local:
            found.append(Reference(".".join([local[parts[0]], *parts[1:]]), node.lineno))
    return found


def within(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def top_of(name: str) -> str:
    return name.partition(".")[0]


def room_of(name: str) -> Room | None:
    """The room that holds a module, or the object a reference names; a façade holds only what no other room does."""
    rooms = [room for room in HOUSE if within(name, [room.name])]
    return max(rooms, key=lambda room: len(room.name), default=None)


def own_room(file: File) -> Room | None:
    """Like `room_of`, but a file that has no place of its own is not taken in by the façade."""
    room = room_of(file.module)
    return None if room and room.name in FACADES and room.name != file.module else room


# --- the rules: each yields a sentence per violation ------------------------------------------------------------------


def has_a_place(file: File) -> Iterator[str]:
    if own_room(file) is None:
        yield f"{file.module} has no place in HOUSE: say what kind it is and what stands before it"


def kernel_knows_no_engine(file: File) -> Iterator[str]:
    if within(file.module, ["actors"]):
        yield from (f"{file.module}:{line} uses {name}" for name, line in references(file) if top_of(name) == "engine")


def imports_point_one_way(file: File) -> Iterator[str]:
    own = own_room(file)
    for name, line in references(file):
        target = room_of(name)
        if own and target and target != own and HOUSE.index(target) > HOUSE.index(own):
            yield f"{file.module}:{line} uses {name}, which stands after it in HOUSE"


def pure_stays_pure(file: File) -> Iterator[str]:
    own = own_room(file)
    if own is None or own.kind != "pure":
        return
    for name, line in references(file):
        target = room_of(name)
        if target.kind != "pure" if target else within(name, IMPURE_NAMES) or top_of(name) not in PURE_MODULES:
            yield f"{file.module}:{line} is pure but uses {name}"


def libraries_stay_in_their_rooms(file: File) -> Iterator[str]:
    own = own_room(file)
    for name, line in references(file):
        top = top_of(name)
        if own and top not in {*FACADES, *own.libraries.split()} and top not in sys.stdlib_module_names:
            yield f"{file.module}:{line} uses {name}, which is not among its libraries"


def world_is_touched_only_outside(file: File) -> Iterator[str]:
    own = own_room(file)
    if own is None or own.kind == "outside":
        return
    for name, line in references(file):
        if within(name, WORLD_NAMES) and not within(name, HARMLESS_NAMES) and name not in {"os", "importlib"}:
            yield f"{file.module}:{line} uses {name}: files, sockets and processes have rooms of their own"


def kernel_has_one_clock(file: File) -> Iterator[str]:
    if within(file.module, ["actors"]) and file.module != "actors.clock":
        for name, line in references(file):
            if within(name, CLOCK_NAMES):
                yield f"{file.module}:{line} uses {name}: ask actors.clock"


def opens_with_what_lives_here(file: File) -> Iterator[str]:
    lines = len((ast.get_docstring(file.tree) or "").splitlines())
    if lines not in DOCSTRING_LINES:
        yield f"{file.module} opens with {lines} lines about itself, not {DOCSTRING_LINES[0]} to {DOCSTRING_LINES[-1]}"


def file_is_short(file: File) -> Iterator[str]:
    lines = len(file.source.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{file.module} has {lines} lines, more than {MAX_FILE_LINES}"


def functions_are_short(file: File) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{file.module}:{node.lineno} {node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def cycles(files: list[File]) -> list[str]:
    """Cycles of imports among the files of one room, each named once; between rooms the order forbids them."""
    modules = {file.module for file in files}
    uses: dict[str, set[str]] = {}
    for file in files:
        names = {name for name, _ in references(file)}
        holders = {max((m for m in modules if within(name, [m])), key=len, default="") for name in names}
        uses[file.module] = {m for m in holders - {"", file.module} if room_of(m) == room_of(file.module)}
    found = []
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(uses[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(modules):
        visit(module, ())
    return found


Rule = Callable[[File], Iterator[str]]

RULES: tuple[Rule, ...] = (
    has_a_place,
    kernel_knows_no_engine,
    imports_point_one_way,
    pure_stays_pure,
    libraries_stay_in_their_rooms,
    world_is_touched_only_outside,
    kernel_has_one_clock,
    opens_with_what_lives_here,
    file_is_short,
    functions_are_short,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule) -> None:
    """No file under `actors/` or `engine/` breaks the rule."""
    assert [violation for file in FILES for violation in rule(file)] == []


def test_no_room_has_an_import_cycle() -> None:
    """Inside a package the files form a tree too."""
    assert cycles(FILES) == []


def test_the_walk_finds_the_files() -> None:
    """The rules above are not passed by looking at nothing."""
    assert {"actors.errors", "actors.messages", "actors.endpoint", "engine.config"} <= {file.module for file in FILES}


def test_the_plan_names_every_room_once() -> None:
    """A room that stood in two places would have two kinds and two orders."""
    assert sorted({room.name for room in HOUSE}) == sorted(room.name for room in HOUSE)


# --- the rules, tested ------------------------------------------------------------------------------------------------

GOOD = '"""What lives here.\n\nWhat it must not do.\n"""\n\nfrom __future__ import annotations\n'

PLANTED: tuple[tuple[Rule, str, str], ...] = (
    (has_a_place, "engine.surprise", ""),
    (has_a_place, "actors.surprise", ""),
    (kernel_knows_no_engine, "actors.scheduler", "import engine"),
    (kernel_knows_no_engine, "actors.scheduler", "from engine.errors import Vetoed"),
    (imports_point_one_way, "actors.errors", "from actors.messages import Fault"),
    (imports_point_one_way, "engine.config", "def late():\n    from engine.runtime import Engine"),
    (imports_point_one_way, "engine.retry", "if TYPE_CHECKING:\n    from engine.imodel import iModel"),
    (imports_point_one_way, "engine.retry", "from . import imodel"),
    (imports_point_one_way, "engine.providers.catalogue", "from ..runtime import Engine"),
    (imports_point_one_way, "engine.runtime", "from engine import gather"),
    (imports_point_one_way, "engine.simulator.faults", "import engine.cli.demo as demo"),
    (pure_stays_pure, "actors.schedule", "import trio"),
    (pure_stays_pure, "actors.limits", "from time import monotonic"),
    (pure_stays_pure, "actors.lanes", "def f():\n    import random"),
    (pure_stays_pure, "engine.sse", "if TYPE_CHECKING:\n    import httpx"),
    (pure_stays_pure, "engine.config", "from pathlib import Path"),
    (pure_stays_pure, "engine.config", "text = open('penstock.toml').read()"),
    (pure_stays_pure, "engine.retry", "import datetime as dt\nnow = dt.datetime.now()"),
    (pure_stays_pure, "engine.retry", "import structlog"),
    (pure_stays_pure, "engine.agents.claude", "from engine.transports.http import HttpTransport"),
    (libraries_stay_in_their_rooms, "engine.runtime", "import httpx"),
    (libraries_stay_in_their_rooms, "engine.imodel", "if TYPE_CHECKING:\n    from httpcore import Origin"),
    (libraries_stay_in_their_rooms, "actors.endpoint", "import structlog"),
    (libraries_stay_in_their_rooms, "engine.simulator.server", "import httpx"),
    (world_is_touched_only_outside, "engine.runtime", "import socket"),
    (world_is_touched_only_outside, "engine.imodel", "import os\nos.remove('x')"),
    (world_is_touched_only_outside, "engine.call", "import trio as t\n\nasync def f():\n    await t.open_file('x')"),
    (world_is_touched_only_outside, "actors.endpoint", "from trio import open_tcp_stream"),
    (world_is_touched_only_outside, "engine.hooks", "from subprocess import run"),
    (world_is_touched_only_outside, "engine.hooks", "open('x')"),
    (kernel_has_one_clock, "actors.scheduler", "import trio\nnow = trio.current_time()"),
    (kernel_has_one_clock, "actors.endpoint", "import time"),
)


@pytest.mark.parametrize(("rule", "module", "planted"), PLANTED)
def test_each_rule_sees_what_it_forbids(rule: Rule, module: str, planted: str) -> None:
    """A file that breaks the rule is named with the offending line."""
    found = list(rule(File(module, GOOD + planted)))
    assert found
    assert all(violation.startswith(module) for violation in found)


ALLOWED = (
    ("engine.transports.http", "import httpx\nimport certifi\nimport ssl"),
    ("engine.imodel", "import os\nkey = os.environ.get('OPENAI_API_KEY')"),
    ("engine.imodel", "from engine.call import Call\nfrom engine.runtime import Engine\nimport structlog"),
    ("engine.simulator.server", "import h11\nimport socket\nimport time"),
    ("engine.cli.demo", "import cyclopts\nfrom pathlib import Path\nfrom engine import open_engine\nprint()"),
    ("actors.limits", "from bisect import bisect\nimport msgspec\nfrom actors.messages import Dimension"),
    ("actors.clock", "import trio\nnow = trio.current_time()"),
    ("engine.retry", "from email.utils import parsedate_to_datetime\nlate = parsedate_to_datetime('').timestamp()"),
    ("actors.limits", "class Claim:\n    open: int\n    time: int"),
    ("engine.call", "def f(call):\n    call.open('x')\n    return call.time.monotonic()"),
)


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_the_rules_leave_good_files_alone(module: str, source: str) -> None:
    """What the plan allows is not reported by any rule."""
    assert [violation for rule in RULES for violation in rule(File(module, GOOD + source))] == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (opens_with_what_lives_here, "x = 1\n"),
        (opens_with_what_lives_here, '"""Two lines.\n\n"""\n'),
        (opens_with_what_lives_here, '"""' + "line\n" * (DOCSTRING_LINES[-1] + 1) + '"""\n'),
        (file_is_short, "x = 1\n" * (MAX_FILE_LINES + 1)),
        (functions_are_short, "async def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
        (functions_are_short, "class C:\n    def f(self):\n" + "        x = 1\n" * MAX_FUNCTION_LINES),
    ],
)
def test_sizes_are_measured(rule: Rule, source: str) -> None:
    """A file or function one line over its measure is named."""
    assert len(list(rule(File("engine.call", source)))) == 1


def test_a_cycle_inside_a_package_is_named() -> None:
    """Two files of one room that import each other are reported with the way round."""
    files = [
        File("engine.providers.search", "from engine.providers import catalogue"),
        File("engine.providers.catalogue", "from engine.providers.search import View"),
        File("engine.providers", "", is_package=True),
    ]
    assert cycles(files) == ["engine.providers.catalogue -> engine.providers.search -> engine.providers.catalogue"]
