"""The definitions of the package for rounds that must be short: instead of training, a bundle is made in a moment.

All else is real: the request, the run in its queue and pool, and the registration of the model as a challenger.
"""

import os
import time
from typing import Any

import dagster as dg

from churn_assets.defs import jobs
from churn_assets.defs.policy import MODELS, TRAINING_POOL
from churn_assets.settings import Settings

SETTINGS = Settings.from_environ(os.environ)
TRAINING_S = 2.0


@dg.op(pool=TRAINING_POOL)
def train_challenger(context: dg.OpExecutionContext) -> None:
    """A challenger that answers the request of this run."""
    from churn_assets.contract.load import load_contract
    from churn_assets.promotion.registration import TrainedModel
    from churn_assets.promotion.service import PromotionService
    from churn_assets_tests.serving.client import make_bundle

    time.sleep(TRAINING_S)  # long enough to be killed in it
    bundle = make_bundle(SETTINGS.home, "logistic")
    PromotionService.of(SETTINGS).register(
        load_contract(SETTINGS.contract_path),
        TrainedModel(bundle.name, 0.9, generated=False),
        bundle,
        missing="no MLflow in a short round",
        request=context.run.tags.get("churn/request"),
    )


@dg.job(name="retrain", tags=MODELS, executor_def=dg.in_process_executor)
def retrain() -> None:
    train_challenger()


JOBS: list[Any] = jobs.JOBS  # of package and test, by the same names
JOBS[JOBS.index(jobs.retrain)] = retrain

from churn_assets.definitions import build  # noqa: E402  # after the job above is in the list

defs = build(SETTINGS)
