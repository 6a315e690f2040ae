"""The champion changes while requests go on."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import pytest

from churn_assets.errors import BundleCorrupt, NoChampion
from churn_assets.serving.routing.models import find_bundle, load_served_model
from churn_assets.serving.routing.watcher import ModelWatcher
from churn_assets_tests.scoring.tiny import KINDS
from churn_assets_tests.serving.client import ASKED, ask, home_with_champion, make_bundle, promote
from churn_assets_tests.storage.no_files import NO_FILES


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_every_kind_is_served(tmp_path, kind):
    assert load_served_model(make_bundle(tmp_path, kind)).scorer.version


def test_another_champion_takes_over_and_no_request_fails(tmp_path):
    home = home_with_champion(tmp_path, "boosted")
    bundles = [make_bundle(home, kind) for kind in ("logistic", "network", "boosted")]

    async def question(client, worker):
        seen, stop = [], asyncio.Event()

        async def load():
            while not stop.is_set():
                response = await client.post("/predict", json=ASKED)
                seen.append((response.status_code, response.json().get("model_version")))

        clients = [asyncio.create_task(load()) for _ in range(4)]
        for bundle in bundles:
            promote(home, bundle)
            async with asyncio.timeout(30):
                while worker.watcher.current.scorer.version != bundle.name:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*clients)
        return seen, (await client.get("/metrics")).text

    seen, metrics = ask(home, question)
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {bundle.name for bundle in bundles}
    assert "churn_model_swaps_total 3.0" in metrics
    assert metrics.count("churn_model_info{") == 3
    assert f'kind="boosted",model_version="{bundles[-1].name}"}} 1.0' in metrics


def expect_more(golden):
    golden["probability"][3] += 0.01


def expect_nothing(golden):
    golden["rows"], golden["probability"] = [], []


def corrupted(home, kind="logistic", change=expect_more):
    """A bundle whose golden rows are changed, its manifest written anew."""
    from churn_assets.storage.files import canonical_json
    from churn_assets.storage.sealed import MANIFEST, _hashes, _manifest

    bundle = make_bundle(home, kind)
    golden = json.loads((bundle / "golden.json").read_bytes())
    change(golden)
    (bundle / "golden.json").write_bytes(canonical_json(golden))
    about = {k: v for k, v in json.loads((bundle / MANIFEST).read_bytes()).items() if k in ("contract", "fingerprint")}
    (bundle / MANIFEST).write_bytes(_manifest(about, _hashes(bundle)))
    return bundle.rename(bundle.with_name(json.loads((bundle / MANIFEST).read_bytes())["version"]))


def test_a_bundle_that_fails_its_golden_rows_is_refused_and_the_old_one_answers(tmp_path):
    home = home_with_champion(tmp_path)
    bad = corrupted(home)

    async def question(client, worker):
        before = (await client.post("/predict", json=ASKED)).json()["model_version"]
        promote(home, bad)
        async with asyncio.timeout(30):
            while worker.watcher.refused is None:
                await asyncio.sleep(0.01)
        after = await client.post("/predict", json=ASKED)
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
        promote(home, home / "bundles" / before)
        async with asyncio.timeout(30):
            while worker.watcher.refused is not None:
                await asyncio.sleep(0.01)
        return before, after, ready, metrics

    before, after, ready, metrics = ask(home, question)
    assert (after.status_code, after.json()["model_version"]) == (200, before)
    assert ready.status_code == 200
    assert ready.json()["detail"]["model_refused"].startswith(f"{bad.name}/golden.json: ")
    assert ", expected " in ready.json()["detail"]["model_refused"]
    assert str(home) not in ready.text
    assert "churn_model_refused_total 1.0" in metrics


def test_a_bundle_without_golden_rows_is_refused(tmp_path):
    with pytest.raises(BundleCorrupt, match=r"golden\.json: has no rows, expected at least 1"):
        load_served_model(corrupted(tmp_path, change=expect_nothing))


def test_a_refused_bundle_is_not_loaded_again_at_every_check(tmp_path):
    loads, now = [], [0.0]

    def load(path):
        loads.append(path)
        raise BundleCorrupt("no good")

    watcher = ModelWatcher(lambda: tmp_path, load, clock=lambda: now[0])
    for _ in range(5):
        watcher.check()
    assert len(loads) == 1
    now[0] = 31.0
    watcher.check()
    assert len(loads) == 2
    assert watcher.refusals == 1
    assert watcher.missing == "no good"


def test_an_unreadable_pointer_changes_nothing_and_is_reported(tmp_path):
    home = home_with_champion(tmp_path)

    async def question(client, worker):
        (home / "champion.json").write_text("{half")
        async with asyncio.timeout(30):
            while worker.watcher.refused is None:
                await asyncio.sleep(0.01)
        return await client.post("/predict", json=ASKED), await client.get("/readyz")

    answer, ready = ask(home, question)
    assert answer.status_code == ready.status_code == 200
    assert ready.json()["detail"]["model_refused"].startswith("champion.json")


def test_a_pointer_that_cannot_be_followed_is_refused_in_one_line_and_the_model_stays(tmp_path):
    home = home_with_champion(tmp_path)
    pointer = home / "champion.json"
    sound = json.loads(pointer.read_text())
    other = make_bundle(home, "logistic").name

    def write(**changed):
        return json.dumps({**sound, **changed})

    wrong = {
        "not JSON": "{half",
        "a list": "[]",
        "deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "a number too long": '{"version": ' + "9" * 100_000 + "}",
        "an unknown field": write(more=1),
        "a type": write(version=7),
        "outside": write(bundle="../elsewhere"),
        "a NUL": write(bundle="bundles/\0"),
        "a long name": write(bundle="bundles/" + "x" * 5000),
        "not there": write(bundle="bundles/none"),
        "another version": write(bundle=f"bundles/{other}"),
        "itself": write(bundle="champion.json"),
        "a folder": None,
        **dict.fromkeys(NO_FILES),
    }

    async def question(client, worker):
        messages = {}
        for name, text in wrong.items():
            pointer.unlink()
            if name in NO_FILES:
                NO_FILES[name](pointer)
            elif name == "a folder":
                pointer.mkdir()
            else:
                pointer.write_text(text)
            worker.watcher.refused = None
            async with asyncio.timeout(30):
                while worker.watcher.refused is None:
                    await asyncio.sleep(0.01)
            assert (await client.post("/predict", json=ASKED)).status_code == 200, name
            messages[name] = worker.watcher.refused
            if name == "a folder":
                pointer.rmdir()
                pointer.touch()
        return messages

    for name, message in ask(home, question).items():
        assert re.match(r"champion\.json: |none/manifest|x+/manifest|champion\.json/manifest", message), (name, message)
        assert re.search("expected|is missing", message), (name, message)
        assert len(message.splitlines()) == 1, name
        assert str(home) not in message, (name, message)
        assert len(message) < 6000


def test_the_first_model_is_loaded_without_a_restart(tmp_path):
    async def question(client, worker):
        before = await client.post("/predict", json=ASKED)
        home_with_champion(tmp_path)
        async with asyncio.timeout(30):
            while worker.watcher.current is None:
                await asyncio.sleep(0.01)
        return before.status_code, (await client.post("/predict", json=ASKED)).status_code

    assert ask(tmp_path, question) == (503, 200)


def test_the_bundle_is_the_one_named_else_packed_else_the_champion(home, tmp_path):
    bundle = next((home / "bundles").iterdir())
    shutil.copytree(bundle, tmp_path / "bundle")
    from pathlib import Path

    assert find_bundle({"CHURN_BUNDLE": "x", "CHURN_HOME": "y"}, tmp_path) == Path("x")
    assert find_bundle({"CHURN_HOME": str(home)}, tmp_path) == tmp_path / "bundle"
    assert find_bundle({"CHURN_HOME": str(home)}, tmp_path / "elsewhere").parent == home / "bundles"
    with pytest.raises(NoChampion):
        find_bundle({"CHURN_HOME": str(tmp_path)}, tmp_path / "elsewhere")
