"""Files, modules and commands that a page names exist. `CHANGELOG.md` also names those of versions before."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import pytest

from churn_assets_tests.strategies import ROOT

PACKAGE = ROOT / "churn_assets"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Where a relative path of a page may begin.
BASES = (ROOT, PACKAGE, ROOT / "churn_assets_tests", ROOT / "docs")
# Pages that name folders of the package; elsewhere `monitoring/` is a folder of the home.
ABOUT_CODE = ("CONTRIBUTING.md", "0007-dependencies.md", "0013-one-folder-a-subject.md", "0014-one-plotting-path.md")
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
CODE = re.compile(r"`([^`\n]+)`")
# `monitoring.label_floor` is a key of a contract, `features.json` a file of a bundle.
KEY_OR_FILE = re.compile(
    r"(monitoring|release|quality)\.[a-z_]+|[a-z_]+\.(toml|json|npz|ubj|parquet|db|duckdb|html|csv|md)"
)


def names_in(page: Path) -> list[str]:
    return CODE.findall(page.read_text(encoding="utf-8"))


def is_path(name: str, page: Path) -> bool:
    """Whether `name` is a path in the repository that has to exist."""
    if re.fullmatch(r"(churn_assets|churn_assets_tests|benchmarks|examples)/[\w./<>-]*|[\w./-]+\.py", name):
        return True
    first, slash, _ = name.partition("/")
    return bool(slash) and page.name in ABOUT_CODE and first in FOLDERS


def path_exists(name: str) -> bool:
    pattern = re.sub(r"<\w+>", "*", name).rstrip("/")
    return any(next(base.glob(pattern), None) is not None for base in BASES)


def object_exists(dotted: str) -> bool:
    """Whether the package has the module `dotted`, or a module before its last one or two parts that defines them."""
    parts = dotted.removeprefix("churn_assets.").split(".")
    for count in range(len(parts), 0, -1):
        place = PACKAGE.joinpath(*parts[:count])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.exists():
            rest = parts[count:]
            return not rest or rest[0] in defined_in(file)
    return False


def defined_in(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def dotted_names(text: str) -> list[str]:
    """`churn_assets.a.b` anywhere, and `a.b` between backticks where `a` is a folder of the package."""
    names = re.findall(r"\bchurn_assets(?:\.[A-Za-z_]\w*)+", text)
    for name in CODE.findall(text):
        match = re.match(r"([a-z_]+)(?:\.[A-Za-z_]\w*)+(?=\(|$)", name)
        if match and match[1] in FOLDERS and not KEY_OR_FILE.fullmatch(match[0]):
            names.append(match[0])
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page):
    missing = [name for name in names_in(page) if is_path(name, page) and not path_exists(name)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_or_function_that_a_page_names_exists(page):
    assert [name for name in dotted_names(page.read_text(encoding="utf-8")) if not object_exists(name)] == []


def test_every_module_that_the_changelog_says_to_import_now_exists():
    """The last column of its table of imports, `| before | now |`."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    now = [row.split("|")[2] for row in text.splitlines() if row.startswith(("| `churn_assets.", "  | `churn_assets."))]
    names = [name for cell in now for name in dotted_names(cell)]
    assert names
    assert [name for name in names if not object_exists(name)] == []


def test_every_command_that_a_page_names_exists():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of click, in what typer imports
        from typer.main import get_command

        from churn_assets.cli.app import app

    commands = getattr(get_command(app), "commands", {})
    unknown = []
    for page in PAGES:
        for name, child in re.findall(r"(?:`|^)churn ([a-z]+)(?: ([a-z]+))?", page.read_text(encoding="utf-8"), re.M):
            children = getattr(commands.get(name), "commands", None)
            if name not in commands or (children and child and child not in children):
                unknown.append(f"{page.name}: churn {name} {child}")
    assert unknown == []
