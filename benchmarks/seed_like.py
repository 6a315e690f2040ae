"""What the first FastAPI project does for a request, written by us: a DataFrame of one row, a ColumnTransformer,
an XGBClassifier, and one SQLite commit. Started by `benchmarks.serving`.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import pandas as pd
from fastapi import FastAPI
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from benchmarks.customers import churned, typed

ROWS = 5000
app = FastAPI()


def frame_of(table: pd.DataFrame) -> pd.DataFrame:
    table = table.copy()
    as_of = pd.Timestamp("2014-01-20")
    for name in ("created", "firstorder", "lastorder"):
        table[f"{name}_days"] = (as_of - pd.to_datetime(table[name])).dt.days.fillna(-1)
    return table.drop(columns=["created", "firstorder", "lastorder", "custid"], errors="ignore")


def trained() -> Pipeline:
    data = frame_of(typed(ROWS, seed=1).to_pandas())
    words = ["favday", "city"]
    numbers = [name for name in data.columns if name not in words]
    transform = ColumnTransformer(
        [("words", OneHotEncoder(handle_unknown="ignore"), words), ("numbers", StandardScaler(), numbers)]
    )
    model = XGBClassifier(n_estimators=300, max_depth=6, n_jobs=1)
    return Pipeline([("transform", transform), ("model", model)]).fit(data, churned(ROWS, seed=1))


MODEL = trained()
DATABASE = sqlite3.connect(os.environ["SEED_DATABASE"], check_same_thread=False)
DATABASE.execute("CREATE TABLE IF NOT EXISTS predictions (customer TEXT, probability REAL, churn INTEGER)")


@app.post("/predict")
async def predict(customer: dict[str, Any]) -> dict[str, Any]:
    customer.pop("as_of", None)
    probability = float(MODEL.predict_proba(frame_of(pd.DataFrame([customer])))[0, 1])
    churn = probability >= 0.5
    DATABASE.execute("INSERT INTO predictions VALUES (?, ?, ?)", (customer.get("custid"), probability, int(churn)))
    DATABASE.commit()
    return {"churn_probability": probability, "churn": churn}


@app.get("/livez")
async def livez() -> str:
    return ""
