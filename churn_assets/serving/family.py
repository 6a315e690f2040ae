"""The supervisor above this worker: when it is gone, the worker must go too.

A supervisor that was killed stops nobody: its workers would hold the port and answer for ever, unseen by
whoever starts the service again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from churn_assets.serving.logs import tell

LOOK_S = 0.5


async def stop_when_orphaned(logger: logging.Logger, supervisor: int, every_s: float = LOOK_S) -> None:
    """Wait until this process's parent is no longer `supervisor`, then stop as on SIGTERM.

    What was accepted is answered and logged first. An orphan is given another parent by the kernel, so
    that no pid can be mistaken for one that is used again.
    """
    while os.getppid() == supervisor:
        await asyncio.sleep(every_s)
    tell(logger, logging.ERROR, "the supervisor has died, stopping", supervisor=supervisor)
    os.kill(os.getpid(), signal.SIGTERM)
