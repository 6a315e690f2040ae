"""A bundle is what was written or it is refused, and it scores without the training libraries."""

from __future__ import annotations

import dataclasses
import json
import pickletools
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.errors import BundleCorrupt, BundleMismatch
from churn_assets.features.compile import compile_features
from churn_assets.scoring.bundle import load_bundle, read_card, read_provenance, read_reference, write_bundle
from churn_assets.scoring.calibration import Platt
from churn_assets.scoring.scorer import Bands
from churn_assets.storage.files import canonical_json
from churn_assets.storage.sealed import MANIFEST, _manifest
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, KINDS, TEXT, customers, scorer_of
from churn_assets_tests.storage.no_files import NO_FILES, within

GOLDEN, REFERENCE = customers(40, seed=8), customers(100, seed=9)


def write(root, scorer, **changes):
    arguments = {
        "card": {"metrics": {"test_pr_auc": 0.97}},
        "golden": GOLDEN,
        "as_of": AS_OF,
        "reference": REFERENCE,
        "provenance": {"git_commit": "1"},
    }
    return write_bundle(root, scorer, **(arguments | changes))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bundles"), scorer_of("blend"))


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def reseal(path):
    """Make the manifest agree with the files again, as somebody who edits a bundle by hand might."""
    import hashlib

    manifest = json.loads((path / MANIFEST).read_bytes())
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    about = {name: manifest[name] for name in ("contract", "fingerprint")}
    (path / MANIFEST).write_bytes(_manifest(about, manifest["files"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_bundle_scores_as_the_scorer_it_was_made_of(kind, tmp_path):
    scorer, table = scorer_of(kind), customers(200, seed=11)
    path = write(tmp_path, scorer)
    loaded = load_bundle(path, CONTRACT)
    assert loaded.version == path.name
    assert loaded.ranges == scorer.ranges
    assert (loaded.thresholds, loaded.bands, loaded.calibration) == (
        scorer.thresholds,
        scorer.bands,
        scorer.calibration,
    )
    np.testing.assert_array_equal(
        loaded.score_table(table, AS_OF).probability, scorer.score_table(table, AS_OF).probability
    )


def test_the_same_content_is_the_same_version_and_written_once(tmp_path):
    first = write(tmp_path, scorer_of())
    stamp = (first / MANIFEST).stat().st_mtime_ns
    assert write(tmp_path, scorer_of(), provenance={"git_commit": "2"}) == first
    assert (first / MANIFEST).stat().st_mtime_ns == stamp
    assert read_provenance(first).git_commit == "1"
    other = write(tmp_path, dataclasses.replace(scorer_of(), calibration=Platt(1.0, 0.001)))
    assert other != first
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([first.name, other.name])


def test_card_and_reference_can_be_read_without_the_scorer(bundle):
    card = read_card(bundle)
    assert card.metrics == {"test_pr_auc": 0.97}
    assert card.thresholds.chosen == "profit"
    assert card.bands == Bands(0.3, 0.7)
    assert card.fingerprint == CONTRACT.fingerprint
    assert read_reference(bundle).equals(REFERENCE)


def test_one_changed_byte_in_any_file_is_refused_and_the_file_named(copy):
    files = sorted(p for p in copy.rglob("*") if p.is_file())
    assert len(files) >= 12
    for file in files:
        content = file.read_bytes()
        for at in {0, len(content) // 2, len(content) - 1}:
            changed = bytearray(content)
            changed[at] ^= 1
            file.write_bytes(changed)
            with pytest.raises(BundleCorrupt, match=str(file.relative_to(copy.parent)).replace(".", r"\.")):
                load_bundle(copy)
        file.write_bytes(content[:-1])
        with pytest.raises(BundleCorrupt, match=file.name):
            load_bundle(copy)
        file.write_bytes(content)
    load_bundle(copy)


def test_a_missing_an_extra_and_an_unreadable_file_are_refused(copy):
    (copy / "notes.txt").write_text("hello")
    with pytest.raises(BundleCorrupt, match=r"notes\.txt: is not in the manifest"):
        load_bundle(copy)
    (copy / "notes.txt").unlink()
    (copy / "golden.json").rename(copy.parent / "golden.json")
    with pytest.raises(BundleCorrupt, match=r"golden\.json: is missing"):
        load_bundle(copy)
    (copy / "golden.json").symlink_to(copy.parent / "nowhere")
    with pytest.raises(BundleCorrupt, match=r"golden\.json: cannot be read"):
        load_bundle(copy)
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: cannot be read"):
        load_bundle(copy.parent)


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", [MANIFEST, "model/0/model.ubj", "reference.parquet", "an extra one"])
def test_what_is_no_file_is_refused_in_one_line_and_not_waited_for(copy, make, name):
    (copy / name).unlink(missing_ok=True)
    make(copy / name)
    with within(), pytest.raises(BundleCorrupt) as refusal:
        load_bundle(copy)
    assert str(refusal.value).startswith(f"{copy / name}: ")
    assert "expected" in str(refusal.value) or "take the bundle from its source again" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_manifest_of_another_format_is_refused(copy):
    manifest = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_bytes(canonical_json({**manifest, "format": 2}))
    with pytest.raises(BundleCorrupt, match="format is 2, expected 1"):
        load_bundle(copy)


def test_another_contract_is_a_mismatch(bundle, copy):
    for edit in (
        ('kind = "boolean"', 'kind = "integer"'),
        ('"MAA"]', '"MAA", "CCU"]'),
        ('name = "paperless"', 'name = "p"'),
    ):
        other = parse_contract(TEXT.replace(*edit), "tiny.toml")
        with pytest.raises(BundleMismatch, match=r"needs column '(paperless|city)' as .*train again"):
            load_bundle(bundle, other)
    assert load_bundle(bundle, parse_contract(TEXT.replace("high = 1000", "high = 1001"), "tiny.toml"))
    (copy / "contract.toml").write_text(TEXT.replace("high = 1000\n", "high = 1001\n"))
    reseal(copy)
    with pytest.raises(BundleMismatch, match="its contract now reads as"):
        load_bundle(copy)


def test_the_value_is_that_of_the_contract_in_use(bundle):
    other = parse_contract(TEXT.replace("offer_cost = 10.0", "offer_cost = 11.0"), "tiny.toml")
    assert load_bundle(bundle, other).contract.value == other.value
    assert load_bundle(bundle).contract.value == CONTRACT.value


def test_prose_may_be_bettered_without_a_mismatch():
    other = parse_contract(TEXT.replace("E-mails sent.", "Marketing e-mails sent."), "tiny.toml")
    assert other.fingerprint == CONTRACT.fingerprint


@pytest.mark.parametrize("value", [0.123, float("nan"), None, "0.5"], ids=str)
def test_golden_rows_that_are_not_reproduced_are_refused(copy, value):
    golden = json.loads((copy / "golden.json").read_bytes())
    golden["probability"][3] = value
    (copy / "golden.json").write_text(json.dumps(golden))
    reseal(copy)
    with pytest.raises(BundleCorrupt, match=r"golden\.json: row 3 scores|cannot be loaded"):
        load_bundle(copy)


def test_a_difference_under_a_millionth_is_no_difference(copy):
    golden = json.loads((copy / "golden.json").read_bytes())
    golden["probability"][0] += 9e-7
    (copy / "golden.json").write_text(json.dumps(golden))
    reseal(copy)
    load_bundle(copy)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("golden.json", {"rows": [{"sent": 1}], "probability": [0.5]}),
        ("golden.json", {"probability": [0.5]}),
        ("features.json", {"names": ["sent"]}),
        ("features.json", {"state": {}}),
        ("card.json", {"thresholds": {"values": {}, "chosen": "f1"}}),
        ("calibration.json", {"kind": "tarot"}),
        ("model/model.json", {"kind": "tarot"}),
        ("model/model.json", {"weights": [1.0]}),
    ],
    ids=str,
)
def test_files_edited_by_hand_are_refused_even_when_resealed(copy, file, change):
    stored = json.loads((copy / file).read_bytes())
    (copy / file).write_text(json.dumps({**stored, **change}))
    reseal(copy)
    with pytest.raises(BundleCorrupt, match=r"^[^\n]+$"):
        load_bundle(copy)


def test_a_scorer_that_cannot_be_rebuilt_leaves_no_bundle(tmp_path):
    program = compile_features(CONTRACT)  # not fitted: typical() has nothing to say
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever it is, nothing must be left
        write(tmp_path, dataclasses.replace(scorer_of(), program=program))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_would_not_reproduce_its_scores_is_not_written(tmp_path):
    class Forgetful:
        """Says one thing, saves another."""

        kind, cost = "logistic", 1.0

        def margin(self, matrix):
            return scorer_of().model.margin(matrix) + 0.01

        def save(self, directory):
            scorer_of().model.save(directory)

    with pytest.raises(BundleCorrupt, match=r", expected \S+ within"):
        write(tmp_path, dataclasses.replace(scorer_of(), model=Forgetful()))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_card_with_a_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, scorer_of(), card={"metrics": {"oot_pr_auc": float("nan")}})


def test_no_file_of_a_bundle_is_or_holds_a_pickle(bundle):
    contents = {str(p.relative_to(bundle)): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    for name in [name for name in contents if name.endswith(".npz")]:
        with zipfile.ZipFile(bundle / name) as archive:
            contents |= {f"{name}/{member}": archive.read(member)[128:] for member in archive.namelist()}
        with np.load(bundle / name, allow_pickle=False) as arrays:
            assert all(arrays[member].dtype != object for member in arrays.files)
    for name, content in contents.items():
        if content.startswith(b"\x80"):
            with pytest.raises(ValueError, match=r"."):
                pickletools.dis(content, out=open("/dev/null", "w"))  # noqa: PTH123, SIM115
            pytest.fail(f"{name} begins like a pickle")


_IMPORTS = """
import sys
from pathlib import Path
from churn_assets.scoring.bundle import load_bundle
scorer = load_bundle(Path(sys.argv[1]))
import json
golden = json.loads((Path(sys.argv[1]) / "golden.json").read_bytes())
scorer.score_rows(golden["rows"], golden["as_of_days"])
heavy = ["sklearn", "torch", "pandas", "mlflow", "dagster", "xgboost", "scipy", "bentoml", "evidently", "matplotlib"]
print([name for name in heavy if name in sys.modules], len(golden["rows"]))
"""


def test_a_bundle_of_every_kind_scores_without_the_training_libraries(bundle):
    done = subprocess.run([sys.executable, "-c", _IMPORTS, str(bundle)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[] 40", done.stderr


def test_single_rows_must_reproduce_the_golden_rows_too(bundle, monkeypatch):
    monkeypatch.setattr("churn_assets.scoring.online.calibrate_value", lambda calibration: lambda margin: 0.5)
    with pytest.raises(BundleCorrupt, match="alone, expected"):
        load_bundle(bundle)
