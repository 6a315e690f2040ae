"""Where the numbers of each page come from, read here without the pages' code: files of the home, the ledger, the
alerts, queries of the log.

A source gives the part of a page's JSON that has numbers, in the page's form; `unlike` compares. Where a page orders or
names its rows, the page says which row is meant, and the number is looked up by that name.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from churn_assets.alerting.alerts import all_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.contract.load import load_contract
from churn_assets.monitoring.performance.report import PerformanceReport
from churn_assets.monitoring.profile import HIGHEST, LOWEST
from churn_assets.monitoring.windows import read_report, to_json
from churn_assets.promotion.gate.comparison import compare
from churn_assets.promotion.gate.evidence import holdout_evidence
from churn_assets.promotion.holdout import read_holdout
from churn_assets.promotion.ledger import Ledger
from churn_assets.scoring.budget import plan_call_list
from churn_assets.scoring.bundle import load_bundle
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import NOW
from churn_assets_tests.test_home_0_1 import CHAMPION, FINGERPRINT, FIRST, WAITING, WINDOWS

Json = Any
ENDS = {"value": "", "low": "_low", "high": "_high"}
PARTS = {"test customers": "test", "newest customers": "oot", "validation, out of fold": "validation"}
METRICS = {"PR-AUC": "pr_auc", "ROC AUC": "roc_auc", "log-loss": "log_loss", "Brier score": "brier"}
OF_REPORT = {"F1": "f1", "lift in the first 10 %": "lift_at_10_percent", "calibration error": "ece"}
WHO = "coalesce(customer_id, prediction_id)"
FAULTS = ("busy", "disk", "internal", "no_model")
LATENCY_MS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)


@dataclass(frozen=True)
class Home:
    """A home of release 0.1 and its published log."""

    settings: Settings
    log: duckdb.DuckDBPyConnection

    def json(self, *parts: str) -> Json:
        return json.loads(Path(self.settings.home, *parts).read_text())

    def window(self, number: int, name: str) -> Json:
        return self.json("monitoring", FINGERPRINT[:12], f"{number:04d}", name)

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        table: list[dict[str, Any]] = self.log.sql(sql, params=values).to_arrow_table().to_pylist()
        return table


def unlike(shown: Json, source: Json, at: str = "") -> list[str]:
    """Numbers of a page that its source lacks or has otherwise, those of the source that the page lacks, and texts that
    both have and that differ."""
    if isinstance(shown, Mapping) or isinstance(source, Mapping):
        names = {**as_mapping(shown), **as_mapping(source)}
        return [line for name in names for line in unlike(_of(shown, name), _of(source, name), f"{at}.{name}")]
    if isinstance(shown, list) or isinstance(source, list):
        length = max(len(shown or ()), len(source or ()))
        return [line for n in range(length) for line in unlike(_of(shown, n), _of(source, n), f"{at}[{n}]")]
    if isinstance(shown, str) and isinstance(source, str) and shown != source:
        return [f"{at}: {shown!r}, by its source {source!r}"]
    numbers = [value for value in (shown, source) if isinstance(value, int | float) and not isinstance(value, bool)]
    if not numbers or (len(numbers) == 2 and math.isclose(shown, source, rel_tol=1e-9, abs_tol=1e-12)):
        return []
    return [f"{at}: {shown}, by its source {source}"]


def as_mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _of(value: Json, name: Any) -> Json:
    if isinstance(value, list):
        return value[name] if name < len(value) else None
    return value.get(name) if isinstance(value, Mapping) else None


# -- the pages ---------------------------------------------------------------------------------------------


def overview(home: Home, page: Json) -> Json:
    report = home.json("assets", "performance_report.json")
    midnight, hour = NOW.replace(hour=0), NOW.replace(minute=0)
    since = {"today": midnight, "24 full hours": hour - dt.timedelta(days=1), "7 days": midnight - dt.timedelta(days=7)}
    first = hour - dt.timedelta(days=7)
    by_hour = home.rows(
        "SELECT epoch(date_trunc('hour', scored_at))::BIGINT AS hour, count(*) AS n FROM predictions GROUP BY 1"
    )
    answers = {row["hour"]: row["n"] for row in by_hour}
    decision = Ledger(home.settings.ledger_path).decisions(1)[0]
    return {
        "champion": {"version": CHAMPION, "pr_auc": of_card(home, CHAMPION, "test_pr_auc")},
        "waiting": [{"version": WAITING, "pr_auc": of_card(home, WAITING, "test_pr_auc")}],
        "decision": {"number": decision.number, "kind": decision.decision.kind, "message": decision.decision.message},
        "alerts": [{"times": alert.times} for alert in open_and_past(home)[0]],
        "traffic": [{"requests": requests(home, at)} for at in since.values()],
        "course": [
            {"hour": at, "answers": answers.get(at, 0)}
            for at in range(int(first.timestamp()), int(hour.timestamp()) + 3600, 3600)
        ],
        "matured": newest_period(report, "measured"),
        "estimated": newest_period(report, "estimated"),
    }


def calls(home: Home, page: Json) -> Json:
    listed = pq.read_table(home.settings.assets_dir / "risk_list.parquet").to_pylist()
    value = tomllib.loads(home.settings.contract_path.read_text())["value"]
    cost, worth = value["offer_cost"], value["monthly_value"] * value["months"]
    choice, everybody = page["choice"], len(listed)
    budget = everybody * cost if choice["budget"] is None else choice["budget"]

    def planned(size: int) -> Json:
        """`churn budget` of what so many contacts cost."""
        bundle, path = home.settings.bundles_dir / FIRST, home.settings.assets_dir / "risk_list.parquet"
        return asdict(plan_call_list(bundle, path, min(budget, size * cost))[0])

    plan = planned(choice["capacity"])
    sizes = sorted({round(n * everybody / 10) for n in range(11)})
    points = {each["contacts"]: each for each in map(planned, sizes)}
    known = {row["customer_id"]: {**row, "customer_value": worth} for row in listed}
    probability = np.array([row["churn_probability"] for row in listed])
    counts, edges = np.histogram(probability, np.linspace(0, 1, 21))
    names = levels(home, choice["column"]) if choice["column"] else {}
    fits = [row["customer_id"] for row in listed if fits_choice(choice, row, names)]
    if choice["planned"]:
        fits = [own for own in fits if known[own]["rank"] <= plan["contacts"]]
    return {
        "choice": choice,
        "customers": everybody,
        "largest_capacity": everybody,
        "largest_budget": everybody * cost,
        "plan": {**plan, "budget": budget},
        "curve": [
            {"contacts": n, "profit": each["net_value"], "low": each["low"], "high": each["high"]}
            for n, each in sorted(points.items())
        ],
        "matched": len(fits),
        "parts": max(1, math.ceil(len(fits) / 25)),
        "rows": [known[own] for own in fits[:25]],
        "first": [known[row["customer_id"]] for row in listed[: min(10, plan["contacts"])]],
        "segments": [segment_of(listed, worth, row, names) for row in page["segments"]],
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }  # fmt: skip


def customer(home: Home, page: Json) -> Json:
    listed = pq.read_table(home.settings.assets_dir / "risk_list.parquet").to_pylist()
    value = tomllib.loads(home.settings.contract_path.read_text())["value"]
    own = next((row for row in listed if row["customer_id"] == page["customer_id"]), None)
    scores = home.rows(
        "SELECT score FROM predictions WHERE customer_id = $id ORDER BY seq DESC", {"id": page["customer_id"]}
    )
    if own is None:
        return {"scores": scores}
    return {**own, "customer_value": value["monthly_value"] * value["months"], "scores": scores}


def monitoring(home: Home, page: Json) -> Json:
    choice = page["choice"]
    column, _, level = choice["segment"].partition("=")
    where = (
        f"x_{column} = {level == 'yes'}" if level in ("yes", "no") else f"x_{column} = '{level}'" if level else "true"
    )
    every = {number: home.window(number, "drift.json") for number in range(1, WINDOWS + 1)}
    drifts = {n: drift for n, drift in every.items() if choice["version"] in ("", drift["model_version"])}
    shown = int(choice["window"] or max(drifts))
    contract = load_contract(home.settings.contract_path).monitoring
    columns = {entry["column"]: entry for entry in drifts[shown]["columns"]}
    if choice["version"]:
        where += f" AND model_version = '{choice['version']}'"
    return {
        "choice": {"days": choice["days"]},
        "windows": [window_entry(drift) for drift in drifts.values()],
        "events": [
            {"window": event["window"], **numbers_of(drifts[event["window"]], event["column"])}
            for event in page["events"]
        ],
        "detail": {
            "entry": window_entry(drifts[shown]),
            "missing": home.window(shown, "quality.json")["missing"],
            "columns": [{**numbers_of(drifts[shown], name), "psi": entry["psi"]} for name, entry in columns.items()],
            "outliers": {k: v for k, v in drifts[shown]["outliers"].items() if isinstance(v, int | float)},
        },
        "effect_limit": contract.effect,
        "significance": contract.significance,
        "scores": [window_score(home, drift, where if level else "") for drift in drifts.values()],
        "outliers": outliers(home, drifts[shown], where, page),
        "distributions": [distribution(home, drifts[shown], d["column"], where) for d in page["distributions"]],
        "service": service(home, choice["days"], where),
    }


def performance(home: Home, page: Json) -> Json:
    """The file as `churn` reads it: release 0.1 wrote other names."""
    report = read_report(home.settings.assets_dir / "performance_report.json", PerformanceReport)
    return {"report": json.loads(json.dumps(to_json(report)))}


def models(home: Home, page: Json) -> Json:
    versions = [row["version"] for row in page["models"]]
    assert sorted(versions) == sorted(p.name for p in home.settings.bundles_dir.iterdir() if p.is_dir())
    return {"champion": CHAMPION, "models": [model_of(home, version) for version in versions]}


def model(home: Home, page: Json) -> Json:
    version = page["model"]["version"]
    card = home.json("bundles", version, "card.json")
    rounds = [each for each in Ledger(home.settings.ledger_path).challengers() if each.version == version]
    verdict = rounds[-1].verdict if rounds else None
    other = page["champion"] if page["champion"] != version else None
    return {
        "model": model_of(home, version),
        "rows": card["rows"],
        "threshold": threshold_of(card),
        "metrics": [
            {
                "own": of_card(home, version, metric_name(row)),
                "champion": other and of_card(home, other, metric_name(row)),
            }
            for row in page["metrics"]
        ],
        "checks": [{"value": check.value, "limit": check.limit} for check in (verdict.checks if verdict else ())],
    }


def comparison(home: Home, page: Json) -> Json:
    versions = {place: page[place]["model"]["version"] for place in ("first", "second")}
    reports = {place: home.json("reports", version, "metrics.json") for place, version in versions.items()}

    def metric(row: Json, place: str) -> Json:
        if row["metric"] in METRICS:
            return of_card(home, versions[place], metric_name(row))
        return reports[place]["sides"]["test"]["metrics"][OF_REPORT.get(row["metric"], row["metric"])]

    def rung(row: Json, place: str) -> Json:
        name = {"test customers": "random", "newest customers": "out_of_time"}[row["rows"]]
        rungs = {each["words"]: each for each in home.json("bundles", f"{versions[place]}.ladder.json")["rungs"]}
        return rungs.get(row["label"], {}).get(name)

    def segment(row: Json, place: str) -> Json:
        known = {(each["column"], each["level"]): each["test"] for each in reports[place]["segments"]}
        return known.get((row["column"], row["level"]))

    def pairs(name: str, of: Callable[[Json, str], Json]) -> list[Json]:
        return [{place: of(row, place) for place in versions} for row in page[name]]

    pairs_of_segments = {(s["column"], s["level"]) for report in reports.values() for s in report["segments"]}
    return {
        **{place: compared(home, version, reports[place]) for place, version in versions.items()},
        "metrics": pairs("metrics", metric),
        "ladder": pairs("ladder", rung),
        "segments": pairs("segments", segment),
        "hidden": len(pairs_of_segments) - len(page["segments"]),
        "same_customers": same_customers(home, *versions.values()),
    }


def form(home: Home, page: Json) -> Json:
    """Typical values: the middle of the newest thousand training rows. A form has texts."""
    rows = pq.read_table(home.settings.bundles_dir / CHAMPION / "reference.parquet")["avgorder"].slice(0, 1000)
    known = sorted(rows.drop_null().to_pylist())
    middle = {"avgorder": str(round(known[(len(known) - 1) // 2], 3))} if not page["sample"] else {}
    return {"fields": [{"value": middle.get(entry["name"])} for entry in page["fields"]]}


def alerts(home: Home, page: Json) -> Json:
    is_open, past = open_and_past(home)
    return {
        "open": [{"number": a.number, "title": a.title, "times": a.times} for a in is_open],
        "past": [{"number": a.number, "title": a.title, "times": a.times} for a in past],
    }


SOURCES: Mapping[str, Callable[[Home, Json], Json]] = {
    "/": overview,
    "/calls": calls,
    "/customer": customer,
    "/monitoring": monitoring,
    "/performance": performance,
    "/models": models,
    "/models/{version}": model,
    "/compare": comparison,
    "/try": form,
    "/alerts": alerts,
}


# -- what they are made of ---------------------------------------------------------------------------------


def of_card(home: Home, version: str, name: str) -> Json:
    metrics = home.json("bundles", version, "card.json")["metrics"]
    return {end: metrics[f"{name}{suffix}"] for end, suffix in ENDS.items()} if name in metrics else None


def metric_name(row: Json) -> str:
    return f"{PARTS[row['rows']]}_{METRICS[row['metric']]}"


def threshold_of(card: Json) -> float:
    value: float = card["thresholds"]["values"][card["thresholds"]["chosen"]]
    return value


def model_of(home: Home, version: str) -> Json:
    ledger = Ledger(home.settings.ledger_path)
    registered = {c.version: c.registered_version for c in ledger.challengers()}
    registered |= {m.to.version: m.to.registered_version for m in ledger.moves("done")}
    files = (path for path in (home.settings.bundles_dir / version).rglob("*") if path.is_file())
    return {
        "size_bytes": sum(path.stat().st_size for path in files),
        "pr_auc": of_card(home, version, "test_pr_auc"),
        "registered_version": registered[version],
    }


def compared(home: Home, version: str, report: Json) -> Json:
    card = home.json("bundles", version, "card.json")
    return {
        "model": model_of(home, version),
        "threshold": threshold_of(card),
        "rows": card["rows"],
        "test": report["sides"]["test"],
        "profit": card["profit"]["curve"],
    }


def same_customers(home: Home, *versions: str) -> Json:
    """As the gate compares them."""
    contract = load_contract(home.settings.contract_path)
    holdout = read_holdout(home.settings.holdout_dir, contract)
    assert holdout is not None
    first, second = (load_bundle(home.settings.bundles_dir / version, contract) for version in versions)
    evidence = holdout_evidence(contract, first, second, holdout.rows)
    judged = compare(evidence, seed=0)
    assert judged is not None
    churned = evidence.churned.astype(bool)
    losses = [-np.log(np.where(churned, p, 1 - p)).mean() for p in (evidence.champion, evidence.challenger)]
    low, high = np.quantile(judged.log_loss, [0.025, 0.975])
    return {
        "rows": len(churned),
        "churned": int(churned.sum()),
        "first_pr_auc": judged.champion,
        "second_pr_auc": judged.challenger,
        "pr_auc": dict(zip(ENDS, (judged.challenger - judged.champion, *judged.interval), strict=True)),
        "first_log_loss": losses[0],
        "second_log_loss": losses[1],
        "log_loss": {"value": losses[1] - losses[0], "low": low, "high": high},
    }


def newest_period(report: Json, name: str) -> Json:
    period = [p[name] for p in report["periods"] if p[name].get("pr_auc_low") is not None][-1]
    return {"rows": period["rows"], "pr_auc": {end: period[f"pr_auc{suffix}"] for end, suffix in ENDS.items()}}


def open_and_past(home: Home) -> tuple[list[Any], list[Any]]:
    entries = all_alerts(AlertSettings(home.settings.home))
    return [e for e in entries if e.closed_at is None], [e for e in entries if e.closed_at is not None]


def requests(home: Home, since: dt.datetime) -> Json:
    values = {"since": since.replace(tzinfo=None)}
    (row,) = home.rows(
        "SELECT count(*) AS predictions, count(DISTINCT request_id) FILTER (latency_us IS NOT NULL) AS requests, "
        "count(*) FILTER (latency_us IS NULL) AS batch_rows, count(*) FILTER (len(warnings) > 0) AS warned, "
        "quantile_cont(latency_us, .5) / 1000 AS p50_ms, quantile_cont(latency_us, .95) / 1000 AS p95_ms, "
        "quantile_cont(latency_us, .99) / 1000 AS p99_ms FROM predictions WHERE scored_at >= $since",
        values,
    )
    causes = home.rows("SELECT cause, requests FROM rejections WHERE until_at >= $since", values)
    refused = sum(cause["requests"] for cause in causes)
    faults = sum(cause["requests"] for cause in causes if cause["cause"] in FAULTS)
    total = row["requests"] + refused
    rates = {"refused_rate": refused / total, "fault_rate": faults / total} if total else {}
    return {**row, "refused": refused, "faults": faults, **rates}


def service(home: Home, days: int, where: str) -> Json:
    hour = NOW.replace(minute=0)
    since = hour - dt.timedelta(days=days)
    values, condition = {"since": since.replace(tzinfo=None)}, f"scored_at >= $since AND {where}"
    by_hour = {
        row["hour"]: row
        for row in home.rows(
            "SELECT epoch(date_trunc('hour', scored_at))::BIGINT AS hour, count(*) AS answers, "
            "avg(score) AS mean_score, avg(decision::INT) AS positive_share FROM predictions "
            f"WHERE {condition} GROUP BY 1",
            values,
        )
    }
    statuses = home.rows(
        "SELECT count(*) AS answers, quantile_cont(latency_us, .5) / 1000 AS p50_ms, quantile_cont(latency_us, .95) / "
        f"1000 AS p95_ms, quantile_cont(latency_us, .99) / 1000 AS p99_ms FROM predictions WHERE {condition} "
        "GROUP BY status ORDER BY 1 DESC",
        values,
    )
    latencies = np.array(
        [row["ms"] for row in home.rows(f"SELECT latency_us / 1000 AS ms FROM predictions WHERE {condition}", values)]
    )
    counts = np.histogram(latencies, [*LATENCY_MS, np.inf])[0].tolist()
    first, last = int(since.timestamp()), int(hour.timestamp()) + 3600
    return {
        "days": days,
        "requests": requests(home, since),
        "statuses": statuses,
        "latency": [{"from_ms": edge, "answers": n} for edge, n in zip(LATENCY_MS, counts, strict=True)],
        "hours": [{"hour": at, "refused": 0, **by_hour.get(at, {"answers": 0})} for at in range(first, last, 3600)],
    }


def window_entry(drift: Json) -> Json:
    score = drift["score"]
    return {
        "window": drift["window"],
        "customers": drift["customers"],
        "scored": drift["customers"] - drift["scored_by_others"],
        "mean_score": score["mean"],
        "positive_share": score["positive_share"],
    }


def numbers_of(drift: Json, column: str) -> Json:
    entry = next(entry for entry in drift["columns"] if entry["column"] == column)
    return {"p_value": entry["p_value"], "effect": entry["effect"]}


def newest_of_each(drift: Json) -> str:
    """SQL that is true for the last row of each customer of a window."""
    rows = f"fingerprint = '{FINGERPRINT}' AND seq BETWEEN {drift['from_seq']} AND {drift['to_seq']}"
    return f"seq IN (SELECT max(seq) FROM predictions WHERE {rows} GROUP BY {WHO})"


def window_score(home: Home, drift: Json, where: str) -> Json:
    """Of customers whom the window's model has scored last; as its report has it, where all customers count."""
    if not where:
        entry = window_entry(drift)
        return {**entry, "customers": entry["scored"], "scored": None}
    (row,) = home.rows(
        "SELECT count(*) AS customers, avg(score) AS mean_score, avg(decision::INT) AS positive_share FROM predictions "
        f"WHERE {newest_of_each(drift)} AND {where} AND model_version = '{drift['model_version']}'"
    )
    return {"window": drift["window"], **row}


def distribution(home: Home, drift: Json, column: str, where: str) -> Json:
    file = home.settings.bundles_dir / drift["model_version"] / "reference.parquet"
    sides = {
        "reference": pq.read_table(file)[column].to_pylist(),
        "window": [
            row["value"]
            for row in home.rows(
                f"SELECT x_{column} AS value FROM predictions WHERE {newest_of_each(drift)} AND {where}"
            )
        ],
    }
    known = {side: [as_number(value) for value in values if value is not None] for side, values in sides.items()}
    result = {
        **{f"{side}_values": len(values) for side, values in known.items()},
        **{f"{side}_missing": 1 - len(known[side]) / len(values) for side, values in sides.items()},
    }
    if isinstance(known["reference"][0], str):
        names = sorted(
            {*known["reference"], *known["window"]}, key=lambda n: (-sum(v.count(n) for v in known.values()), n)
        )
        shares = ({side: values.count(name) / len(values) for side, values in known.items()} for name in names[:20])
        return {**result, "levels": list(shares)}
    quantiles = [np.quantile(values, (0.005, 0.995)) for values in known.values()]
    low, high = min(q[0] for q in quantiles), max(q[1] for q in quantiles)
    edges = np.linspace(low, high if high > low else low + 1, 25)
    counted = {side: np.histogram(np.clip(values, low, high), edges)[0] / len(values) for side, values in known.items()}
    return {**result, "edges": edges.tolist(), **{side: shares.tolist() for side, shares in counted.items()}}


def outliers(home: Home, drift: Json, where: str, page: Json) -> Json:
    """The newest ten rows of a window with a number beyond 99.9 % of the training rows."""
    file = home.settings.bundles_dir / drift["model_version"] / "reference.parquet"
    numbers = [
        c.name for c in load_contract(home.settings.contract_path).scoring_columns if c.kind in ("number", "integer")
    ]
    ends = {name: np.quantile(pq.read_table(file)[name].drop_null().to_numpy(), (LOWEST, HIGHEST)) for name in numbers}
    cells = ", ".join(f"x_{name} AS {name}" for name in numbers)
    rows = home.rows(
        f"SELECT score, {cells} FROM predictions WHERE fingerprint = '{FINGERPRINT}' AND {where} AND seq BETWEEN "
        f"{drift['from_seq']} AND {drift['to_seq']} ORDER BY seq DESC"
    )
    beyond = []
    for row in rows:
        far = [
            {"value": row[name], "low": low, "high": high}
            for name, (low, high) in ends.items()
            if row[name] is not None and not low <= row[name] <= high
        ]
        beyond += [{"score": row["score"], "cells": far}] if far else []
    return beyond[:10]


def as_number(value: Any) -> Any:
    """Dates as days since 1970, yes and no as the page names them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (value - dt.date(1970, 1, 1)).days if isinstance(value, dt.date) else value


def levels(home: Home, column: str) -> Mapping[str, str]:
    """The level of each customer of the table."""
    file = home.settings.assets_dir / "validated_customers.parquet"
    rows = pq.read_table(file, columns=["custid", column, "row_source"]).to_pylist()
    return {row["custid"]: str(as_number(row[column])) for row in rows if row["row_source"] == "table"}


def fits_choice(choice: Json, row: Json, names: Mapping[str, str]) -> bool:
    texts = (row[f"reason_{n}"] or "" for n in (1, 2, 3))
    return (
        choice["band"] in ("", row["risk_band"])
        and (not names or names[row["customer_id"]] == choice["level"])
        and (not choice["reason"] or any(choice["reason"] in text for text in texts))
    )


def segment_of(listed: list[Json], worth: float, segment: Json, names: Mapping[str, str]) -> Json:
    """Customers of a level of the column that has the `names`, else of a risk band."""
    every = np.array([row["churn_probability"] for row in listed])
    own = np.array([names.get(row["customer_id"], row["risk_band"]) == segment["segment"] for row in listed])
    expected, noise = every[own].sum(), 1.96 * np.sqrt((every[own] * (1 - every[own])).sum())
    return {
        "customers": int(own.sum()),
        "expected_churners": expected,
        "low": max(0.0, expected - noise),
        "high": min(float(own.sum()), expected + noise),
        "mean_probability": every[own].mean(),
        "expected_loss": expected * worth,
        "share_of_loss": expected / every.sum(),
    }
