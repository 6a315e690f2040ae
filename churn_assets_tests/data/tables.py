"""Awkward customer tables, written by the tests: each shape that a contract must be drafted from."""

import csv
import datetime as dt
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Columns = dict[str, list[object]]


def people(rows: int, seed: int = 1, churn_rate: float = 0.25) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """(generator, hidden tendency, churned): everything else in a table hangs on the tendency."""
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(rows)
    churned = (risk + rng.standard_normal(rows)) > np.quantile(risk, 1 - churn_rate) * 1.4
    return rng, risk, churned


def words(mask: np.ndarray, yes: str = "Yes", no: str = "No") -> list[object]:
    return [yes if m else no for m in mask]


def pick(rng: np.random.Generator, rows: int, *choices: str) -> list[object]:
    return [choices[i] for i in rng.integers(0, len(choices), rows)]


def telecom(rows: int = 1200) -> Columns:
    """The public telecom table's shape: 21 columns, blank strings in the total charges of newcomers."""
    rng, risk, churned = people(rows)
    tenure = np.clip(np.round(30 - 12 * risk + 15 * rng.standard_normal(rows)), 0, 72).astype(int)
    monthly = np.round(65 + 12 * risk + 20 * rng.standard_normal(rows), 2)
    total = [" " if t == 0 else f"{t * m:.2f}" for t, m in zip(tenure, monthly, strict=True)]
    net = pick(rng, rows, "DSL", "Fiber optic", "No")
    extra = [["No internet service"] * rows if False else pick(rng, rows, "Yes", "No") for _ in range(6)]
    extra = [[("No internet service" if n == "No" else v) for n, v in zip(net, col, strict=True)] for col in extra]
    names = ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV", "StreamingMovies")
    return {
        "customerID": [f"{1000 + i}-{chr(65 + i % 26)}{chr(65 + i // 26 % 26)}XYZ" for i in range(rows)],
        "gender": pick(rng, rows, "Female", "Male"),
        "SeniorCitizen": [int(v) for v in rng.random(rows) < 0.16],
        "Partner": pick(rng, rows, "Yes", "No"),
        "Dependents": pick(rng, rows, "Yes", "No"),
        "tenure": [int(t) for t in tenure],
        "PhoneService": pick(rng, rows, "Yes", "Yes", "Yes", "No"),
        "MultipleLines": pick(rng, rows, "Yes", "No", "No phone service"),
        "InternetService": net,
        **dict(zip(names, extra, strict=True)),
        "Contract": pick(rng, rows, "Month-to-month", "One year", "Two year"),
        "PaperlessBilling": pick(rng, rows, "Yes", "No"),
        "PaymentMethod": pick(
            rng, rows, "Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)"
        ),
        "MonthlyCharges": [float(m) for m in monthly],
        "TotalCharges": total,
        "Churn": words(churned),
    }


def bank(rows: int = 1500) -> Columns:
    """A bank's table: 20 columns, numeric codes, a complaint that echoes the label and a score that nearly does."""
    rng, risk, churned = people(rows, seed=2, churn_rate=0.2)
    flag = churned.astype(float)
    return {
        "RowNumber": list(range(1, rows + 1)),
        "CustomerId": [int(v) for v in 15_565_701 + rng.permutation(rows) * 7],
        "Surname": [f"Name{v}" for v in rng.integers(0, rows, rows)],
        "CreditScore": [int(v) for v in np.clip(650 - 40 * risk + 80 * rng.standard_normal(rows), 350, 850)],
        "GeographyCode": [int(v) for v in rng.integers(1, 4, rows)],
        "GenderCode": [int(v) for v in rng.integers(0, 2, rows)],
        "Age": [int(v) for v in np.clip(40 + 8 * risk + 8 * rng.standard_normal(rows), 18, 92)],
        "Tenure": [int(v) for v in rng.integers(0, 11, rows)],
        "Balance": [round(float(v), 2) for v in np.maximum(0, 76000 + 60000 * rng.standard_normal(rows))],
        "NumOfProducts": [int(v) for v in rng.integers(1, 5, rows)],
        "HasCrCard": [int(v) for v in rng.random(rows) < 0.7],
        "IsActiveMember": [int(v) for v in risk + rng.standard_normal(rows) < 0],
        "EstimatedSalary": [round(float(v), 2) for v in 100_000 + 50_000 * rng.standard_normal(rows)],
        "EducationCode": [int(v) for v in rng.integers(1, 5, rows)],
        "MaritalCode": [int(v) for v in rng.integers(1, 4, rows)],
        "SegmentCode": [int(v) for v in rng.integers(10, 16, rows)],
        "BranchCode": [int(v) for v in rng.integers(100, 140, rows)],
        "Complain": [int(v) for v in np.where(rng.random(rows) < 0.002, 1 - flag, flag)],
        "SatisfactionDrop": [round(float(v), 3) for v in 2.2 * flag + rng.standard_normal(rows)],
        "Exited": [int(v) for v in churned],
    }


def three_date_formats(rows: int = 600) -> Columns:
    """Dates written in three ways in one column, a plain one beside it, and one that lies in the future."""
    rng, risk, churned = people(rows, seed=3)
    joined = [dt.date(2021, 1, 1) + dt.timedelta(days=int(v)) for v in rng.integers(0, 700, rows)]
    last = [day + dt.timedelta(days=int(v)) for day, v in zip(joined, rng.integers(0, 300, rows), strict=True)]
    forms = ("%Y-%m-%d", "%d.%m.%Y", "%d %b %Y")
    return {
        "account": [f"A{i:05d}" for i in range(rows)],
        "joined": [day.strftime(forms[i % 3]) for i, day in enumerate(joined)],
        "last_order": [day.isoformat() if i % 9 else None for i, day in enumerate(last)],
        "contract_end": [(day + dt.timedelta(days=730)).isoformat() for day in last],
        "spend": [round(float(v), 2) for v in 50 - 10 * risk + 20 * rng.standard_normal(rows)],
        "left": words(churned, "gone", "here"),
    }


def other_tongues(rows: int = 600) -> Columns:
    """Names and values in other alphabets, with blanks, quotes and a word of the language among the names."""
    rng, risk, churned = people(rows, seed=4)
    return {
        "Kunden-Nr.": [f"K{i:05d}" for i in range(rows)],
        "Größe des Haushalts": [int(v) for v in rng.integers(1, 12, rows)],
        "都市": pick(rng, rows, "東京", "大阪", "Zürich", "São Paulo"),
        "class": [round(float(v), 3) for v in risk + rng.standard_normal(rows)],
        'he said "hi"': [int(v) for v in 3 * rng.integers(0, 40, rows)],
        "Дата регистрации since": [
            (dt.date(2022, 1, 1) + dt.timedelta(days=int(v))).isoformat() for v in rng.integers(0, 700, rows)
        ],
        "dernière visite (date)": [
            (dt.date(2024, 1, 1) + dt.timedelta(days=int(v))).isoformat() for v in rng.integers(0, 90, rows)
        ],
        "gekündigt?": words(churned, "Ja", "Nein"),
    }


def forty_columns(rows: int = 500) -> Columns:
    rng, risk, churned = people(rows, seed=5)
    table: Columns = {"customer_no": list(range(7, 7 + rows))}
    for i in range(36):
        table[f"measure {i}"] = [
            round(float(v), 3) for v in (0.3 * risk if i % 3 == 0 else 0) + rng.standard_normal(rows)
        ]
    table["always"] = ["same"] * rows
    table["never"] = [None] * rows
    table["churn"] = [int(v) for v in churned]
    return table


def only_categories(rows: int = 800) -> Columns:
    rng, risk, churned = people(rows, seed=6)
    return {
        "plan": [("basic", "plus", "max")[int(v)] for v in np.digitize(risk + rng.standard_normal(rows), [-1, 1])],
        "colour": pick(rng, rows, "red", "green", "blue"),
        "region": pick(rng, rows, "north", "south", "NA", "east"),
        "churned": words(churned, "true", "false"),
    }


def only_numbers(rows: int = 800) -> Columns:
    rng, risk, churned = people(rows, seed=7)
    return {
        "a": [round(float(v), 4) for v in risk + rng.standard_normal(rows)],
        "b": [float(v) for v in np.round(rng.exponential(30, rows), 2)],
        "c": [int(v) for v in rng.integers(0, 500, rows)],
        "lost": [int(v) for v in churned],
    }


def decimal_commas(rows: int = 600) -> Columns:
    """What a spreadsheet writes in half of Europe."""
    rng, risk, churned = people(rows, seed=8)
    spend = np.round(1500 - 300 * risk + 900 * rng.random(rows), 2)
    return {
        "Kundennummer": [f"{i:06d}" for i in range(rows)],
        "Umsatz": [f"{v:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".") for v in spend],
        "Anteil": [f"{v:.3f}".replace(".", ",") for v in rng.random(rows)],
        "Straße": pick(rng, rows, "Äußere", "Öl", "Übersee"),
        "Eintritt": [
            (dt.date(2019, 1, 1) + dt.timedelta(days=int(v))).strftime("%d.%m.%Y") for v in rng.integers(0, 1500, rows)
        ],
        "gekündigt": words(churned, "ja", "nein"),
    }


def shouted_labels(rows: int = 500) -> Columns:
    rng, risk, churned = people(rows, seed=9)
    said = [w if i % 2 else str(w).upper() for i, w in enumerate(words(churned))]
    return {
        "user_id": [str(100 + i) for i in range(rows)],
        "visits": [int(v) for v in np.maximum(0, 20 - 5 * risk + 5 * rng.standard_normal(rows))],
        "price": [f"${v:,.2f}" for v in 900 + 400 * rng.random(rows)],
        "Churn": said,
    }


def to_csv(path: Path, table: Columns, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def to_parquet(path: Path, table: Columns) -> Path:
    pq.write_table(pa.table(table), path)
    return path
