"""PR-AUC on ten public tables: our training against five libraries with their defaults, on the same rows and columns.

Contracts are drafted, and columns that the audit accuses are left out for everybody. A contestant is trained on the
training and validation rows of the random split and measured on its test rows, once a split seed. Parameters of ours
were set on seeds 0 to 4; report on 10 to 14. Every result is kept in the cache, so that a stopped run goes on.

    pip install -c constraints.txt -e '.[benchmarks]'
    python -m benchmarks.tables FOLDER_OF_TABLES [--seeds 10-14] [--tables telco,hotel] [--cache DIR] [--ours NAME]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn_assets.contract.edit import exclude
from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.leakage.audit import audit
from churn_assets.training.candidate import NAMES, train_candidate
from churn_assets.training.feature_table import TrainingData, View, feature_table, features_hash, training_data
from churn_assets.training.select import choose_model
from churn_assets.training.split import split_table

# file, label, the churned value
TABLES: Mapping[str, tuple[str, str, str]] = {
    "telco": ("telco.csv", "Churn", "Yes"),
    "telco_extended": ("telco_extended.xlsx", "Churn Label", "Yes"),
    "maven": ("maven_telco.csv", "Customerstatus ", "Churned"),
    "bank_churners": ("bank_churners.csv", "Attrition_Flag", "Attrited Customer"),
    "churn_modelling": ("churn_modelling.csv", "Exited", "1"),
    "hr_attrition": ("hr_attrition.csv", "Attrition", "Yes"),
    "hotel": ("hotel.csv", "booking_status", "1"),
    "travel": ("travel.csv", "Target", "1"),
    "bigml": ("bigml80.csv", "Churn", "TRUE"),
    "churn_large": ("churn_large.xlsx", "Churn", "1"),
}
MATERIAL = 0.005  # PR-AUC; a smaller gap to the best is none
DRAWS = 4000
# Studentized range at 5 % for six contestants, over the root of 2 (Demsar, JMLR 2006, table 5).
NEMENYI = 2.850


def prepare(name: str, tables: Path, cache: Path) -> tuple[Contract, pa.Table]:
    """The drafted contract without accused columns, and the validated table; made once."""
    folder = cache / name
    path, rows = folder / f"{name}.toml", folder / "customers.parquet"
    if not rows.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file, label, churned = TABLES[name]
        path.write_text(draft_contract(tables / file, DraftOptions(label, churned, name=name)).text, encoding="utf-8")
        customers = _customers(load_contract(path), tables / file)
        for _ in range(3):
            contract = load_contract(path)
            splits = split_table(contract, customers)
            accused = {
                f.column
                for f in audit(contract, customers, feature_table(contract, customers, splits), splits).unattested
            }
            for column in sorted(accused):
                exclude(path, column)
            if not accused:
                break
        pq.write_table(_customers(load_contract(path), tables / file), rows)
    return load_contract(path), pq.read_table(rows)


def _customers(contract: Contract, source: Path) -> pa.Table:
    raw = read_table(str(source), contract)
    repaired, _ = apply_repairs(raw, contract)
    return validate(contract, repaired, raw=raw, source=source.name).customers


def frame(view: View, rows: np.ndarray) -> pd.DataFrame:
    """Rows of the features as every library reads them: categories as such, missing values as NaN."""
    columns: dict[str, Any] = {}
    for index, spec in enumerate(view.program.specs):
        values = view.matrix[rows, index]
        if spec.choices:
            codes = np.where(np.isnan(values), -1, values).astype(np.int64)
            columns[spec.name] = pd.Categorical.from_codes(codes, [str(choice) for choice in spec.choices])
        else:
            columns[spec.name] = values.astype(np.float64)
    return pd.DataFrame(columns)


def hist_gradient() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=0)


def xgboost() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_jobs=1, random_state=0, enable_categorical=True)


def lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)


class CatBoost:
    """CatBoost reads categories as texts, of columns that are named."""

    def fit(self, rows: pd.DataFrame, label: np.ndarray) -> "CatBoost":
        from catboost import CatBoostClassifier

        self.names = [name for name in rows if isinstance(rows[name].dtype, pd.CategoricalDtype)]
        self.model = CatBoostClassifier(thread_count=1, random_seed=0, verbose=0, allow_writing_files=False)
        self.model.fit(self._texts(rows), label, cat_features=self.names)
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        return self.model.predict_proba(self._texts(rows))

    def _texts(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{name: rows[name].astype(object).fillna("missing").astype(str) for name in self.names})


def logistic() -> Any:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


LIBRARIES: Mapping[str, Callable[[], Any]] = {
    "hist_gradient": hist_gradient,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "catboost": CatBoost,
    "logistic": logistic,
}


def library(make: Callable[[], Any], data: TrainingData) -> dict[str, Any]:
    view = data.views["random"]
    learn = np.concatenate([view.split.train, view.split.validation])
    model = make().fit(frame(view, learn), data.churned[learn])
    score = model.predict_proba(frame(view, view.split.test))[:, 1]
    return {"pr_auc": pr_auc(data.churned[view.split.test], np.asarray(score, dtype=np.float64))}


def ours(contract: Contract, features: pa.Table, splits: pa.Table) -> dict[str, Any]:
    candidates = [train_candidate(name, contract, features, splits) for name in NAMES]
    choice = choose_model(contract, candidates, features, splits)
    compared = {row.candidate: round(row.test_pr_auc, 4) for row in choice.comparison}
    figures = {name: choice.metrics[f"test_{name}"] for name in ("pr_auc", "ece", "log_loss")}
    return {**figures, "chosen": choice.name, "of": compared}


def measure(name: str, seed: int, contract: Contract, customers: pa.Table, cache: Path, own: str) -> dict[str, float]:
    """PR-AUC of every contestant, by name; what the cache holds is not trained again."""
    splits = split_table(contract, customers, seed)
    features = feature_table(contract, customers, splits)
    data, version = training_data(contract, features, splits), features_hash(features)[:12]
    contestants: dict[str, Callable[[], dict[str, Any]]]
    contestants = {key: lambda make=make: library(make, data) for key, make in LIBRARIES.items()}
    contestants[own] = lambda: ours(contract, features, splits)
    reached = {}
    for key, train in contestants.items():
        file = cache / name / f"{seed}-{key}-{version}.json"
        if not file.is_file():
            start = time.process_time()
            result = {**train(), "cpu_s": round(time.process_time() - start, 1)}
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as unfinished:
                json.dump(result, unfinished)
            Path(unfinished.name).replace(file)
            print(f"{name} seed {seed} {key}: {json.dumps(result)}", flush=True)
        reached[key] = json.loads(file.read_text())["pr_auc"]
    return reached


def ranks_of(reached: np.ndarray) -> np.ndarray:
    """Ranks (tables, contestants) of figures to four digits, 1 the best; ties share their mean."""
    return pd.DataFrame(-reached.round(4)).rank(axis=1).to_numpy()


def rank_differences(reached: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far the mean rank of the last contestant is ahead of each other one, (contestants - 1,), and the 95 %
    interval of the paired bootstrap over tables and, within each, split seeds; `reached` (tables, seeds, contestants).
    """
    generator, (tables, seeds, _) = np.random.default_rng(seed), reached.shape
    draws = []
    for _ in range(DRAWS):
        drawn = generator.integers(tables, size=tables)
        means = reached[drawn[:, None], generator.integers(seeds, size=(tables, seeds))].mean(axis=1)
        draws.append(_ahead(means))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return _ahead(reached.mean(axis=1)), low, high


def _ahead(means: np.ndarray) -> np.ndarray:
    ranks = ranks_of(means).mean(axis=0)
    return ranks[:-1] - ranks[-1]


def report_ranks(reached: np.ndarray) -> None:
    """Is our mean rank beyond noise? `reached` (tables, seeds, contestants), ours last."""
    tables, _, contestants = reached.shape
    ahead, low, high = rank_differences(reached)
    parts = [
        f"{name} {a:+.2f} ({b:+.2f} to {c:+.2f})" for name, a, b, c in zip(LIBRARIES, ahead, low, high, strict=True)
    ]
    critical = NEMENYI * (contestants * (contestants + 1) / (6 * tables)) ** 0.5
    print(f"our mean rank is ahead by (95 %, bootstrap over tables and seeds): {', '.join(parts)}")
    print(f"critical difference of mean ranks (Nemenyi, 5 %): {critical:.2f}")


def report(results: Mapping[str, Sequence[Mapping[str, float]]], own: str) -> None:
    """A row a table, the mean rank of each contestant, and our gap to the best library, mean and standard error."""
    names = [*LIBRARIES, own]
    width = max(map(len, TABLES))
    print("\n" + " " * width + "".join(f"{name:>15}" for name in names) + "   behind the best library")
    every, gaps = [], {}
    for table, seeds in results.items():
        reached = np.array([[seed[name] for name in names] for seed in seeds])
        mean = reached.mean(axis=0)
        every.append(reached)
        differences = reached[:, mean[:-1].argmax()] - reached[:, -1]
        error = differences.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else 0.0
        gaps[table] = (differences.mean(), error)
        figures = "".join(f"{value:15.4f}" for value in mean)
        print(f"{table:{width}}{figures}   {differences.mean():+.4f} +- {error:.4f}", flush=True)
    ranks = ranks_of(np.array([reached.mean(axis=0) for reached in every])).mean(axis=0)
    print(f"{'mean rank':{width}}" + "".join(f"{rank:15.2f}" for rank in ranks))
    report_ranks(np.array(every))
    beyond = {table: gap - 2 * error for table, (gap, error) in gaps.items()}
    worst = max(beyond, key=lambda table: beyond[table])
    over = [table for table, value in beyond.items() if value > MATERIAL]
    print(
        f"worst beyond two standard errors: {worst} {beyond[worst]:+.4f}; over {MATERIAL}: {', '.join(over) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="10-14")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "churn_tables")
    parser.add_argument("--ours", default="ours", help="name of our results in the cache: another after a change")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    results: dict[str, list[dict[str, float]]] = {}
    for name in given.tables.split(","):
        contract, customers = prepare(name, given.folder, given.cache)
        seeds = range(int(first), int(last or first) + 1)
        results[name] = [measure(name, seed, contract, customers, given.cache, given.ours) for seed in seeds]
    report(results, given.ours)


if __name__ == "__main__":
    main()
