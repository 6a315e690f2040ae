"""Small real disks that fill up."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A tmpfs of this size as `folder`, which is made; skips the test where none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def disk_that_freezes(folder: Path) -> Iterator[Callable[[bool], None]]:
    """A small ext4 as `folder`, which is made, and a function that freezes (True) and thaws it: whoever writes hangs.
    Skips the test where none can be mounted."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "fsfreeze"))):
        pytest.skip("only root may mount a disk, and it takes mkfs.ext4 and fsfreeze")
    folder.mkdir(exist_ok=True)
    image = folder.with_suffix(".image")
    image.touch()
    os.truncate(image, 16 * 2**20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        made = subprocess.run(command, capture_output=True, check=False)
        if made.returncode:
            pytest.skip(f"no loop device here: {made.stderr.decode().strip()}")

    def freeze(frozen: bool) -> None:
        subprocess.run(["fsfreeze", "-f" if frozen else "-u", str(folder)], check=True)

    try:
        yield freeze
    finally:
        subprocess.run(["fsfreeze", "-u", str(folder)], capture_output=True, check=False)
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what is free on the disk of `folder`."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path
