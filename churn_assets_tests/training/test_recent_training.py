"""Training for customers who have changed: variants of a recipe, the choice of one, and cross-fitted scores."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.data.customers import FEEDBACK, RECENT_ROWS, mark_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.validate import validate
from churn_assets.scoring.bundle import read_card
from churn_assets.scoring.card import Provenance, judged_part
from churn_assets.synthetic.generate import generate
from churn_assets.training.candidate import Candidate, recent_rows, train_candidate
from churn_assets.training.cross_fitted import (
    PROBABILITY,
    cross_fitted_scores,
    read_cross_fitted,
    unseen_by,
    write_cross_fitted,
)
from churn_assets.training.export import as_scorer, write_choice
from churn_assets.training.feature_table import feature_table, training_data
from churn_assets.training.select import choose_model, chosen_of
from churn_assets.training.split import split_table
from churn_assets_tests.strategies import STORE
from churn_assets_tests.trained import SMALL

TABLE, LABELS = 900, 500


def customers(changed: bool) -> pa.Table:
    """A table, and below it labelled predictions; of changed customers those leave who order little."""
    parts = []
    for rows, seed in ((TABLE, 1), (LABELS, 2)):
        repaired, _ = apply_repairs(generate(STORE, rows=rows, seed=seed), STORE)
        part = mark_table(STORE, validate(STORE, repaired, source="generated customers").customers)
        parts.append(part.replace_schema_metadata(part.schema.metadata if not parts else None))
    table, labels = parts
    if changed:
        little = np.argsort(np.argsort(np.nan_to_num(labels["avgorder"].to_numpy(zero_copy_only=False).astype(float))))
        labels = with_churned(labels, (little < len(little) // 4).astype(np.int8))
    names = pa.array([f"new{number}" for number in range(labels.num_rows)]).cast(labels.schema.field(0).type)
    labels = labels.set_column(0, labels.schema.field(0), names)
    source = pa.array([FEEDBACK] * labels.num_rows)
    labels = labels.set_column(labels.schema.get_field_index("row_source"), "row_source", source)
    metadata = {**(table.schema.metadata or {}), RECENT_ROWS: str(labels.num_rows).encode()}
    metadata |= {b"churn_feedback_rows": str(labels.num_rows).encode()}
    both = pa.concat_tables([table.replace_schema_metadata(None), labels.replace_schema_metadata(None)])
    return both.combine_chunks().replace_schema_metadata(metadata)


def with_churned(table: pa.Table, churned: np.ndarray) -> pa.Table:
    return table.set_column(table.schema.get_field_index("churned"), "churned", pa.array(churned, pa.int8()))


def trained(table: pa.Table) -> tuple[pa.Table, pa.Table, list[Candidate]]:
    splits = split_table(STORE, table)
    features = feature_table(STORE, table, splits)
    return splits, features, [train_candidate(n, STORE, features, splits, SMALL[n]) for n in ("logistic", "boosted")]


@pytest.fixture(scope="module")
def changed():
    table = customers(changed=True)
    return table, *trained(table)


@pytest.fixture(scope="module")
def usual():
    table = customers(changed=False)
    return table, *trained(table)


def test_a_recipe_has_a_variant_with_recent_rows_weighted_and_one_with_them_alone(changed, tmp_path):
    _, splits, features, candidates = changed
    for candidate in candidates:
        assert [variant.trained_on for variant in candidate.variants] == ["weighted", "recent"]
        candidate.save(tmp_path / candidate.name)
        again = Candidate.load(tmp_path / candidate.name)
        for before, after in zip(candidate.variants, again.variants, strict=True):
            assert (before.name, before.trained_on, before.metrics) == (after.name, after.trained_on, after.metrics)
            one, two = (variant.fitted["random"].out_of_fold for variant in (before, after))
            np.testing.assert_array_equal(one, two)
    recent = recent_rows(training_data(STORE, features, splits), features)
    assert 0 < recent.sum() < len(recent)


def test_a_variant_of_recent_rows_learns_from_no_other(changed):
    """Other labels of the table's rows leave the variant of recent rows as it was, and change the others."""
    table, splits, features, (before, _) = changed
    shuffled = np.random.default_rng(3).permutation(TABLE)
    label = table["churned"].to_numpy()
    turned = np.concatenate([label[:TABLE][shuffled], label[TABLE:]]).astype(np.int8)
    place = features.column_names.index("churned")
    others = features.set_column(
        place, features.schema.field(place), pa.array(turned).cast(features.schema.field(place).type)
    )
    after = train_candidate(
        "logistic", STORE, others.replace_schema_metadata(features.schema.metadata), splits, SMALL["logistic"]
    )
    matrix = training_data(STORE, features, splits).views["random"].matrix[:300]
    margins = [{v.trained_on: v.fitted["random"].model.margin(matrix) for v in c.variants} for c in (before, after)]
    np.testing.assert_allclose(margins[0]["recent"], margins[1]["recent"])
    assert not np.allclose(margins[0]["weighted"], margins[1]["weighted"])


def test_customers_who_have_changed_get_a_model_that_was_trained_for_them(changed):
    _, splits, features, candidates = changed
    choice = choose_model(STORE, candidates, features, splits)
    assert choice.recent is not None
    assert choice.contender.trained_on == choice.recent.trained_on != "all"
    assert "better beyond noise on the" in choice.reason
    assert judged_part(choice.metrics) == "recent"
    (plain,) = (figure for name, figure in choice.recent.tried.items() if name.endswith("trained on all rows alike"))
    assert choice.metrics["recent_pr_auc"] > plain


def test_without_a_change_the_model_is_the_one_of_all_rows(usual):
    _, splits, features, candidates = usual
    choice = choose_model(STORE, candidates, features, splits)
    assert choice.recent is not None
    assert (choice.contender.trained_on, choice.recent.trained_on) == ("all", "all")
    assert "not better beyond noise" in choice.recent.reason
    assert judged_part(choice.metrics) == "test"


def test_cross_fitted_scores_are_those_of_models_that_did_not_see_the_customer(changed, tmp_path):
    table, splits, features, candidates = changed
    choice = choose_model(STORE, candidates, features, splits)
    bundle = write_choice(STORE, choice, candidates, table, tmp_path, Provenance(generated=True))
    scorer = as_scorer(STORE, choice)
    scores = cross_fitted_scores(scorer, bundle, table, features, splits, candidates)
    card = read_card(bundle)
    assert card.recent is not None
    assert chosen_of(card.chosen, card.recent.trained_on, candidates, features) is not None
    assert scores.num_rows == LABELS
    assert scores["recent"].to_pylist() == [True] * LABELS
    own = scorer.score_table(table.slice(TABLE), dt.date(2014, 1, 20)).probability
    assert not np.allclose(scores[PROBABILITY].to_numpy(), own)  # the model itself has learned from most of them
    assert read_cross_fitted(bundle) is None
    write_cross_fitted(bundle, scores)
    assert read_cross_fitted(bundle) == scores


def test_a_champion_is_not_compared_on_rows_that_it_has_learned_from(changed):
    table = customers(changed=True).slice(TABLE).drop_columns(["row_source", "row_aside"])
    scores = table.append_column(PROBABILITY, pa.array(np.linspace(0, 1, LABELS)))
    scores = scores.append_column("recent", pa.array([number >= 100 for number in range(LABELS)]))
    assert unseen_by(scores, STORE, scores.slice(0, 0), "").num_rows == 400
    assert unseen_by(scores, STORE, scores.slice(0, 150), "").num_rows == 350
    day = scores["row_as_of"][0].as_py()
    known = day + dt.timedelta(days=STORE.label.horizon_days)
    assert unseen_by(scores, STORE, None, str(known)).num_rows == 0
    assert unseen_by(scores, STORE, None, str(known - dt.timedelta(days=1))).num_rows == 400
    assert unseen_by(scores, STORE, None, "").num_rows == 0
