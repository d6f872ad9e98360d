"""Break lines of source one at a time, and say which breaks no test notices.

    python tests/mutation.py src/fairtrain/lagrangian/margins.py --tests tests/lagrangian

A mutant flips a comparison, swaps an operator, moves a number, drops a ``not``, ... Its tests run
in a fork of this process, which has already imported what they import from elsewhere, over a copy
of the checkout. Not collected by pytest.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum",
         "maximum": "minimum", "argmin": "argmax", "argmax": "argmin"}  # fmt: skip


def mutants(source: str) -> list[tuple[int, str, str]]:
    """All mutants of a source, as line, description and text."""
    tree = ast.parse(source)
    nodes = [node for top in tree.body for node in _code(top)]
    made = []
    for place, node in enumerate(nodes):
        for kind in range(len(_changes(node))):
            twin = copy.deepcopy(tree)
            other = [n for top in twin.body for n in _code(top)][place]
            before = ast.unparse(node)
            _changes(other)[kind]()
            if ast.unparse(twin) != ast.unparse(tree):
                after = ast.unparse(other)
                made.append((node.lineno, f"{before}  ->  {after}", ast.unparse(twin)))
    return made


def _code(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Expressions and statements, without imports, annotations and texts."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _changes(node: ast.AST) -> list:
    """What can be done to a node, in place."""
    changes: list = []

    def put(owner: object, name: str, value: object) -> None:
        changes.append(lambda: setattr(owner, name, value))

    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPS:
            put(node, "ops", [SWAPS[type(op)](), *rest])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            put(node, "op", SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            put(node, "op", ast.UAdd()) if isinstance(node.op, ast.USub) else changes.append(
                lambda: _negate(node)
            )
        case ast.Constant(value=bool() as value):
            put(node, "value", not value)
        case ast.Constant(value=int() | float() as value):
            put(node, "value", value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            put(node.func, "id", CALLS[name])
        case ast.Call(func=ast.Attribute(attr=name)) if name in CALLS:
            put(node.func, "attr", CALLS[name])
        case ast.IfExp():
            changes.append(lambda: _swap(node))
    return changes


def _negate(node: ast.UnaryOp) -> None:
    """``not x`` and ``~x`` become ``not not x``: x as a truth value, or x."""
    node.operand = ast.UnaryOp(op=type(node.op)(), operand=node.operand)


def _swap(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


def run(folder: Path, tests: list[str], timeout: float, loaded: Path | None = None) -> str:
    """Run tests in a fork: "passed", "failed" or "timeout"."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            code = _pytest(folder, tests)
            if loaded is not None:
                loaded.write_text(json.dumps(sorted(sys.modules)))
        finally:  # whatever a mutant raises, this fork must not go on as the parent
            os._exit(code)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "passed" if os.waitstatus_to_exitcode(status) == 0 else "failed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _pytest(folder: Path, tests: list[str]) -> int:
    os.chdir(folder)
    sys.path[:0] = [str(folder / "src"), str(folder)]
    sys.dont_write_bytecode = True
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import pytest

    # Plugins were imported before, by the parent: they cannot rewrite their asserts any more.
    settings = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    return int(pytest.main(["-x", "-q", "-n", "0", *settings, *tests]))


def main() -> None:
    """Mutate, test, and print survivors and score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--sample", type=int, default=25, help="mutants of a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of a mutant")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name,
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        shutil.copy(ROOT / "pyproject.toml", folder)
        loaded = folder / "loaded.json"
        if run(folder, options.tests, 10 * options.timeout, loaded) != "passed":
            sys.exit("the tests fail on the unchanged source; mend that first.")
        for name in json.loads(loaded.read_text()):
            if name.partition(".")[0] not in ("fairtrain", "tests", "__main__"):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        if run(folder, options.tests, options.timeout) != "passed":
            sys.exit("the tests fail when modules are imported beforehand.")
        killed = total = 0
        for source in options.sources:
            path = folder / source.resolve().relative_to(ROOT)
            text = path.read_text()
            every = mutants(text)
            some = random.Random(options.seed).sample(every, min(options.sample, len(every)))
            alive = []
            for line, what, changed in sorted(some):
                path.write_text(changed)
                if run(folder, options.tests, options.timeout) == "passed":
                    alive.append(f"  {source}:{line}: {what}")
            path.write_text(text)
            killed, total = killed + len(some) - len(alive), total + len(some)
            _say(f"{source}: {len(some) - len(alive)} of {len(some)} killed", *alive)
        _say(f"score: {killed} of {total} ({killed / max(total, 1):.0%})")


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
