"""The performance report for people: one page of Markdown from its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LATENCY = ("p50_ms", "p95_ms", "p99_ms")


def render(report: Mapping[str, Any]) -> str:
    """The page: what is concluded, then every table it is concluded from."""
    parts = [
        "# Performance",
        "\n".join(f"- {words}" for words in report["words"]),
        f"Champion {report['champion'] or 'none'}, made {report['made_at']}; a figure needs "
        f"{report['label_floor']:,} customers with a final label.",
        *_section("Against the card", _card(report["fall"])),
        *_section("By period", _table(PERIODS, map(_period, report["periods"]))),
        *_section("By model version", _table(VERSIONS, map(_version, report["versions"]))),
        *_section("How past estimates came out", _record(report["estimates"])),
        *_section("The service", _service(report["service"])),
    ]
    return "\n\n".join(parts) + "\n"


PERIODS = ("period", "customers with a label", "churned", "PR-AUC", "ROC-AUC", "log-loss", "churned minus score", "ECE",
           "precision at capacity", "estimated PR-AUC", "inputs")  # fmt: skip
VERSIONS = ("model", *PERIODS[1:9])
_SERVICE = ("predictions", "requests", "p50 ms", "p95 ms", "p99 ms")


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text]


def _period(row: Mapping[str, Any]) -> list[str]:
    name = row["period"] if row["closed"] else f"{row['period']} (still open)"
    return [name, *_measured(row["measured"]), _estimated(row["estimated"]), row["inputs"] or ""]


def _version(row: Mapping[str, Any]) -> list[str]:
    return [row["model_version"], *_measured(row)]


def _measured(row: Mapping[str, Any]) -> list[str]:
    counts = [f"{row['rows']:,}", f"{row['churned']:,}"]
    if row["status"] != "ok":
        return [*counts, row["words"], "", "", "", "", ""]
    gap, capacity = row["calibration"], row["at_capacity"]
    return [
        *counts,
        *(_spread(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("pr_auc", "roc_auc", "log_loss")),
        f"{gap['gap']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
        f"{row['ece']:.3f} (by chance up to {row['ece_by_chance']:.3f})",
        "" if capacity is None else _spread(capacity["precision"], capacity["low"], capacity["high"]),
    ]


def _estimated(row: Mapping[str, Any]) -> str:
    if row["status"] != "estimated":
        return str(row["words"])
    return _spread(row["pr_auc"], row["pr_auc_low"], row["pr_auc_high"])


def _card(fall: Mapping[str, Any]) -> str:
    if "card" not in fall:
        return str(fall["words"])
    rows = [
        [what, _spread(side["pr_auc"], side["low"], side["high"]), f"{side['churned_share']:.1%}"]
        for what, side in (("card, test rows", fall["card"]), ("labelled, weighted to the card", fall["labelled"]))
    ]
    plain = fall["as_it_was"]
    rows.append(["labelled, as it was", f"{plain['pr_auc']:.3f}", f"{plain['churned_share']:.1%}"])
    return f"{fall['words']}\n\n" + _table(("PR-AUC of", "figure", "churned"), rows)


def _record(estimates: Mapping[str, Any]) -> str:
    record = estimates["record"]
    rows = [
        [
            row["period"],
            row["made_at"][:10],
            f"{row['labels_then'] or 0:,}",
            _spread(row["estimated"], row["estimated_low"], row["estimated_high"]),
            f"{row['labelled']:.3f}",
            f"{row['labelled_share']:.0%}",
            f"{row['off']:+.3f}",
            "yes" if row["held"] else "no",
        ]
        for row in record["rows"]
    ]
    names = ("period", "made", "labels then", "estimated", "labelled", "of them labelled", "off", "held")
    return "\n\n".join(
        [f"{estimates['blind_to']} {_sentence(record['words'])}.", *([_table(names, rows)] * bool(rows))]
    )


def _service(service: Mapping[str, Any] | None) -> str:
    if service is None:
        return "no predictions yet"
    total, causes = service["total"], service["causes"]
    said = "no request was refused"
    if total["refused"]:
        why = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
        said = f"{total['refused']:,} requests refused ({total['refused_rate']:.2%}), {total['faults']:,} of them "
        said += f"not the request's fault ({total['fault_rate']:.2%}): {why}"
    by_version = [[f"{row['model_version']} ({row['arm']})", *_volume(row)] for row in service["by_version"]]
    by_day = [[row["day"], *_volume(row), f"{row['refused']:,}"] for row in service["by_day"][-14:]]
    return "\n\n".join(
        [
            f"{total['predictions']:,} predictions in {total['requests']:,} requests, "
            f"{total['batch_rows']:,} by batch; {said}.",
            _table(("model", *_SERVICE), by_version),
            _table(("day", *_SERVICE, "refused"), by_day),
        ]
    )


def _volume(row: Mapping[str, Any]) -> list[str]:
    times = ["" if row[name] is None else f"{row[name]:.2f}" for name in _LATENCY]
    return [f"{row['predictions']:,}", f"{row['requests']:,}", *times]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _spread(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "none yet" if len(lines) == 2 else "\n".join(f"| {' | '.join(line)} |" for line in lines)
