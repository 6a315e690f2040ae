"""Test PR-AUC of the whole recipe over several split seeds: training, choice, calibration, each time anew.

The public projects' model runs beside it on the same rows: XGBoost with class weights on the columns as
they are and ages in days. It gets our repaired dates, so it does better than what they publish (.9712).

    CHURN_SOURCE=data/raw/store.xlsx python -m benchmarks.split_seeds [seed ...]
"""

import os
import sys

import numpy as np

from churn_assets.contract.load import load_contract
from churn_assets.data.readers.read import read_table, resolve_source
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.evaluation.metrics import pr_auc
from churn_assets.settings import Settings
from churn_assets.synthetic import register_generated_source
from churn_assets.training.candidate import NAMES, train_candidate
from churn_assets.training.feature_table import TrainingData, feature_table, training_data
from churn_assets.training.select import choose_model
from churn_assets.training.split import split_table

SEEDS = (42, 0, 1, 2, 3)
LEARNT = ("opens", "clicks", "unopened", "emails_ratio", "emails_gap", "emails_pace")


def main() -> None:
    seeds = tuple(map(int, sys.argv[1:])) or SEEDS
    register_generated_source()
    settings = Settings.from_environ(os.environ)
    contract = load_contract(settings.contract_path)
    source = resolve_source(settings, contract)
    repaired, _ = apply_repairs(read_table(source.source, contract), contract)
    customers = validate(contract, repaired, source=source.description).customers
    print(f"{source.description}: {customers.num_rows:,} customers")
    rows = []
    for seed in seeds:
        splits = split_table(contract, customers, seed)
        features = feature_table(contract, customers, splits)
        candidates = [train_candidate(name, contract, features, splits) for name in NAMES]
        choice = choose_model(contract, candidates, features, splits)
        baseline = published(training_data(contract, features, splits))
        found = choice.metrics
        rows.append((found["test_pr_auc"], baseline, found["test_ece"]))
        print(
            f"seed {seed:3d}: {choice.name:18s} test PR-AUC {found['test_pr_auc']:.4f} "
            f"({found['test_pr_auc_low']:.4f} .. {found['test_pr_auc_high']:.4f}), ECE {found['test_ece']:.4f}, "
            f"out of time {found.get('oot_pr_auc', float('nan')):.4f}; their model {baseline:.4f}",
            flush=True,
        )
    ours, theirs, error = map(np.array, zip(*rows, strict=True))
    spread = ours.std(ddof=1) if len(ours) > 1 else 0.0
    print(
        f"mean test PR-AUC {ours.mean():.4f} +- {spread:.4f}, ECE {error.mean():.4f}; their model "
        f"{theirs.mean():.4f}; difference {np.mean(ours - theirs):+.4f} ({(ours - theirs).min():+.4f} .. "
        f"{(ours - theirs).max():+.4f})"
    )


def published(data: TrainingData) -> float:
    """Test PR-AUC of the public projects' model on the same split."""
    import xgboost

    view = data.views["random"]
    keep = [i for i, spec in enumerate(view.program.specs) if spec.name not in LEARNT]
    matrix, split = view.matrix[:, keep], view.split
    learn = np.concatenate([split.train, split.validation])
    churned = data.churned[learn]
    settings = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": 6,
        "learning_rate": 0.1,
        "scale_pos_weight": float((churned == 0).sum() / max(1, (churned == 1).sum())),
        "nthread": 1,
        "seed": 42,
    }
    booster = xgboost.train(settings, xgboost.DMatrix(matrix[learn], label=churned), num_boost_round=300)
    return pr_auc(data.churned[split.test], booster.predict(xgboost.DMatrix(matrix[split.test])))


if __name__ == "__main__":
    main()
