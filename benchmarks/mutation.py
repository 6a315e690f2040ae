"""Mutants of the pure decision code, and how many of them the tests notice.

`python -m benchmarks.mutation [sample of a module] [seed]`. A mutant differs from the code by one operator, constant or
condition. Each runs in a child of this process that has the libraries imported already: the fast tests first, the slow
ones only if those pass. Results are appended to `mutation.jsonl` in the folder that CHURN_MUTATION names, else in
`data/var`; what stands there for the same code is not run again, so the command can be stopped and repeated.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 300
ERROR = 9  # of a child that could not run the tests at all


@dataclass(frozen=True)
class Target:
    """A module, and the tests that must notice its mutants: the fast ones, then all of them."""

    module: str
    tests: str
    slow: str = ""  # an expression of pytest's -k


TARGETS = (
    Target("churn_assets.promotion.registration", "promotion/test_registration.py"),
    Target("churn_assets.promotion.retraining", "promotion/test_retraining.py"),
    Target("churn_assets.promotion.gate.judge", "promotion/gate/test_judge.py", "equal_and_worse or two_models_never"),
    Target("churn_assets.monitoring.drift.univariate", "monitoring/drift/test_univariate.py", "two_hundred"),
)
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: which place of its kind in the tree, in which line, from what to what."""

    index: int
    line: int
    change: str


UNCHANGED = Mutant(-1, 0, "nothing")


class Mutator(ast.NodeTransformer):
    """Counts the places that can be changed; changes number `at`, none if it is -1."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.count, self.line = at, 0, 0
        self.mutants: list[Mutant] = []

    def _here(self, change: str) -> bool:
        self.mutants.append(Mutant(self.count, self.line, change))
        self.count += 1
        return self.at == self.count - 1

    def visit(self, node: ast.AST) -> ast.AST:
        self.line = getattr(node, "lineno", self.line)
        if isinstance(node, ast.JoinedStr | ast.AnnAssign) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                node.value = self.visit(node.value)
            return node  # texts, annotations and docstrings decide nothing
        visited: ast.AST = super().visit(node)
        return visited

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(child) for child in node.body]  # type: ignore[misc]  # a decorator decides nothing
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(default) for default in node.defaults]  # type: ignore[misc]  # an expression stays one
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for number, operator in enumerate(node.ops):
            other = SWAPS[type(operator)]
            if self._here(f"{type(operator).__name__} -> {other.__name__}"):
                node.ops[number] = other()  # type: ignore[call-overload]  # an operator of the same family
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        other = SWAPS[type(node.op)]
        if self._here(f"{type(node.op).__name__} -> {other.__name__}"):
            node.op = other()  # type: ignore[assignment]  # an operator of the same family
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        other = SWAPS.get(type(node.op))
        if other is not None and self._here(f"{type(node.op).__name__} -> {other.__name__}"):
            node.op = other()  # type: ignore[assignment]  # an operator of the same family
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and self._here("not removed"):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self._here(f"{node.value} -> {not node.value}"):
                return ast.Constant(not node.value)
        elif isinstance(node.value, int | float) and self._here(f"{node.value} -> {node.value + 1}"):
            return ast.Constant(node.value + 1)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if self._here("other branch"):
            node.body, node.orelse = node.orelse, node.body
        return node


def run_mutant(target: Target, source: str, mutant: Mutant, arguments: list[str]) -> str:
    """'killed', 'survived', 'timeout' or 'error', as the tests in a child end."""
    child = os.fork()
    if child == 0:
        code = ERROR
        try:
            code = _in_child(target, source, mutant, arguments)
        finally:
            os._exit(code)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return {0: "survived", 1: "killed", 2: "killed"}.get(os.waitstatus_to_exitcode(status), "error")
        time.sleep(0.02)  # waitpid has no timeout
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _in_child(target: Target, source: str, mutant: Mutant, arguments: list[str]) -> int:
    import pytest

    tree = Mutator(mutant.index).visit(ast.parse(source))
    module = importlib.import_module(target.module)
    try:
        exec(compile(ast.fix_missing_locations(tree), str(module.__file__), "exec"), module.__dict__)
    except Exception:
        return 1  # a mutant that cannot be imported is noticed
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return int(pytest.main([*options, *arguments]))


def stages(target: Target) -> Iterator[list[str]]:
    """Arguments of pytest: the fast tests, then the slow ones."""
    file = str(ROOT / "churn_assets_tests" / target.tests)
    if not target.slow:
        yield [file]
        return
    yield [file, "-k", f"not ({target.slow})"]
    yield [file, "-k", target.slow]


def preload() -> None:
    """Import the libraries that the tests need, once for all children; our own modules are imported by each."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("churn_assets_tests.trained")
    for target in TARGETS:
        importlib.import_module("churn_assets_tests." + target.tests.removesuffix(".py").replace("/", "."))
    for name in [name for name in sys.modules if name.startswith("churn_assets")]:
        del sys.modules[name]


def known_results(file: Path) -> dict[str, str]:
    """Results of earlier runs by key: module, hash of its code and tests, number of the mutant."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {entry["key"]: entry["result"] for entry in map(json.loads, lines)}


def result_of(target: Target, source: str, mutant: Mutant) -> str:
    """The result of the first stage that notices the mutant, else 'survived'."""
    result = "survived"
    for arguments in stages(target):
        result = run_mutant(target, source, mutant, arguments)
        if result == "error":
            raise SystemExit(f"{target.tests} did not run with the mutant of line {mutant.line}")
        if result != "survived":
            break
    return result


def survivors_of(target: Target, sample: int, seed: int, file: Path) -> tuple[list[Mutant], int, int]:
    """Mutants of the sample that no test noticed, the size of the sample, and how many mutants there are."""
    source = (ROOT / f"{target.module.replace('.', '/')}.py").read_text(encoding="utf-8")
    tests = (ROOT / "churn_assets_tests" / target.tests).read_text(encoding="utf-8")
    digest = hashlib.sha256((source + tests).encode()).hexdigest()[:12]
    if result_of(target, source, UNCHANGED) != "survived":
        raise SystemExit(f"{target.tests} fails without a mutant; the tests must pass first")
    every = Mutator()
    every.visit(ast.parse(source))
    chosen = random.Random(seed).sample(every.mutants, min(sample, len(every.mutants)))
    known, survivors = known_results(file), []
    for mutant in sorted(chosen, key=lambda m: m.index):
        key = f"{target.module}:{digest}:{mutant.index}"
        if key not in known:
            known[key] = result_of(target, source, mutant)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"key": key, "result": known[key]}) + "\n")
        if known[key] == "survived":
            survivors.append(mutant)
    return survivors, len(chosen), len(every.mutants)


def main() -> None:
    sample, seed = (int(text) for text in (*sys.argv[1:], *("40", "1")[len(sys.argv) - 1 :]))
    folder = Path(os.environ.get("CHURN_MUTATION") or ROOT / "data" / "var")
    folder.mkdir(parents=True, exist_ok=True)
    preload()
    noticed = tried = 0
    for target in TARGETS:
        survivors, chosen, possible = survivors_of(target, sample, seed, folder / "mutation.jsonl")
        noticed, tried = noticed + chosen - len(survivors), tried + chosen
        name = target.module.removeprefix("churn_assets.")
        print(f"{name}: {chosen - len(survivors)} of {chosen} mutants noticed ({possible} possible, seed {seed})")
        for mutant in survivors:
            print(f"  line {mutant.line}: {mutant.change}", flush=True)
    print(f"all: {noticed} of {tried} noticed, {noticed / max(tried, 1):.0%}")


if __name__ == "__main__":
    main()
