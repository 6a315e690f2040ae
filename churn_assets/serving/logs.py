"""Structured logs: one JSON object a line on stderr, each about a request carrying its id."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
from typing import Any

NAME = "churn"
FACTS = "facts"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what is passed as `extra={"facts": {...}}` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        said: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "worker": os.getpid(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def make_logger(level: str) -> logging.Logger:
    """The service's logger; BentoML's own stays as it is."""
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers[:] = [handler]
    return logger


def tell(logger: logging.Logger, level: int, event: str, /, **facts: object) -> None:
    """Log an event with its facts."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={FACTS: facts})
