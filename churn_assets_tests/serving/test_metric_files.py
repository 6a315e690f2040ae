"""Files of metrics: what is mapped has its room on disk, whatever happens to the disk later."""

import json
import os
import subprocess
import sys

from churn_assets.serving.metric_files import SIZES, VARIABLE, MetricFiles
from churn_assets_tests.disks import fill, small_disk


def test_without_several_processes_there_are_no_files(tmp_path):
    files = MetricFiles({}, [tmp_path])
    assert (files.folder, files.of_workers()) == (None, [])
    assert files.reserve("counter")


def test_a_full_folder_is_replaced_by_one_with_room_and_all_are_read(tmp_path):
    named, other = tmp_path / "named", tmp_path / "other"
    named.mkdir()
    other.mkdir()
    first = MetricFiles({VARIABLE: str(named)}, [other])
    assert first.folder == named
    with small_disk(named, 64):
        second = MetricFiles({VARIABLE: str(named)}, [other])
        assert second.folder is not None
        assert second.folder.parent == other
        assert second.folder.stat().st_mode & 0o777 == 0o700
        (named / "counter_1.db").write_bytes(b"")
        assert {path.name for path in second.of_workers()} == {"counter_1.db"} | {
            f"{kind}_{os.getpid()}.db" for kind in SIZES
        }
    with small_disk(named, 64):
        assert MetricFiles({VARIABLE: str(named)}, []).folder is None


def test_a_folder_that_others_may_write_is_not_used_and_those_of_the_dead_are_removed(tmp_path):
    with small_disk(tmp_path / "named", 64) as named:
        own = MetricFiles({VARIABLE: str(named)}, [tmp_path]).folder
        assert own is not None
        dead = own.with_name(own.name.rpartition("-")[0] + "-4194999")
        dead.mkdir()
        own.chmod(0o777)
        assert MetricFiles({VARIABLE: str(named)}, [tmp_path]).folder is None
        assert own.exists()
        assert not dead.exists()


SERIES = """
import json, os, sys
from pathlib import Path
from churn_assets.serving.metrics import Metrics
from churn_assets_tests.disks import fill
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics = Metrics()
used = {p.name.split("_")[0]: int.from_bytes(p.read_bytes()[:4], sys.byteorder) for p in folder.glob("*.db")}
filler = fill(folder)

def more(name):
    columns = [f"{name} {number} {'x' * 180}" for number in range(1500)]
    metrics.know_columns(frozenset(columns))
    metrics.models.loaded(name, 0.1, 2**20)
    metrics.shadowed("ok", 1)
    for column in columns:
        metrics.warned(column)
        metrics.predicted(name + column[:12], "champion", "ok")
    metrics.latency(0.1)
    return metrics.exposition()[0].count(b"churn_input_warnings_total{")

counts = [more("full")]
filler.unlink()
counts.append(more("free"))
kinds = sorted({path.name.rpartition("_")[0] for path in folder.glob("*.db")})
json.dump([used["histogram"], counts, more("full"), kinds], sys.stdout)
"""


def test_no_number_of_series_ends_a_worker_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 8192) as disk:
        done = subprocess.run(
            [sys.executable, "-c", SERIES], env={**os.environ, VARIABLE: str(disk)}, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.returncode, done.stderr)
    used, (full, free), again, kinds = json.loads(done.stdout)
    assert kinds == sorted(SIZES), "each file had its room before it was mapped"
    assert used < SIZES["histogram"]  # nothing is added to it later
    assert 100 < full < 1500, "as many as have room"
    assert free == full + 1500
    assert again == 3000


def test_a_page_without_room_does_end_a_process(tmp_path):
    """What these files are there for: if it no longer does, they may go."""
    code = (
        "import mmap, sys\nfile = open(sys.argv[1], 'w+b')\nfile.truncate(65536)\n"
        "mmap.mmap(file.fileno(), 65536)[40000] = 1\n"
    )
    with small_disk(tmp_path / "disk", 64) as disk:
        fill(disk)
        assert subprocess.run([sys.executable, "-c", code, str(disk / "file")]).returncode == -7
