"""Code blocks of a seed's document: found by their fences, or by their lines where a document has lost those; rewritten
by the agreed rewrites, run as they stand there.

The texts come from the document itself. A block runs as a program's top level would, with ``await`` allowed; a failure
names the line of the document.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

DOCUMENTS = Path(__file__).parent / "documents"

REWRITES = {
    "import lionagi as li": "import engine as li",
    "from lionagi.service.hooks import": "from engine import",
    "asyncio.sleep(": "trio.sleep(",
    "asyncio.run(main())": "trio.run(main)",
    "asyncio.gather(": "gather(",
}
"""Of every document. Keys and addresses come on top, since they are the simulator's."""


class Block(NamedTuple):
    """The lines `first` to `last` of a document, counted from 1."""

    document: str
    first: int
    last: int

    def text(self, rewrites: Mapping[str, str] = REWRITES) -> str:
        """The block, rewritten, with empty lines before it so that its own have their numbers."""
        lines = (DOCUMENTS / self.document).read_text("utf-8").splitlines()
        text = "\n".join(lines[self.first - 1 : self.last])
        for before, after in rewrites.items():
            text = text.replace(before, after)
        return "\n" * (self.first - 1) + text

    def statements(self, rewrites: Mapping[str, str] = REWRITES) -> list[ast.stmt]:
        """Its statements. Raises `SyntaxError` if it is not Python."""
        return compile(
            self.text(rewrites), self.document, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        ).body  # type: ignore[attr-defined,no-any-return]  # a module, because of the flag

    async def run(self, names: dict[str, Any], rewrites: Mapping[str, str] = REWRITES) -> list[Any]:
        """Run it with these names, which it changes, and give back what it assigned to a name, in order."""
        assigned = []
        for statement in self.statements(rewrites):
            module = ast.Module([statement], type_ignores=[])
            code = compile(module, self.document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)  # noqa: S307  # that is what is tested
            if inspect.isawaitable(running):
                await running
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                assigned.append(names[statement.targets[0].id])
        return assigned


def fenced(document: str) -> list[Block]:
    """The blocks of Python between a document's fences, in order."""
    lines = (DOCUMENTS / document).read_text("utf-8").splitlines()
    blocks, opened = [], 0
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if opened and lines[opened - 1] == "```python":
            blocks.append(Block(document, opened + 1, number - 1))
        opened = 0 if opened else number
    assert not opened, "a fence is not closed"
    return blocks
