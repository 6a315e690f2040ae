"""What is run together."""

import dagster as dg

from churn_assets.defs.policy import MODELS

# Everything from reading the table to a Bento around the champion; the list is its own job.
_TRAINING = dg.AssetSelection.assets("registered_model", "churn_bento").upstream() | dg.AssetSelection.assets(
    "rejected_customers", "data_profile", "model_report", "cross_validation"
)

train = dg.define_asset_job(
    "train",
    selection=_TRAINING,
    tags=MODELS,
    description="Read, validate, train, choose, cross-validate, report, register; build the Bento.",
)

retrain = dg.define_asset_job(
    "retrain",
    selection=_TRAINING,
    tags=MODELS,
    config={"ops": {"validation": {"config": {"with_labels": True}}}},
    description="Train on the table and on predictions whose label is final: a challenger.",
)

score = dg.define_asset_job(
    "score",
    selection=dg.AssetSelection.assets("risk_list"),
    tags=MODELS,
    description="Rank the customers that were validated last, by the champion there is.",
)

decide = dg.define_asset_job(
    "decide",
    selection=dg.AssetSelection.assets("retraining_decision"),
    description="Decide by the reports there are whether to retrain; makes no report.",
)

JOBS = [train, retrain, score, decide]
