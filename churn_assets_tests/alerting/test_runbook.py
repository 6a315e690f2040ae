"""Every alert has a state and a command in the runbook, and names a section that it has."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from churn_assets.alerting.alerts import Kind
from churn_assets_tests.strategies import ROOT

RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", RUNBOOK, re.M)
STUCK = RUNBOOK.partition("## What is stuck?")[2].partition("\n## ")[0]
ROWS = [line.strip("|").split(" | ") for line in STUCK.splitlines() if line.startswith("| ")][2:]
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "churn_assets").rglob("*.py")]


def test_every_alert_has_a_state_and_a_command():
    alerts = [name for row in ROWS for name in re.findall(r"`(\w+)`", row[1])]
    assert {*alerts} == {*get_args(Kind)}
    for state, _, command, more in ROWS:
        assert "`churn " in command or "`dagster " in command or command.startswith("none: "), state
        assert "](#" in more


@pytest.mark.parametrize("source", [text for text in SOURCES if "docs/operations.md" in text])
def test_every_text_names_a_section_that_there_is(source):
    named = re.findall(r"(?:_RUNBOOK\}|operations\.md) \(([^)]+)\)", source)
    assert [name for name in named if name not in HEADINGS] == []
