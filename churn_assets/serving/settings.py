"""Settings of the service, all of them environment variables; docs/settings.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from churn_assets.errors import SettingsError
from churn_assets.settings import Settings

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MIB = 2**20
_SOURCE = Path(__file__).resolve().parents[2]  # in a Bento its `src`, beside which lies bento.yaml


@dataclass(frozen=True)
class ServingSettings:
    """Workers, limits and timeouts of the online service. Sizes are in bytes, times in seconds.

    `log` is False only to measure what the prediction log costs. `stale_days` is the age from which an
    `as_of` gets a warning; `poll_s` is the time between two checks of the champion pointer.
    """

    home: Path
    host: str = "0.0.0.0"
    port: int = 3000
    workers: int = 1
    timeout_s: float = 5.0
    body_bytes: int = MIB
    batch_bytes: int = 16 * MIB
    batch_rows: int = 10_000
    poll_s: float = 1.0
    stale_days: int = 30
    log: bool = True
    log_segment_bytes: int = 64 * MIB
    log_segment_s: float = 60.0
    log_queue_rows: int = 50_000
    level: str = "INFO"
    access_log: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], source: Path = _SOURCE) -> ServingSettings:
        """Read CHURN_* variables; `source` is the folder this package lies in.

        Raises SettingsError for an invalid value, and for a home inside of a Bento: the log would be deleted with
        the Bento.
        """
        read = _Reader(environ)
        home, log = Settings.from_environ(environ).home, read.whole("CHURN_LOG", 1, 0, 1) == 1
        if log and (source.parent / "bento.yaml").is_file() and home.is_relative_to(source.parent):
            raise SettingsError(
                f"CHURN_HOME is {environ.get('CHURN_HOME') or 'not set'}, expected an absolute path outside of the "
                "Bento, where the prediction log is kept; set it"
            )
        return cls(
            home=home,
            host=environ.get("CHURN_HOST") or cls.host,
            port=read.whole("CHURN_PORT", cls.port, 1, 65_535),
            workers=read.whole("CHURN_WORKERS", cls.workers, 1, 256),
            timeout_s=read.real("CHURN_TIMEOUT_S", cls.timeout_s, 1.0, 3600.0),
            body_bytes=read.whole("CHURN_BODY_BYTES", cls.body_bytes, 1024, 2**30),
            batch_bytes=read.whole("CHURN_BATCH_BYTES", cls.batch_bytes, 1024, 2**30),
            batch_rows=read.whole("CHURN_BATCH_ROWS", cls.batch_rows, 1, 1_000_000),
            poll_s=read.real("CHURN_POLL_S", cls.poll_s, 0.05, 3600.0),
            stale_days=read.whole("CHURN_STALE_DAYS", cls.stale_days, 0, 100_000),
            log=log,
            log_segment_bytes=read.whole("CHURN_LOG_SEGMENT_BYTES", cls.log_segment_bytes, 1024, 2**34),
            log_segment_s=read.real("CHURN_LOG_SEGMENT_S", cls.log_segment_s, 1.0, 86_400.0),
            log_queue_rows=read.whole("CHURN_LOG_QUEUE", cls.log_queue_rows, 1, 10_000_000),
            level=read.among("CHURN_LOG_LEVEL", cls.level, LEVELS),
            access_log=read.whole("CHURN_ACCESS_LOG", 0, 0, 1) == 1,
        )


@dataclass(frozen=True)
class _Reader:
    environ: Mapping[str, str]

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise SettingsError(f"{name} is '{text}', expected a whole number from {low:,} to {high:,}; correct it")
        return int(text)

    def real(self, name: str, default: float, low: float, high: float) -> float:
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise SettingsError(f"{name} is '{text}', expected a number from {low:g} to {high:g}; correct it")
        return value

    def among(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.environ.get(name, "").strip().upper() or default
        if text not in allowed:
            raise SettingsError(f"{name} is '{text}', expected one of: {', '.join(allowed)}")
        return text
