"""Runs commands of `churn`, each in a fork of this process, which has imported them once.

Reads a JSON list of argument lists, writes a JSON list of [exit code, standard output, standard error].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from typing import Any


def run(arguments: list[str]) -> list[Any]:
    """One command, in a child of this process."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 70
            try:
                sys.argv = ["churn", *arguments]
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return [code, out.read(), err.read()]


if __name__ == "__main__":
    import churn_assets.cli.terminal.render
    import churn_assets.promotion.service
    import churn_assets.scoring.batch  # noqa: F401  # what most commands import
    from churn_assets.cli.app import run_app as main

    json.dump([run(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
