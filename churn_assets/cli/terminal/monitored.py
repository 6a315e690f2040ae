"""The report of `churn monitor` in the terminal: one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from churn_assets.cli.terminal.console import escape, out, say

if TYPE_CHECKING:
    from churn_assets.monitoring.table_report import TableReport

_FINDINGS = 12  # of a screen; --json has all
_COLUMNS = 8
_COLORS = {"ok": "green", "broken": "red", "drift": "yellow"}


def show_table_report(report: TableReport) -> None:
    """Verdict, findings, and the columns that moved most."""
    color = _COLORS.get(report.verdict, "yellow")
    rejected = report.rows - report.customers
    say(
        f"{report.file}: {report.rows:,} rows, {report.customers:,} customers compared with the training rows of "
        f"{report.model_version}"
        + (f"; {rejected:,} rows rejected or of a customer with a later row" if rejected else "")
    )
    out.print(f"[bold {color}]{report.verdict}[/bold {color}]: {escape(_verdict(report))}", soft_wrap=True)
    ordered = sorted(report.findings, key=lambda finding: not finding.blocks)
    for finding in ordered[:_FINDINGS]:
        mark = "[red]broken[/red]" if finding.blocks else "[yellow]note[/yellow]"
        out.print(f"  {mark} {finding.check}: {escape(finding.message)}", soft_wrap=True)
    if len(ordered) > _FINDINGS:
        say(f"  and {len(ordered) - _FINDINGS} more: --json")
    drift = report.drift
    moved = sorted((c for c in drift.columns if c.effect is not None), key=lambda column: -(column.effect or 0.0))
    if moved:
        table = Table("column", "status", "effect", "p", title="Columns that moved most", title_justify="left")
        for column in moved[:_COLUMNS]:
            table.add_row(escape(column.column), column.status, f"{column.effect:.3f}", f"{column.p_value:.2g}")
        out.print(table)
    for result in (drift.multivariate, drift.kernel):
        if result is not None:
            say(result.message)


def _verdict(report: TableReport) -> str:
    """The message, but not the findings again, which have a line each."""
    if report.verdict != "broken":
        return report.message
    blocking = sum(finding.blocks for finding in report.findings)
    return f"the data is broken, by {blocking} finding{'s' if blocking > 1 else ''}"
