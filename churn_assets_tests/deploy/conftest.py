"""All tests of this folder are of `make test-deploy`; those that could not run stand at the end, with the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.deploy)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(
        (report.nodeid.partition("[")[0], report.longrepr[2].removeprefix("Skipped: ")) for report in reports
    )
    terminalreporter.section("not run, and why")
    for (test, reason), number in sorted(reasons.items()):
        terminalreporter.write_line(f"{test} ({number}): {reason}")
    if not reasons:
        terminalreporter.write_line("every check was run")
