"""Which table a run is about."""

import pyarrow.csv as pa_csv
import pytest

from churn_assets.data.readers.read import read_table, resolve_source
from churn_assets.errors import SourceNotFound, SourceUnreadable
from churn_assets.settings import Settings
from churn_assets.synthetic.generate import generate
from churn_assets_tests.strategies import STORE, TELECOM


def settings(root, **environ):
    return Settings.from_environ({"CHURN_ROOT": str(root), **environ})


def test_without_any_file_the_customers_are_generated_and_described_as_such(tmp_path):
    ref = resolve_source(settings(tmp_path), STORE)
    assert ref.generated
    assert ref.description.startswith("generated customers, not real ones: 20,000 rows")
    assert read_table(ref.source.replace("20000", "50"), STORE).num_rows == 50


def test_the_first_file_in_data_raw_that_fits_is_taken(tmp_path):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    (raw / "notes.md").write_text("mine")
    (raw / "a.csv").write_text("x,y\n1,2\n")
    pa_csv.write_csv(generate(TELECOM, 20, 1), raw / "b.csv")
    pa_csv.write_csv(generate(STORE, 20, 1), raw / "c.csv")
    pa_csv.write_csv(generate(STORE, 20, 2), raw / "d.csv")
    ref = resolve_source(settings(tmp_path), STORE)
    assert ref.source.endswith("c.csv")
    assert ref.description == "c.csv (found in data/raw/)"
    assert not ref.generated
    assert [text.split()[0] for text in ref.skipped] == ["a.csv", "b.csv"]


def test_churn_source_comes_first_and_is_relative_to_the_root(tmp_path):
    pa_csv.write_csv(generate(STORE, 20, 1), tmp_path / "mine.csv")
    ref = resolve_source(settings(tmp_path, CHURN_SOURCE="mine.csv"), STORE)
    assert ref.description == "mine.csv (named by CHURN_SOURCE)"
    assert read_table(ref.source, STORE).num_rows == 20
    with pytest.raises(SourceNotFound):
        resolve_source(settings(tmp_path, CHURN_SOURCE="other.csv"), STORE)


def test_a_generated_source_of_no_size_is_one_clear_line(tmp_path):
    with pytest.raises(SourceUnreadable, match="whole numbers"):
        resolve_source(settings(tmp_path, CHURN_SOURCE="generated://store?rows=many"), STORE)


def test_generated_customers_can_be_requested(tmp_path):
    ref = resolve_source(settings(tmp_path, CHURN_SOURCE="generated://store?rows=30&seed=9"), STORE)
    assert ref.generated
    assert "30 rows" in ref.description
    assert "seed 9" in ref.description
    assert read_table(ref.source, STORE).equals(generate(STORE, 30, 9))
