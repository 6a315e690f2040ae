"""A Bento that cannot be built says why, in one line."""

import pytest

from churn_assets.defs.bento import build_bento
from churn_assets.errors import BentoNotBuilt
from churn_assets.settings import Settings


def test_a_build_that_fails_says_what_bentoml_said(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    settings = Settings.from_environ({"CHURN_HOME": str(tmp_path / "home")})
    with pytest.raises(BentoNotBuilt, match=r"bentoml build ended with \d+: .*; is its version as pinned\?") as caught:
        build_bento(settings, bundle, "not a version")
    assert "\n" not in str(caught.value)
