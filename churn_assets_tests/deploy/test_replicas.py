"""Two replicas of the service on one home, each like a pod: a network, a host name, process numbers and mounts of its
own. The home is read-only but for the replica's segments and the counts of releases. One ingest, outside, reads all."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.prediction_log.segment import OPEN, QUIET_S
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.prediction_log.warehouse.read import verify
from churn_assets.settings import Settings
from churn_assets_tests.deploy.tools import cannot_run, need_root
from churn_assets_tests.prediction_log.home import STORE, ask
from churn_assets_tests.serving.client import ASKED, ROOT, home_with_champion, make_bundle, promote, wait_for
from churn_assets_tests.serving.load import Load

# $1 the home, $2 the name; the mounts are what the chart gives a pod.
_POD = """
set -e
ip link set lo up
hostname "$2"
mount --bind "$1/predlog/$2" "$CHURN_SEGMENTS_DIR"
mount --bind "$1/releases" "$CHURN_RUN_DIR/releases"
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
mount --bind "$CHURN_RUN_DIR/releases" "$1/releases"
exec "$3" -W ignore -m churn_assets.cli serve
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Pod:
    """A replica that can be started, killed and stopped; `url` is its address in its own network."""

    def __init__(self, home: Path, folder: Path, number: int) -> None:
        self.home, self.folder, self.name = home, folder / f"web-{number}", f"web-{number}"
        self.address, self.url = f"10.213.{number}.2", f"http://10.213.{number}.2:3000"
        self._namespace, self._link = f"churn-{os.getpid()}-{number}", f"churn{os.getpid() % 10**6}v{number}"
        self._gateway = f"10.213.{number}.1"
        self.folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def make_network(self) -> None:
        inside = ("ip", "-n", self._namespace)
        for command in (
            ("ip", "netns", "add", self._namespace),
            ("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._namespace),
            ("ip", "addr", "add", f"{self._gateway}/24", "dev", self._link),
            ("ip", "link", "set", self._link, "up"),
            (*inside, "addr", "add", f"{self.address}/24", "dev", "eth0"),
            (*inside, "link", "set", "eth0", "up"),
        ):
            done = run(*command)
            if done.returncode:
                cannot_run(f"{' '.join(command)}: {done.stderr.strip()}")

    def remove_network(self) -> None:
        run("ip", "netns", "del", self._namespace)

    def start(self) -> None:
        (self.home / "predlog" / self.name).mkdir(parents=True, exist_ok=True)
        for name in ("run/releases", "segments", "bentoml"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        variables = {
            "CHURN_HOME": str(self.home),
            "CHURN_INSTANCE": self.name,
            "CHURN_HOST": "0.0.0.0",  # of its own network
            "CHURN_SEGMENTS_DIR": str(self.folder / "segments"),
            "CHURN_RUN_DIR": str(self.folder / "run"),
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "CHURN_GRPC_PORT": "0",
            "CHURN_RATE_PER_S": "100000",
            "CHURN_LOG_SEGMENT_BYTES": "200000",
        }
        own = ("unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child=SIGKILL")
        script = ("bash", "-c", _POD, "pod", str(self.home), self.name, sys.executable)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *own, *script],
                cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(f"{self.url}/readyz", self._process, self.folder / "log")

    def kill(self) -> None:
        """As if its node had lost power: every process at once, nothing handed over."""
        assert self._process is not None
        self._process.kill()  # unshare; the kernel kills the namespace with its first process
        self._process.wait(20)
        self._wait_until_gone()

    def stop(self) -> None:
        """As the kubelet does: SIGTERM to the first process of the pod."""
        assert self._process is not None
        children = run("pgrep", "-P", str(self._process.pid)).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        self._process.wait(40)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/livez", timeout=0.3)
            except httpx.TransportError:
                return
        raise AssertionError(f"{self.name} still answers")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    for name in ("predlog", "releases"):
        (folder / name).mkdir(parents=True)
    return home_with_champion(folder)


@pytest.fixture
def pods(home: Path, tmp_path: Path) -> Iterator[list[Pod]]:
    need_root("a network namespace")
    made = [Pod(home, tmp_path, number) for number in (0, 1)]
    try:
        for pod in made:
            pod.make_network()
        yield made
    finally:
        for pod in made:
            if pod._process is not None and pod._process.poll() is None:
                pod.kill()
            pod.remove_network()


def test_two_replicas_log_into_one_log_and_follow_one_home(home: Path, pods: list[Pod]) -> None:
    settings = Settings.from_environ({"CHURN_HOME": str(home)}, ROOT)
    keys, now = KeyStore(home), dt.datetime.now(dt.UTC)
    _, token = keys.create("app", ("predict", "feedback", "release"), None, now)
    for pod in pods:
        pod.start()
    assert httpx.post(f"{pods[0].url}/predict", json=ASKED).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}

    acknowledged: list[str] = []
    with Load(f"{pods[0].url}/predict", ASKED, 2, token) as first:
        for _ in range(2):  # a node is lost under load, and its pod starts again under the same name
            with Load(f"{pods[1].url}/predict", ASKED, 2, token) as second:
                time.sleep(1.0)
                ingest(settings, STORE)  # beside both, as in the pipeline
                pods[1].kill()
            acknowledged += second.acknowledged
            assert second.acknowledged
            pods[1].start()
    acknowledged += first.acknowledged
    assert set(first.statuses) == {200}, "the other replica does not notice"

    # One home: a feedback by the other replica, a move and a revoked key are everywhere.
    report = {"prediction_id": second.acknowledged[0], "churned": True, "observed_at": "2026-11-01"}
    assert httpx.post(f"{pods[0].url}/feedback", json=report, headers=headers).status_code == 200
    promoted = make_bundle(home, "logistic")
    promote(home, promoted)
    deadline = time.monotonic() + 5
    versions: set[str] = set()
    while versions != {promoted.name} and time.monotonic() < deadline:
        answers = [httpx.post(f"{pod.url}/predict", json=ASKED, headers=headers).json() for pod in pods]
        acknowledged += [answer["prediction_id"] for answer in answers]
        versions = {answer["model_version"] for answer in answers}
    assert versions == {promoted.name}

    # What a replica may not write it refuses, and says why; what its workers share lies beside it.
    move = {"move": "rollback", "by": "ana", "why": "a test"}
    assert {httpx.post(f"{p.url}/release", json=move, headers=headers).status_code for p in pods} == {503}
    assert all((pod.folder / "run" / "rate_limits.bin").is_file() for pod in pods)
    assert not (home / "rate_limits.bin").exists()
    [key] = keys.all()
    keys.revoke(key.id, now)
    time.sleep(1.5)
    assert {httpx.post(f"{pod.url}/predict", json=ASKED, headers=headers).status_code for pod in pods} == {401}

    # One pod ends as it should, the other is lost for good: the ingest takes its rows once it has been silent.
    pods[0].stop()
    pods[1].kill()
    ingest(settings, STORE)
    left = list((home / "predlog" / "web-1").glob(f"*{OPEN}"))
    assert left, "the lost pod had a segment open"
    assert verify(settings.predlog_dir, acknowledged, settings.archive_dir).kept
    for path in left:
        past = time.time() - QUIET_S - 5
        os.utime(path, (past, past))
    assert ingest(settings, STORE).adopted == len(left)

    rows = ask(settings, "SELECT prediction_id, count(*) FROM predictions GROUP BY 1")
    assert dict(rows).keys() >= set(acknowledged)
    assert {count for _, count in rows} == {1}
    assert ask(settings, "SELECT count(*) FROM quarantine") == [(0,)]
    assert ask(settings, "SELECT count(*) FROM feedback") == [(1,)]
    names = [name for (name,) in ask(settings, "SELECT name FROM segments")]
    writers = {pod.name: {name.split("-")[1] for name in names if name.endswith(f"@{pod.name}")} for pod in pods}
    assert writers["web-0"] & writers["web-1"], "processes of two pods have the same numbers"
