"""The ladder beside a bundle: whole or not there, and only for the version it was climbed for."""

from __future__ import annotations

import json

import pytest

from churn_assets.scoring.bundle import ladder_path, load_bundle, read_ladder, write_ladder
from churn_assets_tests.serving.client import make_bundle


def test_what_is_written_is_read_and_the_bundle_stays_as_sealed(tmp_path):
    bundle = make_bundle(tmp_path)
    assert read_ladder(bundle, bundle.name) is None
    for rungs in ([1], [1, 2]):
        assert write_ladder(bundle, bundle.name, {"rungs": rungs}) == ladder_path(bundle)
        ladder = read_ladder(bundle, bundle.name)
        assert ladder is not None
        assert ladder.rungs == rungs
    assert load_bundle(bundle).version == bundle.name
    assert [path.name for path in bundle.parent.iterdir() if path.is_file()] == [f"{bundle.name}.ladder.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": "another"}', b"\xff"])
def test_a_ladder_that_cannot_be_read_is_none(tmp_path, damage):
    ladder_path(tmp_path / "v1").write_bytes(damage)
    assert read_ladder(tmp_path / "v1", "v1") is None


def test_a_ladder_that_cannot_be_written_leaves_the_older_one(tmp_path):
    write_ladder(tmp_path / "v1", "v1", {"rungs": [1]})
    with pytest.raises(ValueError, match="JSON"):
        write_ladder(tmp_path / "v1", "v1", {"rungs": float("nan")})
    assert json.loads(ladder_path(tmp_path / "v1").read_bytes())["rungs"] == [1]
    assert len(list(tmp_path.iterdir())) == 1
