"""`/release` and `/retrain`: what they do, whom they let in, what they refuse, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from churn_assets.access.audit import FILE
from churn_assets.promotion import pointer as pointer_module
from churn_assets.promotion.pointer import require_champion
from churn_assets.promotion.records import Person
from churn_assets.release.counts import ReleaseCounts, counts_folder, write_counts
from churn_assets.release.policy import read_policy
from churn_assets.serving.releases.handler import AT_ONCE
from churn_assets.storage.files import write_json
from churn_assets.storage.lock import file_lock
from churn_assets_tests.promotion.homes import AT
from churn_assets_tests.serving.client import ask, assert_refusal, make_bundle, post
from churn_assets_tests.serving.releases.homes import Home, make_home
from churn_assets_tests.serving.test_access import bearer, new_key


@pytest.fixture
def home(tmp_path) -> Home:
    return make_home(tmp_path / "home")


def move(home: Home, kind: str, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    return post(home.path, "/release", {"move": kind, "why": "a test", "by": "ana", **fields}, headers=headers)


def shown(home: Home) -> dict[str, Any]:
    response = ask(home.path, lambda client, worker: client.get("/release"))
    assert response.status_code == 200, response.text
    return response.json()


def audited(home: Home) -> list[dict[str, Any]]:
    path = home.path / FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_release_is_led_from_its_shadow_to_the_champion(home):
    before = shown(home)
    assert (before["policy"]["kind"], before["running"], before["arms"], before["pairs"]) == (
        "champion",
        False,
        [],
        None,
    )
    first = move(home, "shadow", version=home.challenger, why="look at it", expected=before["policy"]["id"]).json()
    assert first["made"]["before"] == before["policy"]["id"]
    assert [arm["weight"] for arm in first["policy"]["arms"]] == [0.0, 1.0]
    second = move(home, "canary", version=home.challenger, weight=0.1, expected=first["policy"]["id"]).json()
    assert second["policy"]["arms"][0] == {"name": "challenger", "version": home.challenger, "weight": 0.1}
    assert (second["policy"]["step"], second["policy"]["steps"][0]) == (1, 0.1)
    assert read_policy(home.path).id == second["policy"]["id"]
    third = move(home, "promote", version=home.challenger, why="it held").json()
    assert (third["made"]["move"], third["made"]["outcome"]) == ("promote", "promoted")
    assert require_champion(home.path).version == home.challenger
    fourth = move(home, "rollback", why="complaints").json()
    assert fourth["policy"]["arms"] == [{"name": "champion", "version": home.champion, "weight": 1.0}]
    after = shown(home)
    assert [m["move"] for m in after["moves"]] == ["champion", "promote", "canary", "shadow", "champion"]
    assert [(m["by"], m["why"]) for m in after["moves"]][:2] == [("ana", "complaints"), ("ana", "it held")]
    assert after["policy"] == fourth["policy"]
    assert [(a["action"], a["by"], a["why"]) for a in audited(home)] == [
        ("release shadow", "ana", "look at it"), ("release canary", "ana", "a test"),
        ("release promote", "ana", "it held"), ("release rollback", "ana", "complaints"),
    ]  # fmt: skip
    assert audited(home)[1]["version"] == home.challenger


def test_named_arms_answer_their_shares(home):
    made = move(home, "ab", arms={"b": {"version": home.challenger, "weight": 0.3}}).json()
    assert [(a["name"], a["version"]) for a in made["policy"]["arms"]] == [
        ("b", home.challenger), ("champion", home.champion)
    ]  # fmt: skip
    assert [a["weight"] for a in made["policy"]["arms"]] == pytest.approx([0.3, 0.7])


def test_of_two_at_once_one_wins_and_the_other_is_told_who(home):
    seen = shown(home)["policy"]["id"]

    async def both(client, worker):
        bodies = [
            {"move": "canary", "version": home.challenger, "why": f"by {who}", "by": who, "expected": seen}
            for who in ("ana", "bob")
        ]
        return await asyncio.gather(*(client.post("/release", json=body) for body in bodies))

    first, second = sorted(ask(home.path, both), key=lambda response: response.status_code)
    assert first.status_code == 200
    error = assert_refusal(second, 409)["error"]
    assert f"expected {seen}; {first.json()['made']['by']} made the move canary on " in error
    assert "\n" not in error


def test_who_rolls_back_what_somebody_has_ended_is_told_so_and_the_champion_stays(home):
    move(home, "canary", version=home.challenger)
    move(home, "promote", version=home.challenger)
    move(home, "canary", version=home.champion)
    ended = move(home, "rollback", why="complaints", by="ben").json()["policy"]["id"]
    error = assert_refusal(move(home, "rollback", why="complaints"), 409)["error"]
    assert error.startswith(f"no release runs: ben has ended the canary of {home.champion} on ")
    assert "\n" not in error
    assert (read_policy(home.path).id, require_champion(home.path).version) == (ended, home.challenger)
    assert move(home, "rollback", expected=ended).json()["policy"]["arms"][0]["version"] == home.champion
    assert require_champion(home.path).version == home.champion


@pytest.mark.parametrize(
    ("kind", "which", "told"),
    [
        ("canary", "refused", "is refused"),
        ("promote", "refused", "is refused"),
        ("shadow", "champion", "is the champion"),
    ],
)
def test_what_the_rules_refuse_is_a_conflict_and_changes_nothing(home, kind, which, told):
    before = read_policy(home.path)
    assert told in assert_refusal(move(home, kind, version=getattr(home, which)), 409)["error"]
    assert read_policy(home.path) == before
    assert require_champion(home.path).version == home.champion


def test_a_version_that_is_not_there_is_not_found(home):
    missing = "0" * 16
    for fields in ({"version": missing}, {"arms": {"b": {"version": missing, "weight": 0.5}}}):
        kind = "ab" if "arms" in fields else "canary"
        error = assert_refusal(move(home, kind, **fields), 404)["error"]
        assert error.startswith(f"there is no version {missing} in this home, expected one of its bundles")
    assert audited(home) == []


def test_a_damaged_bundle_is_refused_and_a_rollback_without_a_former_champion_too(home):
    (home.path / "bundles" / home.challenger / "card.json").write_text("{}")
    assert "card.json" in assert_refusal(move(home, "shadow", version=home.challenger), 409)["error"]
    assert "no champion before" in assert_refusal(move(home, "rollback"), 409)["error"]


BAD = {
    "no JSON object": ([], ""),
    "no move": ({"why": "w", "by": "a"}, "move"),
    "another move": ({"move": "advance", "why": "w", "by": "a"}, "move"),
    "no reason": ({"move": "rollback", "by": "a"}, "why"),
    "a blank reason": ({"move": "rollback", "why": " \u3000", "by": "a"}, "why"),
    "two lines": ({"move": "rollback", "why": "a\nb", "by": "a"}, "why"),
    "hidden letters": ({"move": "rollback", "why": "a", "by": "an\u202ea"}, "by"),
    "nobody": ({"move": "rollback", "why": "w"}, "by"),
    "the loop": ({"move": "rollback", "why": "w", "by": "loop"}, "by"),
    "the service": ({"move": "rollback", "why": "w", "by": " Service"}, "by"),
    "the gate": ({"move": "rollback", "why": "w", "by": "the gate"}, "by"),
    "no version": ({"move": "shadow", "why": "w", "by": "a"}, "version"),
    "a path as version": ({"move": "shadow", "version": "../x", "why": "w", "by": "a"}, "version"),
    "a weight it has not": ({"move": "shadow", "version": "0" * 16, "weight": 0.5, "why": "w", "by": "a"}, "weight"),
    "no weight": ({"move": "canary", "version": "0" * 16, "weight": 0, "why": "w", "by": "a"}, "weight"),
    "weights over 1": (
        {"move": "ab", "arms": {n: {"version": "0" * 16, "weight": 0.6} for n in "bc"}, "why": "w", "by": "a"}, "arms"
    ),
    "no arms": ({"move": "ab", "arms": {}, "why": "w", "by": "a"}, "arms"),
    "an arm without version": ({"move": "ab", "arms": {"b": {"weight": 0.6}}, "why": "w", "by": "a"}, "arms"),
    "an arm with another name": (
        {"move": "ab", "arms": {"B b": {"version": "0" * 16, "weight": 0.6}}, "why": "w", "by": "a"}, "arms"
    ),
}  # fmt: skip


KEEP_THEIR_SCHEMA = {"nobody", "the loop", "the service", "the gate", "weights over 1"}


def test_what_is_no_move_is_refused_with_its_field(home):
    async def all_of_them(client, worker):
        return {name: await client.post("/release", json=body) for name, (body, _) in BAD.items()}

    for name, response in ask(home.path, all_of_them).items():
        (violation,) = assert_refusal(response, 409 if name in KEEP_THEIR_SCHEMA else 422)["detail"]
        assert violation["column"] == BAD[name][1], (name, violation)
    assert audited(home) == []
    assert read_policy(home.path).kind == "champion"


def test_the_name_in_the_history_is_that_of_the_key(home):
    view, release, admin = (new_key(home.path, scope) for scope in ("view", "release", "admin"))
    key_id = release.split("_")[1]

    async def question(client, worker):
        body = {"move": "shadow", "version": home.challenger, "why": "look"}
        rollback = {"move": "rollback", "why": "enough", "by": "ana"}
        statuses = [(await client.get("/release", headers=bearer(key))).status_code for key in (view, release, admin)]
        refused = await client.post("/release", json=body, headers=bearer(view))
        retrain = await client.post("/retrain", json={"why": "spring"}, headers=bearer(view))
        made = [await client.post("/release", json=each, headers=bearer(release)) for each in (body, rollback)]
        return statuses, refused, retrain, made

    statuses, refused, retrain, made = ask(home.path, question)
    assert statuses == [200, 200, 200]
    for response in (refused, retrain):
        assert "has the scopes view, expected release;" in assert_refusal(response, 403)["error"]
    assert [response.json()["made"]["by"] for response in made] == [f"key {key_id}", f"ana (key {key_id})"]
    assert [entry["by"] for entry in audited(home)] == [f"key {key_id}", f"ana (key {key_id})"]


def test_a_key_of_another_scope_sees_nothing(home):
    key = new_key(home.path, "predict")
    response = ask(home.path, lambda client, worker: client.get("/release", headers=bearer(key)))
    assert "expected view or release" in assert_refusal(response, 403)["error"]


def test_counts_of_all_processes_and_the_files_of_a_release_are_shown(home):
    policy_id = move(home, "shadow", version=home.challenger).json()["policy"]["id"]
    for writer in ("one", "two"):
        counts = ReleaseCounts()
        for score in (0.2, 0.4):
            counts.arm("champion").scored(score, score > 0.3, False, 0.001)
            counts.arm("challenger").scored(score + 0.1, True, True, 0.002)
        counts.arm("challenger").errors = 1
        counts.pairs.rows, counts.pairs.flips, counts.pairs.dropped = 2, 1, 3
        counts.pairs.difference_sum, counts.pairs.difference_squares = 0.2, 0.02
        write_counts(home.path, policy_id, writer, counts)
    folder = counts_folder(home.path, policy_id)
    write_json(folder / "report.json", {"version": 1, "message": "a report"})
    found = shown(home)
    champion, challenger = (next(a for a in found["arms"] if a["name"] == name) for name in ("champion", "challenger"))
    assert (champion["rows"], champion["called_share"], champion["mean_score"]) == (4, 0.5, pytest.approx(0.3))
    assert (challenger["errors"], challenger["warned_share"], challenger["weight"]) == (2, 1.0, 0.0)
    assert challenger["mean_score"] == pytest.approx(0.4)
    assert 2.0 <= challenger["scoring_p99_ms"] <= 2.2
    assert champion["scoring_p50_ms"] < challenger["scoring_p50_ms"]
    assert found["pairs"] == {
        "rows": 4, "flips": 2, "agreement": 0.5, "mean_difference": pytest.approx(0.1),
        "sd_difference": pytest.approx(0.0, abs=1e-7), "dropped": 6,
    }  # fmt: skip
    assert found["report"] == {"version": 1, "message": "a report"}
    assert found["rollout"] == [policy_id]
    assert found["waits_for"].startswith("a decision until ")
    assert "salt" not in json.dumps(found)


def test_what_a_shadow_scored_is_no_answer_of_the_canary_after_it(home):
    for kind, rows in (("shadow", 30), ("canary", 2)):
        policy_id = move(home, kind, version=home.challenger).json()["policy"]["id"]
        counts = ReleaseCounts()
        for arm in ("champion", "challenger"):
            for _ in range(rows):
                counts.arm(arm).scored(0.4, True, False, 0.001)
            counts.arm(arm).errors = rows
        if kind == "shadow":
            counts.pairs.rows = rows
        write_counts(home.path, policy_id, kind, counts)
    found = shown(home)
    assert len(found["rollout"]) == 2
    assert [(arm["name"], arm["rows"], arm["errors"]) for arm in found["arms"]] == [
        ("challenger", 2, 2), ("champion", 2, 2)
    ]  # fmt: skip
    assert found["pairs"]["rows"] == 30


def test_what_a_home_cannot_do_now_is_a_503_without_its_folder(home):
    (home.path / "ledger.db").write_bytes(b"no database" * 500)
    for response in (move(home, "rollback"), ask(home.path, lambda client, worker: client.get("/release"))):
        error = assert_refusal(response, 503)["error"]
        assert error.startswith("ledger.db: is damaged")
        assert response.headers["retry-after"]


def test_who_waits_for_the_lock_takes_no_thread_of_the_worker_and_is_told_no_folder(home, monkeypatch):
    monkeypatch.setattr(pointer_module, "LOCK_S", 0.4)

    async def question(client, worker):
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        body = {"move": "shadow", "version": home.challenger, "why": "look", "by": "ana"}
        with file_lock(home.path / pointer_module.LOCK):
            moves = [asyncio.create_task(client.post("/release", json=body)) for _ in range(AT_ONCE)]
            await asyncio.sleep(0.1)
            await asyncio.wait_for(asyncio.to_thread(int), 0.25)  # as the look for a new policy
            return await asyncio.gather(*moves)

    for response in ask(home.path, question):
        error = assert_refusal(response, 503)["error"]
        assert error.startswith("the home: another process has been moving the champion for 0 s, expected less")
        assert str(home.path) not in response.text


def test_without_a_champion_there_is_nothing_to_move(tmp_path):
    version = make_bundle(tmp_path).name
    response = post(tmp_path, "/release", {"move": "shadow", "version": version, "why": "w", "by": "ana"})
    assert "no model has been promoted" in assert_refusal(response, 503)["error"]
    answer = ask(tmp_path, lambda client, worker: client.get("/release")).json()
    assert (answer["policy"], answer["running"], answer["moves"]) == (None, False, [])


def test_a_move_that_cannot_be_recorded_is_not_made(home):
    (home.path / FILE).mkdir()
    assert "audit.jsonl: cannot be written" in assert_refusal(move(home, "rollback"), 503)["error"]
    assert [m.kind for m in home.ledger.policy_moves()] == ["champion"]


def test_a_retraining_is_asked_for_once(home):
    body = {"why": "the spring offer", "by": "ana"}
    first = post(home.path, "/retrain", body)
    assert home.challenger in assert_refusal(first, 409)["error"]  # it waits: it is approved
    home.ledger.reject(home.challenger, Person("ana"), "no", AT)
    second = post(home.path, "/retrain", body)
    assert (second.status_code, second.json()["decision"]) == (200, "retrain"), second.text
    (request,) = home.ledger.requests("open")
    assert second.json()["request"] == request.key
    assert "ana requests it by hand: the spring offer" in second.json()["message"]
    third = assert_refusal(post(home.path, "/retrain", body), 409)["error"]
    assert request.key in third
    assert third.startswith("wait: ")
    assert [(a["action"], a["by"], a["why"]) for a in audited(home)] == [("retrain", "ana", "the spring offer")] * 3
