"""The leakage audit in the graph: what it reports, and that registration listens to it."""

import json

import dagster as dg
import pyarrow.parquet as pq
import pytest

from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets_tests.defs.home import CANDIDATES, ROOT, checks, failure, metadata, run, settings

NOWHERE = "http://127.0.0.1:9"
UP_TO_THE_AUDIT = (
    *("raw_customers", "validated_customers", "splits", "column_audit", "customer_features"),
    *CANDIDATES,
    *("chosen_model", "leakage_audit"),
)
SOURCE = "generated://store?rows=1500&seed=7"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    of = settings(tmp_path_factory.mktemp("home"), CHURN_MLFLOW_URI=NOWHERE, CHURN_SOURCE=SOURCE)
    with dg.DagsterInstance.ephemeral() as instance:
        yield of, run(of, instance, UP_TO_THE_AUDIT)


def test_the_audit_shows_the_ladder_in_words_in_a_table_and_as_a_picture(audited):
    of, result = audited
    assert result.success
    assert checks(result)["every_suspect_column_is_attested"] is True
    shown = metadata(result, "leakage_audit")
    stored = json.loads((of.assets_dir / "leakage_audit.json").read_text())
    assert shown["in_words"] == "\n\n".join(stored["sentences"])
    assert shown["ladder"].startswith("![the ladder](data:image/svg+xml;base64,")
    assert "without esent" in shown["rungs"]
    rows = pq.read_metadata(of.assets_dir / "validated_customers.parquet").num_rows
    assert shown["dagster/row_count"] == stored["rows"] == rows
    assert stored["chosen"] == json.loads((of.assets_dir / "chosen_model.json").read_text())["name"]


def test_registration_refuses_until_the_column_is_attested_again(audited, tmp_path):
    of, _ = audited
    text = (ROOT / "contracts" / "store.toml").read_text()
    silent = tmp_path / "silent.toml"
    silent.write_text("\n".join(line for line in text.splitlines() if not line.startswith("attested")))
    path = of.assets_dir / "leakage_audit.json"
    stored = json.loads(path.read_text())
    figures = {"limit": "isolated_churner_share", "found": 0.59, "allowed": 0.5, "attested": ""}
    stored["findings"] = [{"column": "esent", "words": "sets apart 59% of the churners", **figures}]
    path.write_text(json.dumps(stored))
    refusing = settings(of.home, CHURN_MLFLOW_URI=NOWHERE, CHURN_CONTRACT=str(silent))
    with dg.DagsterInstance.ephemeral() as instance:
        refused = run(refusing, instance, ["registered_model"])
    assert "column 'esent' sets apart 59% of the churners, expected somebody to attest" in failure(
        refused, "registered_model"
    )
    assert checks(refused) == {"the_model_clears_the_floor": True, "no_unattested_column_carries_the_model": False}
    assert read_champion(of.home) is None
    with dg.DagsterInstance.ephemeral() as instance:
        admitted = run(of, instance, ["registered_model"])
    assert admitted.success
    assert checks(admitted)["no_unattested_column_carries_the_model"] is True
    assert require_champion(of.home).version == stored["model"]
