"""Which model's files stand where: each report in `reports/<version>/`, the champion's in `reports/` as well.

A report is made again from its figures, so that the copies differ in the model's role alone. A list that another model
made is no list of the champion: it is moved to that model's folder, until the champion has scored the customers.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from churn_assets.promotion.pointer import Champion, read_champion
from churn_assets.promotion.status import LISTS, list_version, report_folder, report_version
from churn_assets.reporting.model.collect import METRICS, write_report
from churn_assets.reporting.model.facts import Report
from churn_assets.settings import Settings


def write_reports(report: Report, bundle: Path, settings: Settings) -> dict[str, Path]:
    """Write a report to the folder of its version and, for the champion or while there is none, to `reports/`; the
    paths by name, where a reader looks first. Raises PointerCorrupt."""
    champion = read_champion(settings.home)
    version = report.model.version
    own = champion is None or champion.version == version
    report = msgspec.structs.replace(report, role=describe_role(version, champion))
    written = write_report(report, bundle, report_folder(settings, version))
    return write_report(report, bundle, settings.reports_dir) if own else written


def describe_role(version: str, champion: Champion | None) -> str:
    """What a report says about its model beside the champion; '' for the champion itself and while there is none."""
    if champion is None or champion.version == version:
        return ""
    return f"challenger: when this report was made, model {champion.version} was champion"


def publish_champion(settings: Settings) -> None:
    """After a move: put the champion's report into `reports/`, and lists of other models into their folders.

    A report that this version cannot read is left where it is. Raises PointerCorrupt.
    """
    champion = read_champion(settings.home)
    if champion is None:
        return
    made_by = list_version(settings)
    if made_by not in (None, champion.version):
        folder = report_folder(settings, str(made_by))
        folder.mkdir(parents=True, exist_ok=True)
        for name in LISTS:
            if (settings.reports_dir / name).is_file():
                (settings.reports_dir / name).replace(folder / name)
    figures = report_folder(settings, champion.version) / METRICS
    if report_version(settings) == champion.version or not figures.is_file():
        return
    try:
        report = msgspec.json.decode(figures.read_bytes(), type=Report)
    except msgspec.ValidationError:
        return
    report = msgspec.structs.replace(report, role="")
    for folder in (figures.parent, settings.reports_dir):
        write_report(report, champion.path(settings.home), folder)
