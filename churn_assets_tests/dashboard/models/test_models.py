"""Models: figures and verdicts are those of cards and ledger; people approve, reject and roll back, and collide."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.alerting.alerts import open_alerts
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.contract.load import load_contract
from churn_assets.dashboard.moves import act
from churn_assets.dashboard.session import Viewer
from churn_assets.errors import TransitionRefused
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import read_champion
from churn_assets.promotion.status import read_events
from churn_assets.release.policy import read_policy
from churn_assets_tests.dashboard.browser import read, visit
from churn_assets_tests.test_home_0_1 import CHAMPION, FIRST, REFUSED, WAITING

WHO = {"by": "Ana", "why": "read the  verdict"}


def form_of(visitor, version, action):
    """The form of a confirmation page, filled in."""
    path = f"/models/{version}/{action}"
    return path, {**visitor.get(path).form(path), **WHO}


def test_every_version_has_its_role_and_the_figures_of_its_card(visitor, made):
    models = {model["version"]: model for model in visitor.json("/models.json")["models"]}
    roles = {version: model["role"] for version, model in models.items()}
    assert roles == {
        CHAMPION: "champion", FIRST: "former champion", REFUSED: "refused", WAITING: "waiting approval"
    }  # fmt: skip
    for version, model in models.items():
        bundle = made.bundles_dir / version
        metrics = json.loads((bundle / "card.json").read_text())["metrics"]
        ends = {"value": "", "low": "_low", "high": "_high"}
        assert model["pr_auc"] == {name: metrics[f"test_pr_auc{end}"] for name, end in ends.items()}
        assert model["size_bytes"] == sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())


def test_the_verdict_is_shown_line_by_line(visitor, made):
    page, verdict = visitor.json(f"/models/{REFUSED}.json"), Ledger(made.ledger_path).challenger(REFUSED).verdict
    assert [(c["check"], c["value"], c["limit"], c["passed"]) for c in page["checks"]] == [
        (c.check, c.value, c.limit, c.passed) for c in verdict.checks
    ]
    text = visitor.get(f"/models/{REFUSED}").text
    assert all(" ".join(check.message.split()) in text for check in verdict.checks)
    assert page["actions"] == ["shadow"]
    assert visitor.json(f"/models/{WAITING}.json")["actions"] == ["approve", "reject", "shadow"]
    assert visitor.json(f"/models/{FIRST}.json")["actions"] == ["roll-back", "shadow", "canary", "ab"]
    assert visitor.json(f"/models/{CHAMPION}.json")["actions"] == []


def test_the_confirmation_shows_what_is_and_what_will_be(visitor):
    text = visitor.get(f"/models/{WAITING}/approve").text
    assert CHAMPION in text
    assert "is held against the champion by the gate once more" in text
    visitor.get(f"/models/{WAITING}/burn", 404)
    visitor.get("/models/0123456789abcdef/approve", 404)
    assert "is refused, and to approve it is not possible now" in visitor.get(f"/models/{REFUSED}/approve", 409).text


def test_a_person_approves(settings):
    visitor = visit(settings)
    response = visitor.post(*form_of(visitor, WAITING, "approve"), status=200)
    assert f"{WAITING} is approved by Ana." in response.text
    assert visitor.json(f"/models/{WAITING}.json")["actions"] == ["reject", "shadow", "canary", "ab", "promote"]
    challenger = Ledger(settings.ledger_path).challenger(WAITING)
    assert (challenger.status, str(challenger.approved_by)) == ("approved", "Ana")
    assert read_events(settings)[-1].why == "read the verdict"
    assert not any("waiting_approval" in alert.key for alert in open_alerts(AlertSettings(settings.home)))


def test_a_person_rejects_and_rolls_back(settings):
    visitor = visit(settings)
    visitor.post(*form_of(visitor, WAITING, "reject"), status=200)
    assert Ledger(settings.ledger_path).challenger(WAITING).status == "rejected"
    response = visitor.post(*form_of(visitor, FIRST, "roll-back"), status=200)
    assert f"{FIRST} is champion (was {CHAMPION}), by Ana." in response.text
    champion = read_champion(settings.home)
    assert (champion.version, champion.by, champion.reason) == (FIRST, "Ana", "rollback: read the verdict")
    assert "roll-back" in visitor.json(f"/models/{CHAMPION}.json")["actions"]
    assert [event["what"] for event in visitor.json("/models.json")["history"][:2]] == ["rollback", "rejected"]


@pytest.mark.parametrize(
    ("changed", "message"), [({"why": " "}, "a reason is empty"), ({"by": ""}, "your name is empty")]
)
def test_without_a_name_or_a_reason_nothing_happens(settings, changed, message):
    visitor = visit(settings)
    path, fields = form_of(visitor, WAITING, "approve")
    assert message in visitor.post(path, {**fields, **changed}, 422).text
    assert Ledger(settings.ledger_path).challenger(WAITING).status == "waiting_approval"


def test_of_two_people_the_second_sees_what_the_first_has_done(settings):
    ana, ben = visit(settings), visit(settings)
    moved, decided = form_of(ben, FIRST, "roll-back"), form_of(ben, WAITING, "reject")
    ana.post(*form_of(ana, WAITING, "approve"), status=200)
    path, fields = decided
    text = read(ben.post(path, {**fields, "by": "Ben"}, 409)).text
    assert "Ana approved it" in text
    ana.post(*form_of(ana, FIRST, "roll-back"), status=200)
    path, fields = moved
    text = read(ben.post(path, {**fields, "by": "Ben"}, 409)).text
    assert f"Ana has made {FIRST} champion" in text
    assert len(Ledger(settings.ledger_path).moves()) == 3


def test_a_release_is_started_shown_and_ended(settings):
    visitor = visit(settings)
    assert visitor.json("/models.json")["release"] is None
    confirmation = visitor.get(f"/models/{WAITING}/shadow").text
    assert "none: it scores only" in confirmation
    assert "Policy r00000" in visitor.post(*form_of(visitor, WAITING, "shadow"), status=200).text
    policy = read_policy(settings.home)
    assert (policy.kind, policy.challenger.version, policy.by, policy.why) == (
        "shadow", WAITING, "Ana", "read the verdict"
    )  # fmt: skip
    release = visitor.json("/models.json")["release"]
    assert (release["policy"], release["is_running"]) == (policy.id, True)
    assert [(arm["name"], arm["version"], arm["weight"]) for arm in release["arms"]] == [
        ("challenger", WAITING, 0.0), ("champion", CHAMPION, 1.0)
    ]  # fmt: skip
    assert visitor.json(f"/models/{WAITING}.json")["actions"] == ["approve", "reject", "end"]
    assert visitor.json(f"/models/{FIRST}.json")["actions"] == ["roll-back"]
    visitor.post(*form_of(visitor, WAITING, "end"), status=200)
    assert read_policy(settings.home).kind == "champion"
    weights = load_contract(settings.contract_path).release.canary_weights
    assert ", ".join(f"{weight:.0%}" for weight in weights) in visitor.get(f"/models/{FIRST}/canary").text
    visitor.post(*form_of(visitor, FIRST, "canary"), status=200)
    assert read_policy(settings.home).challenger.weight == weights[0]
    assert read_champion(settings.home).version == CHAMPION


def test_of_two_releases_at_once_the_second_is_told_who_made_the_first(settings):
    ana, ben = visit(settings), visit(settings)
    first, second = form_of(ana, WAITING, "shadow"), form_of(ben, FIRST, "canary")
    ana.post(*first, status=200)
    path, fields = second
    assert "not possible now" in ben.post(path, {**fields, "by": "Ben"}, 409).text
    ended = form_of(ben, WAITING, "end")
    assert ended[1]["policy"] == read_policy(settings.home).id
    ana.post(*form_of(ana, WAITING, "end"), status=200)
    ben.post(ended[0], {**ended[1], "by": "Ben"}, 409)
    assert read_champion(settings.home).version == CHAMPION
    ana.post(*form_of(ana, WAITING, "shadow"), status=200)
    path, fields = ended
    text = read(ben.post(path, {**fields, "by": "Ben"}, 409)).text
    assert "Ana made the move shadow" in text
    assert read_policy(settings.home).kind == "shadow"


def test_a_changed_bundle_is_not_approved(settings):
    visitor = visit(settings)
    path, fields = form_of(visitor, WAITING, "approve")
    card = settings.bundles_dir / WAITING / "card.json"
    card.chmod(0o644)
    card.write_text(card.read_text().replace("0", "1"))
    assert "card.json" in visitor.post(path, fields, 503).text
    assert Ledger(settings.ledger_path).challenger(WAITING).status == "waiting_approval"


def test_a_key_needs_the_scope_and_its_name_goes_into_the_history(settings):
    now = dt.datetime.now(dt.UTC)
    _, viewer = KeyStore(settings.home).create("ben", ("view",), None, now)
    key, releaser = KeyStore(settings.home).create("ana", ("view", "release"), None, now)
    client = visit(settings).client
    path = f"/models/{WAITING}/approve"
    fields = {"why": "read it", "champion": CHAMPION, "by": "somebody else"}
    for ask in (client.get, lambda path, **options: client.post(path, data=fields, **options)):
        assert ask(path, headers={"X-API-Key": viewer}).status_code == 403
    assert "Approve …" not in client.get(f"/models/{WAITING}", headers={"X-API-Key": viewer}).text
    assert "Approve …" in client.get(f"/models/{WAITING}", headers={"X-API-Key": releaser}).text
    assert client.post(path, data=fields, headers={"X-API-Key": releaser}).status_code == 200
    assert str(Ledger(settings.ledger_path).challenger(WAITING).approved_by) == f"ana (key {key.id})"


def test_a_form_without_its_token_changes_nothing(settings):
    visitor = visit(settings)
    path, fields = form_of(visitor, WAITING, "approve")
    visitor.post(path, {**fields, "form_token": ""}, 403)
    assert Ledger(settings.ledger_path).challenger(WAITING).status == "waiting_approval"


def test_a_report_is_shown_in_a_sandbox_and_no_other_file(settings):
    visitor = visit(settings)
    folder = settings.reports_dir / CHAMPION
    (folder / "model_report.html").write_text("<p>the report</p>")
    (settings.home / "model_report.html").write_text("another file")
    response = visitor.client.get(f"/models/{CHAMPION}/report")
    assert response.text == "<p>the report</p>"
    assert response.headers["content-security-policy"].startswith("sandbox")
    assert "script" not in response.headers["content-security-policy"]
    assert f"/models/{CHAMPION}/report" in visitor.get(f"/models/{CHAMPION}").addresses
    for version in (WAITING, "..", "%2e%2e"):
        assert visitor.client.get(f"/models/{version}/report").status_code == 404


def test_a_damaged_bundle_is_named_beside_the_others(settings):
    (settings.bundles_dir / REFUSED / "card.json").unlink()
    visitor = visit(settings)
    models = {model["version"]: model["problem"] for model in visitor.json("/models.json")["models"]}
    assert "card.json" in models[REFUSED]
    assert not models[CHAMPION]
    assert "card.json" in visitor.get(f"/models/{REFUSED}").text


def test_the_confirmation_shows_who_answers_before_and_after(visitor):
    def shares(path):
        text = visitor.get(path).text
        now, after = text.split(" Now ")[1].split(" After ")
        return now, after.split(" Why, for the history")[0]

    now, after = shares(f"/models/{FIRST}/roll-back")
    assert f"champion {CHAMPION} 100.0%" in now
    assert f"champion {FIRST} 100.0%" in after
    assert "former champion" in now
    now, after = shares(f"/models/{FIRST}/canary")
    assert f"challenger {FIRST} 5.0% champion {CHAMPION} 95.0%" in after
    now, after = shares(f"/models/{WAITING}/reject")
    assert "waiting approval" in now
    assert "rejected" in after


def test_the_history_says_what_was_and_what_is(settings):
    visitor = visit(settings)
    visitor.post(*form_of(visitor, FIRST, "canary"), status=200)
    visitor.post(*form_of(visitor, FIRST, "promote"), status=200)
    newest, move, canary = (visitor.json("/models.json")["history"][place] for place in (0, 1, 2))
    assert {newest["after"], move["after"]} == {f"champion {FIRST}", f"champion {FIRST} answers everybody"}
    assert canary["before"] == f"champion {CHAMPION} answers everybody"
    assert canary["after"].startswith(f"canary of {FIRST} (0.05 of the customers")
    assert all(event["by"] == "Ana" and event["why"] and event["at"] for event in (newest, move, canary))
    assert f"champion {CHAMPION} answers everybody" in visitor.get("/models").text


def test_of_two_people_in_the_same_instant_one_wins(settings):
    people = [visit(settings) for _ in range(2)]
    forms = [form_of(person, FIRST, action) for person, action in zip(people, ("shadow", "canary"), strict=True)]
    # Both forms are of one state of the home: whoever comes second finds another.
    with ThreadPoolExecutor(2) as pool:
        dashboards = [person.dashboard.sources for person in people]
        results = list(pool.map(_acted, dashboards, forms))
    assert sorted(result is None for result in results) == [False, True]
    (refusal,) = [result for result in results if result is not None]
    assert "expected" in refusal
    moves = [move for move in Ledger(settings.ledger_path).policy_moves("done") if move.kind in ("shadow", "canary")]
    assert len(moves) == 1


def _acted(sources, form):
    """None for an action that was done, else what the person is told."""
    path, fields = form
    _, _, version, action = path.split("/")
    try:
        act(sources, action, version, fields, Viewer(None, "token"))
    except TransitionRefused as error:
        return str(error)
    return None
