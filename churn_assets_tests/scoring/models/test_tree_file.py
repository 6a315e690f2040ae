"""Files of trees that XGBoost's C library would end the process on are refused before it reads them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import cache

import pytest

from churn_assets.errors import BundleCorrupt
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.scoring.models.tree_file import check_trees
from churn_assets.scoring.models.xgboost_c import Booster
from churn_assets_tests.scoring.tiny import scorer_of


@cache
def sound() -> bytes:
    model = scorer_of("boosted").model
    assert isinstance(model, BoostedModel)
    return model.boosters[0].raw


@cache
def sound_json() -> bytes:
    return Booster(sound()).as_json()


def first_inner(tree) -> int:
    return next(node for node, child in enumerate(tree["left_children"]) if node and child != -1)


def shorten(tree, name):
    tree[name].pop()


def circle(tree):
    node = first_inner(tree)
    tree["left_children"][node] = 0


def join(tree):
    tree["right_children"][0] = tree["left_children"][0]


FAULTS = {
    "a tree of more nodes": lambda model, tree: tree["tree_param"].update(num_nodes="100000"),
    "no nodes": lambda model, tree: tree["tree_param"].update(num_nodes="0"),
    "short weights": lambda model, tree: shorten(tree, "base_weights"),
    "short conditions": lambda model, tree: shorten(tree, "split_conditions"),
    "a child beyond": lambda model, tree: tree["left_children"].__setitem__(0, 2**31 - 1),
    "a negative child": lambda model, tree: tree["left_children"].__setitem__(0, -7),
    "one child": lambda model, tree: tree["left_children"].__setitem__(0, -1),
    "a circle": lambda model, tree: circle(tree),
    "two ways to a node": lambda model, tree: join(tree),
    "another parent": lambda model, tree: tree["parents"].__setitem__(1, 5),
    "a root below": lambda model, tree: tree["parents"].__setitem__(0, 1),
    "a feature beyond": lambda model, tree: tree["split_indices"].__setitem__(0, 10**6),
    "a split by categories that are not there": lambda model, tree: tree["split_type"].__setitem__(0, 1),
    "leaves of vectors": lambda model, tree: tree["tree_param"].update(size_leaf_vector="9"),
    "a number of trees": lambda model, tree: model["gbtree_model_param"].update(num_trees="1000"),
    "trees of another output": lambda model, tree: model["tree_info"].__setitem__(0, 3),
    "rounds beyond": lambda model, tree: model["iteration_indptr"].__setitem__(1, 10**6),
    "no trees at all": lambda model, tree: model.pop("trees"),
    "a tree that is none": lambda model, tree: model["trees"].__setitem__(0, 7),
}


def test_what_xgboost_wrote_passes():
    rounds = Booster(sound()).rounds
    for raw in (sound(), sound_json()):
        check_trees(raw, rounds)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_numbers_that_do_not_fit_each_other_are_refused(fault):
    content = json.loads(sound_json())
    model = content["learner"]["gradient_booster"]["model"]
    fault(model, next(tree for tree in model["trees"] if int(tree["tree_param"]["num_nodes"]) > 5))
    with pytest.raises(ValueError, match=r"expected |not a model of trees"):
        check_trees(json.dumps(content).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{}",
        b"[" * 5000,
        b"{" + b"i\x01a{" * 5000,
        b'{"learner": 7}',
        b"{L" + b"\x7f" * 8,
        b"{i\x01a[$d#L" + b"\x7f" * 8,
    ],
)
def test_files_that_are_no_models_are_refused(raw):
    with pytest.raises(ValueError, match=r"\w"):
        check_trees(raw)


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_file_that_is_cut_or_has_more_is_refused(cut):
    for raw in (sound()[:-cut], sound() + b"\0" * cut):
        with pytest.raises(ValueError, match=r"expected|bytes"):
            check_trees(raw)


def test_a_bundle_says_in_one_line_which_file_is_damaged(tmp_path):
    scorer_of("boosted").model.save(tmp_path)
    (tmp_path / "model.ubj").write_bytes(sound()[:-50])
    with pytest.raises(BundleCorrupt, match=r"^[^\n]*model\.ubj: [^\n]* bytes[^\n]*$"):
        BoostedModel.load(tmp_path)


def mutants(count: int, seed: int):
    chance = random.Random(seed)
    for _ in range(count):
        raw = bytearray(sound())
        for _ in range(chance.choice((1, 1, 2, 6))):
            at = chance.randrange(len(raw))
            if chance.random() < 0.5:
                raw[at] = chance.randrange(256)
            else:
                raw[at : at + 4] = chance.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"))
        yield bytes(raw)


def test_a_damaged_model_that_passes_does_not_end_the_process(tmp_path):
    """120 mutants; without the check XGBoost ends the process on a third of those that are refused."""
    passed = 0
    for raw in mutants(120, seed=3):
        try:
            check_trees(raw)
        except ValueError:
            continue
        (tmp_path / f"{passed}.ubj").write_bytes(raw)
        passed += 1
    assert 10 < passed < 110
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from churn_assets.errors import BundleCorrupt\n"
        "from churn_assets.scoring.models.xgboost_c import Booster\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    print(path.name, flush=True)\n"
        "    try:\n"
        "        booster = Booster(path.read_bytes())\n"
        "        booster.margin(np.full((8, booster.features), 50.0, dtype=np.float32))\n"
        "    except BundleCorrupt:\n"
        "        pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-500:])
    assert len(done.stdout.splitlines()) == passed
