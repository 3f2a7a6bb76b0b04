"""Changes the core in small ways and counts which changes its tests notice: `python -m tests.mutation --help`.

Each mutant runs in a fork of a process that has loaded the test tools and nothing of ours; an import hook gives it the
changed module, so that no file is touched. Left alone are texts, annotations, decorators and the bounds at the top of a
module: a test for the seventh digit of a limit would be noise. So is `assert_never`, which the type checkers watch.
"""

import argparse
import ast
import copy
import importlib.util
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, TypeVar

import hypothesis
import hypothesis.stateful
import networkx
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
CORE: Final = ROOT / "orchestrator" / "core"
PACKAGE: Final = "asterism.orchestrator.core"
CPU_S: Final = 180
"""Several times what the tests take: a mutant that never ends is noticed too."""
_NodeT = TypeVar("_NodeT", bound=ast.AST)

LOADED: Final[Sequence[ModuleType]] = (hypothesis, hypothesis.stateful, networkx, pytest)
"""What every fork starts with."""

SWAPS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.Continue: ast.Break,
    ast.Break: ast.Continue,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file."""

    path: Path
    unchanged: ast.Module
    place: int
    """The id of the node that is replaced; 0 for none."""
    replacement: ast.AST
    line: int
    change: str

    @property
    def tree(self) -> ast.Module:
        """The changed file; made when it is run, for a copy of each would take longer than most tests."""
        return ast.fix_missing_locations(copy.deepcopy(self.unchanged, {self.place: self.replacement}))

    @property
    def module(self) -> str:
        return f"{PACKAGE}.{self.path.stem}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = _left_alone(tree)
    places = [node for node in ast.walk(tree) if id(node) not in skipped]
    for node in places:
        for change, replacement in _changes(node):
            yield Mutant(path, tree, id(node), replacement, getattr(node, "lineno", 0), change)


def _left_alone(tree: ast.Module) -> set[int]:
    """Ids of the nodes in annotations, decorators and bounds at the top of the module, and of what is never reached."""
    roots: list[ast.AST] = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign | ast.Import)]
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=ast.expr() as annotation):
                roots.append(annotation)
            case ast.FunctionDef(returns=returns, decorator_list=decorators):
                roots.extend((*decorators, *([] if returns is None else [returns])))
            case ast.ClassDef(decorator_list=decorators):
                roots.extend(decorators)
            case ast.Expr(value=ast.Call(func=ast.Name("assert_never"))):
                roots.append(node)
            case _:
                pass
    return {id(node) for root in roots for node in ast.walk(root)}


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in SWAPS:
            yield _swapped(node, "ops", [SWAPS[type(operator)]()], operator)
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in SWAPS:
            yield _swapped(node, "op", SWAPS[type(operator)](), operator)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not removed", operand
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "minus removed", operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _at(ast.Constant(not value), node)
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            yield f"{value} -> {value + 1}", _at(ast.Constant(value + 1), node)
        case (
            ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test)
            | ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call() as test)
        ):
            negated = copy.copy(node)
            negated.test = _at(ast.UnaryOp(ast.Not(), test), test)
            yield "test negated", negated
        case ast.match_case(guard=ast.expr()):
            unguarded = copy.copy(node)
            unguarded.guard = None
            yield "guard removed", unguarded
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returns None", _at(ast.Return(ast.Constant(None)), node)
        case ast.Expr(value=ast.Call()) | ast.Delete() | ast.Raise():
            yield f"{type(node).__name__.lower()} removed", _at(ast.Pass(), node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "assignment removed", _at(ast.Pass(), node)
        case ast.Continue() | ast.Break():
            yield f"{type(node).__name__} swapped", _at(SWAPS[type(node)](), node)
        case _:
            pass


def _swapped(node: ast.AST, field: str, value: object, old: ast.AST) -> tuple[str, ast.AST]:
    changed = copy.copy(node)
    setattr(changed, field, value)
    new = value[0] if isinstance(value, list) else value
    return f"{type(old).__name__} -> {type(new).__name__}", changed


def _at(new: _NodeT, old: ast.AST) -> _NodeT:
    return ast.copy_location(new, old)


class _Finder:
    """Gives the changed module when it is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return spec_from_file_location(name, self._mutant.path, loader=_Loader(name, self._mutant))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._mutant.tree, self._mutant.path, "exec")


def _run_tests(mutant: Mutant, tests: Sequence[str]) -> int:
    """In a fork: the exit status of the tests against the mutant."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    # Without a database of examples: what a mutant broke must not come back in ordinary runs.
    # Without shrinking: that it fails is enough.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutation")
    sys.meta_path.insert(0, _Finder(mutant))
    # That hypothesis is loaded already is meant so.
    options = ["-q", "-x", "--timeout=0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    # Most mutants are noticed by the tests of their module, in a fraction of the time that all tests take.
    own = ROOT / "tests" / "core" / f"test_{mutant.path.stem}.py"
    rounds = [[str(own)], tests] if own.exists() else [tests]
    return next((status for chosen in rounds if (status := int(pytest.main([*options, *chosen])))), 0)


def survivors(chosen: Sequence[Mutant], tests: Sequence[str], jobs: int) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether the tests passed in spite of it; in the order in which they end."""
    waiting = list(reversed(chosen))
    running: dict[int, Mutant] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            pid = os.fork()
            if pid == 0:
                # The core never waits, so a mutant that never ends computes, and this ends it.
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
                os._exit(_run_tests(mutant, tests))
            running[pid] = mutant
        pid, status = os.wait()
        mutant = running.pop(pid)
        yield mutant, os.waitstatus_to_exitcode(status) == 0


def main() -> int:
    """Prints each surviving mutant and the score; ends with 1 below the bar, with 2 when nothing can be told."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tests", nargs="+", default=["tests/core", "tests/golden"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bar", type=float, default=90.0, help="per cent that must be noticed")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn with --seed, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="+", default=sorted(path.name for path in CORE.glob("*.py")))
    chosen = parser.parse_args()
    assert importlib.util.find_spec("asterism") is not None, "install asterism first"
    every = [mutant for name in chosen.files for mutant in mutants(CORE / name)]
    if chosen.sample is not None and chosen.sample < len(every):
        every = random.Random(chosen.seed).sample(every, chosen.sample)
    tree = ast.parse((CORE / "apply.py").read_text(encoding="utf-8"))
    unchanged = Mutant(CORE / "apply.py", tree, 0, tree, 0, "no change")
    if not all(survived for _, survived in survivors([unchanged], chosen.tests, 1)):
        print("the tests fail without any change; mend that first", file=sys.stderr)
        return 2
    noticed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for count, (mutant, survived) in enumerate(survivors(every, chosen.tests, chosen.jobs), start=1):
        total[mutant.path.name] += 1
        noticed[mutant.path.name] += not survived
        if survived:
            place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
            print(f"[{count}/{len(every)}] survived: {place}: {mutant.change}", flush=True)
    for name in total:
        print(f"{name:24} {noticed[name]:4} of {total[name]:4}")
    score = 100.0 * noticed.total() / max(1, total.total())
    print(f"noticed {noticed.total()} of {total.total()} mutants: {score:.1f} %")
    return 0 if score >= chosen.bar else 1


if __name__ == "__main__":
    sys.exit(main())
