"""One thread a process, and Hypothesis without deadlines: this machine is shared."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

from churn_assets.synthetic import register_generated_source
from churn_assets_tests.trained import candidates, choice, customers, features, splits

__all__ = ["candidates", "choice", "customers", "features", "splits"]  # fixtures of several folders

register_generated_source()

settings.register_profile("here", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
