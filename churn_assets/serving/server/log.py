"""The service's own log: an event a line, as JSON on stderr."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys

LOGGER = "churn"
_FACTS = "facts"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what is passed as `extra={"facts": {...}}` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        fields = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "worker": os.getpid(),
            **getattr(record, _FACTS, {}),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def make_logger(level: str) -> logging.Logger:
    """The service's logger: JSON lines on stderr. BentoML's own loggers stay as they are."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers[:] = [handler]
    return logger


def log_event(logger: logging.Logger, level: int, event: str, /, **facts: object) -> None:
    """Log an event with its facts."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={_FACTS: facts})
