"""The lock of processes: one holder, a timeout, and free once its holder is gone."""

import subprocess
import sys
import time

import pytest

from churn_assets.errors import HomeBusy
from churn_assets.storage.lock import LockBusy, file_lock

_HOLDER = """
import sys
from pathlib import Path
from churn_assets.storage.lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "home" / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_is_held_names_its_holder_after_the_timeout(tmp_path, holder):
    path = tmp_path / "home" / ".lock"
    for timeout_s in (0.0, 0.2):
        begin = time.monotonic()
        with pytest.raises(LockBusy, match=f"^process {holder.pid}$"), file_lock(path, timeout_s):
            pass
        assert time.monotonic() - begin >= timeout_s
    with (
        pytest.raises(HomeBusy, match=f"held by process {holder.pid}; wait"),
        file_lock(path, busy=lambda who: HomeBusy(f"held by {who}; wait")),
    ):
        pass


def test_the_lock_of_a_killed_holder_is_free(tmp_path, holder):
    holder.kill()
    with file_lock(tmp_path / "home" / ".lock", 10.0):
        pass


def test_a_lock_is_free_again_after_an_error_in_its_block(tmp_path):
    with pytest.raises(KeyError), file_lock(tmp_path / ".lock"):
        raise KeyError
    with file_lock(tmp_path / ".lock"):
        pass


def test_a_lock_without_a_number_is_held_by_another_process(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LockBusy, match=r"^another process$"), file_lock(tmp_path / ".lock"):
            pass


def test_a_folder_that_cannot_be_written_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)), file_lock(tmp_path / "file" / ".lock"):
        pass
