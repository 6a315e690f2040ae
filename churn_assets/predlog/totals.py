"""What the warehouse holds, counted for people: rows, quarantine, sizes, by model version."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from churn_assets.errors import NothingIngested
from churn_assets.predlog.published import FILE, open_published
from churn_assets.predlog.segment import DONE, READY
from churn_assets.predlog.sources import PARQUET, archives
from churn_assets.settings import Settings


@dataclass(frozen=True)
class Totals:
    """Counts of the published copy; sizes are in bytes.

    `unknown` feedback names no prediction or customer of the log; `not_once` are segments that are not in it once.
    """

    predictions: int
    feedback: int
    unknown: int
    rejected_requests: int
    quarantined: int
    segments: int
    versions: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    not_once: list[str]
    sizes: dict[str, int]

    @property
    def quarantined_share(self) -> float:
        """Of all lines, 0 to 1."""
        rows = self.predictions + self.feedback + self.quarantined
        return self.quarantined / rows if rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def count_all(settings: Settings) -> Totals | None:
    """The counts, or None where nothing was ingested. Raises WarehouseCorrupt, LogUnreadable."""
    try:
        with open_published(settings) as connection:
            return _count(connection, settings)
    except NothingIngested:
        return None


def _count(connection: Any, settings: Settings) -> Totals:
    def number(sql: str) -> int:
        return int(connection.execute(sql).fetchall()[0][0])

    return Totals(
        predictions=number("SELECT count(*) FROM predictions"),
        feedback=number("SELECT count(*) FROM feedback"),
        unknown=number(
            "SELECT count(*) FROM feedback f WHERE NOT EXISTS (SELECT 1 FROM predictions p "
            "WHERE p.prediction_id = f.prediction_id) AND NOT EXISTS (SELECT 1 FROM predictions p "
            "WHERE p.customer_id = f.customer_id)"
        ),
        rejected_requests=number("SELECT coalesce(sum(requests), 0) FROM rejections"),
        quarantined=number("SELECT count(*) FROM quarantine"),
        segments=number("SELECT count(*) FROM segments"),
        versions=_dicts(
            connection,
            "SELECT model_version, arm, count(*) AS predictions, count(DISTINCT customer_id) AS customers, "
            "min(scored_at)::VARCHAR AS first, max(scored_at)::VARCHAR AS last FROM predictions "
            "GROUP BY ALL ORDER BY last DESC LIMIT 20",
        ),
        reasons=_dicts(
            connection,
            "SELECT split_part(reason, ':', 1) AS reason, count(*) AS lines FROM quarantine GROUP BY ALL "
            "ORDER BY lines DESC LIMIT 20",
        ),
        outcomes=_dicts(
            connection,
            "SELECT churned, contacted, count(*) AS reports, max(observed_at)::VARCHAR AS last FROM feedback "
            "GROUP BY ALL ORDER BY ALL",
        ),
        not_once=_not_once(connection, settings),
        sizes=sizes(settings),
    )


def _not_once(connection: Any, settings: Settings) -> list[str]:
    """Ingested segments whose rows are not all there, and archived or finished ones that are not ingested."""
    wrong = connection.execute(
        "SELECT name FROM segments LEFT JOIN (SELECT segment, count(*) AS found FROM predictions GROUP BY ALL) "
        "ON segment = name WHERE NOT expired AND predictions <> coalesce(found, 0) ORDER BY name"
    ).fetchall()
    ingested = {name for (name,) in connection.execute("SELECT name FROM segments").fetchall()}
    archived = {name for archive in archives(settings.archive_dir) for name in archive.names}
    done = {path.stem for path in settings.predlog_dir.glob(f"*{DONE}")}
    return sorted({name for (name,) in wrong} | ((archived | done) - ingested))


def sizes(settings: Settings) -> dict[str, int]:
    """Bytes of the segments, the warehouse and the archive."""

    def of(folder: Path, *patterns: str) -> int:
        return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))

    return {
        "segments_bytes": of(settings.predlog_dir, f"*{READY}", f"*{DONE}"),
        "warehouse_bytes": of(settings.warehouse_dir, FILE),
        "archive_bytes": of(settings.archive_dir, f"*{PARQUET}"),
    }


def _dicts(connection: Any, sql: str) -> list[dict[str, Any]]:
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
