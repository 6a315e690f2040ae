"""What is run together."""

import dagster as dg

# Everything from reading the table to a Bento around the champion; the list is its own job.
train = dg.define_asset_job(
    "train",
    selection=dg.AssetSelection.assets("registered_model", "churn_bento").upstream()
    | dg.AssetSelection.assets("rejected_customers", "data_profile", "model_report", "cross_validation"),
    description="Read, validate, train, choose, cross-validate, report, register; build the Bento.",
)

score = dg.define_asset_job(
    "score",
    selection=dg.AssetSelection.assets("risk_list"),
    description="Rank the customers that were validated last, by the champion there is.",
)

promote = dg.define_asset_job(
    "promote",
    selection=dg.AssetSelection.assets("promotion"),
    description="Let the challengers that wait meet the champion; one that passes the gate replaces it.",
)

JOBS = [train, score, promote]
