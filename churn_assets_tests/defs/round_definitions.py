"""The definitions of the package for rounds that must be short: `retrain` trains with small parameters, and its extras
(cross-validation, report, Bento) are left out."""

import os

import dagster as dg

from churn_assets.defs import jobs
from churn_assets_tests.defs.home import SMALL

jobs.JOBS[jobs.JOBS.index(jobs.retrain)] = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets("registered_model").upstream(),
    tags=jobs.MODELS,
    config={"ops": {**SMALL, "validation": {"config": {"with_labels": True}}}},
)

from churn_assets.definitions import build  # noqa: E402  # after the job above is in the list
from churn_assets.settings import Settings  # noqa: E402

defs = build(Settings.from_environ(os.environ))
