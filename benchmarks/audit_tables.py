"""Small honest and leaking tables of which the right verdict is known, and their contracts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract
from churn_assets.data.validation.validate import validate
from churn_assets.leakage.screening import Screening, screen
from churn_assets.training.split import split_table

Array = npt.NDArray[Any]
Cells = Mapping[str, Array]
REFUSE = "[audit]\naccused = 'refuse'"
TODAY = dt.date(2026, 1, 1)
HEAD = """
name = "made"
[label]
column = "churn"
churned_when = 1
kept_when = 0
horizon_days = 30
[value]
monthly_value = 10
months = 12
offer_cost = 1
save_rate = 0.3
"""


def contract_of(cells: Cells, more: str = "", attested: str = "") -> Contract:
    """The contract of a table: dates are inputs with an age in days, texts are categories."""
    columns, features = ["[[columns]]\nname = 'id'\nkind = 'id'\nrole = 'key'"], []
    columns.append("[[columns]]\nname = 'churn'\nkind = 'integer'\nrole = 'label'")
    for name, values in cells.items():
        lines = [f"[[columns]]\nname = '{name}'"]
        if values.dtype.kind == "M":
            lines.append("kind = 'date'\nrole = 'input'")
            features.append(f"{name}_days = 'days(as_of - {name})'")
        elif values.dtype.kind == "U":
            lines.append(f"kind = 'category'\nchoices = {sorted(set(values.tolist()))}")
        else:
            lines.append("kind = 'number'")
        lines += ["attested = 'somebody'"] if name == attested else []
        columns.append("\n".join(lines))
    return parse_contract("\n".join([HEAD, *columns, "[features]", *features, more]))


def table_of(churned: Array, cells: Cells) -> pa.Table:
    """The raw table of these columns, each (n,)."""
    ids = pa.array([f"c{row}" for row in range(len(churned))])
    return pa.table({"id": ids, "churn": churned.astype(np.int64), **{name: pa.array(v) for name, v in cells.items()}})


def screened(churned: Array, cells: Cells, more: str = "", attested: str = "") -> Screening:
    """The verdict on a table, before training."""
    contract = contract_of(cells, more, attested)
    customers = validate(contract, table_of(churned, cells)).customers
    return screen(contract, customers, split_table(contract, customers))


def noise(rate: float, rows: int, seed: int = 3) -> tuple[Array, Cells]:
    """Noise, and one honest column that predicts the label weakly."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows)
    churned = rng.random(rows) < 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + 0.6 * score)))
    cells = {f"x{k}": rng.normal(size=rows) for k in range(4)}
    return churned, {**cells, "plan": rng.choice(list("ABC"), rows), "score": score}


def independent_given_label(rows: int = 2000, seed: int = 3) -> tuple[Array, Cells]:
    """Honest columns that share no cause but the label."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.3).astype(int)
    return y, {
        "age": (40 - 6 * y + rng.normal(0, 8, rows)).round(),
        "visits": rng.poisson(8 - 3 * y).astype(float),
        "spend": 100 - 30 * y + rng.normal(0, 40, rows),
        "months": rng.poisson(20 - 8 * y).astype(float),
    }


def one_honest_column(rows: int = 3000, seed: int = 3) -> tuple[Array, Cells]:
    """A weak model that has its lift from one honest age."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 80, rows)
    churned = rng.random(rows) < 1 / (1 + np.exp(-(0.08 * (age - 60))))
    return churned, {"age": age.round(), "usage": rng.gamma(2, 50, rows), "plan": rng.choice(list("ABC"), rows)}


def start_and_duration(rows: int = 3000, seed: int = 3) -> tuple[Array, Cells]:
    """An end written as a start and a duration, which ran on for those who stayed; and honest columns."""
    rng = np.random.default_rng(seed)
    days = rng.integers(30, 1500, rows)
    usage = rng.gamma(3, 10, rows)
    churned = rng.random(rows) < 1 / (1 + np.exp(-(-0.4 - 0.03 * (usage - 30))))
    lasted = np.where(churned, (days * rng.uniform(0.3, 0.95, rows)).astype(int), days)
    start = np.datetime64(TODAY, "D") - days.astype("timedelta64[D]")
    return churned, {
        "start": start,
        "tenure_days": lasted.astype(float),
        "usage": usage,
        "calls": rng.poisson(2.0, rows) * 1.0,
    }


def count_and_rate(rows: int = 3000, seed: int = 3) -> tuple[Array, Cells]:
    """A total that stopped growing, beside the rate at which it grew; and honest columns."""
    rng = np.random.default_rng(seed)
    rate, usage = rng.uniform(20, 120, rows), rng.gamma(3, 10, rows)
    churned = rng.random(rows) < 1 / (1 + np.exp(-(-0.4 - 0.03 * (usage - 30))))
    total = rate * np.where(churned, rng.uniform(10, 11.5, rows), 12.0)
    return churned, {"rate": rate, "total": total, "usage": usage, "calls": rng.poisson(2.0, rows) * 1.0}


def three_together(rows: int = 3000, seed: int = 3) -> tuple[Array, Cells]:
    """A label that follows from three columns, and from no two of them."""
    rng = np.random.default_rng(seed)
    parts = rng.integers(0, 2, (rows, 3))
    churned = parts.sum(axis=1) >= 2
    return churned, {name: parts[:, k].astype(float) for k, name in enumerate("abc")} | {
        "usage": rng.gamma(3, 10, rows)
    }


def two_halves(rows: int = 3000, seed: int = 3) -> tuple[Array, Cells]:
    """The label, but for one in fifty, in two halves that tell nothing alone: a sign and a code; and honest columns."""
    rng = np.random.default_rng(seed)
    usage, code = rng.gamma(3, 10, rows), rng.choice(list("AB"), rows)
    churned = rng.random(rows) < 1 / (1 + np.exp(-(-0.8 - 0.03 * (usage - 30))))
    known = churned ^ (rng.random(rows) < 0.02)
    sign = np.where(known == (code == "A"), 1.0, -1.0) * rng.uniform(0.2, 2.0, rows)
    return churned, {"sign": sign, "code": code, "usage": usage, "calls": rng.poisson(2.0, rows) * 1.0}
