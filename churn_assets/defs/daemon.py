"""`python -m churn_assets.defs.daemon WORKSPACE`: Dagster's daemon with one code server that stays.

`dagster-daemon run -w workspace.yaml` starts a new code server once a minute, to notice changed code. That is most of
its idle cost: 3 s of CPU each time, and the memory of two servers while they overlap. A run loads the code anew anyway.

The process reads the workspace with Dagster and then executes itself anew without it: what watches needs no 50 MiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from churn_assets.settings import Settings

_POLL_S = 1.0
_PYTHON = [sys.executable, "-m"]
_WATCH = "--watch"


def main(workspace: Path) -> None:
    """Become the process that runs the daemon until it ends. A code server that dies is started again."""
    from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    origins = [*location_origins_from_yaml_paths([str(workspace)])]
    if len(origins) != 1 or not isinstance(origins[0], ManagedGrpcPythonEnvCodeLocationOrigin):
        _become(_daemon(workspace))  # a workspace of somebody's own making, with servers of its own
    target, location = origins[0].loadable_target_origin, origins[0].location_name
    _become([*_PYTHON, "churn_assets.defs.daemon", _WATCH, location, *target.get_cli_args()])


def _become(command: Sequence[str]) -> None:
    """The same process, with the same open files, executes another command."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], [*command])


def watch(location: str, target: Sequence[str]) -> int:
    """Run a code server for `target` (arguments of `dagster api grpc`) and the daemon on it; the daemon's exit code."""
    with tempfile.TemporaryDirectory(prefix="churn-daemon-") as folder:  # a socket must have a short path
        socket, served = Path(folder) / "code.sock", Path(folder) / "workspace.yaml"
        place = {"grpc_server": {"socket": str(socket), "location_name": location}}
        served.write_text(json.dumps({"load_from": [place]}), encoding="utf-8")  # JSON is YAML as well
        serve = [*_PYTHON, "dagster", "api", "grpc", "--lazy-load-user-code", "--log-level", "warning"]
        serve += ["--socket", str(socket), "--location-name", location, *target]
        return _watch(serve, _daemon(served))


def _daemon(workspace: Path) -> list[str]:
    log_format = Settings.from_environ(os.environ).log_format
    options = ["--log-format", "json"] if log_format == "json" else []
    return [*_PYTHON, "dagster._daemon", "run", "-w", str(workspace), *options]


def _watch(serve: list[str], daemon: list[str]) -> int:
    """Run both until the daemon ends. Signals go to the process group, so they reach both. Both keep the lock of the
    home, an open file that `churn ui` hands on: if others are killed, no second daemon starts beside this one."""
    server = subprocess.Popen(serve, close_fds=False)
    running = subprocess.Popen(daemon, close_fds=False)
    try:
        while (code := running.poll()) is None:
            if server.poll() is not None:
                print(
                    f"the code server ended with {server.returncode}; it is started again", file=sys.stderr, flush=True
                )
                server = subprocess.Popen(serve, close_fds=False)
            time.sleep(_POLL_S)  # two processes cannot be waited for at once
        return code
    except KeyboardInterrupt:
        return running.wait()
    finally:
        for process in (running, server):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if sys.argv[1] == _WATCH:
        sys.exit(watch(sys.argv[2], sys.argv[3:]))
    main(Path(sys.argv[1]))
