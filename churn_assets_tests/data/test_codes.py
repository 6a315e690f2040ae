"""A category of whole numbers is the same choice on every way in: files, requests, the data frames of MLflow."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import duckdb
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.data.readers.read import read_table
from churn_assets.data.validation.validate import validate_features_only
from churn_assets.errors import RowsRejected
from churn_assets.features.compile import compile_features
from churn_assets.features.encode import encode_rows
from churn_assets.features.scalar import RowReader
from churn_assets.mlflow_registry.connect import quiet
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.scoring.bundle import write_bundle
from churn_assets_tests.data.contracts import small_contract
from churn_assets_tests.prediction_log.home import ask, settings
from churn_assets_tests.scoring.tiny import AS_OF, TEXT, customers, json_rows, scorer_of, training
from churn_assets_tests.serving.client import post, promote

with quiet():  # MLflow warns of its own type hints
    from churn_assets.mlflow_registry.pyfunc import ChurnModel

REGIONS = parse_contract(
    small_contract('[[columns]]\nname = "region"\nkind = "category"\nchoices = ["3", "12", "x"]\nnullable = true\n')
)
WITH_CODES = parse_contract(TEXT.replace('"BLR", "BOM", "DEL", "MAA"', '"1", "2", "3", "12"'), "codes.toml")
CODE_OF = {"BLR": "1", "BOM": "2", "DEL": "3", "MAA": "12", None: None}


def to_csv(path, cells):
    path.write_text("id,region\n" + "".join(f"c{i},{'' if cell is None else cell}\n" for i, cell in enumerate(cells)))
    return path


def to_parquet(path, cells):
    pq.write_table(pa.table({"id": [f"c{i}" for i in range(3)], "region": cells}), path)
    return path


def to_excel(path, cells):
    book = openpyxl.Workbook()
    for row in [("id", "region"), *((f"c{i}", cell) for i, cell in enumerate(cells))]:
        book.active.append(row)
    book.save(path)
    return path


def to_duckdb(path, type_):
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE t (id VARCHAR, region {type_})")
        connection.execute("INSERT INTO t VALUES ('c0', 3), ('c1', 12), ('c2', NULL)")
    return f"duckdb://{path}?table=t"


FILES = [
    *((to_csv, "t.csv", cells) for cells in (["3", "12", ""], ["3.0", "12.0", ""], [" 3", "1.2e1", ""])),
    *((to_parquet, "t.parquet", pa.array([3, 12, None], type_)) for type_ in (pa.int8(), pa.float64(), pa.float32())),
    (to_parquet, "t.parquet", pa.array([Decimal("3.00"), Decimal("12.00"), None])),
    (to_parquet, "t.parquet", pa.array([3.0, 12.0, None]).dictionary_encode()),
    (to_excel, "t.xlsx", [3, 12.0, None]),
    (to_excel, "t.xlsx", ["3.0", "12", None]),
    *((to_duckdb, "t.duckdb", type_) for type_ in ("TINYINT", "DOUBLE", "DECIMAL(9, 2)", "VARCHAR")),
]


@pytest.mark.parametrize(("write", "name", "cells"), FILES)
def test_a_file_of_any_kind_has_the_same_choices(tmp_path, write, name, cells):
    table = read_table(write(tmp_path / name, cells), REGIONS, label_required=False)
    assert validate_features_only(REGIONS, table).customers["region"].to_pylist() == ["3", "12", None]


READERS = [RowReader(REGIONS), lambda row: encode_rows(REGIONS, [row])]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("code", ["12", 12, 12.0, np.float64(12.0)])
def test_a_request_may_have_a_whole_number_as_a_number(read, code):
    assert read({"region": code})["region"] == 1


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("code", [4, 3.5, True, -3, float("nan"), float("inf"), 10**400, "3.0", [3], {"a": 3}])
def test_any_other_value_is_refused(read, code):
    with pytest.raises(RowsRejected, match="expected one of: 3, 12, x"):
        read({"region": code})


def scorer_of_codes():
    program, _, _ = training()
    fitted = dataclasses.replace(compile_features(WITH_CODES), state=program.state)
    return dataclasses.replace(scorer_of("boosted"), contract=WITH_CODES, program=fitted)


def with_codes(row, city):
    return {**row, "city": city}


def test_the_service_scores_and_logs_a_number_as_its_choice(tmp_path):
    of, scorer = settings(tmp_path / "home"), scorer_of_codes()
    golden = customers(40, seed=8)
    cities = pa.array([CODE_OF[city] for city in golden["city"].to_pylist()])
    golden = golden.set_column(golden.column_names.index("city"), "city", cities)
    about = {"made_at": "2026-11-21T00:00:00+00:00"}
    bundle = write_bundle(of.home / "bundles", scorer, card={"metrics": {"test_pr_auc": 0.9}, "as_of": AS_OF},
                          golden=golden, as_of=AS_OF, reference=golden, provenance=about)  # fmt: skip
    promote(of.home, bundle, WITH_CODES)
    row = {**json_rows(golden)[0], "as_of": AS_OF}
    asked = [with_codes(row, city) for city in ("12", 12, 12.0)]
    answers = [post(of.home, "/predict", one).json() for one in asked]
    many = [{name: cell for name, cell in one.items() if name != "as_of"} for one in asked]
    batch = post(of.home, "/predict_batch", {"customers": many, "as_of": AS_OF}).json()["predictions"]
    found = [answer["churn_probability"] for answer in [*answers, *batch]]
    assert found == pytest.approx([found[0]] * 6)
    assert ingest(of, WITH_CODES).quarantined == 0
    assert ask(of, "SELECT DISTINCT x_city, count(*) FROM predictions GROUP BY 1") == [("12", 6)]
    [fault] = post(of.home, "/predict", with_codes(row, 4)).json()["detail"]
    assert fault["expected"] == "one of: 1, 2, 3, 12 or null"


FRAMES = [
    pd.array([12, 3, None], dtype="Int64"),
    pd.array([12, 3, None], dtype="Float64"),
    np.array([12.0, 3.0, np.nan]),
    pd.array(["12", "3", None], dtype="string"),
    pd.Categorical(["12", "3", None]),
    np.array([12, "3", None], dtype=object),
    np.array([np.int8(12), np.float32(3.0), pd.NA], dtype=object),
]


@pytest.mark.parametrize("cells", FRAMES, ids=lambda cells: str(cells.dtype))
def test_a_data_frame_of_mlflow_has_the_same_choices(cells):
    model = ChurnModel()
    model.scorer = scorer_of_codes()
    rows = json_rows(customers(3, seed=2))
    expected = [model.scorer.score_rows([with_codes(row, city)], AS_OF).probability[0]
                for row, city in zip(rows, ("12", "3", None), strict=True)]  # fmt: skip
    assert len(set(expected)) == 3
    assert model.predict(None, pd.DataFrame(rows).assign(city=cells), {"as_of": AS_OF}) == pytest.approx(expected)
