"""`churn release ...`: each strategy of docs/rollout.md as it is documented, what status and history say of it."""

from __future__ import annotations

import json
import re
import shlex
import warnings

import pytest

from churn_assets.errors import TransitionRefused
from churn_assets.promotion.pointer import require_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import Releases
from churn_assets.promotion.status import read_ledger_status
from churn_assets.release.policy import read_policy
from churn_assets_tests.promotion.homes import bundle
from churn_assets_tests.promotion.test_releases import NUMBERS, OWN, challenge, home  # noqa: F401  # a fixture
from churn_assets_tests.scoring.tiny import CONTRACT
from churn_assets_tests.strategies import ROOT

PAGE = (ROOT / "docs" / "rollout.md").read_text(encoding="utf-8")
BLOCKS = [
    pytest.param(block.splitlines(), id=f"{section.splitlines()[0].lower().replace(' ', '-')}-{number}")
    for section in PAGE.split("\n## ")[1:]
    for number, block in enumerate(re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S))
]
WHO = ["--by", "ana", "--why", "because"]


@pytest.fixture
def churn(home, monkeypatch):  # noqa: F811
    """Runs `churn` with these words in the home; what it printed."""
    monkeypatch.setenv("CHURN_HOME", str(home[0].home))
    monkeypatch.setenv("CHURN_CONTRACT", "contracts/store.toml")

    def run(*words):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Typer imports what Click deprecates
            from typer.testing import CliRunner

            from churn_assets.cli.app import app

            done = CliRunner().invoke(app, list(words))
        if done.exception is not None:
            raise done.exception
        return done.output

    return run


@pytest.mark.parametrize("commands", BLOCKS)
def test_each_strategy_goes_as_its_page_says(home, churn, commands):  # noqa: F811
    settings, v0, _, v2 = home
    for command in commands:
        policy = read_policy(settings.home)
        named = command.replace("VERSION", v2).replace("FORMER", v0).replace("POLICY", policy.id)
        words = shlex.split(named)
        assert words.pop(0) == "churn"
        printed = churn(*words)
        after = read_policy(settings.home)
        assert after.id in printed or after.champion.version in printed
        assert (after == policy) == ("status" in words)
        assert after.champion.version == require_champion(settings.home).version
    kinds = {"shadow": "shadow", "canary": "canary", "ab": "ab"}
    last = next(words for line in reversed(commands) if "status" not in (words := shlex.split(line)))
    assert read_policy(settings.home).kind == kinds.get(last[2], "champion")


def test_a_release_begins_by_the_contract_that_is_named(home, churn, tmp_path):  # noqa: F811
    edited = tmp_path / "edited.toml"
    edited.write_text(OWN.replace("[0.02, 0.5]", "[0.3]"))
    churn("release", "canary", home[3], *WHO, "--contract", str(edited))
    assert [step.weight for step in read_policy(home[0].home).steps] == [0.3]
    churn("release", "promote", home[3], *WHO, "--contract", str(edited))
    assert require_champion(home[0].home).fingerprint == CONTRACT.fingerprint


@pytest.mark.parametrize("name", ["service", "Loop", "the gate", " "])
def test_a_name_that_is_no_persons_makes_no_move(home, churn, name):  # noqa: F811
    with pytest.raises(SystemExit):
        churn("release", "canary", home[3], "--by", name, "--why", "because")
    assert read_policy(home[0].home).kind == "champion"


def test_the_page_walks_through_all_strategies():
    assert len(BLOCKS) >= 8
    walked = {shlex.split(line)[2] for block in BLOCKS for line in block.values[0] if line.startswith("churn release")}
    assert walked == {"shadow", "canary", "ab", "promote", "rollback", "status"}


def test_of_two_who_throw_a_canary_out_the_second_leaves_the_champion(home, churn):  # noqa: F811
    settings, v0, v1, v2 = home
    churn("release", "canary", v2, *WHO)
    churn("release", "rollback", *WHO)
    policy = read_policy(settings.home)
    with pytest.raises(TransitionRefused, match=f"ana has ended the canary of {v2} on .*--expect {policy.id}$"):
        churn("release", "rollback", *WHO)
    assert (read_policy(settings.home), require_champion(settings.home).version) == (policy, v1)
    churn("release", "rollback", "--expect", policy.id, *WHO)
    assert require_champion(settings.home).version == v0


def test_the_watch_says_what_it_sees(home, churn):  # noqa: F811
    assert churn("release", "watch", "--once") == "no release runs\n"
    churn("release", "canary", home[3], *WHO)
    assert churn("release", "watch", "--once").startswith("r000003: hold: step 1 of 2")


def test_status_and_history_say_what_runs_and_what_was_thrown_out(home, churn):  # noqa: F811
    settings, _, v1, v2 = home
    assert f"champion {v1} answers everybody; policy r000002" in churn("release", "status")
    churn("release", "canary", v2, "--weight", "0.1", *WHO)
    shown = churn("release", "status")
    assert f"canary of {v2} (0.1 of the customers, step 1 of 2) beside champion {v1}; policy r000003 by ana" in shown
    assert "0 of 1,000 rows of the challenger" in shown
    lines = read_ledger_status(settings).lines  # which churn status prints
    assert lines[0].startswith(f"canary of {v2}")
    assert f"challenger {v2} is let in by policy r000003: churn release status" in lines
    Releases.of(settings).end("r000003", "rolled_back", "errors rise", NUMBERS)
    assert "canary rolled back: errors rise" in read_ledger_status(settings).lines[0]
    told = churn("history")
    assert f"canary, step 1 of 2 (0.1)  {v2}  by ana: because" in told
    assert f"canary rolled back  {v2}  by service: errors rise\n  error_rate: crossed, value 0.1, limit 0.005" in told
    assert f"rejected  {v2}  by service: errors rise" in told
    events = json.loads(churn("history", "--json"))["events"]
    assert [e["numbers"] for e in events if e["numbers"]] == [NUMBERS]
    moves = json.loads(churn("release", "status", "--json"))["moves"]
    assert [move["numbers"] for move in moves if move["numbers"]] == [NUMBERS]
    release = json.loads(json.dumps(read_ledger_status(settings).to_json()))
    assert (release["policy"]["id"], release["running"]) == ("r000004", False)


def test_an_approved_challenger_that_waits_for_a_release_says_so(home, churn):  # noqa: F811
    settings, _, v1, v2 = home
    other = bundle(settings.home, "other")
    challenge(settings, other, v1)
    churn("release", "canary", v2, *WHO)
    told = f"challenger {other} was approved and waits for the end of policy r000003: churn release status"
    assert told in read_ledger_status(settings).lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ab", "new=1234"], "the arm is 'new=1234', expected NAME=VERSION:WEIGHT"),
        (["ab", "new=1234:much"], "the arm is 'new=1234:much', expected NAME=VERSION:WEIGHT"),
        (["canary", "nobody"], "there is no version 'nobody' in this home"),
        (["rollback", "--expect", "r000001"], "policy r000002 is in force"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(churn, words, message):
    with pytest.raises(TransitionRefused, match=message):
        churn("release", *words, *WHO)


def test_a_rejection_by_command_ends_the_release(home, churn):  # noqa: F811
    settings, _, _, v2 = home
    churn("release", "canary", v2, *WHO)
    churn("reject", v2, "--by", "ben", "--why", "wrong for new customers")
    assert read_policy(settings.home).kind == "champion"
    assert Releases.of(settings).status().moves[-1].by == str(Person("ben"))
