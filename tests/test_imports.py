"""Imports point inward only: the protocol knows nobody, the runtime knows the protocol, the rest knows both.

Ring 1 is ``protocol/``, ``errors.py`` and ``_version.py``: pure, so it may use neither Trio nor clocks, chance and
sockets. Ring 2 is the runtime: everything else at the top of the package. Ring 3 is ``testing/`` and the command line
with its demo.
The built-in gateway in ``testing/`` is the judge of all the others, so it shares no code with them; only the
conformance checks beside it know the interfaces that they check.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trioshard"

# fmt: off
IMPURE = frozenset({
    "asyncio", "concurrent", "importlib", "multiprocessing", "queue", "random", "sched", "secrets", "select",
    "selectors", "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "time",
})
# fmt: on
"""Modules of the standard library that wait, talk to the world, read a clock or chance, or hide imports."""

NOT_FOR_USERS = frozenset({"test", "fuzz", "bench", "dev"})
"""The extras that are for work on trioshard."""

RING_1_NEEDS = frozenset({"msgspec", "backports", "compression", "zlib_ng"})


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    for_types_only: bool


def module_name(path: Path) -> str:
    """``trioshard/testing/_rules.py`` to ``trioshard.testing._rules``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def ring(module: str) -> int:
    """Return which ring a module of trioshard belongs to."""
    if is_under(module, "trioshard.protocol", "trioshard.errors", "trioshard._version"):
        return 1
    commands = is_under(
        module, "trioshard.cli", "trioshard.__main__", "trioshard._demo", "trioshard._simulation", "trioshard._soak"
    )
    if commands or is_under(module, "trioshard.testing") or module.startswith("trioshard._cli"):
        return 3
    return 2


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Find every import of a module, at any depth, and what is under ``if TYPE_CHECKING:``."""
    package = module if is_package else module.rpartition(".")[0]

    def walk(node: ast.AST, for_types_only: bool) -> Iterator[Import]:
        for name in named_by(node, package):
            yield Import(name, node.lineno, for_types_only)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from walk(child, True)
            children = node.orelse
        else:
            children = list(ast.iter_child_nodes(node))
        for child in children:
            yield from walk(child, for_types_only)

    yield from walk(ast.parse(source), False)


def named_by(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that one node imports."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=base, names=names, level=level):
            if level:
                above = package.split(".")[: len(package.split(".")) - level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in names:
                # ``from trioshard import errors`` is an import of ``trioshard.errors``.
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        case ast.Call(func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module")):
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def dependencies() -> frozenset[str]:
    """The packages that trioshard declares for its runtime."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {})
    lists = [project["dependencies"], *(extras[extra] for extra in extras if extra not in NOT_FOR_USERS)]
    names = {re.match(r"[\w-]+", requirement).group() for requirements in lists for requirement in requirements}
    return frozenset(name.replace("-", "_").lower() for name in names)


def complaint(module: str, found: Import) -> str | None:
    """Return what is wrong with an import, or ``None``."""
    target, top = found.module, found.module.partition(".")[0]
    if top == "trioshard":
        if ring(target) > ring(module):
            return "points outward"
        judge = is_under(module, "trioshard.testing") and module != "trioshard.testing.conformance"
        if judge and not is_under(target, "trioshard.testing", "trioshard._version"):
            return "the judge shares no code with the judged"
        return None
    if ring(module) == 1:
        if top in RING_1_NEEDS:
            return None
        if top in IMPURE:
            return None if top == "random" and found.for_types_only else "is not pure"
        return None if top in sys.stdlib_module_names else "is not needed by the protocol"
    if ring(module) == 2 and top not in sys.stdlib_module_names | dependencies() | RING_1_NEEDS:
        return "is not a declared dependency"
    return None


def complaints(source: str, module: str, *, is_package: bool = False) -> list[str]:
    return [
        f"{module}, line {found.line}: {found.module} {wrong}"
        for found in imports(source, module, is_package=is_package)
        if (wrong := complaint(module, found))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inward(module):
    path = MODULES[module]
    assert complaints(path.read_text(), module, is_package=path.name == "__init__.py") == []


def test_the_protocol_imports_nothing_by_a_back_door():
    for module, path in MODULES.items():
        if ring(module) == 1:
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not names & {"__import__", "exec", "eval"}


def test_all_rings_are_there():
    assert {ring(module) for module in MODULES} == {1, 2, 3}
    assert ring("trioshard") == ring("trioshard._shard") == ring("trioshard.events") == 2
    assert {ring(module) for module in ("trioshard.cli", "trioshard._cli_run", "trioshard._cli.run")} == {3}
    assert {ring(module) for module in ("trioshard._demo.bot", "trioshard.testing._rules")} == {3}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trioshard.protocol.machine", "import trio"),
        ("trioshard.protocol.machine", "import httpx"),
        ("trioshard.protocol.machine", "import time"),
        ("trioshard.protocol.machine", "from time import monotonic"),
        ("trioshard.protocol.machine", "import asyncio.events"),
        ("trioshard.protocol.machine", "def f():\n    import socket"),
        ("trioshard.protocol.machine", "if TYPE_CHECKING:\n    import ssl"),
        ("trioshard.protocol.machine", "from random import Random"),
        ("trioshard.protocol.machine", "if TYPE_CHECKING:\n    pass\nelse:\n    from random import Random"),
        ("trioshard.protocol.machine", "if TYPE_CHECKING:\n    from trioshard._shard import Shard"),
        ("trioshard.protocol.machine", "from trioshard import Shard"),
        ("trioshard.protocol.machine", "from .. import Shard"),
        ("trioshard.protocol.machine", "from ..testing import Gateway"),
        ("trioshard.protocol.machine", "import trioshard"),
        ("trioshard.protocol.machine", "try:\n    import orjson\nexcept ImportError:\n    pass"),
        ("trioshard.errors", "from trioshard.cli import main"),
        ("trioshard._shard", "import trioshard.testing"),
        ("trioshard._shard", "from trioshard import cli, testing"),
        ("trioshard._shard", "from . import testing"),
        ("trioshard._shard", "from .testing import Gateway"),
        ("trioshard._shard", "import importlib\nimportlib.import_module('trioshard.testing')"),
        ("trioshard._shard", "__import__('trioshard.cli')"),
        ("trioshard._shard", "import requests"),
        ("trioshard.testing._rules", "from trioshard.protocol.phases import SEND"),
        ("trioshard.testing._rules", "from trioshard import errors"),
        ("trioshard.testing._rules", "from ..protocol import phases"),
        ("trioshard.testing._rules", "import trioshard"),
        ("trioshard.testing._rules", "from trioshard.testing import conformance\nfrom trioshard import errors"),
    ],
)
def test_the_check_finds_what_points_outward(module, source):
    assert len(complaints(source, module)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trioshard.protocol.machine", "import math, msgspec\nfrom collections import deque"),
        ("trioshard.protocol.machine", "from trioshard import errors\nfrom trioshard.protocol import codec"),
        ("trioshard.protocol.machine", "from . import codec\nfrom .codec import scan\nfrom ..errors import QueueFull"),
        ("trioshard.protocol.machine", "if TYPE_CHECKING:\n    from random import Random"),
        ("trioshard._shard", "import random, time, trio, httpx, trio_websocket\nfrom trioshard.protocol import codec"),
        ("trioshard._shard", "from trioshard import errors\nfrom trioshard._sender import Sender"),
        ("trioshard.testing._rules", "import trio, pytest\nfrom trioshard.testing import _memory"),
        ("trioshard.testing._rules", "from . import _memory\nfrom trioshard._version import __version__"),
        ("trioshard.cli", "import trioshard\nfrom trioshard import testing"),
        ("trioshard.testing.conformance", "from trioshard.errors import ShardClaimed"),
    ],
)
def test_the_check_lets_through_what_points_inward(module, source):
    assert complaints(source, module) == []


def test_relative_imports_of_a_package_start_at_itself():
    assert complaints("from ._rules import RULES", "trioshard.testing", is_package=True) == []
    assert complaints("from .protocol import codec", "trioshard", is_package=True) == []
    assert complaints("from .testing import Gateway", "trioshard", is_package=True) != []
