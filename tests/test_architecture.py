"""Rooms import one way, and no module imports itself by a detour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fairtrain

SOURCE = Path(fairtrain.__file__).parent

# A room may import those above it. Also the order of docs/architecture.md.
ROOMS = (
    (
        "exceptions",
        "_imports",
        "_text",
        "_versions",
        "_archives",
        "_atomic",
        "_figures",
        "_parameters",
        "_warnings",
    ),
    ("data",),
    ("constraints",),
    ("metrics",),
    ("lagrangian",),
    ("estimator", "_facade"),
    ("plugin",),
    ("reductions",),
    ("calibration",),
    ("plotting",),
    ("boosting",),
    ("losses",),
    ("training",),
    ("persistence",),
    ("tradeoff",),
    ("monitoring",),
    ("report",),
    ("integrations",),
    ("datasets",),
    ("_commands",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(("fairtrain", *parts)).removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of fairtrain that a file imports, inside functions too; not for types alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inner]
        else:
            continue
        # The package itself only loads names late: whoever asks it for its version needs no room.
        yield from (name for name in names if name in known and name != "fairtrain")


KNOWN = modules()
GRAPH = {name: set(imports(path, KNOWN)) for name, path in KNOWN.items() if name != "fairtrain"}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in GRAPH} <= set(LEVEL)


@pytest.mark.parametrize("name", sorted({room(name) for name in GRAPH}))
def test_rooms_import_one_way(name: str) -> None:
    against = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in sorted(others)
        if room(module) == name and room(other) != name and LEVEL[room(other)] > LEVEL[name]
    ]
    assert not against


def test_no_module_imports_itself_by_a_detour() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
