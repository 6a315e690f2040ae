"""What is run together."""

import dagster as dg

from churn_assets.defs.policy import MONITORING

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

ingest_log = dg.define_asset_job(
    "ingest_log",
    selection=dg.AssetSelection.assets("prediction_log", "feedback_log"),
    description="Take what the service has logged into the warehouse, and publish a copy to read.",
)

monitor = dg.define_asset_job(
    "monitor",
    selection=dg.AssetSelection.groups(MONITORING),
    description="Ingest the log, judge the data and the drift of every window that has closed.",
)

JOBS = [train, score, ingest_log, monitor]
