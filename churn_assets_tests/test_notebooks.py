"""The notebooks run from top to bottom, on generated customers and on the real table where there is one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from churn_assets_tests.strategies import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "eda.ipynb"
REAL = os.environ.get("CHURN_SOURCE", "")


@pytest.fixture(scope="module")
def nbformat():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own libraries, at their import
        import nbclient  # noqa: F401
        import nbformat
    return nbformat


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("generated://store?rows=2000&seed=7", "These customers are generated, not real."),
        pytest.param(
            REAL,
            "6,219 rows with dates",
            marks=pytest.mark.skipif(not REAL.endswith(".xlsx") or not Path(REAL).is_file(), reason="no CHURN_SOURCE"),
        ),
    ],
    ids=["generated", "real"],
)
def test_the_notebook_runs_and_says_what_it_found(nbformat, monkeypatch, tmp_path, source, words):
    notebook = executed(nbformat, monkeypatch, tmp_path, source)
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert words in said
    assert "<- suspect in the contract" in said
    assert " of 16:" in said
    assert any("image/png" in o.get("data", {}) for cell in notebook.cells for o in cell.get("outputs", []))


def test_no_output_and_no_machine_is_committed(nbformat):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def executed(nbformat, monkeypatch, tmp_path, source):
    from nbclient import NotebookClient

    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "CHURN_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("CHURN_SOURCE", source)
    monkeypatch.setenv("CHURN_ROOT", str(ROOT))
    monkeypatch.setenv("CHURN_CONTRACT", "contracts/store.toml")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    return notebook
