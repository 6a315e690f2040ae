"""The definitions of the package for rounds that must be short: instead of training, the champion is calibrated anew.

All else is real: the request, the run in its queue and pool, the registration of the model as a challenger, the gate.
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
    import dataclasses
    import json

    from churn_assets.contract.load import load_contract
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.promotion.registration import TrainedModel
    from churn_assets.promotion.service import PromotionService
    from churn_assets.scoring.bundle import load_bundle, read_reference, write_bundle
    from churn_assets.scoring.calibration import Platt

    time.sleep(TRAINING_S)  # long enough to be killed in it
    champion = require_champion(SETTINGS.home).path(SETTINGS.home)
    scorer = dataclasses.replace(load_bundle(champion), calibration=Platt(0.9, -0.1))
    card, reference = json.loads((champion / "card.json").read_text()), read_reference(champion)
    bundle = write_bundle(
        SETTINGS.home / "bundles",
        scorer,
        card=card,
        golden=reference.slice(0, 40),
        as_of=card["as_of"],
        reference=reference,
        provenance={},
    )
    PromotionService.of(SETTINGS).register(
        load_contract(SETTINGS.contract_path),
        TrainedModel(bundle.name, 0.9, generated=os.environ.get("CHURN_SOURCE", "").startswith("generated")),
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
