"""The documentation is run, and what it lists is compared with what there is."""

import ast
import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import get_args

import httpx
import psutil
import pytest

from churn_assets.contract import limits, model
from churn_assets.contract.check import REPAIRS
from churn_assets.contract.expressions import FUNCTIONS
from churn_assets.contract.limits import Outliers, Threshold
from churn_assets.contract.model import PROSE, Format, Kind, Role, Severity
from churn_assets.settings import Settings
from churn_assets_tests.cli.test_shell import MAKEFILE, PYPROJECT, TARGETS
from churn_assets_tests.serving.client import served, wait_for
from churn_assets_tests.strategies import ROOT
from churn_assets_tests.test_errors import CLASSES

OUTSIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*OUTSIDE, *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("bash", "console", "python", "toml")
CLIENT = "protocol.md"  # its client needs a service
NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*\Z")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

# What stands for "the user's own table" in the documentation.
SOURCE = "generated://store?rows=2500&seed=7"

# The real one would install an environment, and run the tests that run this. A graph that was made is enough.
QUICK_MAKE = """#!/bin/sh
case "$1" in
  run) test -f data/var/champion.json || exec churn run ;;
  serve) echo $$ > serve.pid; exec churn serve > serve.log 2>&1 ;;
  TARGETS) ;;
  *) exit 2 ;;
esac
"""


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, its text, and why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        reason = NOT_RUN.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[1], match[2], reason[1] if reason else None))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def run_blocks(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and not block.not_run]


def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows_of(name: str, heading: str = "") -> dict[str, list[str]]:
    """First cell -> the other cells, of the tables below `heading` of a page; `a`, `b` make two rows."""
    text = page_text(name)
    if heading:
        start = text.index(f"\n## {heading}")
        end = text.find("\n## ", start + 1)
        text = text[start : end if end > 0 else len(text)]
    found = {}
    for line in text.splitlines():
        cells = re.split(r"\s*\|\s*", line.strip())[1:-1]
        if cells and cells[0].startswith("`"):
            found.update(dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1:]))
    return found


# -- the blocks run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what the documentation speaks of, with a small table, and a `make` that is quick."""
    root = tmp_path_factory.mktemp("project")
    for name in ("contracts", "docs"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("workspace.yaml", "dagster.yaml", "Makefile"):
        shutil.copy(ROOT / name, root)
    tools = root / "tools"
    tools.mkdir()
    script = tools / "make"
    script.write_text(QUICK_MAKE.replace("TARGETS", "|".join(sorted(TARGETS))))
    script.chmod(0o755)
    (root / "data" / "raw").mkdir(parents=True)
    done = shell("make run", root)
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "data" / "raw" / "customers.csv").write_text(customers_csv(root))
    return root


def customers_csv(root: Path) -> str:
    """A table of customers as a user would have it: the rows just generated, labels aside."""
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    table = pq.read_table(root / "data" / "var" / "assets" / "validated_customers.parquet").slice(0, 50)
    path = root / "some.csv"
    pa_csv.write_csv(table.drop_columns(["churned"]), path)
    return path.read_text()


def shell(command: str, root: Path, errors_too: bool = False, port: int = 3000) -> subprocess.CompletedProcess:
    """`command` in bash, in the project, as a user with `.venv` active would type it; `port` stands for 3000."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "DAGSTER_"))}
    path = os.pathsep.join([str(root / "tools"), str(Path(sys.executable).parent), environment["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(":3000", f":{port}")],
        cwd=root,
        env={
            **environment,
            "PATH": path,
            "CHURN_SOURCE": SOURCE,
            "CHURN_PORT": str(port),
            "CHURN_GRPC_PORT": "0",
            "COLUMNS": "500",
            "NO_COLOR": "1",
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors_too else subprocess.PIPE,
        check=False,
    )


@pytest.mark.parametrize("block", [b for b in run_blocks("bash") if "curl" not in b.text], ids=str)
def test_a_block_of_commands_runs(block, project):
    done = shell(block.text, project)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", [b for b in run_blocks("bash") if "curl" in b.text], ids=str)
def test_a_block_that_asks_the_service_ends_in_an_answer(block, project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        done = shell(block.text, project, port=port)
        log = project / "serve.log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "it was not started")
        answer = json.loads(done.stdout)
    finally:
        stop(project / "serve.pid")
    assert 0.0 <= answer["churn_probability"] <= 1.0
    assert [warning["column"] for warning in answer["warnings"]][-1] == "as_of"
    kept = shell("churn log count", project)
    assert "1" in kept.stdout, kept.stderr


def stop(pid_file: Path) -> None:
    """End the service that a block has started, and wait for it."""
    if not pid_file.exists():
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        server = psutil.Process(int(pid_file.read_text()))
        server.terminate()
        server.wait(20)
    pid_file.unlink()


@pytest.mark.parametrize("block", run_blocks("console"), ids=str)
def test_a_session_shows_what_it_says(block, project):
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, wanted = part.partition("\n")
        shown = shell(command, project, errors_too=True).stdout.strip()
        pattern = ".*".join(map(re.escape, wanted.strip().split("...")))
        assert re.fullmatch(pattern, shown, re.S), f"$ {command}\n{shown}"


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.page == p for b in run_blocks("python")) and p.name != CLIENT],
    ids=lambda p: p.name,
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, project):
    text = "\n".join(block.text for block in run_blocks("python") if block.page == page)
    done = shell(f"python -W error - <<'END_OF_PAGE'\n{text}\nEND_OF_PAGE", project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_client_of_the_protocol_has_ten_lines_and_the_answer_of_predict(project, tmp_path):
    (block,) = (block for block in run_blocks("python") if block.page.name == CLIENT)
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
    (readme,) = (block for block in run_blocks("bash") if "curl" in block.text)
    customer = json.loads(re.search(r"\{.*\}", readme.text, re.S)[0])
    home = tmp_path / "home"
    shutil.copytree(project / "data" / "var" / "bundles", home / "bundles")
    shutil.copy(project / "data" / "var" / "champion.json", home)
    with served(tmp_path, home) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        done = shell(f"python -W error - <<'END'\n{block.text}\nEND", project, port=int(url.rpartition(":")[2]))
        assert done.returncode == 0, done.stderr
        expected = httpx.post(f"{url}/predict", json=customer).raise_for_status().json()["churn_probability"]
    assert float(done.stdout.strip("[]\n")) == pytest.approx(expected, abs=1e-8)  # numpy prints 8 digits


def test_every_block_of_toml_is_toml():
    for block in run_blocks("toml"):
        tomllib.loads(block.text)


def test_few_blocks_are_not_run_and_each_says_why():
    assert all(block.language in (*RUN, "text", "mermaid") for block in BLOCKS), "a fence without a language"
    assert sum(block.not_run is not None for block in BLOCKS) <= 3


# -- what is named is there --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


def test_every_page_is_reached_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)[^)]*\)", page.read_text(encoding="utf-8"))
        todo += [(page.parent / link).resolve() for link in links]
    assert {page.resolve() for page in PAGES} <= seen


def test_the_site_is_built_without_a_broken_link_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert (tmp_path / "search" / "search_index.json").exists()
    loaded = re.compile(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)")
    for page in tmp_path.rglob("*.html"):
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name


def test_every_make_target_that_is_named_exists():
    named = set().union(*(re.findall(r"`?make ([a-z-]+)", page.read_text(encoding="utf-8")) for page in PAGES))
    in_commands = {
        words[1]
        for block in BLOCKS
        if block.language == "bash"
        for line in block.text.splitlines()
        if line.startswith("make ") and (words := shlex.split(line, comments=True))
    }
    assert in_commands <= TARGETS
    assert {"run", "test", "test-deploy", "ui", "bench", "clean"} <= named
    assert set(re.findall(r"`make ([a-z-]+)`", "".join(p.read_text(encoding="utf-8") for p in PAGES))) <= TARGETS
    assert MAKEFILE


def test_the_graph_in_the_readme_is_the_graph_there_is():
    """Draw it again with `python docs/draw_graph.py`."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import draw_graph
    finally:
        sys.path.remove(str(ROOT / "docs"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert draw_graph.drawn(text) == text


# -- what there is is named --------------------------------------------------------------------------

TABLES = {
    "`[source]`": model.Source,
    "`[label]`": model.Label,
    "`[time]`": model.Time,
    "`[[columns]]`": model.Column,
    "`[features]`": model.Feature,
    "`[[rules]]`": model.Rule,
    "`[value]`": limits.Value,
    "`[split]`": limits.Split,
    "`[quality]`": limits.Quality,
    "`[audit]`": limits.Audit,
    "`[monitoring]`": limits.Monitoring,
    "`[release]`": limits.Release,
}


@pytest.mark.parametrize(("heading", "table"), TABLES.items(), ids=TABLES)
def test_every_key_of_the_contract_is_documented_with_its_default(heading, table):
    told = rows_of("contract.md", heading)
    fields = {f.name: f for f in dataclasses.fields(table)}
    extra = {*Kind, *Role} if table is model.Column else set()
    if table is limits.Value:
        del fields["save_rates"]  # the other forms of save_rate
    if table is model.Feature:
        del fields["name"]  # it stands left of the equals sign
    assert set(told) - extra == set(fields)
    for name, field in fields.items():
        default = told[name][0]
        assert (default == "") == (field.default is dataclasses.MISSING), f"{name}: default {default!r}"
        if isinstance(field.default, bool | int | float) or field.default == "":
            assert default == f"`{_toml(field.default)}`", name
        assert ("(prose)" in told[name][1]) == (name in PROSE - {"excluded", "changeable"}), name


def _toml(value) -> str:
    return str(value).lower() if isinstance(value, bool) else '""' if value == "" else str(value)


def test_every_table_of_the_contract_is_documented():
    documented = {table.__name__ for table in TABLES.values()}
    made_of = {n for f in dataclasses.fields(model.Contract) for n in re.findall(r"[A-Z]\w+", str(f.type))}
    assert made_of - {"Path", "None"} == documented


WORDS = {
    "kinds": Kind,
    "roles": Role,
    "severity": Severity,
    "formats": get_args(Format),
    "repairs": REPAIRS,
    "thresholds": get_args(Threshold),
    "outliers": get_args(Outliers),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_every_word_the_contract_allows_is_documented(words):
    text = page_text("contract.md")
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_function_of_the_language_is_documented_with_its_arguments():
    told = rows_of("contract.md", "The language")
    calls = {re.match(r"\w+", call)[0]: call for call in told}
    assert set(calls) == set(FUNCTIONS)
    for name, call in calls.items():
        parameters = FUNCTIONS[name]
        arguments = call[call.index("(") + 1 : -1].split(", ")
        assert ("..." in arguments) == isinstance(parameters, str)
        assert isinstance(parameters, str) or len(arguments) == len(parameters), call


def variables_read() -> set[str]:
    """Every CHURN_ variable that the package names in a string."""
    found = set()
    for path in (ROOT / "churn_assets").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if re.fullmatch(r"CHURN_[A-Z_]+", node.value) else set()
    return found


def test_every_setting_is_documented_and_no_other():
    assert set(rows_of("settings.md")) - {".csv", ".parquet"} >= variables_read()
    assert {name for name in rows_of("settings.md") if name.startswith("CHURN_")} == variables_read()


def test_the_defaults_of_the_settings_are_those_that_are_told():
    told = rows_of("settings.md")
    settings = Settings.from_environ({}, cwd=Path("/"))
    assert told["CHURN_HOME"][0] == f"`{settings.home.relative_to(ROOT)}`"
    assert told["CHURN_CONTRACT"][0] == f"`{settings.contract_path.relative_to(ROOT)}`"
    assert told["CHURN_EXECUTOR"][0] == f"`{settings.executor}`"
    assert told["CHURN_RETRAIN_CRON"][0] == f"`{settings.retrain_cron}`"
    assert told["CHURN_SCORE_CRON"][0] == f"`{settings.score_cron}`"


def test_every_error_is_documented_with_what_to_do():
    told = rows_of("errors.md")
    assert set(told) == set(CLASSES)
    for name, (_, remedy) in told.items():
        assert remedy or CLASSES[name].__subclasses__(), name


def definitions():
    from churn_assets.definitions import defs

    return defs


def test_every_asset_is_documented_with_its_group_and_its_checks():
    graph = definitions().resolve_asset_graph()
    told = rows_of("assets.md")
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        group, _, checks = told[key.to_user_string()]
        wanted = {
            f"`{c.name}`" + (" (blocking)" if graph.get(c).blocking else "")
            for c in graph.asset_check_keys
            if c.asset_key == key
        }
        assert group == node.group_name
        assert set(checks.split(", ")) == wanted, key


def test_every_job_schedule_and_sensor_is_documented():
    found = definitions()
    names = {d.name for many in (found.jobs, found.schedules, found.sensors) for d in many}
    assert names <= set(rows_of("assets.md"))


def test_every_column_of_the_call_list_is_documented():
    from churn_assets.scoring.call_list import SCHEMA

    assert list(rows_of("assets.md", "The call list")) == SCHEMA.names


def test_every_file_of_a_bundle_is_documented():
    from churn_assets.scoring import bundle
    from churn_assets.storage import sealed

    names = {v for m in (bundle, sealed) for k, v in vars(m).items() if k.isupper() and isinstance(v, str)}
    told = {name.rstrip("/") for name in rows_of("training.md", "The bundle")}
    assert {n for n in names if "." in n} <= told


def test_every_candidate_and_threshold_is_documented():
    from churn_assets.training.candidate import NAMES

    assert set(NAMES) | set(get_args(Threshold)) <= set(rows_of("training.md"))


def test_every_dependency_has_its_reason():
    told = rows_of("decisions/0007-dependencies.md")
    listed = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["dev"]]
    listed += PYPROJECT["project"]["optional-dependencies"]["benchmarks"]
    assert set(told) == {re.match(r"[A-Za-z0-9-]+", text)[0] for text in listed}


def test_the_architecture_page_has_the_layers_and_the_folders_that_there_are():
    text = page_text("architecture.md")
    (layers,) = (c["layers"] for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert "\n".join(layer.replace("churn_assets.", "") for layer in layers) in text
    folders = {path.parent.name for path in (ROOT / "churn_assets").glob("*/__init__.py")}
    assert {name.rstrip("/") for name in rows_of("architecture.md", "Folders") if "/" in name} == folders


def test_every_decision_is_in_the_index():
    index = page_text("decisions/0000-index.md")
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md"))[1:]:
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        number, _, words = title.partition(". ")
        assert path.name.startswith(f"{int(number):04d}-")
        assert f"{number}. [{words}]({path.name})" in index
        text = path.read_text(encoding="utf-8")
        assert re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: (accepted|proposed|replaced)", text, re.M), path.name
        assert "lternatives" in text, path.name


def test_every_benchmark_is_told_of_is_run_once_and_has_a_result():
    from benchmarks.__main__ import SCRIPTS, sections_of

    folder = ROOT / "benchmarks"
    table = (folder / "README.md").read_text(encoding="utf-8")
    files = (path for path in folder.glob("*.py") if path.stem not in ("__main__", "clients"))
    scripts = {path.stem for path in files if "__main__" in path.read_text(encoding="utf-8")}
    assert set(re.findall(r"^\| `python -m benchmarks\.(\w+)", table, re.M)) == scripts
    longer = {
        "api_schema", "attack", "daemon", "events_kills", "gate_power", "inference_clients", "kill_rounds",
        "mlflow_serve", "mutation", "orphans", "protocol", "public_tables", "release_guardrails", "release_labels",
        "release_rollback", "release_routing", "release_story", "scenarios", "serving_faults", "serving_soak", "swaps",
        "tables", "two_checkouts",
    }  # fmt: skip
    assert sorted(SCRIPTS) == sorted(scripts - longer)
    assert set(sections_of((folder / "RESULTS.md").read_text(encoding="utf-8"))) == scripts


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_told_twice_in_a_table_or_list(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for part in re.split(r"\n\s*\n", text):
        rows = [line for line in part.splitlines() if re.match(r"\||- |\d+\. ", line) and not line.startswith("| --")]
        firsts = [line.split(" | ")[0] if line[0] == "|" else line for line in rows]
        assert len(firsts) == len(set(firsts)), [row for row in firsts if firsts.count(row) > 1]


def test_every_command_has_help_with_an_example():
    """Walks the commands as they are registered, in whatever file they stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of click, in what typer imports
        from typer.main import get_command

        from churn_assets.cli.app import app

    told = dict(_commands(get_command(app), "churn"))
    assert {"churn run", "churn generate", "churn contract init", "churn log verify"} <= told.keys()
    for name, command in told.items():
        assert command.help, name
        assert (command.epilog or "").startswith(f"Example: [bold]{name}"), name


def _commands(command, name):
    for child_name, child in getattr(command, "commands", {}).items():
        full = f"{name} {child_name}"
        yield from _commands(child, full) if hasattr(child, "commands") else [(full, child)]
