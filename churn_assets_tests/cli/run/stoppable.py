"""A process for `test_interrupt`: a run of an asset in a home, as `churn run` executes it. Arguments: home, asset."""

import ctypes
import subprocess
import sys
from functools import partial
from pathlib import Path

from churn_assets.cli.run.interrupt import exit_on_interrupt, run_in_child

exit_on_interrupt()
print("importing", flush=True)

import dagster as dg  # noqa: E402

from churn_assets.defs.run import execute, lock_home, prepare_home, prepare_run  # noqa: E402
from churn_assets.defs.runs.cancel import cancel_lost_runs, canceling  # noqa: E402
from churn_assets.defs.runs.resume import COMMAND, RUN  # noqa: E402
from churn_assets.settings import Settings  # noqa: E402


@dg.asset
def quick() -> None:
    """Is done at once."""


@dg.asset(deps=[quick])
def deep() -> None:
    """Stays in C code and keeps the interpreter's lock: no handler of Python's can run."""
    print("at work", flush=True)
    ctypes.PyDLL(None).sleep(60)


@dg.asset(deps=[quick])
def outside() -> None:
    """Waits for a process that ignores SIGINT."""
    subprocess.run(["sh", "-c", "trap '' INT; echo at work; sleep 60"], check=False)


def main(home: str, asset: str) -> int:
    """Run `quick` and `asset`; the exit code."""
    settings = Settings.from_environ({"CHURN_HOME": home})
    prepare_home(settings)
    with lock_home(settings.home):
        with dg.DagsterInstance.get() as instance:
            cancel_lost_runs(instance, settings.mlflow_uri)
        run = prepare_run(dg.Definitions([quick, deep, outside]), ["quick", asset], tags={COMMAND: RUN})
        work = partial(execute, run, lambda event: None)
        ended = run_in_child(lambda: int(not work().success), partial(canceling, run.run_id, settings.mlflow_uri))
    print(f"{'stopped' if ended.stopped_by else 'ended'} {run.run_id}", flush=True)
    return 128 + ended.stopped_by if ended.stopped_by else ended.code


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1])), sys.argv[2]))
