"""Moves of the champion: whole, remembered, reversible."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from churn_assets.errors import BundleCorrupt, HomeBusy, RollbackRefused, TransitionRefused
from churn_assets.promotion import pointer as pointer_module
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import (
    LOCK,
    POINTER,
    ChampionPointer,
    read_champion,
    require_champion,
    write_champion,
)
from churn_assets.promotion.records import Person
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, bundle, champion, history, home_with, moves, verdict


@pytest.fixture
def home(tmp_path):
    """(settings, versions) of a home whose champions were v0, v1, v2 in this order."""
    settings, versions = home_with(tmp_path, 3)
    moves(settings).move(champion(versions[0]), "first", "training", "the first")
    for version in versions[1:]:
        promoted(settings, version)
    return settings, versions


def challenged(settings, version, passed=True, needs_person=False):
    ledger = Ledger(settings.ledger_path)
    path = settings.bundles_dir / version
    ledger.add_challenger(version, f"bundles/{version}", bundle_hash(path), None, None, AT)
    ledger.record_verdict(version, verdict(version, passed), needs_person=needs_person, at=AT)


def promoted(settings, version):
    challenged(settings, version)
    return moves(settings).move(champion(version), "promotion", "the gate", "no worse")


def back(settings, to, *, by, why):
    return moves(settings).rollback(to, by, why)


def now(settings):
    return require_champion(settings.home).version


def test_every_move_is_remembered_with_who_why_and_when(home):
    settings, (v0, v1, v2) = home
    told = [(m.kind, m.before, m.to.version, m.by, m.why, m.status) for m in history(settings)]
    assert told == [
        ("first", None, v0, "training", "the first", "done"),
        ("promotion", v0, v1, "the gate", "no worse", "done"),
        ("promotion", v1, v2, "the gate", "no worse", "done"),
    ]
    assert all(m.intended_at <= m.ended_at for m in history(settings))
    assert {c.status for c in Ledger(settings.ledger_path).challengers()} == {"promoted"}


def test_rollback_goes_back_once_further_by_name_and_forward_again_by_name(home):
    settings, (v0, v1, v2) = home
    assert back(settings, None, by="ana", why="complaints").to.version == now(settings) == v1
    with pytest.raises(RollbackRefused) as refusal:
        back(settings, None, by="ben", why="complaints")
    text = str(refusal.value)
    assert text.startswith(f"ana has gone back from {v2} to {v1} on {AT:%Y-%m-%d %H:%M:%S} UTC (complaints)")
    assert f"if {v1} too shall go: churn rollback --to {v0}, or churn release rollback --expect r0" in text
    assert back(settings, v0, by="ana", why="still").to.version == v0
    with pytest.raises(RollbackRefused, match="no champion before the present one"):
        back(settings, None, by="ana", why="and again")
    with pytest.raises(
        RollbackRefused, match=rf"version {v0} is champion, since .* by ana \(rollback: still\), expected"
    ):
        back(settings, v0, by="ben", why="still")
    assert back(settings, v2, by="ana", why="it was not the model").to.version == now(settings) == v2
    assert back(settings, None, by="ana", why="it was").to.version == v0  # as it was before v2 came back
    pointed = require_champion(settings.home)
    assert (pointed.by, pointed.reason) == ("ana", "rollback: it was")


def test_a_rollback_after_a_new_promotion_goes_to_the_one_before_it(home):
    settings, (_, v1, _) = home
    back(settings, None, by="ana", why="complaints")
    promoted(settings, bundle(settings.home, "a fourth"))
    assert back(settings, None, by="ana", why="again").to.version == v1


def waiting_approval(settings, version):
    challenged(settings, version, needs_person=True)


def refused(settings, version):
    challenged(settings, version, passed=False)


def rejected(settings, version):
    challenged(settings, version)
    Ledger(settings.ledger_path).reject(version, Person("ben"), "no", AT)


def approved_and_never_moved_to(settings, version):
    challenged(settings, version)
    with pytest.raises(OSError, match="No space left"):
        moves(settings, pointer=FullDisk(settings.home)).move(champion(version), "promotion", "the gate", "better")


@pytest.mark.parametrize(
    "become", [None, waiting_approval, refused, rejected, approved_and_never_moved_to], ids=lambda f: f and f.__name__
)
def test_a_rollback_goes_to_no_version_that_never_was_champion(home, become):
    settings, (v0, v1, v2) = home
    other = bundle(settings.home, "other")
    if become is not None:
        become(settings, other)
    for version in (other, "nowhere", "../x"):
        with pytest.raises(RollbackRefused) as error:
            back(settings, version, by="ana", why="try it")
        assert f"version {version} never was champion of this home" in str(error.value)
        assert f"expected a former champion: {v1}, {v0};" in str(error.value)
    assert now(settings) == v2
    assert [move.kind for move in history(settings) if move.status == "done"] == ["first", "promotion", "promotion"]


def test_a_bundle_that_is_gone_or_changed_is_refused_and_the_champion_stays(home):
    settings, (v0, v1, v2) = home
    (settings.bundles_dir / v1 / "card.json").write_text("changed")
    with pytest.raises(RollbackRefused, match=f"cannot go back to {v1}: .*card.json: has 7 bytes"):
        back(settings, None, by="ana", why="complaints")
    shutil.rmtree(settings.bundles_dir / v1)
    with pytest.raises(RollbackRefused, match=f"cannot go back to {v1}: .*cannot be read"):
        back(settings, None, by="ana", why="complaints")
    shutil.copytree(settings.bundles_dir / v0, settings.bundles_dir / v1)  # sound, and another model
    with pytest.raises(RollbackRefused, match=r"it was [0-9a-f]{12} when it became champion"):
        back(settings, None, by="ana", why="complaints")
    assert now(settings) == v2
    assert back(settings, v0, by="ana", why="complaints").to.version == v0


def test_a_damaged_pointer_is_mended_by_a_rollback(home):
    settings, (_, _, v2) = home
    (settings.home / POINTER).write_text("{")
    assert back(settings, None, by="ana", why="a disk failed").to.version == now(settings) == v2


def test_a_home_older_than_its_ledger_can_go_back_to_the_champion_it_had(tmp_path):
    settings, (v0, v1) = home_with(tmp_path, 2)
    write_champion(tmp_path, champion(v0))
    promoted(settings, v1)
    assert back(settings, None, by="ana", why="complaints").to.version == v0
    assert back(settings, v1, by="ana", why="forward").to.version == v1
    assert back(settings, v0, by="ana", why="by name").to.version == v0


def test_a_home_without_any_champion_has_nothing_to_go_back_to(tmp_path):
    settings, _ = home_with(tmp_path, 1)
    with pytest.raises(RollbackRefused, match="no champion before"):
        back(settings, None, by="ana", why="complaints")


def test_an_unsound_bundle_never_becomes_champion(home):
    settings, (_, _, v2) = home
    version = bundle(settings.home, "new")
    challenged(settings, version)
    (settings.bundles_dir / version / "more").write_text("extra")
    with pytest.raises(BundleCorrupt, match="is not in the manifest"):
        moves(settings).move(champion(version), "promotion", "the gate", "better")
    with pytest.raises(BundleCorrupt, match="expected a bundle's manifest"):
        moves(settings).move(champion("gone"), "rollback", "ana", "back")
    assert now(settings) == v2
    assert moves(settings).recover() is None


def test_a_promotion_that_nobody_approved_is_refused(home):
    settings, (_, _, v2) = home
    version = bundle(settings.home, "new")
    with pytest.raises(TransitionRefused, match="there is no challenger"):
        moves(settings).move(champion(version), "promotion", "me", "I like it")
    assert now(settings) == v2


class Killed(BaseException):
    pass


class KilledPointer(ChampionPointer):
    def write(self, champion):
        raise Killed


class KilledLedger(Ledger):
    def finish_move(self, *_):
        raise Killed


@pytest.mark.parametrize(
    ("ledger", "pointer", "ends", "status"),
    [(Ledger, KilledPointer, "abandoned", "approved"), (KilledLedger, ChampionPointer, "done", "promoted")],
    ids=["before the pointer", "after the pointer"],
)
def test_a_move_that_was_cut_is_finished_if_the_pointer_was_written_and_else_abandoned(
    home, ledger, pointer, ends, status
):
    settings, (_, _, v2) = home
    version = bundle(settings.home, "new")
    challenged(settings, version)
    with pytest.raises(Killed):
        moves(settings, ledger(settings.ledger_path), pointer(settings.home)).move(
            champion(version), "promotion", "the gate", "better"
        )
    assert history(settings)[-1].status == "intended"
    assert moves(settings).recover().status == ends
    assert moves(settings).recover() is None
    assert Ledger(settings.ledger_path).challenger(version).status == status
    assert now(settings) == (version if ends == "done" else v2)


class FullDisk(ChampionPointer):
    def write(self, champion):
        raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_abandons_the_move_and_says_so(home):
    settings, (_, _, v2) = home
    with pytest.raises(OSError, match="No space left"):
        moves(settings, pointer=FullDisk(settings.home)).rollback(None, "ana", "complaints")
    assert (now(settings), history(settings)[-1].status) == (v2, "abandoned")


def test_the_number_that_the_registry_gives_late_is_no_move_and_overtakes_nobody(home):
    settings, (_, v1, v2) = home
    assert moves(settings).set_registered_version(v2, 7).registered_version == 7
    assert moves(settings).set_registered_version(v1, 6).version == v2
    assert read_champion(settings.home) == replace(champion(v2), registered_version=7)
    assert len(history(settings)) == 3


_HOLDER = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_movers_at_once_wait_for_one_another_and_not_for_ever(home, monkeypatch):
    settings, _ = home
    monkeypatch.setattr(pointer_module, "LOCK_S", 0.05)
    words = [sys.executable, "-c", _HOLDER, str(settings.home / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeBusy, match="has been moving the champion"):
            back(settings, None, by="ana", why="complaints")
        holder.stdin.close()
    assert back(settings, None, by="ana", why="complaints").status == "done"


def test_a_rollback_imports_neither_mlflow_nor_numpy():
    asked = "import sys, churn_assets.promotion.service; print({'mlflow', 'numpy', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
