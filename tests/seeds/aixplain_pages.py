"""The signatures that aiXplain's two pages promise, taken from the pages, and what our classes are held to.

A page has a block of code for each class and each of its methods, without a body. A block is completed with ``...`` and
compiled, so its names, their order and their defaults come from the page.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from seed_blocks import DOCUMENTS

from engine.clients import aixplain

WORDS = {
    "config.TEAM_API_KEY": None,  # looked up when the model is built
    "AssetStatus.ONBOARDED": aixplain.AssetStatus.ONBOARDED,
    "FunctionType.AI": aixplain.FunctionType.AI,
}
"""Defaults that are no literals."""


class Promised(NamedTuple):
    """One block of a page: a class with its bases, or a method with its arguments (name, default), without `self`."""

    page: str
    line: int
    name: str
    bases: tuple[str, ...]
    arguments: tuple[tuple[str, Any], ...]
    rest: str
    is_classmethod: bool


def blocks_of(page: str) -> Iterator[tuple[int, str]]:
    """The page's blocks of Python, each with the line it begins at."""
    lines = (DOCUMENTS / page).read_text("utf-8").splitlines()
    begun = 0
    for number, line in enumerate(lines, 1):
        if line == "```python":
            begun = number
        elif line == "```" and begun:
            yield begun + 1, "\n".join(lines[begun : number - 1])
            begun = 0


def promises_of(page: str) -> list[Promised]:
    """What each block of a page promises. Raises `SyntaxError` for a block that is no Python."""
    found = []
    for line, text in blocks_of(page):
        (node,) = compile(f"{text}: ...", page, "exec", ast.PyCF_ONLY_AST).body  # type: ignore[attr-defined]  # a module
        if isinstance(node, ast.ClassDef):
            bases = tuple(ast.unparse(base) for base in node.bases)
            found.append(Promised(page, line, node.name, bases, (), "", is_classmethod=False))
            continue
        assert isinstance(node, ast.FunctionDef)
        names = [argument.arg for argument in node.args.args]
        missing = [inspect.Parameter.empty] * (len(names) - len(node.args.defaults))
        defaults = [*missing, *map(_value, node.args.defaults)]
        is_classmethod = any(ast.unparse(mark) == "classmethod" for mark in node.decorator_list)
        arguments = tuple(zip(names, defaults, strict=True))[is_classmethod:]
        rest = node.args.kwarg.arg if node.args.kwarg is not None else ""
        found.append(Promised(page, line, node.name, (), arguments, rest, is_classmethod))
    return found


def _value(node: ast.expr) -> Any:
    word = ast.unparse(node)
    return WORDS[word] if word in WORDS else ast.literal_eval(node)


def ours(kind: type, name: str) -> tuple[tuple[tuple[str, Any], ...], str]:
    """What ours takes: the arguments that may be positional, and the name of those that are left."""
    made = getattr(kind, name)
    parameters = list(inspect.signature(made).parameters.values())
    if not inspect.ismethod(made):
        parameters = parameters[1:]
    positional = tuple((one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD)
    rest = "".join(one.name for one in parameters if one.kind is one.VAR_KEYWORD)
    return positional, rest
