"""Studies: resumed where they stopped, kept per contract and data, blind to validation and test rows."""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from churn_assets.errors import TrainingError
from churn_assets.training import tune as tuning
from churn_assets.training.candidate import NAMES
from churn_assets.training.split import read_split
from churn_assets.training.tune import DATABASE, SPACES, best_so_far, defaults, study_name, tune
from churn_assets_tests.strategies import STORE, TELECOM

TRIALS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def tuned(folder, features, splits):
    return tune("logistic", STORE, features, splits, TRIALS, folder)


def test_every_recipe_has_a_space_that_holds_its_defaults():
    assert set(SPACES) == set(NAMES)
    for name in NAMES:
        for key, value in defaults(name).items():
            _, low, high = SPACES[name][key]
            assert low <= value <= high


def test_the_best_is_at_least_as_good_as_the_defaults_and_is_stored(tuned, folder, features, splits):
    assert tuned.trials == TRIALS
    assert tuned.value >= tuned.default_value
    assert set(tuned.params) in (set(), set(SPACES["logistic"]))
    assert best_so_far(folder, study_name("logistic", STORE, features, splits)) == tuned
    assert f"{TRIALS} trials" in tuned.describe()
    assert sorted(p.name for p in folder.iterdir()) == sorted([DATABASE, f"{tuned.study}.json"])


def test_a_study_that_has_its_trials_is_not_run_again(tuned, folder, features, splits, monkeypatch):
    monkeypatch.setattr(tuning, "fit_fold", None)
    assert tune("logistic", STORE, features, splits, TRIALS, folder) == tuned
    assert tune("logistic", STORE, features, splits, 2, folder) == tuned


def test_a_stopped_study_is_resumed(tmp_path, features, splits, monkeypatch):
    fit, calls = tuning.fit_fold, []  # type: ignore[attr-defined]

    def stop_in_the_third_trial(*arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return fit(*arguments)

    folder = tmp_path / "50%41 o?f's #1"  # as no URL can hold it
    monkeypatch.setattr(tuning, "fit_fold", stop_in_the_third_trial)
    with pytest.raises(KeyboardInterrupt):
        tune("logistic", STORE, features, splits, 4, folder)
    monkeypatch.setattr(tuning, "fit_fold", fit)
    messages = []
    assert tune("logistic", STORE, features, splits, 4, folder, progress=messages.append).trials == 4
    assert (folder / DATABASE).is_file()
    assert [line.split(",")[0] for line in messages] == [
        "tuning logistic: trial 3 of 4",
        "tuning logistic: trial 4 of 4",
    ]


def test_tuning_uses_training_rows_only(tuned, tmp_path, features, splits):
    """With their labels turned around the study takes the same way to the same end."""
    other = np.ones(features.num_rows, dtype=bool)
    other[read_split(splits, "random").train] = False
    label = pc.if_else(pa.array(other), pc.subtract(1, features["churned"].cast(pa.int8())), features["churned"])
    turned = features.set_column(1, "churned", label.cast(pa.int8()))
    again = tune("logistic", STORE, turned, splits, TRIALS, tmp_path)
    assert again.study != tuned.study  # other data is another study
    assert msgspec.structs.replace(again, study=tuned.study) == tuned


def test_a_poor_trial_is_pruned(tmp_path, features, splits, monkeypatch):
    """From the fifth trial on, below the median of those before after a fold."""
    fit, calls = tuning.fit_fold, []  # type: ignore[attr-defined]

    def worse_and_worse(*arguments):
        calls.append(1)
        return fit(*arguments) * (1 if len(calls) <= 15 else -1)

    monkeypatch.setattr(tuning, "fit_fold", worse_and_worse)
    result = tune("logistic", STORE, features, splits, 7, tmp_path)
    assert result.pruned == 2
    assert len(calls) == 5 * 3 + 2


def test_another_contract_or_other_rows_are_another_study(features, splits):
    names = {
        study_name("logistic", STORE, features, splits),
        study_name("boosted", STORE, features, splits),
        study_name("logistic", TELECOM, features, splits),
        study_name("logistic", STORE, features.slice(1), splits.slice(1)),
    }
    assert len(names) == 4


@pytest.mark.parametrize(("name", "trials"), [("forest", 3), ("logistic", 0)])
def test_an_unknown_recipe_or_no_trial_is_refused(name, trials, features, splits, tmp_path):
    with pytest.raises(TrainingError, match="expected one of logistic, boosted, deep, network and at least 1 trial"):
        tune(name, STORE, features, splits, trials, tmp_path)


def test_an_unreadable_parameter_file_is_an_error(tmp_path):
    assert best_so_far(tmp_path, "x") is None
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"x\.json: cannot be read as tuned parameters .* delete it"):
        best_so_far(tmp_path, "x")
