"""Log lines that a program reads: one JSON object a line on stderr, with `at`, `level`, `event`, `worker` and facts.

The service always writes them; `churn ui` and `churn dashboard` do with CHURN_LOG_FORMAT=json. What Dagster and its
processes print is brought into the same form line by line, so that a traceback is found between the lines around it.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
from typing import IO

FACTS = "facts"
LOGGER = "churn"
# Of a line in Dagster's own JSON form: what is ours under another name.
_RENAMED = {"timestamp": "at", "level": "level", "event": "event", "exception": "trace"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what is passed as `extra={"facts": {...}}` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        fields = {
            "at": _instant(record.created),
            "level": record.levelname,
            "event": record.getMessage(),
            "worker": os.getpid(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def make_logger(level: str, name: str = LOGGER) -> logging.Logger:
    """The logger `name` ("" is the root) with JSON lines on stderr. Other loggers stay as they are."""
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers[:] = [handler]
    return logger


def log_event(logger: logging.Logger, level: int, event: str, /, **facts: object) -> None:
    """Log an event with its facts."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={FACTS: facts})


def as_json_line(line: str, worker: int, now: float) -> str:
    """A line that another program printed, in the form of this module, without a newline.

    A JSON object keeps its fields; `timestamp` and `exception`, as structlog names them, get our names. Any other text
    is the event of an INFO. `worker` is the process that prints, `now` the time as by `time.time()`.
    """
    try:
        printed = json.loads(line)
    except ValueError:
        printed = None
    if not isinstance(printed, dict):
        return json.dumps({"at": _instant(now), "level": "INFO", "event": line, "worker": worker})
    fields = {_RENAMED.get(name, name): value for name, value in printed.items()}
    first = {
        "at": fields.pop("at", None) or _instant(now),
        "level": str(fields.pop("level", "INFO")).upper(),
        "event": fields.pop("event", ""),
        "worker": fields.pop("worker", worker),
    }
    return json.dumps({**first, **fields}, default=str)


def copy_as_json(lines: IO[bytes], worker: int, to: IO[str]) -> None:
    """Write each line of a pipe to `to` in the form of this module, until the pipe ends. Empty lines are left out."""
    for line in lines:
        text = line.decode("utf-8", errors="replace").rstrip()
        if text:
            to.write(as_json_line(text, worker, dt.datetime.now(dt.UTC).timestamp()) + "\n")
            to.flush()


def _instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")
